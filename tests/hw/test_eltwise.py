"""Arithmetic of two streams, and the fork that gives every taker each beat once."""

from fractions import Fraction

import numpy as np
import pytest
from amaranth import signed
from gatewright.compiler import ir
from gatewright.compiler.quantize import for_add
from gatewright.compiler.quantize.proofs.multiply import for_multiply
from gatewright.hw import Add, AddConfig, Fork, Rounding, integer
from gatewright.hw.arithmetic.extremum import Extremum, ExtremumConfig
from gatewright.hw.arithmetic.multiply import Multiply, MultiplyConfig
from gatewright.hw.target import ECP5, GENERIC, ICE40
from numpy.testing import assert_array_equal

from .bench import STALLS, exchange, port, queue_memories, random_elements, simulate

INT8, UINT8, INT4 = ir.Int(8, True), ir.Int(8, False), ir.Int(4, True)


def quant(scale, zero=0, dtype=INT8):
    return ir.Quant(dtype, float(np.float32(scale)), zero)


def pair(kind, a, b, y, clamp):
    """A graph of one operator of two values, and the operator."""
    one = ir.Shape(1, 1, 1)
    op = kind("pair", ("a", "b"), "y", clamp=clamp)
    values = {name: ir.Value(name, one, each) for name, each in zip("aby", (a, b, y), strict=True)}
    return ir.Graph("net", (), (), (op,), values), op


def adder(a, b, y, clamp, kind=ir.Add):
    return for_add(*pair(kind, a, b, y, clamp))


def shape(dtype):
    return integer(dtype.bits, dtype.signed)


def rounded(exact):
    return Rounding(exact.shift, exact.tie_bits, exact.low, exact.high, exact.tie_parity)


def rtl(exact, out, a, b, stall=0.0, target=GENERIC):
    config = AddConfig(
        a.shape[1],
        shape(exact.a),
        shape(exact.b),
        shape(out),
        exact.mult_a,
        exact.mult_b,
        exact.offset,
        rounded(exact),
        len(a),
        target=target,
    )
    return streamed(Add(config), a, b, stall)


def streamed(dut, a, b, stall):
    """The results of a component of two streams, a beat a cycle where nothing stalls."""
    (seen,), _ = exchange(
        dut, [(port(dut.a), a), (port(dut.b), b)], [(port(dut.o), len(a))], stall=stall
    )
    if not stall:
        assert np.diff(seen.cycles).tolist() == [1] * (len(a) - 1)
    return seen.values


CASES = {
    "any scales": (quant(0.0213, -7), quant(0.0171, 33), quant(0.0305, -12)),
    "ties": (quant(0.5, -7), quant(0.25, 3), quant(1)),
    "ties, odd zero point": (quant(0.5, -7), quant(0.25, 3), quant(1, 1)),
    "halves": (quant(1), quant(1), quant(2)),
    "saturates": (quant(1), quant(1), quant(1, 5)),
    "one is tiny": (quant(0.03, -128), quant(0.0007, 4), quant(0.0305, -3)),
    "unsigned": (quant(0.1, 7, UINT8), quant(0.05, 0), quant(0.15, 100, UINT8)),
    "narrow": (quant(0.1, 1, INT4), quant(0.03, 0), quant(0.11, -2, INT4)),
}


CLAMPS = pytest.mark.parametrize("clamp", [ir.Clamp(), ir.Clamp(0), ir.Clamp(-0.3, 1.5)], ids=str)


@pytest.mark.parametrize("stall", STALLS)
@CLAMPS
@pytest.mark.parametrize("kind", [ir.Add, ir.ops.Sub])
@pytest.mark.parametrize("name", CASES)
def test_adds_and_subtracts_exactly(name, kind, clamp, stall):
    a, b, y = CASES[name]
    exact = adder(a, b, y, clamp, kind)
    assert (exact.mult_b < 0) == (kind is ir.ops.Sub)
    left = random_elements(shape(a.dtype), (60, 3), seed=1)
    right = random_elements(shape(b.dtype), (60, 3), seed=2)
    assert_array_equal(rtl(exact, y.dtype, left, right, stall), exact.apply(left, right))


@pytest.mark.parametrize("stall", STALLS)
def test_adds_exactly_where_operands_do_not_wait(stall):
    """On iCE40."""
    a, b, y = CASES["any scales"]
    exact = adder(a, b, y, ir.Clamp())
    left = random_elements(shape(a.dtype), (60, 3), seed=1)
    right = random_elements(shape(b.dtype), (60, 3), seed=2)
    seen = rtl(exact, y.dtype, left, right, stall, ICE40)
    assert_array_equal(seen, exact.apply(left, right))


@pytest.mark.parametrize("name", ["ties", "ties, odd zero point", "halves"])
def test_rounds_every_tie_to_even(name):
    a, b, y = CASES[name]
    exact = adder(a, b, y, ir.Clamp())
    assert exact.tie_bits is not None
    left, right = (
        grid.reshape(-1, 16) for grid in np.meshgrid(np.arange(-16, 16), np.arange(-8, 8))
    )
    assert_array_equal(rtl(exact, y.dtype, left, right), exact.apply(left, right))


FACTORS = {
    "any scales": (quant(0.0213, -7), quant(0.0171, 33), quant(0.0305, -12)),
    "ties": (quant(0.5, -7), quant(0.25, 3), quant(2)),
    "ties, odd zero point": (quant(0.5, -7), quant(0.25, 3), quant(2, 1)),
    "a gate": (quant(0.05, -128), quant(1 / 256, -128), quant(0.05, -128)),
    "saturates": (quant(1), quant(1), quant(1, 5)),
    "zero points at both ends": (quant(0.1, 127), quant(0.1, -128), quant(3)),
    "unsigned": (quant(0.1, 7, UINT8), quant(0.05, 0, UINT8), quant(2, 10, UINT8)),
    "narrow": (quant(0.1, 1, INT4), quant(0.3, 0), quant(0.11, -2, INT4)),
    "one bit": (quant(1, 0, ir.Int(1, False)), quant(0.3, 4), quant(0.3, 4)),
    "wide": (quant(2**-12, 5, ir.Int(16, True)), quant(2**-9, -3, ir.Int(12, True)), quant(0.5)),
}


@pytest.mark.parametrize("stall", STALLS)
@CLAMPS
@pytest.mark.parametrize("name", FACTORS)
def test_multiplies_exactly(name, clamp, stall):
    """Of the ends of both ranges, of zero, and of others."""
    a, b, y = FACTORS[name]
    exact = for_multiply(*pair(ir.ops.Mul, a, b, y, clamp))
    ends = [
        [low, high, zero]
        for low, high, zero in ((q.dtype.low, q.dtype.high, q.zero) for q in (a, b))
    ]
    corners = np.array([(left, right) for left in ends[0] for right in ends[1]]).repeat(3, 0)
    left, right = (
        np.concatenate([corners[:, n].reshape(-1, 3), random_elements(shape(q.dtype), (50, 3), n)])
        for n, q in enumerate((a, b))
    )
    config = MultiplyConfig(
        3,
        *(shape(q.dtype) for q in (a, b, y)),
        a.zero,
        b.zero,
        exact.mult[0],
        exact.offset[0],
        rounded(exact),
        len(left),
        target=GENERIC,
    )
    low, high = exact.low, exact.high
    real = [
        [
            Fraction(int(i) - a.zero) * a.step * (int(j) - b.zero) * b.step
            for i, j in zip(*row, strict=True)
        ]
        for row in zip(left, right, strict=True)
    ]
    wanted = [[min(max(round(x / y.step) + y.zero, low), high) for x in row] for row in real]
    assert_array_equal(streamed(Multiply(config), left, right, stall), wanted)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("dtype", [INT8, UINT8, INT4, ir.Int(1, False), ir.Int(16, True)], ids=str)
@pytest.mark.parametrize("largest", [True, False])
def test_chooses_the_larger_or_the_smaller(largest, dtype, stall):
    left, right = (random_elements(shape(dtype), (60, 3), seed) for seed in (1, 2))
    dut = Extremum(ExtremumConfig(3, shape(dtype), largest, len(left), target=GENERIC))
    wanted = np.maximum(left, right) if largest else np.minimum(left, right)
    assert_array_equal(streamed(dut, left, right, stall), wanted)


@pytest.mark.parametrize("target", [ECP5, ICE40])
def test_sums_wait_in_the_memories_of_the_family(target):
    """Of which ECP5 has small ones in logic."""
    c = AddConfig(
        2, signed(8), signed(8), signed(8), 3, 5, 7, Rounding(2, 0, -128, 127), 1, target=target
    )
    assert queue_memories(Add(c), ["a", "b", "o"]) == {target == ECP5}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("ways", [1, 2, 3])
def test_every_taker_of_a_fork_has_each_beat_once(ways, stall):
    beats = random_elements(signed(8), (80, 2))
    dut = Fork(2, signed(8), ways)
    seen, _ = exchange(
        dut, [(port(dut.i), beats)], [(port(o), len(beats)) for o in dut.o], stall=stall
    )
    for taker in seen:
        assert_array_equal(taker.values, beats)
        if not stall:
            assert taker.cycles == list(range(len(beats)))


def test_a_fork_holds_back_for_its_slowest_taker():
    dut = Fork(1, signed(8), 2)

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o[0].ready, 1)
        assert ctx.get(dut.o[0].valid)
        assert not ctx.get(dut.i.ready)
        await ctx.tick()
        assert not ctx.get(dut.o[0].valid), "the first taker has had this beat"
        ctx.set(dut.o[1].ready, 1)
        assert ctx.get(dut.i.ready)
        await ctx.tick()
        assert ctx.get(dut.o[0].valid), "the next beat is for both again"

    simulate(dut, bench)

"""Functions of wide integers equal the exact result, on every input where they are few."""

from dataclasses import replace

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.quantize.proofs.piecewise import for_wide_unary
from gatewright.compiler.quantize.proofs.requantizer import for_identity
from gatewright.compiler.quantize.proofs.table import for_unary
from gatewright.hw import (
    Piecewise,
    PiecewiseConfig,
    Rescale,
    RescaleConfig,
    Rounding,
    integer,
)
from gatewright.hw.target import GENERIC, ICE40
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from .bench import STALLS, run, synthesized

NO_CLAMP = ir.Clamp()
I11, U11, I16, U16 = ir.Int(11, True), ir.Int(11, False), ir.Int(16, True), ir.Int(16, False)


def network(x, y, function, clamp=NO_CLAMP):
    one = ir.Shape(1, 1, 1)
    op = ir.Unary("f", ("x",), "y", function, clamp=clamp)
    values = {name: ir.Value(name, one, quant) for name, quant in (("x", x), ("y", y))}
    return ir.Graph("net", (), (), (op,), values), op


def quant(dtype, largest, zero=None):
    """For real numbers of about ``largest``; ``zero`` in the middle unless given."""
    scale = float(np.float32(largest / (1 << (dtype.bits - 1))))
    return ir.Quant(dtype, scale, (dtype.low + dtype.high) // 2 if zero is None else zero)


def shape(dtype):
    return integer(dtype.bits, dtype.signed)


def pieces(graph, op, lanes, beats):
    exact = for_wide_unary(graph, op)
    return PiecewiseConfig(
        lanes,
        shape(graph.quant("x").dtype),
        shape(graph.quant("y").dtype),
        tuple(zip(exact.first.tolist(), exact.length_bits.tolist(), strict=True)),
        tuple(zip(exact.slope.tolist(), exact.offset.tolist(), strict=True)),
        exact.shift,
        beats,
        target=GENERIC,
    )


def scaling(graph, op, lanes, beats):
    exact = for_identity(graph, op)
    rounding = Rounding(exact.shift, exact.tie_bits, exact.low, exact.high, exact.tie_parity)
    return RescaleConfig(
        lanes,
        shape(graph.quant("x").dtype),
        shape(graph.quant("y").dtype),
        exact.mult[0],
        exact.offset[0],
        rounding,
        beats,
        target=GENERIC,
    )


def inputs(dtype, lanes, rng):
    """Every input of 11 bits or fewer, else a thousand of them and both ends."""
    if dtype.bits <= 11:
        every = np.arange(dtype.low, dtype.high + 1)
        return np.stack([np.roll(every, 3 * lane) for lane in range(lanes)], axis=1)
    some = rng.integers(dtype.low, dtype.high, (1000, lanes), endpoint=True)
    return np.concatenate([some, np.full((1, lanes), dtype.low), np.full((1, lanes), dtype.high)])


def check(build, x, y, function, clamp=NO_CLAMP, lanes=1, stall=0.0):
    graph, op = network(x, y, function, clamp=clamp)
    beats = inputs(x.dtype, lanes, np.random.default_rng(0))
    seen = run(PARTS[build](build(graph, op, lanes, len(beats))), beats, len(beats), stall=stall)
    if not stall:
        assert np.diff(seen.cycles).tolist() == [1] * (len(beats) - 1)
    wanted = golden.step(op, graph, beats[:, None, None, :])[:, 0, 0]
    assert_array_equal(seen.values, wanted)


PARTS = {pieces: Piecewise, scaling: Rescale}


FUNCTIONS = {
    "tanh": (ir.functions.Tanh(), 1.0),
    "sigmoid": (ir.functions.Sigmoid(), 1.0),
    "hard swish": (ir.functions.HardSwish(), 8.0),
    "leaky": (ir.functions.LeakyRelu(0.125), 8.0),
    "falling": (ir.functions.LeakyRelu(-0.25), 8.0),
    "hard sigmoid": (ir.functions.HardSigmoid(), 1.0),
}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pieces_give_the_exact_function(name, stall):
    function, largest = FUNCTIONS[name]
    check(pieces, quant(I11, 8.3), quant(I16, largest), function, lanes=2, stall=stall)


@pytest.mark.parametrize("y", [ir.Int(16, True), ir.Int(8, False), ir.Int(1, True)], ids=str)
@pytest.mark.parametrize("x", [I16, U16, U11], ids=str)
def test_pieces_of_any_widths(x, y):
    check(pieces, quant(x, 6.0), quant(y, 1.1), ir.functions.Tanh(), ir.Clamp(-0.5, 0.7))


@pytest.mark.parametrize("dtype", [I11, I16], ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_pieces_take_a_fraction_of_the_tables_memory(name, dtype):
    function, largest = FUNCTIONS[name]
    graph, op = network(quant(dtype, 8.3), quant(dtype, largest), function)
    config = pieces(graph, op, 1, 1)
    whole = (1 << dtype.bits) * dtype.bits
    assert config.memory_bits < whole / (3 if dtype.bits == 11 else 16)


@pytest.mark.parametrize("bits", [1, 2, 16])
def test_the_proven_pieces_are_the_table(bits):
    graph, op = network(quant(I11, 8.0), quant(ir.Int(bits, True), 1.0), ir.functions.Tanh())
    assert_array_equal(for_wide_unary(graph, op).apply(np.arange(2048)), for_unary(graph, op))


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize(
    ("x", "y"),
    [
        (quant(I11, 8.3, 17), quant(ir.Int(8, True), 5.0, -3)),
        (quant(I11, 8.0, 17), quant(ir.Int(4, True), 4.0, -3)),  # ties
        (quant(U11, 3.0, 0), quant(ir.Int(12, True), 2.0, 1)),
        (quant(I16, 3.1, -999), quant(U16, 2.9, 12345)),
        (quant(I16, 4.0, -999), quant(U16, 8.0, 12345)),  # ties
    ],
)
def test_a_change_of_scale_is_one_multiplication(x, y, stall):
    check(scaling, x, y, ir.Identity(), clamp=ir.Clamp(-1.5, 2.25), lanes=2, stall=stall)


def test_the_stated_latency_is_the_components():
    for build, function in ((scaling, ir.Identity()), (pieces, ir.functions.Tanh())):
        config = build(*network(quant(I11, 8.3), quant(I11, 1.0), function), 1, 1)
        seen = run(PARTS[build](config), [[5]], 1)
        assert seen.cycles == [config.latency], PARTS[build].__name__


@pytest.mark.parametrize(
    ("component", "configured", "function"),
    [(Rescale, scaling, ir.Identity()), (Piecewise, pieces, ir.functions.Tanh())],
    ids=["rescale", "piecewise"],
)
def test_the_estimate_is_near_what_synthesis_makes(component, configured, function, tmp_path):
    graph, op = network(quant(I16, 6), quant(ir.Int(8, True), 1), function)
    config = replace(configured(graph, op, 2, 36), target=ICE40)
    counts, around = synthesized(component(config), ICE40, tmp_path)
    need = config.resources()
    assert counts["bram"] == need.bram
    assert 0.8 < need.ff / (counts["ff"] - around) < 1.3
    assert 0.8 < need.lut / counts["lut"] < 1.5

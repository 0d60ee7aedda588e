"""Adders equal exact rational rounding for all pairs of inputs."""

from fractions import Fraction
from time import perf_counter

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import QuantizeError
from gatewright.compiler.quantize.proofs import add
from gatewright.compiler.quantize.proofs.add import for_add
from numpy.testing import assert_array_equal

INT8, UINT8 = ir.Int(8, True), ir.Int(8, False)
NO_CLAMP = ir.Clamp()


def quant(scale, zero=0, dtype=INT8):
    return ir.Quant(dtype, float(np.float32(scale)), zero)


def graph_of(a, b, y, clamp=NO_CLAMP, kind=ir.Add):
    one = ir.Shape(1, 1, 1)
    op = kind("add", ("a", "b"), "y", clamp=clamp)
    values = {name: ir.Value(name, one, each) for name, each in zip("aby", (a, b, y), strict=True)}
    return ir.Graph("net", (), (), (op,), values), op


def exact(a, b, y, low, high, sign=1):
    """The definition, over all pairs, with integers of a common unit and half to even."""
    unit = (a.step / y.step).denominator * (b.step / y.step).denominator
    ratio_a, ratio_b = int(a.step / y.step * unit), sign * int(b.step / y.step * unit)
    return np.array(
        [
            [
                min(
                    max(
                        round(Fraction((i - a.zero) * ratio_a + (j - b.zero) * ratio_b, unit))
                        + y.zero,
                        low,
                    ),
                    high,
                )
                for j in range(b.dtype.low, b.dtype.high + 1)
            ]
            for i in range(a.dtype.low, a.dtype.high + 1)
        ]
    )


@pytest.mark.parametrize(
    ("a", "b", "y"),
    [
        (quant(0.0213, -7), quant(0.0171, 33), quant(0.0305, -128)),
        (quant(0.03, -128), quant(0.0007, 4), quant(0.0305, -3)),
        (quant(0.5, -7), quant(0.25, 3), quant(1)),
        (quant(0.5, -7), quant(0.25, 3), quant(1, 1)),
        (quant(1), quant(1), quant(2)),
        (quant(1), quant(1), quant(1, 5)),
        (quant(1), quant(1), quant(3)),
        (quant(1), quant(2), quant(6, -1)),
        (quant(0.1, 7, UINT8), quant(0.05, 0), quant(0.15, 100, UINT8)),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [ir.Add, ir.ops.Sub])
def test_all_pairs_are_exact(kind, a, b, y):
    graph, op = graph_of(a, b, y, kind=kind)
    found = for_add(graph, op)
    left = np.arange(a.dtype.low, a.dtype.high + 1)[:, None]
    right = np.arange(b.dtype.low, b.dtype.high + 1)[None, :]
    wanted = exact(a, b, y, y.dtype.low, y.dtype.high, kind.sign)
    assert_array_equal(found.apply(left, right), wanted)


def test_a_clamp_narrows_the_output():
    graph, op = graph_of(quant(0.02, 5), quant(0.03, -9), quant(0.04, -4), ir.Clamp(0, 1))
    found = for_add(graph, op)
    assert (found.low, found.high) == (-4, 21)


def test_equal_power_of_two_scales_need_one_bit():
    found = for_add(*graph_of(quant(1), quant(1), quant(2)))
    assert (found.mult_a, found.mult_b, found.shift, found.tie_bits) == (1, 1, 1, 0)


def near_ties(a, b, y, rng, count):
    """Pairs of raw inputs whose exact sum is as near to a tie as ``b`` allows."""
    left = rng.integers(a.dtype.low, a.dtype.high, count, endpoint=True)
    right = np.empty_like(left)
    for n, raw in enumerate(left.tolist()):
        step = int(rng.integers(y.dtype.low, y.dtype.high)) - y.zero + Fraction(1, 2)
        rest = step * y.step - (raw - a.zero) * a.step
        right[n] = min(max(round(rest / b.step) + b.zero, b.dtype.low), b.dtype.high)
    return left, right


@pytest.mark.parametrize("wide", [(16, 16, 16), (16, 16, 8), (16, 5, 12), (12, 12, 4), (9, 9, 9)])
@pytest.mark.parametrize(
    "scales", [(0.83, 0.71, 1.1), (1, 1, 2), (1, 0.5, 4), (3, 1, 6), (0.7, 1e-6, 1.3)], ids=str
)
def test_wide_inputs_are_exact_near_every_tie(wide, scales):
    rng = np.random.default_rng(wide[0])
    a, b, y = (
        quant(scale / (1 << bits), int(rng.integers(-9, 9)), ir.Int(bits, True))
        for scale, bits in zip(scales, wide, strict=True)
    )
    found = for_add(*graph_of(a, b, y))
    left, right = near_ties(a, b, y, rng, 2000)
    wanted = [
        round(((i - a.zero) * a.step + (j - b.zero) * b.step) / y.step) + y.zero
        for i, j in zip(left.tolist(), right.tolist(), strict=True)
    ]
    assert_array_equal(found.apply(left, right), np.clip(wanted, y.dtype.low, y.dtype.high))


@pytest.mark.parametrize("kind", [ir.Add, ir.ops.Sub])
@pytest.mark.parametrize("seed", range(30))
def test_the_proof_by_margins_agrees_with_all_pairs(seed, kind, monkeypatch):
    monkeypatch.setattr(add, "PAIR_BITS", 0)
    rng = np.random.default_rng(seed)
    a, b, y = (
        quant(
            rng.choice([1, 2, 0.5, 0.3, 0.77, 3, 6]),
            int(rng.integers(-1, 1)),
            ir.Int(int(rng.integers(1, most)), True),
        )
        for most in (6, 6, 7)
    )
    found = for_add(*graph_of(a, b, y, kind=kind))
    left = np.arange(a.dtype.low, a.dtype.high + 1)[:, None]
    right = np.arange(b.dtype.low, b.dtype.high + 1)[None, :]
    wanted = exact(a, b, y, y.dtype.low, y.dtype.high, kind.sign)
    assert_array_equal(found.apply(left, right), wanted)


def test_sums_of_four_billion_pairs_are_proven_in_a_second():
    wide = ir.Int(16, True)
    start = perf_counter()
    for_add(*graph_of(*(quant(scale, 5, wide) for scale in (1.2489e-5, 7.942e-6, 8.00768e-6))))
    assert perf_counter() - start < 5  # a tenth of a second on an idle machine


def test_scales_that_no_multiplier_relates_are_refused():
    graph, op = graph_of(*(quant(scale, 0, ir.Int(16, True)) for scale in (1e30, 0.7e30, 1e-30)))
    with pytest.raises(QuantizeError, match="add: no adder with multipliers of up to 72 bits"):
        for_add(graph, op)

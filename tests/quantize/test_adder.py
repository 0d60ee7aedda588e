"""Adders equal exact rational rounding for all pairs of inputs."""

from fractions import Fraction

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import QuantizeError
from gatewright.compiler.quantize.proofs.add import for_add
from numpy.testing import assert_array_equal

INT8, UINT8 = ir.Int(8, True), ir.Int(8, False)
NO_CLAMP = ir.Clamp()


def quant(scale, zero=0, dtype=INT8):
    return ir.Quant(dtype, float(np.float32(scale)), zero)


def graph_of(a, b, y, clamp=NO_CLAMP):
    one = ir.Shape(1, 1, 1)
    op = ir.Add("add", ("a", "b"), "y", clamp)
    values = {name: ir.Value(name, one, each) for name, each in zip("aby", (a, b, y), strict=True)}
    return ir.Graph("net", (), (), (op,), values), op


def exact(a, b, y, low, high):
    """The definition, over all pairs, with integers of a common unit and half to even."""
    unit = (a.step / y.step).denominator * (b.step / y.step).denominator
    ratio_a, ratio_b = int(a.step / y.step * unit), int(b.step / y.step * unit)
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
def test_all_pairs_are_exact(a, b, y):
    graph, op = graph_of(a, b, y)
    found = for_add(graph, op)
    left = np.arange(a.dtype.low, a.dtype.high + 1)[:, None]
    right = np.arange(b.dtype.low, b.dtype.high + 1)[None, :]
    assert_array_equal(found.apply(left, right), exact(a, b, y, y.dtype.low, y.dtype.high))


def test_a_clamp_narrows_the_output():
    graph, op = graph_of(quant(0.02, 5), quant(0.03, -9), quant(0.04, -4), ir.Clamp(0, 1))
    found = for_add(graph, op)
    assert (found.low, found.high) == (-4, 21)


def test_equal_power_of_two_scales_need_one_bit():
    found = for_add(*graph_of(quant(1), quant(1), quant(2)))
    assert (found.mult_a, found.mult_b, found.shift, found.tie_bits) == (1, 1, 1, 0)


def test_types_too_wide_to_prove_are_refused():
    wide = quant(1, 0, ir.Int(16, True))
    with pytest.raises(QuantizeError, match="add: adds i16 to i16, too many pairs to prove"):
        for_add(*graph_of(wide, wide, wide))

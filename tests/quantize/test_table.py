"""Tables equal their function, rounded half to even."""

from fractions import Fraction

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.ir import expressions
from gatewright.compiler.quantize.proofs.table import for_unary
from numpy.testing import assert_array_equal

INT8 = ir.Int(8, True)
NO_CLAMP = ir.Clamp()


def table(function, x, y, clamp=NO_CLAMP):
    one = ir.Shape(1, 1, 1)
    op = ir.Unary("unary", ("x",), "y", function, clamp=clamp)
    return for_unary(
        ir.Graph("net", (), (), (op,), {"x": ir.Value("x", one, x), "y": ir.Value("y", one, y)}), op
    )


def reals(x):
    return (np.arange(x.dtype.low, x.dtype.high + 1) - x.zero) * x.scale


@pytest.mark.parametrize(
    "function",
    [
        ir.Identity(),
        ir.functions.LeakyRelu(float(np.float32(0.1))),
        ir.functions.Sigmoid(),
        ir.functions.Tanh(),
        ir.functions.HardSigmoid(),
        ir.functions.HardSwish(),
    ],
    ids=lambda function: type(function).__name__,
)
@pytest.mark.parametrize("zero", [-128, -3, 40])
def test_agrees_with_the_function_in_float64(function, zero):
    x, y = ir.Quant(INT8, float(np.float32(0.047)), zero), ir.Quant(INT8, 0.01171875, -17)
    steps = function(reals(x)) / y.scale
    clear = abs(abs(steps - np.rint(steps)) - 0.5) > 1e-9
    wanted = np.clip(np.rint(steps) - 17, -128, 127)
    assert_array_equal(table(function, x, y)[clear], wanted[clear])
    assert clear.sum() > 200


def test_identity_rounds_half_to_even():
    found = table(ir.Identity(), ir.Quant(INT8, 0.5, 0), ir.Quant(INT8, 1.0, 3))
    assert_array_equal(found[128 - 3 : 128 + 4], [1, 2, 3, 3, 3, 4, 5])


def test_hard_swish_of_a_rational_tie_rounds_half_to_even():
    # x = 3/2 gives 9/8: a tie for the output scale 3/4 (1.5 steps) and 9/4 (half a step).
    x = ir.Quant(INT8, 1.5, 0)
    assert table(ir.functions.HardSwish(), x, ir.Quant(INT8, 0.75, 0))[129] == 2
    assert table(ir.functions.HardSwish(), x, ir.Quant(INT8, 2.25, 0))[129] == 0


@pytest.mark.parametrize(("scale", "level"), [(1.0, 0), (1 / 3, 1), (0.25, 2)])
def test_sigmoid_of_zero_is_exactly_a_half(scale, level):
    y = ir.Quant(INT8, float(np.float32(scale)), 0)
    exact = round(Fraction(1, 2) / y.step)
    assert table(ir.functions.Sigmoid(), ir.Quant(INT8, 1.0, 0), y)[128] == exact == level


def test_saturated_tails_do_not_reach_their_limit():
    x = ir.Quant(INT8, 1000.0, 0)
    tanh = table(ir.functions.Tanh(), x, ir.Quant(INT8, 2.0, 0))  # 1 would be a tie, less is not
    assert_array_equal(tanh, np.zeros(256))
    sigmoid = table(ir.functions.Sigmoid(), x, ir.Quant(INT8, 1 / 128, -128))
    assert_array_equal(sigmoid, [-128] * 128 + [-64] + [0] * 127)


def test_a_clamp_narrows_the_table():
    found = table(ir.Identity(), ir.Quant(INT8, 1.0, 0), ir.Quant(INT8, 1.0, 0), ir.Clamp(0, 6))
    assert (found.min(), found.max()) == (0, 6)


@pytest.mark.parametrize(
    ("function", "domain"),
    [
        (ir.functions.Log(), lambda x: x >= 0),
        (ir.functions.Pow(-0.5), lambda x: x >= 0),
        (ir.functions.Atanh(), lambda x: abs(x) <= 1),
        (
            expressions.Expression(
                (
                    expressions.Step(expressions.Affine(1.0, 0.0625), (0,)),
                    expressions.Step(ir.functions.Pow(-0.5), (1,)),
                )
            ),
            lambda x: x >= -0.0625,
        ),
    ],
    ids=["Log", "Pow", "Atanh", "Expression"],
)
def test_a_wide_input_where_the_function_is_undefined_gives_the_lowest_integer(function, domain):
    x, y = ir.Quant(ir.Int(13, True), 2.0**-11, 0), ir.Quant(INT8, 1 / 16, 5)
    found, inside = table(function, x, y), domain(reals(x))
    assert_array_equal(found[~inside], -128)
    with np.errstate(all="ignore"):
        steps = function(reals(x)[inside]) / y.scale
        clear = ~(abs(abs(steps - np.rint(steps)) - 0.5) <= 1e-6)
    assert_array_equal(
        found[inside][clear], np.clip(np.rint(steps[clear]) + 5, -128, 127).astype(int)
    )
    assert 0 < inside.sum() < len(found)


def test_a_half_undefined_function_of_sixteen_bits_is_not_computed_input_by_input(monkeypatch):
    exact = []
    enclosure = ir.functions.Log.enclosure
    monkeypatch.setattr(
        ir.functions.Log,
        "enclosure",
        lambda self, x, digits: exact.append(x) or enclosure(self, x, digits),
    )
    table(ir.functions.Log(), ir.Quant(ir.Int(16, True), 1 / 4096, 0), ir.Quant(INT8, 1 / 16, 0))
    assert len(exact) < 100

"""Tables: the exact output of a function of one variable for every integer input."""

from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import singledispatch

import numpy as np
from numpy.typing import NDArray

from ... import ir
from .rounding import limits

__all__ = ["for_unary"]

#: results this near to a tie, in steps, are decided in exact arithmetic; float64 errs by far less
_DOUBT = 2.0**-16
#: bits of an input up to which every result is computed in exact arithmetic
_EXACT_BITS = 10


def for_unary(graph: ir.Graph, op: ir.Unary) -> NDArray[np.int64]:
    """The exact output for every raw input; index with ``raw - dtype.low``."""
    x, y = graph.quant(op.inputs[0]), graph.quant(op.output)
    low, high = limits(y, op.clamp)
    raws = np.arange(x.dtype.low, x.dtype.high + 1)
    reals = ((raws - x.zero) * x.scale).astype(np.float64)
    levels, doubtful = _estimated(op.function, reals, y)
    if x.dtype.bits <= _EXACT_BITS:
        doubtful[:] = True
    for place in np.flatnonzero(doubtful):
        real = (int(raws[place]) - x.zero) * x.step
        levels[place] = min(max(_rounded(op.function, real, y.step) + y.zero, low), high)
    return np.clip(levels, low, high)


def _estimated(
    function: ir.Function, reals: NDArray[np.float64], y: ir.Quant
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Results rounded from float64, saturated; and which are so near to a tie that they may be
    wrong.
    """
    with np.errstate(over="ignore"):
        steps = function(reals) / y.scale
    far = 4.0 * (1 << y.dtype.bits)  # beyond the type, whatever the zero point
    steps = np.clip(steps, -far, far)
    rounded = np.rint(steps)
    return rounded.astype(np.int64) + y.zero, np.abs(np.abs(steps - rounded) - 0.5) < _DOUBT


@singledispatch
def _rounded(function: ir.Function, x: Fraction, step: Fraction) -> int:
    """``round_half_even(function(x) / step)``, provably."""
    raise NotImplementedError(f"no exact rule for {type(function).__name__}")


@_rounded.register
def _(function: ir.Identity, x: Fraction, step: Fraction) -> int:
    return round(x / step)


@_rounded.register
def _(function: ir.LeakyRelu, x: Fraction, step: Fraction) -> int:
    return round((x if x >= 0 else Fraction(function.alpha) * x) / step)


@_rounded.register
def _(function: ir.HardSigmoid, x: Fraction, step: Fraction) -> int:
    line = Fraction(function.alpha) * x + Fraction(function.beta)
    return round(min(max(line, Fraction(0)), Fraction(1)) / step)


@_rounded.register
def _(function: ir.HardSwish, x: Fraction, step: Fraction) -> int:
    gate = min(max(x / 6 + Fraction(1, 2), Fraction(0)), Fraction(1))
    return round(x * gate / step)


@_rounded.register
def _(function: ir.Sigmoid, x: Fraction, step: Fraction) -> int:
    if x == 0:
        return round(Fraction(1, 2) / step)
    return _round_decimal(lambda e: 1 / (1 + 1 / e), x, step)


@_rounded.register
def _(function: ir.Tanh, x: Fraction, step: Fraction) -> int:
    if x == 0:
        return 0
    return _round_decimal(lambda e: (e - 1) / (e + 1), 2 * x, step)


def _round_decimal(of_exp: Callable[[Decimal], Decimal], x: Fraction, step: Fraction) -> int:
    """``round(of_exp(exp(x)) / step)``.

    For a rational ``x`` other than 0 the result is transcendental (Lindemann), so it is never a
    tie, and more digits decide. Beyond 200 the function is within 1e-86 of its limit, and ties,
    multiples of half a float32 and so of 2**-150, are farther off or at the limit itself: 200
    stands for all that is further out.
    """
    x = min(max(x, Fraction(-200)), Fraction(200))
    for digits in (60, 400):
        with localcontext() as context:
            context.prec = digits
            value = of_exp((Decimal(x.numerator) / Decimal(x.denominator)).exp())
            steps = Fraction(value) / step
        error = Fraction(1, 10 ** (digits - 10)) / step  # ten digits to spare for four operations
        if round(steps - error) == round(steps + error):
            return round(steps)
    raise AssertionError(f"exp({float(x)}) is not decided by 400 digits")

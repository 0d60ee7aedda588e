"""Tables: the exact output of a function of one variable for every integer input."""

from collections.abc import Iterator
from fractions import Fraction
from math import floor

import numpy as np
from numpy.typing import NDArray

from ... import ir
from ...errors import QuantizeError
from .rounding import limits

__all__ = ["for_unary"]

#: results this near to a tie, in steps, are decided in exact arithmetic; float64 errs by far less
_DOUBT = 2.0**-16
#: bits of an input up to which every result is computed in exact arithmetic
_EXACT_BITS = 10
#: digits of a function's enclosure, the first that decide are enough
_DIGITS = (50, 390)
#: steps from a tie within which a result is that tie
_TIE = Fraction(1, 10**300)


def for_unary(graph: ir.Graph, op: ir.Unary) -> NDArray[np.int64]:
    """The exact output for every raw input; index with ``raw - dtype.low``."""
    x, y = graph.quant(op.inputs[0]), graph.quant(op.output)
    low, high = limits(y, op.clamp)
    raws = np.arange(x.dtype.low, x.dtype.high + 1)
    reals = ((raws - x.zero) * x.scale).astype(np.float64)
    levels, doubtful, undefined = _estimated(op.function, reals, y)
    for first, last in _runs(undefined):
        low_end, high_end = ((int(raws[place]) - x.zero) * x.step for place in (first, last))
        doubtful[first : last + 1] = not op.function.undefined(low_end, high_end)
    if x.dtype.bits <= _EXACT_BITS:
        doubtful[:] = True
    for place in np.flatnonzero(doubtful):
        real = (int(raws[place]) - x.zero) * x.step
        levels[place] = min(max(_rounded(op.function, real, y.step) + y.zero, low), high)
    return np.clip(levels, low, high)


def _estimated(
    function: ir.Function, reals: NDArray[np.float64], y: ir.Quant
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Results rounded from float64, saturated; which are so near to a tie that they may be wrong;
    and which are undefined, as it seems.
    """
    with np.errstate(all="ignore"):
        steps, error = (part / y.scale for part in function.estimate(reals))
    far = 4.0 * (1 << y.dtype.bits)  # beyond the type, whatever the zero point
    sure = np.where(np.abs(steps) > 2 * far, error < far, error < 0.5)
    undefined = np.isnan(steps)
    steps = np.clip(np.where(undefined, -far, steps), -far, far)
    rounded = np.rint(steps)
    near = ~(np.abs(np.abs(steps - rounded) - 0.5) > _DOUBT + error)
    return rounded.astype(np.int64) + y.zero, ~sure | (near & (np.abs(steps) < far)), undefined


def _runs(flags: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """First and last place of every unbroken run of set flags."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    for first, end in edges.reshape(-1, 2).tolist():
        yield first, end - 1


def _rounded(function: ir.Function, x: Fraction, step: Fraction) -> int:
    """``round_half_even(function(x) / step)``, provably: both ends of an enclosure round to it, or
    both are as near to a tie as makes them that tie.
    """
    for digits in _DIGITS:
        ends = [_snapped(end / step) for end in function.enclosure(x, digits)]
        low, high = (round(end) for end in ends)
        if low == high:
            return low
    raise QuantizeError(
        f"{function} of {float(x):.9g} has no digits that tell how it is rounded: it jumps there, "
        "or cancels; accepted: a function that is continuous at every input; change the scale of "
        "its input, or the constants of the function"
    )


def _snapped(steps: Fraction) -> Fraction:
    """The tie that ``steps`` are next to, if they are."""
    tie = Fraction(2 * floor(steps) + 1, 2)
    return tie if abs(steps - tie) < _TIE else steps

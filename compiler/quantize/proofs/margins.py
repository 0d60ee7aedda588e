"""Rounding margins: how near the exact results of an operator come to a tie, without enumeration.

An exact result ``v`` rounds to ``floor(v + 1/2)``, or one less at a tie with the odd one. Write
``v + 1/2 = R / M`` in integers. ``R mod M`` is where the result lies between two ties: 0 is a tie.
Hardware computes ``floor(R / M + error)``. When every error is smaller than the distance of every
result from the next tie, hardware rounds every result as it should. ``R`` is an affine function of
the inputs, so the distance follows from number theory, and the error is largest at an end of the
inputs' range.
"""

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .rounding import roundest

__all__ = ["Margins", "Window", "fit_offset", "of_line", "of_sums"]

#: integers up to which residues fit NumPy's int64, sums of two included
_INT64 = 1 << 62


@dataclass(frozen=True)
class Margins:
    """``below``: least distance of a result above a tie to that tie, in steps; ``above``: least
    distance to the next tie; ``ties``: whether a result is a tie.
    """

    below: Fraction
    above: Fraction
    ties: bool

    @property
    def tie_check(self) -> int:
        """The fewest bits below the point that tell a tie from every other result."""
        return (-(-self.below.denominator // self.below.numerator) - 1).bit_length()

    def window(self, tie_check: int | None) -> "Window":
        """Errors with which hardware rounds every result as it should.

        ``tie_check`` is how many bits below the point the half-even variant looks at
        (``shift - tie_bits``); None for plain rounding. The variant takes a result for a tie when
        it lies less than ``2**-tie_check`` above one.
        """
        if tie_check is None:
            # plain rounding moves all ties one way, and half to even moves some either way
            return Window(-self.below, -self.below if self.ties else self.above)
        seen = Fraction(1, 1 << tie_check)
        low = seen - self.below
        if not self.ties:
            return Window(low, self.above)
        return Window(max(low, Fraction(0)), min(seen, self.above))


@dataclass(frozen=True)
class Window:
    """Errors from ``low`` up to, not including, ``high``."""

    low: Fraction
    high: Fraction

    def __contains__(self, error: Fraction) -> bool:
        return self.low <= error < self.high


def least_residue(step: int, start: int, modulus: int, count: int) -> int:
    """``min((step * i + start) % modulus for i in range(count))`` in logarithmic time.

    With a step below half the modulus the residues climb, and the least ones are the first, and the
    first after each wrap: those are an arithmetic progression modulo the step.
    """
    best: int | None = None
    while True:
        step, start = step % modulus, start % modulus
        if 2 * step > modulus:  # the same residues in reverse order
            start = (start + step * (count - 1)) % modulus
            step = modulus - step
        best = start if best is None else min(best, start)
        wraps = (start + step * (count - 1)) // modulus if step else 0
        if not wraps:
            return best
        step, start, modulus, count = -modulus, start - modulus, step, wraps


def of_line(step: int, start: int, modulus: int, count: int) -> Margins:
    """The margins of ``R = step * i + start`` over ``M = modulus``, for ``i`` below ``count``."""
    below = least_residue(step, start - 1, modulus, count) + 1
    above = least_residue(-step, -start - 1, modulus, count) + 1
    ties = least_residue(step, start, modulus, count) == 0
    return Margins(Fraction(below, modulus), Fraction(above, modulus), ties)


def of_sums(a: list[int], b: list[int], modulus: int) -> Margins:
    """The margins of ``R = x + y`` over ``M = modulus``, for every ``x`` of ``a``, ``y`` of ``b``.

    For each x the sums next to a tie are those with the residues of y next to ``-x``, which a
    binary search in the sorted residues finds.
    """
    xs, ys = _residues(a, modulus), np.unique(_residues(b, modulus))
    target = -xs % modulus
    ties = bool((ys[np.searchsorted(ys, target) % len(ys)] == target).any())
    following = ys[np.searchsorted(ys, target, side="right") % len(ys)]
    before = ys[np.searchsorted(ys, target) - 1]
    below, above = (_nearest(part, modulus) for part in (following - target, target - before))
    return Margins(Fraction(below, modulus), Fraction(above, modulus), ties)


def _nearest(distances: NDArray[Any], modulus: int) -> int:
    """The least distance round the circle; a residue that is its own neighbour is a turn away."""
    wrapped = distances % modulus
    return int(min(np.where(wrapped == 0, modulus, wrapped)))


def _residues(values: list[int], modulus: int) -> NDArray[Any]:
    kind = np.int64 if modulus < _INT64 else object
    return np.array([value % modulus for value in values], kind)


def fit_offset(errors: list[Fraction], window: Window, shift: int) -> int | None:
    """The roundest offset with which all ``errors`` (in steps, for offset 0) lie in ``window``.

    Each error grows by ``2**-shift`` a unit of the offset. None when no offset serves all.
    """
    unit = 1 << shift
    low = -((min(errors) - window.low) * unit // 1)
    high = -((max(errors) - window.high) * unit // 1) - 1
    return roundest(low, high) if low <= high else None

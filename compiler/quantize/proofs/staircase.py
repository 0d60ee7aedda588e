"""Requantizers: the narrowest integer arithmetic proven equal to exact rational rounding.

A layer's output is the exact staircase ``clip(round_half_even(alpha * acc + beta - zero) + zero,
low, high)`` of its raw accumulator. Hardware computes ``clip((acc * mult + offset) >> shift, low,
high)`` instead. Both climb one step at a time, so they agree everywhere when they agree on both
sides of every step:

    value ▲          ┌──○   ○ lower point (T, k):     T    * mult + offset >= k << shift
        k │      x┌──○──┘   x upper point (T - 1, k): (T-1) * mult + offset <  k << shift
          │   x┌──○──┘      T: the first accumulator whose output is at least k
          └────┴────────▶ acc

A line that passes on or above every ○ and below every x is a requantizer. For one shift the gap
between the highest x bound and the lowest ○ bound on ``offset`` is concave in ``mult``: climb to
its peak, and if the gap there is negative no ``mult`` exists for that shift.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import lcm

import numpy as np

from .rounding import round_half_even, roundest

__all__ = ["MULT_BITS", "WIDEST_MULT_BITS", "Line", "Stairs", "lines", "provable"]

# Wider multipliers are tried only after the half-even variant, whose adder costs less.
MULT_BITS = 26
WIDEST_MULT_BITS = 48
# Sums of two such terms fit int64.
_LARGEST_TERM = 1 << 61


@dataclass(frozen=True)
class Stairs:
    """``clip(round_half_even((slope * acc + start) / unit - zero) + zero, low, high)``."""

    slope: int
    start: int
    unit: int
    zero: int
    low: int
    high: int
    acc_low: int
    acc_high: int

    @classmethod
    def of(
        cls, alpha: Fraction, beta: Fraction, zero: int, clip: tuple[int, int], acc: tuple[int, int]
    ) -> "Stairs":
        """The staircase of ``alpha * acc + beta`` for ``acc`` from ``acc[0]`` to ``acc[1]``."""
        unit = lcm(alpha.denominator, beta.denominator)
        return cls(int(alpha * unit), int(beta * unit), unit, zero, *clip, *acc)

    def value(self, acc: int) -> int:
        """The exact output for one accumulator, straight from the definition."""
        numerator = self.slope * acc + self.start - self.zero * self.unit
        return min(max(round_half_even(numerator, self.unit) + self.zero, self.low), self.high)

    def threshold(self, k: int) -> int:
        """The first accumulator whose output, unclipped, is at least ``k``."""
        return self._thresholds(k, 1)[0]

    def _thresholds(self, first: int, number: int) -> list[int]:
        """:meth:`threshold` of so many steps from ``first`` on."""
        step, unit = 2 * self.slope, 2 * self.unit
        edge = (2 * first - 1) * self.unit - 2 * self.start
        odd = first - self.zero  # a tie rounds to an even step
        return [
            numerator // step + 1 if (odd + at) & 1 else -(-numerator // step)
            for at, numerator in enumerate(range(edge, edge + unit * number, unit))
        ]

    @property
    def thresholds(self) -> list[int]:
        """:meth:`threshold` of each step above :attr:`first` up to :attr:`last`."""
        return self._thresholds(self.first + 1, self.last - self.first)

    @cached_property
    def first(self) -> int:
        return self.value(self.acc_low)

    @cached_property
    def last(self) -> int:
        return self.value(self.acc_high)


@dataclass(frozen=True)
class _Bounds:
    """The points between which a requantizer of one channel must pass: ``lower`` and ``upper``, by
    parity.

    ``lower[p]`` and ``upper[p]`` are the corners that matter of the points whose step has parity
    ``p`` counted from the zero point; the half-even variant lifts those of parity 1.
    """

    stairs: Stairs
    lower: tuple[tuple[tuple[int, int], ...], ...]
    upper: tuple[tuple[tuple[int, int], ...], ...]

    def offsets(self, mult: int, shift: int, tie_bits: int | None) -> tuple[int, int]:
        """The least and greatest offset that serve ``mult``; none does when they are crossed."""
        lift = (0, 0 if tie_bits is None else 1 << tie_bits)
        least = [
            (k << shift) - acc * mult + lift[parity]
            for parity in (0, 1)
            for acc, k in self.lower[parity]
        ]
        most = [
            (k << shift) - acc * mult + lift[parity] - 1
            for parity in (0, 1)
            for acc, k in self.upper[parity]
        ]
        # A side without points is clipped everywhere, so every offset beyond the other side works.
        low, high = max(least, default=None), min(most, default=None)
        if low is None and high is None:
            return 0, 0
        if low is None or high is None:
            edge = high if low is None else low
            assert edge is not None
            return edge, edge
        return low, high


def _corners(points: Sequence[tuple[int, int]], side: int) -> tuple[tuple[int, int], ...]:
    """The convex hull's upper (``side`` 1) or lower (-1) chain of points in order of ``acc``."""
    chain: list[tuple[int, int]] = []
    for x, y in points:
        while len(chain) > 1:
            (x0, y0), (x1, y1) = chain[-2:]
            if side * ((x1 - x0) * (y - y0) - (y1 - y0) * (x - x0)) < 0:
                break
            chain.pop()
        chain.append((x, y))
    return tuple(chain)


def _points(stairs: Stairs) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """The lower and the upper points, in order."""
    inner = list(zip(stairs.thresholds, range(stairs.first + 1, stairs.last + 1), strict=True))
    lower, upper = list(inner), [(acc - 1, k) for acc, k in inner]
    if stairs.first > stairs.low:
        lower.insert(0, (stairs.acc_low, stairs.first))
    if stairs.last < stairs.high:
        upper.append((stairs.acc_high, stairs.last + 1))
    return lower, upper


def _bounds(stairs: Stairs) -> _Bounds:
    lower, upper = _points(stairs)
    return _Bounds(
        stairs,
        tuple(
            _corners([p for p in lower if (p[1] - stairs.zero) % 2 == parity], 1)
            for parity in (0, 1)
        ),
        tuple(
            _corners([p for p in upper if (p[1] - stairs.zero) % 2 == parity], -1)
            for parity in (0, 1)
        ),
    )


def _feasible(bounds: _Bounds, shift: int, tie_bits: int | None) -> int | None:
    """The ``mult`` with the widest choice of offsets for this shift; None if none has any."""

    def gap(mult: int) -> int:
        low, high = bounds.offsets(mult, shift, tie_bits)
        return high - low

    stairs = bounds.stairs
    if stairs.first == stairs.last and gap(0) >= 0:
        return 0
    near = (stairs.slope << shift) // stairs.unit
    peak = _peak(gap, near, 2 * near + 2)
    return peak if gap(peak) >= 0 else None


def _peak(gap: Callable[[int], int], near: int, most: int) -> int:
    """The maximum of the concave ``gap`` in [0, most]; the search starts at ``near``."""

    def rises(mult: int) -> bool:
        return gap(mult + 1) > gap(mult)

    low = high = near
    reach = 1
    while low > 0 and not rises(low):
        low, reach = max(0, low - reach), 2 * reach
    reach = 1
    while high < most and rises(high):
        low, high, reach = high, min(most, high + reach), 2 * reach
    while low < high:
        middle = (low + high) // 2
        low, high = (middle + 1, high) if rises(middle) else (low, middle)
    return low


@dataclass(frozen=True)
class _Ties:
    """The bits that the half-even variant compares with zero: all, or the top ``checked`` ones."""

    checked: int | None = None

    def bits(self, shift: int) -> int:
        return 0 if self.checked is None else max(0, shift - self.checked)


def _tie_bits(ties: _Ties | None, shift: int) -> int | None:
    return None if ties is None else ties.bits(shift)


def _least_shift(bounds: _Bounds, ties: _Ties | None, mult_bits: int) -> int | None:
    """The least shift that has a line with ``mult`` up to about ``mult_bits`` wide."""
    slope = Fraction(bounds.stairs.slope, bounds.stairs.unit)
    size = slope.numerator.bit_length() - slope.denominator.bit_length()
    return _bisect(bounds, ties, 0 if ties is None else 1, max(1, mult_bits - size))


def _bisect(bounds: _Bounds, ties: _Ties | None, low: int, high: int) -> int | None:
    """The least shift from ``low`` to ``high`` that has a line.

    Doubling mult and offset keeps a line good, so the shifts that work have no hole.
    """
    if _feasible(bounds, high, _tie_bits(ties, high)) is None:
        return None
    while low < high:
        middle = (low + high) // 2
        if _feasible(bounds, middle, _tie_bits(ties, middle)) is None:
            low = middle + 1
        else:
            high = middle
    return low


def _attempts(channels: Sequence[_Bounds]) -> Iterator[tuple[int, list[_Ties | None]]]:
    """The variants to try, in order of hardware cost: (width of mult, variants at that width)."""
    yield MULT_BITS, [None]
    units = max(
        lcm(
            Fraction(c.stairs.slope, c.stairs.unit).denominator,
            Fraction(c.stairs.start, c.stairs.unit).denominator,
        )
        for c in channels
    )
    depth = min(units.bit_length(), MULT_BITS)
    checked = {depth + more for more in range(-1, 4)} | set(range(2, 20, 4))
    yield MULT_BITS, [_Ties(), *(_Ties(bits) for bits in sorted(checked) if bits > 0)]
    yield WIDEST_MULT_BITS, [None, _Ties(), *(_Ties(bits) for bits in sorted(checked) if bits > 0)]


def _shared_shift(channels: Sequence[_Bounds], ties: _Ties | None, mult_bits: int) -> int | None:
    shifts = []
    for bounds in channels:
        shift = _least_shift(bounds, ties, mult_bits)
        if shift is None:
            return None
        shifts.append(shift)
    return max(shifts)


def _search(channels: Sequence[_Bounds]) -> tuple[int, _Ties | None] | None:
    for mult_bits, variants in _attempts(channels):
        found = [
            (shift, place, ties)
            for place, ties in enumerate(variants)
            if (shift := _shared_shift(channels, ties, mult_bits)) is not None
        ]
        if found:
            shift, _, ties = min(found, key=lambda entry: entry[:2])
            return shift, ties
    return None


@dataclass(frozen=True)
class Line:
    """The line of one channel: ``(acc * mult + offset) >> shift`` equals its staircase."""

    mult: int
    offset: int


def lines(stairs: Sequence[Stairs]) -> tuple[list[Line], int, int | None] | None:
    """A line for every staircase, of the least shift that serves them all.

    Returns (lines, shift, tie bits or None), or None when nothing up to the widest multiplier does.
    """
    channels = [_bounds(one) for one in stairs]
    found = _search(channels)
    if found is None:
        return None
    shift, ties = found
    tie_bits = _tie_bits(ties, shift)
    return [_line(bounds, shift, tie_bits) for bounds in channels], shift, tie_bits


def provable(stairs: Stairs, shift: int) -> bool:
    """Whether plain rounding has a line for this shift.

    The same as by :func:`_feasible`, without corners: one shift needs few gaps, and NumPy computes
    them from all points, as long as their terms fit int64.
    """
    lower, upper = _points(stairs)
    near = (stairs.slope << shift) // stairs.unit
    largest = max(abs(stairs.acc_low), abs(stairs.acc_high), 1) + 1
    steps = max(abs(stairs.first), abs(stairs.last)) + 1
    fits = (steps << shift) + largest * (2 * near + 4) < _LARGEST_TERM
    if not (lower and upper and fits):
        return _feasible(_bounds(stairs), shift, None) is not None
    low, high = np.array(lower, np.int64).T, np.array(upper, np.int64).T
    below, above = low[1] << shift, (high[1] << shift) - 1

    def gap(mult: int) -> int:
        return int((above - high[0] * mult).min() - (below - low[0] * mult).max())

    if stairs.first == stairs.last and gap(0) >= 0:
        return True
    return gap(_peak(gap, near, 2 * near + 2)) >= 0


def _line(bounds: _Bounds, shift: int, tie_bits: int | None) -> Line:
    """The line with the fewest bits to multiply by.

    Every mult from the least that works to the peak does: take the roundest of the least's width.
    """
    peak = _feasible(bounds, shift, tie_bits)
    assert peak is not None, "a shift that works for a channel works when it is larger"
    low, high = 0, peak
    while low < high:
        middle = (low + high) // 2
        least, most = bounds.offsets(middle, shift, tie_bits)
        low, high = (low, middle) if least <= most else (middle + 1, high)
    mult = roundest(low, min(peak, (1 << low.bit_length()) - 1))
    return Line(mult, roundest(*bounds.offsets(mult, shift, tie_bits)))

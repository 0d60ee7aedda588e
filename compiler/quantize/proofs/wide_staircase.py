"""Staircases of many steps: a line for each by its rounding margins, in time independent of them.

:mod:`.staircase` looks at every step and finds the narrowest line. For outputs of more than about a
thousand steps this module bounds the error of a line instead: it may take a bit more than the
narrowest one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property

from .margins import Margins, Window, fit_offset, of_line
from .staircase import Line, Stairs

__all__ = ["MANY_STEPS", "WIDEST_MULT_BITS", "is_exact", "wide_lines"]

#: steps of an output from which on this module finds its line
MANY_STEPS = 1 << 10
#: a multiplier that no float32 scales of 16-bit tensors need
WIDEST_MULT_BITS = 72


@dataclass(frozen=True)
class _Channel:
    """A staircase over the accumulators whose output is between the clipping limits, and one
    either side. Hardware and staircase are monotone: equal here, they are equal everywhere.
    """

    stairs: Stairs

    @cached_property
    def ends(self) -> tuple[int, int]:
        one = self.stairs
        low = min(max(one.acc_low, one.threshold(one.low + 1) - 1), one.acc_high)
        return low, max(min(one.acc_high, one.threshold(one.high)), low)

    @property
    def is_constant(self) -> bool:
        return self.stairs.first == self.stairs.last

    def scaled(self, acc: int) -> int:
        """``2 * unit * (exact result + 1/2)``."""
        return 2 * (self.stairs.slope * acc + self.stairs.start) + self.stairs.unit

    @cached_property
    def margins(self) -> Margins:
        low, high = self.ends
        one = self.stairs
        return of_line(2 * one.slope, self.scaled(low), 2 * one.unit, high - low + 1)

    def errors(self, mult: int, offset: int, shift: int) -> list[Fraction]:
        """Hardware's result before it is rounded, less the exact one, at both ends."""
        return [
            Fraction(mult * acc + offset, 1 << shift)
            - Fraction(self.scaled(acc), 2 * self.stairs.unit)
            for acc in self.ends
        ]

    def line(self, shift: int, tie_check: int | None) -> Line | None:
        if self.is_constant:  # half a step up, which is no tie
            return Line(0, (2 * self.stairs.first + 1) << shift >> 1)
        window = self.margins.window(tie_check)
        below = (self.stairs.slope << shift) // self.stairs.unit
        for mult in (below, below + 1):
            offset = fit_offset(self.errors(mult, 0, shift), window, shift)
            if offset is not None:
                return Line(mult, offset)
        return None

    def is_exact(self, line: Line, shift: int, tie_check: int | None) -> bool:
        if self.is_constant:
            part = line.offset & ((1 << shift) - 1)
            no_tie = tie_check is None or part >> (shift - tie_check) != 0
            return line.mult == 0 and no_tie and line.offset >> shift == self.stairs.first
        window: Window = self.margins.window(tie_check)
        return line.mult >= 0 and all(
            error in window for error in self.errors(line.mult, line.offset, shift)
        )


def wide_lines(stairs: Sequence[Stairs]) -> tuple[list[Line], int, int | None] | None:
    """A line for every staircase, of the least shift at which the nearest multipliers serve.

    Returns (lines, shift, tie bits or None), as :func:`.staircase.lines` does; None when no
    multiplier of up to :data:`WIDEST_MULT_BITS` serves.
    """
    channels = [_Channel(one) for one in stairs]
    moving = [channel for channel in channels if not channel.is_constant]
    ties = any(channel.margins.ties for channel in moving)
    tie_check = max(channel.margins.tie_check for channel in moving) if ties else None
    slopes = [Fraction(channel.stairs.slope, channel.stairs.unit) for channel in moving]
    shift = tie_check or 0
    while max((slope * (1 << shift) for slope in slopes), default=0) < 1 << WIDEST_MULT_BITS:
        passed: list[Line] = []
        for channel in channels:
            if (line := channel.line(shift, tie_check)) is None:
                break
            passed.append(line)
        else:
            return passed, shift, None if tie_check is None else shift - tie_check
        shift += 1
    return None


def is_exact(stairs: Stairs, line: Line, shift: int, tie_bits: int | None) -> bool:
    """Whether ``line`` equals the staircase on every accumulator (sufficient, not necessary)."""
    return _Channel(stairs).is_exact(line, shift, None if tie_bits is None else shift - tie_bits)

"""The highest clock that is met: a search over the clocks that a board can make."""

from collections.abc import Callable
from math import inf, nextafter

from .result import BuildResult, ClockMissed

__all__ = ["MOST_CLOCKS", "search"]

#: clocks that are tried, as long as one of them is met
MOST_CLOCKS = 6
#: a higher clock is tried if it is this much higher
_WORTH = 1.01


def search(
    attempt: Callable[[float], BuildResult], below: Callable[[float], float | None], first: float
) -> BuildResult:
    """The build with the highest clock found that is met; ``first`` is the first that is tried.

    ``attempt`` builds at a clock, and raises :class:`ClockMissed` where it is not met; ``below`` is
    the highest clock that the board makes up to a frequency. A clock that is met is followed by the
    highest that its routed design allows, one that is missed by the highest that it reached; then
    the clocks between are halved. The build that is returned is the last that was attempted. Raises
    ``ClockMissed`` when no clock is met.
    """
    met, missed, routed = 0.0, inf, 0.0
    clock, last, tried = first, 0.0, 0
    while True:
        tried += 1
        try:
            result = attempt(clock)
            met, last = max(met, clock), clock
            routed = max(routed, result.fmax_mhz)
            upto = routed if missed == inf else (met + missed) / 2
        except ClockMissed as error:
            missed, last = min(missed, clock), 0.0
            reached = error.result.fmax_mhz
            upto = reached if reached > met * _WORTH else (met + missed) / 2
            if not met and below(min(upto, nextafter(missed, 0))) is None:
                raise
        following = below(min(upto, nextafter(missed, 0)))
        if met and (tried >= MOST_CLOCKS or following is None or following <= met * _WORTH):
            return result if last == met else attempt(met)
        assert following is not None, "a missed clock with none below has been raised"
        clock = following

"""The result of a build, which ``build.json`` stores, and the errors of builds that failed."""

from collections.abc import Mapping
from dataclasses import dataclass

from ...compiler.brief import Brief
from ...compiler.errors import FitError, TimingError
from ..board import Board
from ..link.protocol import LinkConfig

__all__ = ["BuildResult", "ClockMissed", "Use", "check_fit", "timing_error"]


@dataclass(frozen=True)
class Use:
    """How much of one resource is used, and how much the chip has."""

    used: int
    available: int


@dataclass(frozen=True, repr=False)
class BuildResult(Brief):
    """The result of a build; ``build.json`` holds the same fields.

    ``target_mhz`` is the requested clock and ``clock_mhz`` the clock that the PLL makes, against
    which timing is checked. ``highest_mhz`` is the highest clock of the PLL that the routed design
    meets, None if there is none. ``routed_mhz`` is nextpnr's result for ``seed``, ``limit_mhz`` a
    documented limit that nextpnr does not know, and ``fmax_mhz``, the smaller of the two, what is
    allowed. ``seeds`` holds the routed clock
    of every seed and ``median_mhz`` their median. ``link`` configures the driver; ``link_fps`` is
    the rate of frames that the serial line carries back to back, each computed in the planned
    latency. If the link has a clock of
    its own, ``timing_met`` includes that clock.
    """

    board: str
    fmax_mhz: float
    target_mhz: float
    clock_mhz: float
    timing_met: bool
    highest_mhz: float | None
    routed_mhz: float
    utilization: Mapping[str, Use]
    bitstream: str | None
    tools: Mapping[str, str]
    seed: int
    seeds: Mapping[int, float]
    median_mhz: float
    limit_mhz: float
    limit_reason: str
    link: LinkConfig
    link_fps: float
    wall_seconds: float

    def facts(self) -> dict[str, object]:
        return {
            "board": self.board,
            "clock": f"{self.clock_mhz:.1f} MHz",
            "timing": "met" if self.timing_met else "not met",
            "routed": f"{self.routed_mhz:.1f} MHz",
            "allowed": f"{self.fmax_mhz:.1f} MHz",
            "bitstream": self.bitstream,
        }


def check_fit(counts: Mapping[str, int], board: Board) -> None:
    """Raise ``FitError`` if a netlist with these ``counts`` of cells is too large for the chip."""
    room = board.device.available
    short = [
        f"{counts[name]:,} {name.upper()} of {room[name]:,}"
        for name in counts
        if counts[name] > room[name]
    ]
    if short:
        raise FitError(
            f"the design does not fit {board.name}: it needs {', '.join(short)}. "
            "Compile with --goal area, with fewer multipliers, or for a larger board"
        )


class ClockMissed(TimingError):
    """A build's clock is not met; ``result`` is what was reached."""

    def __init__(self, message: str, result: BuildResult) -> None:
        super().__init__(message)
        self.result = result


def timing_error(result: BuildResult, *, others_met: bool) -> ClockMissed:
    """The error for a build that missed its clock, or the link's clock unless ``others_met``."""
    return ClockMissed(_missed(result) if others_met else _link_missed(result), result)


def _link_missed(result: BuildResult) -> str:
    return (
        f"timing is not met on {result.board}: the link misses its own clock of "
        f"{result.link.uart_hz / 1e6:g} MHz. No bitstream was written. "
        "Try more seeds (--seeds)"
    )


def _missed(result: BuildResult) -> str:
    reached = f"{result.fmax_mhz:.1f} MHz was reached"
    if result.routed_mhz > result.limit_mhz:
        reached = (
            f"the data sheet allows {result.limit_mhz:.1f} MHz ({result.limit_reason}; "
            f"{result.routed_mhz:.1f} MHz was routed)"
        )
    tried = f"{len(result.seeds)} seed" + ("s" if len(result.seeds) > 1 else "")
    return (
        f"timing is not met on {result.board}: {reached}, "
        f"{result.clock_mhz:.1f} MHz is needed ({tried} tried). No bitstream was written. "
        f"Request a lower clock (--target-mhz {int(result.fmax_mhz)}, or --target-mhz max for the "
        "highest that is met), try more seeds (--seeds), or compile with a smaller array"
    )

"""From an accelerator's RTLIL to a bitstream that meets its clock, or an error that says why not.

    rtl/accelerator.il ─▶ yosys ─▶ nextpnr, one run per seed ─▶ best seed ─▶ packer ─▶ bitstream
    rtl/interface.json ─▶ top.il ┘

Each step stores its result under ``build/`` by the hash of its inputs: an interrupted build resumes
where it stopped, and an unchanged build only reads the results.
"""

import os
import shutil
import statistics
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ...compiler import tools
from ...compiler.errors import PlanError, ToolError
from ...compiler.json_file import write_json
from ...compiler.plan import read_plan
from ...compiler.progress import Progress, silent
from ..board import LOWEST_BAUD, Board
from . import FLOWS, fastest, flow_of
from .base import Cell, Flow, Limit, Pll
from .cache import read_json
from .chip_netlist import ChipNetlist, ChipSynthesis
from .clock import check_reachable, choose, highest
from .layout import layout
from .result import BuildResult, ClockMissed, Use, timing_error
from .route import Routed, Router

__all__ = ["BuildResult", "Use", "build", "build_fastest"]

SEEDS_UNTIL_MET = 8
#: of a bit of the serial link, so that the clocks of both ends may differ by a few percent
BIT_CYCLES = 8
#: seeds for each clock that the search for the highest tries
SEEDS_A_CLOCK = 2
_TOLERANCE = 1e-6


def build(
    directory: Path,
    board: Board,
    target_mhz: float | None = None,
    *,
    seeds: int | None = None,
    jobs: int = 1,
    baud: int | None = None,
    started: float | None = None,
    progress: Progress = silent,
) -> BuildResult:
    """Build ``directory``'s accelerator for ``board``: a bitstream and ``build.json``.

    Without ``seeds``, seeds are tried until one meets timing, eight at most; with it, exactly that
    many are tried and the fastest is used. ``jobs`` run at a time. ``progress`` is called with each
    step and its completed fraction if known, from any thread, one call at a time. ``baud`` is the
    rate of the serial link (default: the board's). ``wall_seconds`` count from ``started``, a time
    of :func:`time.monotonic` (default: now).

    Raises ``FitError`` when the chip is too small, ``PlanError`` for a clock that the board can not
    make, ``TimingError`` (and leaves no bitstream) when no seed meets the clock, ``ToolError`` when
    a tool is missing or fails, ``DataError`` when ``directory`` holds no accelerator.
    """
    target_mhz = target_mhz or board.target_mhz
    check_reachable(board, target_mhz)
    flow = flow_of(board.device.target)
    return _Build(
        directory.absolute(),
        board,
        flow,
        target_mhz,
        pll := choose(board, target_mhz),
        _baud(board, pll, baud),
        {name: tools.find(name) for name in ("yosys", flow.place, flow.pack)},
        seeds,
        jobs,
        _serialized(progress),
        time.monotonic() if started is None else started,
    ).run()


def _baud(board: Board, pll: Pll, baud: int | None) -> int:
    """The rate of the link; ``PlanError`` where the board's bridge or its clock is slower."""
    if baud is None:
        return board.uart_baud
    clock_hz = (pll.board_mhz or pll.output_mhz) * 1e6
    highest = min(board.usb.max_baud, int(min(clock_hz, pll.output_mhz * 1e6) / BIT_CYCLES))
    if not LOWEST_BAUD <= baud <= highest:
        raise PlanError(
            f"{board.name}: a link of {baud} baud can not be had: its USB bridge and its clock "
            f"allow {LOWEST_BAUD} to {highest} baud; choose one of those"
        )
    return baud


def build_fastest(
    directory: Path,
    board: Board,
    *,
    seeds: int | None = None,
    jobs: int = 1,
    baud: int | None = None,
    progress: Progress = silent,
) -> BuildResult:
    """Build with the highest clock that is met, of those that the board can make.

    The search begins at the clock that the board usually has, and never goes above the documented
    limits of the chip's clock tree and blocks. Each clock that is tried is routed with ``seeds``
    seeds (:data:`SEEDS_A_CLOCK` by default), and the best counts. Raises as ``build`` does.
    """
    report, started = _serialized(progress), time.monotonic()

    def attempt(mhz: float) -> BuildResult:
        report(f"clock: trying {mhz:.1f} MHz")
        try:
            result = build(
                directory,
                board,
                mhz,
                seeds=seeds or SEEDS_A_CLOCK,
                jobs=jobs,
                baud=baud,
                progress=report,
                started=started,
            )
        except ClockMissed as error:
            report(f"clock: {mhz:.1f} MHz is missed, {error.result.fmax_mhz:.1f} MHz was reached")
            raise
        report(f"clock: {mhz:.1f} MHz is met, {result.fmax_mhz:.1f} MHz is allowed")
        return result

    first = choose(board, board.target_mhz).output_mhz
    return fastest.search(attempt, lambda mhz: highest(board, mhz), first)


def _serialized(progress: Progress) -> Progress:
    """``progress`` under a lock."""
    lock = threading.Lock()

    def call(step: str, fraction: float | None = None, /) -> None:
        with lock:
            progress(step, fraction)

    return call


@dataclass(frozen=True)
class _Build:
    directory: Path
    board: Board
    flow: Flow
    target_mhz: float
    pll: Pll
    baud: int
    tools: Mapping[str, tools.Tool]
    seeds: int | None
    jobs: int
    progress: Progress
    started: float

    def run(self) -> BuildResult:
        self._report_clock()
        netlist = ChipSynthesis(
            self.directory, self.board, self.flow, self.pll, self.baud, self.work, self.progress
        ).run()
        limit = self.flow.lowest_limit(self.board.speed, _cells(netlist.folder / "netlist.json"))
        routed = self._route(netlist, limit)
        best = max(routed, key=lambda one: (one.others_met, one.fmax_mhz, -one.seed))
        result = self._finish(netlist, limit, routed, best)
        self._remove_old_netlists(netlist)
        if not result.timing_met:
            raise timing_error(result, others_met=best.others_met)
        return result

    @property
    def work(self) -> Path:
        return self.directory / "build"

    def _report_clock(self) -> None:
        clock = self.pll.output_mhz
        if clock < self.target_mhz:
            self.progress(
                f"clock: {clock:.3f} MHz, the nearest to {self.target_mhz:g} "
                f"MHz that {self.board.name} can make"
            )

    def _route(self, netlist: ChipNetlist, limit: Limit) -> list[Routed]:
        router = Router(
            self.board,
            self.flow,
            self.pll,
            self.tools[self.flow.place],
            self.work,
            self.progress,
        )
        # One seed shows the clock that is reached if a documented limit excludes the one needed.
        seeds = 1 if limit.mhz < self.pll.output_mhz else SEEDS_UNTIL_MET
        return router.route(
            netlist.folder, self.seeds or seeds, self.jobs, until_met=self.seeds is None
        )

    def _finish(
        self,
        netlist: ChipNetlist,
        limit: Limit,
        routed: Sequence[Routed],
        best: Routed,
    ) -> BuildResult:
        """Write ``build.json``, and the bitstream if timing is met."""
        fmax = min(best.fmax_mhz, limit.mhz)
        met = best.others_met and fmax >= self.pll.output_mhz * (1 - _TOLERANCE)
        bitstream = self._bitstream(best) if met else None
        if not met:
            self._remove_bitstreams()
        speeds = {
            one.seed: round(one.fmax_mhz, 3) for one in sorted(routed, key=lambda one: one.seed)
        }
        result = BuildResult(
            board=self.board.name,
            fmax_mhz=round(fmax, 3),
            target_mhz=self.target_mhz,
            clock_mhz=self.pll.output_mhz,
            timing_met=met,
            highest_mhz=highest(self.board, fmax) if best.others_met else None,
            routed_mhz=round(best.fmax_mhz, 3),
            utilization=self._utilization(best, netlist),
            bitstream=bitstream,
            tools={tool.name: tool.version for tool in self.tools.values()},
            seed=best.seed,
            seeds=speeds,
            median_mhz=round(statistics.median(speeds.values()), 3),
            limit_mhz=limit.mhz,
            limit_reason=limit.reason,
            link=netlist.link,
            link_fps=round(netlist.link.frames_per_second(netlist.latency), 3),
            wall_seconds=round(time.monotonic() - self.started, 1),
        )
        write_json(self.directory / "build.json", asdict(result))
        self._write_layout(best)
        return result

    def _write_layout(self, best: Routed) -> None:
        """``layout.json``; not there where a result of an older version has no cells."""
        target = self.directory / "layout.json"
        target.unlink(missing_ok=True)
        if best.cells.exists():
            plan = self.directory / "plan.json"
            stages = [stage.name for stage in read_plan(plan).stages] if plan.exists() else []
            found = layout(best.cells, best.paths, stages, self.flow.sites)
            write_json(target, found | {"seed": best.seed, "board": self.board.name})
            for other in set(best.cells.parent.glob("*.cells")) - {best.cells}:
                other.unlink()  # tens of megabytes each, and read by nobody

    def _bitstream(self, best: Routed) -> str:
        self.progress("packing the bitstream")
        folder = best.file.parent
        try:
            self.tools[self.flow.pack].run(
                [*self.flow.pack_options, best.file.name, "bitstream"], folder, folder / "pack.log"
            )
        except ToolError as error:
            raise ToolError(
                f"{error}\nThe flow of {self.flow.target.name} has pack={self.flow.pack} with "
                f"pack_options={self.flow.pack_options}"
            ) from error
        self._remove_bitstreams()
        name = self.work / f"{self.board.name}{self.flow.bitstream_suffix}"
        os.replace(folder / "bitstream", name)
        self.progress("packing the bitstream", 1.0)
        return name.relative_to(self.directory).as_posix()

    def _remove_bitstreams(self) -> None:
        for flow in FLOWS:
            for stale in self.work.glob(f"*{flow.bitstream_suffix}"):
                stale.unlink()

    def _utilization(self, best: Routed, netlist: ChipNetlist) -> dict[str, Use]:
        """nextpnr's counts; flip-flops from the netlist if nextpnr counts them with the LUTs.

        What the flow has no name for is listed if it is in use, under nextpnr's name.
        """
        use = {
            self.flow.sites.get(site, site): Use(count["used"], count["available"])
            for site, count in best.utilization.items()
            if site in self.flow.sites or count["used"]
        }
        use.setdefault("ff", Use(netlist.counts["ff"], self.board.device.ff))
        return use

    def _remove_old_netlists(self, netlist: ChipNetlist) -> None:
        for folder in self.work.glob("netlist-*"):
            if folder != netlist.folder:
                shutil.rmtree(folder, ignore_errors=True)


def _cells(netlist: Path) -> list[Cell]:
    """All cells of the flat netlist's top."""
    modules = read_json(netlist)["modules"].values()
    top = next(module for module in modules if "top" in module["attributes"])
    return [
        Cell(cell["type"], {key: str(value).strip() for key, value in cell["parameters"].items()})
        for cell in top["cells"].values()
    ]

"""Place and route with nextpnr: one run per seed, each cached by the hash of its inputs."""

import json
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...compiler import tools
from ...compiler.errors import FitError, GatewrightError, ToolError
from ...compiler.progress import Progress
from ..board import Board
from .base import Flow, Pll
from .cache import digest, read_json
from .clock import tuned

__all__ = ["Advance", "Routed", "Router", "clock_speeds", "paths_within"]

#: messages of nextpnr that mean that the design is too large
_NO_ROOM = ("Failed to expand region", "Unable to find legal placement", "no more Bels")
#: failures before any success after which the remaining seeds are not tried
_MAX_FAILURES = 2
#: a placer or router without output for this long does not converge; to legalise 51,000 cells the
#: static placer took less than four minutes on a machine with other work
_PATIENCE_SECONDS = 300.0
#: the same for the last attempt, after which there is none: an iteration of router2 may take long
_LAST_PATIENCE_SECONDS = 1800.0
#: offset of the seed for a second placement
_RETRY_SEED_OFFSET = 1000


@dataclass(frozen=True)
class Routed:
    """The result of one seed.

    ``fmax_mhz`` is the routed clock of the accelerator. ``others_met`` says whether all other
    clocks meet their constraints. ``file`` is the routed design for the packer. ``cells`` is the
    same as a netlist in JSON, with the place of each cell, and ``paths`` are nextpnr's critical
    paths within that clock; results that older versions kept may lack the cells.
    """

    seed: int
    fmax_mhz: float
    others_met: bool
    utilization: Mapping[str, Mapping[str, int]]
    file: Path
    cells: Path
    paths: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Router:
    """Places and routes a netlist for ``board`` at the clock of ``pll``.

    ``place`` is the installed nextpnr; results are stored in folders of ``work``.
    """

    board: Board
    flow: Flow
    pll: Pll
    place: tools.Tool
    work: Path
    progress: Progress
    stop: threading.Event = field(default_factory=threading.Event)

    def route(self, netlist: Path, seeds: int, jobs: int, *, until_met: bool) -> list[Routed]:
        """Route ``netlist.json`` of the folder ``netlist`` with the seeds 1 to ``seeds``.

        ``jobs`` seeds run at a time. With ``until_met`` the first seed that meets timing stops the
        others. Raises ``ToolError``, or ``FitError`` if the chip is too small, when no seed
        succeeds.
        """
        folder = self._folder(netlist)
        done: list[Routed] = []
        failed: list[ToolError] = []
        with ThreadPoolExecutor(max(1, jobs)) as pool:
            futures = [
                pool.submit(self._outcome, folder, seed, until_met) for seed in range(1, seeds + 1)
            ]
            try:
                for future in as_completed(futures):
                    outcome = future.result()
                    if isinstance(outcome, Routed):
                        done.append(outcome)
                        self.progress(
                            f"seed {outcome.seed}: routed at {outcome.fmax_mhz:.1f} MHz",
                            len(done) / seeds,
                        )
                    elif outcome is not None:
                        failed.append(outcome)
                        if not done and len(failed) >= _MAX_FAILURES:
                            self.stop.set()
            finally:
                self.stop.set()
        if not done:
            raise self._explain(failed[0])
        return done

    def _folder(self, netlist: Path) -> Path:
        """The folder of the results for this netlist, with nextpnr's inputs."""
        constraints = self.flow.constraints(self.board)
        design = json.dumps(tuned(read_json(netlist / "netlist.json"), self.board, self.pll))
        key = digest(
            design,
            constraints,
            *self._flags(),
            *self.flow.placers,
            *self.flow.routers,
            self.place.version,
        )
        folder = self.work / f"route-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pins").write_text(constraints)
        (folder / "netlist.json").write_text(design)
        return folder

    def _meets_timing(self, routed: Routed) -> bool:
        return routed.others_met and routed.fmax_mhz >= self.pll.output_mhz

    def _explain(self, error: ToolError) -> GatewrightError:
        """``error``, or a ``FitError`` if nextpnr ran out of sites or found no end."""
        if _no_room(error):
            found = f"does not fit {self.board.name}: place and route found no room for all of it"
        elif isinstance(error, tools.Stuck):
            found = f"is too full for {self.board.name}: no attempt to place and route it ended"
        else:
            return error
        return FitError(
            f"the design {found}. Compile with --goal area or a lower --goal fps=N, or for a "
            f"larger board. Message of the tool: {error}"
        )

    def _outcome(self, folder: Path, seed: int, until_met: bool) -> Routed | ToolError | None:
        """The result of a seed, the error if it failed, None if it was stopped."""
        try:
            routed = self._seed(folder, seed)
            if until_met and self._meets_timing(routed):
                self.stop.set()  # before this thread takes the next seed
            return routed
        except tools.Stopped:
            return None
        except ToolError as error:
            return error

    def _seed(self, folder: Path, seed: int) -> Routed:
        report, routed = folder / f"seed-{seed}.json", folder / f"seed-{seed}.routed"
        cells = folder / f"seed-{seed}.cells"
        if not report.exists():
            if self.stop.is_set():
                raise tools.Stopped(f"seed {seed} was not needed")
            self.progress(
                f"place and route, seed {seed}, for {self.pll.output_mhz:.1f} MHz"
                f"{tools.first_use(self.flow.place)}"
            )
            self._place_and_route(folder, seed)
            if not (folder / f"seed-{seed}.unfinished").exists():
                raise ToolError(
                    f"{self.flow.place} did not write the routed design: it has the file's name "
                    f"from the flow's routed_option, {self.flow.routed_option}"
                )
            os.replace(folder / f"seed-{seed}.written", cells)
            os.replace(folder / f"seed-{seed}.unfinished", routed)
            os.replace(folder / f"seed-{seed}.report", report)
        found = read_json(report)
        if not found["fmax"]:
            raise ToolError(f"nextpnr found no clock in the design; its report: {report}")
        mhz = self.pll.output_mhz, self.pll.board_mhz
        fmax, others_met = clock_speeds(found["fmax"].values(), *mhz)
        paths = paths_within(found["fmax"], found.get("critical_paths", ()), *mhz)
        return Routed(seed, fmax, others_met, found["utilization"], routed, cells, paths)

    def _place_and_route(self, folder: Path, seed: int) -> None:
        """Try the seed's placer and the better router. If one stalls, or the placer finds no room
        where the last one may, place again; then try the other router.

        Raises ``Stuck`` when that stalls too.
        """
        placers, (better, other) = self.flow.placers, self.flow.routers
        flags = [
            *self._flags(),
            "--report",
            f"seed-{seed}.report",
            self.flow.routed_option,
            f"seed-{seed}.unfinished",
            "--write",
            f"seed-{seed}.written",
        ]
        attempts = (
            (seed, placers[(seed - 1) % len(placers)], better, _PATIENCE_SECONDS),
            (seed + _RETRY_SEED_OFFSET, placers[-1], better, _PATIENCE_SECONDS),
            (seed, placers[-1], other, _LAST_PATIENCE_SECONDS),
        )
        for start, placer, router, patience in attempts:
            try:
                self.place.run(
                    [*flags, "--seed", str(start), "--placer", placer, "--router", router],
                    folder,
                    folder / f"seed-{seed}.log",
                    Advance(f"place and route, seed {seed}", self.pll.output_mhz, self.progress),
                    stop=self.stop,
                    patience=patience,
                )
                return
            except tools.Stuck:
                if router == other:
                    raise
                self.progress(f"place and route, seed {seed}: no progress any more, next attempt")
            except ToolError as error:
                if placer == placers[-1] or not _no_room(error):
                    raise
                self.progress(f"place and route, seed {seed}: no room found, next attempt")

    def _flags(self) -> list[str]:
        return [
            *self.flow.chip_options(self.board),
            "--json",
            "netlist.json",
            self.flow.constraints_option,
            "pins",
            "--freq",
            f"{self.pll.output_mhz:.6f}",
            "--timing-allow-fail",
        ]


def _no_room(error: ToolError) -> bool:
    """Whether nextpnr found the design too large."""
    return any(words in str(error) for words in _NO_ROOM)


_PLACER = re.compile(r"at iteration #(\d+)|\biter=(\d+) steplen")
_ROUTER = re.compile(r"Info:\s+\d+ \|\s+\d+\s+\d+ \|\s+\d+\s+\d+ \|\s+(\d+)\|")
_ROUTER_ARCS = re.compile(r"Routing (\d+) arcs")
_CLOCK = re.compile(r"Max frequency for clock .*: ([\d.]+) MHz \(\w+ at ([\d.]+) MHz\)")


@dataclass
class Advance:
    """Reports from nextpnr's lines how far it is: the iteration, wires left and the clock.

    ``step`` is the work's name and ``own_mhz`` the constraint of the accelerator's clock.
    """

    step: str
    own_mhz: float
    progress: Progress
    estimate: str = ""
    arcs: int = 0

    def __call__(self, line: str) -> None:
        if clock := _CLOCK.search(line):
            reached, constraint = float(clock[1]), float(clock[2])
            if abs(constraint - self.own_mhz) < self.own_mhz / 100:
                self.estimate = f", {reached:.0f} MHz estimated"
                self._tell("placed", 0.5)
        elif placed := _PLACER.search(line):
            self._tell(f"placement, iteration {placed[1] or placed[2]}", 0.0)
        elif arcs := _ROUTER_ARCS.search(line):
            self.arcs = int(arcs[1])
        elif left := _ROUTER.search(line):
            done = 1 - int(left[1]) / self.arcs if self.arcs else 0.0
            self._tell(f"routing, {int(left[1]):,} wires left", 0.5 + 0.49 * max(done, 0.0))

    def _tell(self, what: str, fraction: float) -> None:
        self.progress(f"{self.step}: {what}{self.estimate}", fraction)


def clock_speeds(
    clocks: Iterable[Mapping[str, float]], own_mhz: float, other_mhz: float | None
) -> tuple[float, bool]:
    """The accelerator's clock of nextpnr's ``clocks``, and whether the link's own clock is met."""
    own, others_met = [], True
    for clock in clocks:
        if _is_own(clock, own_mhz, other_mhz):
            own.append(float(clock["achieved"]))
        else:
            others_met &= float(clock["achieved"]) >= float(clock["constraint"])
    return min(own, default=0.0), others_met


def paths_within(
    clocks: Mapping[str, Mapping[str, float]],
    paths: Iterable[Mapping[str, Any]],
    own_mhz: float,
    other_mhz: float | None,
) -> list[Mapping[str, Any]]:
    """Those of nextpnr's critical ``paths`` that begin and end at the accelerator's clock.

    They may lie in the link alone, where it has no clock of its own.
    """
    own = {name for name, clock in clocks.items() if _is_own(clock, own_mhz, other_mhz)}
    return [
        path
        for path in paths
        if all(path[end].partition(" ")[2] in own for end in ("from", "to"))  # "posedge NAME"
    ]


def _is_own(clock: Mapping[str, float], own_mhz: float, other_mhz: float | None) -> bool:
    """Whether a clock is the accelerator's, not the link's own.

    A clock is identified by its constraint, because synthesis may change its name. nextpnr rounds
    constraints to whole picoseconds, so the nearer of the two frequencies decides.
    """
    constraint = float(clock["constraint"])
    return other_mhz is None or abs(constraint - other_mhz) >= abs(constraint - own_mhz)

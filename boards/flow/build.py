"""From an accelerator's RTLIL to a bitstream that meets its clock, or an error that says why not.

    rtl/accelerator.il ─▶ yosys ─▶ nextpnr, one run a seed ─▶ best seed ─▶ ecppack or icepack
    rtl/interface.json ─▶ top.il ┘

Every step's result is kept under ``build/`` by the hash of its inputs, so an interrupted build goes
on where it stopped, and an unchanged one ends at once.
"""

import hashlib
import os
import shutil
import statistics
import threading
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path

from amaranth.back import rtlil

from ...compiler import json_file, tools
from ...compiler.emit import without_locations
from ...compiler.errors import DataError, FitError, GatewrightError, TimingError, ToolError
from ..board import Board
from ..link.protocol import LinkConfig, LinkPort, link_ports
from . import FLOWS, flow_of, synthesis
from .base import Cell, Flow, Limit
from .cache import digest, read_json, write_json
from .clock import choose
from .synthesis import Progress
from .top import Top

__all__ = ["BuildResult", "Progress", "Use", "build"]

SEEDS_UNTIL_MET = 8
_TOLERANCE = 1e-6
_NO_ROOM = ("Failed to expand region", "Unable to find legal placement", "no more Bels")
_HOPELESS = 2  # failures in a row: the seed is not to blame
_PATIENCE_SECONDS = 480.0  # a router that is silent for longer goes round in circles
_ANEW = 1000  # a seed is placed anew then, from this far on


@dataclass(frozen=True)
class Use:
    """How much of one resource is used, of how much."""

    used: int
    available: int


@dataclass(frozen=True)
class BuildResult:
    """What a build came to; ``build.json`` holds the same under the same names.

    ``target_mhz`` is the clock that was asked for, ``clock_mhz`` the one the PLL makes, against
    which timing is checked. ``fmax_mhz`` is the smaller of what nextpnr reports for ``seed`` and
    ``limit_mhz``, a documented limit that nextpnr does not know. ``seeds`` has every seed's routed
    clock and ``median_mhz`` their median. ``link`` is what a driver must know to talk to the board;
    where it has a clock of its own, ``timing_met`` says that this one is met too.
    """

    board: str
    fmax_mhz: float
    target_mhz: float
    clock_mhz: float
    timing_met: bool
    utilization: Mapping[str, Use]
    bitstream: str | None
    tools: Mapping[str, str]
    seed: int
    seeds: Mapping[int, float]
    median_mhz: float
    limit_mhz: float
    limit_reason: str
    link: LinkConfig
    wall_seconds: float


def build(
    directory: Path,
    board: Board,
    target_mhz: float | None = None,
    *,
    seeds: int | None = None,
    jobs: int = 1,
    progress: Progress | None = None,
) -> BuildResult:
    """Build ``directory``'s accelerator for ``board``: a bitstream and ``build.json``.

    Without ``seeds``, seeds are tried until one meets timing (eight at most); with it, exactly so
    many are, and the fastest is taken. ``jobs`` run at a time. ``progress`` is told each stage, and
    how far it is when that is known; it may be called from any thread, one call at a time.

    Raises ``FitError`` when the chip is too small, ``TimingError`` (and leaves no bitstream) when
    no seed meets the clock, ``ToolError`` when a tool is missing or fails, ``DataError`` when
    ``directory`` holds no accelerator.
    """
    return _Build(
        directory, board, target_mhz or board.target_mhz, seeds, jobs, _one_at_a_time(progress)
    ).run()


def _one_at_a_time(progress: Progress | None) -> Progress:
    if progress is None:
        return synthesis.silent
    lock = threading.Lock()

    def call(stage: str, fraction: float | None) -> None:
        with lock:
            progress(stage, fraction)

    return call


# --- what was synthesized ----------------------------------------------------------------------


def _cells(netlist: Path) -> list[Cell]:
    """Every cell of the flat netlist's top."""
    modules = read_json(netlist)["modules"].values()
    top = next(module for module in modules if "top" in module["attributes"])
    return [
        Cell(cell["type"], {key: str(value).strip() for key, value in cell["parameters"].items()})
        for cell in top["cells"].values()
    ]


def _check_fit(counts: Mapping[str, int], board: Board) -> None:
    room = board.device.available
    short = [
        f"{counts[name]} {name.upper()} of {room[name]}"
        for name in counts
        if counts[name] > room[name]
    ]
    if short:
        raise FitError(
            f"the design does not fit {board.name}: it needs {', '.join(short)}. "
            "Compile with --goal area, with fewer multipliers, or for a larger board"
        )


# --- the whole build ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Routed:
    """One seed's result: the accelerator's clock, and whether all others are met."""

    seed: int
    fmax_mhz: float
    others_met: bool
    utilization: Mapping[str, Mapping[str, int]]
    file: Path


@dataclass
class _Build:
    directory: Path
    board: Board
    target_mhz: float
    seeds: int | None
    jobs: int
    progress: Progress
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> BuildResult:
        started = time.monotonic()
        self.directory = self.directory.absolute()
        self.pll = choose(self.board, self.target_mhz)
        self.clock_mhz = self.pll.output_mhz
        if self.clock_mhz < self.target_mhz:
            self.progress(
                f"clock: {self.clock_mhz:.3f} MHz, the nearest to {self.target_mhz:g} "
                f"MHz that {self.board.name} can make",
                None,
            )
        self.tools = {name: tools.find(name) for name in ("yosys", self.flow.place, self.flow.pack)}

        link, netlist = self._netlist()
        limit = self.flow.lowest_limit(self.board.speed, _cells(netlist / "netlist.json"))
        routed = self._route(netlist, limit)
        best = max(routed, key=lambda one: (one.others_met, one.fmax_mhz, -one.seed))
        fmax = min(best.fmax_mhz, limit.mhz)
        met = best.others_met and fmax >= self.clock_mhz * (1 - _TOLERANCE)
        bitstream = self._bitstream(best) if met else None
        speeds = {
            one.seed: round(one.fmax_mhz, 3) for one in sorted(routed, key=lambda one: one.seed)
        }
        result = BuildResult(
            board=self.board.name,
            fmax_mhz=round(fmax, 3),
            target_mhz=self.target_mhz,
            clock_mhz=self.clock_mhz,
            timing_met=met,
            utilization=self._utilization(best, netlist),
            bitstream=bitstream,
            tools={tool.name: tool.version for tool in self.tools.values()},
            seed=best.seed,
            seeds=speeds,
            median_mhz=round(statistics.median(speeds.values()), 3),
            limit_mhz=limit.mhz,
            limit_reason=limit.reason,
            link=link,
            wall_seconds=round(time.monotonic() - started, 1),
        )
        if not met:
            self._remove_bitstreams()
        write_json(self.directory / "build.json", asdict(result))
        self._forget(netlist)
        if not met:
            raise TimingError(_timing_message(result, best.others_met))
        return result

    @property
    def flow(self) -> Flow:
        return flow_of(self.board.device.target)

    @property
    def work(self) -> Path:
        return self.directory / "build"

    # --- netlist ---

    def _netlist(self) -> tuple[LinkConfig, Path]:
        """The synthesized whole; without a frame buffer where the plan has no block RAM for it,
        which spares a synthesis, or where the count shows that there is none.
        """
        for buffered in (True, False) if self._buffer_planned() else (False,):
            link = self._link(buffered=buffered)
            folder, counts = self._synthesized(link)
            if counts["bram"] <= self.board.device.bram:
                break
        _check_fit(counts, self.board)
        return link, folder

    def _buffer_planned(self) -> bool:
        path = self.directory / "compile.json"
        if not path.is_file():
            return True
        again = "run `gatewright compile` again"
        found = json_file.read_json(path, again)
        try:
            return bool(int(found["frame_buffer"]))
        except (ValueError, TypeError) as error:
            raise DataError(
                f"{path} must hold the number frame_buffer ({error!r}): {again}"
            ) from error

    def _link(self, *, buffered: bool) -> LinkConfig:
        identity = hashlib.sha256(self._rtl.encode()).digest()[:8]
        inputs, outputs = self._interface()
        return LinkConfig(
            inputs=inputs,
            outputs=outputs,
            clock_hz=round(self.clock_mhz * 1e6),
            link_hz=round((self.pll.beside_mhz or 0) * 1e6),
            baud=self.board.uart_baud,
            buffered=buffered,
            design_id=int.from_bytes(identity, "little"),
        )

    @cached_property
    def _rtl(self) -> str:
        """The accelerator without source locations."""
        return without_locations(self._accelerator().read_text())

    def _accelerator(self) -> Path:
        path = self.directory / "rtl" / "accelerator.il"
        if not path.is_file():
            raise DataError(
                f"{self.directory} holds no rtl/accelerator.il: run `gatewright "
                "compile` first, with -o naming this folder"
            )
        return path

    def _interface(self) -> tuple[tuple[LinkPort, ...], tuple[LinkPort, ...]]:
        """The accelerator's inputs and outputs, as the compiler wrote them down."""
        path = self.directory / "rtl" / "interface.json"
        again = "run `gatewright compile` again"
        found = json_file.read_json(path, again)
        if not isinstance(found, dict) or "beats_in" in found:
            raise DataError(f"{path}: not the interface that this gatewright writes; {again}")
        ports = []
        for way in ("inputs", "outputs"):
            if not isinstance(found[way], list) or not found[way]:
                raise DataError(f'{path}: "{way}" must list the ports; {again}')
            ports.append(link_ports(f"{path}: {way}", found[way]))
        return ports[0], ports[1]

    def _synthesized(self, link: LinkConfig) -> tuple[Path, Mapping[str, int]]:
        top = Top(self.board, self.pll, link)
        text = rtlil.convert(top, name="top", ports=top.ports, emit_src=False)
        key = synthesis.key(self.flow.synthesis, text, self._rtl)
        folder = self.work / f"netlist-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "top.il").write_text(text)
        counts = synthesis.synthesize(
            [self._accelerator(), folder / "top.il"],
            self.flow.synthesis,
            folder,
            "top",
            progress=self.progress,
        )
        return folder, counts

    # --- place and route ---

    def _route(self, netlist: Path, limit: Limit) -> list[_Routed]:
        constraints = self.flow.constraints(self.board)
        key = digest(
            (netlist / "netlist.json").read_bytes(),
            constraints,
            *self._route_flags(),
            *self.flow.routers,
            self.tools[self.flow.place].version,
        )
        folder = self.work / f"route-{key}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "pins").write_text(constraints)
        shutil.copyfile(netlist / "netlist.json", folder / "netlist.json")
        hopeless = limit.mhz < self.clock_mhz
        last = 1 if hopeless and self.seeds is None else self.seeds or SEEDS_UNTIL_MET
        return self._seeds(folder, range(1, last + 1))

    def _seeds(self, folder: Path, seeds: range) -> list[_Routed]:
        """Route the seeds, ``jobs`` at a time; stop early unless their number was asked for."""
        done: list[_Routed] = []
        failed: list[ToolError] = []
        with ThreadPoolExecutor(max(1, self.jobs)) as pool:
            futures = [pool.submit(self._seed, folder, seed) for seed in seeds]
            try:
                for future in as_completed(futures):
                    try:
                        done.append(future.result())
                    except tools.Stopped:
                        continue
                    except ToolError as error:
                        failed.append(error)
                        if not done and len(failed) >= _HOPELESS:
                            self.stop.set()
                        continue
                    self.progress(
                        f"seed {done[-1].seed}: {done[-1].fmax_mhz:.1f} MHz", len(done) / len(seeds)
                    )
                    if (
                        self.seeds is None
                        and done[-1].others_met
                        and done[-1].fmax_mhz >= self.clock_mhz
                    ):
                        self.stop.set()
            finally:
                self.stop.set()
        if not done:
            raise self._told(failed[0])
        return done

    def _told(self, error: ToolError) -> GatewrightError:
        """The error as it is, or as one of size where the tool ran out of places."""
        if not any(words in str(error) for words in _NO_ROOM):
            return error
        return FitError(
            f"the design does not fit {self.board.name}: place and route found no room "
            "for all of it. Compile with --goal area or a lower --goal fps=N, or for a "
            f"larger board. The tool's own words: {error}"
        )

    def _seed(self, folder: Path, seed: int) -> _Routed:
        report, routed = folder / f"seed-{seed}.json", folder / f"seed-{seed}.routed"
        if not report.exists():
            if self.stop.is_set():
                raise tools.Stopped(f"seed {seed} was not needed")
            self.progress(f"place and route, seed {seed}", None)
            self._place_and_route(folder, seed)
            os.replace(folder / f"seed-{seed}.unfinished", routed)
            os.replace(folder / f"seed-{seed}.report", report)
        found = read_json(report)
        if not found["fmax"]:
            raise ToolError(f"nextpnr found no clock in the design; its report: {report}")
        fmax, others_met = _speeds(found["fmax"].values(), self.clock_mhz, self.pll.beside_mhz)
        return _Routed(seed, fmax, others_met, found["utilization"], routed)

    def _place_and_route(self, folder: Path, seed: int) -> None:
        """Run the better router; if it stalls, place anew; if that stalls too, the other router."""
        better, other = self.flow.routers
        flags = [
            *self._route_flags(),
            "--report",
            f"seed-{seed}.report",
            self.flow.routed_option,
            f"seed-{seed}.unfinished",
        ]
        place, log = self.tools[self.flow.place], folder / f"seed-{seed}.log"
        for start, router, patience in (
            (seed, better, _PATIENCE_SECONDS),
            (seed + _ANEW, better, _PATIENCE_SECONDS),
            (seed, other, None),
        ):
            try:
                place.run(
                    [*flags, "--seed", str(start), "--router", router],
                    folder,
                    log,
                    stop=self.stop,
                    patience=patience,
                )
                return
            except tools.Stuck:
                self.progress(f"place and route, seed {seed}, anew", None)

    def _route_flags(self) -> list[str]:
        board = self.board
        speed = ["--speed", board.speed] if board.speed else []
        return [
            board.chip,
            "--package",
            board.package,
            *speed,
            "--json",
            "netlist.json",
            self.flow.constraints_option,
            "pins",
            "--freq",
            f"{self.clock_mhz:.6f}",
            "--timing-allow-fail",
        ]

    # --- results ---

    def _bitstream(self, best: _Routed) -> str:
        self.progress("bitstream", None)
        folder = best.file.parent
        self.tools[self.flow.pack].run(
            [*self.flow.pack_options, best.file.name, "bitstream"], folder, folder / "pack.log"
        )
        self._remove_bitstreams()
        name = self.work / f"{self.board.name}{self.flow.bitstream_suffix}"
        os.replace(folder / "bitstream", name)
        self.progress("bitstream", 1.0)
        return name.relative_to(self.directory).as_posix()

    def _remove_bitstreams(self) -> None:
        for flow in FLOWS:
            for stale in self.work.glob(f"*{flow.bitstream_suffix}"):
                stale.unlink()

    def _utilization(self, best: _Routed, netlist: Path) -> dict[str, Use]:
        """What nextpnr counted; flip-flops from the netlist where it counts them with the LUTs."""
        use = {
            name: Use(best.utilization[site]["used"], best.utilization[site]["available"])
            for site, name in self.flow.sites.items()
            if site in best.utilization
        }
        use.setdefault("ff", Use(read_json(netlist / "counts.json")["ff"], self.board.device.ff))
        return use

    def _forget(self, netlist: Path) -> None:
        """Drop what earlier, different netlists left."""
        for folder in self.work.glob("netlist-*"):
            if folder != netlist:
                shutil.rmtree(folder, ignore_errors=True)


def _speeds(
    clocks: Iterable[Mapping[str, float]], own_mhz: float, beside_mhz: float | None
) -> tuple[float, bool]:
    """The accelerator's clock, of nextpnr's ``clocks``, and whether the one beside it is met.

    A clock is known by its constraint (in whole picoseconds, so only about that of the two which
    it should be), for its name is what synthesis left of it.
    """
    own, others_met = [], True
    for clock in clocks:
        achieved, constraint = float(clock["achieved"]), float(clock["constraint"])
        if beside_mhz is not None and abs(constraint - beside_mhz) < abs(constraint - own_mhz):
            others_met &= achieved >= constraint
        else:
            own.append(achieved)
    return min(own, default=0.0), others_met


def _timing_message(result: BuildResult, others_met: bool) -> str:
    if not others_met:
        return (
            f"timing is not met on {result.board}: the link misses its own clock of "
            f"{result.link.uart_hz / 1e6:g} MHz. Nothing was written that could be flashed. "
            "Try more seeds (--seeds)"
        )
    capped = (
        f" ({result.limit_reason} allows no more)" if result.fmax_mhz >= result.limit_mhz else ""
    )
    tried = f"{len(result.seeds)} seed" + ("s" if len(result.seeds) > 1 else "")
    return (
        f"timing is not met on {result.board}: {result.fmax_mhz:.1f} MHz was reached{capped}, "
        f"{result.clock_mhz:.1f} MHz is needed ({tried} tried). Nothing was written that could "
        f"be flashed. Ask for a lower clock (--target-mhz {int(result.fmax_mhz)}), try more "
        "seeds (--seeds), or compile with a smaller array"
    )

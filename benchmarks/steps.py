"""The steps of one entry, from compile to LiteRT, each kept until its inputs change.

OUT/resnet8-rate/       what `gatewright compile` and the later steps write
OUT/resnet8-rate.json   what each step was made from (a hash), its seconds, or why it failed
"""

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import onnx
from gatewright import boards
from gatewright.benchmarks import icarus, litert
from gatewright.benchmarks.networks import NETWORKS
from gatewright.boards.flow.build import build
from gatewright.boards.flow.cache import digest
from gatewright.compiler.data import Samples
from gatewright.compiler.driver import Compiled, compile_model, open_compiled
from gatewright.compiler.emit import without_locations
from gatewright.compiler.errors import GatewrightError, TimingError
from gatewright.compiler.json_file import write_json
from gatewright.compiler.plan import Goal
from gatewright.compiler.progress import Progress
from gatewright.sim.bench import bench
from gatewright.sim.simulate import simulate

__all__ = ["STEPS", "Entry", "Settings", "Variant", "record", "run", "source_hash"]

Summary = dict[str, Any]

STEPS = ("compile", "simulate", "energy", "icarus", "build", "bench", "litert")
PACKAGE = Path(boards.__file__).parents[1]
#: test frames that the CPU is measured on, in turn
CPU_FRAMES = 64


@dataclass(frozen=True)
class Variant:
    """A way to compile: ``options`` are further arguments of ``compile_model``."""

    title: str
    goal: Goal
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Entry:
    """A network, compiled one way for a board that is asked for a clock."""

    network: str
    variant: str
    board: str
    target_mhz: float

    @property
    def name(self) -> str:
        return f"{self.network}-{self.variant}"


@dataclass(frozen=True)
class Settings:
    """``frames`` simulated; ``seeds`` routed, ``jobs`` at a time; ``seconds`` for each measurement
    of the CPU. Without ``build`` nothing is routed; steps in ``again`` are not taken from before.
    """

    frames: int = 4
    seeds: int = 5
    jobs: int = 1
    build: bool = True
    seconds: float = 1.0
    again: tuple[str, ...] = ()


def run(entry: Entry, variant: Variant, out: Path, settings: Settings, progress: Progress) -> None:
    """Take the steps of ``entry`` that are not kept in ``out``; what fails is kept as a message."""
    _Run(entry, variant, out, settings, progress).steps()


def record(entry: Entry, out: Path) -> Summary:
    """What is kept of ``entry``: each step's JSON, ``seconds``, and messages in ``failed``.

    ``load``: the machine's load average when the CPU's turn came, over the last minute.
    """
    kept = _kept(out, entry)
    network = NETWORKS[entry.network]
    done = [step for step in STEPS if "seconds" in kept.get(step, {})]
    return {
        **asdict(entry),
        "title": network.title,
        "source": kept.get("source"),
        "load": kept.get("load", {}),
        "seconds": {step: kept[step]["seconds"] for step in done},
        "failed": {step: kept[step]["error"] for step in kept if "error" in kept[step]},
        **{
            step: _read(out / entry.name / f"{step}.json") if step in done else {} for step in STEPS
        },
    }


def source_hash(*folders: str) -> str:
    """Of everything in the package that results can depend on, or of those ``folders`` of it."""
    files = [
        path
        for folder in folders or ("boards", "compiler", "hw", "sim")
        for path in sorted((PACKAGE / folder).rglob("*"))
        if path.suffix in (".py", ".v", ".sv")
    ]
    return digest(
        *(part for path in files for part in (str(path.relative_to(PACKAGE)), path.read_bytes()))
    )


@dataclass
class _Run:
    entry: Entry
    variant: Variant
    out: Path
    settings: Settings
    progress: Progress

    def __post_init__(self) -> None:
        self.network = NETWORKS[self.entry.network]
        self.board = boards.get(self.entry.board)
        self.directory = self.out / self.entry.name
        self.kept = _kept(self.out, self.entry)

    def steps(self) -> None:
        source = source_hash()
        if not self._step("compile", source, self._compile, *self._compile_inputs()):
            return
        self._keep(source=source)
        compiled = open_compiled(self.directory, lambda _: self.board.device)
        made = self._made(self.directory)
        self._step("simulate", made, lambda: self._simulate(compiled), str(self.settings.frames))
        self._step("energy", made, lambda: self._energy(compiled))
        if icarus.available():
            self._step("icarus", made, lambda: self._icarus(compiled))
        if self.settings.build and self._step(
            "build", made, self._build, str(self.entry.target_mhz), str(self.settings.seeds)
        ):
            self._keep(build=self.kept["build"] | self._spent())
        seconds = str(self.settings.seconds)
        self._step(
            "bench",
            made,
            lambda: self._bench(compiled),
            seconds,
            *(_text(self.directory / f"{step}.json") for step in ("compile", "simulate", "build")),
        )
        if litert.available():
            self._step("litert", made, lambda: self._litert(compiled), seconds)

    def _step(self, name: str, made: str, action: Callable[[], None], *inputs: str | bytes) -> bool:
        """Take a step unless it is kept, made from the same; False when it fails."""
        key, before = digest(made, *inputs), self.kept.get(name, {})
        kept = before.get("key") == key and (self.directory / f"{name}.json").exists()
        if kept and name not in self.settings.again:
            self.progress(f"{self.entry.name}: {name} (cached)", 1.0)
            return True
        self.progress(f"{self.entry.name}: {name}")
        began = perf_counter()
        try:
            action()
        except GatewrightError as error:
            self._keep(**{name: {"error": str(error)}})
            self.progress(f"{self.entry.name}: {name} failed: {error}", 1.0)
            return False
        self._keep(**{name: {"key": key, "seconds": round(perf_counter() - began, 1)}})
        return True

    def _keep(self, **what: Any) -> None:
        self.kept |= what
        write_json(_state(self.out, self.entry), self.kept)

    # --- the steps ---

    def _compile_inputs(self) -> tuple[str | bytes, ...]:
        self.model = self.network.model()
        self.samples = self.network.calibration()
        return (
            self.model.SerializeToString(),
            self.samples.tobytes(),
            self.entry.board,
            repr(self.variant),
        )

    def _compile(self) -> None:
        """Compile afresh; where that gives other hardware, later results are dropped, all but the
        routed seeds.
        """
        path = self.out / "models" / f"{self.entry.network}.onnx"
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(self.model, path)
        fresh, kept = self.out / f".{self.entry.name}.new", self.kept
        self.kept = {}  # and so it stays where the compile fails
        shutil.rmtree(fresh, ignore_errors=True)
        compile_model(
            path,
            fresh,
            self.board.device,
            self.entry.board,
            samples=self.samples,
            goal=self.variant.goal,
            progress=self._announce("compile"),
            **self.variant.options,
        )
        same = self._made(fresh) == self._made(self.directory)
        if same:
            self.kept = kept
        for old in self.directory.iterdir() if self.directory.exists() else ():
            if (same or old.name == "build") and not (fresh / old.name).exists():
                old.rename(fresh / old.name)
        shutil.rmtree(self.directory, ignore_errors=True)
        fresh.rename(self.directory)

    def _made(self, directory: Path) -> str:
        """Of the hardware and the network that a compile left, and of the code that runs them."""
        rtl, network = directory / "rtl" / "accelerator.il", directory / "model.int8.onnx"
        return digest(
            source_hash("boards", "sim"),
            *([without_locations(rtl.read_text())] if rtl.exists() else []),
            *([network.read_bytes()] if network.exists() else []),
        )

    def _simulate(self, compiled: Compiled) -> None:
        simulate(
            compiled,
            self.network.frames(self.settings.frames),
            progress=self._announce("simulate"),
        )

    def _energy(self, compiled: Compiled) -> None:
        """In a run of its own: the simulator that counts what changes is slower."""
        done = simulate(
            compiled,
            self.network.frames(1),
            energy=True,
            progress=self._announce("energy"),
            record=False,
        )
        write_json(self.directory / "energy.json", done.summary["energy"])

    def _icarus(self, compiled: Compiled) -> None:
        found = icarus.pace(compiled, self.network.frames(1))
        (self.directory / "icarus.json").write_text(json.dumps(found, indent=1) + "\n")

    def _build(self) -> None:
        """Route all seeds; a clock that is not met is a result too, and ``build.json`` has it.

        The seconds of this design's earlier runs are kept with its seeds, so that an interrupted
        build tells its whole time.
        """
        began = perf_counter()
        try:
            build(
                self.directory,
                self.board,
                self.entry.target_mhz,
                seeds=self.settings.seeds,
                jobs=self.settings.jobs,
                progress=self._announce("build"),
            )
        except TimingError as error:
            self.progress(f"{self.entry.name}: {error}", 1.0)
        finally:
            self._spend(perf_counter() - began)

    def _bench(self, compiled: Compiled) -> None:
        self._note_load("bench")
        samples = Samples(self.network.frames(CPU_FRAMES))
        bench(
            compiled,
            samples,
            self.entry.target_mhz,
            progress=self._announce("bench"),
            seconds=self.settings.seconds,
        )

    def _litert(self, compiled: Compiled) -> None:
        self._note_load("litert")
        cores = _read(self.directory / "bench.json")["machine"]["cores"]
        found = litert.references(
            compiled.graph,
            self.network.frames(CPU_FRAMES),
            tuple(sorted({1, cores})),
            self.settings.seconds,
        )
        (self.directory / "litert.json").write_text(json.dumps(found, indent=1) + "\n")

    def _note_load(self, step: str) -> None:
        self._keep(load=self.kept.get("load", {}) | {step: round(os.getloadavg()[0], 1)})

    def _announce(self, step: str) -> Progress:
        """Progress of ``step``, under its name and that of the network."""

        def report(what: str, fraction: float | None = None, /) -> None:
            self.progress(f"{self.entry.name}: {step}, {what}", fraction)

        return report

    # --- the time that place and route took, over all runs ---

    def _spend(self, seconds: float) -> None:
        folder = self.directory / "build"
        folder.mkdir(exist_ok=True)
        before = self._spent().get("seconds", 0.0)
        (folder / "spent.json").write_text(
            json.dumps({"design": self._design(), "seconds": round(before + seconds, 1)}) + "\n"
        )

    def _spent(self) -> Summary:
        """``seconds``, if a build of just this design has begun."""
        found = _read(self.directory / "build" / "spent.json")
        return {"seconds": found["seconds"]} if found.get("design") == self._design() else {}

    def _design(self) -> str:
        rtl = self.directory / "rtl" / "accelerator.il"
        return digest(without_locations(rtl.read_text()), str(self.entry.target_mhz))


def _state(out: Path, entry: Entry) -> Path:
    return out / f"{entry.name}.json"


def _kept(out: Path, entry: Entry) -> Summary:
    return _read(_state(out, entry))


def _read(path: Path) -> Summary:
    content: Summary = json.loads(_text(path) or "{}")
    return content


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""

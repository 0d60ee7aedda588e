"""Builds a simulator around an accelerator's Verilog, runs whole frames through it, compares.

:func:`simulate` runs, :func:`verify` runs and finds the first layer that is wrong. The bench
(``bench.sv``) moves the beats; cocotb (``testbench.py``) starts it and waits.
"""

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from time import perf_counter
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ..compiler.errors import SimulationError, ToolError
from ..compiler.progress import Progress, silent
from .agents import StreamFormat, Tap, beats_of, read_beats, write_beats
from .probes import NO_PROBES, Counts, Probes
from .scoreboard import Mismatch, compare, count
from .simulators import SAIF, Testbench, built
from .simulators import simulator as simulator_called

__all__ = ["Deadlock", "Report", "Run", "simulate", "verify"]

_POLL_SECONDS = 0.2
_NO_DEFINES: Mapping[str, str] = MappingProxyType({})


class Deadlock(SimulationError):
    """No beat moved for as long as the caller was ready to wait."""


@dataclass(frozen=True)
class Run:
    """What a simulation showed. Cycles are counted from the end of the reset.

    Each of ``outputs`` and of ``taps`` (by the name of its stream) is [n, h, w, c]; a tap whose
    stream ended within a frame is [pixels, c]. ``frame_cycles`` holds, for every frame, the cycle
    in which the first beat at any input was taken and the one in which the last beat of any output
    left. ``latency_cycles`` is the difference in the first frame. ``interval_cycles`` is that of
    the slowest output, between the last beats of its last two frames: the steady state, once enough
    frames were run for the pipeline to be full; ``None`` with a single frame. ``stalled_cycles``
    counts, over all ports, those in which a source withheld a beat that could have been taken, and
    those in which a sink left a beat waiting. ``wall_seconds`` is the simulation alone, without
    building and starting it.
    """

    outputs: Mapping[str, NDArray[np.integer]]
    taps: Mapping[str, NDArray[np.integer]]
    latency_cycles: int
    interval_cycles: int | None
    frame_cycles: tuple[tuple[int, int], ...]
    stalled_cycles: tuple[int, int]
    cycles: int
    wall_seconds: float
    build_seconds: float
    simulator: str
    first_beat: int
    counts: Counts

    @property
    def cycles_per_second(self) -> float:
        return self.cycles / self.wall_seconds


@dataclass(frozen=True)
class Report:
    """A run compared with the golden model: ``mismatches`` of the outputs' ``values`` differ.

    ``first_mismatch`` is that of the first layer in flow order that is wrong; ``waves``, if any
    could be written, end just after the first wrong frame.
    """

    run: Run
    values: int
    mismatches: int
    first_mismatch: Mismatch | None
    waves: Path | None

    @property
    def passed(self) -> bool:
        return self.first_mismatch is None

    def __str__(self) -> str:
        if self.first_mismatch is None:
            return f"{self.values} values, all equal to the golden model"
        waves = f"; waves: {self.waves}" if self.waves else ""
        return (
            f"{self.mismatches} of {self.values} output values differ; "
            f"first in {self.first_mismatch}{waves}"
        )


def simulate(
    verilog: Path,
    *,
    sources: Mapping[str, StreamFormat],
    sinks: Mapping[str, StreamFormat],
    frames: Mapping[str, NDArray[np.integer]],
    work: Path,
    timeout_cycles: int,
    taps: Sequence[Tap] = (),
    stall: float = 0.0,
    hold: int = 1,
    seed: int = 0,
    waves: Path | None = None,
    simulator: str = "verilator",
    extra_sources: Sequence[Path] = (),
    defines: Mapping[str, str] = _NO_DEFINES,
    progress: Progress = silent,
) -> Run:
    """Run frames back to back through the module ``accelerator``.

    ``sources`` and ``sinks`` are the streams of its ports by the prefix of their signals; no two of
    either have one name. ``frames`` [n, h, w, c] are those of each source, by its stream's name.
    With a chance of ``stall`` in each cycle a source withholds its beat, and a sink is not ready,
    each port by itself; ``hold`` (a power of two) lets each such draw last up to that many cycles,
    so that back-pressure reaches stages that take long. ``seed`` decides them all. The simulation
    ends when all beats have moved, or with ``Deadlock`` when none did for ``timeout_cycles``
    unstalled ones.

    ``extra_sources`` are compiled in front of ``verilog`` (a netlist's cells), with ``defines``;
    ``*.vh`` files in their folders can be included. ``waves`` is an ``.fst`` or ``.vcd`` file, or
    with Verilator an ``.saif`` file: how often each bit changed. The built simulator is kept in
    ``work`` and used again while nothing it was made from changes. ``progress`` is called from
    another thread.

    Raises ``SimulationError`` when the accelerator breaks the stream's rules, ``DataError`` when
    a source can not carry its samples, ``ToolError`` when a tool is missing or fails.
    """
    bench = Testbench(
        verilog, dict(sources), dict(sinks), tuple(taps), tuple(extra_sources), dict(defines)
    )
    session = _Session(simulator, work, _Stimulus(stall, hold, seed, timeout_cycles))
    trace = session.run(bench, frames, waves, progress)
    trace.check()
    return trace.result()


def verify(
    verilog: Path,
    *,
    sources: Mapping[str, StreamFormat],
    sinks: Mapping[str, StreamFormat],
    frames: Mapping[str, NDArray[np.integer]],
    golden: Mapping[str, NDArray[np.integer]],
    work: Path,
    timeout_cycles: int,
    taps: Sequence[Tap] = (),
    probe: bool = False,
    stall: float = 0.0,
    hold: int = 1,
    seed: int = 0,
    waves: Path | None = None,
    simulator: str = "verilator",
    extra_sources: Sequence[Path] = (),
    defines: Mapping[str, str] = _NO_DEFINES,
    probes: Probes = NO_PROBES,
    progress: Progress = silent,
) -> Report:
    """Simulate, and compare with ``golden``: the right values of each sink and tap, by name.

    ``probes`` say what is counted of stages and queues.
    The first run has no taps (unless ``probe`` asks that every layer be compared): it is the
    fastest to build and to run. When its output is wrong, or it stands still, a second one, up to
    the first wrong frame, records all taps and the waves (``waves``, else ``mismatch.fst`` in
    ``work``) and finds the first layer that differs, in the order of ``taps``.

    Raises what :func:`simulate` does; a ``Deadlock`` then also tells where the beats ended.
    """
    session = _Session(simulator, work, _Stimulus(stall, hold, seed, timeout_cycles))
    probed = Testbench(
        verilog,
        dict(sources),
        dict(sinks),
        tuple(taps),
        tuple(extra_sources),
        dict(defines),
        probes,
    )
    outputs = [stream.name for stream in sinks.values()]
    layers = dict.fromkeys([*(tap.stream.name for tap in taps), *outputs])
    expected = {name: np.asarray(golden[name]) for name in layers}

    trace = session.run(probed if probe else replace(probed, taps=()), frames, waves, progress)
    if trace.stands_still:
        raise Deadlock(_explain_deadlock(session, trace, probed, expected, frames, waves))
    trace.check()
    run = trace.result()
    mismatches = sum(count(expected[name], run.outputs[name]) for name in outputs)
    values = sum(expected[name].size for name in outputs)
    first = compare(expected, trace.values)
    if first is not None:
        first, waves = _locate(session, probed, expected, first, frames, waves)
    return Report(run, values, mismatches, first, waves)


# --- the second look ---------------------------------------------------------------------------


def _locate(
    session: "_Session",
    bench: Testbench,
    expected: Mapping[str, NDArray[np.integer]],
    known: Mismatch,
    frames: Mapping[str, NDArray[np.integer]],
    waves: Path | None,
) -> tuple[Mismatch, Path | None]:
    """The first layer that differs, and waves that end with the frame known to be wrong."""
    last = known.frame + 1
    frames = {name: each[:last] for name, each in frames.items()}
    trace, waves = session.run_again(bench, frames, waves)
    found = compare({name: values[:last] for name, values in expected.items()}, trace.values)
    # If no tap is wrong earlier, what is known counts all frames: it says more.
    return (known if found is None or found.layer == known.layer else found), waves


def _explain_deadlock(
    session: "_Session",
    trace: "_Trace",
    bench: Testbench,
    expected: Mapping[str, NDArray[np.integer]],
    frames: Mapping[str, NDArray[np.integer]],
    waves: Path | None,
) -> str:
    again, waves = session.run_again(bench, frames, waves)
    wrong = compare(expected, again.values, missing_is_wrong=False)
    lines = [
        trace.deadlock(),
        *(
            f"    {tap.stream.name}: {again.tap_beats[tap]} of "
            f"{again.frames * tap.stream.frame_beats} beats"
            for tap in bench.taps
        ),
        *([f"the first wrong value: {wrong}"] if wrong else []),
        *([f"waves: {waves}"] if waves else []),
    ]
    return "\n".join(lines)


# --- one run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Stimulus:
    stall: float
    hold: int
    seed: int
    timeout_cycles: int

    def __post_init__(self) -> None:
        if not 0 <= self.stall < 1:
            raise SimulationError(
                f"stall is the chance that a stream stalls in a cycle: from 0 to "
                f"below 1, not {self.stall}"
            )
        if self.hold < 1 or self.hold & (self.hold - 1):
            raise SimulationError(f"hold must be a power of two, not {self.hold}")
        if self.timeout_cycles < 1:
            raise SimulationError(f"timeout_cycles must be at least 1, not {self.timeout_cycles}")

    def plusargs(self, bench: Testbench, frames: int) -> list[str]:
        ports = [
            *((f"source_{at}", stream) for at, stream in enumerate(bench.sources.values())),
            *((f"sink_{at}", stream) for at, stream in enumerate(bench.sinks.values())),
        ]
        seeds = np.random.SeedSequence(self.seed).generate_state(len(ports)) | 1
        # In a stalled cycle the accelerator has no chance to show that it is alive.
        longest = 8 * self.hold if self.stall else 0
        values = {
            "stall": min(round(self.stall * 2**32), 2**32 - 1),
            "hold": self.hold,
            "watchdog": ceil(self.timeout_cycles / (1 - self.stall)) + longest,
        }
        for (name, stream), seed in zip(ports, seeds, strict=True):
            values[f"{name}_beats"] = frames * stream.frame_beats
            values[f"{name}_frame"] = stream.frame_beats
            values[f"{name}_seed"] = int(seed)
        for at, tap in enumerate(bench.taps):
            values[f"tap_beats_{at}"] = frames * tap.stream.frame_beats
        values |= {"span": bench.probes.span, "spans": bench.probes.spans}
        return [f"+{name}={value}" for name, value in values.items()]


@dataclass(frozen=True)
class _PortTrace:
    """What one port of the accelerator did: ``moved`` of ``due`` beats, and ``cycles`` of each
    frame's first beat in or last beat out.
    """

    prefix: str
    moved: int
    due: int
    stalls: int
    cycles: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.prefix}: {self.moved} of {self.due} beats"


@dataclass(frozen=True)
class _SinkTrace(_PortTrace):
    """The same of an output, with how it broke the rules of the stream."""

    frame: int
    bad_lasts: int
    bad_last: int
    broken_valid: bool

    def check(self) -> None:
        """Raise ``SimulationError`` unless all beats came out, no more, and by the rules."""
        if self.moved > self.due:
            raise SimulationError(
                f"{self.prefix} repeats beats: {self.due} were due, and more came out"
            )
        if self.broken_valid:
            raise SimulationError(
                f"{self.prefix} took back or changed a beat that waited for "
                f"{self.prefix}_tready: a stage drops {self.prefix}_tvalid, or lets its data "
                "move, before the handshake"
            )
        if self.bad_lasts:
            raise SimulationError(
                f"{self.prefix}_tlast is wrong in {self.bad_lasts} beats, first in beat "
                f"{self.bad_last}; a frame ends every {self.frame} beats"
            )


@dataclass(frozen=True)
class _Trace:
    """What the bench wrote, complete or not."""

    frames: int
    counters: Mapping[str, int | float]
    sources: tuple[_PortTrace, ...]
    sinks: tuple[_SinkTrace, ...]
    outputs: Mapping[str, NDArray[np.integer]]
    taps: Mapping[str, NDArray[np.integer]]
    tap_beats: Mapping[Tap, int]
    build_seconds: float
    simulator: str
    counts: Counts

    @property
    def values(self) -> Mapping[str, NDArray[np.integer]]:
        """What each layer that can be seen said, in flow order."""
        return {**self.taps, **self.outputs}

    @property
    def stands_still(self) -> bool:
        return any(port.moved < port.due for port in (*self.sources, *self.sinks))

    def deadlock(self) -> str:
        quiet = int(self.counters["quiet"])
        ports = [
            *(f"{port.moved} of {port.due} beats had gone in" for port in self.sources),
            *(f"{port.moved} of {port.due} had come out" for port in self.sinks),
        ]
        if len(ports) > 2:
            ports = [str(port) for port in (*self.sources, *self.sinks)]
        joined = " and ".join(ports) if len(ports) == 2 else ", ".join(ports)
        return (
            f"the accelerator stands still: no beat moved for {quiet} cycles, since cycle "
            f"{int(self.counters['cycle']) - quiet}; {joined}"
        )

    def check(self) -> None:
        """Raise ``SimulationError`` unless all beats came out, no more, and by the rules."""
        if self.stands_still:
            raise Deadlock(self.deadlock())
        for sink in self.sinks:
            sink.check()

    def result(self) -> Run:
        first = [
            min(cycles) for cycles in zip(*(port.cycles for port in self.sources), strict=True)
        ]
        last = [max(cycles) for cycles in zip(*(port.cycles for port in self.sinks), strict=True)]
        return Run(
            outputs=self.outputs,
            taps=self.taps,
            latency_cycles=last[0] - first[0],
            interval_cycles=max(port.cycles[-1] - port.cycles[-2] for port in self.sinks)
            if self.frames > 1
            else None,
            frame_cycles=tuple(zip(first, last, strict=True)),
            stalled_cycles=(
                sum(port.stalls for port in self.sources),
                sum(port.stalls for port in self.sinks),
            ),
            cycles=int(self.counters["cycle"]),
            wall_seconds=float(self.counters["seconds"]),
            build_seconds=self.build_seconds,
            simulator=self.simulator,
            first_beat=min(int(self.counters[f"sink_{at}_first"]) for at in range(len(self.sinks))),
            counts=self.counts,
        )


@dataclass(frozen=True)
class _Session:
    """One simulator, one folder to work in, and one way to stall, for one run or two."""

    simulator: str
    work: Path
    stimulus: _Stimulus

    def run(
        self,
        bench: Testbench,
        frames: Mapping[str, NDArray[np.integer]],
        waves: Path | None,
        progress: Progress = silent,
    ) -> _Trace:
        number = min(len(each) for each in frames.values())
        if number == 0:
            raise SimulationError("there is no frame to simulate")
        work = self.work.resolve()
        simulator = simulator_called(self.simulator, bench, waves)
        began = perf_counter()
        binary = built(simulator, work)
        build_seconds = perf_counter() - began
        log = work / "simulation.log"
        with tempfile.TemporaryDirectory(prefix=".run-", dir=work) as folder:
            here = Path(folder)
            for at, stream in enumerate(bench.sources.values()):
                write_beats(here / f"source_{at}.hex", stream, frames[stream.name])
            (here / "counters.txt").write_text("\n".join(bench.counters()))
            ends = [here / f"sink_{at}.cycles" for at, _ in enumerate(bench.sinks)]
            with _watched(ends, number, progress):
                simulator.start(binary, self.stimulus.plusargs(bench, number), here, log)
            if waves is not None:
                _keep_waves(here / "waves", waves)
            return _read_trace(bench, here, log, number, build_seconds, simulator.description)

    def run_again(
        self, bench: Testbench, frames: Mapping[str, NDArray[np.integer]], waves: Path | None
    ) -> tuple[_Trace, Path | None]:
        """The same beats in the same cycles, with waves where they can be written."""
        if waves is None or waves.suffix == SAIF:  # which shows no moment
            waves = self.work / "mismatch.fst"
        try:
            return self.run(bench, frames, waves), waves
        except ToolError:
            return self.run(bench, frames, None), None


def _read_trace(
    bench: "Testbench", here: Path, log: Path, frames: int, build_seconds: float, simulator: str
) -> _Trace:
    if not (here / "counters.json").exists():
        raise SimulationError(
            f"the simulator ended before the run did:\n{_tail(log)}\nThe whole log: {log}"
        )
    counters = json.loads((here / "counters.json").read_text())
    taps = [(tap, here / f"tap_{at}.hex") for at, tap in enumerate(bench.taps)]
    sinks = [(stream, here / f"sink_{at}.hex") for at, stream in enumerate(bench.sinks.values())]
    return _Trace(
        frames=frames,
        counters=counters,
        sources=tuple(
            _PortTrace(*_port(here, f"source_{at}", prefix, frames * stream.frame_beats, counters))
            for at, (prefix, stream) in enumerate(bench.sources.items())
        ),
        sinks=tuple(
            _SinkTrace(
                *_port(here, f"sink_{at}", prefix, frames * stream.frame_beats, counters),
                stream.frame_beats,
                counters[f"sink_{at}_bad_lasts"],
                counters[f"sink_{at}_bad_last"],
                bool(counters[f"sink_{at}_broken_valid"]),
            )
            for at, (prefix, stream) in enumerate(bench.sinks.items())
        ),
        outputs={
            stream.name: _frames(stream, read_beats(file, stream), frames) for stream, file in sinks
        },
        taps={
            tap.stream.name: _frames(tap.stream, read_beats(file, tap.stream), frames)
            for tap, file in taps
        },
        tap_beats={tap: beats_of(file, tap.stream) for tap, file in taps},
        build_seconds=build_seconds,
        simulator=simulator,
        counts=Counts.read(here, bench.probes),
    )


def _port(
    here: Path, name: str, prefix: str, due: int, counters: Mapping[str, int]
) -> tuple[str, int, int, int, tuple[int, ...]]:
    cycles = tuple(int(line) for line in (here / f"{name}.cycles").read_text().split())
    return prefix, counters[f"{name}_moved"], due, counters[f"{name}_stalls"], cycles


def _frames(stream: StreamFormat, pixels: NDArray[np.integer], frames: int) -> NDArray[np.integer]:
    """[pixels, c] as [frames, h, w, c] when every beat came, and just these, else as it is."""
    height, width, channels = stream.shape
    if len(pixels) != frames * height * width:
        return pixels
    return pixels.reshape(frames, height, width, channels)


def _keep_waves(written: Path, waves: Path) -> None:
    if not written.exists():
        raise SimulationError("the simulator wrote no waves")
    waves.parent.mkdir(parents=True, exist_ok=True)
    beside = waves.with_name(f".{waves.name}.part")
    shutil.move(written, beside)
    beside.replace(waves)


@contextmanager
def _watched(ends: Sequence[Path], frames: int, progress: Progress) -> Iterator[None]:
    """Report how many frames have ended at all outputs while the body runs."""
    if progress is silent:  # nobody listens, so nothing polls the files
        yield
        return
    stop = threading.Event()

    def report(done: int) -> None:
        progress(f"simulating frame {done} of {frames}", done / frames)

    def watch() -> None:
        while not stop.wait(_POLL_SECONDS):
            done = [file.read_bytes().count(b"\n") if file.exists() else 0 for file in ends]
            report(min(done))

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()
    report(frames)


def _tail(log: Path) -> str:
    return "\n".join(f"    {line}" for line in log.read_text(errors="replace").splitlines()[-8:])

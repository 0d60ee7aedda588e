"""The simulate step: a compiled network's RTL against the golden model."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..compiler import ir, limits
from ..compiler.brief import Brief
from ..compiler.driver import Compiled
from ..compiler.emit import signal_names
from ..compiler.errors import DataError
from ..compiler.ir.feeds import count, take
from ..compiler.numpy_file import write_arrays
from ..compiler.plan import latency
from ..compiler.progress import Progress, silent
from ..hw import port_prefixes
from . import golden
from .agents import StreamFormat, Tap
from .energy import energy as energy_of
from .energy import published
from .plausibility import InputRanges
from .probes import Probes, activity, probes
from .runner import Report, verify
from .simulators import SAIF
from .toggles import register_toggles

__all__ = ["Simulated", "Streams", "check_counting", "check_stimulus", "simulate", "streams"]


class NetlistFiles(Protocol):
    """A synthesized accelerator: its Verilog, the models of its cells, and how to read those."""

    @property
    def verilog(self) -> Path: ...
    @property
    def cells(self) -> tuple[Path, ...]: ...
    @property
    def defines(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, eq=False, repr=False)
class Simulated(Brief):
    """What a simulation came to; ``summary`` is the content of ``simulate.json``.

    ``outputs``: the model's outputs by name, [frames, *shape], host steps included.
    """

    report: Report
    outputs: dict[str, NDArray[np.generic]]
    summary: dict[str, Any]

    def facts(self) -> dict[str, object]:
        wrong, energy = self.summary["mismatches"], self.summary.get("energy")
        return {
            "verdict": "equal to the golden model" if self.passed else f"{wrong:,} values differ",
            "frames": self.summary["frames"],
            "values": f"{self.summary['values']:,}",
            "latency": f"{self.summary['latency_cycles']:,} cycles",
            "interval": f"{self.summary['interval_cycles']} cycles a frame",
            **(
                {"energy": f"≈ {energy['dynamic_nj']:,.0f} nJ a frame, without idle"}
                if energy
                else {}
            ),
        }

    @property
    def passed(self) -> bool:
        return self.report.passed


@dataclass(frozen=True, eq=False)
class Streams:
    """The streams of a compiled network: those of its inputs and outputs, by the prefix of their
    ports' signals, and that which leaves each stage.

    A source is called after its input, a sink after its value; an output of a value that another
    one carries too is called after both.
    """

    sources: Mapping[str, StreamFormat]
    sinks: Mapping[str, StreamFormat]
    taps: tuple[Tap, ...]


def streams(compiled: Compiled) -> Streams:
    """How values move at the ports of a compiled network and between its stages."""
    graph, network = compiled.graph, compiled.network

    def stream(name: str, value: str, lanes: int) -> StreamFormat:
        dtype = graph.quant(value).dtype
        return StreamFormat(name, graph.shape(value).array, lanes, dtype.bits, dtype.signed)

    names = signal_names(compiled.directory)
    taps = tuple(
        Tap(
            stream(port.value, port.value, port.lanes),
            *(names(f"{stage}.{port.signal(name)}") for name in ("valid", "ready", "payload")),
        )
        for stage, design in network.designs.items()
        for port in design.ports.outputs
    )
    inputs = port_prefixes([port.name for port in network.inputs], "s_axis")
    outputs = port_prefixes([port.name for port in network.outputs], "m_axis")
    carried: set[str] = set()
    sinks = {}
    for port in network.outputs:
        name = f"{port.value} ({port.name})" if port.value in carried else port.value
        carried.add(name)
        sinks[outputs[port.name]] = stream(name, port.value, port.lanes)
    return Streams(
        {inputs[port.name]: stream(port.name, port.value, port.lanes) for port in network.inputs},
        sinks,
        taps,
    )


def check_stimulus(frames: int | None, stall: float) -> None:
    """Raise DataError for a number of frames or a chance of a stall that can not be simulated."""
    if frames is not None and frames < 1:
        raise DataError(f"--frames {frames}: at least 1")
    if not 0 <= stall < 1:
        raise DataError(f"--stall {stall}: a probability from 0 up to, not including, 1")


def check_counting(stall: float, waves: Path | None, simulator: str, level: str) -> None:
    """Raise DataError where what the estimate of the energy counts can not be counted."""
    others = {
        "--stall": stall > 0,
        "--waves": waves is not None,
        f"--simulator {simulator}": simulator != "verilator",
        f"--level {level}": level != "rtl",
    }
    if given := [option for option, is_given in others.items() if is_given]:
        raise DataError(
            f"--energy counts the changes of registers of the RTL, without stalls, with Verilator, "
            f"in place of waves: leave out {' and '.join(given)}"
        )


def simulate(
    compiled: Compiled,
    x: NDArray[np.generic] | ir.Feeds,
    frames: int | None = None,
    *,
    stall: float = 0.0,
    seed: int = 0,
    waves: Path | None = None,
    simulator: str = "verilator",
    netlist: NetlistFiles | None = None,
    energy: bool = False,
    progress: Progress = silent,
    record: bool = True,
) -> Simulated:
    """Run samples back to back, without reset, and compare every value.

    ``x``: for each input, by name, an array [n, *input shape]; a lone input's by itself.
    ``frames`` (default: all of ``x``) of them are used, from the first on, again if there are
    fewer. Enough more are run to fill the pipeline, so that the interval is the steady one. Writes
    ``simulate.json`` and ``outputs.npz`` into the directory, unless it is not to ``record``.
    ``netlist``: Verilog to run in place of the RTL, after the models of its cells. ``energy``:
    count how often registers change, and estimate from it the energy of a frame.
    """
    if energy:
        published(compiled.network.device)
        check_counting(stall, waves, simulator, "netlist" if netlist else "rtl")
    given = ir.feeds(compiled.ports, x)
    frames = count(given) if frames is None else frames
    check_stimulus(frames, stall)
    network = compiled.network
    depth = latency(network)
    wanted = _frames_run(compiled, frames, depth)
    given = compiled.before(take(given, slice(frames)))
    ranges = InputRanges(compiled.graph)
    ranges.add(compiled.inside(given))
    raw = golden.host_input(compiled.graph, compiled.inside(given))
    raw = take(raw, np.arange(wanted) % count(raw))
    values = golden.run(compiled.graph, raw)
    found = streams(compiled)
    outputs_of = dict(zip(compiled.graph.outputs, found.sinks.values(), strict=True))
    expected = {port.name: values[compiled.network.root(port.value)] for port in outputs_of}
    rtl = compiled.directory / "rtl" / "accelerator.v"
    watched = Probes() if netlist else probes(network, stall, signal_names(compiled.directory))
    with _counting(compiled.directory / "sim" if energy else None) as counted:
        report = verify(
            netlist.verilog if netlist else rtl,
            sources=found.sources,
            sinks=found.sinks,
            frames=raw,
            golden={**values}
            | {sink.name: expected[port.name] for port, sink in outputs_of.items()},
            work=compiled.directory / "sim",
            timeout_cycles=10 * depth + 10_000,
            taps=() if netlist else found.taps,
            stall=stall,
            seed=seed,
            waves=counted or waves,
            simulator=simulator,
            extra_sources=netlist.cells if netlist else network.device.target.simulation_models,
            defines=netlist.defines if netlist else {},
            probes=watched,
            progress=progress,
        )
        toggles = register_toggles(counted, rtl) if counted and report.passed else None
    seen: dict[str, NDArray[np.integer]] = {**values}
    for port, sink in outputs_of.items():
        shape = compiled.graph.shape(port.value).array
        seen[port.value] = report.run.outputs[sink.name].reshape(wanted, *shape)
    found_outputs = golden.host_output(compiled.graph, seen)
    outputs = compiled.after(
        take(given, np.arange(frames) % count(given)),
        {name: array[:frames] for name, array in found_outputs.items()},
    )
    summary = _summary(compiled, report, frames, stall, seed, depth)
    summary["level"] = "netlist" if netlist else "rtl"
    if toggles is not None:
        summary["waves"] = None
        summary["energy"] = energy_of(network, toggles, wanted)
    run = report.run
    moments = {
        "first_beat": run.first_beat,
        "frames": [list(pair) for pair in run.frame_cycles[:16]],
    }
    summary["activity"] = activity(watched, run.counts, run.cycles, moments)
    summary["warnings"] = ranges.warnings()
    if record:
        _write(compiled.directory, outputs, summary)
    return Simulated(report, outputs, summary)


@contextmanager
def _counting(folder: Path | None) -> Iterator[Path | None]:
    """A file in ``folder`` for how often each bit changes, which is gone after the body."""
    if folder is None:
        yield None
        return
    counted = folder / f"activity{SAIF}"
    try:
        yield counted
    finally:
        counted.unlink(missing_ok=True)


def _frames_run(compiled: Compiled, frames: int, depth: int) -> int:
    """How many frames are run so that the last intervals are steady, where ``frames`` are asked for
    and a frame passes the pipeline in ``depth`` cycles; :class:`DataError` where they are too many
    to compare.
    """
    interval = compiled.network.interval
    filling = ceil(2 * depth / interval) if interval * 20 < depth else 0
    wanted = max(frames, 3 + filling)
    each = sum(value.shape.size for value in compiled.graph.values.values())
    if wanted * each > limits.SIMULATED_ELEMENTS:
        raise DataError(
            f"--frames {frames}: the feature maps of a frame have {each} elements, so at most "
            f"{limits.SIMULATED_ELEMENTS // each} frames can be compared in one simulation"
        )
    return wanted


def _summary(
    compiled: Compiled, report: Report, frames: int, stall: float, seed: int, planned_latency: int
) -> dict[str, Any]:
    run, first = report.run, report.first_mismatch
    return {
        "frames": frames,
        "frames_run": len(run.frame_cycles),
        "values": report.values,
        "mismatches": report.mismatches,
        "first_mismatch": None
        if first is None
        else {
            "layer": first.layer,
            "frame": first.frame,
            "index": list(first.index),
            "expected": first.expected,
            "seen": first.seen,
            "text": str(first),
        },
        "waves": str(report.waves) if report.waves else None,
        "latency_cycles": run.latency_cycles,
        "interval_cycles": run.interval_cycles,
        "planned_latency_cycles": planned_latency,
        "planned_interval_cycles": compiled.network.interval,
        "stall": stall,
        "seed": seed,
        "simulator": run.simulator,
        "cycles": run.cycles,
        "cycles_per_second": run.cycles_per_second,
        "wall_seconds": run.wall_seconds,
        "build_seconds": run.build_seconds,
    }


def _write(
    directory: Path, outputs: dict[str, NDArray[np.generic]], summary: dict[str, Any]
) -> None:
    write_arrays(directory / "outputs.npz", outputs)
    (directory / "simulate.json").write_text(json.dumps(summary, indent=1) + "\n")

"""The bench step: what the FPGA should reach, and what this machine measures on its CPU."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ..compiler import ir
from ..compiler.brief import Brief
from ..compiler.data import Samples
from ..compiler.driver import Compiled
from ..compiler.frontend.reference_runtime import Runtime
from ..compiler.ir.feeds import count, take
from ..compiler.json_file import read_json, write_json
from ..compiler.plan import latency
from ..compiler.progress import Progress, silent
from ..compiler.report.summary import consistent
from . import golden
from .plausibility import InputRanges

__all__ = ["BenchmarkResult", "bench", "measured"]

Array = NDArray[Any]
#: frames of the larger batch
BATCH = 32
#: time for each measurement, and the least and most repetitions
SECONDS, LEAST, MOST = 1.0, 5, 5000
WARM_UP_SECONDS = 0.2
#: random frames when no samples are given
FRAMES = 64


@dataclass(frozen=True, eq=False, repr=False)
class BenchmarkResult(Brief):
    """A benchmark; ``summary`` is the content of ``bench.json``."""

    summary: dict[str, Any]

    def facts(self) -> dict[str, object]:
        fpga = self.summary["fpga"]
        gains = {
            f"against {gain['name']}, {gain['threads']} threads": f"{gain['latency']:.3g} x the "
            f"latency's speed, {gain['fps']:.3g} x the rate"
            for gain in self.summary["speedup"]
        }
        return {
            "FPGA": f"{fpga['fps']:,.0f} frames/s, {fpga['latency_us']:.3g} us",
            "clock": f"{fpga['clock_mhz']:.1f} MHz ({fpga['clock_source']})",
            **gains,
        }


def bench(
    compiled: Compiled,
    samples: Samples | None,
    target_mhz: float,
    progress: Progress = silent,
    seconds: float = SECONDS,
) -> BenchmarkResult:
    """Compare the compiled network with CPU runtimes on the same frames, and write ``bench.json``.

    Cycles are those of ``simulate.json`` (if it ran without stalls and all values were right), else
    the plan's. The clock is that of the bitstream in ``build.json``, else ``target_mhz``. CPU
    latencies are medians of one frame at a time. The rate is the better of one frame at a time and
    batches of 32 (the golden model: one at a time), each repeated for ``seconds`` after a warm-up.
    ``highest_`` figures are those of
    the highest clock of the PLL that the routed design allows, ``link_fps`` what the board's serial
    link carries. Without samples the frames are random, with a fixed seed.
    """
    model_in = _random(compiled) if samples is None else ir.feeds(compiled.ports, samples.x)
    given = compiled.before(model_in)
    x = compiled.inside(given)
    ranges = InputRanges(compiled.graph)
    if samples is not None:
        ranges.add(x)
    with consistent(
        f"compile.json, simulate.json or build.json in {compiled.directory}", "run the steps again"
    ):
        fpga = _fpga(compiled, target_mhz)
    cpu = _references(compiled, given, x, seconds, progress)
    summary = {
        "fpga": fpga,
        "cpu": cpu,
        "speedup": [_speedup(fpga, entry) for entry in cpu],
        "float_network": (compiled.directory / "model.float.onnx").exists(),
        "inputs": (
            "random frames, seed 0 (no samples were given)"
            if samples is None
            else f"{count(x)} samples"
        ),
        "machine": _machine(),
        "warnings": ranges.warnings(),
    }
    write_json(compiled.directory / "bench.json", summary)
    return BenchmarkResult(summary)


def _random(compiled: Compiled) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {port.name: _random_frames(port, rng) for port in compiled.ports.inputs}


def _random_frames(port: ir.InputPort, rng: np.random.Generator) -> Array:
    shape = (FRAMES, *port.shape)
    if port.integer is None:
        return rng.normal(size=shape).astype(np.float32)
    low, high = port.integer.low, port.integer.high
    return rng.integers(low, high, shape, endpoint=True).astype(port.array_type)


# The FPGA.


def _fpga(compiled: Compiled, target_mhz: float) -> dict[str, Any]:
    network = compiled.network
    clock, clock_source, highest = _clock(compiled.directory, target_mhz)
    link = _read(compiled.directory / "build.json").get("link_fps")
    cycles, cycles_source = _cycles(compiled)
    macs = int(_read(compiled.directory / "compile.json").get("macs", 0))
    interval, rate = cycles["interval_cycles"], clock * 1e6 / cycles["interval_cycles"]
    return {
        "latency_us": cycles["latency_cycles"] / clock,
        "fps": rate,
        "gmacs": macs * rate / 1e9,
        "mac_utilization": _share(macs, network.products_per_cycle * interval),
        "device_utilization": _share(macs, network.device_multipliers * interval),
        "multipliers": network.multipliers,
        "device_multipliers": network.device_multipliers,
        "clock_mhz": clock,
        "clock_source": clock_source,
        "highest_mhz": highest,
        "highest_fps": highest and highest * 1e6 / interval,
        "highest_latency_us": highest and cycles["latency_cycles"] / highest,
        "link_fps": link and min(float(link), rate),
        **cycles,
        "cycles_source": cycles_source,
        "how": "simulated" if cycles_source == "simulated" else "estimated",
    }


def _clock(directory: Path, target_mhz: float) -> tuple[float, str, float | None]:
    """The clock of the bitstream that exists, its source, and the highest that the PLL could have.

    Without a bitstream the first is the clock that was requested.
    """
    built = _read(directory / "build.json")
    if not built:
        return target_mhz, "board target (not built)", None
    highest = None if built.get("highest_mhz") is None else float(built["highest_mhz"])
    if not built["timing_met"]:
        return float(built["clock_mhz"]), "requested (timing not met, no bitstream)", highest
    return float(built["clock_mhz"]), "the bitstream's PLL", highest


def _cycles(compiled: Compiled) -> tuple[dict[str, int], str]:
    """Interval and latency, and where they come from."""
    planned = {
        "interval_cycles": compiled.network.interval,
        "latency_cycles": latency(compiled.network),
    }
    seen = _read(compiled.directory / "simulate.json")
    if not seen:
        return planned, "plan formula (not simulated)"
    if seen.get("mismatches"):
        return planned, "plan formula (the simulation found mismatches)"
    if seen.get("stall"):
        return planned, "plan formula (the simulation was stalled on purpose)"
    if seen.get("interval_cycles") is None:
        return planned, "plan formula (one frame simulated: no interval)"
    return {name: int(seen[name]) for name in planned}, "simulated"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _speedup(fpga: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """How many times faster the FPGA is; below 1 it is slower."""
    return {
        "name": reference["name"],
        "threads": reference["threads"],
        "latency": reference["latency_us"] / fpga["latency_us"],
        "fps": fpga["fps"] / reference["fps"],
    }


# The CPU.


def _references(
    compiled: Compiled, given: ir.Feeds, x: ir.Feeds, seconds: float, progress: Progress
) -> list[dict[str, Any]]:
    files = {
        "ONNX Runtime float32": compiled.directory / "model.float.onnx",
        "ONNX Runtime int8": compiled.directory / "model.int8.onnx",
    }
    found = []
    for name, path in files.items():
        if not path.exists():
            continue
        for threads in sorted({1, _cores()}):
            progress(f"measuring {name}, {threads} thread{'s' if threads > 1 else ''}")
            runtime = Runtime(path, threads=threads)
            batch = BATCH if runtime.takes_batches(x) else 1
            found.append(measured(name, threads, runtime.run, x, batch, seconds))
    if compiled.border is not None:
        progress("measuring the head and the tail on the host")
        every: ir.Feeds = {**given, **_golden(compiled, x)}
        run = partial(_host, compiled)
        found.append(measured("head and tail on the host", _cores(), run, every, 1, seconds))
    progress("measuring the golden model")
    # In batches NumPy's BLAS divides its products among threads, which wait for each other on a
    # machine that is not idle: then the rate differs up to five times from run to run.
    found.append(
        measured("NumPy golden model", _cores(), partial(_golden, compiled), x, 1, seconds)
    )
    return found


def _host(compiled: Compiled, every: ir.Feeds) -> object:
    """What the host computes of the model, for its inputs and the outputs of the hardware."""
    given = compiled.before({port.name: every[port.name] for port in compiled.ports.inputs})
    return compiled.after(given, {port.name: every[port.name] for port in compiled.graph.outputs})


def _golden(compiled: Compiled, x: ir.Feeds) -> dict[str, Array]:
    graph = compiled.graph
    return golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))


def measured(
    name: str,
    threads: int,
    run: Callable[[ir.Feeds], object],
    x: ir.Feeds,
    batch: int,
    seconds: float,
) -> dict[str, Any]:
    """One reference, a row of ``cpu``: microseconds a frame alone, and the better rate of that and
    a batch.

    ``run`` takes frames of ``x``, an array [n, *shape] for each input, by name; it is repeated for
    ``seconds`` after a warm-up.
    """
    alone = median(_times(run, x, 1, seconds))
    rates = {1: 1 / alone}
    if batch > 1:
        rates[batch] = batch / median(_times(run, x, batch, seconds))
    best = max(rates, key=lambda size: rates[size])
    return {
        "name": name,
        "threads": threads,
        "latency_us": alone * 1e6,
        "fps": rates[best],
        "fps_batch": best,
        "how": "measured",
    }


def _times(
    run: Callable[[ir.Feeds], object], x: ir.Feeds, batch: int, seconds: float
) -> list[float]:
    """Seconds of every call, each on the next frames of ``x``."""
    chunks = [
        take(x, (np.arange(batch) + start) % count(x))
        for start in range(0, max(count(x), 1), batch)
    ]
    _repeat(run, chunks, min(WARM_UP_SECONDS, seconds), 1)
    return _repeat(run, chunks, seconds, LEAST)


def _repeat(
    run: Callable[[ir.Feeds], object], chunks: Sequence[ir.Feeds], seconds: float, least: int
) -> list[float]:
    found: list[float] = []
    end = perf_counter() + seconds
    while len(found) < least or (perf_counter() < end and len(found) < MOST):
        chunk = chunks[len(found) % len(chunks)]
        began = perf_counter()
        run(chunk)
        found.append(perf_counter() - began)
    return found


# The machine.


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _machine() -> dict[str, Any]:
    return {
        "cpu": _processor(),
        "cores": _cores(),
        "python": platform.python_version(),
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())


def _read(path: Path) -> dict[str, Any]:
    """A step's summary; empty when the step was not taken."""
    if not path.exists():
        return {}
    content: dict[str, Any] = read_json(path, f"run `gatewright {path.stem}` again")
    return content

"""Icarus Verilog, an interpreter, against Verilator: speed over the first part of a frame."""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from gatewright.compiler.driver import Compiled
from gatewright.sim import golden
from gatewright.sim.agents import write_beats
from gatewright.sim.simulate import streams
from gatewright.sim.simulators import Testbench, built, simulator
from numpy.typing import NDArray

__all__ = ["PART", "available", "pace"]

#: share of a frame that goes in: the whole would take it some minutes to an hour
PART = 3 / 4
#: cycles without a beat after which something is wrong
_WATCHDOG = 1_000_000


def available() -> bool:
    return shutil.which("iverilog") is not None


def pace(compiled: Compiled, frame: NDArray[np.generic]) -> dict[str, Any]:
    """Put in the first part of ``frame`` [1, *input shape], after the same reset and by the same
    bench as in :func:`.simulate`; returns ``cycles``, ``seconds``, ``cycles_per_second`` and what
    ran. Stages far from the input are idle for much of it, which is to the interpreter's advantage.
    """
    found = streams(compiled)
    verilog, work = compiled.directory / "rtl" / "accelerator.v", compiled.directory / "sim"
    models = compiled.network.device.target.simulation_models
    bench = Testbench(verilog, found.sources, found.sinks, (), models, {})
    icarus = simulator("icarus", bench, None)
    binary = built(icarus, work)
    arguments = {"watchdog": _WATCHDOG}
    for at, stream in enumerate(found.sources.values()):
        arguments[f"source_{at}_beats"] = max(1, round(PART * stream.frame_beats))
        arguments[f"source_{at}_frame"] = stream.frame_beats
    for at, stream in enumerate(found.sinks.values()):
        arguments[f"sink_{at}_beats"] = 0
        arguments[f"sink_{at}_frame"] = stream.frame_beats
    raw = golden.host_input(compiled.graph, frame)
    with TemporaryDirectory(prefix=".run-", dir=work) as folder:
        here = Path(folder)
        for at, stream in enumerate(found.sources.values()):
            write_beats(here / f"source_{at}.hex", stream, raw[stream.name])
        (here / "counters.txt").write_text("\n".join(bench.counters()))
        icarus.start(
            binary,
            [f"+{name}={value}" for name, value in arguments.items()],
            here,
            work / "icarus.log",
        )
        counters = json.loads((here / "counters.json").read_text())
    return {
        "simulator": icarus.description,
        "beats_in": sum(counters[f"source_{at}_moved"] for at, _ in enumerate(found.sources)),
        "cycles": counters["cycle"],
        "seconds": counters["seconds"],
        "cycles_per_second": counters["cycle"] / counters["seconds"],
    }

"""Icarus Verilog, an interpreter, beside Verilator: its pace over the first part of a frame."""

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
    source, sink, _ = streams(compiled)
    verilog, work = compiled.directory / "rtl" / "accelerator.v", compiled.directory / "sim"
    models = compiled.network.device.target.simulation_models
    icarus = simulator("icarus", Testbench(verilog, source, sink, (), models, {}), None)
    binary = built(icarus, work)
    arguments = {
        "source_beats": max(1, round(PART * source.frame_beats)),
        "sink_beats": 0,
        "source_frame": source.frame_beats,
        "sink_frame": sink.frame_beats,
        "watchdog": _WATCHDOG,
    }
    with TemporaryDirectory(prefix=".run-", dir=work) as folder:
        here = Path(folder)
        write_beats(here / "source.hex", source, golden.host_input(compiled.graph, frame))
        icarus.start(
            binary,
            [f"+{name}={value}" for name, value in arguments.items()],
            here,
            work / "icarus.log",
        )
        counters = json.loads((here / "counters.json").read_text())
    return {
        "simulator": icarus.description,
        "beats_in": counters["beats_in"],
        "cycles": counters["cycle"],
        "seconds": counters["seconds"],
        "cycles_per_second": counters["cycle"] / counters["seconds"],
    }

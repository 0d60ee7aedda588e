"""The cocotb test: resets the accelerator, starts the bench, waits until it is done.

Everything that happens in between is in ``bench.sv``: Python is called twice a run, not twice a
cycle. This module runs inside the simulator and imports nothing of the package.
"""

import json
import time
from pathlib import Path

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import RisingEdge, Timer

__all__ = ["run"]

# The bench's clock rises every other nanosecond, at the odd ones: what is set at an even one races
# with nothing.
_RESET_NS = 16
_SETTLE_NS = 8


@cocotb.test()
async def run(bench: HierarchyObject) -> None:
    """Simulate all frames; leave the bench's counters and the seconds in ``counters.json``.

    ``counters.txt`` lists the counters, a name a line.
    """
    names = Path("counters.txt").read_text().split()
    await Timer(_RESET_NS, "ns")
    bench.rst.value = 0
    await Timer(_SETTLE_NS, "ns")
    bench.start.value = 1
    started = time.perf_counter()
    await RisingEdge(bench.done)
    seconds = time.perf_counter() - started
    counters = {name: int(getattr(bench, name).value) for name in names}
    Path("counters.json").write_text(json.dumps({**counters, "seconds": seconds}))

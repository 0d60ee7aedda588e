"""Writing the hardware down: RTLIL for synthesis, Verilog for simulation and for people."""

import gc
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from amaranth.back import rtlil

from .. import hw
from . import tools

__all__ = ["emit"]


def emit(accelerator: hw.Accelerator, directory: Path) -> None:
    """Write ``accelerator.il``, ``accelerator.v`` and ``interface.json`` into ``directory``.

    The module is ``accelerator``, with ``clk``, ``rst`` and the AXI4-Stream ports, which
    ``interface.json`` lists. Verilog is made from the RTLIL by yosys, hierarchy kept. Raises
    :class:`~.errors.ToolError` when yosys is missing or fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _no_collector():
        text = rtlil.convert(accelerator, name="accelerator", emit_src=False)
    (directory / "accelerator.il").write_text(_relax_collisions(text))
    tools.find("yosys").run(
        [
            "-q",
            "-p",
            "read_rtlil accelerator.il; proc; memory_collect; write_verilog -noattr accelerator.v",
        ],
        cwd=directory,
        log=directory / "emit.log",
    )
    (directory / "emit.log").unlink(missing_ok=True)
    interface = {
        "inputs": _ports(accelerator.sources, accelerator.source_prefixes),
        "outputs": _ports(accelerator.sinks, accelerator.sink_prefixes),
    }
    (directory / "interface.json").write_text(json.dumps(interface, indent=1) + "\n")


def _ports(
    configs: Mapping[str, hw.AxiStreamConfig], prefixes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What somebody who connects the ports must know of each."""
    return [
        {
            "name": name,
            "prefix": prefixes[name],
            "beats": config.beats,
            "bits": config.width,
            "lanes": config.lanes,
        }
        for name, config in configs.items()
    ]


@contextmanager
def _no_collector() -> Iterator[None]:
    """Leave cyclic garbage for later: of millions of small objects nearly all stay to the end, and
    to look through them again and again would take a third of the time.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


#: a read port with a clock, around the bit that says whether a collision may give anything
_CLOCKED_READ = re.compile(
    r"(cell \$memrd_v2 [^\n]*\n(?:    parameter [^\n]*\n)*?"
    r"    parameter \\COLLISION_X_MASK 1')0"
    r"(\n(?:    parameter [^\n]*\n)*?    parameter \\CLK_ENABLE 1\n)"
)


def _relax_collisions(text: str) -> str:
    """Let a read of an address that is just being written give anything.

    No stage uses such a word (rows are read when they are complete, queues when they hold
    something), and a block RAM that need not return the old one takes no logic around it.
    """
    return _CLOCKED_READ.sub(r"\g<1>1\g<2>", text)

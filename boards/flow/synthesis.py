"""From RTLIL to a netlist of the family's cells, and what it costs."""

import inspect
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from ...compiler import tools
from ...compiler.emit import without_locations
from ...compiler.errors import ToolError
from ...compiler.json_file import write_json
from ...compiler.progress import Progress, silent
from .base import RESOURCES, Synthesis
from .cache import digest, read_json

__all__ = ["ANY_INIT", "KEEP_COPIES", "key", "synthesize"]

#: Data registers need no initial value. With one, a register that is 0 at first and 1 afterwards is
#: not a constant to yosys: it merges all such registers into one that drives wires to every stage.
ANY_INIT = "setattr -unset init a:data"

#: A duplicated register that must stay has ``keep`` on its wire, but opt_merge respects ``keep`` on
#: cells only.
KEEP_COPIES = "setattr -set keep 1 a:keep %ci1:+[Q] t:$dff* %i"

#: what yosys lists with the cells: the hierarchy that a flat netlist had
_NO_CELLS = {"$scopeinfo"}

#: a name with an index in it
_ELEMENT = re.compile(r"(?<=\s)\\\S*\[\d+\]\S*")
_BRACKETS = str.maketrans("[]", "<>")


def key(recipe: Synthesis, *sources: str | bytes) -> str:
    """The cache key of the netlist of these sources: a hash of everything that determines it."""
    return digest(
        *sources,
        recipe.command,
        ANY_INIT,
        KEEP_COPIES,
        _ELEMENT.pattern,
        *map(inspect.getsource, recipe.sources),
        tools.find("yosys").version,
    )


def synthesize(
    sources: Sequence[Path],
    recipe: Synthesis,
    out: Path,
    top: str,
    *,
    infer_dsp: bool = False,
    progress: Progress = silent,
) -> dict[str, int]:
    """``lut``, ``ff``, ``dsp`` and ``bram`` of the module ``top`` in RTLIL files.

    Writes ``netlist.json`` into the folder ``out``, with copies of the files; a result that is
    there already is used. Multiplications become DSP blocks only where these are instantiated,
    unless ``infer_dsp``.
    """
    counts_file = out / "counts.json"
    if counts_file.exists():
        progress("synthesis: the netlist of an earlier run", 1.0)
        cached: dict[str, int] = read_json(counts_file)
        return cached
    out.mkdir(parents=True, exist_ok=True)
    progress(f"synthesis{tools.first_use('yosys')}")
    for source in sources:
        text = without_locations(source.read_text())
        (out / source.name).write_text(_renamed_elements(text))
    reads = [f'read_rtlil "{source.name}"' for source in sources]
    command = recipe.command.format(top=top, dsp=recipe.inference[infer_dsp])
    script = [*reads, ANY_INIT, KEEP_COPIES, command, "tee -q -o stat.json stat -json"]
    (out / "synth.ys").write_text("\n".join(script) + "\n")
    tools.find("yosys").run(["-q", "-s", "synth.ys"], out, out / "yosys.log")
    if not (out / "netlist.json").exists():
        raise ToolError(f"synthesis wrote no netlist.json; the command of its flow: {command}")
    cells = Counter(read_json(out / "stat.json")["design"]["num_cells_by_type"])
    if recipe.improve:
        cells.subtract(recipe.improve(out))
    counts = _count(cells, recipe)
    write_json(counts_file, counts)
    progress("synthesis", 1.0)
    return counts


def _renamed_elements(rtlil: str) -> str:
    """Rename signals like ``x[1]`` to ``x<1>``.

    When yosys reads ABC's result it calls bit 1 of ``x`` ``x[1]``, and confuses the two.
    """
    return _ELEMENT.sub(lambda name: name[0].translate(_BRACKETS), rtlil)


def _count(cells: Mapping[str, int], recipe: Synthesis) -> dict[str, int]:
    unknown = sorted(cells.keys() - recipe.cells.keys() - _NO_CELLS)
    if unknown:
        raise ToolError(
            f"synthesis made {', '.join(unknown)}: the family's flow does not say what these cells "
            "count as; add them to the cells of its Synthesis"
        )
    counts = dict.fromkeys(RESOURCES, 0)
    for cell, number in cells.items():
        for resource, each in recipe.cells.get(cell, {}).items():
            counts[resource] += each * number
    return counts

"""From RTLIL to a netlist of the family's cells, and what it costs."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ...compiler import tools
from ...compiler.emit import without_locations
from .base import Synthesis
from .cache import digest, read_json, write_json

__all__ = ["ANY_START", "APART", "Progress", "key", "silent", "synthesize"]

Progress = Callable[[str, float | None], None]

#: What registers of data start with does not matter. Else one that is 0 at first and 1 from then on
#: is no constant to yosys, which makes one of all such, with wires from it to every stage.
ANY_START = "setattr -unset init a:data"

#: A copy of a register that is to stay apart is one whose wire says so; but yosys, when it merges
#: what is alike, minds it of cells only.
APART = "setattr -set keep 1 a:keep %ci1:+[Q] t:$dff* %i"

#: a name with an index in it
_ELEMENT = re.compile(r"(?<=\s)\\\S*\[\d+\]\S*")
_BRACKETS = str.maketrans("[]", "<>")


def key(recipe: Synthesis, *sources: str | bytes) -> str:
    """What the netlist of these texts is kept by: it changes with all that makes it."""
    return digest(
        *sources,
        recipe.command,
        ANY_START,
        APART,
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
    progress: Progress | None = None,
) -> dict[str, int]:
    """``lut``, ``ff``, ``dsp`` and ``bram`` of the module ``top`` in RTLIL files.

    Leaves ``netlist.json`` in the folder ``out``, beside copies of the files; what is there already
    is kept. Multiplications become hard multipliers only where instantiated, unless ``infer_dsp``.
    """
    progress = progress or silent
    counts_file = out / "counts.json"
    if counts_file.exists():
        progress("synthesis (kept from before)", 1.0)
        kept: dict[str, int] = read_json(counts_file)
        return kept
    out.mkdir(parents=True, exist_ok=True)
    progress("synthesis", None)
    for source in sources:
        text = without_locations(source.read_text())
        (out / source.name).write_text(_told_apart(text))
    reads = [f'read_rtlil "{source.name}"' for source in sources]
    command = recipe.command.format(top=top, dsp=recipe.inference[infer_dsp])
    script = [*reads, ANY_START, APART, command, "tee -q -o stat.json stat -json"]
    (out / "synth.ys").write_text("\n".join(script) + "\n")
    tools.find("yosys").run(["-q", "-s", "synth.ys"], out, out / "yosys.log")
    cells = Counter(read_json(out / "stat.json")["design"]["num_cells_by_type"])
    if recipe.improve:
        cells.subtract(recipe.improve(out))
    counts = _count(cells, recipe)
    write_json(counts_file, counts)
    progress("synthesis", 1.0)
    return counts


def _told_apart(rtlil: str) -> str:
    """Element 1 of ``x`` by another name than ``x[1]``: yosys calls bit 1 of ``x`` so when it reads
    what ABC made, and takes either for the other.
    """
    return _ELEMENT.sub(lambda name: name[0].translate(_BRACKETS), rtlil)


def silent(_stage: str, _fraction: float | None) -> None:
    """Progress that is told to no one."""


def _count(cells: Mapping[str, int], recipe: Synthesis) -> dict[str, int]:
    counts = {"lut": 0, "ff": 0, "dsp": 0, "bram": 0}
    for cell, number in cells.items():
        for resource, each in recipe.cells.get(cell, {}).items():
            counts[resource] += each * number
    return counts

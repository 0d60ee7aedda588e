"""From RTLIL to a netlist of the family's cells, and what it costs."""

import inspect
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...compiler import tools
from ...compiler.emit import without_locations
from . import absorb_gates, localize_constants, pack_registers
from .cache import digest, read_json, write_json

__all__ = ["ANY_START", "APART", "SHARED", "Progress", "key", "synth_ecp5", "synthesize"]

Progress = Callable[[str, float | None], None]

#: What registers of data start with does not matter. Else one that is 0 at first and 1 from then on
#: is no constant to yosys, which makes one of all such, with wires from it to every stage.
ANY_START = "setattr -unset init a:data"

#: A copy of a register that is to stay apart is one whose wire says so; but yosys, when it merges
#: what is alike, minds it of cells only.
APART = "setattr -set keep 1 a:keep %ci1:+[Q] t:$dff* %i"

#: Registers that a signal of their own enables or resets have a slice of their own, and a tile of
#: four slices knows two resets: where fewer than three registers share a signal, it is logic.
SHARED = "dfflegalize -mince 3 -minsrst 3 " + " ".join(
    f"-cell $_{kind}_ {init}"
    for kind, init in (
        ("DFF_?", "01"),
        ("DFF_?P?", "r"),
        ("SDFF_?P?", "r"),
        ("DFFE_??", "01"),
        ("DFFE_?P??", "r"),
        ("SDFFE_?P??", "r"),
        ("DLATCH_?", "x"),
    )
)


def synth_ecp5(options: str, between: str = SHARED) -> str:
    """yosys' synthesis for ECP5 into ``netlist.json``, with a command ``between`` the mapping of
    adders and that of registers.
    """
    synth = f"synth_ecp5 -abc9 {options}"
    return f"{synth} -run :map_ffs; {between}; {synth} -json netlist.json -run map_ffs:"


#: a name with an index in it
_ELEMENT = re.compile(r"(?<=\s)\\\S*\[\d+\]\S*")
_BRACKETS = str.maketrans("[]", "<>")


@dataclass(frozen=True)
class _Recipe:
    """What differs between families: yosys' command for the netlist, with the flag that makes
    multiplications hard multipliers or not, ``inference``; and what a cell costs.

    ``improved``: registers behind block RAMs, gates before adders and the constants of multipliers
    are moved to where they are better.
    """

    command: str
    inference: Mapping[bool, str]
    cells: Mapping[str, Mapping[str, int]]
    improved: bool = False


def key(family: str, *sources: str | bytes) -> str:
    """What the netlist of these texts is kept by: it changes with all that makes it."""
    recipe = _RECIPES[family]
    passes = (pack_registers, absorb_gates, localize_constants) if recipe.improved else ()
    return digest(
        *sources,
        recipe.command,
        ANY_START,
        APART,
        _ELEMENT.pattern,
        *map(inspect.getsource, passes),
        tools.find("yosys").version,
    )


def synthesize(
    sources: Sequence[Path],
    family: str,
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
    recipe, progress = _RECIPES[family], progress or _silent
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
    if recipe.improved:
        cells.subtract(_improve(out))
    counts = _count(cells, recipe)
    write_json(counts_file, counts)
    progress("synthesis", 1.0)
    return counts


def _told_apart(rtlil: str) -> str:
    """Element 1 of ``x`` by another name than ``x[1]``: yosys calls bit 1 of ``x`` so when it reads
    what ABC made, and takes either for the other.
    """
    return _ELEMENT.sub(lambda name: name[0].translate(_BRACKETS), rtlil)


def _silent(_stage: str, _fraction: float | None) -> None:
    pass


def _improve(out: Path) -> Mapping[str, int]:
    """Make of ``netlist.json`` what is good for place and route; returns the cells saved.

    ``packing.log`` says what was done and what could not be.
    """
    netlist, packed = pack_registers.pack(read_json(out / "netlist.json"))
    netlist, gates = absorb_gates.absorb(netlist)
    netlist, ended = absorb_gates.end(netlist)
    netlist, luts = localize_constants.localize(netlist)
    write_json(out / "netlist.json", netlist)
    (out / "packing.log").write_text(
        "".join(
            f"{line}\n"
            for line in (
                f"{packed.ports} block RAM ports took in {packed.registers} registers",
                f"adders took in {gates} gates",
                f"{ended} carries lead nowhere",
                f"multipliers got {luts} LUTs for their constants",
                *(f"not packed: {port}" for port in packed.unpacked),
            )
        )
    )
    return {"TRELLIS_FF": packed.registers, "LUT4": gates - luts}


def _count(cells: Mapping[str, int], recipe: _Recipe) -> dict[str, int]:
    counts = {"lut": 0, "ff": 0, "dsp": 0, "bram": 0}
    for cell, number in cells.items():
        for resource, each in recipe.cells.get(cell, {}).items():
            counts[resource] += each * number
    return counts


_ICE40_FF = {
    f"SB_{name}": {"ff": 1}
    for name in (
        f"DFF{edge}{kind}"
        for edge in ("", "N")
        for kind in ("", "E", "SR", "R", "SS", "S", "ESR", "ER", "ESS", "ES")
    )
}

_RECIPES: Mapping[str, _Recipe] = {
    "ecp5": _Recipe(
        synth_ecp5("-nowidelut {dsp} -top {top}"),
        {False: "-nodsp", True: ""},
        # A carry cell holds two LUTs; a 16x4 RAM four, and its write port two more.
        {
            "LUT4": {"lut": 1},
            "CCU2C": {"lut": 2},
            "TRELLIS_DPR16X4": {"lut": 6},
            "TRELLIS_FF": {"ff": 1},
            "MULT18X18D": {"dsp": 1},
            "DP16KD": {"bram": 1},
            "PDPW16KD": {"bram": 1},
        },
        improved=True,
    ),
    "ice40": _Recipe(
        # Eight registers of a tile share their enable: few enables, or they find no place.
        "synth_ice40 -device u -abc9 -dffe_min_ce_use 8 {dsp} -top {top} -json netlist.json",
        {False: "", True: "-dsp"},
        {
            "SB_LUT4": {"lut": 1},
            "SB_MAC16": {"dsp": 1},
            **_ICE40_FF,
            **{f"SB_RAM40_4K{kind}": {"bram": 1} for kind in ("", "NR", "NW", "NRNW")},
        },
    ),
}

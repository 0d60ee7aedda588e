"""Clock limits that the place-and-route tools' timing models do not know.

nextpnr has no internal arcs for a fully registered multiplier block, ignores ECP5's PIPELINE
register and does not check a clock tree's own limit; so each is held against its data sheet here.

Sources: ECP5 family data sheet FPGA-DS-02012 (external switching characteristics, fMAX_PRI); ECP5
MULT18X18D path delays of speed grade 6; iCE40 UltraPlus data sheet FPGA-DS-02008 (clock buffer,
fMAX8x8SMULT and fMAX16x16SMULT, single-port RAM).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

__all__ = ["Cell", "Limit", "lowest"]

_ECP5_CLOCK_TREE = {"8": 370.0, "7": 303.0, "6": 257.0}
_ECP5_MULT_PLAIN = 287.0
_ECP5_MULT_PIPELINED = 381.0
_UP5K_CLOCK_TREE = 185.0
_UP5K_MAC16 = 50.0
_UP5K_SPRAM = 70.0


@dataclass(frozen=True)
class Cell:
    """A cell of the synthesized netlist: its type and parameters."""

    type: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Limit:
    """No clock above ``mhz``, because of ``reason``."""

    mhz: float
    reason: str


def lowest(family: str, speed: str, cells: Iterable[Cell]) -> Limit:
    """The lowest documented limit among the clock tree and ``cells``."""
    limits = [
        _clock_tree(family, speed),
        *(_LIMIT_OF[cell.type](cell) for cell in cells if cell.type in _LIMIT_OF),
    ]
    return min(limits, key=lambda limit: limit.mhz)


def _clock_tree(family: str, speed: str) -> Limit:
    if family == "ice40":
        return Limit(_UP5K_CLOCK_TREE, "the global clock buffer")
    return Limit(_ECP5_CLOCK_TREE[speed], f"the primary clock tree at speed grade {speed}")


def _mult18(cell: Cell) -> Limit:
    if cell.parameters.get("REG_PIPELINE_CLK", "NONE") == "NONE":
        return Limit(_ECP5_MULT_PLAIN, "MULT18X18D without its PIPELINE register")
    return Limit(_ECP5_MULT_PIPELINED, "MULT18X18D with its PIPELINE register")


def _mac16(_cell: Cell) -> Limit:
    return Limit(_UP5K_MAC16, "SB_MAC16")


def _spram(_cell: Cell) -> Limit:
    return Limit(_UP5K_SPRAM, "SB_SPRAM256KA")


_LIMIT_OF = {"MULT18X18D": _mult18, "SB_MAC16": _mac16, "SB_SPRAM256KA": _spram}

"""How often the registers of an accelerator change, from a simulation written as SAIF.

SAIF (Switching Activity Interchange Format, IEEE 1801) holds for each bit of a design how often it
changed. Verilator writes it. Of an RTL only the registers are what the chip has as well: names of
combinational signals repeat from module to module, and synthesis makes others.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..compiler.errors import SimulationError

__all__ = ["Registers", "register_toggles"]

_MODULE = re.compile(r"module \\?([^\s(]+)")
#: a register of any width; one with a second range, behind its name, is a memory
_REGISTER = re.compile(r"  reg (?:\[\S+\] )?(?:\\(\S+) |(\w+)) *(?:=.*)?;")
_INSTANCE = re.compile(r"\s*\(INSTANCE (\S+)$")
_BIT = re.compile(r"\s*\((\S+) \(T0 .*\(TC (\d+)\)\)$")
_INDEX = re.compile(r"\[\d+\]$")


class Registers(NamedTuple):
    """The bits of some registers, and how often they changed in all."""

    bits: int = 0
    changes: int = 0

    def plus(self, other: "Registers") -> "Registers":
        return Registers(self.bits + other.bits, self.changes + other.changes)


def register_toggles(saif: Path, verilog: Path, top: str = "accelerator") -> dict[str, Registers]:
    """How often the registers of each part of ``top`` changed; ``""``: its own.

    A part is an instance directly in ``top``, with all below it. The registers that memories are
    read into count as well. ``saif`` is of a simulation in which ``verilog``, whose modules are
    called after their place, is the instance ``dut`` of the bench. Raises
    :class:`SimulationError` where the two do not belong together.
    """
    registers = _registers(verilog)
    found: dict[str, Registers] = {}
    for path, bit, changes in _bits(saif):
        if path[1:2] != ("dut",):
            continue
        known = registers.get(".".join((top, *path[2:])), set())
        if bit in known or _INDEX.sub("", bit) in known:
            part = "".join(path[2:3])
            found[part] = found.get(part, Registers()).plus(Registers(1, changes))
    if not found:
        raise SimulationError(f"{saif} tells of no register of {verilog}")
    return found


def _registers(verilog: Path) -> dict[str, set[str]]:
    """The names of the registers of each module, as yosys writes them."""
    found: dict[str, set[str]] = {}
    names: set[str] = set()
    with verilog.open(encoding="utf-8") as file:
        for line in file:
            if module := _MODULE.match(line):
                names = found.setdefault(module[1], set())
            elif register := _REGISTER.match(line):
                names.add(register[1] or register[2])
    return found


def _bits(saif: Path) -> Iterator[tuple[tuple[str, ...], str, int]]:
    """The instances down to each bit, its name, and how often it changed."""
    path: list[str] = []  # in a list of nets the last one is empty
    with saif.open(encoding="utf-8") as file:
        for line in file:
            if bit := _BIT.match(line):
                yield tuple(path[:-1]), bit[1].replace("\\", ""), int(bit[2])
            elif instance := _INSTANCE.match(line):
                path.append(instance[1].replace("\\", ""))
            elif line.strip() == "(NET":
                path.append("")
            elif line.strip() == ")" and path:
                path.pop()

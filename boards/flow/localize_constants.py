"""Constants of ECP5 multipliers, from LUTs beside them.

The chip ties a multiplier's operands to constants by itself, but not its enable, reset, signs and
sources. Those nextpnr connects by wires, on the whole chip from one LUT; they come last, when the
wires around the multipliers are taken, and the router may find no end (decision 0013)::

    one LUT ──▶ all RST0, SOURCEA, SOURCEB        becomes        a LUT for every four multipliers
"""

import re
from collections.abc import Mapping
from typing import Any

from .pack_registers import Bit, Cell

__all__ = ["localize"]

#: multipliers that share their constants: those of a block
_BLOCK = 4
#: pins that the chip does not tie by itself
_PINS = re.compile(r"(CE|RST)\d|(SIGNED|SOURCE)[AB]")


def localize(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """yosys' JSON ``netlist`` of ECP5 cells with LUTs of their own for the multipliers' constants,
    and how many LUTs these are.
    """
    modules, made = {}, 0
    for name, module in netlist["modules"].items():
        cells = _localized(module["cells"])
        made += len(cells) - len(module["cells"])
        modules[name] = {**module, "cells": cells}
    return {**netlist, "modules": modules}, made


def _localized(cells: Mapping[str, Cell]) -> dict[str, Cell]:
    result = dict(cells)
    multipliers = sorted(
        (name for name, cell in cells.items() if cell["type"] == "MULT18X18D"),
        key=lambda name: (_place(cells[name]), name),
    )
    unused = 1 + max(
        (
            bit
            for cell in cells.values()
            for bits in cell["connections"].values()
            for bit in bits
            if isinstance(bit, int)
        ),
        default=1,
    )
    for n, name in enumerate(multipliers):
        cell = cells[name]
        own: dict[str, list[Bit]] = {}
        for pin, (bit, *_) in cell["connections"].items():
            if bit in ("0", "1") and _PINS.fullmatch(pin):
                net = unused + 2 * (n // _BLOCK) + int(bit)
                own[pin] = [net]
                result[f"$constant_{net}"] = _lut(str(bit), net)
        result[name] = {**cell, "connections": cell["connections"] | own}
    return result


def _place(multiplier: Cell) -> list[int]:
    """Row and column of its site; empty where it has none."""
    column_row = re.match(r"X(\d+)/Y(\d+)/", multiplier["attributes"].get("BEL", ""))
    return [int(number) for number in reversed(column_row.groups())] if column_row else []


def _lut(value: str, net: int) -> Cell:
    pins = {pin: ["0"] for pin in "ABCD"}
    return {
        "hide_name": 1,
        "type": "LUT4",
        "parameters": {"INIT": value * 16},
        "attributes": {},
        "port_directions": dict.fromkeys(pins, "input") | {"Z": "output"},
        "connections": {**pins, "Z": [net]},
    }

"""ECP5 netlists: drive the constant pins of multipliers from LUTs placed next to them.

The operand pins of a multiplier can be tied to constants locally; its enable, reset, sign and
source pins can not. nextpnr drives all of those on the chip from one LUT and routes them last, when
the wires around the multipliers are in use, so the router may not terminate (decision 0013)::

    one LUT ──▶ all RST0, SOURCEA, SOURCEB        becomes        a LUT for every four multipliers
"""

import re
from collections.abc import Mapping
from typing import Any

from .json_netlist import Bit, Cell, first_unused, lut

__all__ = ["localize"]

#: multipliers that share their constants: the four of a DSP block
_BLOCK = 4
#: pins that can not be tied to a constant locally
_PINS = re.compile(r"(CE|RST)\d|(SIGNED|SOURCE)[AB]")


def localize(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Add LUTs for the multipliers' constants; returns yosys' JSON netlist and their number."""
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
    unused = first_unused(cells)
    for n, name in enumerate(multipliers):
        cell = cells[name]
        own: dict[str, list[Bit]] = {}
        for pin, (bit, *_) in cell["connections"].items():
            if bit in ("0", "1") and _PINS.fullmatch(pin):
                net = unused + 2 * (n // _BLOCK) + int(bit)
                own[pin] = [net]
                result[f"$constant_{net}"] = lut(16 * str(bit), "0000", net)
        result[name] = {**cell, "connections": cell["connections"] | own}
    return result


def _place(multiplier: Cell) -> list[int]:
    """Row and column of the multiplier's site; empty if it has no fixed site."""
    column_row = re.match(r"X(\d+)/Y(\d+)/", multiplier["attributes"].get("BEL", ""))
    return [int(number) for number in reversed(column_row.groups())] if column_row else []

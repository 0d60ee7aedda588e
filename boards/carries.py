"""Gates before ECP5 adders, moved into the adders' own LUTs.

Each bit of an adder is a LUT of four inputs beside the carry, of which yosys uses two::

    LUT4(x, y, z) ── b ──▶ CCU2C.B       becomes       x, y, z ──▶ CCU2C.B, C, D
             a ──────────▶ CCU2C.A                     a ────────▶ CCU2C.A

So an addend that is masked, or chosen, costs neither a LUT nor its delay. The LUT of a bit tells
whether the two addends differ. Where they are alike the carry out is what a second LUT gives, of A
and B alone, whose table is the first four bits of the other; it must be A, as it is if the addend
is 0 whenever C and D are.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import permutations, product
from typing import Any

from .packing import Bit, Cell

__all__ = ["absorb"]

#: inputs of a gate that may move
_MOST = 3
#: the table of a bit of an adder, as yosys makes it: ``A ^ (B ^ C if D else 0)``
_ADDER = "1001011010101010"
#: at D, which the table does not look at: the chip ties it, of a 0 nextpnr would make a wire
_UNUSED = "1"


def absorb(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """yosys' JSON ``netlist`` of ECP5 cells, gates moved into adders, and how many were moved.

    A LUT of up to three inputs is moved if it drives nothing but an addend.
    """
    modules, moved = {}, 0
    for name, module in netlist["modules"].items():
        cells = _absorbed(module)
        moved += len(module["cells"]) - len(cells)
        modules[name] = {**module, "cells": cells}
    return {**netlist, "modules": modules}, moved


def _absorbed(module: Mapping[str, Any]) -> dict[str, Cell]:
    cells: dict[str, Cell] = dict(module["cells"])
    gates = _gates(module)
    for name, cell in module["cells"].items():
        if cell["type"] != "CCU2C":
            continue
        for half in "01":
            move = next(_moves(cell, half, gates, cells), None)
            if move is not None:
                gate, table, inputs = move
                cell = {**cell, "parameters": cell["parameters"] | {f"INIT{half}": table},
                        "connections": cell["connections"] | {
                            pin + half: [bit] for pin, bit in zip("ABCD", inputs, strict=True)}}
                del cells[gate]
        cells[name] = cell
    return cells


def _gates(module: Mapping[str, Any]) -> dict[Bit, str]:
    """LUTs that may move, by what they drive: nothing else reads it."""
    cells = module["cells"]
    loads = Counter(bit for cell in cells.values() for port, bits in cell["connections"].items()
                    if cell["port_directions"][port] != "output" for bit in bits)
    loads.update(bit for port in module["ports"].values() if port["direction"] != "input"
                 for bit in port["bits"])
    outputs = {cell["connections"]["Z"][0]: name for name, cell in cells.items()
               if cell["type"] == "LUT4" and "keep" not in cell["attributes"]}
    return {bit: name for bit, name in outputs.items() if loads[bit] == 1}


def _moves(carry: Cell, half: str, gates: Mapping[Bit, str],
           cells: Mapping[str, Cell]) -> Iterator[tuple[str, str, Sequence[Bit]]]:
    """Gates that may move into a ``half``, with its table and inputs A to D after that."""
    a, b, c, d = (carry["connections"][pin + half][0] for pin in "ABCD")
    plain = {"INIT": _ADDER, "INJECT1_": "NO"}
    if d != "1" or any(carry["parameters"][key + half] != value for key, value in plain.items()):
        return
    # C inverts what is at B
    for addend, other, inverts in ((b, a, ("0", "1")), (a, b, ("0",))):
        if addend in gates and c in inverts:
            bit = _bit(other, cells[gates[addend]], invert=c == "1")
            if bit is not None:
                yield gates[addend], *bit


def _bit(other: Bit, lut: Cell, invert: bool) -> tuple[str, Sequence[Bit]] | None:
    """The table and the inputs A to D of an adder's bit for ``other`` and what ``lut`` gives; None
    where there are none.
    """
    wires = {pin: lut["connections"].get(pin, ["0"])[0] for pin in "ABCD"}
    inputs = sorted({bit for bit in wires.values() if isinstance(bit, int)})
    if len(inputs) > _MOST:
        return None
    init = int(lut["parameters"]["INIT"], 2)

    def addend(values: Mapping[Bit, int]) -> int:
        at = sum((values[bit] if isinstance(bit, int) else bit == "1") << n
                 for n, bit in enumerate(wires.values()))
        return (init >> at & 1) ^ invert

    unused: list[Bit] = [_UNUSED] * (_MOST - len(inputs))
    for pins in permutations([*inputs, *unused]):
        def at(*values: int, pins: Sequence[Bit] = pins) -> int:
            return addend(dict(zip(pins, values, strict=True)))

        if not at(0, 0, 0) and not at(1, 0, 0):
            table = [a ^ at(b, c, d) for d, c, b, a in product((0, 1), repeat=4)]
            return "".join(map(str, reversed(table))), (other, *pins)
    return None

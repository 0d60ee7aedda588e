"""ECP5 netlists: merge the gates in front of an adder into the adder's LUTs.

Each bit of an adder has a LUT of four inputs next to the carry. yosys uses two of the inputs::

    LUT4(x, y, z) ── b ──▶ CCU2C.B       becomes       x, y, z ──▶ CCU2C.B, C, D
             a ──────────▶ CCU2C.A                     a ────────▶ CCU2C.A

An addend that is masked or selected then costs no LUT and no delay of its own; the same holds for
two masked addends. The LUT of a bit computes whether the two addends differ. If they are equal, the
carry out comes from a second LUT, which sees only A and B; its table is the first four bits of the
first LUT's table.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import Any

from .json_netlist import Bit, Cell, loads

__all__ = ["absorb", "end"]

#: the LUT table of an adder bit as yosys writes it: ``A ^ (B ^ C if D else 0)``
_ADDER = "1001011010101010"
#: constant at a pin that the table ignores: the chip ties 1 locally, nextpnr routes a 0 as a wire
_UNUSED = "1"
#: the net of an unconnected port; nextpnr requires the port to exist
_NOWHERE = "x"
_PINS = 4
#: most addends that a gate is merged into: its inputs are then routed to each of them
_MOST_LOADS = 4

_Truth = tuple[int, ...]


@dataclass(frozen=True)
class _Addend:
    """An addend bit as a truth table over its inputs; the first input is bit 0 of the index."""

    inputs: tuple[Bit, ...]
    truth: _Truth

    def over(self, inputs: Sequence[Bit]) -> _Truth:
        """The same function as a truth table over ``inputs``, a superset of its own."""
        places = [inputs.index(bit) for bit in self.inputs]
        return tuple(
            self.truth[sum((n >> place & 1) << k for k, place in enumerate(places))]
            for n in range(1 << len(inputs))
        )


def absorb(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Merge gates into adders; returns yosys' JSON netlist of ECP5 cells and the number of gates.

    A LUT is merged if it drives only addends (a sign bit drives several) and each of the adder bits
    that it drives then has at most four inputs.
    """
    modules, moved = {}, 0
    for name, module in netlist["modules"].items():
        cells = _absorbed(module)
        moved += len(module["cells"]) - len(cells)
        modules[name] = {**module, "cells": cells}
    return {**netlist, "modules": modules}, moved


def end(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Disconnect carry outputs that have no load; returns the netlist and their number.

    nextpnr inserts an extra carry cell for every connected carry output that leaves its chain.
    """
    modules, ended = {}, 0
    for name, module in netlist["modules"].items():
        read = loads(module)
        last = [
            name
            for name, cell in module["cells"].items()
            if cell["type"] == "CCU2C" and not read[cell["connections"]["COUT"][0]]
        ]
        cells = dict(module["cells"])
        for carry in last:
            cells[carry] = {
                **cells[carry],
                "connections": cells[carry]["connections"] | {"COUT": [_NOWHERE]},
            }
        modules[name] = {**module, "cells": cells}
        ended += len(last)
    return {**netlist, "modules": modules}, ended


def _absorbed(module: Mapping[str, Any]) -> dict[str, Cell]:
    """The cells, with every gate merged that fits into all of its loads."""
    gates = _gates(module)
    while True:
        moves = {
            (name, half): move
            for name, cell in module["cells"].items()
            if cell["type"] == "CCU2C"
            for half in "01"
            if (move := _move(cell, half, gates, module["cells"])) is not None
        }
        taken = Counter(bit for gone, _, _ in moves.values() for bit in gone)
        stay = {bit for bit, gate in gates.items() if taken[bit] < gate.loads}
        if not stay & set(taken):
            break
        gates = {bit: gate for bit, gate in gates.items() if bit not in stay}
    cells: dict[str, Cell] = dict(module["cells"])
    for (name, half), (_, table, inputs) in moves.items():
        cell = cells[name]
        cells[name] = {
            **cell,
            "parameters": cell["parameters"] | {f"INIT{half}": table},
            "connections": cell["connections"]
            | {pin + half: [bit] for pin, bit in zip("ABCD", inputs, strict=True)},
        }
    for bit in taken:
        del cells[gates[bit].name]
    return cells


@dataclass(frozen=True)
class _Gate:
    """A LUT that drives only addends: its cell name and the number of addends."""

    name: str
    loads: int


def _gates(module: Mapping[str, Any]) -> dict[Bit, _Gate]:
    """The LUTs that drive only addends, by their output net."""
    cells = module["cells"]
    read = loads(module)
    addends = Counter(
        cell["connections"][pin][0]
        for cell in cells.values()
        if cell["type"] == "CCU2C"
        for pin in ("A0", "B0", "A1", "B1")
    )
    outputs = {
        cell["connections"]["Z"][0]: name
        for name, cell in cells.items()
        if cell["type"] == "LUT4" and "keep" not in cell["attributes"]
    }
    return {
        bit: _Gate(name, read[bit])
        for bit, name in outputs.items()
        if read[bit] == addends[bit] and 0 < read[bit] <= _MOST_LOADS
    }


def _move(
    carry: Cell, half: str, gates: Mapping[Bit, _Gate], cells: Mapping[str, Cell]
) -> tuple[tuple[Bit, ...], str, Sequence[Bit]] | None:
    """The largest merge of gates into one ``half`` of a carry cell; None if there is none.

    Returns the output nets of the merged gates, and the half's new table and inputs A to D.
    """
    a, b, c, d = (carry["connections"][pin + half][0] for pin in "ABCD")
    plain = {"INIT": _ADDER, "INJECT1_": "NO"}
    if (
        c not in ("0", "1")
        or d != "1"
        or any(carry["parameters"][key + half] != value for key, value in plain.items())
    ):
        return None
    # C inverts the addend at B
    inverts = (False, c == "1")
    for moving in ((a, b), (b,), (a,)):
        if all(bit in gates for bit in moving):
            first, second = (
                _gate(cells[gates[bit].name], invert) if bit in moving else _wire(bit, invert)
                for bit, invert in zip((a, b), inverts, strict=True)
            )
            inputs = sorted({*first.inputs, *second.inputs}, key=str)
            if len(inputs) <= _PINS:
                found = _table(len(inputs), first.over(inputs), second.over(inputs))
                if found is not None:
                    table, pins = found
                    return (
                        moving,
                        table,
                        [_UNUSED if pin is None else inputs[pin] for pin in pins],
                    )
    return None


def _wire(bit: Bit, invert: bool) -> _Addend:
    if isinstance(bit, int):
        return _Addend((bit,), (int(invert), int(not invert)))
    return _Addend((), ((bit == "1") ^ invert,))


def _gate(lut: Cell, invert: bool) -> _Addend:
    wires = [lut["connections"].get(pin, ["0"])[0] for pin in "ABCD"]
    inputs = tuple(sorted({bit for bit in wires if isinstance(bit, int)}))
    init = int(lut["parameters"]["INIT"], 2)
    truth = []
    for n in range(1 << len(inputs)):
        values = {bit: n >> k & 1 for k, bit in enumerate(inputs)} | {"1": 1}
        at = sum(values.get(bit, 0) << k for k, bit in enumerate(wires))
        truth.append((init >> at & 1) ^ invert)
    return _Addend(inputs, tuple(truth))


@cache
def _table(inputs: int, first: _Truth, second: _Truth) -> tuple[str, list[int | None]] | None:
    """The table of an adder bit for two addends, and the input at each pin.

    None if no order of the inputs makes the first four entries compute the carry.
    """
    unused: list[int | None] = [None] * (_PINS - inputs)
    every = [values[::-1] for values in product((0, 1), repeat=_PINS)]
    for pins in permutations([*range(inputs), *unused]):

        def at(values: Sequence[int], pins: Sequence[int | None] = pins) -> int:
            return sum(v << pin for v, pin in zip(values, pins, strict=True) if pin is not None)

        differ = [first[at(values)] ^ second[at(values)] for values in every]
        if all(
            differ[a + 2 * b] == first[at((a, b, c, d))]
            for (a, b, c, d), apart in zip(every, differ, strict=True)
            if not apart
        ):
            return "".join(map(str, reversed(differ))), list(pins)
    return None

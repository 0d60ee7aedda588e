"""Gates before ECP5 adders, moved into the adders' own LUTs.

Each bit of an adder is a LUT of four inputs beside the carry, of which yosys uses two::

    LUT4(x, y, z) ── b ──▶ CCU2C.B       becomes       x, y, z ──▶ CCU2C.B, C, D
             a ──────────▶ CCU2C.A                     a ────────▶ CCU2C.A

So an addend that is masked, or chosen, costs neither a LUT nor its delay, nor do two that are
masked. The LUT of a bit tells whether the two addends differ. Where they are alike the carry out is
what a second LUT gives, of A and B alone, whose table is the first four bits of the other.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import permutations, product
from typing import Any

from .pack_registers import Bit, Cell

__all__ = ["absorb", "end"]

#: the table of a bit of an adder, as yosys makes it: ``A ^ (B ^ C if D else 0)``
_ADDER = "1001011010101010"
#: at a pin that the table does not look at: the chip ties it, of a 0 nextpnr would make a wire
_UNUSED = "1"
#: what a port is connected to that is not; nextpnr wants the port to be there
_NOWHERE = "x"
_PINS = 4
#: addends that a gate moves into, at most: its inputs then reach all of them
_MOST_LOADS = 4

_Truth = tuple[int, ...]


@dataclass(frozen=True)
class _Addend:
    """A bit to add: its value for each of its inputs' (the first one's counts 1)."""

    inputs: tuple[Bit, ...]
    truth: _Truth

    def over(self, inputs: Sequence[Bit]) -> _Truth:
        """The same of more inputs."""
        places = [inputs.index(bit) for bit in self.inputs]
        return tuple(
            self.truth[sum((n >> place & 1) << k for k, place in enumerate(places))]
            for n in range(1 << len(inputs))
        )


def absorb(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """yosys' JSON ``netlist`` of ECP5 cells, gates moved into adders, and how many were moved.

    A LUT is moved if it drives nothing but addends, such as the bits of a sign, and each of those
    bits has no more than four inputs then.
    """
    modules, moved = {}, 0
    for name, module in netlist["modules"].items():
        cells = _absorbed(module)
        moved += len(module["cells"]) - len(cells)
        modules[name] = {**module, "cells": cells}
    return {**netlist, "modules": modules}, moved


def end(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The ``netlist`` without carries that nobody reads, and how many: for each of them nextpnr
    makes a carry cell more, to lead it out.
    """
    modules, ended = {}, 0
    for name, module in netlist["modules"].items():
        read = {bit for port in module["ports"].values() for bit in port["bits"]}
        read.update(
            bit
            for cell in module["cells"].values()
            for port, bits in cell["connections"].items()
            if cell["port_directions"][port] != "output"
            for bit in bits
        )
        last = [
            name
            for name, cell in module["cells"].items()
            if cell["type"] == "CCU2C" and not read.issuperset(cell["connections"]["COUT"])
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
    """The cells, with those gates moved that all their loads can take."""
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
    """A LUT that may move, and how many addends it drives: nothing else reads it."""

    name: str
    loads: int


def _gates(module: Mapping[str, Any]) -> dict[Bit, _Gate]:
    """Those LUTs, by what they drive."""
    cells = module["cells"]
    loads = Counter(
        bit
        for cell in cells.values()
        for port, bits in cell["connections"].items()
        if cell["port_directions"][port] != "output"
        for bit in bits
    )
    loads.update(
        bit
        for port in module["ports"].values()
        if port["direction"] != "input"
        for bit in port["bits"]
    )
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
        bit: _Gate(name, loads[bit])
        for bit, name in outputs.items()
        if loads[bit] == addends[bit] and 0 < loads[bit] <= _MOST_LOADS
    }


def _move(
    carry: Cell, half: str, gates: Mapping[Bit, _Gate], cells: Mapping[str, Cell]
) -> tuple[tuple[Bit, ...], str, Sequence[Bit]] | None:
    """What gates drive that move into a ``half``, as many as can, with its table and inputs A to D
    then; None where there are none.
    """
    a, b, c, d = (carry["connections"][pin + half][0] for pin in "ABCD")
    plain = {"INIT": _ADDER, "INJECT1_": "NO"}
    if (
        c not in ("0", "1")
        or d != "1"
        or any(carry["parameters"][key + half] != value for key, value in plain.items())
    ):
        return None
    # C inverts what is at B
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
    """The table of a bit of an adder for two addends, and which input is at which pin; None where
    no order gives the carry.
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

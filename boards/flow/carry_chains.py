"""ECP5 netlists: bring the carry into a chain of adders through half a cell.

A CCU2C holds two bits of an adder. Its carry input takes nothing but the carry of the cell before,
so nextpnr puts a cell in front of each chain whose carry begins as a constant or comes from a wire;
the second half of that cell is lost, and a constant gets wires. Here the half that is needed begins
the chain, and all bits move up by one::

    (carry, -) (bit 0, bit 1) (bit 2, -)     becomes     (carry, bit 0) (bit 1, bit 2)

Where the carry out of bit 0 depends on two inputs at most, a half with this carry alone can take
the place of the carry in and of bit 0, whose sum is then a LUT beside the chain::

    (carry, -) (bit 0, bit 1) (bit 2, bit 3)     becomes     (carry 0, bit 1) (bit 2, bit 3)

A half has ``differ ^ carry`` as its sum and passes ``carry if differ else both`` on: ``differ`` is
the table of its four inputs, ``both`` that of A and B, the first four bits of the same table.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from .json_netlist import Bit, Cell, first_unused, loads, lut

__all__ = ["shorten"]

#: constant at a pin that the table ignores: the chip ties it locally
_UNUSED = "1"
#: the net of an unconnected port; nextpnr requires the port to exist
_NOWHERE = "x"
_CONSTANTS = ("0", "1")


@dataclass(frozen=True)
class _Half:
    """A bit of an adder: the net of its sum, the bits at A to D, and its table as in INIT."""

    sum: Bit = _NOWHERE
    pins: tuple[Bit, ...] = (_UNUSED,) * 4
    table: str = "0" * 16

    @property
    def inputs(self) -> tuple[int, ...]:
        return tuple(sorted({bit for bit in self.pins if isinstance(bit, int)}))

    def carries(self, carry: Bit) -> list[Bit]:
        """The carry out for all values of the inputs, the first of them changing fastest;
        ``carry`` comes in.
        """
        values = (
            dict(zip(reversed(self.inputs), bits, strict=True)) | {"1": 1}
            for bits in product((0, 1), repeat=len(self.inputs))
        )
        return [
            carry if self._entry(known, 4) == "1" else self._entry(known, 2) for known in values
        ]

    def _entry(self, known: Mapping[Bit, int], pins: int) -> str:
        """The table's entry for the values at so many pins, and 0 at the others."""
        index = sum(known.get(bit, 0) << n for n, bit in enumerate(self.pins[:pins]))
        return self.table[-1 - index]


@dataclass(frozen=True)
class _Chain:
    """A chain of cells, with the carries between them, its carry in, and its bits. One that gives
    the carry of those before as its sum is the last where somebody reads that.
    """

    cells: tuple[str, ...]
    links: tuple[Bit, ...]
    carry: Bit
    bits: tuple[_Half, ...]

    @property
    def halves(self) -> int:
        """Those that the chain takes with the cells that nextpnr adds."""
        ends = self.bits[-1] == _Half(self.bits[-1].sum)
        return 2 * (len(self.cells) + 1 + ends)


def shorten(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Begin every chain with half a cell; returns yosys' JSON netlist of ECP5 cells, and how many
    LUTs fewer it takes, those counted that nextpnr would add.

    A chain whose carry is read between two of its cells stays as it is.
    """
    modules, saved = {}, 0
    for name, module in netlist["modules"].items():
        work = _Module(module)
        modules[name] = {**module, "cells": work.cells}
        saved += work.saved
    return {**netlist, "modules": modules}, saved


class _Module:
    """The ``cells`` of one module with its chains shortened, and the LUTs that were saved."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        self.cells: dict[str, Cell] = dict(module["cells"])
        self.saved = 0
        self._loads = loads(module)
        self._unused = first_unused(self.cells)
        for chain in list(self._chains()):
            self._replace(chain)

    def _chains(self) -> Iterator[_Chain]:
        carries = {name: cell for name, cell in self.cells.items() if cell["type"] == "CCU2C"}
        following = {_net(cell, "CIN"): name for name, cell in carries.items()}
        made = {_net(cell, "COUT") for cell in carries.values()}
        for head, cell in carries.items():
            carry = _net(cell, "CIN")
            if carry in made or carry == _NOWHERE:
                continue
            names = [head]
            while (out := _net(carries[names[-1]], "COUT")) in following and self._read(out):
                names.append(following[out])
            links = tuple(_net(carries[name], "COUT") for name in names[:-1])
            if all(self._loads[link] == 1 for link in links) and all(
                carries[name]["parameters"][f"INJECT1_{half}"] == "NO"
                for name in names
                for half in "01"
            ):
                bits = [self._half(carries[name], half) for name in names for half in "01"]
                if self._read(out):
                    bits.append(_Half(out))
                elif bits[-1].sum == _NOWHERE:
                    del bits[-1]
                yield _Chain(tuple(names), links, carry, tuple(bits))

    def _read(self, net: Bit) -> bool:
        return isinstance(net, int) and self._loads[net] > 0

    def _half(self, cell: Cell, half: str) -> _Half:
        total = _net(cell, f"S{half}")
        return _Half(
            total if self._read(total) else _NOWHERE,
            tuple(_net(cell, pin + half) for pin in "ABCD"),
            cell["parameters"][f"INIT{half}"],
        )

    def _replace(self, chain: _Chain) -> None:
        """Put fewer cells in the place of those of ``chain``, and LUTs beside them."""
        bits, carry, beside = list(chain.bits), chain.carry, list[Cell]()
        while carry in _CONSTANTS and len(bits) > 1:
            carries = set(bits[0].carries(carry))
            if len(carries) > 1:
                break
            beside += _sum(bits.pop(0), carry)
            (carry,) = carries
        if carry in _CONSTANTS and len(bits) % 2 == 0 and len(bits[0].inputs) <= 2:
            beside += _sum(bits[0], carry)
            bits[0] = _carry_out(bits[0], carry)
        else:
            bits.insert(0, _carry_in(carry))
        if len(bits) % 2:
            bits.append(_Half())
        pairs = list(zip(bits[::2], bits[1::2], strict=True))
        links = [*chain.links, *self._nets(len(pairs))]
        kept = [self.cells.pop(name) for name in chain.cells]
        names = [*chain.cells, f"{chain.cells[-1]}$more"]
        ins = [_NOWHERE, *links]
        outs = [*links[: len(pairs) - 1], _NOWHERE]
        for name, pair, link, out in zip(names, pairs, ins, outs, strict=False):
            self.cells[name] = _cell(kept[0], pair, link, out)
        for gate in beside:
            self.cells[f"{chain.cells[0]}$sum_{_net(gate, 'Z')}"] = gate
        self.saved += chain.halves - len(bits) - len(beside)

    def _nets(self, number: int) -> list[Bit]:
        """So many new ones."""
        first, self._unused = self._unused, self._unused + number
        return list(range(first, self._unused))


def _net(cell: Cell, port: str) -> Bit:
    bit: Bit = cell["connections"][port][0]
    return bit


def _carry_in(carry: Bit) -> _Half:
    """Passes ``carry`` on, which it has at A."""
    tables = {"0": "0000", "1": "1111"}
    if carry in tables:
        return _Half(table="0" * 12 + tables[str(carry)])
    return _Half(pins=(carry, *_Half().pins[1:]), table="0" * 12 + "1010")


def _carry_out(half: _Half, carry: Bit) -> _Half:
    """Passes only the carry of ``half`` on, which has two inputs at most."""
    carries = "".join(map(str, half.carries(carry)))
    unused = (_UNUSED,) * (4 - len(half.inputs))
    return _Half(
        pins=(*half.inputs, *unused),
        table="0" * 12 + (carries * (4 // len(carries)))[::-1],
    )


def _sum(half: _Half, carry: Bit) -> list[Cell]:
    """A LUT with the sum of ``half``; none if nobody reads it."""
    if half.sum == _NOWHERE:
        return []
    inverted = half.table.translate(str.maketrans("01", "10"))
    return [lut(inverted if carry == "1" else half.table, half.pins, half.sum)]


def _cell(like: Cell, pair: Sequence[_Half], carry: Bit, out: Bit) -> Cell:
    """A cell like another, with such halves between the carries in and out."""
    connections, parameters = {"CIN": [carry], "COUT": [out]}, dict[str, str]()
    for n, half in enumerate(pair):
        parameters[f"INIT{n}"] = half.table
        connections[f"S{n}"] = [half.sum]
        connections |= {f"{pin}{n}": [bit] for pin, bit in zip("ABCD", half.pins, strict=True)}
    return {
        **like,
        "parameters": like["parameters"] | parameters,
        "connections": like["connections"] | connections,
    }

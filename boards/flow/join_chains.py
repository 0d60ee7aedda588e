"""ECP5 netlists: join chains of carries in pairs, so that they fill tiles.

nextpnr begins each chain at the first of a tile's four cells. The rest of the chain's last tile is
left to LUTs and registers: two chains of five cells take four tiles, and as one of ten cells three.
Joined are chains whose sums meet in an adder, so that they belong near each other anyway. The
second begins with a half that ignores the carry of the first (:mod:`.carry_chains`).

nextpnr's timing analysis counts a path from the first chain into the second, although no value
depends on it. So that no loop closes through such paths, the first chain has all its inputs from
registers.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from ...hw.sizes import ceil_div
from .json_netlist import Bit, Cell, first_unused, loads

__all__ = ["TILE", "join", "tiles"]

#: cells of a chain in a tile
TILE = 4

_PINS = tuple(pin + half for half in "01" for pin in "ABCD")


def join(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """Join chains in pairs where that takes fewer tiles; returns yosys' JSON netlist of ECP5 cells,
    and how many tiles fewer its chains take.
    """
    modules, saved = {}, 0
    for name, module in netlist["modules"].items():
        work = _Module(module)
        saved += work.join()
        modules[name] = {**module, "cells": work.cells}
    return {**netlist, "modules": modules}, saved


def tiles(netlist: Mapping[str, Any]) -> int:
    """The tiles that the chains of a netlist take."""
    return sum(
        _tiles(chain) for module in netlist["modules"].values() for chain in _Module(module).chains
    )


def _tiles(*chains: tuple[str, ...]) -> int:
    return ceil_div(sum(map(len, chains)), TILE)


class _Module:
    """The ``cells`` of one module, and its ``chains`` of cells' names."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        self._module = module
        self.cells: dict[str, Cell] = dict(module["cells"])
        carries = {name: cell for name, cell in self.cells.items() if cell["type"] == "CCU2C"}
        following = {cell["connections"]["CIN"][0]: name for name, cell in carries.items()}
        made = {cell["connections"]["COUT"][0] for cell in carries.values()} - {"x"}
        self.chains = [
            tuple(self._from(head, following))
            for head, cell in carries.items()
            if cell["connections"]["CIN"][0] not in made
        ]

    def _from(self, name: str, following: Mapping[Bit, str]) -> Iterator[str]:
        yield name
        while isinstance(out := self._net(name, "COUT"), int) and out in following:
            name = following[out]
            yield name

    def _net(self, name: str, port: str) -> Bit:
        bit: Bit = self.cells[name]["connections"].get(port, ["x"])[0]
        return bit

    def join(self) -> int:
        """Join pairs of chains; returns the tiles saved."""
        joined, saved, link = set[int](), 0, first_unused(self.cells)
        for pair in self._meeting():
            if joined & set(pair):
                continue
            first, second = (self.chains[n] for n in pair)
            gain = _tiles(first) + _tiles(second) - _tiles(first, second)
            if not gain:
                continue
            if not self._first(first):
                first, second = second, first
            if self._first(first) and self._second(second):
                self._connect(first[-1], "COUT", link)
                self._connect(second[0], "CIN", link)
                joined |= set(pair)
                saved, link = saved + gain, link + 1
        return saved

    def _connect(self, name: str, port: str, net: Bit) -> None:
        cell = self.cells[name]
        self.cells[name] = {**cell, "connections": cell["connections"] | {port: [net]}}

    def _meeting(self) -> list[tuple[int, int]]:
        """Of each chain the two others of which it adds most bits, at once or after a register."""
        adds: dict[int, Counter[int]] = defaultdict(Counter)
        for n, chain in enumerate(self.chains):
            for name in chain:
                for pin in _PINS:
                    source = self._sums.get(self._net(name, pin), n)
                    if source != n:
                        adds[n][source] += 1
        pairs = ([source for source, _ in found.most_common(2)] for found in adds.values())
        return [(pair[0], pair[1]) for pair in pairs if len(pair) == 2]

    @cached_property
    def _loads(self) -> Counter[Bit]:
        return loads(self._module)

    @cached_property
    def _sums(self) -> dict[Bit, int]:
        """The chain that each net is a sum of, in a register or not."""
        found: dict[Bit, int] = {
            self._net(name, port): n
            for n, chain in enumerate(self.chains)
            for name in chain
            for port in ("S0", "S1")
        }
        found.pop("x", None)
        for name in self._registers.values():
            source = found.get(self._net(name, "DI"))
            if source is not None:
                found[self._net(name, "Q")] = source
        return found

    @cached_property
    def _registers(self) -> dict[Bit, str]:
        """The registers by the nets they drive."""
        return {
            self._net(name, "Q"): name
            for name, cell in self.cells.items()
            if cell["type"] == "TRELLIS_FF"
        }

    def _first(self, chain: tuple[str, ...]) -> bool:
        """Whether nothing reads the chain's last carry, and its inputs are registers."""
        out = self._net(chain[-1], "COUT")
        return not (isinstance(out, int) and self._loads[out]) and all(
            bit in self._registers
            for name in chain
            for bit in (self._net(name, pin) for pin in _PINS)
            if isinstance(bit, int)
        )

    def _second(self, chain: tuple[str, ...]) -> bool:
        """Whether the chain begins without a carry, with a half that ignores it: its table is 0 for
        all values of its inputs, and nobody reads its sum.
        """
        total = self._net(chain[0], "S0")
        table = int(self.cells[chain[0]]["parameters"]["INIT0"], 2)
        pins = [self._net(chain[0], pin) for pin in _PINS[:4]]
        values = (
            n
            for n in range(16)
            if all(
                not isinstance(bit, str) or n >> place & 1 == (bit != "0")
                for place, bit in enumerate(pins)
            )
        )
        return (
            not isinstance(self._net(chain[0], "CIN"), int)
            and not (isinstance(total, int) and self._loads[total])
            and not any(table >> n & 1 for n in values)
        )

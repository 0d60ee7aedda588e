"""Constants in block RAM, at the shapes and the clock of the block RAMs themselves."""

from collections.abc import Sequence
from functools import reduce
from math import ceil
from operator import or_

from amaranth import Cat, Module, Mux, Value
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..control.delay import delay
from ..target.base import Target
from ..target.resources import Resources
from .tiles import TABLE, chosen, cover, estimate, in_tiles, tile

__all__ = ["Rom", "table"]

_TABLE_BITS = TABLE.bit_length() - 1


class Rom(wiring.Component):
    """``data = words[address]``, :attr:`latency` cycles later, one a cycle.

    Each block RAM is followed by a register that yosys merges into it as its output register; then
    the tile that holds the address is selected, and registered. A remainder that is too small for a
    block RAM is in logic: a few words below the others, or a few bits of all words, which are
    selected in two steps; with ``whole`` only a few bits.

    Members
    -------
    address : In(range(depth))
    data : Out(width)
    """

    #: the block RAM, its output register, the selection
    latency = 3

    def __init__(self, words: Sequence[int], width: int, target: Target, whole: bool = False):
        self.words = words
        self.target = target
        self.whole = whole
        self.strips = cover(len(words), width, target, logic=True, whole=whole)
        super().__init__({"address": In(range(max(2, len(words)))), "data": Out(width)})

    def resources(self) -> Resources:
        """An estimate; block RAMs are exact."""
        depth, width = len(self.words), len(self.data)
        return estimate(depth, width, self.target, self.latency, True, self.whole)

    def elaborate(self, platform):
        m = Module()
        parts, first = [], 0
        for n, strip in enumerate(self.strips):
            held = [
                self._segment(m, f"strip_{n}_{k}", strip, segment, first)
                for k, segment in enumerate(strip.segments)
            ]
            in_logic = not (strip.has_choice or strip.segments[0].bits)
            parts.append(held[0] if in_logic else chosen(m, strip, self.address, held))
            first += strip.width
        m.d.comb += self.data.eq(Cat(parts))
        return m

    def _segment(self, m, name, strip, segment, first):
        """The segment's word at the address, two cycles later, or three where it is a strip in
        logic; ``first``: the strip's first bit.
        """
        words = self.words[segment.start : segment.start + segment.words]
        if not segment.bits:
            mask = (1 << strip.width) - 1
            return table(
                m,
                name,
                self.address,
                [word >> first & mask for word in words],
                strip.width,
                steps=1 if strip.has_choice else 2,
            )
        held = []
        for n, bits in enumerate(in_tiles(strip, segment)):
            mask = (1 << len(bits)) - 1
            store = tile(
                m,
                f"{name}_{n}",
                len(words),
                len(bits),
                [word >> (first + bits.start) & mask for word in words],
            )
            read = store.read_port()
            m.d.comb += read.addr.eq(self.address)
            held.append(delay(m, read.data, 1))
        return Cat(held)


def table(
    m: Module, name: str, address: Value, words: Sequence[int], width: int, steps: int = 1
) -> Value:
    """``words[address]`` from tables of one LUT a bit, a cycle later, and a selection in ``steps``
    more, which for hundreds of tables must be several.
    """
    several = len(words) > TABLE
    which = address[_TABLE_BITS : (len(words) - 1).bit_length()] if several else None
    tables = []
    for n, start in enumerate(range(0, len(words), TABLE)):
        part = words[start : start + TABLE]
        store = memory.Memory(
            shape=width,
            depth=len(part),
            init=part,
            attrs={"rom_style": "logic", "ram_style": "logic"},
        )
        m.submodules[f"{name}_table_{n}"] = store
        read = store.read_port()
        m.d.comb += read.addr.eq(address[:_TABLE_BITS])
        tables.append(Mux(delay(m, which == n, 1), read.data, 0) if several else read.data)
    for step in range(steps, 0, -1):
        together = ceil(len(tables) ** (1 / step))
        groups = [tables[n : n + together] for n in range(0, len(tables), together)]
        tables = [delay(m, reduce(or_, group), 1) for group in groups]
    return tables[0]

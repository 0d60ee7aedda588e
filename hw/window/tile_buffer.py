"""The tile buffer of minimal filtering: reads of a window, transformed, position by position."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from amaranth import Array, Cat, Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.minimal_filtering import (
    COLUMNS,
    INPUTS,
    OUTPUTS,
    POSITIONS,
    add_or_subtract,
    input_difference,
)
from ..control.credits import counter_nonzero, credit_available
from ..control.delay import delay, delay_flags, duplicate, fanout_slices
from ..control.loops import Loops
from ..memory.ram import Ram, RamConfig
from ..sizes import at_least, ceil_div
from ..stream.signature import PushStream
from ..target.base import Target
from ..target.resources import Resources

__all__ = ["TileBuffer", "TileBufferConfig"]

#: more cycles than pass from the last read of a tile until the first word of another one is there
_REFILL = 32


@dataclass(frozen=True)
class TileBufferConfig:
    """Tiles of ``rows`` rows of four columns, each of ``words`` words of ``width`` elements.

    Of each of the four positions a reduction of ``rows * words`` words leaves ``passes`` times.
    """

    rows: int
    words: int
    width: int
    passes: int
    element: Shape
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "rows", "words", "width", "passes")

    @property
    def folds(self) -> int:
        """Words of a reduction."""
        return self.rows * self.words

    @property
    def reads(self) -> int:
        """Words of a tile."""
        return COLUMNS * self.folds

    @property
    def cycles(self) -> int:
        """Cycles of a tile."""
        return POSITIONS * self.passes * self.folds

    @property
    def tiles(self) -> int:
        """Tiles stored: one that leaves, and those that arrive meanwhile."""
        return 1 + ceil_div(self.reads + _REFILL, self.cycles)

    @property
    def transformed(self) -> Shape:
        return input_difference(self.element)

    def slices(self) -> list[slice]:
        """Parts of a word that are stored by themselves, of whole elements."""
        bits = self.element.width
        most = next(fanout_slices(self.width * bits))
        step = max(1, most.stop // bits)
        return [slice(n, min(n + step, self.width)) for n in range(0, self.width, step)]

    def stores(self) -> Iterator[RamConfig]:
        """A memory of each part, of which there are two."""
        for part in self.slices():
            bits = (part.stop - part.start) * self.element.width
            yield RamConfig(self.tiles * self.reads, bits, self.target)

    @cached_property
    def ram_latency(self) -> int:
        return max(store.latency for store in self.stores())

    @property
    def latency(self) -> int:
        """Cycles from the start of a tile to its first word: two for the address, the memories',
        and the transform.
        """
        return 2 + self.ram_latency + 1

    def resources(self) -> Resources:
        """An estimate of both copies of the tiles and of the transform."""
        adders = self.width * (self.transformed.width + self.target.carry_luts)
        logic = Resources(adders + 120, self.width * self.transformed.width + 110)
        return sum((store.resources() * 2 for store in self.stores()), logic)

    @property
    def memory_bits(self) -> int:
        return 2 * self.tiles * self.reads * self.width * self.element.width


class TileBuffer(wiring.Component):
    """Hold tiles as they arrive, and send what the array multiplies: the transformed input of each
    position (:mod:`~gatewright.hw.arithmetic.minimal_filtering`), once for each pass.

    A tile arrives row by row, column by column. ``room`` is high while one more tile may be sent to
    ``i``. The positions that give outputs, the last two, start to leave in a cycle in which
    ``grant`` is high, and ``start`` marks that cycle. With tiles and grants there a word leaves
    each cycle, from one tile to the next.

    Members
    -------
    i : In(PushStream(width, element))
    room : Out(1)
    taken : In(1), a tile on its way to ``i`` takes the room
    grant : In(1)
    start : Out(1)
    o : Out(PushStream(width, transformed))
    """

    def __init__(self, config: TileBufferConfig):
        self.config = config
        super().__init__(
            {
                "i": In(PushStream(config.width, config.element)),
                "room": Out(1),
                "taken": In(1),
                "grant": In(1),
                "start": Out(1),
                "o": Out(PushStream(config.width, config.transformed)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        freed, stored, starts = Signal(), Signal(), Signal()
        m.d.comb += self.room.eq(credit_available(m, c.tiles, 1, freed, self.taken, apart=c.reads))
        stores = self._store(m, stored)
        there = counter_nonzero(m, "tiles", stored, starts, c.tiles)
        self._send(m, stores, there, starts, freed)
        return m

    def _store(self, m, stored):
        """Both copies of each part of the words. Words of a column follow each other in memory, so
        that those of a reduction do.
        """
        c = self.config
        loops = Loops(
            m,
            self.i.valid,
            {"word": c.words, "column": COLUMNS, "row": c.rows, "tile": c.tiles},
        )
        address = Signal(range(c.tiles * c.reads))
        # to the next word or tile, to the next column, to the next row
        to_column, to_row = 1 + c.folds - c.words, 1 - (COLUMNS - 1) * c.folds
        step = Mux(
            ~loops.last["word"] | loops.ends["row"],
            1,
            Mux(loops.last["column"], to_row, to_column),
        )
        with m.If(self.i.valid):
            m.d.sync += address.eq(Mux(loops.ends["tile"], 0, address + step))
        m.d.comb += stored.eq(self.i.valid & loops.ends["row"])
        stores = []
        for part, config in zip(c.slices(), c.stores(), strict=True):
            data = Cat(*self.i.payload[part])
            copies = []
            for copy in range(2):
                m.submodules[f"store_{part.start}_{copy}"] = store = Ram(config)
                m.d.comb += [
                    store.write_address.eq(address),
                    store.write_data.eq(data),
                    store.write_enable.eq(self.i.valid),
                ]
                copies.append(store)
            stores.append((part, copies))
        return stores

    def _send(self, m, stores, there, starts, freed):
        c = self.config
        go = Signal()
        loops = Loops(
            m, go, {"fold": c.folds, "turn": c.passes, "position": POSITIONS, "tile": c.tiles}
        )
        position, tile = loops.count["position"], loops.count["tile"]
        # whether the position that begins next is of a new tile, or gives an output
        begins, first, new, gives = Signal(init=1), Signal(init=1), Signal(init=1), Signal()
        with m.If(go):
            m.d.sync += [begins.eq(loops.ends["turn"]), first.eq(loops.last["fold"])]
        with m.If(go & loops.ends["turn"]):
            m.d.sync += [
                new.eq(loops.last["position"]),
                gives.eq((position >= POSITIONS - OUTPUTS - 1) & ~loops.last["position"]),
            ]
        m.d.comb += [
            go.eq(~begins | Mux(gives, self.grant, ~new | there)),
            self.start.eq(go & begins & gives),
            starts.eq(go & begins & new),
            freed.eq(delay_flags(m, go & loops.ends["position"], 1)),
        ]
        fold = delay(m, loops.count["fold"], 1)
        for which in range(2):
            bases = Array(
                n * c.reads + INPUTS[p][which] * c.folds
                for n in range(c.tiles)
                for p in range(POSITIONS)
            )
            for _, copies in stores:
                base, address = (
                    Signal(range(c.tiles * c.reads), name=f"{name}_{which}", reset_less=True)
                    for name in ("base", "address")
                )
                m.d.sync += [base.eq(bases[Cat(position, tile)]), address.eq(base + fold)]
                m.d.comb += copies[which].address.eq(address)
        subtracts = Signal()
        m.d.comb += subtracts.eq(Array(minus for _, _, minus in INPUTS)[position])
        minus = delay_flags(m, subtracts, c.latency - 2)
        for part, copies in stores:
            subtracted = duplicate(m, minus)
            words = [delay(m, s.data, c.ram_latency - s.config.latency) for s in copies]
            for n, element in enumerate(range(part.start, part.stop)):
                one, other = (_element(word, n, c.element) for word in words)
                result = Signal(c.transformed, name=f"transformed_{element}", reset_less=True)
                m.d.sync += result.eq(add_or_subtract(one, other, subtracted))
                m.d.comb += self.o.payload[element].eq(result)
        flags = delay_flags(m, Cat(go, first, loops.last["fold"]), c.latency)
        m.d.comb += [
            self.o.valid.eq(flags[0]),
            self.o.first.eq(flags[1]),
            self.o.last.eq(flags[2]),
        ]


def _element(word, n, shape):
    value = word.word_select(n, shape.width)
    return value.as_signed() if shape.signed else value

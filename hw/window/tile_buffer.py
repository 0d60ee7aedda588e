"""The tile buffer of minimal filtering: reads of a window, transformed, position by position."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from amaranth import Array, Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.minimal_filtering import INPUTS, MinimalFiltering, add_or_subtract
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

    Of each position a reduction leaves ``passes`` times: the words of a pixel in both directions,
    those of all rows in one direction.
    """

    filtering: MinimalFiltering
    rows: int
    words: int
    width: int
    passes: int
    element: Shape
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "rows", "words", "width", "passes")
        side = self.filtering.SIDE
        if self.filtering.directions == 2 and self.rows != side:
            raise ValueError(
                f"TileBufferConfig: rows={self.rows}, but a tile of both directions has {side}"
            )

    @property
    def column(self) -> int:
        """Words of a column of a tile."""
        return self.rows * self.words

    @property
    def folds(self) -> int:
        """Words of a reduction."""
        return self.words if self.filtering.directions == 2 else self.column

    @property
    def reads(self) -> int:
        """Words of a tile."""
        return self.filtering.SIDE * self.column

    @property
    def cycles(self) -> int:
        """Cycles of a tile."""
        return self.filtering.positions * self.passes * self.folds

    @property
    def copies(self) -> int:
        """Words that are read at once, to be added and subtracted: each from a copy of the tile."""
        return int(2**self.filtering.directions)

    @property
    def tiles(self) -> int:
        """Tiles stored: one that leaves, and those that arrive meanwhile."""
        return 1 + ceil_div(self.reads + _REFILL, self.cycles)

    @property
    def transformed(self) -> Shape:
        return self.filtering.transformed_input(self.element)

    def slices(self) -> list[slice]:
        """Parts of a word that are stored by themselves, of whole elements."""
        bits = self.element.width
        most = next(fanout_slices(self.width * bits))
        step = max(1, most.stop // bits)
        return [slice(n, min(n + step, self.width)) for n in range(0, self.width, step)]

    def stores(self) -> Iterator[RamConfig]:
        """A memory of each part, of which there are ``copies``."""
        for part in self.slices():
            bits = (part.stop - part.start) * self.element.width
            yield RamConfig(self.tiles * self.reads, bits, self.target)

    @cached_property
    def ram_latency(self) -> int:
        return max(store.latency for store in self.stores())

    @property
    def latency(self) -> int:
        """Cycles from the start of a tile to its first word: two for the address, the memories',
        and an adder for each direction.
        """
        return 2 + self.ram_latency + self.filtering.directions

    def resources(self) -> Resources:
        """An estimate of the copies of the tiles and of the transform."""
        adders = self.width * (self.copies - 1)
        bits = self.transformed.width
        logic = Resources(
            adders * (bits + self.target.carry_luts) + 60 * self.copies,
            adders * bits + 10 + 50 * self.copies,
        )
        return sum((store.resources() * self.copies for store in self.stores()), logic)

    @property
    def memory_bits(self) -> int:
        return self.copies * self.tiles * self.reads * self.width * self.element.width


class TileBuffer(wiring.Component):
    """Hold tiles as they arrive, and send what the array multiplies: the transformed input of each
    position (:mod:`~gatewright.hw.arithmetic.minimal_filtering`), once for each pass.

    A tile arrives row by row, column by column. ``room`` is high while one more tile may be sent to
    ``i``. In one direction each of the two positions that give outputs, in both directions the
    first of the four, starts to leave in a cycle in which ``grant`` is high, and ``start`` marks
    that cycle: room is granted for an output, or for all of a tile. With tiles and grants there a
    word leaves each cycle, from one tile to the next.

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
        """The copies of each part of the words. Words of a column follow each other in memory, so
        that those of a reduction do.
        """
        c = self.config
        loops = Loops(
            m,
            self.i.valid,
            {
                "word": c.words,
                "column": c.filtering.SIDE,
                "row": c.rows,
                "tile": c.tiles,
            },
        )
        address = Signal(range(c.tiles * c.reads))
        # to the next word or tile, to the next column, to the next row
        to_column = 1 + c.column - c.words
        to_row = 1 - (c.filtering.SIDE - 1) * c.column
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
            for copy in range(c.copies):
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
            m,
            go,
            {
                "fold": c.folds,
                "turn": c.passes,
                "position": c.filtering.positions,
                "tile": c.tiles,
            },
        )
        position = loops.count["position"]
        # whether the position that begins next is of a new tile, or is granted
        begins, first, new, gives = Signal(init=1), Signal(init=1), Signal(init=1), Signal()
        with m.If(go):
            m.d.sync += [begins.eq(loops.ends["turn"]), first.eq(loops.last["fold"])]
        with m.If(go & loops.ends["turn"]):
            m.d.sync += [
                new.eq(loops.last["position"]),
                gives.eq(position.matches(*(n - 1 for n in c.filtering.granted()))),
            ]
        m.d.comb += [
            go.eq(~begins | Mux(gives, self.grant, ~new | there)),
            self.start.eq(go & begins & gives),
            starts.eq(go & begins & new),
            freed.eq(delay_flags(m, go & loops.ends["position"], 1)),
        ]
        tile = Signal(range(c.tiles * c.reads))  # its first word
        with m.If(go & loops.ends["position"]):
            m.d.sync += tile.eq(Mux(loops.last["tile"], 0, tile + c.reads))
        self._address(m, stores, position, tile, loops.count["fold"])
        minuses = self._subtracts(m, position)
        for part, copies in stores:
            subtracted = [duplicate(m, minus) for minus in minuses]
            words = [delay(m, s.data, c.ram_latency - s.config.latency) for s in copies]
            for n, element in enumerate(range(part.start, part.stop)):
                values = [_element(word, n, c.element) for word in words]
                m.d.comb += self.o.payload[element].eq(
                    self._transformed(m, values, subtracted, element)
                )
        flags = delay_flags(m, Cat(go, first, loops.last["fold"]), c.latency)
        m.d.comb += [
            self.o.valid.eq(flags[0]),
            self.o.first.eq(flags[1]),
            self.o.last.eq(flags[2]),
        ]

    def _address(self, m, stores, position, tile, fold):
        """The word of each copy: ``fold`` of the pixel that it reads for ``position``, in the tile
        that begins at ``tile``.
        """
        c = self.config
        for copy in range(c.copies):
            pixels = Array(self._pixel(p, copy) for p in range(c.filtering.positions))
            for _, copies in stores:
                pixel, word, address = (
                    Signal(range(c.tiles * c.reads), name=f"{name}_{copy}", reset_less=True)
                    for name in ("pixel", "word", "address")
                )
                m.d.sync += [
                    pixel.eq(pixels[position]),
                    word.eq(tile + fold),
                    address.eq(pixel + word),
                ]
                m.d.comb += copies[copy].address.eq(address)

    def _pixel(self, position: int, copy: int) -> int:
        """The place in a tile of the pixel that a copy reads for a position: the low bit of the
        copy's number tells which of two columns, the high one which of two rows.
        """
        c = self.config
        row, column = divmod(position, c.filtering.SIDE)
        place = INPUTS[column][copy % 2] * c.column
        return place + (INPUTS[row][copy // 2] * c.words if c.filtering.directions == 2 else 0)

    def _subtracts(self, m, position) -> list[Value]:
        """For each direction, columns first, whether the second one is subtracted: a cycle before
        the words are added.
        """
        c, side = self.config, self.config.filtering.SIDE
        found = []
        for n in range(c.filtering.directions):
            subtracts = Signal(name=f"subtracts_{n}")
            numbers = range(c.filtering.positions)
            m.d.comb += subtracts.eq(
                position.matches(*(p for p in numbers if INPUTS[p // side**n % side][2]))
            )
            found.append(delay_flags(m, subtracts, c.latency - c.filtering.directions - 1 + n))
        return found

    def _transformed(self, m, values, subtracted, element) -> Value:
        """The sum or difference of columns, and then of rows."""
        shape = self.config.element
        for n, minus in enumerate(subtracted):
            shape = MinimalFiltering(1).transformed_input(shape)
            sums = []
            for k, (one, other) in enumerate(zip(values[::2], values[1::2], strict=True)):
                name = f"transformed_{element}" + (f"_{n}_{k}" if len(values) > 2 else "")
                total = Signal(shape, name=name, reset_less=True)
                m.d.sync += total.eq(add_or_subtract(one, other, minus))
                sums.append(total)
            values = sums
        return values[0]


def _element(word, n, shape):
    value = word.word_select(n, shape.width)
    return value.as_signed() if shape.signed else value

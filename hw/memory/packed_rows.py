"""Constants in the fewest block RAMs: stored in fewer, wider rows than the words that are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

from amaranth import Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.delay import delay
from ..control.loops import Loops
from ..sizes import at_least, ceil_div
from ..target.base import Target
from ..target.resources import Resources
from .rom import Rom
from .tiles import best_strip, estimate

__all__ = ["PackedRows", "PackedRowsRom", "fewest_block_rams"]

#: upper bound of the rows that together hold one more word: with eight, the ninth bits of a block
#: RAM's bytes hold bytes
_MOST = 8
#: upper bound of the block RAM words in a row
_TOGETHER = 2
#: bits of block RAM that cost as much as a LUT; LUTs, about, to decode a turn of a piece
_BITS, _TURN = 64, 2


@dataclass(frozen=True)
class PackedRows:
    """``depth`` words of ``width`` bits, read in order, in fewer and wider rows.

    Each row holds a word and a part of another word; ``run`` rows hold ``run + 1`` words, the last
    of which is read without a memory access. ::

        run = 3      word 0 │ part 0 of word 3        words: 0  1  2  3  4  5  6  7
                     word 1 │ part 1                  rows:  0  1  2  -  3  4  5  -
                     word 2 │ part 2
                     word 4 │ part 0 of word 7

    So words of a width that fits no shape of a block RAM are stored in rows that fit one.
    """

    depth: int
    width: int
    run: int
    target: Target

    def __post_init__(self):
        at_least(1, self, "depth", "width", "run")

    @property
    def rows(self) -> int:
        return self.depth - self.depth // (self.run + 1)

    @property
    def part(self) -> int:
        """Bits of another word in a row."""
        return ceil_div(self.width, self.run)

    @property
    def address(self) -> int:
        """Bits of an address: which row, and the turn within the run."""
        return (self.rows - 1).bit_length() + self.run.bit_length()

    def resources(self) -> Resources:
        """An estimate; block RAMs are exact."""
        stored = estimate(self.rows, self.width + self.part, self.target, Rom.latency, True)
        turns = self.run + 1
        return stored + Resources(self.width + turns, 2 * self.width + Rom.latency * turns)

    def stored(self, words: Sequence[int]) -> list[int]:
        """The rows that hold ``words``."""
        rows, mask = [], (1 << self.part) - 1
        for first in range(0, self.depth, self.run + 1):
            after = first + self.run
            other = words[after] if after < self.depth else 0
            rows += [
                word | (other >> n * self.part & mask) << self.width
                for n, word in enumerate(words[first:after])
            ]
        return rows

    def steps(self, m: Module, go: Value) -> Value:
        """The address of each word in order: ``go`` steps to the next one, cyclically."""
        last = Loops(m, go, {"word": self.depth}).last["word"]
        row, turn = Signal(range(max(2, self.rows))), Signal(range(self.run + 1))
        rests = Signal()
        with m.If(go):
            m.d.sync += [
                row.eq(Mux(last, 0, row + ~rests)),
                turn.eq(Mux(last | rests, 0, turn + 1)),
                rests.eq(~last & (turn == self.run - 1)),
            ]
        return Cat(row[: (self.rows - 1).bit_length()], turn)


@lru_cache(maxsize=1 << 16)
def _strip(rows: int, bits: int, target: Target) -> Resources:
    """What the best strip of ``rows`` of ``bits`` takes."""
    return best_strip(rows, bits, target, True).resources(Rom.latency, target)


@lru_cache(maxsize=1 << 16)
def fewest_block_rams(depth: int, width: int, target: Target) -> tuple[PackedRows, ...]:
    """The cheapest way to cut words of ``width`` bits into pieces whose rows fill block RAMs, all
    with the same run.
    """
    size = target.block_ram_bits

    def price(rows: int, row: int, bits: int) -> int:
        """The cost, in bits of block RAM, of ``rows`` of ``row`` bits in strips of ``bits``."""
        many, rest = divmod(row, bits)
        parts = [
            _strip(rows, n, target) * count for n, count in ((bits, many), (rest, 1)) if n and count
        ]
        return sum(size * need.bram + _BITS * (need.lut + need.ff // 4) for need in parts)

    full = [shape.bits for shape in target.memory_shapes if shape.size == size]
    filled = [
        (bits, row)
        for bits in full
        for row in range(bits, _TOGETHER * target.widest_memory + 1, bits)
    ]
    ways = []
    for run, (bits, row) in product(range(1, min(_MOST, width, depth - 1) + 1), filled):
        piece = min(width, row * run // (run + 1))
        if piece < run:
            continue
        rows = depth - depth // (run + 1)
        many, rest = divmod(width, piece)
        turns = (run + 1) * (many + (rest > 0))
        cost = (
            many * price(rows, row, bits)
            + _BITS * _TURN * turns
            + price(rows, rest + ceil_div(rest, run), bits)
        )
        ways.append((cost, run, piece))
    _, run, piece = min(ways)
    many, rest = divmod(width, piece)
    return tuple(
        PackedRows(depth, bits, run, target) for bits in [piece] * many + [rest] * (rest > 0)
    )


class PackedRowsRom(wiring.Component):
    """``data`` is the word at ``address``, :attr:`latency` cycles later, one a cycle, in order.

    Members
    -------
    address : In(config.address), as :meth:`PackedRows.steps` counts it
    data : Out(width)
    """

    #: the memory, and the selection between its word and that of the parts
    latency = Rom.latency + 1

    def __init__(self, words: Sequence[int], config: PackedRows):
        self.words, self.config = words, config
        super().__init__({"address": In(config.address), "data": Out(config.width)})

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.store = store = Rom(c.stored(self.words), c.width + c.part, c.target)
        row, turn = self.address[: -c.run.bit_length()], self.address[-c.run.bit_length() :]
        m.d.comb += store.address.eq(row)
        turns = [delay(m, turn == n, store.latency) for n in range(c.run + 1)]
        # Without a step a turn lasts, and its part is stored again.
        gathered = Signal(c.part * c.run, reset_less=True)
        for n, now in enumerate(turns[:-1]):
            with m.If(now):
                m.d.sync += gathered.word_select(n, c.part).eq(store.data[c.width :])
        m.d.comb += self.data.eq(
            delay(m, Mux(turns[-1], gathered[: c.width], store.data[: c.width]), 1)
        )
        return m

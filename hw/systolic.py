"""The systolic array: activations move across, partial sums move down, results leave one column a
cycle.
"""

from dataclasses import dataclass
from itertools import chain

import numpy as np
from amaranth import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2
from numpy.typing import NDArray

from .cost import Resources
from .delay import delay, delay_flags, duplicate
from .drain import drain, drain_slowly
from .loops import Loops
from .primitives import (
    MultiplierConfig,
    PackedConfig,
    PackedMultiplier,
    SoftMultiplier,
    add_with_carry,
    block_of,
    borrow,
    packed_products,
)
from .rom import Rom, table
from .stream import Flow
from .tiles import TABLE, Strip, cover, estimate, widest
from .width import ceil_div

__all__ = ["ArrayConfig", "SystolicArray"]

#: rows whose weights fill block RAMs together
_BAND = 2


@dataclass(frozen=True)
class ArrayConfig:
    """``simd`` rows by ``pe`` columns of multipliers.

    A result is the sum of ``folds`` words of ``simd`` products; each column holds ``depth`` words
    of weights, used in turn. Results leave ``lanes`` columns at a time (``lanes`` divides ``pe``).
    ``shared``: one word of activations for all columns (a matrix product); otherwise each column
    has activations of its own (a depthwise convolution). ``hard`` of the products are made in DSP
    blocks of the ``family``, the rest in soft logic; ``sites`` are the blocks' places, down the
    rows of one column (or of the columns that share blocks) after the other. ``w_most`` is the
    largest absolute weight: where it is small, columns of one group share blocks (None: ``w`` is
    all that is known). ``block_ram``: weights live in block RAM, else in logic. A reduction's
    results leave ``spacing`` cycles apart.
    """

    simd: int
    pe: int
    folds: int
    depth: int
    lanes: int
    x: Shape
    w: Shape
    acc: Shape
    family: str = "generic"
    shared: bool = True
    hard: int | None = None
    block_ram: bool = False
    sites: tuple[str, ...] = ()
    w_most: int | None = None
    spacing: int = 1

    def __post_init__(self):
        assert self.pe % self.lanes == 0
        assert self.depth % self.folds == 0
        assert self.groups * self.spacing <= max(self.folds, 1)

    @property
    def groups(self) -> int:
        """Groups of ``lanes`` columns; each is a cycle behind the one before."""
        return self.pe // self.lanes

    @property
    def multipliers(self) -> int:
        return self.simd * self.pe

    @property
    def pack(self) -> int:
        """Columns of one group whose products of one activation share a DSP block."""
        if not (self.shared and self.w_most and self.w.signed
                and self.w_most < 1 << (self.w.width - 1)):
            return 1
        return min(self.lanes, packed_products(block_of(self.family), self.x, self.w_most))

    @property
    def products_per_block(self) -> int:
        """Products that a DSP block gives, at most; 0: the operands are too wide for it."""
        return self.pack if self.pack > 1 else block_of(self.family).products(self.x, self.w)

    def blocks(self, hard: int) -> int:
        """DSP blocks that make ``hard`` of the products."""
        if self.pack == 1:
            return ceil_div(hard, max(1, self.products_per_block))
        groups, left = divmod(hard, self.simd * self.lanes)
        columns, alone = divmod(self.lanes, self.pack)
        full = min(left, self.simd * columns * self.pack)
        return (groups * self.simd * (columns + (alone > 0)) + ceil_div(full, self.pack)
                + ceil_div(left - full, max(1, alone)))

    @property
    def in_memory(self) -> bool:
        """Whether weights are in block RAM; a single word of them is wires."""
        return self.block_ram and self.depth > 1

    @property
    def strips(self) -> tuple[Strip, ...]:
        """The block RAMs that hold all columns' weights, :meth:`order` telling which bits are
        whose.
        """
        return cover(self.depth, self.multipliers * self.w.width, self.family, logic=True)

    def order(self) -> list[tuple[int, int]]:
        """(row, column) of each weight in the order in which they fill the block RAMs' words.

        Two rows at a time, forth and back, by the cycle in which they are wanted: weights that
        share a block RAM are neighbours in the array and wait for each other for few cycles. ::

            0 1 3 5 7 ▷       0 │ 1 3 5 7       a strip holds a few weights, and parts of
            2 4 6 8           2 │ 4 6 8         one at either end
        """
        bands = []
        for top in range(0, self.simd, _BAND):
            band = sorted((row + group, row, group * self.lanes + lane)
                          for row in range(top, min(top + _BAND, self.simd))
                          for group in range(self.groups) for lane in range(self.lanes))
            bands.append(band[::-1] if top // _BAND % 2 else band)
        return [(row, column) for band in bands for _, row, column in band]

    @property
    def memory_bits(self) -> int:
        return self.simd * self.pe * self.depth * self.w.width

    def resources(self) -> Resources:
        """An estimate of multipliers, adders, weights and the drain."""
        product = self.x.width + self.w.width
        n, acc, w = self.multipliers, self.acc.width, self.w.width
        psum = min(acc, product + 2)
        soft = n - self.hard_multipliers
        lut = n * psum + self.pe * 2 * acc + soft * MultiplierConfig(self.x, self.w).soft_lut
        ff = (n * (psum + w) + self.pe * 4 * acc + soft * 4 * product
              + self.x.width * self.simd * (self.weight_latency + self.simd // 2 + self.groups))
        return Resources(lut, ff, self.blocks(self.hard_multipliers)) + self._memory_resources()

    def _memory_resources(self) -> Resources:
        """An estimate of the weights' memories and addresses; block RAMs are exact."""
        n, w, address = self.multipliers, self.w.width, (self.depth - 1).bit_length()
        if not self.in_memory:
            return Resources(ceil_div(n * w * self.depth * 5, 16 * 4) if self.depth > 1 else 0,
                             n * address)
        stored = estimate(self.depth, n * w, self.family, Rom.latency, True)
        strips = ceil_div(n * w, widest(self.family))
        together = ceil_div(n, strips)
        waiting = n * w * (together - 1) // (2 * self.lanes * min(self.simd, _BAND))
        chains = ceil_div(self.simd, _BAND) * (self.groups + _BAND)
        return stored + Resources(2 * address, waiting + (chains + strips) * address)

    @property
    def hard_multipliers(self) -> int:
        """Products in DSP blocks: none where the operands are too wide for one."""
        if not block_of(self.family).products(self.x, self.w):
            return 0
        return self.multipliers if self.hard is None else self.hard

    def places(self) -> tuple[list[list[tuple[int, int]]], list[tuple[int, int]]]:
        """(row, column) of the products in each DSP block, in the order of the sites; and of those
        in soft logic.
        """
        together = [range(first, min(first + self.pack, group + self.lanes))
                    for group in range(0, self.pe, self.lanes)
                    for first in range(group, group + self.lanes, self.pack)]
        units = [[(row, column) for column in columns]
                 for columns in together for row in range(self.simd)]
        if self.pack == 1:
            n = max(1, self.products_per_block)
            units = [list(chain(*units[at:at + n])) for at in range(0, len(units), n)]
        blocks, left = [], self.hard_multipliers
        for unit in units:
            if left > 0:
                blocks.append(unit[:left])
                left -= len(blocks[-1])
        return blocks, list(chain(*units))[self.hard_multipliers:]

    @property
    def multiplier_latency(self) -> int:
        kinds = []
        if self.hard_multipliers:
            kinds.append(block_of(self.family).latency)
        if self.hard_multipliers < self.multipliers:
            kinds.append(MultiplierConfig(self.x, self.w).soft_latency)
        return max(kinds)

    @property
    def weight_latency(self) -> int:
        """Cycles from a weight's address to the weight: the memory and a register, before them an
        address register of its own where it is large.
        """
        if self.in_memory:
            return 1 + Rom.latency
        return 2 if self.depth <= TABLE else 3

    @property
    def depth_of_sum(self) -> int:
        """Cycles from a word in to its sum at the foot of the first group."""
        return self.weight_latency + self.multiplier_latency + self.simd

    @property
    def latency(self) -> int:
        """Cycles from a reduction's last word in to its first result out."""
        return self.depth_of_sum + 1 + self.groups

    @property
    def drain_cycles(self) -> int:
        """Cycles from a reduction's first result out to its last."""
        return (self.groups - 1) * self.spacing


class SystolicArray(wiring.Component):
    """``o = sum over folds, rows of x[row] * weight[column][row]``, for every column.

    Activations enter row r delayed by r cycles and pass from each group of columns to the next;
    partial
    sums pass from row to row; so all wires run between neighbours::

              group 0    group 1    group 2
        x0 ──▶ PE ──────▶ PE ──────▶ PE         skew: group g, row r works g + r cycles after the
        word
               │          │          │          came in; the sums of group g are complete g cycles
        x1 ──▶ PE ──────▶ PE ──────▶ PE         after those of group 0
               ▼          ▼          ▼
              acc        acc        acc         sums the folds
               └─▷ ─ ▷ ──▶└─▷ ─ ▷ ──▶└──▶ o     the last group leaves first, the next one
                                                ``spacing`` cycles later, ...

    The last group therefore computes the first channels, and channels leave in order. Nothing
    stalls.

    Members
    -------
    i : In(Flow(simd, x)), or Flow(simd * pe, x) row by row where columns do not share
    o : Out(Flow(lanes, acc)), ``groups`` beats for each reduction
    """

    def __init__(self, config: ArrayConfig, weights: NDArray[np.int64]):
        """``weights``: [pe, simd, depth]."""
        assert weights.shape == (config.pe, config.simd, config.depth)
        assert config.w_most is None or np.abs(weights).max() <= config.w_most
        self.config = config
        self.weights = self._packable(weights)
        self.block = block_of(config.family)
        super().__init__({
            "i": In(Flow(config.simd * (1 if config.shared else config.pe), config.x)),
            "o": Out(Flow(config.lanes, config.acc)),
        })

    def _packable(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """The weights as multipliers take them: those of products that share a block borrow."""
        config = self.config
        weights = weights.copy()
        for places in config.places()[0] if config.pack > 1 else ():
            row, channels = places[0][0], [self._channel(column) for _, column in places]
            weights[channels, row] = borrow(weights[channels, row])
        return weights

    def elaborate(self, platform):
        m = Module()
        x = self._activations(m)
        w = self._weights(m)
        p = self._products(m, x, w)
        sums = self._partial_sums(m, p)
        self._accumulate_and_drain(m, sums)
        return m

    def _activations(self, m):
        """``x[row][column]``, at the time that PE wants it."""
        c = self.config
        at = {}
        for row in range(c.simd):
            if c.shared:
                value = delay(m, self.i.payload[row], self.config.weight_latency + row)
                for group in range(c.groups):
                    for lane in range(c.lanes):
                        at[row, group * c.lanes + lane] = value
                    if group + 1 < c.groups:
                        value = delay(m, value, 1)
            else:
                for column in range(c.pe):
                    source = self.i.payload[row * c.pe + self._channel(column)]
                    at[row, column] = delay(m, source, self.config.weight_latency + row
                                             + column // c.lanes)
        return at

    def _channel(self, column: int) -> int:
        """The channel (within a pass) that a column computes: groups in reverse, lanes in order."""
        group, lane = divmod(column, self.config.lanes)
        return (self.config.groups - 1 - group) * self.config.lanes + lane

    def _weights(self, m):
        """``w[row, column]`` from memories whose addresses travel with the activations."""
        c = self.config
        address = Value.cast(Loops(m, self.i.valid, {"address": c.depth}).count["address"])
        return (self._block_weights if c.in_memory else self._logic_weights)(m, address)

    def _logic_weights(self, m, address):
        """Each weight from a memory of its own."""
        c = self.config
        at = {}
        for row in range(c.simd):
            here = delay(m, address, row)
            for column in range(c.pe):
                if column and column % c.lanes == 0:
                    here = delay(m, here, 1)
                words = [int(word) % (1 << c.w.width) for word in self._words(row, column)]
                w = Signal(c.w, name=f"w_{row}_{column}")
                own = here if c.weight_latency == 2 else duplicate(m, here)
                m.d.comb += w.eq(words[0] if c.depth == 1 else table(
                    m, f"weights_{row}_{column}", own, words, c.w.width))
                at[row, column] = w
        return at

    def _block_weights(self, m, address):
        """All weights from strips of block RAM, each strip read when the first of its weights is
        wanted.
        """
        c, width = self.config, self.config.w.width
        order, held, first = c.order(), [], 0
        for strip in c.strips:
            held.append(order[first // width:ceil_div(first + strip.width, width)])
            first += strip.width
        starts = [min(places, key=self._skew) for places in held]
        addresses = self._addresses(m, address, starts)
        parts = {place: [] for place in order}
        first = 0
        for n, (strip, places, start) in enumerate(zip(c.strips, held, starts, strict=True)):
            offset = first % width
            words = [(word >> offset) & ((1 << strip.width) - 1)
                     for word in self._memory_words(places)]
            m.submodules[f"weights_{n}"] = rom = Rom(words, strip.width, c.family)
            m.d.comb += rom.address.eq(duplicate(m, addresses[start]))
            for k, place in enumerate(places):
                low = k * width - offset
                part = rom.data[max(low, 0):min(low + width, strip.width)]
                parts[place].append(delay(m, part, self._skew(place) - self._skew(start)))
            first += strip.width
        at = {}
        for row, column in order:
            at[row, column] = w = Signal(c.w, name=f"w_{row}_{column}")
            m.d.comb += w.eq(Cat(parts[row, column]))
        return at

    def _addresses(self, m, address, starts) -> dict[tuple[int, int], Value]:
        """``address`` when each of ``starts`` begins; on its way there it goes down the bands of
        rows, then along one of them.
        """
        at = {}
        for band in range(max(row for row, _ in starts) // _BAND + 1):
            for _ in range(_BAND if band else 0):
                address = duplicate(m, address)
            places = [place for place in starts if place[0] // _BAND == band]
            here, skew = address, band * _BAND
            for place in sorted(places, key=self._skew):
                for _ in range(self._skew(place) - skew):
                    here = duplicate(m, here)
                at[place], skew = here, self._skew(place)
        return at

    def _skew(self, place: tuple[int, int]) -> int:
        """Cycles that a PE works behind the first one."""
        row, column = place
        return row + column // self.config.lanes

    def _words(self, row: int, column: int) -> NDArray[np.int64]:
        """A PE's weights, in the order of its memory."""
        return self.weights[self._channel(column), row]

    def _memory_words(self, places) -> list[int]:
        """The memory words that hold the weights of ``places``, the first in the low bits."""
        width = self.config.w.width
        columns = [self._words(*place) & ((1 << width) - 1) for place in places]
        return [sum(int(w) << k * width for k, w in enumerate(word))
                for word in zip(*columns, strict=True)]

    def _products(self, m, x, w):
        """``(p, carry)[row, column]``: the product is their sum; ``carry`` None is 0."""
        c = self.config
        blocks, soft = c.places()
        at = {}
        for n, places in enumerate(blocks):
            site = c.sites[n] if c.sites else None
            packed = c.pack > 1 and len(places) > 1
            block = self._packed(len(places), site) if packed else self.block(
                MultiplierConfig(c.x, c.w, len(places)), site)
            m.submodules[f"multiplier_{places[0][0]}_{places[0][1]}"] = block
            late = c.multiplier_latency - block.latency
            for k, place in enumerate(places):
                m.d.comb += block.w[k].eq(w[place])
                if not packed:
                    m.d.comb += block.x[k].eq(x[place])
                at[place] = (delay(m, block.p[k], late),
                             delay(m, block.carry[k], late) if packed and k else None)
            if packed:
                m.d.comb += block.x.eq(x[places[0]])
        for place in soft:
            block = SoftMultiplier(MultiplierConfig(c.x, c.w))
            m.submodules[f"soft_{place[0]}_{place[1]}"] = block
            m.d.comb += [block.x.eq(x[place]), block.w.eq(w[place])]
            at[place] = delay(m, block.p, c.multiplier_latency - block.latency), None
        return at

    def _packed(self, products, site):
        c = self.config
        return PackedMultiplier(PackedConfig(c.x, c.w, c.w_most, products), self.block, site)

    def _partial_sums(self, m, p):
        """The sum at the foot of each column."""
        c = self.config
        product = MultiplierConfig(c.x, c.w).p
        feet = []
        for column in range(c.pe):
            above = None
            for row in range(c.simd):
                width = min(c.acc.width, product.width + ceil_log2(row + 1))
                psum = Signal(Shape(width, c.acc.signed or product.signed),
                              name=f"psum_{row}_{column}", reset_less=True)
                m.d.sync += psum.eq(_sum(above, *p[row, column]))
                above = psum
            feet.append(above)
        return feet

    def _accumulate_and_drain(self, m, sums):
        c = self.config
        control = delay_flags(m, Cat(self.i.valid, self.i.first, self.i.valid & self.i.last),
                              c.depth_of_sum)
        totals, done = [], []
        for group in range(c.groups):
            valid, first = control[0], control[1]
            totals.append([])
            done.append(delay_flags(m, control[2], 1))
            for lane in range(c.lanes):
                column = group * c.lanes + lane
                acc = Signal(c.acc, name=f"acc_{column}", reset_less=True)
                if c.folds == 1:
                    m.d.sync += acc.eq(sums[column])
                else:
                    with m.If(valid):
                        m.d.sync += acc.eq(Mux(first, 0, acc) + sums[column])
                totals[group].append(acc)
            if group + 1 < c.groups:
                control = delay_flags(m, control, 1)
        results, leaves = (drain_slowly(m, totals, done, c.spacing) if c.spacing > 1
                           else drain(m, totals, done))
        m.d.comb += [self.o.valid.eq(leaves), self.o.first.eq(1), self.o.last.eq(1)]
        for lane, result in enumerate(results):
            m.d.comb += self.o.payload[lane].eq(result)


def _sum(above, p, carry):
    """Of a partial sum (None: 0), a product and its carry (None: 0)."""
    if above is None:
        return p if carry is None else p + carry
    return above + p if carry is None else add_with_carry(above, p, carry)

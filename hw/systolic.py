"""The systolic array: activations move across, partial sums move down, results leave one column a
cycle.
"""

from dataclasses import dataclass

import numpy as np
from amaranth import Cat, Module, Mux, Shape, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2
from numpy.typing import NDArray

from .cost import Resources, block_rams
from .delay import delay, delay_flags
from .primitives import MultiplierConfig, SoftMultiplier, block_of
from .stream import Flow
from .width import ceil_div

__all__ = ["ArrayConfig", "SystolicArray"]


@dataclass(frozen=True)
class ArrayConfig:
    """``simd`` rows by ``pe`` columns of multipliers.

    A result is the sum of ``folds`` words of ``simd`` products; each column holds ``depth`` words
    of weights, used in turn. Results leave ``lanes`` columns at a time (``lanes`` divides ``pe``).
    ``shared``: one word of activations for all columns (a matrix product); otherwise each column
    has activations of its own (a depthwise convolution). ``hard`` of the multipliers are DSP blocks
    of the ``family``, the rest are soft; ``sites`` are the blocks' places, down the rows of one
    column after the other. ``block_ram``: weights live in block RAM, else in logic.
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

    def __post_init__(self):
        assert self.pe % self.lanes == 0
        assert self.depth % self.folds == 0
        assert self.groups <= max(self.folds, 1)

    @property
    def groups(self) -> int:
        """Groups of ``lanes`` columns; each is a cycle behind the one before."""
        return self.pe // self.lanes

    @property
    def multipliers(self) -> int:
        return self.simd * self.pe

    @property
    def bundle(self) -> tuple[int, int]:
        """Rows and column groups whose weights share a memory word."""
        if not self.block_ram:
            return 1, 1
        words = {"ice40": ((256, 16), (512, 8), (1024, 4))}.get(
            self.family, ((512, 36), (1024, 18), (2048, 9)))
        width = next((bits for depth, bits in words if self.depth <= depth), words[-1][1])
        together = max(1, width // self.w.width)
        rows = min(together, self.simd)
        return rows, min(self.groups, together // rows)

    @property
    def memory_bits(self) -> int:
        return self.simd * self.pe * self.depth * self.w.width

    def resources(self) -> Resources:
        """An estimate of multipliers, adders, weights and the drain."""
        product = self.x.width + self.w.width
        n, acc, w = self.multipliers, self.acc.width, self.w.width
        psum = min(acc, product + 2)
        rows, groups = self.bundle
        memories = ceil_div(self.simd, rows) * ceil_div(self.groups, groups) * self.lanes
        soft = n - self.hard_multipliers
        lut = n * psum + self.pe * 2 * acc + soft * MultiplierConfig(self.x, self.w).soft_lut
        ff = (n * (psum + w) + self.pe * 4 * acc + soft * 4 * product
              + self.x.width * self.simd * (2 + self.simd // 2 + self.groups)
              + memories * max(1, (self.depth - 1).bit_length()))
        bram = 0
        if self.block_ram:
            bram = memories * block_rams(self.family, self.depth, rows * groups * w)
        elif self.depth > 1:
            lut += ceil_div(n * w * self.depth * 5, 16 * 4)
        return Resources(lut, ff, self.hard_multipliers, bram)

    @property
    def hard_multipliers(self) -> int:
        """Multipliers in DSP blocks: none where the operands are too wide for one."""
        if not block_of(self.family).products(self.x, self.w):
            return 0
        return self.multipliers if self.hard is None else self.hard

    @property
    def multiplier_latency(self) -> int:
        kinds = []
        if self.hard_multipliers:
            kinds.append(block_of(self.family).latency)
        if self.hard_multipliers < self.multipliers:
            kinds.append(MultiplierConfig(self.x, self.w).soft_latency)
        return max(kinds)

    #: cycles from a weight's address to the weight: the memory and a register
    weight_latency = 2

    @property
    def depth_of_sum(self) -> int:
        """Cycles from a word in to its sum at the foot of the first group."""
        return self.weight_latency + self.multiplier_latency + self.simd

    @property
    def latency(self) -> int:
        """Cycles from a reduction's last word in to its first result out."""
        return self.depth_of_sum + 1 + self.groups


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
               └─▷ ─ ▷ ──▶└─▷ ─ ▷ ──▶└──▶ o     two registers a hop: the last group leaves first,
                                                the next one a cycle later, ...

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
        self.config = config
        self.weights = weights
        self.block = block_of(config.family)
        super().__init__({
            "i": In(Flow(config.simd * (1 if config.shared else config.pe), config.x)),
            "o": Out(Flow(config.lanes, config.acc)),
        })

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
        address = Signal(range(max(2, c.depth)))
        with m.If(self.i.valid):
            m.d.sync += address.eq(Mux(address == c.depth - 1, 0, address + 1))
        rows, groups = c.bundle
        mask = (1 << c.w.width) - 1
        at = {}
        for row in range(0, c.simd, rows):
            here = delay(m, address, row)
            for group in range(0, c.groups, groups):
                members = [(r, g * c.lanes + lane, r - row + g - group)
                           for r in range(row, min(row + rows, c.simd))
                           for g in range(group, min(group + groups, c.groups))
                           for lane in range(c.lanes)]
                if rows * groups == 1:
                    bundles = [[member] for member in members]
                else:
                    bundles = [[mm for mm in members if mm[1] % c.lanes == lane]
                               for lane in range(c.lanes)]
                for bundle in bundles:
                    width = c.w.width
                    words = [sum((int(self.weights[self._channel(column), r, i]) & mask)
                                 << (k * width) for k, (r, column, _) in enumerate(bundle))
                             for i in range(c.depth)]
                    word = self._rom(m, f"weights_{bundle[0][0]}_{bundle[0][1]}",
                                     here, words, len(bundle) * width)
                    for k, (r, column, later) in enumerate(bundle):
                        w = Signal(c.w, name=f"w_{r}_{column}")
                        m.d.comb += w.eq(word.word_select(k, width))
                        at[r, column] = delay(m, w, later)
                here = delay(m, here, min(groups, c.groups - group))
        return at

    def _rom(self, m, name, address, words, width):
        """The word at ``address``, :attr:`weight_latency` cycles later."""
        c = self.config
        out = Signal(width, name=f"{name}_word", reset_less=True)
        if c.depth == 1:
            m.d.comb += out.eq(words[0])
            return out
        store = memory.Memory(shape=width, depth=c.depth, init=words,
                              attrs={"rom_style": "block" if c.block_ram else "logic",
                                     "ram_style": "block" if c.block_ram else "logic"})
        m.submodules[name] = store
        read = store.read_port()
        m.d.comb += read.addr.eq(address)
        m.d.sync += out.eq(read.data)
        return out

    def _products(self, m, x, w):
        c = self.config
        config = MultiplierConfig(c.x, c.w)
        places = [(row, column) for column in range(c.pe) for row in range(c.simd)]
        at = {}
        together = self.block.products(c.x, c.w)
        hard, soft = places[:c.hard_multipliers], places[c.hard_multipliers:]
        for start in range(0, len(hard), max(together, 1)):
            chosen = hard[start:start + together]
            site = c.sites[start // together] if c.sites else None
            block = self.block(MultiplierConfig(c.x, c.w, len(chosen)), site)
            m.submodules[f"multiplier_{chosen[0][0]}_{chosen[0][1]}"] = block
            for n, place in enumerate(chosen):
                m.d.comb += [block.x[n].eq(x[place]), block.w[n].eq(w[place])]
                at[place] = delay(m, block.p[n], c.multiplier_latency - block.latency)
        for place in soft:
            block = SoftMultiplier(config)
            m.submodules[f"soft_{place[0]}_{place[1]}"] = block
            m.d.comb += [block.x.eq(x[place]), block.w.eq(w[place])]
            at[place] = delay(m, block.p, c.multiplier_latency - block.latency)
        return at

    def _partial_sums(self, m, p):
        """The sum at the foot of each column."""
        c = self.config
        product = MultiplierConfig(c.x, c.w).p
        feet = []
        for column in range(c.pe):
            above = 0
            for row in range(c.simd):
                width = min(c.acc.width, product.width + ceil_log2(row + 1))
                psum = Signal(Shape(width, c.acc.signed or product.signed),
                              name=f"psum_{row}_{column}", reset_less=True)
                m.d.sync += psum.eq(above + p[row, column])
                above = psum
            feet.append(above)
        return feet

    def _accumulate_and_drain(self, m, sums):
        c = self.config
        control = delay_flags(m, Cat(self.i.valid, self.i.valid & self.i.last), c.depth_of_sum)
        passed = [None] * c.lanes
        passed_valid = None
        for group in range(c.groups):
            valid, done = control[0], control[1]
            finished = delay_flags(m, done, 1)
            leaves = Signal(name=f"leaves_{group}")
            m.d.sync += leaves.eq(finished if passed_valid is None else finished | passed_valid)
            results = []
            for lane in range(c.lanes):
                column = group * c.lanes + lane
                total = Signal(c.acc, name=f"total_{column}", reset_less=True)
                if c.folds == 1:
                    m.d.sync += total.eq(sums[column])
                else:
                    # cleared after a reduction's last word, not masked at the next one's first
                    acc = Signal(c.acc, name=f"acc_{column}")
                    added = Signal.like(acc, name=f"added_{column}")
                    m.d.comb += added.eq(acc + sums[column])
                    m.d.sync += total.eq(added)
                    with m.If(valid):
                        m.d.sync += acc.eq(added)
                    with m.If(done):
                        m.d.sync += acc.eq(0)
                result = Signal(c.acc, name=f"result_{column}", reset_less=True)
                m.d.sync += result.eq(total if passed[lane] is None
                                      else Mux(finished, total, passed[lane]))
                results.append(result)
            if group + 1 < c.groups:
                passed = [delay(m, result, 1) for result in results]
                passed_valid = delay_flags(m, leaves, 1)
                control = delay_flags(m, control, 1)
        m.d.comb += [self.o.valid.eq(leaves), self.o.first.eq(1), self.o.last.eq(1)]
        for lane, result in enumerate(results):
            m.d.comb += self.o.payload[lane].eq(result)

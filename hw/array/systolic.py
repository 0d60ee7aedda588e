"""The systolic array: activations move across, partial sums move down, results leave one column a
cycle.
"""

from dataclasses import replace

import numpy as np
from amaranth import C, Cat, Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2
from numpy.typing import NDArray

from ..arithmetic.dot_product import DotProduct
from ..arithmetic.packed_multiplier import PackedConfig, PackedMultiplier, add_with_carry, borrow
from ..arithmetic.soft_multiplier import SoftMultiplier
from ..control.delay import delay, delay_flags, delays, duplicate
from ..stream.signature import PushStream
from .config import ArrayConfig
from .drain import drain, drain_spaced
from .fast_inner_product import corrected, factors
from .weights import weights_at

__all__ = ["SystolicArray"]


class SystolicArray(wiring.Component):
    """``o = sum over folds, rows of x[row] * weight[column][row]``, for every column.

    Activations enter row r delayed by r cycles and pass from group to group of columns; partial
    sums pass from row to row. All wires run between neighbours::

              group 0    group 1    group 2
        x0 ──▶ PE ──────▶ PE ──────▶ PE         skew: group g, row r works g + r cycles after
               │          │          │          the word arrives; the sums of group g are complete
        x1 ──▶ PE ──────▶ PE ──────▶ PE         g cycles after those of group 0
               ▼          ▼          ▼
              acc        acc        acc         sums the folds
               └─▷ ─ ▷ ──▶└─▷ ─ ▷ ──▶└──▶ o     the last group leaves first, the next one
                                                ``initiation_interval`` cycles later, ...

    The last group computes the first channels, so channels leave in order. Nothing stalls. A
    multiplier in soft logic has a shorter latency than a DSP block; its operands are delayed by the
    difference, because its product is wider than they are.

    A ``config.fast`` array takes two elements a row (:mod:`.fast_inner_product`), and one with a
    ``config.tree`` several (:mod:`~gatewright.hw.arithmetic.dot_product`); their results are more
    by ``config.excess(weights)``.

    Takes a word a cycle. Latency from the last word of a reduction to its first beat:
    ``config.latency``.

    Members
    -------
    i : In(PushStream(simd, x)), or PushStream(simd * pe, x) row by row where columns do not share
    o : Out(PushStream(lanes, acc)), ``groups`` beats for each reduction
    """

    def __init__(self, config: ArrayConfig, weights: NDArray[np.int64]):
        """``weights``: [pe, simd, depth]."""
        shape = (config.pe, config.simd, config.depth)
        if weights.shape != shape:
            raise ValueError(f"SystolicArray: weights of shape {weights.shape} instead of {shape}")
        largest = int(np.abs(weights).max())
        if config.max_abs_weight is not None and largest > config.max_abs_weight:
            raise ValueError(
                f"SystolicArray: a weight of {largest}, but max_abs_weight={config.max_abs_weight}"
            )
        if config.tree and not config.tree.holds(weights):
            raise ValueError(
                f"SystolicArray: weights of {weights.min()} to {weights.max()}, but {config.tree} "
                "has no code for some of them"
            )
        self.config = config
        self.weights = self._packable(weights)
        self.block = config.target.dsp
        super().__init__(
            {
                "i": In(PushStream(config.elements, config.x)),
                "o": Out(PushStream(config.lanes, config.acc)),
            }
        )

    def _packable(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """The weights as the multipliers take them: products that share a block borrow."""
        config, width = self.config, self.config.w.width
        if config.fast:
            return row_words(weights & ((1 << width) - 1), config, width)
        if config.tree:
            code = config.tree
            return row_words(code.encode(weights, width), config, code.bits(width))
        weights = weights.copy()
        for places in config.places()[0] if config.pack > 1 else ():
            row, channels = places[0][0], [config.channel(column) for _, column in places]
            weights[channels, row] = borrow(weights[channels, row])
        return weights

    def elaborate(self, platform):
        m = Module()
        x = self._activations(m)
        w = weights_at(m, self.config, self.weights, self.i.valid)
        p = self._products(m, *(self._factors(m, x, w) if self.config.fast else (x, w)))
        sums = self._partial_sums(m, p)
        self._accumulate_and_drain(m, sums)
        return m

    def _activations(self, m):
        """The activation of each (row, column), in the cycle in which that PE multiplies it."""
        c = self.config
        at = {}
        for row in range(c.rows):
            skews = [c.skew((row, column)) for column in (*range(c.pe), *c.correction)]
            if c.shared:
                elements = [*self.i.payload[c.elements_of(row)]]
                # the fast inner product completes an odd word
                word = Cat(elements, C(0, c.fast * c.x.width * (c.row_elements - len(elements))))
                first = delay(
                    m,
                    word if c.row_elements > 1 else elements[0],
                    c.weight_latency + row,
                    name=f"word_{row}" if c.row_elements > 1 else None,
                )
                values = delays(m, first, max(skews) - row)
                at |= {(row, column): values[skew - row] for column, skew in enumerate(skews)}
            else:
                for column, skew in enumerate(skews):
                    source = self.i.payload[row * c.pe + c.channel(column)]
                    at[row, column] = delay(m, source, c.weight_latency + skew)
        return at

    def _factors(self, m, x, w):
        """The factors of each multiplier of the fast inner product."""
        c, first, second = self.config, {}, {}
        for (row, column), pair in x.items():
            weights = w.get((row, column))
            first[row, column], second[row, column] = factors(
                m,
                _halves(pair, c.x),
                None if weights is None else _halves(weights, c.w),
                f"factor_{row}_{column}",
            )
        return first, second

    def _products(self, m, x, w):
        """``(p, carry)[row, column]``: the product is their sum; ``carry`` None is 0."""
        c = self.config
        if c.tree:
            return {place: (self._dot_product(m, place, x[place], w[place]), None) for place in w}
        blocks, soft = c.places()
        at = {}
        for n, places in enumerate(blocks):
            site = c.sites[n] if c.sites else None
            packed = c.pack > 1 and len(places) > 1
            block = (
                self._packed(len(places), site)
                if packed
                else self.block(replace(c.operands, products=len(places)), site)
            )
            m.submodules[f"multiplier_{places[0][0]}_{places[0][1]}"] = block
            late = c.multiplier_latency - block.latency
            for k, place in enumerate(places):
                m.d.comb += block.w[k].eq(w[place])
                if not packed:
                    m.d.comb += block.x[k].eq(x[place])
                at[place] = (
                    delay(m, block.p[k], late),
                    delay(m, block.carry[k], late) if packed and k else None,
                )
            if packed:
                m.d.comb += block.x.eq(x[places[0]])
        for place in soft:
            corrects = place[1] in c.correction
            block = SoftMultiplier(c.soft_correction if corrects else c.soft_multiplier)
            m.submodules[f"soft_{place[0]}_{place[1]}"] = block
            m.d.comb += [block.x.eq(x[place]), block.w.eq(w[place])]
            at[place] = delay(m, block.p, c.soft_multiplier.latency - block.config.latency), None
        return at

    def _dot_product(self, m, place, x, w):
        """The sum of the products of a row, as late as those of the other rows."""
        row, column = place
        tree = DotProduct(self.config.dot_product(row))
        m.submodules[f"tree_{row}_{column}"] = tree
        m.d.comb += [Cat(tree.x).eq(x), tree.w.eq(w)]
        return delay(m, tree.p, self.config.multiplier_latency - tree.config.latency)

    def _packed(self, products, site):
        c = self.config
        return PackedMultiplier(
            PackedConfig(c.x, c.w, c.max_abs_weight, products), self.block, site
        )

    def _partial_sums(self, m, p):
        """The sum at the foot of each column, the correction column last."""
        c = self.config
        product = c.product
        feet = []
        for column in (*range(c.pe), *c.correction):
            above = None
            for row in range(c.rows):
                width = min(c.acc.width, product.width + ceil_log2(row + 1))
                psum = Signal(
                    Shape(width, c.acc.signed or product.signed),
                    name=f"psum_{row}_{column}",
                    reset_less=True,
                )
                m.d.sync += psum.eq(_sum(above, *p[row, column]))
                above = psum
            feet.append(above)
        return feet

    def _accumulate_and_drain(self, m, sums):
        c = self.config
        # what a column takes with its sum, a cycle ahead
        ahead = delay_flags(
            m, Cat(self.i.valid, self.i.first, self.i.valid & self.i.last), c.depth_of_sum - 1
        )
        correction = [
            self._accumulated(m, ahead, sums[column], "correction") for column in c.correction
        ]
        totals, ending = [], []
        for group in range(c.groups):
            totals.append([])
            for lane in range(c.lanes):
                column = group * c.lanes + lane
                totals[group].append(self._accumulated(m, ahead, sums[column], f"acc_{column}"))
            ahead = delay_flags(m, ahead, 1)
            ending.append(ahead[2])
        results, leaves = (
            drain_spaced(m, totals, ending, c.initiation_interval)
            if c.initiation_interval > 1
            else drain(m, totals, ending)
        )
        for total in correction:
            results, leaves = corrected(m, results, leaves, total, ending)
        m.d.comb += [self.o.valid.eq(leaves), self.o.first.eq(1), self.o.last.eq(1)]
        for lane, result in enumerate(results):
            m.d.comb += self.o.payload[lane].eq(result)

    def _accumulated(self, m, ahead, value, name):
        """The sum of ``value`` over the folds; ``ahead``: valid and first, a cycle ahead."""
        acc = Signal(self.config.acc, name=name, reset_less=True)
        if self.config.folds == 1:
            m.d.sync += acc.eq(value)
            return acc
        valid, first = duplicate(m, ahead[0]), duplicate(m, ahead[1])
        with m.If(valid):
            m.d.sync += acc.eq(Mux(first, 0, acc) + value)
        return acc


def row_words(codes: NDArray[np.int64], config: ArrayConfig, width: int) -> NDArray[np.object_]:
    """The codes [pe, simd, depth], of ``width`` bits, of each row in a word, the first in the low
    bits: [pe, rows, depth].
    """
    rows = [codes[:, config.elements_of(row)].astype(object) for row in range(config.rows)]
    return np.stack([sum(row[:, k] << k * width for k in range(row.shape[1])) for row in rows], 1)


def _halves(pair, shape):
    """The two elements of a pair, the first in the low bits."""
    value = [pair[: shape.width], pair[shape.width :]]
    return [half.as_signed() if shape.signed else half for half in value]


def _sum(above, p, carry):
    """Of a partial sum (None: 0), a product and its carry (None: 0)."""
    if above is None:
        return p if carry is None else p + carry
    return above + p if carry is None else add_with_carry(above, p, carry)

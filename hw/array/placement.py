"""Which products of a systolic array are made in which DSP block, and which in soft logic."""

from dataclasses import dataclass
from functools import cached_property
from itertools import chain

from ..arithmetic.packed_multiplier import packed_products
from ..arithmetic.soft_multiplier import SoftMultiplierConfig
from ..sizes import ceil_div
from ..target.dsp import MultiplierConfig
from .geometry import SOFT_ADDERS, ArrayGeometry

__all__ = ["REACH", "ArrayPlacement"]

#: DSP blocks that an operand passes, at most, on its way to all columns that take it in one cycle
REACH = 50


@dataclass(frozen=True)
class ArrayPlacement(ArrayGeometry):
    """DSP blocks, the products that share them, and the latency of the multipliers."""

    @cached_property
    def pack(self) -> int:
        """Columns of one group whose products of one activation share a DSP block."""
        if not (
            self.shared
            and not self.fast
            and not self.tree
            and self.max_abs_weight
            and self.w.signed
            and self.max_abs_weight < 1 << (self.w.width - 1)
        ):
            return 1
        return min(self.lanes, packed_products(self.target.dsp, self.x, self.max_abs_weight))

    @property
    def products_per_block(self) -> int:
        """Products that a DSP block gives, at most; 0: the operands are too wide for it.

        Two products of the fast inner product are one here.
        """
        return self.pack if self.pack > 1 else self._products_alone

    @cached_property
    def _products_alone(self) -> int:
        return 0 if self.tree else self.target.dsp.products(self.operands.x, self.operands.w)

    def blocks(self, products: int) -> int:
        """DSP blocks that make so many of the products."""
        if self.pack == 1:
            return ceil_div(products, max(1, self.products_per_block))
        groups, left = divmod(products, self.simd * self.lanes)
        columns, alone = divmod(self.lanes, self.pack)
        full = min(left, self.simd * columns * self.pack)
        return (
            groups * self.simd * (columns + (alone > 0))
            + ceil_div(full, self.pack)
            + ceil_div(left - full, max(1, alone))
        )

    @property
    def multipliers_in_dsp(self) -> int:
        """Products in DSP blocks: none where the operands are too wide for one."""
        if not self._products_alone:
            return 0
        return self.multipliers if self.dsp_multipliers is None else self.dsp_multipliers

    def places(self) -> tuple[list[list[tuple[int, int]]], list[tuple[int, int]]]:
        """(row, column) of the products in each DSP block, in the order of the sites; and of those
        in soft logic.

        The correction column is the first. Blocks go down the rows of one column (or of the columns
        that share blocks) after the other; along the rows where an operand could not reach all
        columns of a group otherwise.
        """
        together = [
            range(first, min(first + self.pack, group + self.lanes))
            for group in range(0, self.pe, self.lanes)
            for first in range(group, group + self.lanes, self.pack)
        ]
        units = [
            [(row, column) for column in columns]
            for columns in (*([column] for column in self.correction), *together)
            for row in range(self.rows)
        ]
        if self.pack == 1:
            n = max(1, self.products_per_block)
            units = [list(chain(*units[at : at + n])) for at in range(0, len(units), n)]
        blocks, left = [], self.multipliers_in_dsp
        for unit in units:
            if left > 0:
                blocks.append(unit[:left])
                left -= len(blocks[-1])
        if self.shared and self.rows * (self.lanes - 1) > REACH:
            blocks.sort()
        return blocks, list(chain(*units))[self.multipliers_in_dsp :]

    @cached_property
    def _soft(self) -> frozenset[tuple[int, int]]:
        return frozenset(self.places()[1])

    @cached_property
    def soft_multiplier(self) -> SoftMultiplierConfig:
        """A multiplier of the array in soft logic."""
        return SoftMultiplierConfig(self.operands, adders=SOFT_ADDERS)

    @cached_property
    def soft_correction(self) -> SoftMultiplierConfig:
        """The same of the correction column, whose factors are narrower: both are activations."""
        return SoftMultiplierConfig(MultiplierConfig(self.x, self.x), adders=SOFT_ADDERS)

    @cached_property
    def multiplier_latency(self) -> int:
        """Cycles from the operands to the product, of the slowest multipliers."""
        kinds = []
        if self.multipliers_in_dsp:
            kinds.append(self.target.dsp.latency)
        if self.multipliers_in_dsp < self.multipliers:
            kinds.append(self._soft_latency)
        return max(kinds)

    @property
    def _soft_latency(self) -> int:
        return (self.dot_product() if self.tree else self.soft_multiplier).latency

    @cached_property
    def soft_delay(self) -> int:
        """Cycles by which products in soft logic start later than those in DSP blocks."""
        return self.multiplier_latency - self._soft_latency

"""The shape of a systolic array: rows, columns, groups and the order of results."""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from amaranth import Shape, unsigned
from numpy.typing import NDArray

from ..arithmetic.dot_product import DotProductConfig, WeightCode
from ..sizes import at_least, ceil_div
from ..target.base import Target
from ..target.dsp import MultiplierConfig
from .fast_inner_product import offsets, pair_sum

__all__ = ["MEMORIES", "SOFT_ADDERS", "ArrayGeometry"]

#: products that a tree of adders sums, at most: what trees save beyond these is little, and their
#: operands come from far
TREE_PRODUCTS = 16

#: adders between two registers in soft logic: with two, a third of the flip-flops of a multiplier
#: are saved, and the clock is still 185 MHz
SOFT_ADDERS = 2

#: where weights are stored
MEMORIES = ("logic", "block_ram", "packed_rows")


@dataclass(frozen=True)
class ArrayGeometry:
    """``simd`` rows by ``pe`` columns of multipliers; half the rows where they are ``fast``, and
    fewer where each row sums products in a ``tree``.

    A result is the sum of ``folds`` words of ``simd`` products; each column holds ``depth`` words
    of weights, used in turn. ``lanes`` columns are a group, whose results leave together;
    the results of a reduction leave ``initiation_interval`` cycles apart. ``shared``: one word of
    activations for all columns (a matrix product); otherwise each column has activations of its
    own (a depthwise convolution).

    ``dsp_multipliers`` of the products are made in DSP blocks of the ``target`` (None: all), the
    rest in soft logic. ``sites`` are the blocks' places, in the order of ``places``.
    ``max_abs_weight`` is the largest absolute weight: where it is small, columns of one group share
    blocks (None: only ``w`` is known). ``memory``: where weights are stored, "logic", "block_ram",
    or "packed_rows" (the fewest block RAMs).

    ``fast``: each multiplier gives two products (:mod:`.fast_inner_product`). Column ``pe`` is then
    the correction column, which works with the first group, and a result is more by the sum of
    ``w1 * w2`` over the pairs of its weights, which ``acc`` must hold.

    ``tree``: each row sums up to ``TREE_PRODUCTS`` products in soft logic, without multipliers
    (:mod:`~gatewright.hw.arithmetic.dot_product`), and the code of the weights for it. A result is
    more by the code's excess, which ``acc`` must hold.
    """

    simd: int
    pe: int
    folds: int
    depth: int
    lanes: int
    x: Shape
    w: Shape
    acc: Shape
    target: Target = field(kw_only=True)
    shared: bool = True
    dsp_multipliers: int | None = None
    memory: str = "logic"
    sites: tuple[str, ...] = ()
    max_abs_weight: int | None = None
    initiation_interval: int = 1
    fast: bool = False
    tree: WeightCode | None = None

    def __post_init__(self):
        at_least(1, self, "simd", "pe", "folds", "depth", "lanes", "initiation_interval")
        if self.pe % self.lanes:
            raise ValueError(f"ArrayConfig: lanes={self.lanes}, but it must divide pe={self.pe}")
        if self.depth % self.folds:
            raise ValueError(
                f"ArrayConfig: depth={self.depth}, but it must be a multiple of folds={self.folds}"
            )
        if self.groups * self.initiation_interval > self.folds:
            raise ValueError(
                f"ArrayConfig: {self.groups} results leave {self.initiation_interval} cycles "
                f"apart, but the next reduction follows after folds={self.folds} cycles"
            )
        if self.memory not in MEMORIES:
            raise ValueError(
                f"ArrayConfig: memory={self.memory!r}, but it must be one of {', '.join(MEMORIES)}"
            )
        if (self.fast or self.tree) and not self.shared:
            what, needs = (
                ("fast=True", "the fast inner product needs")
                if self.fast
                else (f"tree={self.tree}", "trees of adders need")
            )
            raise ValueError(
                f"ArrayConfig: {what} with shared=False, but {needs} activations that all columns "
                "share"
            )
        if self.tree and (self.fast or self.dsp_multipliers):
            raise ValueError(
                f"ArrayConfig: tree={self.tree} with fast={self.fast} and dsp_multipliers="
                f"{self.dsp_multipliers}, but trees of adders are soft logic alone"
            )
        if self.dsp_multipliers is not None and not 0 <= self.dsp_multipliers <= self.multipliers:
            raise ValueError(
                f"ArrayConfig: dsp_multipliers={self.dsp_multipliers}, but it must be 0 to "
                f"{self.multipliers}, the number of multipliers"
            )

    @property
    def groups(self) -> int:
        """Groups of ``lanes`` columns; each is a cycle behind the one before."""
        return self.pe // self.lanes

    @property
    def elements(self) -> int:
        """Elements that the array takes in a cycle."""
        return self.simd if self.shared else self.simd * self.pe

    @cached_property
    def rows(self) -> int:
        """Rows of multipliers, or of trees."""
        return ceil_div(self.simd, self.row_elements)

    @property
    def row_elements(self) -> int:
        """Elements that a row takes; the last row may have fewer."""
        if self.fast:
            return 2
        return ceil_div(self.simd, ceil_div(self.simd, TREE_PRODUCTS)) if self.tree else 1

    def elements_of(self, row: int) -> slice:
        """The elements of a word that a row takes."""
        return slice(row * self.row_elements, min(self.simd, (row + 1) * self.row_elements))

    def dot_product(self, row: int = 0) -> DotProductConfig:
        """The trees of a row."""
        assert self.tree
        taken = self.elements_of(row)
        planes = self.tree is WeightCode.PLANES
        # columns of equal weights share sums, whose wires are long
        adders = SOFT_ADDERS if planes else 1
        return DotProductConfig(taken.stop - taken.start, self.x, self.w, self.tree, adders)

    @property
    def correction(self) -> tuple[int, ...]:
        """The correction column, if there is one."""
        return (self.pe,) if self.fast else ()

    @property
    def multipliers(self) -> int:
        """Multipliers; without any, the products of the trees."""
        return self.simd * self.pe if self.tree else self.cells

    @property
    def cells(self) -> int:
        """Places of the grid: each adds to the sum of its column."""
        return self.rows * (self.pe + len(self.correction))

    @cached_property
    def operands(self) -> MultiplierConfig:
        """The operands of a multiplier."""
        if not self.fast:
            return MultiplierConfig(self.x, self.w)
        either = pair_sum(self.x, self.w)
        return MultiplierConfig(either, either)

    @property
    def product(self) -> Shape:
        """What each row adds to the sum of a column."""
        return self.dot_product().p if self.tree else self.operands.p

    @property
    def weight_word(self) -> Shape:
        """What is stored for a place of the grid: a weight, or those of all its elements."""
        if self.tree:
            return self.dot_product().word
        return unsigned(2 * self.w.width) if self.fast else self.w

    def excess(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """By how much results of each channel exceed its sums of products.

        ``weights``: [pe, simd, depth]; gives [pe, depth // folds], a column for each reduction in
        the order of use.
        """
        if self.tree:
            each = self.tree.excess(weights, self.x).sum(1)
        elif self.fast:
            each = offsets(weights)
        else:
            each = np.zeros((self.pe, self.depth), np.int64)
        return each.reshape(self.pe, -1, self.folds).sum(2)

    def channel(self, column: int) -> int:
        """The channel (within a pass) that a column computes: groups in reverse, lanes in order."""
        group, lane = divmod(column, self.lanes)
        return (self.groups - 1 - group) * self.lanes + lane

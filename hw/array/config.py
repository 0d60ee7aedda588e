"""What a systolic array is, takes and costs; :mod:`.systolic` builds it."""

from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, product

from amaranth import Shape

from ..arithmetic.packed_multiplier import packed_products
from ..memory.packed_rows import PackedRows, PackedRowsRom, fewest_block_rams
from ..memory.rom import Rom
from ..memory.tiles import TABLE, cover, estimate, table_estimate
from ..sizes import at_least, ceil_div
from ..target.base import Target
from ..target.dsp import MultiplierConfig
from ..target.resources import Resources

__all__ = ["BAND", "MEMORIES", "REACH", "SOFT_ADDERS", "ArrayConfig"]

#: where weights are stored
MEMORIES = ("logic", "block_ram", "packed_rows")

#: rows whose weights fill block RAMs together
BAND = 2

#: blocks that an operand passes on its way to all columns that take it in one cycle, at most
REACH = 50

#: adders one after the other between the registers of a product in soft logic: of two, a third of
#: its flip-flops are saved, and 185 MHz are left
SOFT_ADDERS = 2


@dataclass(frozen=True)
class ArrayConfig:
    """``simd`` rows by ``pe`` columns of multipliers.

    A result is the sum of ``folds`` words of ``simd`` products; each column holds ``depth`` words
    of weights, used in turn. Results leave ``lanes`` columns at a time (``lanes`` divides ``pe``).
    ``shared``: one word of activations for all columns (a matrix product); otherwise each column
    has activations of its own (a depthwise convolution). ``dsp_multipliers`` of the products are
    made in DSP blocks of the ``target``, the rest in soft logic; ``sites`` are the blocks'
    places, down the rows of one column (or of the columns that share blocks) after the other, or
    along the rows where an operand could not reach all ``lanes`` columns. ``max_abs_weight`` is
    the largest absolute weight: where it is small, columns of one group share blocks (None: only
    ``w`` is known).
    ``memory``: where weights are stored, "logic", "block_ram", or "packed_rows" (the fewest block
    RAMs). A reduction's results leave ``initiation_interval`` cycles apart.
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
        return self.simd if self.shared else self.multipliers

    @property
    def multipliers(self) -> int:
        return self.simd * self.pe

    @property
    def pack(self) -> int:
        """Columns of one group whose products of one activation share a DSP block."""
        if not (
            self.shared
            and self.max_abs_weight
            and self.w.signed
            and self.max_abs_weight < 1 << (self.w.width - 1)
        ):
            return 1
        return min(self.lanes, packed_products(self.target.dsp, self.x, self.max_abs_weight))

    @property
    def products_per_block(self) -> int:
        """Products that a DSP block gives, at most; 0: the operands are too wide for it."""
        return self.pack if self.pack > 1 else self.target.dsp.products(self.x, self.w)

    def blocks(self, hard: int) -> int:
        """DSP blocks that make ``dsp_multipliers`` of the products."""
        if self.pack == 1:
            return ceil_div(hard, max(1, self.products_per_block))
        groups, left = divmod(hard, self.simd * self.lanes)
        columns, alone = divmod(self.lanes, self.pack)
        full = min(left, self.simd * columns * self.pack)
        return (
            groups * self.simd * (columns + (alone > 0))
            + ceil_div(full, self.pack)
            + ceil_div(left - full, max(1, alone))
        )

    @property
    def in_memory(self) -> bool:
        """Whether weights are in block RAM; a single word of them is wires."""
        return self.memory != "logic" and self.depth > 1

    @property
    def packed_rows(self) -> tuple[PackedRows, ...]:
        """How the pieces of a word of all weights are stored densely; none where they are not."""
        if self.memory != "packed_rows" or self.depth == 1:
            return ()
        return fewest_block_rams(self.depth, self.multipliers * self.w.width, self.target)

    @property
    def pieces(self) -> list[int]:
        """Bits of each piece of a word of all weights, :meth:`order` telling which are whose; each
        is in block RAMs of its own.
        """
        return [
            piece.width
            for piece in self.packed_rows
            or cover(self.depth, self.multipliers * self.w.width, self.target, logic=True)
        ]

    def order(self) -> list[tuple[int, int]]:
        """(row, column) of each weight in the order in which they fill the block RAMs' words.

        Two rows at a time, forth and back, by the cycle in which they are wanted: weights that
        share a block RAM are neighbours in the array and wait for each other for few cycles. ::

            0 1 3 5 7 ▷       0 │ 1 3 5 7       a strip holds a few weights, and parts of
            2 4 6 8           2 │ 4 6 8         one at either end
        """
        bands = []
        for top in range(0, self.simd, BAND):
            places = product(range(top, min(top + BAND, self.simd)), range(self.pe))
            band = sorted(places, key=lambda place: (self.skew(place), place))
            bands.append(band[::-1] if top // BAND % 2 else band)
        return list(chain(*bands))

    def skew(self, place: tuple[int, int]) -> int:
        """Cycles that the multiplier at (row, column) works behind the first one."""
        row, column = place
        return row + column // self.lanes + (self.soft_delay if place in self._soft else 0)

    @cached_property
    def soft_delay(self) -> int:
        """Cycles that products in soft logic start later than those in DSP blocks, which take
        longer.
        """
        return self.multiplier_latency - MultiplierConfig(self.x, self.w).soft_latency(SOFT_ADDERS)

    @cached_property
    def _soft(self) -> frozenset[tuple[int, int]]:
        return frozenset(self.places()[1])

    def channel(self, column: int) -> int:
        """The channel (within a pass) that a column computes: groups in reverse, lanes in order."""
        group, lane = divmod(column, self.lanes)
        return (self.groups - 1 - group) * self.lanes + lane

    @property
    def memory_bits(self) -> int:
        return self.simd * self.pe * self.depth * self.w.width

    def resources(self) -> Resources:
        """An estimate of multipliers, adders, weights and the drain."""
        product = self.x.width + self.w.width
        n, acc = self.multipliers, self.acc.width
        psum = min(acc, product + 2)
        soft = n - self.multipliers_in_dsp
        multiplier = MultiplierConfig(self.x, self.w)
        carry = self.target.carry_luts
        lut = n * (psum + carry) + self.pe * 2 * (acc + carry) + soft * multiplier.soft_lut(carry)
        # an operand waits for its row, and passes the groups or (of one column) waits for its own
        rows = self.weight_latency + self.simd // 2
        waits = self.simd * (rows + self.groups) if self.shared else n * (rows + self.groups // 2)
        ff = (
            n * psum
            + self.pe * 4 * (acc + 1)
            + soft * multiplier.soft_ff(SOFT_ADDERS)
            + self.x.width * waits
        )
        return Resources(lut, ff, self.blocks(self.multipliers_in_dsp)) + self._memory_resources()

    def _memory_resources(self) -> Resources:
        """An estimate of the weights' memories and addresses; block RAMs are exact."""
        n, w = self.multipliers, self.w.width
        address = self.packed_rows[0].address if self.packed_rows else (self.depth - 1).bit_length()
        if not self.in_memory:
            if self.depth == 1:
                return Resources()
            own = address if self.depth > TABLE else 0
            return (table_estimate(self.depth, w) + Resources(0, own)) * n
        if self.packed_rows:
            stored = sum((piece.resources() for piece in self.packed_rows), Resources())
            strips = len(self.packed_rows)
        else:
            stored = estimate(self.depth, n * w, self.target, Rom.latency, True)
            strips = ceil_div(n * w, self.target.widest_memory)
        together = ceil_div(n, strips)
        waiting = n * w * (together - 1) // (2 * self.lanes * min(self.simd, BAND))
        chains = ceil_div(self.simd, BAND) * (self.groups + BAND)
        return stored + Resources(2 * address, waiting + (chains + strips) * address)

    @property
    def multipliers_in_dsp(self) -> int:
        """Products in DSP blocks: none where the operands are too wide for one."""
        if not self.target.dsp.products(self.x, self.w):
            return 0
        return self.multipliers if self.dsp_multipliers is None else self.dsp_multipliers

    def places(self) -> tuple[list[list[tuple[int, int]]], list[tuple[int, int]]]:
        """(row, column) of the products in each DSP block, in the order of the sites; and of those
        in soft logic.
        """
        together = [
            range(first, min(first + self.pack, group + self.lanes))
            for group in range(0, self.pe, self.lanes)
            for first in range(group, group + self.lanes, self.pack)
        ]
        units = [
            [(row, column) for column in columns]
            for columns in together
            for row in range(self.simd)
        ]
        if self.pack == 1:
            n = max(1, self.products_per_block)
            units = [list(chain(*units[at : at + n])) for at in range(0, len(units), n)]
        blocks, left = [], self.multipliers_in_dsp
        for unit in units:
            if left > 0:
                blocks.append(unit[:left])
                left -= len(blocks[-1])
        if self.shared and self.simd * (self.lanes - 1) > REACH:
            blocks.sort()
        return blocks, list(chain(*units))[self.multipliers_in_dsp :]

    @property
    def multiplier_latency(self) -> int:
        kinds = []
        if self.multipliers_in_dsp:
            kinds.append(self.target.dsp.latency)
        if self.multipliers_in_dsp < self.multipliers:
            kinds.append(MultiplierConfig(self.x, self.w).soft_latency(SOFT_ADDERS))
        return max(kinds)

    @property
    def weight_latency(self) -> int:
        """Cycles from a weight's address to the weight: the memory and a register, before them an
        address register of its own where it is large.
        """
        if self.in_memory:
            return 1 + (PackedRowsRom if self.packed_rows else Rom).latency
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
        return (self.groups - 1) * self.initiation_interval

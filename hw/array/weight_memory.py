"""Where the weights of a systolic array are stored, and when each is needed."""

from dataclasses import dataclass
from itertools import chain, product

from ..memory.packed_rows import PackedRows, PackedRowsRom, fewest_block_rams
from ..memory.rom import Rom
from ..memory.tiles import TABLE, cover
from .placement import ArrayPlacement

__all__ = ["BAND", "WeightMemory"]

#: rows whose weights share block RAMs
BAND = 2


@dataclass(frozen=True)
class WeightMemory(ArrayPlacement):
    """The words of all weights, cut into pieces that are memories of their own."""

    @property
    def in_memory(self) -> bool:
        """Whether weights are in block RAM; a single word of them is wires."""
        return self.memory != "logic" and self.depth > 1

    @property
    def packed_rows(self) -> tuple[PackedRows, ...]:
        """The pieces of a word of all weights, where they are stored as packed rows; else none."""
        if self.memory != "packed_rows" or self.depth == 1:
            return ()
        return fewest_block_rams(self.depth, self.word_bits, self.target)

    @property
    def pieces(self) -> list[int]:
        """Bits of each piece of a word of all weights, in the order of :meth:`order`.

        Each piece has block RAMs of its own.
        """
        return [
            piece.width
            for piece in self.packed_rows
            or cover(self.depth, self.word_bits, self.target, logic=True, whole=True)
        ]

    def order(self) -> list[tuple[int, int]]:
        """(row, column) of each weight in the order in which they fill the block RAMs' words.

        Two rows at a time, there and back, by the cycle in which they are used: weights that share
        a block RAM are neighbours in the array and are used within few cycles. ::

            0 1 3 5 7 ▷       0 │ 1 3 5 7       a strip holds a few weights, and parts of
            2 4 6 8           2 │ 4 6 8         one at either end
        """
        bands = []
        for top in range(0, self.rows, BAND):
            places = product(range(top, min(top + BAND, self.rows)), range(self.pe))
            band = sorted(places, key=lambda place: (self.skew(place), place))
            bands.append(band[::-1] if top // BAND % 2 else band)
        return list(chain(*bands))

    def skew(self, place: tuple[int, int]) -> int:
        """Cycles by which the multiplier at (row, column) works after the first one."""
        row, column = place
        group = column // self.lanes % self.groups  # the correction column is of group 0
        return row + group + (self.soft_delay if place in self._soft else 0)

    @property
    def weight_latency(self) -> int:
        """Cycles from a weight's address to the weight: the memory and a register, and an address
        register of its own before a large memory.
        """
        if self.in_memory:
            return 1 + (PackedRowsRom if self.packed_rows else Rom).latency
        return 2 if self.depth <= TABLE else 3

    @property
    def memory_bits(self) -> int:
        return self.depth * self.word_bits

    @property
    def word_bits(self) -> int:
        """Bits of a word of all weights."""
        return self.rows * self.pe * self.weight_word.width

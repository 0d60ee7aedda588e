"""The configuration of a systolic array, in layers; :mod:`.systolic` builds it.

ArrayGeometry    rows, columns, groups                (geometry)
ArrayPlacement   products in DSP blocks               (placement)
WeightMemory     memories, order of weights, skew     (weight_memory)
ArrayConfig      latency, cost                        (here)
"""

from dataclasses import dataclass

from ..memory.rom import Rom
from ..memory.tiles import TABLE, estimate, table_estimate
from ..sizes import ceil_div
from ..target.resources import Resources
from .weight_memory import BAND, WeightMemory

__all__ = ["ArrayConfig"]

#: what is left, in LUTs and flip-flops, of soft logic whose weights are constants: bits that are 0
#: add nothing, and synthesis makes sums that several columns need once; of trees and of multipliers
_CONSTANT_TREE, _CONSTANT_MULTIPLIER = (0.3, 0.4), (0.3, 0.7)


@dataclass(frozen=True)
class ArrayConfig(WeightMemory):
    """A systolic array: the parameters of all its layers, its latency and its cost."""

    @property
    def depth_of_sum(self) -> int:
        """Cycles from a word in to its sum at the foot of the first group."""
        return self.weight_latency + self.fast + self.multiplier_latency + self.rows

    @property
    def latency(self) -> int:
        """Cycles from a reduction's last word in to its first result out."""
        return self.depth_of_sum + 1 + self.groups + self.fast

    @property
    def drain_cycles(self) -> int:
        """Cycles from a reduction's first result out to its last."""
        return (self.groups - 1) * self.initiation_interval

    def resources(self) -> Resources:
        """An estimate of multipliers, adders, weights and the drain."""
        n, acc = self.cells, self.acc.width
        psum = min(acc, self.product.width + 2)
        soft = n - self.multipliers_in_dsp
        carry = self.target.carry_luts
        if self.tree:
            each = Resources(
                self.dot_product().lut(self.target.gated_adders), self.dot_product().ff
            )
        else:
            each = Resources(self.soft_multiplier.lut(carry), self.soft_multiplier.ff)
        if self.depth == 1 and not self.fast:
            left = _CONSTANT_TREE if self.tree else _CONSTANT_MULTIPLIER
            each = Resources(int(left[0] * each.lut), int(left[1] * each.ff))
        added = n - n // self.rows  # a column's first product is its first sum
        lut = added * (psum + carry) + self.pe * 2 * (acc + carry) + soft * each.lut
        # an operand is delayed for its row, and passes the groups or is delayed for its own one
        rows = self.weight_latency + self.rows // 2
        waits = self.simd * (rows + self.groups) if self.shared else n * (rows + self.groups // 2)
        ff = n * psum + self.pe * 3 * (acc + 1) + soft * each.ff + self.x.width * waits
        return Resources(lut, ff, self.blocks(self.multipliers_in_dsp)) + (
            self._memory_resources() + self._fast_resources()
        )

    def _fast_resources(self) -> Resources:
        """An estimate of the fast inner product's adders, and of its correction."""
        if not self.fast:
            return Resources()
        factors = 2 * self.operands.x.width
        pairs, acc, carry = self.rows * self.pe, self.acc.width, self.target.carry_luts
        return Resources(
            pairs * (factors + 2 * carry) + (self.lanes + 1) * (acc + carry),
            self.multipliers * factors + (self.lanes + 3) * acc,
        )

    def _memory_resources(self) -> Resources:
        """An estimate of the weights' memories and addresses; block RAMs are exact."""
        n, w = self.rows * self.pe, self.weight_word.width
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
            stored = estimate(self.depth, n * w, self.target, Rom.latency, True, True)
            strips = ceil_div(n * w, self.target.widest_memory)
        together = ceil_div(n, strips)
        waiting = n * w * (together - 1) // (2 * self.lanes * min(self.rows, BAND))
        chains = ceil_div(self.rows, BAND) * (self.groups + BAND)
        return stored + Resources(2 * address, waiting + (chains + strips) * address)

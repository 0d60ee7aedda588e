"""Functions of one integer, by table, and the choice of what computes those of wide integers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..quantize.proofs.table import for_unary
from .base import StageKind, StagePlan
from .streaming import UnaryDesign, beats, even_widths
from .wide_function import PiecewiseDesign, RescaleDesign

__all__ = ["Lookup"]

#: bits of an integer up to which a table of all its values serves a function: one block RAM
_TABLE_BITS = 10


@dataclass(frozen=True)
class LookupDesign(UnaryDesign):
    """A table a lane."""

    @property
    def _words(self) -> tuple[int, int]:
        """Words of a table, and bits of each."""
        x, y = self.shapes
        return 1 << x.width, y.width

    @property
    def latency(self) -> int:
        return hw.LookupConfig.latency

    @property
    def memory_bits(self) -> int:
        words, width = self._words
        return words * width * self.stage.pe

    def resources(self, device: Device) -> hw.Resources:
        words, width = self._words
        return hw.LookupConfig.estimate(self.stage.pe, words, width, device.target)

    def constants(self) -> tuple[int, ...]:
        """The table: it is looked up by the integer's bits, so negative integers come last."""
        x = self.graph.quant(self.op.inputs[0]).dtype
        return tuple(int(y) for y in np.roll(for_unary(self.graph, self.op), x.low))

    def build(self, constants: tuple[int, ...]) -> hw.Component:
        return hw.Lookup(
            hw.LookupConfig(self.stage.pe, *self.shapes, constants, self.beats, target=self.target)
        )


class Lookup(StageKind):
    """One function of one stream: a table of all inputs, or of wide inputs something smaller."""

    name = "lookup"

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.Unary)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        return even_widths(ops[0], graph)

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> LookupDesign | RescaleDesign | PiecewiseDesign:
        (op,) = ops
        assert isinstance(op, ir.Unary)
        kind: type[LookupDesign | RescaleDesign | PiecewiseDesign] = LookupDesign
        if graph.quant(op.inputs[0]).dtype.bits > _TABLE_BITS:
            kind = RescaleDesign if op.function == ir.Identity() else PiecewiseDesign
        return kind(stage, ops, graph, beats(op, graph, stage.pe), device.target)

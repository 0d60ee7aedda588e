"""Operators of two streams, element by element."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..quantize.proofs.add import Adder, for_add
from .base import StageKind, StagePlan, StagePort, StagePorts, hw_shape
from .rounding import rounding
from .streaming import StreamDesign, beats, even_widths

__all__ = ["Elementwise"]


@dataclass(frozen=True)
class AddDesign(StreamDesign):
    """Two streams that wait for each other, and their sum."""

    target: hw.Target

    @property
    def op(self) -> ir.Add:
        (op,) = self.ops
        assert isinstance(op, ir.Add)
        return op

    @property
    def ports(self) -> StagePorts:
        a, b = self.op.inputs
        pe = self.stage.pe
        return StagePorts(
            (StagePort(a, pe, "a"), StagePort(b, pe, "b")), (StagePort(self.op.output, pe, "o"),)
        )

    @property
    def latency(self) -> int:
        return hw.AddConfig.usual_latency(self.target)

    def resources(self, device: Device) -> hw.Resources:
        return hw.AddConfig.estimate(self.stage.pe, *self._shapes, device.target)

    @property
    def _shapes(self) -> tuple[hw.Shape, hw.Shape, hw.Shape]:
        """The types of both operands and of the sum."""
        a, b = self.op.inputs
        shapes = (hw_shape(self.graph.quant(name).dtype) for name in (a, b, self.op.output))
        return next(shapes), next(shapes), next(shapes)

    def constants(self) -> Adder:
        return for_add(self.graph, self.op)

    def build(self, constants: Adder) -> hw.Component:
        return hw.Add(
            hw.AddConfig(
                self.stage.pe,
                *self._shapes,
                constants.mult_a,
                constants.mult_b,
                constants.offset,
                rounding(constants),
                self.beats,
                target=self.target,
            )
        )


class Elementwise(StageKind):
    """The sum of two streams."""

    name = "elementwise"

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.Add)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        return even_widths(ops[0], graph)

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> AddDesign:
        return AddDesign(stage, ops, graph, beats(ops[0], graph, stage.pe), device.target)

"""The winning class."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ... import hw
from ...hw.target.base import Device
from .. import ir
from .base import StageKind, StagePlan, check_range, hw_shape
from .streaming import StreamDesign, even_widths

__all__ = ["ArgMax"]


@dataclass(frozen=True)
class ArgMaxDesign(StreamDesign):
    """A comparison with the largest element so far."""

    @property
    def latency(self) -> int:
        return hw.ArgMaxConfig.latency

    def resources(self, device: Device) -> hw.Resources:
        return hw.ArgMaxConfig.estimate()

    def constants(self) -> None:
        return None

    def build(self, constants: None) -> hw.Component:
        x = self.ops[0].inputs[0]
        return hw.ArgMax(
            hw.ArgMaxConfig(self.graph.shape(x).size, hw_shape(self.graph.quant(x).dtype))
        )


class ArgMax(StageKind):
    """The index of the largest element of a frame, an element a cycle."""

    name = "argmax"

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.ArgMax)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        return even_widths(ops[0], graph)

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> ArgMaxDesign:
        (op,) = ops
        check_range(op, "pe", stage.pe, 1, "the largest is found one element a cycle")
        size = graph.shape(op.inputs[0]).size
        return ArgMaxDesign(stage, ops, graph, size)

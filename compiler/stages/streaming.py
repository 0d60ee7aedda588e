"""What stages without a line buffer share: a beat a cycle, ``pe`` channels a beat."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from ... import hw
from .. import ir
from .base import Design, StagePort, StagePorts, check_range, hw_shape

__all__ = ["StreamDesign", "UnaryDesign", "beats", "even_widths"]


@dataclass(frozen=True)
class StreamDesign(Design):
    """A stage of one beat a cycle, ``beats`` a frame."""

    beats: int

    @property
    def ports(self) -> StagePorts:
        (op,), pe = self.ops, self.stage.pe
        return StagePorts((StagePort(op.inputs[0], pe, "i"),), (StagePort(op.output, pe, "o"),))

    def cycles(self) -> int:
        return self.beats


@dataclass(frozen=True)
class UnaryDesign(StreamDesign):
    """A stage of one function of one integer."""

    target: hw.Target

    @property
    def op(self) -> ir.Unary:
        (op,) = self.ops
        assert isinstance(op, ir.Unary)
        return op

    @property
    def shapes(self) -> tuple[hw.Shape, hw.Shape]:
        """The types of the input and the output."""
        x, y = (self.graph.quant(name).dtype for name in (self.op.inputs[0], self.op.output))
        return hw_shape(x), hw_shape(y)


def beats(op: ir.Op, graph: ir.Graph, pe: int) -> int:
    """Beats of a frame of the output, ``pe`` channels each."""
    shape = graph.shape(op.output)
    check_range(op, "pe", pe, shape.channels, f"the map has {shape.channels} channels")
    return shape.pixels * ceil(shape.channels / pe)


def even_widths(op: ir.Op, graph: ir.Graph) -> Iterator[tuple[int, int]]:
    """Foldings of ever more channels a beat: the fewest for each number of beats a pixel."""
    channels = graph.shape(op.output).channels
    for pe in sorted({ceil(channels / n) for n in range(1, channels + 1)}):
        yield 1, pe

"""What stages without a line buffer share: a beat a cycle, ``pe`` channels a beat."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil

from .. import ir
from .base import Design, Port, Ports, check_range

__all__ = ["StreamDesign", "beats", "even_widths"]


@dataclass(frozen=True)
class StreamDesign(Design):
    """A stage of one beat a cycle, ``beats`` a frame."""

    beats: int

    @property
    def ports(self) -> Ports:
        (op,), pe = self.ops, self.stage.pe
        return Ports((Port(op.inputs[0], pe, "i"),), (Port(op.output, pe, "o"),))

    def cycles(self) -> int:
        return self.beats


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

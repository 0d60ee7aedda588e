"""The state of a loop: a map that comes back a pixel later."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..quantize.proofs.rounding import level
from .base import Design, StageKind, StagePlan, StagePort, StagePorts, StageTiming, hw_shape
from .streaming import beats, even_widths

__all__ = ["State"]


@dataclass(frozen=True)
class StateDesign(Design):
    """A queue of a pixel, which gives a frame's first pixel by itself."""

    target: hw.Target
    #: least cycles from pixel to pixel: those of a turn of the loop, which the whole plan tells
    pace: int = 1

    delaying = True

    @property
    def op(self) -> ir.Delay:
        (op,) = self.ops
        assert isinstance(op, ir.Delay)
        return op

    @property
    def config(self) -> hw.StateConfig:
        shape, quant = self.graph.shape(self.op.output), self.graph.quant(self.op.output)
        return hw.StateConfig(
            self.stage.pe,
            hw_shape(quant.dtype),
            ceil(shape.channels / self.stage.pe),
            shape.height,
            level(self.op.fill, quant),
            self.pace,
            self.target,
        )

    def paced(self, cycles: int) -> "StateDesign":
        return replace(self, pace=cycles)

    @property
    def ports(self) -> StagePorts:
        op, pe = self.op, self.stage.pe
        return StagePorts((StagePort(op.inputs[0], pe, "i"),), (StagePort(op.output, pe, "o"),))

    def cycles(self) -> int:
        return self.config.cycles()

    @property
    def latency(self) -> int:
        return hw.StateConfig.latency

    @property
    def timing(self) -> StageTiming:
        return StageTiming(self.config.beats, self.latency, pace=max(self.pace, self.config.beats))

    @property
    def memory_bits(self) -> int:
        return self.config.beats * self.config.width

    def resources(self, device: Device) -> hw.Resources:
        return self.config.resources()

    def constants(self) -> None:
        return None

    def build(self, constants: None) -> hw.Component:
        return hw.State(self.config)


class State(StageKind):
    """One delay of a map by a pixel."""

    name = "state"

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.Delay)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        return even_widths(ops[0], graph)

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> StateDesign:
        beats(ops[0], graph, stage.pe)
        return StateDesign(stage, ops, graph, device.target)

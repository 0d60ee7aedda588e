"""Channels of several streams side by side."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..errors import PlanError
from .base import (
    Buffering,
    StageKind,
    StagePlan,
    StagePort,
    StagePorts,
    StageTiming,
    hw_shape,
)
from .streaming import StreamDesign

__all__ = ["Concat"]


@dataclass(frozen=True)
class ConcatDesign(StreamDesign):
    """A choice among several streams."""

    bursting = True

    @property
    def ports(self) -> StagePorts:
        (op,), pe = self.ops, self.stage.pe
        return StagePorts(
            tuple(StagePort(value, pe, "i", n) for n, value in enumerate(op.inputs)),
            (StagePort(op.output, pe, "o"),),
        )

    @property
    def latency(self) -> int:
        return hw.ConcatConfig.latency

    @property
    def timing(self) -> StageTiming:
        each = self._config.beats
        behind = tuple(sum(each[n + 1 :]) for n in range(len(each)))
        return StageTiming(sum(each), self.latency, behind=behind)

    @property
    def buffering(self) -> Buffering:
        each = self._config.beats
        return Buffering(turns=tuple(sum(each) - beats for beats in each))

    def resources(self, device: Device) -> hw.Resources:
        (op,) = self.ops
        element = hw_shape(self.graph.quant(op.output).dtype)
        return hw.ConcatConfig.estimate(len(op.inputs), self.stage.pe, element)

    def constants(self) -> None:
        return None

    def build(self, constants: None) -> hw.Component:
        return hw.Concat(self._config)

    @property
    def _config(self) -> hw.ConcatConfig:
        (op,), graph = self.ops, self.graph
        return hw.ConcatConfig(
            tuple(graph.shape(name).channels for name in op.inputs),
            self.stage.pe,
            hw_shape(graph.quant(op.output).dtype),
            graph.shape(op.output).pixels,
        )


class Concat(StageKind):
    """One concatenation on the channel axis."""

    name = "concat"

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.Concat)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        channels = [graph.shape(name).channels for name in ops[0].inputs]
        for pe in range(1, max(channels) + 1):
            if all(c % pe == 0 for c in channels[:-1]):
                yield 1, pe

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> ConcatDesign:
        (op,) = ops
        channels = [graph.shape(name).channels for name in op.inputs]
        if any(c % stage.pe for c in channels[:-1]):
            raise PlanError(
                f"{op.name}: pe={stage.pe}, but the inputs have {channels} channels; "
                "choose a number that divides all but the last"
            )
        pixels = graph.shape(op.output).pixels
        return ConcatDesign(stage, ops, graph, pixels * sum(ceil(c / stage.pe) for c in channels))

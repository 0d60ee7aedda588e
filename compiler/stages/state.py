"""A state: a map that comes back a pixel later, or a frame later."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..quantize.proofs.rounding import level
from .base import Design, StageKind, StagePlan, StagePort, StagePorts, StageTiming, hw_shape
from .streaming import beats, even_widths

__all__ = ["State"]


@dataclass(frozen=True)
class StateDesign(Design):
    """A queue of a pixel, which gives a frame's first pixel by itself, or as it is given that; or
    of two frames, which gives the first frame after a reset by itself.
    """

    target: hw.Target
    #: least cycles from step to step, a pixel or a frame: those of a turn of the loop, which the
    #: whole plan tells
    pace: int = 1

    delaying = True

    @property
    def op(self) -> ir.Delay | ir.FrameDelay:
        (op,) = self.ops
        assert isinstance(op, ir.Delay | ir.FrameDelay)
        return op

    @property
    def keeping(self) -> bool:
        return self.op.keeping

    @property
    def pixel_beats(self) -> int:
        return ceil(self.graph.shape(self.op.output).channels / self.stage.pe)

    @property
    def config(self) -> hw.StateConfig:
        op, pe = self.op, self.stage.pe
        shape, quant = self.graph.shape(op.output), self.graph.quant(op.output)
        beats, steps = self.pixel_beats, None if op.keeping else shape.height
        first = None if len(op.inputs) > 1 else self._initial(op.initial, quant)
        return hw.StateConfig(
            pe,
            hw_shape(quant.dtype),
            beats if steps else beats * shape.pixels,
            steps,
            first,
            self.pace,
            self.target,
        )

    def _initial(self, initial: NDArray[np.float32], quant: ir.Quant) -> tuple[int, ...]:
        """The integers of the first pixel or frame, each pixel filled up to whole beats."""
        if (initial == initial.flat[0]).all():
            return (level(float(initial.flat[0]), quant),)
        pixels = initial.reshape(-1, initial.shape[-1])
        spare = self.pixel_beats * self.stage.pe - pixels.shape[1]
        filled = np.pad(pixels, ((0, 0), (0, spare)))
        return tuple(level(float(real), quant) for real in filled.flat)

    def paced(self, cycles: int) -> "StateDesign":
        return replace(self, pace=cycles)

    @property
    def ports(self) -> StagePorts:
        op, pe = self.op, self.stage.pe
        inputs = zip(op.inputs, ("i", "first"), strict=False)
        return StagePorts(
            tuple(StagePort(name, pe, member) for name, member in inputs),
            (StagePort(op.output, pe, "o"),),
        )

    def cycles(self) -> int:
        return self.config.cycles()

    @property
    def latency(self) -> int:
        return hw.StateConfig.latency

    @property
    def timing(self) -> StageTiming:
        beats = self.pixel_beats
        pace = beats if self.keeping else max(self.pace, beats)
        return StageTiming(beats, self.latency, pace=pace)

    @property
    def memory_bits(self) -> int:
        return self.config.depth * self.config.width

    def resources(self, device: Device) -> hw.Resources:
        return self.config.resources()

    def constants(self) -> None:
        return None

    def build(self, constants: None) -> hw.Component:
        return hw.State(self.config)


class State(StageKind):
    """One delay of a map by a pixel or by a frame."""

    name = "state"

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.Delay | ir.FrameDelay)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        return even_widths(ops[0], graph)

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> StateDesign:
        beats(ops[0], graph, stage.pe)
        return StateDesign(stage, ops, graph, device.target)

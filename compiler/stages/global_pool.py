"""A pool over a whole map, which keeps a total of each channel instead of the map."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ... import hw
from ...hw.target.base import Device
from .. import ir
from .base import Buffering, ConfiguredDesign, StageTiming, WindowNeeds, hw_shape
from .rounding import proven, rounding
from .streaming import StreamDesign
from .windowed import accumulator

__all__ = ["GlobalPoolDesign"]

#: pixels of input in register slices and the pipeline, whose results wait in the output queue
_AROUND = 2


@dataclass(frozen=True)
class GlobalPoolDesign(ConfiguredDesign, StreamDesign):
    """A total of each channel; ``beats`` are those of a frame in."""

    target: hw.Target

    @property
    def op(self) -> ir.MaxPool | ir.AveragePool:
        (op,) = self.ops
        assert isinstance(op, ir.MaxPool | ir.AveragePool)
        return op

    @property
    def shape(self) -> ir.Shape:
        """The map that it takes."""
        return self.graph.shape(self.op.inputs[0])

    @cached_property
    def config(self) -> hw.GlobalPoolConfig:
        op, pe, pixels = self.op, self.stage.pe, self.shape.pixels
        element, out = (
            hw_shape(self.graph.quant(name).dtype) for name in (op.inputs[0], op.output)
        )
        words, rescale = self.beats // pixels, None
        if isinstance(op, ir.AveragePool):
            exact = proven(op, self.graph)
            rescale = hw.RescaleConfig(
                pe,
                hw_shape(accumulator(op, self.graph)),
                out,
                exact.mult[0],
                exact.offset[0],
                rounding(exact),
                words,
                target=self.target,
            )
        return hw.GlobalPoolConfig(pe, words, pixels, element, out, rescale, target=self.target)

    @property
    def timing(self) -> StageTiming:
        # a result leaves as the last pixel comes: no cycle passes until its computation begins
        return StageTiming(1, self.latency - 1, self.beats // self.shape.pixels)

    @property
    def buffering(self) -> Buffering:
        shape = self.shape
        needed = np.full((1, 1), shape.pixels)
        return Buffering(
            shape.pixels - 1,
            shape.pixels + _AROUND,
            WindowNeeds(needed, [shape.height], shape.width),
        )

    @property
    def memory_bits(self) -> int:
        return self.config.memory_bits

    def resources(self, device: Device) -> hw.Resources:
        return self.config.resources()

    def constants(self) -> hw.GlobalPoolConfig:
        return self.config

    def build(self, constants: hw.GlobalPoolConfig) -> hw.Component:
        return hw.GlobalPool(constants)

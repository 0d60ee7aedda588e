"""Functions of one wide integer: a rescaling where the function is linear, else straight pieces."""

from dataclasses import dataclass
from functools import cached_property, lru_cache

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..quantize.proofs.piecewise import for_wide_unary
from ..quantize.proofs.requantizer import Requantizer, for_identity
from .base import hw_shape
from .rounding import rounding
from .streaming import StreamDesign

__all__ = ["PiecewiseDesign", "RescaleDesign"]


@dataclass(frozen=True)
class _WideFunctionDesign(StreamDesign):
    """A stage whose size depends on its constants, which are therefore known before it is built."""

    target: hw.Target

    @property
    def op(self) -> ir.Unary:
        (op,) = self.ops
        assert isinstance(op, ir.Unary)
        return op

    @property
    def _shapes(self) -> tuple[hw.Shape, hw.Shape]:
        """The types of the input and the output."""
        x, y = (self.graph.quant(name).dtype for name in (self.op.inputs[0], self.op.output))
        return hw_shape(x), hw_shape(y)


@dataclass(frozen=True)
class RescaleDesign(_WideFunctionDesign):
    """One multiplication by a constant and a rounding a lane."""

    @cached_property
    def config(self) -> hw.RescaleConfig:
        exact = _for_identity(self.graph, self.op)
        return hw.RescaleConfig(
            self.stage.pe,
            *self._shapes,
            exact.mult[0],
            exact.offset[0],
            rounding(exact),
            self.beats,
            target=self.target,
        )

    @property
    def latency(self) -> int:
        return self.config.latency

    def resources(self, device: Device) -> hw.Resources:
        return self.config.resources()

    def constants(self) -> hw.RescaleConfig:
        return self.config

    def build(self, constants: hw.RescaleConfig) -> hw.Component:
        return hw.Rescale(constants)


@dataclass(frozen=True)
class PiecewiseDesign(_WideFunctionDesign):
    """Two small memories, a shift and a multiplication a lane."""

    @cached_property
    def config(self) -> hw.PiecewiseConfig:
        exact = for_wide_unary(self.graph, self.op)
        return hw.PiecewiseConfig(
            self.stage.pe,
            *self._shapes,
            tuple(zip(exact.first.tolist(), exact.length_bits.tolist(), strict=True)),
            tuple(zip(exact.slope.tolist(), exact.offset.tolist(), strict=True)),
            exact.shift,
            self.beats,
            target=self.target,
        )

    @property
    def latency(self) -> int:
        return self.config.latency

    @property
    def memory_bits(self) -> int:
        return self.config.memory_bits * self.stage.pe

    def resources(self, device: Device) -> hw.Resources:
        return self.config.resources()

    def constants(self) -> hw.PiecewiseConfig:
        return self.config

    def build(self, constants: hw.PiecewiseConfig) -> hw.Component:
        return hw.Piecewise(constants)


@lru_cache(maxsize=256)
def _for_identity(graph: ir.Graph, op: ir.Unary) -> Requantizer:
    """Cached, for many foldings are tried."""
    return for_identity(graph, op)

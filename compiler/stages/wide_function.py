"""Functions of one wide integer: a rescaling where the function is linear, else straight pieces.

The size of these stages depends on their constants, which are therefore known before a stage is
built.
"""

from dataclasses import dataclass
from functools import cached_property, lru_cache

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..quantize.proofs.piecewise import for_wide_unary
from ..quantize.proofs.requantizer import Requantizer, for_identity
from .rounding import rounding
from .streaming import UnaryDesign

__all__ = ["PiecewiseDesign", "RescaleDesign"]


@dataclass(frozen=True)
class RescaleDesign(UnaryDesign):
    """One multiplication by a constant and a rounding a lane."""

    @cached_property
    def config(self) -> hw.RescaleConfig:
        exact = _for_identity(self.graph, self.op)
        return hw.RescaleConfig(
            self.stage.pe,
            *self.shapes,
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
class PiecewiseDesign(UnaryDesign):
    """Two small memories, a shift and a multiplication a lane."""

    @cached_property
    def config(self) -> hw.PiecewiseConfig:
        exact = for_wide_unary(self.graph, self.op)
        return hw.PiecewiseConfig(
            self.stage.pe,
            *self.shapes,
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

"""Functions of one wide integer: a rescaling where the function is linear, else straight pieces.

The size of these stages depends on their constants, which are therefore known before a stage is
built.
"""

from dataclasses import dataclass
from functools import cached_property

from ... import hw
from ..quantize.proofs.piecewise import for_wide_unary
from .base import ConfiguredDesign
from .rounding import proven, rounding
from .streaming import UnaryDesign

__all__ = ["PiecewiseDesign", "RescaleDesign"]


@dataclass(frozen=True)
class RescaleDesign(ConfiguredDesign, UnaryDesign):
    """One multiplication by a constant and a rounding a lane."""

    @cached_property
    def config(self) -> hw.RescaleConfig:
        exact = proven(self.op, self.graph)
        return hw.RescaleConfig(
            self.stage.pe,
            *self.shapes,
            exact.mult[0],
            exact.offset[0],
            rounding(exact),
            self.beats,
            target=self.target,
        )

    def build(self, constants: hw.RescaleConfig) -> hw.Component:
        return hw.Rescale(constants)


@dataclass(frozen=True)
class PiecewiseDesign(ConfiguredDesign, UnaryDesign):
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
    def memory_bits(self) -> int:
        return self.config.memory_bits * self.stage.pe

    def build(self, constants: hw.PiecewiseConfig) -> hw.Component:
        return hw.Piecewise(constants)

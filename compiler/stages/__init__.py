"""Kinds of stages, one a file: how operators become hardware, and what that takes."""

from .base import (
    Buffering,
    Design,
    Foldings,
    MultiplierCost,
    Products,
    StageKind,
    StagePlan,
    StagePort,
    StagePorts,
    StageTiming,
    WindowNeeds,
    hw_shape,
)
from .registry import KINDS, kind_named, kind_of, registered, reshaped, stage_ops

__all__ = [
    "KINDS",
    "Buffering",
    "Design",
    "Foldings",
    "WindowNeeds",
    "MultiplierCost",
    "Products",
    "StagePort",
    "StagePorts",
    "StageKind",
    "StagePlan",
    "StageTiming",
    "hw_shape",
    "kind_named",
    "kind_of",
    "registered",
    "reshaped",
    "stage_ops",
]

"""Kinds of stages, one a file: how operators become hardware, and what that takes."""

from .base import (
    Buffering,
    Design,
    Foldings,
    LineBuffer,
    MultiplierCost,
    Port,
    Ports,
    StageKind,
    StagePlan,
    StageTiming,
    hw_shape,
)
from .registry import KINDS, kind_named, kind_of, registered, reshaped, stage_ops

__all__ = [
    "KINDS",
    "Buffering",
    "Design",
    "Foldings",
    "LineBuffer",
    "MultiplierCost",
    "Port",
    "Ports",
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

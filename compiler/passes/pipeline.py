"""The passes in the order in which they run, from the reader to the planner.

    read ─▶ ON_READ ─▶ quantize ─▶ write, read, ON_READ ─▶ BEFORE_PLAN ─▶ plan

A network that comes with integers skips the two steps in the middle.
"""

from .argmax_in_hardware import argmax_in_hardware
from .average_as_sum import average_as_sum
from .fold_affine import fold_affine
from .fold_forward import fold_forward
from .fold_gather import fold_gather
from .fold_pad import fold_pad
from .fuse_clamp import fuse_clamp
from .fuse_functions import fuse_functions
from .manager import Pass
from .open_selected import open_selected
from .real_weights import real_weights
from .refuse import refuse_endless_pads

__all__ = ["BEFORE_PLAN", "ON_READ"]

#: over every graph that the reader makes of a file
ON_READ: tuple[Pass, ...] = (
    real_weights,
    fold_affine,
    fold_forward,
    average_as_sum,
    fuse_clamp,
    fuse_functions,
    fold_pad,
    fold_gather,
    open_selected,
    refuse_endless_pads,
)

#: over the integer graph, where the user asks for it
BEFORE_PLAN: tuple[Pass, ...] = (argmax_in_hardware,)

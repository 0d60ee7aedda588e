"""The chip families: their primitives, what those cost, and their chips; one file a family."""

from .base import Device, LutRam, MemoryShape, Power, Target
from .dsp import Multiplier, MultiplierConfig
from .ecp5 import ECP5
from .generic import GENERIC
from .ice40 import ICE40
from .resources import Resources

__all__ = [
    "ECP5",
    "GENERIC",
    "ICE40",
    "Device",
    "LutRam",
    "MemoryShape",
    "Multiplier",
    "MultiplierConfig",
    "Power",
    "Resources",
    "Target",
]

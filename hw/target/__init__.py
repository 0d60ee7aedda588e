"""The chip families: their primitives, and what those cost."""

from .device import Device
from .dsp import Multiplier, MultiplierConfig
from .ecp5 import Mult18x18
from .ice40 import Mac16
from .resources import Resources, block_rams

__all__ = ["Device", "Multiplier", "MultiplierConfig", "Resources", "block_of", "block_rams"]

_BLOCKS = {"generic": Multiplier, "ecp5": Mult18x18, "ice40": Mac16}


def block_of(family: str) -> type[Multiplier]:
    """The hard multiplier of a family; the generic twin for ``"generic"``."""
    return _BLOCKS[family]

"""Multipliers of each family behind one interface, with a generic twin."""

from .ecp5 import Mult18x18
from .ice40 import Mac16
from .multiplier import Multiplier, MultiplierConfig, SoftMultiplier

__all__ = ["Multiplier", "MultiplierConfig", "SoftMultiplier", "block_of"]

_BLOCKS = {"generic": Multiplier, "ecp5": Mult18x18, "ice40": Mac16}


def block_of(family: str) -> type[Multiplier]:
    """The hard multiplier of a family; the generic twin for ``"generic"``."""
    return _BLOCKS[family]

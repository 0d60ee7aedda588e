"""Multipliers of each family behind one interface, with a generic twin."""

from .ecp5 import Mult18x18
from .ice40 import Mac16
from .multiplier import Multiplier, MultiplierConfig, SoftMultiplier
from .packed import PackedConfig, PackedMultiplier, add_with_carry, borrow, packed_products
from .serial import SerialMultiplier

__all__ = [
    "Multiplier",
    "MultiplierConfig",
    "PackedConfig",
    "PackedMultiplier",
    "SerialMultiplier",
    "SoftMultiplier",
    "add_with_carry",
    "block_of",
    "borrow",
    "packed_products",
]

_BLOCKS = {"generic": Multiplier, "ecp5": Mult18x18, "ice40": Mac16}


def block_of(family: str) -> type[Multiplier]:
    """The hard multiplier of a family; the generic twin for ``"generic"``."""
    return _BLOCKS[family]

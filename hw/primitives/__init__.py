"""Multipliers of each family behind one interface, with a generic twin."""

from .multiplier import Multiplier, MultiplierConfig, SoftMultiplier, block_of

__all__ = ["Multiplier", "MultiplierConfig", "SoftMultiplier", "block_of"]

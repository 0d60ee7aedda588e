"""What a plan needs of a device."""

from collections.abc import Iterable
from math import ceil

from ...hw import Resources
from .device import Device

__all__ = ["LINK", "Resources", "cells", "total"]

#: share of flip-flops that take a logic cell of their own (iCE40), as seen in place and route
_ALONE = 0.55

#: what the serial link to the host takes beside the network (its frame buffer apart)
LINK = Resources(650, 400)


def total(parts: Iterable[Resources]) -> Resources:
    """The sum."""
    return sum(parts, Resources())


def cells(need: Resources, device: Device) -> int:
    """Logic cells: LUTs, and on iCE40 flip-flops that share no cell with the LUT before them."""
    return need.lut + (ceil(need.ff * _ALONE) if device.family == "ice40" else 0)

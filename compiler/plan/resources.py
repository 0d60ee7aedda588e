"""What a plan needs of a device."""

from collections.abc import Iterable
from math import ceil

from ...hw import Fifo, Resources
from ...hw.target.device import Device

__all__ = ["Resources", "cells", "link", "total"]

#: share of flip-flops that take a logic cell of their own (iCE40), as seen in place and route
_ALONE = 0.55
#: beats of the network's ends that the link to the host holds at least
_BEATS = 4


def link(device: Device) -> Resources:
    """What the serial link to the host takes beside the network, its frame buffers apart. Its
    queues of some bytes, one either way, are block RAMs on iCE40.
    """
    return Resources(650, 400, 0, 2 * Fifo.estimate(_BEATS, 8, device.family).bram)


def total(parts: Iterable[Resources]) -> Resources:
    """The sum."""
    return sum(parts, Resources())


def cells(need: Resources, device: Device) -> int:
    """Logic cells: LUTs, and on iCE40 flip-flops that share no cell with the LUT before them."""
    return need.lut + (ceil(need.ff * _ALONE) if device.family == "ice40" else 0)

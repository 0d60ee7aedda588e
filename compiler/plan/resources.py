"""What a plan needs of a device."""

from collections.abc import Iterable
from math import ceil

from ...hw import Fifo, Resources
from ...hw.target.base import Device

__all__ = ["Resources", "cells", "link", "total"]

#: beats of the network's ends that the link to the host holds at least
_BEATS = 4


def link(device: Device) -> Resources:
    """What the serial link to the host takes beside the network, its frame buffers apart. Its
    queues of some bytes, one either way, are block RAMs on iCE40.
    """
    return Resources(650, 400, 0, 2 * Fifo.estimate(_BEATS, 8, device.target).bram)


def total(parts: Iterable[Resources]) -> Resources:
    """The sum."""
    return sum(parts, Resources())


def cells(need: Resources, device: Device) -> int:
    """Logic cells: LUTs, and flip-flops that share no cell with a LUT."""
    return need.lut + ceil(need.ff * device.target.lone_register_cells)

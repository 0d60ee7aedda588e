"""Resources that a plan needs of a device."""

from collections.abc import Iterable
from math import ceil

from ...hw import Fifo, Resources
from ...hw.target.base import Device
from .. import ir

__all__ = ["Resources", "cells", "link", "total", "weight_bits"]

#: beats of each network port that the link to the host holds at least
_BEATS = 4


def link(device: Device, beats: Iterable[int] = (8, 8)) -> Resources:
    """The serial link to the host without its frame buffers.

    Its two queues of a few beats, one in each direction, are in the target's memory for queues.
    ``beats``: the bits of a beat of each.
    """
    queues = total(Fifo.estimate(_BEATS, bits, device.target) for bits in beats)
    return Resources(650, 400, 0, queues.bram)


def total(parts: Iterable[Resources]) -> Resources:
    """The sum."""
    return sum(parts, Resources())


def weight_bits(op: ir.Conv) -> int:
    """Bits that hold each weight of an operator, with its sign."""
    largest = max(int(op.weight.max(initial=0)), -1 - int(op.weight.min(initial=0)))
    return 1 + largest.bit_length()


def cells(need: Resources, device: Device) -> int:
    """Logic cells: LUTs, and flip-flops that share no cell with a LUT."""
    return need.lut + ceil(need.ff * device.target.lone_register_cells)

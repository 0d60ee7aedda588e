"""What hardware costs: LUTs, flip-flops, DSP blocks and block RAM."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import ceil

from .device import Device

__all__ = ["LINK", "Resources", "block_rams", "total"]


#: share of flip-flops that take a logic cell of their own (iCE40), as seen in place and route
_ALONE = 0.58


@dataclass(frozen=True)
class Resources:
    """An amount of everything a device has. ``dsp`` counts products, not blocks (see
    :class:`Device`).
    """

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.lut + other.lut, self.ff + other.ff, self.dsp + other.dsp,
                         self.bram + other.bram)

    def cells(self, device: Device) -> int:
        """Logic cells: LUTs, and on iCE40 flip-flops that share no cell with the LUT before them.
        """
        return self.lut + (ceil(self.ff * _ALONE) if device.family == "ice40" else 0)

    def blocks(self, device: Device) -> int:
        """DSP blocks for the products."""
        return ceil(self.dsp / device.products_per_dsp)


#: what the serial link to the host takes beside the network (its frame buffer apart)
LINK = Resources(650, 400)


def total(parts: Iterable[Resources]) -> Resources:
    """The sum."""
    return sum(parts, Resources())


#: (words, bits) of a block RAM's shapes, the widest first
_SHAPES = {
    "ecp5": ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    "ice40": ((256, 16), (512, 8), (1024, 4), (2048, 2)),
}


def block_rams(device: Device, depth: int, width: int) -> int:
    """Block RAMs for a memory of ``depth`` words of ``width`` bits, in the shape that takes fewest.
    """
    shapes = _SHAPES.get(device.family, _SHAPES["ecp5"])
    return min(ceil(depth / words) * ceil(width / bits) for words, bits in shapes)

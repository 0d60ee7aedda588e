"""What hardware costs: LUTs, flip-flops, DSP blocks and block RAM; fitted to synthesis runs."""

from dataclasses import dataclass
from math import ceil

__all__ = ["CHAIN", "Resources", "block_rams", "shapes"]


@dataclass(frozen=True)
class Resources:
    """An amount of everything a chip has. ``dsp`` counts blocks, each of which may give several
    products.
    """

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(
            self.lut + other.lut, self.ff + other.ff, self.dsp + other.dsp, self.bram + other.bram
        )

    def __mul__(self, times: int) -> "Resources":
        return Resources(self.lut * times, self.ff * times, self.dsp * times, self.bram * times)


#: LUTs that lead the carry into a chain of adders, on ECP5
CHAIN = 2

_SHAPES = {
    "ecp5": ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)),
    "ice40": ((256, 16), (512, 8), (1024, 4), (2048, 2)),
}


def shapes(family: str) -> tuple[tuple[int, int], ...]:
    """(words, bits) of a block RAM's shapes, the widest first."""
    return _SHAPES.get(family, _SHAPES["ecp5"])


def block_rams(family: str, depth: int, width: int) -> int:
    """The fewest block RAMs of one shape that hold ``depth`` words of ``width`` bits."""
    return min(ceil(depth / words) * ceil(width / bits) for words, bits in shapes(family))

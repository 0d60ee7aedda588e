"""What hardware costs: LUTs, flip-flops, DSP blocks and block RAMs."""

from dataclasses import dataclass

__all__ = ["Resources"]


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

"""The configuration of a sliding window, in layers; :mod:`.sliding_window` builds it.

WindowGeometry   map, kernel, order of reads            (geometry)
WindowSchedule   what is needed and released when       (schedule)
LineBuffer       banks, rows stored, memories           (line_buffer)
WindowConfig     cost                                   (here)
"""

from dataclasses import dataclass

from ..memory.tiles import choice_luts
from ..target.resources import Resources
from .line_buffer import LineBuffer

__all__ = ["WindowConfig"]


@dataclass(frozen=True)
class WindowConfig(LineBuffer):
    """A sliding window: the parameters of all its layers, and its cost."""

    def resources(self) -> Resources:
        """An estimate of line buffer, loops and selection of banks."""
        banks = self.banks[0] * self.banks[1]
        word = self.chunk * self.element.width
        across, out = self.parallel[0] * self.banks[1] * word, self.taps * word
        walks, padded = self.height_out * self.width_out > 1, any(self.pads)
        lut = (
            95
            + 55 * walks
            + 80 * padded
            + (12 * banks if banks > 1 else 0)
            + across * choice_luts(self.banks[0])
            + out * choice_luts(self.banks[1])
        )
        # the input and each selection are registered; the banks share the register of written words
        ff = 140 + 65 * walks + 85 * padded + word + across + out - (banks - 1) * word
        # what reaches the addresses of the loops: flags instead of the indices that are not used
        ff += self.walk_delay * sum((limit - 1).bit_length() for limit in self.loops.values())
        return Resources(lut, ff) + self.ram.resources() * banks

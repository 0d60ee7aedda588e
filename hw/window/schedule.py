"""When the rows and pixels of a map are needed by its windows, and when they are released."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from amaranth import Shape
from numpy.typing import NDArray

from .geometry import WindowGeometry

__all__ = ["WindowSchedule"]

#: cycles from a pixel's first read until it is known whether the next one's window has arrived
_CHECK = 4


@dataclass(frozen=True)
class WindowSchedule(WindowGeometry):
    """What each pixel of output waits for, and the rows that each row of output releases."""

    #: upper bound of the cycles from the last beat that a pixel of output needs to the first read
    #: for it: the beat is accepted, written and counted. It takes one cycle less where pixels are
    #: counted, and two less where rows are (:attr:`unit`).
    arrival: ClassVar[int] = 3

    def _first_row(self, row: int) -> int:
        return row * self.stride[0] - self.pads[0]

    def _needed_rows(self, row: int) -> int:
        """Rows of the frame up to the last one under output row ``row``; at least one, so that a
        row of padding waits for its frame too.
        """
        return min(max(self._first_row(row) + self.span[0], 1), self.height)

    @property
    def by_pixel(self) -> bool:
        """Whether each pixel of output starts when its own window has arrived. Otherwise a row of
        output starts when its rows have: its pixels follow faster than they could be checked.
        """
        return self.pixel_cycles > _CHECK

    @property
    def unit(self) -> int:
        """Pixels that are counted together when they arrive: one, or a row."""
        return 1 if self.by_pixel else self.width

    def looks_at(self) -> NDArray[np.int64]:
        """Pixels of the frame, in raster order, up to the last one under the window of each pixel
        of output or of one before it; [height_out, width_out].
        """
        rows = np.array([self._needed_rows(row) for row in range(self.height_out)])
        columns = np.arange(self.width_out) * self.stride[1] - self.pads[1] + self.span[1]
        ends = (rows[:, None] - 1) * self.width + np.clip(columns, 1, self.width)
        return np.maximum.accumulate(ends.reshape(-1)).reshape(ends.shape)

    def needed(self) -> NDArray[np.int64]:
        """Units of the frame that must have arrived before each pixel of output starts."""
        return -(-self.looks_at() // self.unit)

    @property
    def leftover(self) -> int:
        """Units at the end of a frame that no output needs."""
        return self.height * self.width // self.unit - int(self.needed()[-1, -1])

    def arrivals(self) -> NDArray[np.int64]:
        """New units that each pixel of output waits for; the first also waits for the leftover of
        the previous frame.
        """
        new = np.diff(self.needed().reshape(-1), prepend=-self.leftover)
        return new.reshape(self.height_out, self.width_out)

    def releases(self) -> list[int]:
        """Rows that become free after each output row."""
        kept = [min(max(self._first_row(row), 0), self.height) for row in range(1, self.height_out)]
        kept.append(self.height)
        return [b - a for a, b in zip([0, *kept], kept, strict=False)]

    @property
    def released(self) -> Shape:
        """The shape of a number of released rows."""
        return Shape.cast(range(max(self.releases()) + 1))

    @property
    def ahead(self) -> int:
        """The largest number of rows released before they arrive: the leftover of a frame, or rows
        that a stride skips.
        """
        arrived = self.needed()[:, -1] * self.unit // self.width
        return max(0, int((np.cumsum(self.releases()) - arrived).max()))

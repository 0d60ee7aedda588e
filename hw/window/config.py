"""What a sliding window is, takes and costs; :mod:`.sliding` builds it."""

from dataclasses import dataclass, field
from math import gcd
from typing import ClassVar

import numpy as np
from amaranth import Shape
from numpy.typing import NDArray

from ..memory.ram import RamConfig
from ..memory.tiles import choice_luts
from ..sizes import at_least, ceil_div
from ..target.base import Target
from ..target.resources import Resources

__all__ = ["WindowConfig"]

#: cycles from a row's last read until a new row in its place may be read
_REUSE = 19
#: cycles from a pixel's first read until the next one knows whether its window has arrived
_TOLD = 4


@dataclass(frozen=True)
class WindowConfig:
    """A map of ``height`` x ``width`` x ``channels`` and the kernel that slides over it.

    A memory word holds ``chunk`` channels of one pixel. Each cycle reads one word under each of
    ``parallel`` = (rows, columns) taps, where each of the two is 1 or the kernel's extent.
    For each output pixel the reads run, from the outside in, over ``groups`` of channels,
    ``passes`` repetitions, the kernel's taps (rows, then columns), and the group's words.
    ``minimal_rows``: no more rows are stored than keep going what is as fast as its neighbours.
    """

    height: int
    width: int
    channels: int
    element: Shape
    chunk: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]
    fill: int
    parallel: tuple[int, int] = (1, 1)
    groups: int = 1
    passes: int = 1
    minimal_rows: bool = False
    target: Target = field(kw_only=True)

    #: most cycles from the last beat in that a pixel of output needs to the first read for it: the
    #: beat is accepted, written and counted. It takes one cycle less where pixels are counted, and
    #: two where rows are (:attr:`unit`).
    arrival: ClassVar[int] = 3

    def __post_init__(self):
        at_least(1, self, "height", "width", "channels", "chunk", "groups", "passes")
        at_least(1, self, "kernel", "stride", "dilation")
        at_least(0, self, "pads")
        if any(p not in (1, k) for p, k in zip(self.parallel, self.kernel, strict=True)):
            raise ValueError(
                f"WindowConfig: parallel={self.parallel}, but each of the two must be 1 or the "
                f"kernel's extent, of {self.kernel}"
            )
        if self.channels % self.groups:
            raise ValueError(
                f"WindowConfig: groups={self.groups}, but it must divide channels={self.channels}"
            )
        if self.groups > 1 and (self.channels // self.groups) % self.chunk:
            raise ValueError(
                f"WindowConfig: chunk={self.chunk}, but it must divide the "
                f"{self.channels // self.groups} channels of a group"
            )
        if self.height_out < 1 or self.width_out < 1:
            raise ValueError(
                f"WindowConfig: a window of {self.span[0]} x {self.span[1]}, but the map with its "
                f"padding has {self.height + self.pads[0] + self.pads[2]} x "
                f"{self.width + self.pads[1] + self.pads[3]}"
            )

    # Geometry

    @property
    def span(self) -> tuple[int, int]:
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def height_out(self) -> int:
        return (self.height + self.pads[0] + self.pads[2] - self.span[0]) // self.stride[0] + 1

    @property
    def width_out(self) -> int:
        return (self.width + self.pads[1] + self.pads[3] - self.span[1]) // self.stride[1] + 1

    @property
    def words(self) -> int:
        """Memory words a pixel."""
        return ceil_div(self.channels, self.chunk)

    @property
    def group_words(self) -> int:
        return self.words // self.groups

    @property
    def steps(self) -> tuple[int, int]:
        """Reads of one reduction along the kernel's rows and columns."""
        return tuple(k // p for k, p in zip(self.kernel, self.parallel, strict=True))

    @property
    def reads(self) -> int:
        """Reads of one reduction."""
        return self.steps[0] * self.steps[1] * self.group_words

    @property
    def taps(self) -> int:
        """Words read in one cycle."""
        return self.parallel[0] * self.parallel[1]

    @property
    def loops(self) -> dict[str, int]:
        """The loops that read windows, from the inside out, and the steps of each."""
        return {
            "word": self.group_words,
            "tap_column": self.steps[1],
            "tap_row": self.steps[0],
            "repeat": self.passes,
            "group": self.groups,
            "column": self.width_out,
            "row": self.height_out,
        }

    @property
    def pixel_cycles(self) -> int:
        """Cycles that reading for a pixel of output takes."""
        return self.groups * self.passes * self.reads

    @property
    def row_cycles(self) -> int:
        """Cycles that reading for a row of output takes."""
        return self.width_out * self.pixel_cycles

    def cycles(self) -> int:
        """Cycles that reading a frame takes."""
        return self.height_out * self.row_cycles

    def beats_in(self) -> int:
        """Cycles that writing a frame takes."""
        return self.height * self.width * self.words

    def order(self) -> NDArray[np.int64]:
        """Which weight meets which element: flat index into (rows, columns, channels of a group) of
        each element of each read, shape [reads, taps * chunk], -1 for a padded one.
        """
        rows, columns = self.kernel
        depth = self.channels // self.groups
        index = np.full([*self.steps, self.group_words, *self.parallel, self.chunk], -1, np.int64)
        for row in range(rows):
            for column in range(columns):
                for channel in range(depth):
                    place = (
                        row // self.parallel[0],
                        column // self.parallel[1],
                        channel // self.chunk,
                        row % self.parallel[0],
                        column % self.parallel[1],
                        channel % self.chunk,
                    )
                    index[place] = (row * columns + column) * depth + channel
        return index.reshape(self.reads, -1)

    # Rows: what a row of output needs, and what it lets go

    def _first_row(self, row: int) -> int:
        return row * self.stride[0] - self.pads[0]

    def _needed_rows(self, row: int) -> int:
        """Rows of the frame that output row ``row`` looks at, and those above; for a row of border
        alone the first, so that nothing leaves before its frame is there.
        """
        return min(max(self._first_row(row) + self.span[0], 1), self.height)

    @property
    def by_pixel(self) -> bool:
        """Whether a pixel of output starts as soon as its own window is there. Otherwise a row does
        when its rows are: pixels of output follow one another faster than more could be told.
        """
        return self.pixel_cycles > _TOLD

    @property
    def unit(self) -> int:
        """Pixels that are counted together as they arrive: one, or a row."""
        return 1 if self.by_pixel else self.width

    def looks_at(self) -> NDArray[np.int64]:
        """Pixels of the frame up to the last that each pixel of output, or one before, looks at;
        [height_out, width_out], all in raster order.
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
        """New units that each pixel of output waits for; the first one also waits out the last
        frame's leftover.
        """
        new = np.diff(self.needed().reshape(-1), prepend=-self.leftover)
        return new.reshape(self.height_out, self.width_out)

    def releases(self) -> list[int]:
        """Rows that are free for new ones after each output row."""
        kept = [min(max(self._first_row(row), 0), self.height) for row in range(1, self.height_out)]
        kept.append(self.height)
        return [b - a for a, b in zip([0, *kept], kept, strict=False)]

    @property
    def released(self) -> Shape:
        """A number of rows released."""
        return Shape.cast(range(max(self.releases()) + 1))

    @property
    def ahead(self) -> int:
        """Most rows released before they have come: a frame's leftover, or what strides skip."""
        arrived = self.needed()[:, -1] * self.unit // self.width
        return max(0, int((np.cumsum(self.releases()) - arrived).max()))

    @property
    def banks(self) -> tuple[int, int]:
        """Memories along rows and columns: at least the taps read at once, coprime to dilation."""

        def least(taps: int, dilation: int) -> int:
            return next(
                n
                for n in range(taps, 2 * taps + dilation + 1)
                if taps == 1 or gcd(n, dilation) == 1
            )

        return tuple(least(p, d) for p, d in zip(self.parallel, self.dilation, strict=True))

    @property
    def rows(self) -> int:
        """Rows stored: enough for the next to arrive, across frames too, while the last are read;
        and some to spare.
        """
        last = max(self._first_row(self.height_out - 1), 0)
        held = self.height - last
        needed = max(
            self._needed_rows(row) - max(self._first_row(row), 0) for row in range(self.height_out)
        )
        enough = max(needed + self.stride[0], held + self._needed_rows(0))
        return ceil_div(enough + self._spare, self.banks[0]) * self.banks[0]

    @property
    def _spare(self) -> int:
        """As many rows as pass while a released row's place is on its way to be written again; with
        a map of several rows at least one, so that neighbours of one speed need not move in step.

        Of a ``minimal_rows`` buffer none, where a row's first window takes so little of the row
        that it is there in time even if the row began to come when its place was free.
        """
        writing = self.width * self.words * self.stride[0]
        if self.height == 1 and writing + _REUSE <= self.row_cycles:
            return 0
        passing = ceil_div(_REUSE * self.height, max(self.cycles(), self.beats_in()))
        if not self.minimal_rows:
            return max(self.stride[0] * ceil_div(_REUSE, self.row_cycles), passing)
        after_window = self.row_cycles * (self.width - self.span[1])
        if self.by_pixel and after_window >= 2 * _REUSE * self.stride[0] * self.width:
            return 0
        return max(ceil_div(_REUSE * self.stride[0], self.row_cycles), passing)

    @property
    def line_words(self) -> int:
        """Words that one row takes in one bank."""
        return ceil_div(self.width, self.banks[1]) * self.words

    @property
    def depth(self) -> int:
        """Words of one bank."""
        return self.rows // self.banks[0] * self.line_words

    @property
    def memory_bits(self) -> int:
        return self.banks[0] * self.banks[1] * self.depth * self.chunk * self.element.width

    @property
    def ram(self) -> RamConfig:
        """One bank."""
        return RamConfig(self.depth, self.chunk * self.element.width, self.target)

    @property
    def latency(self) -> int:
        """Cycles from a read to its words: three for the address, the memory, and two to choose the
        bank, by row and by column.
        """
        return 3 + self.ram.latency + 2

    def resources(self) -> Resources:
        """An estimate of line buffer, walk and choice of banks."""
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
        # what comes is registered, and so is each choice; each bank has a word to write, all alike
        ff = 140 + 65 * walks + 85 * padded + word + across + out - (banks - 1) * word
        return Resources(lut, ff) + self.ram.resources() * banks

    @property
    def capacity(self) -> int:
        """Pixels that can be inside, the row being written included."""
        return self.rows * self.width

"""The geometry of a sliding window: its map, its kernel and the order of its reads."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth import Shape
from numpy.typing import NDArray

from ..sizes import at_least, ceil_div

__all__ = ["WindowGeometry"]


@dataclass(frozen=True)
class WindowGeometry:
    """A map of ``height`` x ``width`` x ``channels`` and the kernel that slides over it.

    A memory word holds ``chunk`` channels of one pixel. Each cycle reads one word under each of
    ``parallel`` = (rows, columns) taps, where each of the two is 1 or the kernel's extent.
    For each output pixel the reads run, from the outside in, over ``groups`` of channels,
    ``passes`` repetitions, the kernel's taps (rows, then columns), and the group's words.
    ``pads`` (top, left, bottom, right) read as ``fill``.
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

    @cached_property
    def span(self) -> tuple[int, int]:
        """Rows and columns of the map under a window."""
        return tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilation, strict=True))

    @property
    def height_out(self) -> int:
        return (self.height + self.pads[0] + self.pads[2] - self.span[0]) // self.stride[0] + 1

    @property
    def width_out(self) -> int:
        return (self.width + self.pads[1] + self.pads[3] - self.span[1]) // self.stride[1] + 1

    @cached_property
    def words(self) -> int:
        """Memory words a pixel."""
        return ceil_div(self.channels, self.chunk)

    @property
    def group_words(self) -> int:
        """Memory words of a pixel's channels of one group."""
        return self.words // self.groups

    @cached_property
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
        """Cycles to read the windows of a pixel of output."""
        return self.groups * self.passes * self.reads

    @property
    def row_cycles(self) -> int:
        """Cycles to read the windows of a row of output."""
        return self.width_out * self.pixel_cycles

    def cycles(self) -> int:
        """Cycles to read all windows of a frame."""
        return self.height_out * self.row_cycles

    def beats_in(self) -> int:
        """Cycles to write a frame."""
        return self.height * self.width * self.words

    def order(self) -> NDArray[np.int64]:
        """The weight of each element of each read, [reads, taps * chunk]: a flat index into (rows,
        columns, channels of a group); -1 for padding of a word.
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

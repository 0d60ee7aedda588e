"""The line buffer of a sliding window: banks, rows stored and memories."""

from dataclasses import dataclass, field
from functools import cached_property
from math import gcd

from ..memory.ram import RamConfig
from ..sizes import ceil_div
from ..target.base import Target
from .schedule import WindowSchedule

__all__ = ["LineBuffer"]

#: cycles from a row's last read until a new row in its slot may be read
_REUSE = 19


@dataclass(frozen=True)
class LineBuffer(WindowSchedule):
    """Rows in a ring of slots, spread over banks so that all taps read at once are in different
    memories.

    ``minimal_rows``: no more rows are stored than full throughput takes next to stages of the same
    interval.
    """

    minimal_rows: bool = False
    target: Target = field(kw_only=True)

    @cached_property
    def banks(self) -> tuple[int, int]:
        """Memories along rows and columns: at least the taps read at once, coprime to the dilation,
        so that these taps are in different memories.
        """

        def least(taps: int, dilation: int) -> int:
            return next(
                n
                for n in range(taps, 2 * taps + dilation + 1)
                if taps == 1 or gcd(n, dilation) == 1
            )

        return tuple(least(p, d) for p, d in zip(self.parallel, self.dilation, strict=True))

    @cached_property
    def rows(self) -> int:
        """Rows stored: enough for the next rows to arrive while the last ones are read, across
        frames too, and some to spare.
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
        """Rows that pass while a released slot is not yet written again. For a map of several rows
        at least one, so that a stage does not stall on small differences in its neighbours' pace.

        A ``minimal_rows`` buffer has none where a row's first window needs so little of the row
        that it arrives in time although the row's transfer starts when its slot is free.
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

    @cached_property
    def ram(self) -> RamConfig:
        """One bank."""
        return RamConfig(self.depth, self.chunk * self.element.width, self.target)

    @property
    def walk_delay(self) -> int:
        """Cycles from the loops of the reader to its addresses, where registers are to spare: the
        ones are near the queue that grants a read, the others near the memories.
        """
        return int(self.target.register_rich)

    @property
    def latency(self) -> int:
        """Cycles from a read to its words: those to the addresses, three for the address, the
        memory's, and two to select the bank of rows and the bank of columns.
        """
        return self.walk_delay + 3 + self.ram.latency + 2

    @property
    def capacity(self) -> int:
        """Pixels stored, including those of the row being written."""
        return self.rows * self.width

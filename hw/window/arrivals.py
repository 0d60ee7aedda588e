"""Whether the input that a window needs has arrived."""

import numpy as np
from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.delay import delay, delay_flags
from .config import WindowConfig
from .walk import Walk, comb_table, two_cycle_table

__all__ = ["ArrivalCounter"]


class ArrivalCounter(wiring.Component):
    """Count the units (pixels or rows, see ``config.unit``) that arrive, less those needed.

    ``short`` is high in a cycle in which fewer units have arrived than the next pixel (or row) of
    output needs. It counts ``arrived`` a cycle late and ``begins`` up to three.

    Members
    -------
    walk : In(Walk(config))
    begins : In(1), reading for a pixel (or a row) of output begins
    arrived : In(1), another unit is complete
    short : Out(1)
    """

    def __init__(self, config: WindowConfig):
        self.config = config
        super().__init__(
            {"walk": In(Walk(config)), "begins": In(1), "arrived": In(1), "short": Out(1)}
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        arrivals = c.arrivals()
        most = (c.rows + 2 * c.height + 2) * c.width // c.unit
        margin = Signal(signed(ceil_log2(most) + 1), init=int(c.leftover - arrivals[0, 0]))
        # what the next row needs beyond this one
        onward = np.roll(arrivals[:, 0], -1).tolist()
        change = Signal(signed(max(onward).bit_length() + 2))
        row = self.walk.count.row
        if c.by_pixel:
            needed = self._needed(m, arrivals, onward, delay_flags(m, self.begins, 2))
            m.d.sync += change.eq(self.arrived - needed)
        elif c.row_cycles > 3:
            # counted three cycles late, before the next row can begin
            needed = two_cycle_table(m, "needed", row, onward, max(onward) + 1)
            m.d.sync += change.eq(self.arrived - Mux(delay_flags(m, self.begins, 2), needed, 0))
        else:
            needed = Signal(range(max(onward) + 1))
            comb_table(m, needed, row, onward)
            m.d.comb += change.eq(self.arrived - Mux(self.begins, needed, 0))
        updated = margin + change
        m.d.sync += margin.eq(updated)
        m.d.comb += self.short.eq(updated[len(margin) - 1])
        return m

    def _needed(self, m, arrivals, onward, begun):
        """New units for the pixel after the one that has ``begun`` two cycles ago; a cycle later.

        Within a row that is the same for all rows that need any.
        """
        count = self.walk.count
        needed = Signal(range(max(2, arrivals.max() + 1)), reset_less=True)
        next_row = two_cycle_table(m, "next_row", count.row, onward, max(onward) + 1)
        last = delay(m, self.walk.last.column, 2, name="last_column")
        across = [*arrivals[0, 1:].tolist(), 0]
        next_column = 0
        if any(across):
            more = arrivals[:, 1:].any(axis=1).astype(int).tolist()
            steps = two_cycle_table(m, "next_column", count.column, across, max(across) + 1)
            next_column = Mux(two_cycle_table(m, "row_needs_any", count.row, more, 2), steps, 0)
        m.d.sync += needed.eq(Mux(begun, Mux(last, next_row, next_column), 0))
        return needed

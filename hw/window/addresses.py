"""Addresses of a window's words in the line buffer, and which of its taps are padding.

An address is the sum of the start of a row's line and an offset in the line; both follow the walk
by two cycles.
"""

from itertools import product

from amaranth import Module, Mux, Signal, Value, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.delay import delay
from .config import WindowConfig
from .walk import Walk, comb_table, table_shape, two_cycle_table

__all__ = ["ColumnAddress", "PaddingFlags", "RowAddress"]


def early(m: Module, config: WindowConfig, value: Value, cycles: int) -> Value:
    """``value``, which is stable for ``cycles`` cycles before it is used: registered where there is
    time for it and the family has registers to spare.
    """
    return delay(m, value, 1) if cycles > 1 and config.target.register_rich else value


class RowAddress(wiring.Component):
    """Where the row under the first tap, and those under the taps read with it, are stored.

    Rows fill a ring of ``config.rows`` slots; slot s is in bank ``s % banks`` of the rows. Two
    cycles behind the walk.

    Members
    -------
    walk : In(Walk(config))
    line_0, line_1 ... : Out, the start of the row's line in each bank of rows
    bank : Out, the bank of the first tap's row
    """

    def __init__(self, config: WindowConfig):
        self.config = c = config
        ring = c.rows
        self._lines = [[0] * ring for _ in range(c.banks[0])]
        for slot, row in product(range(ring), range(c.parallel[0])):
            at = (slot + row * c.dilation[0]) % ring
            self._lines[at % c.banks[0]][slot] = at // c.banks[0] * c.line_words
        self._banks = [slot % c.banks[0] for slot in range(ring)]
        super().__init__(
            {
                "walk": In(Walk(config)),
                **{f"line_{i}": Out(table_shape(at, c.depth)) for i, at in enumerate(self._lines)},
                "bank": Out(table_shape(self._banks, c.banks[0])),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        slot = self._slot(m)
        for i, at in enumerate(self._lines):
            line = two_cycle_table(m, f"line_{i}", slot, at, c.depth)
            m.d.comb += getattr(self, f"line_{i}").eq(line)
        m.d.comb += self.bank.eq(two_cycle_table(m, "bank", slot, self._banks, c.banks[0]))
        return m

    def _slot(self, m):
        """The slot of the row under the first tap of the reads."""
        c = self.config
        ends, last = self.walk.ends, self.walk.last
        # rows from the first row of a frame's last window to that of the next frame's first
        back = c.height - (c.height_out - 1) * c.stride[0]
        start = -c.pads[0] % c.rows
        window = Signal(range(max(2, c.rows)), name="window_slot", init=start)
        cycles = c.row_cycles
        following = early(
            m,
            c,
            Mux(
                last.row,
                self._moved(m, window, back, cycles),
                self._moved(m, window, c.stride[0], cycles),
            ),
            cycles,
        )
        with m.If(ends.column):
            m.d.sync += window.eq(following)
        if c.steps[0] == 1:
            return window
        tap = Signal.like(window, name="tap_slot", init=start)
        cycles = c.group_words * c.steps[1]
        lower = early(
            m, c, Mux(last.tap_row, window, self._moved(m, tap, c.dilation[0], cycles)), cycles
        )
        with m.If(ends.tap_column):
            m.d.sync += tap.eq(Mux(ends.column, following, lower))
        return tap

    def _moved(self, m, slot, rows, cycles):
        """The slot ``rows`` rows further around the ring."""
        ring = self.config.rows
        moved = Signal.like(slot, name="moved")
        comb_table(m, moved, slot, [(s + rows) % ring for s in range(ring)])
        return early(m, self.config, moved, cycles - 1)


class ColumnAddress(wiring.Component):
    """The offset of the words read now in the lines of each bank of columns.

    Column x is in bank ``x % banks`` of the columns. Two cycles behind the walk.

    Members
    -------
    walk : In(Walk(config))
    offset : Out(signed).array(banks of columns)
    bank : Out(range(banks of columns)), the bank of the first tap's column
    """

    def __init__(self, config: WindowConfig):
        self.config = c = config
        reach = (c.span[1] + c.pads[3] + c.stride[1]) * c.words
        offset = signed(ceil_log2(c.line_words + reach + 2) + 2)
        self._first = -c.pads[1] // c.banks[1] * c.words
        super().__init__(
            {
                "walk": In(Walk(config)),
                "offset": Out(offset).array(c.banks[1]),
                "bank": Out(range(max(2, c.banks[1]))),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        group = Signal(range(c.words))
        if c.groups > 1:
            with m.If(self.walk.ends.repeat):
                m.d.sync += group.eq(Mux(self.walk.last.group, 0, group + c.group_words))
        base = Signal(self.offset[0].shape(), init=self._first)
        inner = Signal(range(max(2, c.span[1] * c.words + 1)))
        (self._one_column if c.parallel[1] == 1 else self._all_columns)(m, group, base, inner)
        return m

    def _one_column(self, m, group, base, inner):
        """The columns under the kernel are read one after the other, from one bank."""
        c, walk = self.config, self.walk
        following = early(
            m,
            c,
            Mux(walk.last.column, self._first, base + c.stride[1] * c.words),
            c.pixel_cycles,
        )
        with m.If(walk.ends.group):
            m.d.sync += base.eq(following)
        reach = Signal(range(max(2, (c.kernel[1] - 1) * c.dilation[1] * c.words + 1)))
        reaches = [k * c.dilation[1] * c.words for k in range(c.steps[1])]
        comb_table(m, reach, walk.count.tap_column, reaches)
        m.d.sync += [
            inner.eq(reach + walk.count.word),
            self.offset[0].eq(delay(m, base + group, 1, name="base") + inner),
        ]

    def _all_columns(self, m, group, base, inner):
        """The columns under the kernel are read at once; ``phase`` is the bank of the first one."""
        c, walk, banks = self.config, self.walk, self.config.banks[1]
        phase = Signal(range(banks), init=-c.pads[1] % banks)
        moves = [divmod(p + c.stride[1], banks) for p in range(banks)]
        step, turned = Signal(range(max(2, c.stride[1] * c.words + 1))), Signal.like(phase)
        comb_table(m, step, phase, [lines * c.words for lines, _ in moves])
        comb_table(m, turned, phase, [bank for _, bank in moves])
        wraps = walk.last.column
        next_base = early(m, c, Mux(wraps, self._first, base + step), c.pixel_cycles)
        next_phase = early(m, c, Mux(wraps, phase.init, turned), c.pixel_cycles)
        with m.If(walk.ends.group):
            m.d.sync += [phase.eq(next_phase), base.eq(next_base)]
        m.d.sync += inner.eq(group + walk.count.word)
        base_d1, phase_d1 = delay(m, base, 1), delay(m, phase, 1)
        with m.Switch(phase_d1):
            for p in range(banks):
                with m.Case(p):
                    m.d.sync += self.bank.eq(p)
                    for tap in range(c.parallel[1]):
                        at = p + tap * c.dilation[1]
                        line = inner + at // banks * c.words
                        m.d.sync += self.offset[at % banks].eq(base_d1 + line)


class PaddingFlags(wiring.Component):
    """Which of the taps read at once are inside the map on one axis (0: rows, 1: columns).

    Two cycles behind the walk.

    Members
    -------
    walk : In(Walk(config))
    inside : Out(1).array(parallel taps on the axis)
    """

    def __init__(self, config: WindowConfig, axis: int):
        self.config, self.axis = config, axis
        super().__init__({"walk": In(Walk(config)), "inside": Out(1).array(config.parallel[axis])})

    def elaborate(self, platform):
        m = Module()
        c, axis, walk = self.config, self.axis, self.walk
        extent = (c.height, c.width)[axis]
        steps, wraps, tap_count = (
            (walk.ends.column, walk.last.row, walk.count.tap_row),
            (walk.ends.group, walk.last.column, walk.count.tap_column),
        )[axis]
        windows = (c.height_out, c.width_out)[axis]
        first = Signal(
            signed(ceil_log2(windows * c.stride[axis] + c.pads[axis] + 2) + 2), init=-c.pads[axis]
        )
        following = early(
            m,
            c,
            Mux(wraps, -c.pads[axis], first + c.stride[axis]),
            (c.row_cycles, c.pixel_cycles)[axis],
        )
        with m.If(steps):
            m.d.sync += first.eq(following)
        for tap in range(c.parallel[axis]):
            reach = tap * c.dilation[axis]
            if c.steps[axis] > 1:
                reach = Signal(range(c.span[axis]), name=f"reach_{tap}")
                comb_table(
                    m, reach, tap_count, [k * c.dilation[axis] for k in range(c.steps[axis])]
                )
            at = Signal(signed(len(first) + ceil_log2(c.span[axis] + 1) + 1), name=f"at_{tap}")
            m.d.sync += [at.eq(first + reach), self.inside[tap].eq((at >= 0) & (at < extent))]
        return m

"""The read side of the sliding window's line buffer."""

from amaranth import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.delay import delay, delay_flags
from ..control.loops import Loops
from .addresses import ColumnAddress, PaddingFlags, RowAddress
from .arrivals import ArrivalCounter
from .config import WindowConfig
from .walk import Walk, one_hot, two_cycle_table

__all__ = ["Reader"]

#: cycles from a row's last read to its release: not before the memory was read
_RELEASE = 4


class Reader(wiring.Component):
    """Walk over the windows: the addresses of each bank, and how to select among its words.

    A reduction starts when ``grant`` is high, a pixel (or row) of output when its input has
    arrived; then there is a read a cycle. ``address`` follows a read by three cycles and
    ``config.walk_delay``, the memory's words by its latency; ``row_bank`` comes with the words, all
    else a cycle later.

    Members
    -------
    grant : In(1)
    start : Out(1), a reduction starts in this cycle
    arrived : In(1), another pixel or row is complete
    released : Out(config.released), the number of rows that are free for new ones
    address : Out(range(depth)).array(banks)
    row_bank, column_bank : Out(banks), one-hot: the bank of the first tap
    inside_row, inside_column : Out(1).array(parallel), whether each tap is inside the map
    flags : Out(3), valid, first and last of a reduction
    """

    def __init__(self, config: WindowConfig):
        self.config = c = config
        super().__init__(
            {
                "grant": In(1),
                "start": Out(1),
                "arrived": In(1),
                "released": Out(c.released),
                "address": Out(range(max(2, c.depth))).array(*c.banks),
                "row_bank": Out(c.banks[0]),
                "column_bank": Out(c.banks[1]),
                "inside_row": Out(1).array(c.parallel[0]),
                "inside_column": Out(1).array(c.parallel[1]),
                "flags": Out(3),
            }
        )

    def elaborate(self, platform):
        m = Module()
        walk = self._walk(m)
        later = self._later(m, walk)
        self._release(m, later)
        self._addresses(m, later)
        self._padding(m, later)
        return m

    def _walk(self, m):
        """Step the loops while input and grants permit."""
        c = self.config
        walk = Walk(c).create()
        go = Signal()
        loops = Loops(m, go, c.loops)
        for name in c.loops:
            m.d.comb += [
                walk.count[name].eq(loops.count[name]),
                walk.last[name].eq(loops.last[name]),
                walk.ends[name].eq(go & loops.ends[name]),
            ]
        reduction_ends = loops.ends["tap_row"]
        ends = loops.ends["group" if c.by_pixel else "column"]
        m.submodules.arrivals = arrivals = ArrivalCounter(c)
        wiring.connect(m, walk, arrivals.walk)

        # ``waits`` is computed a cycle ahead: the next pixel (or row) lacks input.
        starts_reduction, starts, waits = Signal(init=1), Signal(init=1), Signal(init=1)
        m.d.comb += [
            go.eq(~waits & (~starts_reduction | self.grant)),
            self.start.eq(~waits & starts_reduction & self.grant),
            arrivals.begins.eq(go & starts),
            arrivals.arrived.eq(self.arrived),
        ]
        with m.If(go):
            m.d.sync += [starts_reduction.eq(reduction_ends), starts.eq(ends)]
        m.d.sync += waits.eq(Mux(go, ends, starts) & arrivals.short)
        flags = Cat(go, starts_reduction, reduction_ends)
        m.d.comb += self.flags.eq(delay_flags(m, flags, c.latency - 1, name="flags"))
        return walk

    def _later(self, m, walk):
        """``walk``, ``config.walk_delay`` cycles later."""
        c = self.config
        later = Walk(c).create()
        for name in c.loops:
            m.d.comb += [
                later.count[name].eq(delay(m, walk.count[name], c.walk_delay, name=name)),
                later.last[name].eq(delay(m, walk.last[name], c.walk_delay, name=f"last_{name}")),
                later.ends[name].eq(
                    delay_flags(m, walk.ends[name], c.walk_delay, name=f"ends_{name}")
                ),
            ]
        return later

    def _release(self, m, walk):
        """Rows are free when the last read of them is done."""
        cycles = _RELEASE - self.config.walk_delay
        releases = self.config.releases()
        freed = two_cycle_table(m, "freed", walk.count.row, releases, max(releases) + 1)
        row_done = delay_flags(m, walk.ends.column, cycles, name="row_done")
        freed = delay(m, freed, cycles - 2, name="freed")
        m.d.sync += self.released.eq(Mux(row_done, freed, 0))

    def _addresses(self, m, walk):
        """Cycles 1 and 2: the parts of the addresses; 3: the addresses; then the words."""
        c = self.config
        m.submodules.row_address = row = RowAddress(c)
        m.submodules.column_address = column = ColumnAddress(c)
        for part in (row, column):
            wiring.connect(m, walk, part.walk)
        for i in range(c.banks[0]):
            for j in range(c.banks[1]):
                m.d.sync += self.address[i][j].eq(getattr(row, f"line_{i}") + column.offset[j])
        row_bank = delay(m, row.bank, c.ram.latency, name="row_bank")
        column_bank = delay(m, column.bank, c.ram.latency + 1, name="column_bank")
        m.d.comb += [
            self.row_bank.eq(one_hot(m, row_bank, c.banks[0], "row_bank_one_hot")),
            self.column_bank.eq(one_hot(m, column_bank, c.banks[1], "column_bank_one_hot")),
        ]

    def _padding(self, m, walk):
        c = self.config
        for axis, inside in enumerate((self.inside_row, self.inside_column)):
            if not c.pads[axis] and not c.pads[axis + 2]:
                m.d.comb += [flag.eq(1) for flag in inside]
                continue
            flags = PaddingFlags(c, axis)
            m.submodules[f"padding_{('rows', 'columns')[axis]}"] = flags
            wiring.connect(m, walk, flags.walk)
            for tap, flag in enumerate(flags.inside):
                name = f"inside_{axis}_{tap}"
                m.d.comb += inside[tap].eq(delay(m, flag, c.ram.latency + 2, name=name))

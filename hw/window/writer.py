"""The write side of the sliding window's line buffer."""

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.delay import KEEP, delay, delay_flags
from ..control.loops import Loops
from ..stream.signature import beats
from .config import WindowConfig

__all__ = ["Writer"]


class Writer(wiring.Component):
    """Write beats into the banks, row after row around a ring of ``config.rows`` rows.

    ``i`` is ready while a row is free. Takes a beat a cycle; the memory signals follow two cycles
    later. ``arrived`` marks a complete pixel (or row, see ``config.by_pixel``) a cycle after its
    last beat; ``released`` frees rows.

    Members
    -------
    i : In(beats(chunk, element))
    address : Out(range(depth)), in each bank
    bank_row, bank_column : Out(range(banks)), the bank to write
    data : Out(chunk * element.width)
    enable : Out(1)
    arrived : Out(1)
    released : In(config.released), the number of rows
    """

    def __init__(self, config: WindowConfig):
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.chunk, config.element)),
                "address": Out(range(max(2, config.depth))),
                "bank_row": Out(range(max(2, config.banks[0]))),
                "bank_column": Out(range(max(2, config.banks[1]))),
                "data": Out(config.chunk * config.element.width),
                "enable": Out(1),
                "arrived": Out(1),
                "released": In(config.released),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        # ``closed`` is a copy of ``~ready`` for the counters
        accept, finished = Signal(), Signal()
        ready, closed = Signal(init=1), Signal(attrs=KEEP)
        loops = Loops(m, accept, {"word": c.words, "column": c.width})
        m.d.comb += [
            self.i.ready.eq(ready),
            accept.eq(self.i.valid & ~closed),
            finished.eq(accept & loops.ends["column"]),
        ]
        # Free rows less one, and less two: the sign says whether another row is free besides the
        # one that ends in this cycle. Rows released before they are written count as free at once.
        released, fewer = delay(m, self.released, 1), delay(m, self.released - 1, 1)
        # A finished row is counted a cycle late, unless the next row may end by then. Then all is
        # known a cycle ahead but ``finished``, which comes from another stage: two gates are left.
        row_done = delay_flags(m, finished, 1)
        ahead = c.width * c.words > 1
        counted, recent = (row_done, finished | row_done) if ahead else (finished, finished)
        change, next_change = Signal(fewer.shape()), Mux(counted, fewer, released)
        full = []
        for kept in (1, 2):
            space = Signal(
                signed(ceil_log2(c.rows + c.ahead + 1) + 2),
                name=f"space_{kept}",
                init=c.rows - kept,
            )
            full.append(Signal(name=f"full_{kept}", init=c.rows < kept))
            later = space + change
            m.d.sync += space.eq(later)
            if ahead:
                m.d.sync += full[-1].eq((later + next_change)[-1])
            else:
                m.d.comb += full[-1].eq(later[-1])
        none_left = Mux(recent, full[1], full[0])
        m.d.sync += [
            change.eq(next_change),
            ready.eq(~none_left),
            closed.eq(none_left),
        ]

        # A cycle later, so that no address waits for the handshake; another one to the memories.
        written = delay_flags(m, accept, 1)
        pixel_done = delay_flags(m, accept & loops.ends["word"], 1)
        m.d.comb += self.arrived.eq(pixel_done if c.by_pixel else row_done)
        ring = Loops(m, row_done, {"bank": c.banks[0], "line": c.rows // c.banks[0]})
        bank_column = Signal.like(self.bank_column)
        line, at = Signal(range(max(2, c.depth))), Signal(range(max(2, c.depth)))
        following = Signal.like(line)
        word = delay(m, loops.count["word"], 1) if c.banks[1] > 1 else 0
        m.d.sync += [
            self.enable.eq(written),
            self.address.eq(at + word),
            self.data.eq(delay(m, self.i.payload.as_value(), 1)),
            self.bank_row.eq(ring.count["bank"]),
            self.bank_column.eq(bank_column),
        ]
        # a register, unless a row is a single beat
        domain = m.d.sync if c.width * c.words > 1 else m.d.comb
        domain += following.eq(
            Mux(ring.last["bank"], Mux(ring.last["line"], 0, line + c.line_words), line)
        )
        with m.If(row_done):
            m.d.sync += [line.eq(following), at.eq(following), bank_column.eq(0)]
        with m.Elif(written if c.banks[1] == 1 else pixel_done & (bank_column == c.banks[1] - 1)):
            m.d.sync += [at.eq(at + (1 if c.banks[1] == 1 else c.words)), bank_column.eq(0)]
        with m.Elif(pixel_done):
            m.d.sync += bank_column.eq(bank_column + 1)
        return m

"""Windows cut to another width and repeated, where the line buffer can not be read as the array
wants.
"""

from dataclasses import dataclass

from amaranth import Cat, Module, Mux, Shape, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .cost import Resources
from .stream import Flow
from .width import ceil_div

__all__ = ["ReplayConfig", "Replay"]


@dataclass(frozen=True)
class ReplayConfig:
    """Reductions of ``length`` elements come ``width_in`` at a time and leave ``width_out`` at a
    time,
    ``passes`` times over; the last word of each is padded. ``width_in`` is at least ``width_out``,
    or the array would wait for the buffer.
    """

    length: int
    width_in: int
    width_out: int
    passes: int
    element: Shape

    def __post_init__(self):
        assert self.width_in >= self.width_out

    @property
    def reads(self) -> int:
        """Words in for one reduction."""
        return ceil_div(self.length, self.width_in)

    @property
    def folds(self) -> int:
        """Words out for one reduction."""
        return ceil_div(self.length, self.width_out)

    def resources(self) -> Resources:
        """An estimate of the cutter and the two banks."""
        widths = (self.width_in + self.width_out) * self.element.width
        return Resources(3 * widths + self.memory_bits // 8, 2 * widths)

    @property
    def memory_bits(self) -> int:
        return 2 * self.folds * self.width_out * self.element.width


class Replay(wiring.Component):
    """Hold two reductions: one comes in and is cut to ``width_out`` while the other is given out.

    ``room`` tells that all words of one more reduction may be sent; with words coming and ``grant``
    up there is a word out every cycle. A reduction starts when ``grant`` is up (``start`` tells
    that it did).

    Members
    -------
    i : In(Flow(width_in, element))
    room : Out(1)
    taken : In(1), a reduction has been promised to ``i``
    grant : In(1)
    start : Out(1)
    o : Out(Flow(width_out, element))
    """

    #: the memory and its output register
    latency = 2

    def __init__(self, config: ReplayConfig):
        self.config = config
        super().__init__({
            "i": In(Flow(config.width_in, config.element)),
            "room": Out(1),
            "taken": In(1),
            "grant": In(1),
            "start": Out(1),
            "o": Out(Flow(config.width_out, config.element)),
        })

    def elaborate(self, platform):
        m = Module()
        c = self.config
        bits = c.element.width

        # Words promised but not yet here, and words waiting: no more than the queue holds.
        depth = 16 * ceil_div(2 * c.reads + 8, 16)
        m.submodules.queue = queue = SyncFIFOBuffered(width=c.width_in * bits + 1, depth=depth)
        # Room beyond one reduction's words.
        free = Signal(signed(depth.bit_length() + 2), init=depth - c.reads)
        m.d.comb += [
            queue.w_data.eq(Cat(self.i.payload.as_value(), self.i.last)),
            queue.w_en.eq(self.i.valid),
            self.room.eq(~free[-1]),
        ]
        m.d.sync += free.eq(free + (queue.r_en & queue.r_rdy) - Mux(self.taken, c.reads, 0))

        # Cut: elements wait in order; a word leaves when it is full or its reduction has ended.
        capacity = c.width_in + c.width_out - 1
        waiting = Signal(capacity * bits, reset_less=True)
        count, after = Signal(range(capacity + 1)), Signal(range(capacity + 1))
        final = c.length - (c.reads - 1) * c.width_in
        ended, cut = Signal(), Signal()
        empty_bank = Signal()
        m.d.comb += [
            cut.eq(((count >= c.width_out) | (ended & (count != 0))) & empty_bank),
            after.eq(count),
        ]
        rest = Signal.like(waiting)
        m.d.comb += rest.eq(waiting)
        with m.If(cut):
            m.d.comb += [
                after.eq(Mux(count > c.width_out, count - c.width_out, 0)),
                rest.eq(waiting >> (c.width_out * bits)),
            ]
        m.d.comb += queue.r_en.eq((after < c.width_out) & (~ended | (after == 0)))
        m.d.sync += [count.eq(after), waiting.eq(rest)]
        with m.If(after == 0):
            m.d.sync += ended.eq(0)
        with m.If(queue.r_en & queue.r_rdy):
            incoming, last = queue.r_data[:-1], queue.r_data[-1]
            with m.Switch(after):
                for n in range(c.width_out):
                    with m.Case(n):
                        kept = rest[:n * bits]
                        m.d.sync += waiting.eq(Cat(kept, incoming))
            m.d.sync += [count.eq(after + Mux(last, final, c.width_in)), ended.eq(last)]

        # Two banks of folds words.
        store = memory.Memory(shape=c.width_out * bits, depth=2 * c.folds, init=[])
        m.submodules.store = store
        write, read = store.write_port(), store.read_port()
        write_fold, write_bank = Signal(range(max(2, c.folds))), Signal()
        full = Signal(2)
        filled, drained = Signal(2), Signal(2)
        m.d.comb += [
            empty_bank.eq(~full.bit_select(write_bank, 1)),
            write.addr.eq(Mux(write_bank, c.folds, 0) + write_fold),
            write.data.eq(waiting[:c.width_out * bits]),
            write.en.eq(cut),
        ]
        with m.If(cut):
            m.d.sync += write_fold.eq(Mux(write_fold == c.folds - 1, 0, write_fold + 1))
            with m.If(write_fold == c.folds - 1):
                m.d.sync += write_bank.eq(~write_bank)
                m.d.comb += filled.eq(Mux(write_bank, 2, 1))

        fold, turn, bank = Signal(range(max(2, c.folds))), Signal(range(max(2, c.passes))), Signal()
        go, begins, ends = Signal(), Signal(), Signal()
        m.d.comb += [
            begins.eq(fold == 0),
            ends.eq(fold == c.folds - 1),
            go.eq(~begins | (self.grant & full.bit_select(bank, 1).bool())),
            self.start.eq(go & begins),
            read.addr.eq(Mux(bank, c.folds, 0) + fold),
        ]
        with m.If(go):
            m.d.sync += fold.eq(Mux(ends, 0, fold + 1))
            with m.If(ends):
                m.d.sync += turn.eq(Mux(turn == c.passes - 1, 0, turn + 1))
                with m.If(turn == c.passes - 1):
                    m.d.sync += bank.eq(~bank)
                    m.d.comb += drained.eq(Mux(bank, 2, 1))
        m.d.sync += full.eq((full | filled) & ~drained)

        flags = Signal(3)
        m.d.sync += [
            flags.eq(Cat(go, begins, ends)),
            self.o.valid.eq(flags[0]),
            self.o.first.eq(flags[1]),
            self.o.last.eq(flags[2]),
            self.o.payload.as_value().eq(read.data),
        ]
        return m

"""Windows cut to another width and repeated, where the line buffer can not be read as the array
wants.
"""

from dataclasses import dataclass
from functools import reduce
from math import gcd
from operator import or_

from amaranth import Cat, Module, Mux, Shape, Signal, signed
from amaranth.lib import memory, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .cost import Resources
from .delay import delay, delay_flags
from .loops import Loops
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

    @staticmethod
    def places(width_in: int, width_out: int) -> int:
        """Places in a word in at which a word out may begin."""
        return width_in // gcd(width_in, width_out)

    def resources(self) -> Resources:
        """An estimate of queue, cutter and the two banks."""
        into, out = self.width_in * self.element.width, self.width_out * self.element.width
        choice = ceil_div(2 * self.places(self.width_in, self.width_out), 3)
        return Resources(4 * into + out * choice + self.memory_bits // 8 + 80,
                         5 * into + 2 * out + 60)

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

    #: the address, the memory and its output register
    latency = 3

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
        depth = 16 * ceil_div(2 * c.reads + 9, 16)
        m.submodules.queue = queue = SyncFIFOBuffered(width=c.width_in * bits, depth=depth)
        # Room beyond one reduction's words. Promises are counted a cycle late, when the next, if it
        # takes but a cycle, may have been made.
        kept = c.reads * (2 if c.reads == 1 else 1)
        free = Signal(signed(depth.bit_length() + 2), init=depth - kept)
        promised = delay_flags(m, self.taken, 1)
        taken = delay_flags(m, queue.r_en & queue.r_rdy, 1)
        m.d.comb += [
            queue.w_data.eq(self.i.payload.as_value()),
            queue.w_en.eq(self.i.valid),
            self.room.eq(~free[-1]),
        ]
        m.d.sync += free.eq(free + taken - Mux(promised, c.reads, 0))

        filled, drained = Signal(2), Signal(2)
        full = Signal(2)
        # told a cycle late: what is cut takes two to be stored
        m.d.sync += full.eq((full | delay_flags(m, filled, 1)) & ~drained)
        write = self._cut(m, queue, full, filled)
        self._repeat(m, write, full, drained)
        return m

    def _cut(self, m, queue, full, filled):
        """Words of ``width_out`` from the queue's of ``width_in``: ``(enable, word)`` to store.

        A word out begins in the word before the queue's first (``before``) and may go on into the
        first, which then is taken and becomes the one before. Where it begins moves by
        ``width_out`` around ``width_in``: a ring, of which ``phase`` has one bit set.
        """
        c = self.config
        bits = c.element.width
        ring = c.places(c.width_in, c.width_out)
        begins = [(n * c.width_out - 1) % c.width_in + 1 for n in range(ring)]
        # a word is taken if it is reached into; a reduction's last word out takes what is left
        takes = [begin + c.width_out > c.width_in for begin in begins]
        last_begins = c.width_out * (c.folds - 1)
        takes_last = ceil_div(last_begins, c.width_in) < c.reads

        phase = Signal(ring, init=1)
        take = Signal(init=takes[0] if c.folds > 1 else takes_last)
        go = Signal()
        loops = Loops(m, go, {"fold": c.folds, "bank": 2})
        bank, ends, count = loops.count["bank"], loops.last["fold"], loops.count["fold"]
        following = Mux(ends, 1, phase.rotate_left(1))
        reaches = Cat(takes) & following
        m.d.comb += [
            go.eq((queue.r_rdy | ~take) & ~full.bit_select(bank, 1)),
            queue.r_en.eq(take & ~full.bit_select(bank, 1)),
            filled.eq(Mux(go & ends, Mux(bank, 2, 1), 0)),
        ]
        before, window = (Signal(n * c.width_in * bits, reset_less=True) for n in (1, 2))
        with m.If(go):
            m.d.sync += [phase.eq(following), take.eq(reaches.any())]
            if c.folds > 1:
                with m.If(~ends & (count == c.folds - 2)):
                    m.d.sync += take.eq(takes_last)
            else:
                m.d.sync += take.eq(takes_last)
            with m.If(take):
                m.d.sync += before.eq(queue.r_data)
        m.d.sync += window.eq(Cat(before, queue.r_data))
        chosen = delay(m, phase, 1)
        word = reduce(or_, (Mux(chosen[n], window[begin * bits:][:c.width_out * bits], 0)
                            for n, begin in enumerate(begins)))
        address = Mux(bank, c.folds, 0) + count
        return delay_flags(m, go, 2), delay(m, address, 2), delay(m, word, 1)

    def _repeat(self, m, write, full, drained):
        """Store what is cut, in two banks of ``folds`` words, and give each bank ``passes`` times.
        """
        c = self.config
        store = memory.Memory(shape=c.width_out * c.element.width, depth=2 * c.folds, init=[])
        m.submodules.store = store
        port, read = store.write_port(), store.read_port()
        m.d.comb += [port.en.eq(write[0]), port.addr.eq(write[1]), port.data.eq(write[2])]

        go = Signal()
        loops = Loops(m, go, {"fold": c.folds, "turn": c.passes, "bank": 2})
        fold, bank, ends = loops.count["fold"], loops.count["bank"], loops.last["fold"]
        begins = Signal(init=1)
        with m.If(go):
            m.d.sync += begins.eq(ends)
        m.d.comb += [
            go.eq(~begins | (self.grant & full.bit_select(bank, 1))),
            self.start.eq(go & begins),
            # as soon as the last turn starts: what comes next is written behind what is read
            drained.eq(Mux(go & begins & loops.last["turn"], Mux(bank, 2, 1), 0)),
            read.addr.eq(delay(m, Mux(bank, c.folds, 0) + fold, 1)),
            self.o.payload.as_value().eq(delay(m, read.data, 1)),
        ]
        flags = delay_flags(m, Cat(go, begins, ends), self.latency)
        m.d.comb += [self.o.valid.eq(flags[0]), self.o.first.eq(flags[1]),
                     self.o.last.eq(flags[2])]

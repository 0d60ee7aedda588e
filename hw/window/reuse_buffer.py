"""Windows cut to another width and repeated, where the line buffer can not be read as the array
wants.
"""

from dataclasses import dataclass, field
from functools import reduce
from math import gcd
from operator import or_

from amaranth import Cat, Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.credits import counter_nonzero, credit_available
from ..control.delay import delay, delay_flags, duplicate, fanout_slices
from ..control.loops import Loops
from ..memory.ram import Ram, RamConfig
from ..sizes import at_least, ceil_div
from ..stream.fifo import CreditFifo
from ..stream.signature import Flow
from ..target.base import Target
from ..target.resources import Resources

__all__ = ["ReuseBufferConfig", "ReuseBuffer"]


#: cycles from a place that is free again to a word in it that is cut, and some more
_PROMISE = 32


@dataclass(frozen=True)
class ReuseBufferConfig:
    """Reductions of ``length`` elements come ``width_in`` at a time and leave ``width_out`` at a
    time, ``passes`` times over; the last word of each is padded. ``width_in`` is at least
    ``width_out``, or the array would wait for the buffer.
    """

    length: int
    width_in: int
    width_out: int
    passes: int
    element: Shape
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "length", "width_in", "width_out", "passes")
        if self.width_in < self.width_out:
            raise ValueError(
                f"ReuseBufferConfig: width_in={self.width_in}, but it must be at least "
                f"width_out={self.width_out}"
            )

    @property
    def reads(self) -> int:
        """Words in for one reduction."""
        return ceil_div(self.length, self.width_in)

    @property
    def folds(self) -> int:
        """Words out for one reduction."""
        return ceil_div(self.length, self.width_out)

    @property
    def waiting(self) -> int:
        """Words promised but not yet here, and words waiting: of two reductions; of one where the
        next can still come, and be cut, while a bank is given out again.
        """
        words = self.reads if self.folds * (self.passes - 1) >= _PROMISE else 2 * self.reads + 12
        return 16 * ceil_div(words, 16)

    def stores(self) -> list[tuple[slice, RamConfig]]:
        """The two banks, cut to parts of a word."""
        return [
            (part, RamConfig(2 * self.folds, part.stop - part.start, self.target))
            for part in fanout_slices(self.width_out * self.element.width)
        ]

    @property
    def latency(self) -> int:
        """Cycles from the start of a reduction to its first word: a register for the address, and
        the banks.
        """
        return 1 + max(store.latency for _, store in self.stores())

    @staticmethod
    def places(width_in: int, width_out: int) -> int:
        """Places in a word in at which a word out may begin."""
        return width_in // gcd(width_in, width_out)

    def resources(self) -> Resources:
        """An estimate of queue, cutter and the two banks."""
        into, out = self.width_in * self.element.width, self.width_out * self.element.width
        choice = ceil_div(2 * self.places(self.width_in, self.width_out), 3)
        return sum(
            (store.resources() for _, store in self.stores()),
            Resources(
                4 * into + out * choice + 80,
                5 * into + 2 * out + 60,
                0,
                CreditFifo.block_rams(into, self.waiting, self.target),
            ),
        )

    @property
    def memory_bits(self) -> int:
        return 2 * self.folds * self.width_out * self.element.width


class ReuseBuffer(wiring.Component):
    """Hold two reductions: one arrives and is cut to ``width_out`` while the other is sent.

    ``room`` is high while all words of one more reduction may be sent to ``i``. A reduction starts
    in a cycle in which ``grant`` is high, and ``start`` marks that cycle.

    Throughput: a word a cycle, while words arrive and ``grant`` is high, for reductions of two
    words or more. (A reduction of a single word takes four cycles in its first pass.)

    Members
    -------
    i : In(Flow(width_in, element))
    room : Out(1)
    taken : In(1), a reduction has been promised to ``i``
    grant : In(1)
    start : Out(1)
    o : Out(Flow(width_out, element))
    """

    def __init__(self, config: ReuseBufferConfig):
        self.config = config
        super().__init__(
            {
                "i": In(Flow(config.width_in, config.element)),
                "room": Out(1),
                "taken": In(1),
                "grant": In(1),
                "start": Out(1),
                "o": Out(Flow(config.width_out, config.element)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        bits = c.element.width

        m.submodules.queue = queue = CreditFifo(c.width_in * bits, c.waiting, c.target)
        m.d.comb += [
            queue.data.eq(self.i.payload.as_value()),
            queue.write.eq(self.i.valid),
            self.room.eq(
                credit_available(m, c.waiting, c.reads, queue.freed, self.taken, apart=c.reads)
            ),
        ]

        # A bank is either being cut into or being read. Its first word can be addressed ``_CUT``
        # cycles after the decision to cut it; the last decision (``filled``) comes ``folds - 1``
        # cycles after the first. ``full`` and the read address are registers, so the first address
        # follows ``stored`` by two cycles. No more delay than that: with two words a reduction the
        # two banks are in use without a pause.
        filled, drained = Signal(), Signal()
        stored = delay_flags(m, filled, max(0, self._CUT - 1 - c.folds))
        stores = self._cut(m, queue, counter_nonzero(m, "empty", drained, filled, 2, 2), filled)
        self._repeat(m, stores, counter_nonzero(m, "full", stored, drained, 2), drained)
        return m

    #: cycles from the decision on a word to its place in the store
    _CUT = 2 + CreditFifo.latency

    def _cut(self, m, queue, empty, filled):
        """Words of ``width_out`` from the queue's of ``width_in``, into the stores, a part in each.

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
            go.eq((queue.any | ~take) & empty),
            queue.take.eq(go & take),
            filled.eq(go & ends),
        ]
        with m.If(go):
            m.d.sync += [phase.eq(following), take.eq(reaches.any())]
            if c.folds > 1:
                with m.If(~ends & (count == c.folds - 2)):
                    m.d.sync += take.eq(takes_last)
            else:
                m.d.sync += take.eq(takes_last)

        # Cycles later each part of the word decides for itself whether to take what was first.
        before = Signal(c.width_in * bits, reset_less=True)
        takes = delay_flags(m, go & take, queue.latency - 1)
        for part in fanout_slices(len(before)):
            with m.If(duplicate(m, takes)):
                m.d.sync += before[part].eq(queue.word[part])
        window, place = Cat(before, queue.word), delay(m, phase, queue.latency - 1)
        address = delay(m, Mux(bank, c.folds, 0) + count, self._CUT - 2)
        enable = delay_flags(m, go, self._CUT - 2)
        stores = []
        for part, config in c.stores():
            chosen = duplicate(m, place)
            word = reduce(
                or_,
                (Mux(chosen[n], window[begin * bits :][part], 0) for n, begin in enumerate(begins)),
            )
            m.submodules[f"store_{part.start}"] = store = Ram(config)
            m.d.comb += [
                store.write_enable.eq(enable),
                store.write_address.eq(address),
                store.write_data.eq(word),
            ]
            stores.append(store)
        return stores

    def _repeat(self, m, stores, full, drained):
        """Give each of the stores' two banks of ``folds`` words ``passes`` times."""
        c = self.config
        go = Signal()
        loops = Loops(m, go, {"fold": c.folds, "turn": c.passes, "bank": 2})
        fold, bank, ends = loops.count["fold"], loops.count["bank"], loops.last["fold"]
        begins = Signal(init=1)
        with m.If(go):
            m.d.sync += begins.eq(ends)
        m.d.comb += [
            go.eq(~begins | (self.grant & full)),
            self.start.eq(go & begins),
            # as soon as the last turn starts: what comes next is written behind what is read
            drained.eq(go & begins & loops.last["turn"]),
        ]
        address = Mux(bank, c.folds, 0) + fold
        for store in stores:
            m.d.comb += store.address.eq(duplicate(m, address))
        words = [delay(m, store.data, c.latency - 1 - store.config.latency) for store in stores]
        flags = delay_flags(m, Cat(go, begins, ends), c.latency)
        m.d.comb += [
            self.o.payload.as_value().eq(Cat(words)),
            self.o.valid.eq(flags[0]),
            self.o.first.eq(flags[1]),
            self.o.last.eq(flags[2]),
        ]

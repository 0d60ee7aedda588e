"""The reuse buffer: a window's reads, cut to the width that the arithmetic takes and repeated."""

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
from ..stream.signature import PushStream
from ..target.base import Target
from ..target.resources import Resources

__all__ = ["ReuseBufferConfig", "ReuseBuffer"]


#: cycles from a released word of the queue to the cut of the word that takes its place, and more
_PROMISE = 32


@dataclass(frozen=True)
class ReuseBufferConfig:
    """Reductions of ``length`` elements arrive ``width_in`` a cycle and leave ``width_out`` a cycle
    ``passes`` times; the last word of each is padded. ``width_in`` is at least ``width_out``, so
    that the array does not wait for the buffer.
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
        """Words of the queue, including those on their way: of two reductions; of one where the
        next can arrive and be cut while a bank is sent again.
        """
        words = self.reads if self.folds * (self.passes - 1) >= _PROMISE else 2 * self.reads + 12
        return 16 * ceil_div(words, 16)

    def stores(self) -> list[tuple[slice, RamConfig]]:
        """The memories of both banks, each a slice of a word."""
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
        """Positions in a word in at which a word out may begin."""
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
    i : In(PushStream(width_in, element))
    room : Out(1)
    taken : In(1), a reduction on its way to ``i`` takes the room
    grant : In(1)
    start : Out(1)
    o : Out(PushStream(width_out, element))
    """

    def __init__(self, config: ReuseBufferConfig):
        self.config = config
        super().__init__(
            {
                "i": In(PushStream(config.width_in, config.element)),
                "room": Out(1),
                "taken": In(1),
                "grant": In(1),
                "start": Out(1),
                "o": Out(PushStream(config.width_out, config.element)),
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

    #: cycles from the decision to cut a word to its first possible address
    _CUT = 2 + CreditFifo.latency

    def _cut(self, m, queue, empty, filled):
        """Cut words of ``width_out`` from the queue's words of ``width_in``, and store them.

        A word out begins in the word taken last (``before``) and may extend into the queue's first
        word, which is then taken. Its position moves by ``width_out`` modulo ``width_in``, which
        ``phase`` counts, one-hot.
        """
        c = self.config
        bits = c.element.width
        ring = c.places(c.width_in, c.width_out)
        begins = [(n * c.width_out - 1) % c.width_in + 1 for n in range(ring)]
        # a word is taken when a word out extends into it; the last word out takes the remainder
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

        # Some cycles later, with enables of its own for each slice of the word.
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
        """Send each of the two banks of ``folds`` words ``passes`` times."""
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
            # at the start of the last turn: the next words are written behind those being read
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

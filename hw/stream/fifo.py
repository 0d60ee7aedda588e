"""FIFOs between stages and inside them."""

from functools import reduce
from operator import or_

from amaranth import Cat, Module, Mux, ResetSignal, Shape, Signal, Value
from amaranth.hdl import ShapeLike
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from ..control.credits import counter_nonzero
from ..control.delay import KEEP, delay, delay_flags, duplicate, fanout_slices
from ..control.loops import Loops
from ..memory.ram import SHALLOW, Ram, RamConfig
from ..memory.tiles import choice_luts
from ..sizes import ceil_div
from ..target.base import Target
from ..target.resources import Resources
from .signature import beats

__all__ = ["Fifo", "CreditFifo", "Queue"]


class Queue(wiring.Component):
    """A FIFO without backpressure on its input: the writer holds a credit for each word.

    ``freed`` returns a credit, a cycle after a word has moved from the memory to the register at
    ``o``. Throughput: a word a cycle. The reset reaches a single register, because the queue may be
    far from its writer: while it is held, a word is discarded each cycle.

    Members
    -------
    write : In(1)
    data : In(shape)
    o : Out(stream.Signature(shape))
    freed : Out(1)
    """

    #: cycles from a word written to the word offered
    latency = 2

    def __init__(self, shape: ShapeLike, depth: int, target: Target):
        self.width, self.depth, self.target = Shape.cast(shape).width, depth, target
        super().__init__(
            {"write": In(1), "data": In(shape), "o": Out(stream.Signature(shape)), "freed": Out(1)}
        )

    @staticmethod
    def estimate(width: int, target: Target, depth: int = 16) -> Resources:
        """For ``depth`` words of ``width`` bits."""
        cell = target.lut_ram
        if cell is None:
            return Resources(30 + width, 30 + 2 * width, 0, _block_rams(width, depth, target))
        rows = ceil_div(depth, cell.words)
        stored = rows * (cell.luts * ceil_div(width, cell.bits) + cell.row_luts)
        return Resources(20 + stored + width * choice_luts(rows), 30 + width)

    def elaborate(self, platform):
        m = Module()
        # Three copies of ``valid``: for the reader, for the registers' enables, and for the counter
        # of stored words, which is one gate behind its copy.
        offered = [Signal(attrs=KEEP, reset_less=True) for _ in range(3)]
        runs_out = duplicate(m, ResetSignal(allow_reset_less=True))
        moves, may_leave = (self.o.ready | ~valid | runs_out for valid in offered[1:])
        leaves = Signal()
        stored = counter_nonzero(m, "stored", self.write, leaves, self.depth, reset_less=True)
        m.d.comb += [
            leaves.eq(may_leave & stored),
            self.o.valid.eq(offered[0]),
            self.freed.eq(delay_flags(m, leaves, 1)),
        ]
        with m.If(moves):
            m.d.sync += [valid.eq(stored) for valid in offered]
        # a queue deeper than one memory selects among the words of several, after their registers
        rows = min(self.depth, SHALLOW) if self.target.lut_ram else self.depth
        low = (rows - 1).bit_length()
        for bits in fanout_slices(self.width):
            into, out_of = (
                _pointer(m, self.depth, steps, reset_less=True) for steps in (self.write, leaves)
            )
            reads, words = [], []
            if self.depth > rows:
                here = _memory_of(m, into, self.depth, low, self.write)
                there = _memory_of(m, out_of, self.depth, low, leaves)
            for number, first in enumerate(range(0, self.depth, rows)):
                write, read = _store(m, bits, min(rows, self.depth - first), self.target, first)
                writes, word = self.write, read.data
                if self.depth > rows:
                    chosen = Signal(reset_less=True)
                    with m.If(moves):
                        m.d.sync += chosen.eq(there[number])
                    writes &= here[number]
                    word = Mux(chosen, word, 0)
                m.d.comb += [
                    write.en.eq(writes),
                    write.data.eq(Value.cast(self.data)[bits]),
                    write.addr.eq(into[:low]),
                    read.en.eq(moves),
                ]
                reads.append(read)
                words.append(word)
            m.d.comb += [
                Value.cast(self.o.payload)[bits].eq(reduce(or_, words)),
                *(read.addr.eq(out_of[:low]) for read in reads),
            ]
        return m


class CreditFifo(wiring.Component):
    """A FIFO of wide words, each read two cycles after it was taken, so that no control signal
    reaches all bits of a word within a cycle. A word a cycle.

    The writer holds a credit for each word; ``take`` is allowed while ``any`` is high.

    Members
    -------
    write : In(1)
    data : In(width)
    any : Out(1)
    take : In(1)
    word : Out(width)
    freed : Out(1), returns a credit
    """

    #: cycles from a word written until ``any`` counts it
    arrival = 2
    #: cycles from a word taken to the word
    latency = 2

    def __init__(self, width: int, depth: int, target: Target):
        self.width, self.depth, self.target = width, depth, target
        super().__init__(
            {
                "write": In(1),
                "data": In(width),
                "any": Out(1),
                "take": In(1),
                "word": Out(width),
                "freed": Out(1),
            }
        )

    @staticmethod
    def block_rams(width: int, depth: int, target: Target) -> int:
        """Block RAMs for its words: none where the family has LUT RAM."""
        return 0 if target.lut_ram else _block_rams(width, depth, target)

    @staticmethod
    def estimate(width: int, depth: int, target: Target) -> Resources:
        """For ``depth`` words of ``width`` bits."""
        return Queue.estimate(width, target, depth) + Resources(0, width)

    def elaborate(self, platform):
        m = Module()
        written = delay_flags(m, self.write, 1)
        m.d.comb += self.any.eq(counter_nonzero(m, "stored", written, self.take, self.depth))
        m.d.sync += self.freed.eq(self.take)
        data = delay(m, self.data, 1)
        for bits in fanout_slices(self.width, self.depth):
            write, read = _store(m, bits, self.depth, self.target)
            writes, takes = duplicate(m, self.write), duplicate(m, self.take)
            m.d.comb += [
                write.en.eq(writes),
                write.data.eq(data[bits]),
                write.addr.eq(_pointer(m, self.depth, writes)),
                self.word[bits].eq(read.data),
                read.addr.eq(_pointer(m, self.depth, takes)),
            ]
        return m


def _block_rams(width, depth, target):
    """Block RAMs for so many words of a family without LUT RAM."""
    return sum(
        target.block_rams(depth, bits.stop - bits.start) for bits in fanout_slices(width, depth)
    )


def _store(m, bits, depth, target, first=0):
    """Write and read port of the memory of some ``bits`` of ``depth`` words, from ``first`` on."""
    # LUT RAM where there is some: the clock-to-output delay of a block RAM is most of a cycle.
    attrs = {"ram_style": target.lut_ram.style} if target.lut_ram else {}
    store = memory.Memory(shape=bits.stop - bits.start, depth=depth, init=[], attrs=attrs)
    m.submodules[f"store_{bits.start}" + (f"_{first}" if first else "")] = store
    return store.write_port(), store.read_port()


def _pointer(m, depth, steps, *, reset_less=False):
    """An address counter in gates: a carry chain is not faster for so few bits, and its wires are
    longer.

    ``steps`` only enables its registers: what ends the count masks bits, because synthesis would
    make a choice of 0 a synchronous reset, a gate behind ``steps``.
    """
    pointer = Signal(range(depth), attrs=KEEP, reset_less=reset_less)
    ends = pointer == depth - 1
    following = Cat(
        (bit ^ pointer[:place].all()) & ~(ends & bool(depth >> place & 1))
        for place, bit in enumerate(pointer)
    )
    with m.If(steps):
        m.d.sync += pointer.eq(following)
    return pointer


def _memory_of(m: Module, pointer: Signal, depth: int, low: int, steps: Value) -> Signal:
    """In which memory of ``2 ** low`` words a pointer is, one-hot, in registers: a write enable is
    then one gate behind it.
    """
    memory = Signal(ceil_div(depth, 1 << low), init=1, attrs=KEEP, reset_less=True)
    last = pointer[:low].all() | (pointer == depth - 1)
    with m.If(steps & last):
        m.d.sync += memory.eq(memory.rotate_left(1))
    return memory


class Fifo(wiring.Component):
    """A FIFO of at least ``depth`` beats; takes and sends a beat a cycle.

    Beats are read ahead from a memory into a small queue while it has room. So the data of a block
    RAM, whose clock-to-output delay is most of a cycle, is registered at once, and its read port
    does not depend on ``o.ready``.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, element))
    """

    #: cycles from a beat in to the beat out, when both queues are empty
    latency = 8
    #: beats of the small queue
    _AHEAD = 16
    #: beats of the memory for a throughput of one a cycle: those between its write and its release
    _LEAST = 8

    def __init__(self, lanes: int, element: Shape, depth: int, target: Target):
        self.ram = self._ram(depth, lanes * Shape.cast(element).width, target)
        super().__init__({"i": In(beats(lanes, element)), "o": Out(beats(lanes, element))})

    @classmethod
    def _ram(cls, depth: int, width: int, target: Target) -> RamConfig:
        return RamConfig(max(depth, cls._LEAST), width, target)

    @classmethod
    def estimate(cls, depth: int, width: int, target: Target) -> Resources:
        """``depth`` beats of ``width`` bits."""
        return (
            Queue.estimate(width, target)
            + Resources(50, 50)
            + cls._ram(depth, width, target).resources()
        )

    def elaborate(self, platform):
        m = Module()
        depth = self.ram.depth
        m.submodules.store = store = Ram(self.ram)
        m.submodules.ahead = ahead = Queue(self.o.payload.shape(), self._AHEAD, self.ram.target)

        accept, issue = Signal(), Signal()
        stored = counter_nonzero(m, "stored", delay_flags(m, accept, 1), issue, depth)
        free = counter_nonzero(m, "free", ahead.freed, issue, self._AHEAD, self._AHEAD)
        m.d.comb += [
            self.i.ready.eq(counter_nonzero(m, "space", issue, accept, depth, depth)),
            accept.eq(self.i.valid & self.i.ready),
            issue.eq(stored & free),
        ]
        into = Loops(m, accept, {"address": depth}).count["address"]
        out_of = Loops(m, issue, {"address": depth}).count["address"]
        m.d.comb += [
            store.write_enable.eq(accept),
            store.write_address.eq(into),
            store.write_data.eq(self.i.payload.as_value()),
            store.address.eq(delay(m, out_of, 1)),
            ahead.data.as_value().eq(store.data),
            ahead.write.eq(delay_flags(m, issue, 1 + self.ram.latency)),
        ]
        wiring.connect(m, ahead.o, wiring.flipped(self.o))
        return m

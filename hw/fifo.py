"""Queues between stages, and register slices that cut the handshake's wires."""

from amaranth import Module, Mux, Shape, Signal, signed
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from .cost import Resources, queue
from .delay import delay, delay_flags, parts
from .loops import Loops
from .ram import Ram, RamConfig
from .stream import beats

__all__ = ["Fifo", "Queue", "RegisterSlice"]


class RegisterSlice(wiring.Component):
    """Two beats in registers: payload, valid and ready all start from one. A beat a cycle.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, element))
    """

    latency = 1

    def __init__(self, lanes: int, element: Shape):
        super().__init__({"i": In(beats(lanes, element)), "o": Out(beats(lanes, element))})

    @staticmethod
    def estimate(width: int) -> Resources:
        """Of ``width`` bits."""
        return Resources(width + 2, 2 * width + 2)

    def elaborate(self, platform):
        m = Module()
        width = len(self.i.payload.as_value())
        first, second = Signal(width, reset_less=True), Signal(width, reset_less=True)
        ready = Signal(init=1)
        m.d.comb += [
            self.i.ready.eq(ready),
            self.o.payload.as_value().eq(first),
        ]
        with m.If(ready):
            m.d.sync += second.eq(self.i.payload.as_value())
        with m.If(self.o.ready | ~self.o.valid):
            m.d.sync += [
                first.eq(Mux(ready, self.i.payload.as_value(), second)),
                self.o.valid.eq(self.i.valid | ~ready),
                ready.eq(1),
            ]
        with m.Elif(self.i.valid):
            m.d.sync += ready.eq(0)
        return m


class Queue(wiring.Component):
    """``depth`` words; whoever writes has reserved the room. A word a cycle.

    ``freed`` tells, a cycle late, that a word has left the memory (for the register before ``o``).

    Members
    -------
    write : In(1)
    data : In(width)
    o : Out(stream.Signature(width))
    freed : Out(1)
    """

    #: cycles from a word written to the word offered
    latency = 2

    def __init__(self, width: int, depth: int, family: str = "generic"):
        self.width, self.depth, self.family = width, depth, family
        super().__init__({"write": In(1), "data": In(width), "o": Out(stream.Signature(width)),
                          "freed": Out(1)})

    def elaborate(self, platform):
        m = Module()
        # Kept less one, so that its sign tells whether there is any.
        stored = Signal(signed(self.depth.bit_length() + 2), init=-1)
        moves, leaves = Signal(), Signal()
        m.d.comb += [moves.eq(self.o.ready | ~self.o.valid), leaves.eq(moves & ~stored[-1])]
        m.d.sync += [stored.eq(stored + self.write - leaves), self.freed.eq(leaves)]
        with m.If(moves):
            m.d.sync += self.o.valid.eq(~stored[-1])
        # A block RAM would take most of a cycle to answer.
        attrs = {"ram_style": "distributed"} if self.family == "ecp5" else {}
        for bits in parts(self.width):
            store = memory.Memory(shape=bits.stop - bits.start, depth=self.depth, init=[],
                                  attrs=attrs)
            m.submodules[f"store_{bits.start}"] = store
            write, read = store.write_port(), store.read_port()
            m.d.comb += [
                write.en.eq(self.write), write.data.eq(self.data[bits]),
                write.addr.eq(self._pointer(m, self.write)),
                read.en.eq(moves), self.o.payload[bits].eq(read.data),
                read.addr.eq(self._pointer(m, leaves)),
            ]
        return m

    def _pointer(self, m, steps):
        pointer = Signal(range(self.depth), attrs={"keep": "true"})
        with m.If(steps):
            m.d.sync += pointer.eq(Mux(pointer == self.depth - 1, 0, pointer + 1))
        return pointer


class Fifo(wiring.Component):
    """A queue of ``depth`` beats and some more, in and out a beat a cycle.

    Beats wait in a memory. From there they are read ahead into a small queue, as many as it has
    room for: so the memory's data goes straight into a register, as a block RAM that takes most of
    a cycle to answer wants it, and nothing that reads it depends on who takes the beats.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, element))
    """

    #: cycles from a beat in to the beat out, when both queues are empty
    latency = 8
    #: beats of the small queue
    _AHEAD = 16
    #: beats of the memory for one to pass each cycle: as many as are between in and out of it
    _LEAST = 8

    def __init__(self, lanes: int, element: Shape, depth: int, family: str = "generic"):
        self.ram = self._ram(depth, lanes * Shape.cast(element).width, family)
        super().__init__({"i": In(beats(lanes, element)), "o": Out(beats(lanes, element))})

    @classmethod
    def _ram(cls, depth: int, width: int, family: str) -> RamConfig:
        return RamConfig(max(depth, cls._LEAST), width, family)

    @classmethod
    def estimate(cls, depth: int, width: int, family: str) -> Resources:
        """``depth`` beats of ``width`` bits."""
        return queue(width) + Resources(50, 50) + cls._ram(depth, width, family).resources()

    def elaborate(self, platform):
        m = Module()
        depth = self.ram.depth
        m.submodules.store = store = Ram(self.ram)
        m.submodules.ahead = ahead = Queue(self.ram.width, self._AHEAD, self.ram.family)

        # All counts are kept less one, so that their sign tells whether there is any.
        counts = signed(max(depth, self._AHEAD).bit_length() + 2)
        space, stored = Signal(counts, init=depth - 1), Signal(counts, init=-1)
        room = Signal(counts, init=self._AHEAD - 1)
        accept, issue = Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~space[-1]),
            accept.eq(self.i.valid & self.i.ready),
            issue.eq(~stored[-1] & ~room[-1]),
        ]
        written = delay_flags(m, accept, 1)
        m.d.sync += [
            space.eq(space + issue - accept),
            stored.eq(stored + written - issue),
            room.eq(room + ahead.freed - issue),
        ]
        into = Loops(m, accept, {"address": depth}).count["address"]
        out_of = Loops(m, issue, {"address": depth}).count["address"]
        m.d.comb += [
            store.write_enable.eq(accept),
            store.write_address.eq(into),
            store.write_data.eq(self.i.payload.as_value()),
            store.address.eq(delay(m, out_of, 1)),
            ahead.data.eq(store.data),
            ahead.write.eq(delay_flags(m, issue, 1 + self.ram.latency)),
            self.o.payload.as_value().eq(ahead.o.payload),
            self.o.valid.eq(ahead.o.valid),
            ahead.o.ready.eq(self.o.ready),
        ]
        return m

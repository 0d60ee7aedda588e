"""Queues between stages, and register slices that cut the handshake's wires."""

from amaranth import Module, Mux, Shape, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .cost import Resources
from .delay import delay, delay_flags
from .loops import Loops
from .ram import Ram, RamConfig
from .stream import beats

__all__ = ["Fifo", "RegisterSlice"]


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
        return (Resources(90 + width * 6, 80 + 2 * width)
                + cls._ram(depth, width, family).resources())

    def elaborate(self, platform):
        m = Module()
        depth = self.ram.depth
        m.submodules.store = store = Ram(self.ram)
        m.submodules.ahead = ahead = SyncFIFOBuffered(width=self.ram.width, depth=self._AHEAD)

        # All counts are kept less one, so that their sign tells whether there is any.
        counts = signed(max(depth, self._AHEAD).bit_length() + 2)
        space, stored = Signal(counts, init=depth - 1), Signal(counts, init=-1)
        room = Signal(counts, init=self._AHEAD - 1)
        accept, issue, taken = Signal(), Signal(), Signal()
        m.d.comb += [
            self.i.ready.eq(~space[-1]),
            accept.eq(self.i.valid & self.i.ready),
            issue.eq(~stored[-1] & ~room[-1]),
        ]
        written = delay_flags(m, accept, 1)
        m.d.sync += [
            space.eq(space + issue - accept),
            stored.eq(stored + written - issue),
            taken.eq(ahead.r_en & ahead.r_rdy),
            room.eq(room + taken - issue),
        ]
        into = Loops(m, accept, {"address": depth}).count["address"]
        out_of = Loops(m, issue, {"address": depth}).count["address"]
        m.d.comb += [
            store.write_enable.eq(accept),
            store.write_address.eq(into),
            store.write_data.eq(self.i.payload.as_value()),
            store.address.eq(delay(m, out_of, 1)),
            ahead.w_data.eq(store.data),
            ahead.w_en.eq(delay_flags(m, issue, 1 + self.ram.latency)),
            self.o.payload.as_value().eq(ahead.r_data),
            self.o.valid.eq(ahead.r_rdy),
            ahead.r_en.eq(self.o.ready),
        ]
        return m

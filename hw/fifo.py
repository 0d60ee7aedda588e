"""Queues between stages."""

from amaranth import Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .cost import Resources, block_rams
from .stream import beats

__all__ = ["Fifo"]


class Fifo(wiring.Component):
    """A queue of ``depth`` beats and two in registers, in and out a beat a cycle.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, element))
    """

    def __init__(self, lanes: int, element: Shape, depth: int):
        self.depth = depth
        super().__init__({"i": In(beats(lanes, element)), "o": Out(beats(lanes, element))})

    @staticmethod
    def estimate(depth: int, width: int, family: str) -> Resources:
        """``depth`` beats of ``width`` bits."""
        if family == "ecp5" and depth * width <= 2048:
            return Resources(40 + depth * width // 8, 30 + 2 * width)
        return Resources(50, 40 + width, 0, block_rams(family, depth, width))

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = SyncFIFOBuffered(width=len(self.i.payload.as_value()),
                                                      depth=self.depth)
        # Two registers after the memory: a block RAM takes most of a cycle to answer, and with a
        # place to spill to it is read by what is known here, not by who takes the beat far away.
        width = len(queue.r_data)
        first, second = Signal(width, reset_less=True), Signal(width, reset_less=True)
        holds, spilled, comes = Signal(), Signal(), Signal()
        m.d.comb += [
            queue.w_data.eq(self.i.payload.as_value()),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            queue.r_en.eq(~spilled),
            comes.eq(queue.r_rdy & ~spilled),
            self.o.valid.eq(holds),
            self.o.payload.as_value().eq(first),
        ]
        with m.If(self.o.ready | ~holds):
            m.d.sync += [
                first.eq(Mux(spilled, second, queue.r_data)),
                holds.eq(spilled | comes),
                spilled.eq(0),
            ]
        with m.Elif(comes):
            m.d.sync += [second.eq(queue.r_data), spilled.eq(1)]
        return m

"""Queues between stages."""

from amaranth import Module, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from .cost import Resources, block_rams
from .stream import beats

__all__ = ["Fifo"]


class Fifo(wiring.Component):
    """A queue of ``depth`` beats and one in a register, in and out a beat a cycle.

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
        # A register after the memory: a block RAM takes most of a cycle to answer.
        valid, held = Signal(), Signal(len(queue.r_data), reset_less=True)
        m.d.comb += [
            queue.w_data.eq(self.i.payload.as_value()),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            queue.r_en.eq(~valid | self.o.ready),
            self.o.valid.eq(valid),
            self.o.payload.as_value().eq(held),
        ]
        with m.If(queue.r_en):
            m.d.sync += [valid.eq(queue.r_rdy), held.eq(queue.r_data)]
        return m

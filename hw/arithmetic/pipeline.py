"""Arithmetic of fixed latency between two streams."""

from amaranth import Module, Signal
from amaranth.lib import wiring

from ..control.credits import occupied
from ..control.delay import delay_flags
from ..sizes import ceil_div
from ..stream.fifo import Queue

__all__ = ["Pipeline"]


class Pipeline(wiring.Component):
    """Arithmetic of fixed latency between two streams; room for a result is reserved before it
    starts.

    Takes a beat a cycle while ``o`` is ready; latency: that of the arithmetic and two for the
    queue.
    """

    def join(self, m: Module) -> tuple:
        """Join the operands: ``(valid, takes, words)``; ``takes`` are their ready signals."""
        raise NotImplementedError

    def arithmetic(self, m: Module, words) -> tuple:
        """Add the arithmetic; return the result's bits and its latency from the operands."""
        raise NotImplementedError

    def elaborate(self, platform):
        m = Module()
        valid, takes, words = self.join(m)
        result, latency = self.arithmetic(m, words)
        depth = 16 * ceil_div(latency + 7, 16)
        m.submodules.queue = queue = Queue(len(result), depth)
        start = Signal()
        free = occupied(m, "free", queue.freed, start, depth, depth)
        m.d.comb += [
            start.eq(valid & free),
            *[take.eq(start) for take in takes],
            queue.write.eq(delay_flags(m, start, latency)),
            queue.data.eq(result),
            self.o.valid.eq(queue.o.valid),
            self.o.payload.as_value().eq(queue.o.payload),
            queue.o.ready.eq(self.o.ready),
        ]
        return m

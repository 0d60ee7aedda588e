"""Arithmetic of fixed latency between two streams."""

from amaranth import Module, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.credits import counter_nonzero
from ..control.delay import delay_flags
from ..sizes import ceil_div
from ..stream.fifo import Queue
from ..stream.signature import beats

__all__ = ["Pipeline", "UnaryPipeline"]


class Pipeline(wiring.Component):
    """Arithmetic of fixed latency between streams, which no stall reaches: room in the output queue
    is reserved before a beat enters.

    Takes a beat a cycle while ``o`` is ready. Latency: that of the arithmetic and
    :attr:`.Queue.latency`. A subclass has a stream ``o``, and a ``config`` with a ``target`` and
    ``pipeline``, the latency of the arithmetic in cycles.
    """

    def join(self, m: Module) -> tuple:
        """Join the operand streams: ``(valid, readys, words)``, ``readys`` for all of them."""
        raise NotImplementedError

    def arithmetic(self, m: Module, words) -> Value:
        """Add the arithmetic; return the result's bits, ``config.pipeline`` cycles later."""
        raise NotImplementedError

    def elaborate(self, platform):
        m = Module()
        valid, readys, words = self.join(m)
        result, latency = self.arithmetic(m, words), self.config.pipeline
        depth = 16 * ceil_div(latency + 7, 16)
        m.submodules.queue = queue = Queue(self.o.payload.shape(), depth, self.config.target)
        start = Signal()
        free = counter_nonzero(m, "free", queue.freed, start, depth, depth)
        m.d.comb += [
            start.eq(valid & free),
            *[ready.eq(start) for ready in readys],
            queue.write.eq(delay_flags(m, start, latency)),
            queue.data.as_value().eq(result),
        ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m


class UnaryPipeline(Pipeline):
    """A :class:`Pipeline` of one operand, lane by lane.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, out))
    """

    def __init__(self, lanes: int, element: Shape, out: Shape):
        super().__init__({"i": In(beats(lanes, element)), "o": Out(beats(lanes, out))})

    def join(self, m: Module):
        return self.i.valid, [self.i.ready], self.i.payload

"""Arithmetic of fixed latency between two streams."""

from amaranth import Cat, Module, Shape, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..control.credits import counter_nonzero
from ..control.delay import delay_flags
from ..sizes import ceil_div
from ..stream.fifo import CreditFifo, Queue
from ..stream.signature import beats
from ..target.base import Target
from ..target.resources import Resources

__all__ = [
    "OperandQueues",
    "PairPipeline",
    "PairTiming",
    "Pipeline",
    "PipelineTiming",
    "UnaryPipeline",
]

#: depth of an operand's queue: more beats than pass in the round trip of a credit
_WAITING = 16


class PipelineTiming:
    """The timing of a :class:`Pipeline` by its config, which has ``beats`` a frame and
    ``pipeline``, the latency of the arithmetic.
    """

    def cycles(self) -> int:
        """Cycles a frame: one a beat."""
        return self.beats

    @property
    def latency(self) -> int:
        """Cycles from the last operand in to the result out."""
        return self.pipeline + Queue.latency

    @property
    def queue_depth(self) -> int:
        """Results that the output queue holds: those under way, and the round trip of a credit."""
        return _WAITING * ceil_div(self.pipeline + 7, _WAITING)


class Pipeline(wiring.Component):
    """Arithmetic of fixed latency between streams, which no stall reaches: room in the output queue
    is reserved before a beat enters.

    Takes a beat a cycle while ``o`` is ready. Latency: that of the arithmetic and
    :attr:`.Queue.latency`. A subclass has a stream ``o``, and a ``config`` with a ``target`` and
    the timing of :class:`PipelineTiming`.
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
        result, depth = self.arithmetic(m, words), self.config.queue_depth
        m.submodules.queue = queue = Queue(self.o.payload.shape(), depth, self.config.target)
        start = Signal()
        free = counter_nonzero(m, "free", queue.freed, start, depth, depth)
        m.d.comb += [
            start.eq(valid & free),
            *[ready.eq(start) for ready in readys],
            queue.write.eq(delay_flags(m, start, self.config.pipeline)),
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


class OperandQueues:
    """The queues in which the operands of a :class:`PairPipeline` wait for each other: none where
    the family is short of registers.
    """

    @staticmethod
    def exist(target: Target) -> bool:
        return target.register_rich

    @staticmethod
    def latency(target: Target) -> int:
        """Cycles from operands taken to the arithmetic."""
        return CreditFifo.latency if OperandQueues.exist(target) else 0

    @staticmethod
    def arrival(target: Target) -> int:
        """Cycles from an operand in until it can be taken."""
        return CreditFifo.arrival if OperandQueues.exist(target) else 0

    @staticmethod
    def estimate(lanes: int, a: Shape, b: Shape, target: Target) -> Resources:
        shapes = [a, b] if OperandQueues.exist(target) else []
        return sum(
            (CreditFifo.estimate(shape.width * lanes, _WAITING, target) for shape in shapes),
            Resources(),
        )


class PairTiming(PipelineTiming):
    """The timing of a :class:`PairPipeline` by its config, which has a ``target`` too."""

    @property
    def latency(self) -> int:
        return OperandQueues.arrival(self.target) + super().latency


class PairPipeline(Pipeline):
    """A :class:`Pipeline` of two operands, lane by lane.

    The operands come from distant parts of the chip. Where the family allows it each waits in a
    :class:`.CreditFifo`, so that each handshake depends on local registers only; ``pipeline`` of
    the ``config`` counts :meth:`OperandQueues.latency`.

    Members
    -------
    a : In(beats(lanes, a))
    b : In(beats(lanes, b))
    o : Out(beats(lanes, out))
    """

    def __init__(self, lanes: int, a: Shape, b: Shape, out: Shape):
        super().__init__(
            {"a": In(beats(lanes, a)), "b": In(beats(lanes, b)), "o": Out(beats(lanes, out))}
        )

    def lane(self, m: Module, number: int, a: Value, b: Value) -> Value:
        """Add the arithmetic of one lane; return its result, ``config.pipeline`` cycles later."""
        raise NotImplementedError

    def arithmetic(self, m: Module, words) -> Value:
        lanes = range(self.config.lanes)
        return Cat([self.lane(m, n, *(word[n] for word in words)) for n in lanes])

    def join(self, m: Module):
        if not OperandQueues.exist(self.config.target):
            return (
                self.a.valid & self.b.valid,
                [self.a.ready, self.b.ready],
                [self.a.payload, self.b.payload],
            )
        a, b = (self._inlet(m, name, getattr(self, name)) for name in "ab")
        return (
            a.any & b.any,
            [a.take, b.take],
            [data.View(self.a.payload.shape(), a.word), data.View(self.b.payload.shape(), b.word)],
        )

    def _inlet(self, m, name, stream):
        word = stream.payload.as_value()
        m.submodules[f"inlet_{name}"] = inlet = CreditFifo(len(word), _WAITING, self.config.target)
        m.d.comb += [
            stream.ready.eq(
                counter_nonzero(m, f"space_{name}", inlet.freed, inlet.write, _WAITING, _WAITING)
            ),
            inlet.write.eq(stream.valid & stream.ready),
            inlet.data.eq(word),
        ]
        return inlet

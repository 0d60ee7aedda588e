"""Element by element: addition of two streams, and the fork that makes two of one."""

from dataclasses import dataclass

from amaranth import Cat, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .cost import Resources
from .count import some
from .delay import delay, delay_flags
from .fifo import Inlet, Queue
from .primitives import MultiplierConfig, SoftMultiplier
from .requantize import Narrower, Rounding
from .stream import beats
from .width import ceil_div

__all__ = ["AddConfig", "Add", "Fork", "Pipeline"]

#: beats of an operand that may wait: more than pass while one that was taken makes room for another
_WAITING = 16


@dataclass(frozen=True)
class AddConfig:
    """``clip((a * mult_a + b * mult_b + offset) >> shift)``, ``lanes`` channels a beat."""

    lanes: int
    a: Shape
    b: Shape
    out: Shape
    mult_a: int
    mult_b: int
    offset: int
    rounding: Rounding
    beats: int
    family: str = "generic"

    def cycles(self) -> int:
        """Cycles a frame: one a beat."""
        return self.beats

    @staticmethod
    def estimate(lanes: int, family: str) -> Resources:
        """Two constant multiplications and a rounding for each lane, and queues for the sums and
        the operands that wait.
        """
        queues = 3 if AddConfig.waits(family) else 1
        return (
            Resources(60, 40)
            + Resources(420, 300) * lanes
            + Queue.estimate(8 * lanes, family) * queues
        )

    @staticmethod
    def waits(family: str) -> bool:
        """Whether operands wait in queues of their own: not on iCE40, where chips are small and
        memories large.
        """
        return family != "ice40"


class Pipeline(wiring.Component):
    """Arithmetic of fixed latency between two streams; room for a result is reserved before it
    starts.

    Takes a beat a cycle while ``o`` is ready; latency: that of the arithmetic and two for the
    queue.
    """

    def join(self, m: Module) -> tuple:
        """The signal that operands are there, what takes them, and they: ``(valid, takes, words)``."""
        raise NotImplementedError

    def arithmetic(self, m: Module, words) -> tuple:
        """Add the arithmetic: returns the result's bits, and its latency after operands are taken."""
        raise NotImplementedError

    def elaborate(self, platform):
        m = Module()
        valid, takes, words = self.join(m)
        result, latency = self.arithmetic(m, words)
        depth = 16 * ceil_div(latency + 7, 16)
        m.submodules.queue = queue = Queue(len(result), depth)
        start = Signal()
        free = some(m, "free", queue.freed, start, depth, depth)
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


class Add(Pipeline):
    """``o = round(a * mult_a + b * mult_b + offset)``, beat by beat.

    Its operands come from far apart: each waits in an :class:`.Inlet`, so that what decides looks
    at its own registers, and no handshake waits for the other's, where the family has them wait.

    Members
    -------
    a : In(beats(lanes, config.a))
    b : In(beats(lanes, config.b))
    o : Out(beats(lanes, config.out))
    """

    def __init__(self, config: AddConfig):
        self.config = config
        super().__init__(
            {
                "a": In(beats(config.lanes, config.a)),
                "b": In(beats(config.lanes, config.b)),
                "o": Out(beats(config.lanes, config.out)),
            }
        )

    def join(self, m: Module):
        if not self.config.waits(self.config.family):
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
        m.submodules[f"inlet_{name}"] = inlet = Inlet(len(word), _WAITING, self.config.family)
        m.d.comb += [
            stream.ready.eq(some(m, f"space_{name}", inlet.freed, inlet.write, _WAITING, _WAITING)),
            inlet.write.eq(stream.valid & stream.ready),
            inlet.data.eq(word),
        ]
        return inlet

    def arithmetic(self, m: Module, words) -> tuple:
        c = self.config
        products = [
            MultiplierConfig(shape, unsigned(max(1, mult.bit_length())))
            for shape, mult in ((c.a, c.mult_a), (c.b, c.mult_b))
        ]
        width = 2 + max(max(p.p.width for p in products), abs(c.offset).bit_length() + 1)
        results = []
        for lane in range(c.lanes):
            terms = []
            for name, word, mult, config in zip(
                "ab", words, (c.mult_a, c.mult_b), products, strict=True
            ):
                multiply = SoftMultiplier(config)
                m.submodules[f"multiply_{name}_{lane}"] = multiply
                m.d.comb += [multiply.x.eq(word[lane]), multiply.w.eq(mult)]
                terms.append((multiply.p, multiply.latency))
            longest = max(latency for _, latency in terms)
            a, b = (delay(m, p, longest - latency) for p, latency in terms)
            both = Signal(signed(width), reset_less=True)
            scaled = Signal(signed(width), reset_less=True)
            m.d.sync += [both.eq(a + b), scaled.eq(both + c.offset)]
            m.submodules[f"narrow_{lane}"] = narrow = Narrower(scaled.shape(), c.out, c.rounding)
            m.d.comb += narrow.i.eq(scaled)
            results.append(narrow.o)
        waits = Inlet.latency if c.waits(c.family) else 0
        return Cat(results), waits + longest + 2 + Narrower.latency


class Fork(wiring.Component):
    """The same stream ``ways`` times; each taker takes when it likes, and all have each beat once.

    Takes a beat a cycle while all takers are ready; no latency.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, element)).array(ways)
    """

    def __init__(self, lanes: int, element: Shape, ways: int):
        self.ways = ways
        super().__init__(
            {"i": In(beats(lanes, element)), "o": Out(beats(lanes, element)).array(ways)}
        )

    def elaborate(self, platform):
        m = Module()
        had = Signal(self.ways)
        gone = Signal(self.ways)
        for n, o in enumerate(self.o):
            m.d.comb += [
                o.payload.eq(self.i.payload),
                o.valid.eq(self.i.valid & ~had[n]),
                gone[n].eq(had[n] | o.ready),
            ]
        m.d.comb += self.i.ready.eq(gone.all())
        with m.If(self.i.valid):
            m.d.sync += had.eq(Mux(self.i.ready, 0, gone))
        return m

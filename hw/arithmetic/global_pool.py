"""Pools over a whole map, which sum or compare the pixels as they come."""

from dataclasses import dataclass, field
from itertools import pairwise

from amaranth import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.credits import counter_nonzero
from ..control.delay import delay, delay_flags
from ..control.loops import Loops
from ..memory.ram import Ram, RamConfig
from ..sizes import at_least
from ..stream.fifo import Queue
from ..stream.signature import beats
from ..target.base import Target
from ..target.resources import Resources
from .pipeline import PipelineTiming
from .reduce import greater
from .rescale import RescaleConfig, rescaled

__all__ = ["GlobalPool", "GlobalPoolConfig"]


@dataclass(frozen=True)
class GlobalPoolConfig(PipelineTiming):
    """A frame of ``pixels`` pixels of ``words`` beats of ``lanes`` channels.

    ``rescale`` makes the mean from the sum of a channel, which is its ``element``; None: the
    largest of a channel's elements is the result.
    """

    lanes: int
    words: int
    pixels: int
    element: Shape
    out: Shape
    rescale: RescaleConfig | None = None
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "lanes", "words", "pixels")

    @property
    def beats(self) -> int:
        """Beats in, a frame."""
        return self.pixels * self.words

    @property
    def total(self) -> Shape:
        """What is held for each channel."""
        return self.rescale.element if self.rescale else self.element

    @property
    def ram(self) -> RamConfig:
        """The memory of totals, where they are in one."""
        return RamConfig(self.words, self.lanes * self.total.width, self.target)

    @property
    def in_ram(self) -> bool:
        """Whether a total that was written is found when its channel comes again."""
        return self.words >= self.ram.latency + 3

    @property
    def accumulating(self) -> int:
        """Cycles from a beat to its totals."""
        return self.ram.latency + 1 if self.in_ram else 1

    @property
    def pipeline(self) -> int:
        """Cycles from a beat to its result."""
        return self.accumulating + (self.rescale.pipeline if self.rescale else 0)

    @property
    def memory_bits(self) -> int:
        return self.words * self.lanes * self.total.width

    def resources(self) -> Resources:
        """An estimate of totals, adders, rescaling and the queue."""
        width = self.lanes * self.total.width
        stored = Resources(0, self.memory_bits)
        if self.in_ram:
            waiting = self.lanes * self.element.width * (self.accumulating - 1)
            stored = self.ram.resources() + Resources(0, width + waiting)
        queue = Queue.estimate(self.lanes * self.out.width, self.target, self.queue_depth)
        mean = self.rescale.arithmetic if self.rescale else Resources()
        return stored + mean + queue + Resources(60 + 2 * width, 40)


class GlobalPool(wiring.Component):
    """``o``: the mean or the largest element of each channel of a frame.

    Takes a beat a cycle, also while ``o`` is not ready, but for the last pixel, for whose results
    room in the output queue is reserved. A frame's results leave as its last pixel comes; latency
    from its beat in to the beat out: ``config.latency``.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, out))
    """

    def __init__(self, config: GlobalPoolConfig):
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.lanes, config.element)),
                "o": Out(beats(config.lanes, config.out)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        start = Signal()
        at = Loops(m, start, {"word": c.words, "pixel": c.pixels})
        last = at.last["pixel"]
        depth = c.queue_depth
        m.submodules.queue = queue = Queue(self.o.payload.shape(), depth, c.target)
        free = counter_nonzero(m, "free", queue.freed, start & last, depth, depth)
        first = Signal(init=1)
        with m.If(start & at.last["word"]):
            m.d.sync += first.eq(last)
        totals = (self._in_ram if c.in_ram else self._in_registers)(m, start, first, at)
        result = Cat(rescaled(m, c.rescale, totals) if c.rescale else totals)
        m.d.comb += [
            start.eq(self.i.valid & (free | ~last)),
            self.i.ready.eq(start),
            queue.write.eq(delay_flags(m, start & last, c.pipeline)),
            queue.data.as_value().eq(result),
        ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m

    def _in_registers(self, m: Module, start: Value, first: Value, at: Loops) -> list[Value]:
        """The totals with a beat, which goes around a ring of registers, a word a place."""
        found = []
        for lane in range(self.config.lanes):
            ring = [
                Signal(self.config.total, name=f"total_{lane}_{word}", reset_less=True)
                for word in range(self.config.words)
            ]
            with m.If(start):
                m.d.sync += [
                    ring[0].eq(self._total(self.i.payload[lane], first, ring[-1])),
                    *(later.eq(word) for word, later in pairwise(ring)),
                ]
            found.append(ring[0])
        return found

    def _in_ram(self, m: Module, start: Value, first: Value, at: Loops) -> list[Value]:
        """The totals with a beat, from a memory of words."""
        c = self.config
        m.submodules.store = store = Ram(c.ram)
        late, width, word = c.ram.latency, c.total.width, at.count["word"]
        begins, found = delay(m, first, late, name="first"), []
        for lane in range(c.lanes):
            held = store.data[lane * width : (lane + 1) * width]
            total = Signal(c.total, name=f"total_{lane}", reset_less=True)
            x = delay(m, self.i.payload[lane], late)
            m.d.sync += total.eq(
                self._total(x, begins, held.as_signed() if c.total.signed else held)
            )
            found.append(total)
        m.d.comb += [
            store.address.eq(word),
            store.write_address.eq(delay(m, word, c.accumulating)),
            store.write_data.eq(Cat(found)),
            store.write_enable.eq(delay_flags(m, start, c.accumulating)),
        ]
        return found

    def _total(self, x: Value, first: Value, held: Value) -> Value:
        """The total with an element ``x``; that of the pixels before is ``held``."""
        if self.config.rescale:
            return Mux(first, 0, held) + x
        return Mux(first | greater(x, held), x, held)

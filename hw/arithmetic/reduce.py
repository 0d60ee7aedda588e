"""Pooling arithmetic: the maximum or the sum of the elements under a window."""

from dataclasses import dataclass

from amaranth import Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.delay import delay, delay_flags
from ..sizes import at_least
from ..stream.signature import PushStream
from ..target.resources import Resources

__all__ = ["ReduceConfig", "Maximum", "Sum", "greater"]


@dataclass(frozen=True)
class ReduceConfig:
    """``taps`` words of ``lanes`` channels a cycle, ``folds`` cycles a result."""

    taps: int
    lanes: int
    folds: int
    element: Shape
    out: Shape

    def __post_init__(self):
        at_least(1, self, "taps", "lanes", "folds")

    @property
    def latency(self) -> int:
        """Cycles from a reduction's last word in to its result out: a register after each level of
        the tree, and the accumulator.
        """
        return ceil_log2(self.taps) + 1

    def resources(self) -> Resources:
        """An estimate of trees and accumulators."""
        width = self.lanes * self.out.width
        return Resources(2 * self.taps * width, (self.taps + 1) * width)


def greater(a: Value, b: Value) -> Value:
    """Whether ``a > b``, of one shape.

    Signed numbers keep their order as unsigned ones when the sign bit is flipped; comparing those
    is one carry chain and nothing more.
    """
    flip = 1 << (len(a) - 1) if a.shape().signed else 0
    return (a.as_unsigned() ^ flip) > (b.as_unsigned() ^ flip)


class _Reduce(wiring.Component):
    """A tree over the taps with a register at each level, then an accumulator for each lane.

    Takes a word a cycle; latency from the last word: ``config.latency``.

    Members
    -------
    i : In(PushStream(taps * lanes, element)), tap by tap
    o : Out(PushStream(lanes, out)), one beat for each reduction
    """

    def __init__(self, config: ReduceConfig):
        self.config = config
        super().__init__(
            {
                "i": In(PushStream(config.taps * config.lanes, config.element)),
                "o": Out(PushStream(config.lanes, config.out)),
            }
        )

    def combine(self, a, b):
        raise NotImplementedError

    @property
    def neutral(self) -> int:
        """The neutral element of :meth:`combine`."""
        raise NotImplementedError

    def elaborate(self, platform):
        m = Module()
        c = self.config
        levels = c.latency - 1
        valid = delay_flags(m, self.i.valid, levels)
        done = delay_flags(m, self.i.valid & self.i.last, levels)
        m.d.sync += self.o.valid.eq(done)
        m.d.comb += [self.o.first.eq(1), self.o.last.eq(1)]
        for lane in range(c.lanes):
            values = []
            for tap in range(c.taps):
                value = Signal(c.out, name=f"tap_{tap}_{lane}")
                m.d.comb += value.eq(self.i.payload[tap * c.lanes + lane])
                values.append(value)
            while len(values) > 1:
                pairs = [values[i : i + 2] for i in range(0, len(values), 2)]
                values = [delay(m, self._pair(m, *pair), 1) for pair in pairs]
            # neutral again after the last word of a reduction, instead of a mask at the next first
            held = Signal(c.out, name=f"held_{lane}", init=self.neutral)
            total = Signal(c.out, name=f"total_{lane}")
            m.d.comb += total.eq(self.combine(held, values[0]))
            with m.If(valid):
                m.d.sync += held.eq(total)
            with m.If(done):
                m.d.sync += held.eq(self.neutral)
            m.d.sync += self.o.payload[lane].eq(total)
        return m

    def _pair(self, m, a, b=None):
        if b is None:
            return a
        result = Signal(self.config.out)
        m.d.comb += result.eq(self.combine(a, b))
        return result


class Maximum(_Reduce):
    """The largest element of each channel."""

    @property
    def neutral(self) -> int:
        out = self.config.out
        return -(1 << (out.width - 1)) if out.signed else 0

    def combine(self, a, b):
        return Mux(greater(a, b), a, b)


class Sum(_Reduce):
    """The sum of each channel's elements."""

    neutral = 0

    def combine(self, a, b):
        return a + b

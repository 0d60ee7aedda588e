"""ArgMax: the index of the largest element of a frame."""

from dataclasses import dataclass
from typing import ClassVar

from amaranth import Module, Mux, Shape, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from ..sizes import at_least
from ..stream.signature import beats
from ..target.resources import Resources

__all__ = ["ArgMaxConfig", "ArgMax"]


@dataclass(frozen=True)
class ArgMaxConfig:
    """Over the ``count`` elements of a frame, one a beat."""

    count: int
    element: Shape

    #: cycles from a frame's last beat in to the index out
    latency: ClassVar[int] = 1

    def __post_init__(self):
        at_least(1, self, "count")

    @property
    def out(self) -> Shape:
        return unsigned(bits_for(self.count - 1))

    @staticmethod
    def estimate() -> Resources:
        """A comparison and two counters."""
        return Resources(100, 80)

    def cycles(self) -> int:
        """Cycles a frame: one a beat."""
        return self.count


class ArgMax(wiring.Component):
    """Index of the largest of ``count`` elements, the first of equals.

    Takes a beat a cycle while ``o`` is ready; latency: ``config.latency``.

    Members
    -------
    i : In(beats(1, element))
    o : Out(beats(1, out))
    """

    def __init__(self, config: ArgMaxConfig):
        self.config = config
        super().__init__({"i": In(beats(1, config.element)), "o": Out(beats(1, config.out))})

    def elaborate(self, platform):
        m = Module()
        c = self.config
        index, best = Signal(range(max(2, c.count))), Signal(range(max(2, c.count)))
        largest, wins, winner = Signal(c.element), Signal(), Signal.like(best)
        last = index == c.count - 1
        m.d.comb += [
            wins.eq((index == 0) | (self.i.payload[0] > largest)),
            winner.eq(Mux(wins, index, best)),
            self.i.ready.eq(~last | ~self.o.valid | self.o.ready),
        ]
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [index.eq(Mux(last, 0, index + 1)), best.eq(winner)]
            with m.If(wins):
                m.d.sync += largest.eq(self.i.payload[0])
            with m.If(last):
                m.d.sync += [self.o.valid.eq(1), self.o.payload[0].eq(winner)]
        return m

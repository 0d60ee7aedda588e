"""A state between the steps of a frame: a stream that comes back a step later."""

from dataclasses import dataclass
from typing import ClassVar

from amaranth import Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..sizes import at_least
from ..target.base import Target
from ..target.resources import Resources
from .fifo import Fifo
from .signature import beats

__all__ = ["State", "StateConfig"]


#: bits of a count of frames in the network, each of which takes some of its memory
_FRAMES = 16


@dataclass(frozen=True)
class StateConfig:
    """``steps`` a frame, ``beats`` of ``lanes`` elements a step; ``first``: the integer that every
    element has in a frame's first step. Two steps begin at least ``pace`` cycles apart.
    """

    lanes: int
    element: Shape
    beats: int
    steps: int
    first: int
    pace: int
    target: Target

    #: cycles from the last beat of a step in to the first beat of the next step out
    latency: ClassVar[int] = Fifo.latency

    def __post_init__(self):
        at_least(1, self, "lanes", "beats", "steps", "pace")

    @property
    def width(self) -> int:
        """Bits of a beat."""
        return self.lanes * self.element.width

    def cycles(self) -> int:
        """Cycles a frame: ``steps * max(beats, pace)``."""
        return self.steps * max(self.beats, self.pace)

    def resources(self) -> Resources:
        """An estimate."""
        counters = (self.beats * self.steps).bit_length() * 4 + self.pace.bit_length() * 2
        return Fifo.estimate(self.beats, self.width, self.target) + Resources(
            40 + counters + self.width, 20 + counters
        )


class State(wiring.Component):
    """Gives a step of ``first``, then each step that comes in but a frame's last, which it drops;
    then the next frame. It holds a whole step, so that its input never waits for its output.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, element))
    begun : In(1), another frame has begun to come into the network: its first step may leave
    """

    def __init__(self, config: StateConfig):
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.lanes, config.element)),
                "o": Out(beats(config.lanes, config.element)),
                "begun": In(1, init=1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.held = held = Fifo(c.lanes, c.element, c.beats, c.target)
        takes, gives = Signal(), Signal()
        m.d.comb += [takes.eq(self.i.valid & self.i.ready), gives.eq(self.o.valid & self.o.ready)]
        into, _ = _place(m, c, takes, "in")
        out_of, begins = _place(m, c, gives, "out")

        drops = Signal()
        m.d.comb += [
            drops.eq(into == c.steps - 1),
            held.i.payload.eq(self.i.payload),
            held.i.valid.eq(self.i.valid & ~drops),
            self.i.ready.eq(held.i.ready | drops),
        ]
        left, may, first, due = Signal(range(c.pace)), Signal(), Signal(), Signal(_FRAMES)
        starts = Signal()
        m.d.comb += starts.eq(gives & begins & first)
        m.d.sync += due.eq(due + self.begun - starts)
        value = c.first & ((1 << c.element.width) - 1)
        whole = sum(value << (n * c.element.width) for n in range(c.lanes))
        m.d.comb += [
            may.eq(~begins | ((left == 0) & (~first | (due != 0)))),
            first.eq(out_of == 0),
            self.o.valid.eq(may & (first | held.o.valid)),
            self.o.payload.as_value().eq(Mux(first, whole, held.o.payload.as_value())),
            held.o.ready.eq(self.o.ready & may & ~first),
        ]
        with m.If(gives & begins):
            m.d.sync += left.eq(c.pace - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return m


def _place(m, config, moves, name):
    """The step that a stream is in, and whether its next beat is the first of one."""
    step, beat = Signal(range(config.steps), name=f"{name}_step"), Signal(range(config.beats))
    last = beat == config.beats - 1
    with m.If(moves):
        m.d.sync += beat.eq(Mux(last, 0, beat + 1))
        with m.If(last):
            m.d.sync += step.eq(Mux(step == config.steps - 1, 0, step + 1))
    return step, beat == 0

"""A state between the steps of a frame, or between frames: a stream that comes back later."""

from dataclasses import dataclass
from typing import ClassVar

from amaranth import Array, Const, Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..sizes import at_least, ceil_div
from ..target.base import Target
from ..target.resources import Resources
from .fifo import Fifo
from .signature import beats

__all__ = ["State", "StateConfig"]


#: bits of a count of frames in the network, each of which takes some of its memory
_FRAMES = 16


@dataclass(frozen=True)
class StateConfig:
    """``steps`` a frame, ``beats`` of ``lanes`` elements a step; ``first``: the integers of a
    frame's first step in the order of the stream, or the one of all its elements; None: a stream
    gives it. Two steps begin at least ``pace`` cycles apart. None for ``steps``: a step is a frame,
    and only the first one after a reset has the integers ``first``.
    """

    lanes: int
    element: Shape
    beats: int
    steps: int | None
    first: tuple[int, ...] | None
    pace: int
    target: Target

    #: cycles from the last beat of a step in to the first beat of the next step out
    latency: ClassVar[int] = Fifo.latency

    def __post_init__(self):
        at_least(1, self, "lanes", "beats", "pace")
        if self.steps is not None:
            at_least(1, self, "steps")
        given = self.first is None and self.steps is not None
        assert given or len(self.first) in (1, self.beats * self.lanes), self.first

    @property
    def width(self) -> int:
        """Bits of a beat."""
        return self.lanes * self.element.width

    def cycles(self) -> int:
        """Cycles a frame: ``steps * max(beats, pace)``."""
        return (self.steps or 1) * max(self.beats, self.pace)

    @property
    def depth(self) -> int:
        """Beats that it holds: a step, so that its input never waits for its output; a frame that
        is kept may wait beside the one before it.
        """
        return self.beats if self.steps else 2 * self.beats

    @property
    def words(self) -> tuple[int, ...]:
        """The beats of the first step as unsigned numbers; one if all are alike, or come from a
        stream.
        """
        mask, each = (1 << self.element.width) - 1, self.first or (0,)
        if len(each) == 1:
            each = each * self.lanes
        elements = [
            (value & mask) << (n % self.lanes * self.element.width) for n, value in enumerate(each)
        ]
        found = tuple(sum(elements[n : n + self.lanes]) for n in range(0, len(each), self.lanes))
        return found if len(set(found)) > 1 else found[:1]

    def resources(self) -> Resources:
        """An estimate."""
        steps = self.beats * (self.steps or 1)
        counters = steps.bit_length() * 4 + self.pace.bit_length() * 2
        table = ceil_div(len(self.words) * self.width, 8) if len(self.words) > 1 else 0
        return Fifo.estimate(self.depth, self.width, self.target) + Resources(
            40 + counters + self.width + table, 20 + counters
        )


class State(wiring.Component):
    """Gives a step of ``first``, then each step that comes in but a frame's last, which it drops;
    then the next frame. Without ``steps`` it gives a step of ``first`` once, and drops none. It
    holds a whole step, so that its input never waits for its output. The latency from the stream
    ``first`` to the output is 0.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, element))
    first : In(beats(lanes, element)), a step a frame; where the config has no integers for it
    begun : In(1), another frame has begun to come into the network: its first step may leave;
        where the config has integers for it
    """

    def __init__(self, config: StateConfig):
        self.config = config
        stream = beats(config.lanes, config.element)
        start = {"first": In(stream)} if config.first is None else {"begun": In(1, init=1)}
        super().__init__({"i": In(stream), "o": Out(stream), **start})

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.held = held = Fifo(c.lanes, c.element, c.depth, c.target)
        takes, gives = Signal(), Signal()
        m.d.comb += [takes.eq(self.i.valid & self.i.ready), gives.eq(self.o.valid & self.o.ready)]
        _, drops, _ = _place(m, c, takes, "in")
        first, _, beat = _place(m, c, gives, "out")
        begins = beat == 0
        m.d.comb += [
            held.i.payload.eq(self.i.payload),
            held.i.valid.eq(self.i.valid & ~drops),
            self.i.ready.eq(held.i.ready | drops),
        ]
        left, may = Signal(range(c.pace)), Signal()
        m.d.comb += may.eq(~begins | (left == 0))
        if c.first is None:
            there, whole = self.first.valid, self.first.payload.as_value()
            m.d.comb += self.first.ready.eq(self.o.ready & may & first)
        else:
            there, whole = self._due(m, gives & begins & first) | ~begins, self._word(beat)
        m.d.comb += [
            self.o.valid.eq(may & Mux(first, there, held.o.valid)),
            self.o.payload.as_value().eq(Mux(first, whole, held.o.payload.as_value())),
            held.o.ready.eq(self.o.ready & may & ~first),
        ]
        with m.If(gives & begins):
            m.d.sync += left.eq(c.pace - 1)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return m

    def _due(self, m, starts):
        """Whether a frame has begun of which the first step has not."""
        due = Signal(_FRAMES)
        m.d.sync += due.eq(due + self.begun - starts)
        return due != 0

    def _word(self, beat):
        words = Array(Const(word, self.config.width) for word in self.config.words)
        return words[beat] if len(words) > 1 else words[0]


def _place(m, config, moves, name):
    """Whether a stream is in the first step, and in one that is dropped; its beat in the step."""
    beat = Signal(range(config.beats), name=f"{name}_beat")
    last = beat == config.beats - 1
    if config.steps is None:
        first = Signal(init=1, name=f"{name}_first")
        with m.If(moves):
            m.d.sync += beat.eq(Mux(last, 0, beat + 1))
            with m.If(last):
                m.d.sync += first.eq(0)
        return first, Const(0), beat
    step = Signal(range(config.steps), name=f"{name}_step")
    with m.If(moves):
        m.d.sync += beat.eq(Mux(last, 0, beat + 1))
        with m.If(last):
            m.d.sync += step.eq(Mux(step == config.steps - 1, 0, step + 1))
    return step == 0, step == config.steps - 1, beat

"""Conversion of the number of channels in a beat."""

from dataclasses import dataclass
from math import gcd

from amaranth import Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.loops import Loops
from ..sizes import at_least, ceil_div
from ..target.resources import Resources
from .signature import beats

__all__ = ["WidthConfig", "WidthConverter", "Widen", "Narrow"]


@dataclass(frozen=True)
class WidthConfig:
    """Pixels of ``channels`` elements, ``lanes_in`` a beat in and ``lanes_out`` a beat out."""

    channels: int
    lanes_in: int
    lanes_out: int
    element: Shape

    def __post_init__(self):
        at_least(1, self, "channels", "lanes_in", "lanes_out")

    @property
    def common(self) -> int:
        """Lanes between the narrowing and the widening half, if neither width divides the other."""
        return gcd(self.lanes_in, self.lanes_out)

    def cycles(self, pixels: int) -> int:
        """Cycles for ``pixels`` pixels: the narrowest point takes a beat a cycle."""
        return pixels * ceil_div(self.channels, self.common)

    def resources(self) -> Resources:
        """An estimate of the words held."""
        if self.lanes_in == self.lanes_out:
            return Resources()
        if self.lanes_in < self.lanes_out:
            return Resources(20, 20 + (self.lanes_out - self.lanes_in) * self.element.width)
        width = self.lanes_in * self.element.width
        return Resources(20 + width, 16 + width)


def _ring(m: Module, go: Value, slots: int, steps: int) -> tuple[Value, Value]:
    """A one-hot register of a beat's ``slots``, two or more, which steps with ``go``; and whether
    the slot is the last one, or the last of a pixel's ``steps``: then the first slot follows.
    """
    slot, ends = Signal(slots, init=1), Signal(init=steps == 1)
    following = slot[-2] & ~ends
    if steps % slots:
        following |= Loops(m, go, {"step": steps}).nearly["step"]
    with m.If(go):
        m.d.sync += [slot.eq(Mux(ends, 1, slot.rotate_left(1))), ends.eq(following)]
    return slot, ends


class Widen(wiring.Component):
    """Gather ``lanes_out / lanes_in`` beats into one; the last beat of a pixel may be partial.

    Takes a beat a cycle while ``o`` is ready. The last beat gathered passes combinationally: the
    whole leaves in the cycle in which it arrives.

    Members
    -------
    i : In(beats(lanes_in, element))
    o : Out(beats(lanes_out, element))
    """

    def __init__(self, config: WidthConfig):
        if config.lanes_out % config.lanes_in:
            raise ValueError(
                f"Widen: lanes_out={config.lanes_out}, but it must be a multiple of "
                f"lanes_in={config.lanes_in}"
            )
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.lanes_in, config.element)),
                "o": Out(beats(config.lanes_out, config.element)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        ratio, steps = c.lanes_out // c.lanes_in, ceil_div(c.channels, c.lanes_in)
        beat = self.i.payload.as_value()
        go = Signal()
        slot, ends = _ring(m, go, ratio, steps)
        m.d.comb += [
            self.o.valid.eq(self.i.valid & ends),
            self.i.ready.eq(~ends | self.o.ready),
            go.eq(self.i.valid & self.i.ready),
        ]
        parts = []
        for k in range(ratio - 1):
            part = Signal(len(beat), name=f"part_{k}", reset_less=True)
            # the value before the beat arrives does not matter
            with m.If(slot[k]):
                m.d.sync += part.eq(beat)
            ends_here = k == (steps - 1) % ratio
            parts.append(Mux(slot[k], beat, part) if ends_here else part)
        m.d.comb += self.o.payload.as_value().eq(Cat(parts, beat))
        return m


class Narrow(wiring.Component):
    """Split a beat into ``lanes_in / lanes_out`` beats, without those that hold no channel.

    Sends a beat a cycle while ``i`` is valid. Latency: one cycle.

    Members
    -------
    i : In(beats(lanes_in, element))
    o : Out(beats(lanes_out, element))
    """

    def __init__(self, config: WidthConfig):
        if config.lanes_in % config.lanes_out:
            raise ValueError(
                f"Narrow: lanes_in={config.lanes_in}, but it must be a multiple of "
                f"lanes_out={config.lanes_out}"
            )
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.lanes_in, config.element)),
                "o": Out(beats(config.lanes_out, config.element)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        ratio, steps = c.lanes_in // c.lanes_out, ceil_div(c.channels, c.lanes_out)
        part = c.lanes_out * c.element.width
        held = Signal(ratio * part, reset_less=True)
        go = self.o.valid & self.o.ready
        ends = (
            _ring(m, go, ratio, steps)[1]
            if steps % ratio
            else Loops(m, go, {"slot": ratio}).last["slot"]
        )
        m.d.comb += [
            self.i.ready.eq(~self.o.valid | (self.o.ready & ends)),
            self.o.payload.as_value().eq(held[:part]),
        ]
        with m.If(go):
            m.d.sync += [
                held.eq(held >> part),
                self.o.valid.eq(~ends),
            ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [held.eq(self.i.payload.as_value()), self.o.valid.eq(1)]
        return m


class WidthConverter(wiring.Component):
    """Beats of ``lanes_in`` channels to beats of ``lanes_out``, pixel by pixel.

    Where neither width divides the other, the beats are split to their greatest common divisor and
    gathered again.

    Members
    -------
    i : In(beats(lanes_in, element))
    o : Out(beats(lanes_out, element))
    """

    def __init__(self, config: WidthConfig):
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.lanes_in, config.element)),
                "o": Out(beats(config.lanes_out, config.element)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        flow = wiring.flipped(self.i)
        if c.lanes_in != c.common:
            m.submodules.narrow = narrow = Narrow(
                WidthConfig(c.channels, c.lanes_in, c.common, c.element)
            )
            wiring.connect(m, flow, narrow.i)
            flow = narrow.o
        if c.lanes_out != c.common:
            m.submodules.widen = widen = Widen(
                WidthConfig(c.channels, c.common, c.lanes_out, c.element)
            )
            wiring.connect(m, flow, widen.i)
            flow = widen.o
        wiring.connect(m, flow, wiring.flipped(self.o))
        return m

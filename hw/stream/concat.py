"""Concatenation of the channels of several streams."""

from dataclasses import dataclass
from typing import ClassVar

from amaranth import Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..sizes import at_least
from ..target.resources import Resources
from .signature import beats

__all__ = ["ConcatConfig", "Concat"]


@dataclass(frozen=True)
class ConcatConfig:
    """``channels`` of each input, ``lanes`` a beat; ``lanes`` divides all of them but the last."""

    channels: tuple[int, ...]
    lanes: int
    element: Shape
    pixels: int

    #: cycles from a beat in to the beat out
    latency: ClassVar[int] = 0

    def __post_init__(self):
        at_least(1, self, "channels", "lanes", "pixels")
        if any(channels % self.lanes for channels in self.channels[:-1]):
            raise ValueError(
                f"ConcatConfig: lanes={self.lanes}, but it must divide the channels of all inputs "
                f"but the last, of {self.channels}"
            )

    @property
    def beats(self) -> tuple[int, ...]:
        """Beats of a pixel on each input."""
        return tuple(-(-channels // self.lanes) for channels in self.channels)

    @staticmethod
    def estimate(inputs: int, lanes: int, element: Shape) -> Resources:
        """A multiplexer of the inputs."""
        bits = element.width
        return Resources(60 + bits * inputs * lanes, 40 + (bits + 2) * lanes)

    def cycles(self) -> int:
        """Cycles a frame: one a beat."""
        return self.pixels * sum(self.beats)


class Concat(wiring.Component):
    """For each pixel the beats of the first input, then of the second, and so on. No latency.

    Members
    -------
    i : In(beats(lanes, element)).array(inputs)
    o : Out(beats(lanes, element))
    """

    def __init__(self, config: ConcatConfig):
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.lanes, config.element)).array(len(config.channels)),
                "o": Out(beats(config.lanes, config.element)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        turn, beat = Signal(range(len(c.channels))), Signal(range(max(c.beats) + 1))
        with m.Switch(turn):
            for n, i in enumerate(self.i):
                with m.Case(n):
                    last = beat == c.beats[n] - 1
                    m.d.comb += [
                        self.o.payload.eq(i.payload),
                        self.o.valid.eq(i.valid),
                        i.ready.eq(self.o.ready),
                    ]
                    with m.If(i.valid & self.o.ready):
                        m.d.sync += beat.eq(Mux(last, 0, beat + 1))
                        with m.If(last):
                            m.d.sync += turn.eq((n + 1) % len(c.channels))
        return m

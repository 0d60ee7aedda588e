"""Register slices, which register all signals of a handshake."""

from amaranth import Cat, Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.delay import KEEP, fanout_slices
from ..target.base import Target
from ..target.resources import Resources
from .signature import beats

__all__ = ["RegisterSlice"]


class RegisterSlice(wiring.Component):
    """A skid buffer of two beats: payload, valid and ready are registers.

    Takes a beat a cycle; latency: one cycle. Where the family is short of registers it holds one
    beat, and ``ready`` is combinational.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, element))
    """

    latency = 1

    def __init__(self, lanes: int, element: Shape, target: Target):
        self.target = target
        super().__init__({"i": In(beats(lanes, element)), "o": Out(beats(lanes, element))})

    @staticmethod
    def estimate(width: int, target: Target) -> Resources:
        """Of ``width`` bits."""
        if not target.register_rich:
            return Resources(width + 2, width + 1)
        flags = 1 + len(list(fanout_slices(width)))
        return Resources(width + 3 * flags, 2 * width + 3 * flags)

    def elaborate(self, platform):
        m = Module()
        width = len(self.i.payload.as_value())
        if not self.target.register_rich:
            m.d.comb += self.i.ready.eq(self.o.ready | ~self.o.valid)
            with m.If(self.i.ready):
                m.d.sync += [self.o.valid.eq(self.i.valid), self.o.payload.eq(self.i.payload)]
            return m
        ready, valid, _ = self._flags(m)
        m.d.comb += [self.i.ready.eq(ready), self.o.valid.eq(valid)]
        words = []
        for bits in fanout_slices(width):
            ready, _, following = self._flags(m)
            # the enable of ``first``, a register of its own so that no LUT is in front of the
            # others; inverted, because yosys would merge both resets in logic otherwise
            vacant = Signal(init=1, attrs=KEEP)
            m.d.sync += vacant.eq(~following)
            data = self.i.payload.as_value()[bits]
            first, second = Signal(len(data), reset_less=True), Signal(len(data), reset_less=True)
            with m.If(ready):
                m.d.sync += second.eq(data)
            with m.If(self.o.ready | vacant):
                m.d.sync += first.eq(Mux(ready, data, second))
            words.append(first)
        m.d.comb += self.o.payload.as_value().eq(Cat(words))
        return m

    def _flags(self, m):
        """Registers: ``second`` is free, ``first`` is occupied; and the next value of the latter.

        The neighbours have copies of their own, and so has each slice of a wide word, near what
        they drive. Each is one LUT; with ``m.If``, synthesis would use enables and resets.
        """
        ready, valid = Signal(init=1, attrs=KEEP), Signal(attrs=KEEP)
        held = valid & ~self.o.ready
        following = held | self.i.valid | ~ready
        m.d.sync += [valid.eq(following), ready.eq(~held | (ready & ~self.i.valid))]
        return ready, valid, following

"""The fork, which makes several streams of one."""

from amaranth import Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .signature import beats

__all__ = ["Fork"]


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

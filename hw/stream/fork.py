"""The fork: one stream to several sinks."""

from amaranth import Module, Mux, Shape, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .signature import beats

__all__ = ["Fork"]


class Fork(wiring.Component):
    """Send each beat of a stream once to each of ``ways`` outputs, which may take it in any cycle.

    Takes a beat a cycle while all outputs are ready. No latency.

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
        sent = Signal(self.ways)
        done = Signal(self.ways)
        for n, o in enumerate(self.o):
            m.d.comb += [
                o.payload.eq(self.i.payload),
                o.valid.eq(self.i.valid & ~sent[n]),
                done[n].eq(sent[n] | o.ready),
            ]
        m.d.comb += self.i.ready.eq(done.all())
        with m.If(self.i.valid):
            m.d.sync += sent.eq(Mux(self.i.ready, 0, done))
        return m

"""The whole network: stages joined by streams, AXI4-Stream on both ends."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from amaranth import (
    ClockDomain,
    ClockSignal,
    DomainRenamer,
    Elaboratable,
    Module,
    Mux,
    Shape,
    Signal,
)
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .sizes import ceil_div
from .stream.signature import beats

__all__ = ["AxiStreamConfig", "Connection", "Accelerator"]


@dataclass(frozen=True)
class AxiStreamConfig:
    """One end of the accelerator: ``lanes`` elements a beat, ``beats`` beats a frame."""

    lanes: int
    element: Shape
    beats: int

    @property
    def width(self) -> int:
        """Bits of a beat's elements."""
        return self.lanes * self.element.width

    @property
    def tdata_width(self) -> int:
        """Bits of the AXI4-Stream bus: whole bytes."""
        return 8 * ceil_div(self.width, 8)


@dataclass(frozen=True)
class Connection:
    """A stream from a stage's port to another's; a port is ``(stage, member)`` or ``(stage, member,
    index)``.

    The stage name "" stands for the accelerator's own ends.
    """

    source: tuple
    sink: tuple


class Accelerator(wiring.Component):
    """Stages, each a component with stream ports, wired as ``connections`` say.

    Element j of a beat is at bits ``j * width`` of ``tdata``; ``tlast`` marks the last beat of a
    frame on the way out and is not looked at on the way in. A reset of a cycle or more forgets all
    frames; until it has passed every stage neither end moves.

    Members
    -------
    s_axis_* : the network's input, AXI4-Stream (AMBA IHI 0051A)
    m_axis_* : the network's output
    """

    def __init__(
        self,
        stages: Mapping[str, Elaboratable],
        connections: Sequence[Connection],
        source: AxiStreamConfig,
        sink: AxiStreamConfig,
        hold: int = 0,
    ):
        """``hold``: cycles until a stage that starts nothing more has drained."""
        self.stages = stages
        self.hold = hold
        self.connections = connections
        self.source = source
        self.sink = sink
        super().__init__(
            {
                "s_axis_tdata": In(source.tdata_width),
                "s_axis_tvalid": In(1),
                "s_axis_tready": Out(1),
                "s_axis_tlast": In(1),
                "m_axis_tdata": Out(sink.tdata_width),
                "m_axis_tvalid": Out(1),
                "m_axis_tready": In(1),
                "m_axis_tlast": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        # The reset is held, then its end walks along the stages, a register each; the ends open
        # when it has passed.
        walk = len(self.stages) + 1
        left = Signal(range(self.hold + walk + 1), init=self.hold + walk)
        running, resetting = Signal(), Signal(init=1)
        m.d.sync += [running.eq(left == 0), resetting.eq(left > walk)]
        with m.If(left != 0):
            m.d.sync += left.eq(left - 1)
        for name, stage in self.stages.items():
            domain = ClockDomain(name, local=True)
            m.domains += domain
            local = Signal(init=1, reset_less=True, name=f"{name}_reset")
            m.d.sync += local.eq(resetting)
            m.d.comb += [domain.clk.eq(ClockSignal()), domain.rst.eq(local)]
            m.submodules[name] = DomainRenamer(name)(stage)
            resetting = local
        source = beats(self.source.lanes, self.source.element).create(path=("source",))
        sink = beats(self.sink.lanes, self.sink.element).flip().create(path=("sink",))
        last = Signal(range(max(2, self.sink.beats)))
        m.d.comb += [
            source.valid.eq(self.s_axis_tvalid & running),
            source.payload.as_value().eq(self.s_axis_tdata),
            self.s_axis_tready.eq(source.ready & running),
            self.m_axis_tvalid.eq(sink.valid & running),
            self.m_axis_tdata.eq(sink.payload.as_value()),
            self.m_axis_tlast.eq(last == self.sink.beats - 1),
            sink.ready.eq(self.m_axis_tready & running),
        ]
        with m.If(self.m_axis_tvalid & self.m_axis_tready):
            m.d.sync += last.eq(Mux(self.m_axis_tlast, 0, last + 1))

        def port(end, own):
            if not end[0]:
                return own
            member = getattr(self.stages[end[0]], end[1])
            return member[end[2]] if len(end) > 2 else member

        for connection in self.connections:
            a, b = port(connection.source, source), port(connection.sink, sink)
            m.d.comb += [
                b.valid.eq(a.valid),
                b.payload.as_value().eq(a.payload.as_value()),
                a.ready.eq(b.ready),
            ]
        return m

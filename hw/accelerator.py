"""The whole network: stages joined by streams, an AXI4-Stream port for each input and output."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

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

from .sizes import at_least, ceil_div
from .stream.signature import beats
from .stream.state import State

__all__ = ["AxiStreamConfig", "Connection", "Accelerator", "port_prefixes"]

#: characters of a port's name that its prefix keeps
_LONGEST_NAME = 48


@dataclass(frozen=True)
class AxiStreamConfig:
    """One port of the accelerator: ``lanes`` elements a beat, ``beats`` beats a frame."""

    lanes: int
    element: Shape
    beats: int

    def __post_init__(self):
        at_least(1, self, "lanes", "beats")

    @property
    def width(self) -> int:
        """Bits of a beat's elements."""
        return self.lanes * self.element.width

    @property
    def tdata_width(self) -> int:
        """Bits of the AXI4-Stream bus: whole bytes."""
        return 8 * ceil_div(self.width, 8)


def port_prefixes(names: Iterable[str], base: str) -> dict[str, str]:
    """The prefix of each port's signals: ``base`` for a lone port, else ``base_NAME``.

    NAME is the port's name with ``_`` for everything that an identifier can not hold, and a number
    behind it where two names would be one, letters of either case counted as the same.
    """
    names = tuple(names)
    if len(names) == 1:
        return {names[0]: base}
    prefixes: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = prefix = f"{base}_{re.sub(r'[^A-Za-z0-9_]', '_', name)[:_LONGEST_NAME]}"
        number = 2
        while prefix.lower() in taken:
            prefix, number = f"{plain}_{number}", number + 1
        taken.add(prefix.lower())
        prefixes[name] = prefix
    return prefixes


@dataclass(frozen=True)
class Connection:
    """A stream from a stage's port to another's; a port is ``(stage, member)`` or ``(stage, member,
    index)``.

    The stage name "" stands for the accelerator itself, whose members are called as its ports.
    """

    source: tuple
    sink: tuple


class Accelerator(wiring.Component):
    """Stages, each a component with stream ports, wired as ``connections`` say.

    Element j of a beat is at bits ``j * width`` of ``tdata``; ``tlast`` marks the last beat of a
    frame at an output and is ignored at an input. Every port transfers on its own: none waits for
    another except where the stages need it. A reset of a cycle or more discards all frames; until
    it has passed every stage no port transfers.

    Members
    -------
    s_axis_* : the network's only input, AXI4-Stream (AMBA IHI 0051A); of several inputs each has
        its own ``s_axis_NAME_*`` (:func:`port_prefixes`)
    m_axis_* : the network's only output; of several ``m_axis_NAME_*``
    """

    def __init__(
        self,
        stages: Mapping[str, Elaboratable],
        connections: Sequence[Connection],
        sources: Mapping[str, AxiStreamConfig],
        sinks: Mapping[str, AxiStreamConfig],
        hold: int = 0,
    ):
        """``sources``, ``sinks``: the network's inputs and outputs by name; ``hold``: cycles until
        a stage that starts nothing more has drained.
        """
        self.stages = stages
        self.hold = hold
        self.connections = connections
        self.sources = sources
        self.sinks = sinks
        self.source_prefixes = port_prefixes(sources, "s_axis")
        self.sink_prefixes = port_prefixes(sinks, "m_axis")
        members = {}
        for name, prefix in self.source_prefixes.items():
            members |= _members(prefix, sources[name], In)
        for name, prefix in self.sink_prefixes.items():
            members |= _members(prefix, sinks[name], Out)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        # The reset is held, then its end walks along the stages, a register each; the ports open
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
        sources = {name: self._source(m, name, running) for name in self.sources}
        sinks = {name: self._sink(m, name, running) for name in self.sinks}
        states = [
            stage
            for stage in self.stages.values()
            if isinstance(stage, State) and stage.config.first is not None
        ]
        if states:
            begun = self._begun(m, next(iter(self.sources)))
            m.d.comb += [stage.begun.eq(begun) for stage in states]
        for connection in self.connections:
            a, b = self._port(connection.source, sources), self._port(connection.sink, sinks)
            wiring.connect(m, a, b)
        return m

    def _source(self, m, name, running):
        """The stream that an input gives while ``running``."""
        config, axis = self.sources[name], self._signals(self.source_prefixes[name])
        source = beats(config.lanes, config.element).create(path=(f"{axis.prefix}_source",))
        m.d.comb += [
            source.valid.eq(axis.tvalid & running),
            source.payload.as_value().eq(axis.tdata),
            axis.tready.eq(source.ready & running),
        ]
        return source

    def _begun(self, m, name):
        """Whether a frame has begun to come in at an input, a cycle later."""
        config, axis = self.sources[name], self._signals(self.source_prefixes[name])
        place, begun = Signal(range(max(2, config.beats))), Signal()
        moves = axis.tvalid & axis.tready
        m.d.sync += begun.eq(moves & (place == 0))
        with m.If(moves):
            m.d.sync += place.eq(Mux(place == config.beats - 1, 0, place + 1))
        return begun

    def _sink(self, m, name, running):
        """The stream that an output takes while ``running``, and its count of beats."""
        config, axis = self.sinks[name], self._signals(self.sink_prefixes[name])
        sink = beats(config.lanes, config.element).flip().create(path=(f"{axis.prefix}_sink",))
        last = Signal(range(max(2, config.beats)), name=f"{axis.prefix}_beat")
        m.d.comb += [
            axis.tvalid.eq(sink.valid & running),
            axis.tdata.eq(sink.payload.as_value()),
            axis.tlast.eq(last == config.beats - 1),
            sink.ready.eq(axis.tready & running),
        ]
        with m.If(axis.tvalid & axis.tready):
            m.d.sync += last.eq(Mux(axis.tlast, 0, last + 1))
        return sink

    def _signals(self, prefix):
        return _Signals(
            prefix, *(getattr(self, f"{prefix}_{name}") for name in _Signals._fields[1:])
        )

    def _port(self, end, own):
        if not end[0]:
            return own[end[1]]
        member = getattr(self.stages[end[0]], end[1])
        return member[end[2]] if len(end) > 2 else member


class _Signals(NamedTuple):
    """The signals of one AXI4-Stream port."""

    prefix: str
    tdata: Signal
    tvalid: Signal
    tready: Signal
    tlast: Signal


def _members(prefix, config, flow):
    """The signals of one port; ``flow`` is that of its data."""
    back = Out if flow is In else In
    return {
        f"{prefix}_tdata": flow(config.tdata_width),
        f"{prefix}_tvalid": flow(1),
        f"{prefix}_tready": back(1),
        f"{prefix}_tlast": flow(1),
    }

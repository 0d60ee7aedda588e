"""The link's fast half: sends whole frames to the accelerator, a beat a cycle, and counts cycles.

    command_words ─▶ Feed ─▶ s_axis   accelerator   m_axis ─▶ Collect ─▶ reply_words

It runs at the accelerator's clock: every signal to and from the accelerator is a register, or one
gate behind one, and the sign bit of a counter says that it has run out.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import or_

from amaranth import DomainRenamer, Module, ResetSignal, Signal, Value
from amaranth.hdl import ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out, connect

from ...hw import KEEP
from ...hw.target import Target
from .collect import Collect
from .feed import Feed, axis
from .mailbox import CommandKind, command_words, reply_words
from .protocol import LinkConfig

__all__ = ["DOMAINS", "FrameEngine", "axis"]

#: domains of the accelerator's clock, each with a reset register near its end of the accelerator
DOMAINS = FEED, COLLECT = "feed", "collect"

#: cycles for which both ends are cleared: longer than their queues take to run out
_CLEAR_CYCLES = 32


def _any(signals: Iterable[Signal]) -> ValueLike:
    return reduce(or_, signals)


class FrameEngine(wiring.Component):
    """Execute command words in the accelerator's clock domain.

    CLEAR resets the accelerator and this component; the next command is taken after that, and READY
    is the first reply. The domains ``DOMAINS`` must have the clock of ``sync``; their resets are
    driven here. A command a cycle.

    Members
    -------
    i : In(command_words(config))
    o : Out(reply_words(config))
    s_axis : Out(axis(port.bytes)), to the accelerator's only input; of several inputs each has its
        ``port.prefix``
    m_axis : In(axis(port.bytes)), from the accelerator's only output; of several in the same way
    clear : Out(1), a register
    """

    def __init__(self, config: LinkConfig, target: Target) -> None:
        self.config, self.target = config, target
        super().__init__(
            {
                "i": In(command_words(config)),
                "o": Out(reply_words(config)),
                **{port.prefix: Out(axis(port.bytes)) for port in config.inputs},
                **{port.prefix: In(axis(port.bytes)) for port in config.outputs},
                "clear": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        inputs, outputs = self.config.inputs, self.config.outputs
        for name in DOMAINS:
            reset = Signal(init=1, reset_less=True, name=f"{name}_reset", attrs=KEEP)
            m.d.sync += reset.eq(self.clear | ResetSignal())
            m.d.comb += ResetSignal(name).eq(reset)
        feeds = [Feed(port, self.config.holds_inputs, self.target) for port in inputs]
        for port, feed in zip(inputs, feeds, strict=True):
            name = FEED + port.prefix.removeprefix("s_axis")
            m.submodules[name] = DomainRenamer(FEED)(feed)
            connect(m, feed.s_axis, wiring.flipped(getattr(self, port.prefix)))
        collect = Collect(self.config, self.target)
        m.submodules[COLLECT] = DomainRenamer(COLLECT)(collect)
        for port in outputs:
            connect(m, wiring.flipped(getattr(self, port.prefix)), getattr(collect, port.prefix))
        connect(m, collect.o, wiring.flipped(self.o))

        taken = self.i.valid & ~self.clear
        m.d.comb += [
            self.i.ready.eq(~self.clear),
            collect.first.eq(_any(feed.first for feed in feeds)),
            collect.overrun.eq(_any(feed.overrun for feed in feeds)),
        ]
        self._command(m, feeds, taken)
        self._clear(m, taken)
        return m

    def _command(self, m: Module, feeds: Sequence[Feed], taken: Value) -> None:
        """Beats and PLAY, a cycle later, to the inputs."""
        inputs, kind = self.config.inputs, self.i.payload.kind
        beat, is_beat, is_play = Signal.like(self.i.payload.data), Signal(), Signal()
        number = Signal(range(max(2, len(inputs))))
        if len(inputs) > 1:
            m.d.sync += number.eq(self.i.payload.port)
        m.d.sync += [
            beat.eq(self.i.payload.data),
            is_beat.eq(taken & (kind == CommandKind.BEAT)),
            is_play.eq(taken & (kind == CommandKind.PLAY)),
        ]
        for at, (port, feed) in enumerate(zip(inputs, feeds, strict=True)):
            m.d.comb += [
                # A beat narrower than the widest one is in the high bytes.
                feed.beats.payload.eq(beat[len(beat) - 8 * port.bytes :]),
                feed.beats.valid.eq(is_beat & (number == at) if len(inputs) > 1 else is_beat),
                feed.play.eq(is_play),
            ]

    def _clear(self, m: Module, taken: Value) -> None:
        """Hold ``clear`` for as long as queues take to run out."""
        left = Signal(range(-1, _CLEAR_CYCLES - 1), init=_CLEAR_CYCLES - 2)
        with m.If(self.clear):
            m.d.sync += left.eq(left - 1)
            with m.If(left[-1]):
                m.d.sync += [self.clear.eq(0), left.eq(left.init)]
        with m.Elif(taken & (self.i.payload.kind == CommandKind.CLEAR)):
            m.d.sync += self.clear.eq(1)

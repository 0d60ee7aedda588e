"""The link's fast half: plays whole frames to the accelerator, a beat a cycle, and counts cycles.

    command_words ─▶ Feed ─▶ s_axis   accelerator   m_axis ─▶ Collect ─▶ reply_words

Everything here keeps up with the accelerator's clock: what meets the accelerator is a register, or
one gate behind one, and a counter's sign bit says that it has run out.
"""

from amaranth import Cat, DomainRenamer, Module, Mux, ResetSignal, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from ...hw import KEEP, Fifo, RegisterSlice
from ...hw.target import Target
from .mailbox import CommandKind, ReplyKind, command_words, reply_words
from .protocol import CYCLES_BYTES, LinkConfig

__all__ = ["DOMAINS", "FrameEngine", "axis"]

#: on the accelerator's clock: the two ends of a frame's way, each reset by a register near it
DOMAINS = FEED, COLLECT = "feed", "collect"

_UNBUFFERED_DEPTH = 4
#: for which either end is cleared: longer than its queues take to run out
_CLEAR_CYCLES = 32


def axis(size: int) -> stream.Signature:
    """An AXI4-Stream of ``size`` bytes, as an Amaranth stream."""
    return stream.Signature(data.StructLayout({"data": 8 * size, "last": 1}))


def _buffers(config: LinkConfig) -> list[tuple[int, int]]:
    """Words, and bits of one, of the queues of beats in and out."""
    ends = ((config.beats_in, config.bytes_in), (config.beats_out, config.bytes_out))
    return [
        (max(2, beats) if config.buffered else _UNBUFFERED_DEPTH, 8 * size) for beats, size in ends
    ]


class Feed(wiring.Component):
    """Holds a frame's beats until ``play``, then gives them to the accelerator without a gap.

    An unbuffered one gives each as it comes.

    Members
    -------
    beats : In(stream.Signature(8 * config.bytes_in)); never waits: see ``overrun``
    play : In(1)
    s_axis : Out(axis(config.bytes_in))
    first : Out(1), high a cycle after a frame's first beat was taken
    overrun : Out(1), high a cycle after a beat was lost
    """

    def __init__(self, config: LinkConfig, target: Target) -> None:
        self.config, self.target = config, target
        super().__init__(
            {
                "beats": In(stream.Signature(8 * config.bytes_in, always_ready=True)),
                "play": In(1),
                "s_axis": Out(axis(config.bytes_in)),
                "first": Out(1),
                "overrun": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        config = self.config
        depth, width = _buffers(config)[0]
        m.submodules.buffer = buffer = Fifo(1, unsigned(width), depth, self.target)
        m.submodules.slice = piece = RegisterSlice(1, unsigned(width + 2), self.target)

        playing = Signal(init=not config.buffered)
        left = Signal(range(-1, max(1, config.beats_in - 1)), init=config.beats_in - 2)
        last, first, step, begins = Signal(), Signal(init=1), Signal(), Signal()
        m.d.comb += [
            buffer.i.payload.as_value().eq(self.beats.payload),
            buffer.i.valid.eq(self.beats.valid),
            buffer.o.ready.eq(piece.i.ready & playing),
            piece.i.valid.eq(buffer.o.valid & playing),
            piece.i.payload.as_value().eq(Cat(buffer.o.payload, last, first)),
            step.eq(buffer.o.valid & piece.i.ready & playing),
            last.eq(left[-1]),
            self.s_axis.valid.eq(piece.o.valid),
            piece.o.ready.eq(self.s_axis.ready),
            Cat(self.s_axis.payload.data, self.s_axis.payload.last, begins).eq(
                piece.o.payload.as_value()
            ),
        ]
        m.d.sync += self.first.eq(piece.o.valid & self.s_axis.ready & begins)
        with m.If(step):
            m.d.sync += [first.eq(last), left.eq(left - 1)]
            with m.If(last):
                m.d.sync += left.eq(left.init)
        if config.buffered:
            with m.If(self.play):
                m.d.sync += playing.eq(1)
            with m.Elif(step & last):
                m.d.sync += playing.eq(0)
        else:
            m.d.sync += self.overrun.eq(self.beats.valid & ~buffer.i.ready)
        return m


class Collect(wiring.Component):
    """Answers from what the accelerator puts out.

    READY comes first, out of reset. Then, for each frame, its beats and the cycles from ``first``
    to the beat that the accelerator marks as the last: 1 when they are a cycle apart.

    Members
    -------
    m_axis : In(axis(config.bytes_out))
    first, overrun : In(1), from ``Feed``
    o : Out(reply_words(config)), a word in three cycles
    """

    def __init__(self, config: LinkConfig, target: Target) -> None:
        self.config, self.target = config, target
        super().__init__(
            {
                "m_axis": In(axis(config.bytes_out)),
                "first": In(1),
                "overrun": In(1),
                "o": Out(reply_words(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        buffer = self._buffer(m)
        cycles = self._cycles(m)

        left = Signal(range(-1, self.config.beats_out), init=self.config.beats_out - 1)
        fresh, overrun, kind = Signal(init=1), Signal(), Signal(ReplyKind)
        # The line is slow: a cycle to offer a word, one to take it, one to see what is next.
        offer, taken, take = Signal(), Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(offer),
            self.o.payload.kind.eq(kind),
            self.o.payload.data.eq(
                Mux(kind == ReplyKind.CYCLES, cycles, buffer.o.payload.as_value())
            ),
            buffer.o.ready.eq(take),
        ]
        m.d.sync += [
            offer.eq(
                Mux(offer, ~self.o.ready, (fresh | overrun | left[-1] | buffer.o.valid) & ~taken)
            ),
            taken.eq(offer & self.o.ready),
            take.eq(offer & self.o.ready & (kind == ReplyKind.BEAT)),
        ]
        # The count has come to rest by then: the last beat was longer on its way to here.
        with m.If(~offer & ~taken):
            m.d.sync += kind.eq(
                Mux(
                    fresh,
                    ReplyKind.READY,
                    Mux(
                        overrun, ReplyKind.OVERRUN, Mux(left[-1], ReplyKind.CYCLES, ReplyKind.BEAT)
                    ),
                )
            )
        with m.If(take):
            m.d.sync += left.eq(left - 1)
        with m.If(taken), m.Switch(kind):
            with m.Case(ReplyKind.READY):
                m.d.sync += fresh.eq(0)
            with m.Case(ReplyKind.OVERRUN):
                m.d.sync += overrun.eq(0)
            with m.Case(ReplyKind.CYCLES):
                m.d.sync += left.eq(left.init)
        with m.If(self.overrun):
            m.d.sync += overrun.eq(1)
        return m

    def _buffer(self, m: Module) -> Fifo:
        """``m_axis``, a register or two, and room for a frame."""
        config = self.config
        depth, width = _buffers(config)[1]
        m.submodules.slice = piece = RegisterSlice(1, unsigned(width), self.target)
        m.submodules.buffer = buffer = Fifo(1, unsigned(width), depth, self.target)
        m.d.comb += [
            piece.i.payload.as_value().eq(self.m_axis.payload.data),
            piece.i.valid.eq(self.m_axis.valid),
            self.m_axis.ready.eq(piece.i.ready),
        ]
        if config.buffered:
            # The buffer holds a whole frame and is never full, so ``ready`` is a constant.
            m.d.comb += [
                buffer.i.payload.eq(piece.o.payload),
                buffer.i.valid.eq(piece.o.valid),
                piece.o.ready.eq(1),
            ]
        else:
            connect(m, piece.o, buffer.i)
        return buffer

    def _cycles(self, m: Module) -> Signal:
        """The count, in two halves, for a carry to pass only one of them in a cycle."""
        half = 4 * CYCLES_BYTES
        # Without a reset: a frame's first beat clears the count, and nothing else must reach it.
        low, high = Signal(half, reset_less=True), Signal(half, reset_less=True)
        carry = Signal(reset_less=True)
        last, counting = Signal(), Signal()
        m.d.sync += [
            last.eq(self.m_axis.valid & self.m_axis.ready & self.m_axis.payload.last),
            carry.eq(0),
            high.eq(high + carry),
        ]
        with m.If(counting):
            m.d.sync += Cat(low, carry).eq(low + 1)
        with m.If(self.first):
            m.d.sync += [low.eq(0), high.eq(0), counting.eq(1)]
        with m.If(last):
            m.d.sync += counting.eq(0)
        return Cat(low, high)


class FrameEngine(wiring.Component):
    """Obeys command_words, in the accelerator's clock domain.

    CLEAR resets the accelerator and all that is here; the next command is not taken until that is
    done, and READY is the first answer after it. ``DOMAINS`` are to be on the clock of ``sync``;
    their resets are made here.

    Members
    -------
    i : In(command_words(config))
    o : Out(reply_words(config))
    s_axis : Out(axis(config.bytes_in)), to the accelerator
    m_axis : In(axis(config.bytes_out)), from the accelerator
    clear : Out(1), a register
    """

    def __init__(self, config: LinkConfig, target: Target) -> None:
        self.config, self.target = config, target
        super().__init__(
            {
                "i": In(command_words(config)),
                "o": Out(reply_words(config)),
                "s_axis": Out(axis(config.bytes_in)),
                "m_axis": In(axis(config.bytes_out)),
                "clear": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        feed, collect = (part(self.config, self.target) for part in (Feed, Collect))
        for name, part in ((FEED, feed), (COLLECT, collect)):
            reset = Signal(init=1, reset_less=True, name=f"{name}_reset", attrs=KEEP)
            m.d.sync += reset.eq(self.clear | ResetSignal())
            m.d.comb += ResetSignal(name).eq(reset)
            m.submodules[name] = DomainRenamer(name)(part)
        connect(m, feed.s_axis, wiring.flipped(self.s_axis))
        connect(m, wiring.flipped(self.m_axis), collect.m_axis)
        connect(m, collect.o, wiring.flipped(self.o))

        taken, kind = self.i.valid & ~self.clear, self.i.payload.kind
        beat, is_beat, is_play = Signal.like(self.i.payload.data), Signal(), Signal()
        m.d.sync += [
            beat.eq(self.i.payload.data),
            is_beat.eq(taken & (kind == CommandKind.BEAT)),
            is_play.eq(taken & (kind == CommandKind.PLAY)),
        ]
        m.d.comb += [
            self.i.ready.eq(~self.clear),
            feed.beats.payload.eq(beat),
            feed.beats.valid.eq(is_beat),
            feed.play.eq(is_play),
            collect.first.eq(feed.first),
            collect.overrun.eq(feed.overrun),
        ]
        left = Signal(range(-1, _CLEAR_CYCLES - 1), init=_CLEAR_CYCLES - 2)
        with m.If(self.clear):
            m.d.sync += left.eq(left - 1)
            with m.If(left[-1]):
                m.d.sync += [self.clear.eq(0), left.eq(left.init)]
        with m.Elif(taken & (kind == CommandKind.CLEAR)):
            m.d.sync += self.clear.eq(1)
        return m

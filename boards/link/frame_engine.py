"""The link's fast half: plays whole frames to the accelerator, a beat a cycle, and counts cycles.

    command_words ─▶ Feed ─▶ s_axis   accelerator   m_axis ─▶ Collect ─▶ reply_words

Everything here keeps up with the accelerator's clock: what meets the accelerator is a register, or
one gate behind one, and a counter's sign bit says that it has run out.
"""

from collections.abc import Iterable
from functools import reduce
from operator import or_

from amaranth import Array, Cat, DomainRenamer, Module, Mux, ResetSignal, Signal, unsigned
from amaranth.hdl import ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out, connect

from ...hw import KEEP, Fifo, RegisterSlice
from ...hw.target import Target
from .mailbox import CommandKind, ReplyKind, command_words, reply_words
from .protocol import CYCLES_BYTES, LinkConfig, LinkPort

__all__ = ["DOMAINS", "FrameEngine", "axis"]

#: on the accelerator's clock: the two ends of a frame's way, each reset by a register near it
DOMAINS = FEED, COLLECT = "feed", "collect"

_UNBUFFERED_DEPTH = 4
#: for which either end is cleared: longer than its queues take to run out
_CLEAR_CYCLES = 32


def axis(size: int) -> stream.Signature:
    """An AXI4-Stream of ``size`` bytes, as an Amaranth stream."""
    return stream.Signature(data.StructLayout({"data": 8 * size, "last": 1}))


def _depth(port: LinkPort, held: bool) -> int:
    """Words of the queue of a port's beats."""
    return max(2, port.beats) if held else _UNBUFFERED_DEPTH


def _any(signals: Iterable[Signal]) -> ValueLike:
    return reduce(or_, signals)


class Feed(wiring.Component):
    """Holds a frame's beats of one input until ``play``, then gives them to the accelerator without
    a gap.

    One that is not ``held`` gives each as it comes.

    Members
    -------
    beats : In(stream.Signature(8 * port.bytes)); never waits: see ``overrun``
    play : In(1)
    s_axis : Out(axis(port.bytes))
    first : Out(1), high a cycle after a frame's first beat was taken
    overrun : Out(1), high a cycle after a beat was lost
    """

    def __init__(self, port: LinkPort, held: bool, target: Target) -> None:
        self.port, self.held, self.target = port, held, target
        super().__init__(
            {
                "beats": In(stream.Signature(8 * port.bytes, always_ready=True)),
                "play": In(1),
                "s_axis": Out(axis(port.bytes)),
                "first": Out(1),
                "overrun": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        width, beats = 8 * self.port.bytes, self.port.beats
        depth = _depth(self.port, self.held)
        m.submodules.buffer = buffer = Fifo(1, unsigned(width), depth, self.target)
        m.submodules.slice = piece = RegisterSlice(1, unsigned(width + 2), self.target)

        playing = Signal(init=not self.held)
        left = Signal(range(-1, max(1, beats - 1)), init=beats - 2)
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
        if self.held:
            with m.If(self.play):
                m.d.sync += playing.eq(1)
            with m.Elif(step & last):
                m.d.sync += playing.eq(0)
        else:
            m.d.sync += self.overrun.eq(self.beats.valid & ~buffer.i.ready)
        return m


class Collect(wiring.Component):
    """Answers from what the accelerator puts out.

    READY comes first, out of reset. Then, for each frame, the beats of each output, one output
    after the other, and the cycles from ``first`` to the last of the beats that the accelerator
    marks as an output's last: 1 when they are a cycle apart. ``first`` counts once a frame.

    Members
    -------
    m_axis : In(axis(port.bytes)) of the only output; of several each has its ``port.prefix``
    first, overrun : In(1), from ``Feed``
    o : Out(reply_words(config)), a word in three cycles
    """

    def __init__(self, config: LinkConfig, target: Target) -> None:
        self.config, self.target = config, target
        super().__init__(
            {
                **{port.prefix: In(axis(port.bytes)) for port in config.outputs},
                "first": In(1),
                "overrun": In(1),
                "o": Out(reply_words(config)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        outputs = self.config.outputs
        buffers = [self._buffer(m, port) for port in outputs]
        cycles = self._cycles(m)

        # The output whose beats are offered, and how many of them are left.
        number = Signal(range(max(2, len(outputs))))
        most = max(port.beats for port in outputs)
        left = Signal(range(-1, most), init=outputs[0].beats - 1)
        waits = Array(buffer.o.valid for buffer in buffers)[number]
        beat = Array(buffer.o.payload.as_value() for buffer in buffers)[number]
        if len(outputs) == 1:
            waits, beat = buffers[0].o.valid, buffers[0].o.payload.as_value()
        fresh, overrun, kind = Signal(init=1), Signal(), Signal(ReplyKind)
        # The line is slow: a cycle to offer a word, one to take it, one to see what is next.
        offer, taken, take = Signal(), Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(offer),
            self.o.payload.kind.eq(kind),
            self.o.payload.data.eq(Mux(kind == ReplyKind.CYCLES, cycles, beat)),
        ]
        if len(outputs) > 1:
            m.d.comb += self.o.payload.port.eq(number)
        for at, buffer in enumerate(buffers):
            m.d.comb += buffer.o.ready.eq(take & (number == at) if len(outputs) > 1 else take)
        m.d.sync += [
            offer.eq(Mux(offer, ~self.o.ready, (fresh | overrun | left[-1] | waits) & ~taken)),
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
            if len(outputs) > 1:
                following = [port.beats - 1 for port in (*outputs[1:], outputs[-1])]
                with m.If((left == 0) & (number != len(outputs) - 1)):
                    m.d.sync += [number.eq(number + 1), left.eq(Array(following)[number])]
        with m.If(taken), m.Switch(kind):
            with m.Case(ReplyKind.READY):
                m.d.sync += fresh.eq(0)
            with m.Case(ReplyKind.OVERRUN):
                m.d.sync += overrun.eq(0)
            with m.Case(ReplyKind.CYCLES):
                m.d.sync += [left.eq(left.init), number.eq(0)]
        with m.If(self.overrun):
            m.d.sync += overrun.eq(1)
        return m

    def _buffer(self, m: Module, port: LinkPort) -> Fifo:
        """An output, a register or two, and room for a frame."""
        held, width = self.config.holds_outputs, 8 * port.bytes
        m_axis, suffix = getattr(self, port.prefix), port.prefix.removeprefix("m_axis")
        piece = RegisterSlice(1, unsigned(width), self.target)
        buffer = Fifo(1, unsigned(width), _depth(port, held), self.target)
        m.submodules[f"slice{suffix}"], m.submodules[f"buffer{suffix}"] = piece, buffer
        m.d.comb += [
            piece.i.payload.as_value().eq(m_axis.payload.data),
            piece.i.valid.eq(m_axis.valid),
            m_axis.ready.eq(piece.i.ready),
            buffer.i.payload.eq(piece.o.payload),
            buffer.i.valid.eq(piece.o.valid),
            # The buffer of a whole frame is never full, so that its ``ready`` is a constant.
            piece.o.ready.eq(1 if held else buffer.i.ready),
        ]
        return buffer

    def _cycles(self, m: Module) -> Signal:
        """The count, in two halves, for a carry to pass only one of them in a cycle."""
        half = 4 * CYCLES_BYTES
        # Without a reset: a frame's first beat clears the count, and nothing else must reach it.
        low, high = Signal(half, reset_less=True), Signal(half, reset_less=True)
        carry = Signal(reset_less=True)
        last, counting = Signal(), Signal()
        m.d.sync += [
            last.eq(self._ended(m)),
            carry.eq(0),
            high.eq(high + carry),
        ]
        with m.If(counting):
            m.d.sync += Cat(low, carry).eq(low + 1)
        begins = self.first if len(self.config.inputs) == 1 else self.first & ~counting
        with m.If(begins):
            m.d.sync += [low.eq(0), high.eq(0), counting.eq(1)]
        with m.If(last):
            m.d.sync += counting.eq(0)
        return Cat(low, high)

    def _ended(self, m: Module) -> ValueLike:
        """High in the cycle in which the last output's last beat leaves the accelerator."""
        ends = []
        for port in self.config.outputs:
            m_axis = getattr(self, port.prefix)
            ends.append(m_axis.valid & m_axis.ready & m_axis.payload.last)
        if len(ends) == 1:
            return ends[0]
        now, before = Cat(ends), Signal(len(ends))
        done = (now | before).all()
        m.d.sync += before.eq(Mux(done, 0, now | before))
        return done


class FrameEngine(wiring.Component):
    """Obeys command_words, in the accelerator's clock domain.

    CLEAR resets the accelerator and all that is here; the next command is not taken until that is
    done, and READY is the first answer after it. ``DOMAINS`` are to be on the clock of ``sync``;
    their resets are made here.

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

        taken, kind = self.i.valid & ~self.clear, self.i.payload.kind
        beat, is_beat, is_play = Signal.like(self.i.payload.data), Signal(), Signal()
        number = Signal(range(max(2, len(inputs))))
        if len(inputs) > 1:
            m.d.sync += number.eq(self.i.payload.port)
        m.d.sync += [
            beat.eq(self.i.payload.data),
            is_beat.eq(taken & (kind == CommandKind.BEAT)),
            is_play.eq(taken & (kind == CommandKind.PLAY)),
        ]
        m.d.comb += [
            self.i.ready.eq(~self.clear),
            collect.first.eq(_any(feed.first for feed in feeds)),
            collect.overrun.eq(_any(feed.overrun for feed in feeds)),
        ]
        for at, (port, feed) in enumerate(zip(inputs, feeds, strict=True)):
            m.d.comb += [
                # A beat narrower than the widest came in last, and so is at the top.
                feed.beats.payload.eq(beat[len(beat) - 8 * port.bytes :]),
                feed.beats.valid.eq(is_beat & (number == at) if len(inputs) > 1 else is_beat),
                feed.play.eq(is_play),
            ]
        left = Signal(range(-1, _CLEAR_CYCLES - 1), init=_CLEAR_CYCLES - 2)
        with m.If(self.clear):
            m.d.sync += left.eq(left - 1)
            with m.If(left[-1]):
                m.d.sync += [self.clear.eq(0), left.eq(left.init)]
        with m.Elif(taken & (kind == CommandKind.CLEAR)):
            m.d.sync += self.clear.eq(1)
        return m

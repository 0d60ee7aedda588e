"""The outputs of the accelerator: beats of a frame and the count of its cycles, as reply words."""

from amaranth import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.hdl import ValueLike
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ...hw import Fifo, RegisterSlice
from ...hw.target import Target
from .feed import axis, queue_depth
from .mailbox import ReplyKind, per_port, reply_words
from .protocol import CYCLES_BYTES, LinkConfig, LinkPort

__all__ = ["Collect", "CycleCounter"]


class Collect(wiring.Component):
    """Reply words from the outputs of the accelerator.

    READY is the first word after a reset. Then, for each frame, the beats of each output, one
    output after the other, and the cycles from ``first`` to the last beat of the last output (see
    :class:`CycleCounter`). OVERRUN follows an overrun.

    Members
    -------
    m_axis : In(axis(port.bytes)) of the only output; of several each has its ``port.prefix``
    first, overrun : In(1), from ``Feed``
    o : Out(reply_words(config)), a word every three cycles
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
        m.submodules.counter = counter = CycleCounter(len(self.config.inputs) > 1)
        m.d.comb += [counter.first.eq(self.first), counter.ended.eq(self._ended(m))]

        # The output whose beats are offered, and the number of beats left, less one.
        number = Signal(range(max(2, len(outputs))))
        most = max(port.beats for port in outputs)
        left = Signal(range(-1, most), init=outputs[0].beats - 1)
        waits = per_port(number, [buffer.o.valid for buffer in buffers])
        beat = per_port(number, [buffer.o.payload.as_value() for buffer in buffers])
        fresh, overrun, kind = Signal(init=1), Signal(), Signal(ReplyKind)
        # The line is slow: a cycle to offer a word, one to take it, one to select the next.
        offer, taken, take = Signal(), Signal(), Signal()
        m.d.comb += [
            self.o.valid.eq(offer),
            self.o.payload.kind.eq(kind),
            self.o.payload.data.eq(Mux(kind == ReplyKind.CYCLES, counter.cycles, beat)),
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
        # The count is stable here: the last beat took longer to arrive than to be counted.
        with m.If(~offer & ~taken):
            m.d.sync += kind.eq(_next_kind(fresh, overrun, left[-1]))
        self._count(m, take, left, number)
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

    def _count(self, m: Module, take: Signal, left: Signal, number: Signal) -> None:
        """Count the beats of an output, then go on to the next output."""
        outputs = self.config.outputs
        with m.If(take):
            m.d.sync += left.eq(left - 1)
            if len(outputs) > 1:
                following = [port.beats - 1 for port in (*outputs[1:], outputs[-1])]
                with m.If((left == 0) & (number != len(outputs) - 1)):
                    m.d.sync += [number.eq(number + 1), left.eq(per_port(number, following))]

    def _buffer(self, m: Module, port: LinkPort) -> Fifo:
        """The beats of an output, behind a register slice; a whole frame where it is held."""
        held, width = self.config.holds_outputs, 8 * port.bytes
        m_axis, suffix = getattr(self, port.prefix), port.prefix.removeprefix("m_axis")
        piece = RegisterSlice(1, unsigned(width), self.target)
        buffer = Fifo(1, unsigned(width), queue_depth(port, held), self.target)
        m.submodules[f"slice{suffix}"], m.submodules[f"buffer{suffix}"] = piece, buffer
        m.d.comb += [
            piece.i.payload.as_value().eq(m_axis.payload.data),
            piece.i.valid.eq(m_axis.valid),
            m_axis.ready.eq(piece.i.ready),
            buffer.i.payload.eq(piece.o.payload),
            buffer.i.valid.eq(piece.o.valid),
            # The buffer of a whole frame is never full, so ``ready`` is a constant.
            piece.o.ready.eq(1 if held else buffer.i.ready),
        ]
        return buffer

    def _ended(self, m: Module) -> ValueLike:
        """The last beat of the last output leaves the accelerator in this cycle."""
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


def _next_kind(fresh: Value, overrun: Value, ended: Value) -> Value:
    """READY, OVERRUN, CYCLES and BEAT, the first that applies."""
    frame = Mux(ended, ReplyKind.CYCLES, ReplyKind.BEAT)
    return Mux(fresh, ReplyKind.READY, Mux(overrun, ReplyKind.OVERRUN, frame))


class CycleCounter(wiring.Component):
    """Count the cycles of a frame: 1 when ``ended`` is in the cycle after the first beat was taken.

    With ``several`` inputs only the earliest ``first`` of a frame counts. The count is in two
    halves, so that a carry passes only one of them in a cycle, and is complete three cycles after
    ``ended``.

    Members
    -------
    first : In(1), the accelerator took the first beat of an input in the previous cycle
    ended : In(1), the last beat leaves in this cycle
    cycles : Out(8 * CYCLES_BYTES)
    """

    def __init__(self, several: bool) -> None:
        self.several = several
        super().__init__({"first": In(1), "ended": In(1), "cycles": Out(8 * CYCLES_BYTES)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        half = 4 * CYCLES_BYTES
        # Without a reset: the first beat of a frame clears the count.
        low, high = Signal(half, reset_less=True), Signal(half, reset_less=True)
        carry = Signal(reset_less=True)
        last, counting = Signal(), Signal()
        m.d.comb += self.cycles.eq(Cat(low, high))
        m.d.sync += [last.eq(self.ended), carry.eq(0), high.eq(high + carry)]
        with m.If(counting):
            m.d.sync += Cat(low, carry).eq(low + 1)
        with m.If(self.first & ~counting if self.several else self.first):
            m.d.sync += [low.eq(0), high.eq(0), counting.eq(1)]
        with m.If(last):
            m.d.sync += counting.eq(0)
        return m

"""An input of the accelerator: beats of a frame, held and sent without a gap."""

from amaranth import Cat, Module, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from ...hw import Fifo, RegisterSlice
from ...hw.target import Target
from .protocol import LinkPort

__all__ = ["Feed", "axis", "queue_depth"]

_UNBUFFERED_DEPTH = 4


def axis(size: int) -> stream.Signature:
    """An AXI4-Stream of ``size`` bytes, as an Amaranth stream."""
    return stream.Signature(data.StructLayout({"data": 8 * size, "last": 1}))


def queue_depth(port: LinkPort, held: bool) -> int:
    """Words of the queue of a port's beats."""
    return max(2, port.beats) if held else _UNBUFFERED_DEPTH


class Feed(wiring.Component):
    """Hold the beats of one input until ``play``, then send a beat a cycle to the accelerator.

    Without ``held``, beats are passed on as they arrive. ``first`` and ``overrun`` are registers.

    Members
    -------
    beats : In(stream.Signature(8 * port.bytes, always_ready=True)); see ``overrun``
    play : In(1)
    s_axis : Out(axis(port.bytes))
    first : Out(1), the accelerator took the first beat of a frame in the previous cycle
    overrun : Out(1), a beat was lost in the previous cycle
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
        depth = queue_depth(self.port, self.held)
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

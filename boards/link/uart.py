"""A UART, 8 data bits, no parity, one stop bit."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

__all__ = ["UartReceiver", "UartTransmitter"]

_PHASE_BITS = 20
_FEWEST_CYCLES = 4


def _step(clock_hz: int, baud: int) -> int:
    """The increment, in a cycle, of a phase of ``_PHASE_BITS`` bits that wraps once a bit."""
    if clock_hz < _FEWEST_CYCLES * baud:
        raise ValueError(
            f"a bit of {baud} baud lasts less than {_FEWEST_CYCLES} cycles of a "
            f"{clock_hz / 1e6:g} MHz clock"
        )
    return round((baud << _PHASE_BITS) / clock_hz)


class UartReceiver(wiring.Component):
    """Receive bytes. A byte with a bad stop bit (noise, a break) is dropped.

    Each bit is sampled in its middle, and the next byte may follow without a pause. ``o`` is valid
    for one cycle.

    Members
    -------
    rx : In(1), asynchronous, idle high
    o : Out(stream.Signature(8, always_ready=True))
    """

    def __init__(self, clock_hz: int, baud: int) -> None:
        self._gain = _step(clock_hz, baud)
        super().__init__(
            {
                "rx": In(1, init=1),
                "o": Out(stream.Signature(8, always_ready=True)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        line = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, line, init=1)

        phase, tick, busy = Signal(_PHASE_BITS), Signal(), Signal()
        # Bits enter at the top; with the last data bit, the start bit (the first zero) is bit 0.
        bits = Signal(9, init=-1)
        # In the middle of the stop bit: the next start bit may be half a bit away.
        last = busy & tick & ~bits[0]

        # The phase starts with the first cycle of a start bit, half a bit from its end. One bit of
        # it is set: with several, iCE40's carry chain is cut into pieces.
        with m.If(last | (~busy & line)):
            m.d.sync += [phase.eq(1 << (_PHASE_BITS - 1)), tick.eq(0)]
        with m.Else():
            m.d.sync += Cat(phase, tick).eq(phase + self._gain)

        m.d.sync += [self.o.payload.eq(bits[1:]), self.o.valid.eq(last & line)]
        with m.If(~busy):
            m.d.sync += [busy.eq(~line), bits.eq(~0)]
        with m.Elif(last):
            m.d.sync += busy.eq(0)
        with m.Elif(tick):
            m.d.sync += [bits.eq(Cat(bits[1:], line)), busy.eq(~(bits.all() & line))]
        return m


class UartTransmitter(wiring.Component):
    """Send bytes, ten bits each, back to back while ``i`` is valid.

    Members
    -------
    i : In(stream.Signature(8))
    tx : Out(1), idle high
    """

    def __init__(self, clock_hz: int, baud: int) -> None:
        self._gain = _step(clock_hz, baud)
        super().__init__(
            {
                "i": In(stream.Signature(8)),
                "tx": Out(1, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        phase, tick, idle = Signal(_PHASE_BITS), Signal(), Signal(init=1)
        # Start bit, byte and stop bit leave at the bottom; only the stop bit is left at the end.
        bits = Signal(10, init=1)
        m.d.comb += self.i.ready.eq(idle)
        m.d.sync += self.tx.eq(bits[0])
        with m.If(idle):
            m.d.sync += [phase.eq(0), tick.eq(0)]
            with m.If(self.i.valid):
                m.d.sync += [bits.eq(Cat(0, self.i.payload, 1)), idle.eq(0)]
        with m.Else():
            m.d.sync += Cat(phase, tick).eq(phase + self._gain)
            with m.If(tick):
                m.d.sync += [bits.eq(bits[1:] | (bits == 1)), idle.eq(bits == 1)]
        return m

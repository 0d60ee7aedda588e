"""Requests of the host: bytes to commands and beats."""

from amaranth import Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out

from .mailbox import per_port
from .protocol import FRAME, PING, SYNC, LinkConfig

__all__ = ["Request"]


class Request(wiring.Component):
    """Decode requests: commands and beats from bytes.

    ``ping`` and ``frame`` mark the cycle in which a command is complete. The beats of a frame
    follow, those of one input after those of another (``port`` is its number), each valid for a
    cycle; then ``done``, with ``good`` if the CRC matches, or ``paused`` if the bytes stop. Results
    follow a byte by two cycles; takes a byte in two cycles.

    Members
    -------
    i : In(stream.Signature(8, always_ready=True))
    beats : Out(stream.Signature(8 * config.bytes_in, always_ready=True)); a narrower beat is in the
        high bytes
    port : Out(range(len(config.inputs))), stable until the next byte; only for several inputs
    ping, frame, done, good, paused : Out(1)
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        # The timer's highest bit is set after one to two times the agreed pause.
        self._timer_bits = max(1, int(config.uart_hz * config.pause_seconds).bit_length())
        super().__init__(
            {
                "i": In(stream.Signature(8, always_ready=True)),
                "beats": Out(stream.Signature(8 * config.bytes_in, always_ready=True)),
                "ping": Out(1),
                "frame": Out(1),
                "done": Out(1),
                "good": Out(1),
                "paused": Out(1),
                **({"port": Out(range(len(config.inputs)))} if len(config.inputs) > 1 else {}),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = catalog.CRC16_XMODEM(data_width=8).create()
        inputs = self.config.inputs
        byte = Signal(range(max(port.bytes for port in inputs)), init=inputs[0].bytes - 1)
        beat = Signal(range(max(port.beats for port in inputs)), init=inputs[0].beats - 1)
        number = Signal(range(max(2, len(inputs))))
        valid, value, timer = Signal(), Signal(8), Signal(self._timer_bits + 1)
        is_sync, is_ping, is_frame, expired = Signal(), Signal(), Signal(), Signal()

        # A byte is decoded in the cycle before it is used, and the outputs are registers.
        m.d.sync += [
            valid.eq(self.i.valid),
            value.eq(self.i.payload),
            is_sync.eq(self.i.payload == SYNC),
            is_ping.eq(self.i.payload == PING),
            is_frame.eq(self.i.payload == FRAME),
            self.ping.eq(0),
            self.frame.eq(0),
            self.done.eq(0),
            self.beats.valid.eq(0),
            self.paused.eq(expired),
            expired.eq(timer[-1]),
            timer.eq(0),
            self.good.eq(crc.match_detected),
        ]
        m.d.comb += [crc.data.eq(value), crc.start.eq(self.frame)]

        with m.FSM():
            with m.State("SYNC"), m.If(valid & is_sync):
                m.next = "COMMAND"
            with m.State("COMMAND"), m.If(valid):
                m.d.sync += [self.ping.eq(is_ping), self.frame.eq(is_frame)]
                with m.If(is_frame):
                    m.d.sync += [byte.eq(byte.init), beat.eq(beat.init), number.eq(0)]
                    m.next = "BEATS"
                with m.Elif(~is_sync):
                    m.next = "SYNC"
            with m.State("BEATS"):
                self._wait_for_byte(m, valid, timer, expired)
                with m.If(valid):
                    m.d.comb += crc.valid.eq(1)
                    m.d.sync += [
                        self.beats.payload.eq(Cat(self.beats.payload, value)[8:]),
                        byte.eq(byte - 1),
                    ]
                    with m.If(byte == 0):
                        m.d.sync += self.beats.valid.eq(1)
                        self._end_beat(m, byte, beat, number)
            for state, following in (("CRC0", "CRC1"), ("CRC1", "DONE")):
                with m.State(state):
                    self._wait_for_byte(m, valid, timer, expired)
                    with m.If(valid):
                        m.d.comb += crc.valid.eq(1)
                        m.next = following
            with m.State("DONE"):
                m.d.sync += self.done.eq(1)
                m.next = "SYNC"
        return m

    def _end_beat(self, m: Module, byte: Signal, beat: Signal, number: Signal) -> None:
        """Set the counters for the next beat, which may be the first one of the next input."""
        inputs = self.config.inputs
        m.d.sync += [
            byte.eq(per_port(number, [port.bytes - 1 for port in inputs])),
            beat.eq(beat - 1),
        ]
        if len(inputs) > 1:
            m.d.sync += self.port.eq(number)
        with m.If(beat == 0):
            if len(inputs) == 1:
                m.next = "CRC0"
                return
            with m.If(number == len(inputs) - 1):
                m.next = "CRC0"
            with m.Else():
                following = [*inputs[1:], inputs[-1]]
                m.d.sync += [
                    number.eq(number + 1),
                    byte.eq(per_port(number, [port.bytes - 1 for port in following])),
                    beat.eq(per_port(number, [port.beats - 1 for port in following])),
                ]

    def _wait_for_byte(self, m: Module, valid: Signal, timer: Signal, expired: Signal) -> None:
        """Give up the frame when no byte arrives for the pause."""
        with m.If(~valid):
            m.d.sync += timer.eq(timer + 1)
        with m.If(expired):
            m.next = "SYNC"

"""The serial half of the link: bytes to command words for the frame engine, its replies to bytes.

    rx ─▶ UartReceiver ─▶ Request ─▶ command_words
    tx ◀─ UartTransmitter ◀─ Reply ◀─ reply_words

The bytes on the wire are described in ``protocol``.
"""

from collections.abc import Sequence

from amaranth import Array, Cat, Const, Module, Mux, ResetInserter, Signal
from amaranth.hdl import ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out

from .mailbox import CommandKind, ReplyKind, command_words, reply_words
from .protocol import CYCLES_BYTES, FRAME, ID_BYTES, PING, STATUS_BAD_CRC, SYNC, Fault, LinkConfig
from .uart import UartReceiver, UartTransmitter

__all__ = ["Reply", "Request", "UartProtocol"]


def _of(number: Signal, values: Sequence[int]) -> ValueLike:
    """The value of the port of that number."""
    return values[0] if len(values) == 1 else Array(values)[number]


class Request(wiring.Component):
    """Commands and beats from bytes.

    ``ping`` and ``frame`` are high for the cycle in which a command was understood; a frame's beats
    follow, one at a time, each to be taken at once, those of one input after those of another, of
    which ``port`` is the number; then ``done``, with ``good`` if the CRC held.
    ``paused`` instead of ``done``: the bytes stopped coming.

    Members
    -------
    i : In(stream.Signature(8, always_ready=True))
    beats : Out(stream.Signature(8 * config.bytes_in, always_ready=True)); a narrower beat is in the
        high bytes
    port : Out(range(len(config.inputs))), steady until the next byte; only where there are several
    ping, frame, done, good, paused : Out(1)
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        # The highest bit of the timer: between once and twice the agreed pause.
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

        # The byte is decoded one cycle before it is used; what comes of it leaves a cycle later.
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
        """Set the counters for the next beat, which may be that of the next input."""
        inputs = self.config.inputs
        m.d.sync += [byte.eq(_of(number, [port.bytes - 1 for port in inputs])), beat.eq(beat - 1)]
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
                    byte.eq(_of(number, [port.bytes - 1 for port in following])),
                    beat.eq(_of(number, [port.beats - 1 for port in following])),
                ]

    def _wait_for_byte(self, m: Module, valid: Signal, timer: Signal, expired: Signal) -> None:
        with m.If(~valid):
            m.d.sync += timer.eq(timer + 1)
        with m.If(expired):
            m.next = "SYNC"


class Reply(wiring.Component):
    """Bytes from reply_words.

    ``ping`` replies with ``fault``. ``frame`` replies with the beats from ``i`` as they come, then,
    once ``complete``, with the cycles and ``status``. Both are obeyed only while not ``busy``.
    There is a register wherever a byte's time leaves room for one, to keep up with fast clocks.

    Members
    -------
    ping, frame, complete : In(1)
    fault, status : In(8)
    i : In(reply_words(config)), BEAT and CYCLES only
    o : Out(stream.Signature(8))
    busy : Out(1)
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        super().__init__(
            {
                "ping": In(1),
                "frame": In(1),
                "complete": In(1),
                "fault": In(8),
                "status": In(8),
                "i": In(reply_words(config)),
                "o": Out(stream.Signature(8)),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = catalog.CRC16_XMODEM(data_width=8).create()
        outputs = self.config.outputs
        longest = max(self.config.bytes_out, ID_BYTES + 1)
        word = Signal(8 * longest)
        more = Signal(longest)  # bit n: a byte follows byte n of the word
        is_ping, is_last, full, byte, take = Signal(), Signal(), Signal(), Signal(8), Signal()
        ends, arrived, data = Signal(), Signal(), self.i.payload.data
        identity = Cat(Const(self.config.design_id, 8 * ID_BYTES), self.fault)
        answer = Mux(ends, Cat(data[: 8 * CYCLES_BYTES], self.status), data)
        number = self.i.payload.port if len(outputs) > 1 else Const(0)
        beat_bytes = _of(number, [(1 << (port.bytes - 1)) - 1 for port in outputs])
        answer_bytes = Mux(ends, (1 << CYCLES_BYTES) - 1, beat_bytes)
        m.d.comb += [
            crc.start.eq(self.ping | self.frame),
            self.o.valid.eq(full),
            self.o.payload.eq(byte),
            self.i.ready.eq(take),
            ends.eq(self.i.payload.kind == ReplyKind.CYCLES),
            arrived.eq(self.i.valid & (~ends | self.complete)),
        ]
        m.d.sync += [take.eq(0), crc.valid.eq(0), crc.data.eq(word[:8])]
        with m.If(self.o.ready):
            m.d.sync += full.eq(0)

        def send(value: ValueLike, following: str) -> None:
            with m.If(~full):
                m.d.sync += [byte.eq(value), full.eq(1)]
                m.next = following

        with m.FSM() as fsm:
            m.d.sync += self.busy.eq(~fsm.ongoing("IDLE") | self.ping | self.frame)
            with m.State("IDLE"):
                m.d.sync += [is_ping.eq(self.ping), is_last.eq(0)]
                with m.If(self.ping | self.frame):
                    m.next = "SYNC"
            with m.State("SYNC"):
                send(SYNC, "COMMAND")
            with m.State("COMMAND"):
                send(Mux(is_ping, PING, FRAME), "FETCH")
            with m.State("FETCH"):
                m.d.sync += [
                    word.eq(Mux(is_ping, identity, answer)),
                    more.eq(Mux(is_ping, (1 << ID_BYTES) - 1, answer_bytes)),
                    is_last.eq(is_ping | ends),
                    take.eq(~is_ping & arrived),
                ]
                with m.If(is_ping | arrived):
                    m.next = "WORD"
            with m.State("WORD"), m.If(~full):
                m.d.sync += [
                    byte.eq(word),
                    full.eq(1),
                    crc.valid.eq(1),
                    word.eq(word[8:]),
                    more.eq(more[1:]),
                ]
                with m.If(~more[0]):
                    m.next = "NEXT"
            with m.State("NEXT"):
                with m.If(is_last):
                    m.next = "CRC0"
                with m.Else():
                    m.next = "FETCH"
            # The CRC has long taken in the last byte when the line is free for it.
            with m.State("CRC0"):
                send(crc.crc[8:], "CRC1")
            with m.State("CRC1"):
                send(crc.crc[:8], "IDLE")
        return m


class UartProtocol(wiring.Component):
    """Serve a host over two wires: pass its requests to the frame engine, one frame at a time.

    An abandoned frame is followed by CLEAR, and until READY replies to it, replies are
    of the frame that is no more, and dropped. There is never a second CLEAR before that: in any
    clock, a byte lasts longer than both ways and the reset between them.

    Members
    -------
    rx : In(1), asynchronous
    tx : Out(1)
    o : Out(command_words(config))
    i : In(reply_words(config))
    running : Out(1), high while a frame is on its way
    """

    def __init__(self, config: LinkConfig) -> None:
        self.config = config
        super().__init__(
            {
                "rx": In(1, init=1),
                "tx": Out(1, init=1),
                "o": Out(command_words(config)),
                "i": In(reply_words(config)),
                "running": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        clock = (self.config.uart_hz, self.config.baud)
        m.submodules.receiver = receiver = UartReceiver(*clock)
        m.submodules.transmitter = transmitter = UartTransmitter(*clock)
        m.submodules.request = request = Request(self.config)
        # The frame engine may come out of reset later than this.
        clearing = Signal(init=1)
        reply = Reply(self.config)
        m.submodules.reply = ResetInserter(clearing)(reply)

        m.d.comb += [receiver.rx.eq(self.rx), self.tx.eq(transmitter.tx)]
        wiring.connect(m, receiver.o, request.i)
        wiring.connect(m, reply.o, transmitter.i)

        complete, bad_crc, overrun = Signal(), Signal(), Signal()
        kind = self.i.payload.kind
        m.d.comb += [
            reply.i.payload.eq(self.i.payload),
            reply.i.valid.eq(
                self.i.valid & ((kind == ReplyKind.BEAT) | (kind == ReplyKind.CYCLES))
            ),
            overrun.eq(self.i.valid & (kind == ReplyKind.OVERRUN)),
            self.i.ready.eq(clearing | overrun | reply.i.ready),
            reply.complete.eq(complete),
            reply.status.eq(Mux(bad_crc, STATUS_BAD_CRC, 0)),
        ]
        with m.If(request.done):
            m.d.sync += [complete.eq(1), bad_crc.eq(~request.good)]
        with m.If(self.i.valid & (kind == ReplyKind.READY)):
            m.d.sync += clearing.eq(0)
        given_up = self._control(m, request, reply, clearing, complete, overrun)
        with m.If(given_up):
            m.d.sync += clearing.eq(1)
        self._command(m, request, given_up)
        return m

    def _command(self, m: Module, request: Request, given_up: Signal) -> None:
        """The beat stays as it is until the next byte: no need for another register."""
        m.d.comb += self.o.payload.data.eq(request.beats.payload)
        if len(self.config.inputs) > 1:
            m.d.comb += self.o.payload.port.eq(request.port)
        with m.If(self.o.ready):
            m.d.sync += self.o.valid.eq(0)
        for happened, kind in (
            (request.beats.valid & self.running, CommandKind.BEAT),
            (request.done & self.running, CommandKind.PLAY),
            (given_up, CommandKind.CLEAR),
        ):
            with m.If(happened):
                m.d.sync += [self.o.valid.eq(1), self.o.payload.kind.eq(kind)]

    def _control(
        self,
        m: Module,
        request: Request,
        reply: Reply,
        clearing: Signal,
        complete: Signal,
        overrun: Signal,
    ) -> Signal:
        """Start and end frames, answer pings; high for the cycle in which a frame is given up."""
        ping, frame, fault, given_up = Signal(), Signal(), Signal(Fault), Signal()
        free = ~clearing & ~reply.busy
        m.d.comb += [
            reply.ping.eq(ping & free),
            reply.fault.eq(fault),
            reply.frame.eq(frame & ~ping & free & reply.i.valid),
        ]
        with m.If(reply.ping):
            m.d.sync += ping.eq(0)
        with m.If(reply.frame):
            m.d.sync += frame.eq(0)
        with m.If(complete & ~frame & ~reply.busy & ~reply.frame):
            m.d.sync += self.running.eq(0)

        commanded = request.ping | request.frame
        for reason, happened in (
            (Fault.OVERRUN, overrun & ~clearing),
            (Fault.PAUSE, request.paused),
            (Fault.ABANDONED, commanded),
        ):
            with m.If(happened & self.running):
                m.d.comb += given_up.eq(1)
                m.d.sync += [fault.eq(reason), self.running.eq(0), frame.eq(0)]
        with m.If(request.ping):
            m.d.sync += ping.eq(1)
        with m.If(request.frame):
            m.d.sync += [frame.eq(1), self.running.eq(1), complete.eq(0), fault.eq(Fault.NONE)]
        return given_up

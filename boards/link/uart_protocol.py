"""The serial half of the link: bytes to command words for the frame engine, its replies to bytes.

    rx ─▶ UartReceiver ─▶ Request ─▶ command_words
    tx ◀─ UartTransmitter ◀─ Reply ◀─ reply_words

The bytes on the wire are described in ``protocol``.
"""

from amaranth import Module, Mux, ResetInserter, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .mailbox import CommandKind, ReplyKind, command_words, reply_words
from .protocol import STATUS_BAD_CRC, Fault, LinkConfig
from .reply import Reply
from .request import Request
from .uart import UartReceiver, UartTransmitter

__all__ = ["UartProtocol"]


class UartProtocol(wiring.Component):
    """Serve a host over two wires: pass its requests to the frame engine, one frame at a time.

    CLEAR follows an abandoned frame. The replies before the READY that answers it belong to that
    frame and are dropped. There is no second CLEAR before the READY: in any clock, a byte takes
    longer than both crossings and the reset between them.

    Members
    -------
    rx : In(1), asynchronous
    tx : Out(1)
    o : Out(command_words(config))
    i : In(reply_words(config))
    running : Out(1), high while a frame is in progress
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
        # High from reset on: the frame engine's reset may end later than this one.
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
        """Commands to the frame engine. A beat is stable until the next byte, so it needs no
        register here.
        """
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
        """Start and end frames and answer pings. The result marks the cycle in which a frame is
        given up.
        """
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

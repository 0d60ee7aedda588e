"""Replies to the host: words of the frame engine to bytes."""

from amaranth import Cat, Const, Module, Mux, Signal, Value
from amaranth.hdl import ValueLike
from amaranth.lib import stream, wiring
from amaranth.lib.crc import catalog
from amaranth.lib.wiring import In, Out

from .mailbox import ReplyKind, per_port, reply_words
from .protocol import CYCLES_BYTES, FRAME, ID_BYTES, PING, SYNC, LinkConfig

__all__ = ["Reply"]


class Reply(wiring.Component):
    """Encode replies: bytes from reply words.

    ``ping`` replies with ``fault``; ``frame`` with the beats from ``i`` as they arrive and, once
    ``complete``, with the cycles and ``status``. Both are accepted while ``busy`` is low. A byte
    leaves every two cycles while ``o`` is ready. A byte takes many cycles on the line, so every
    path ends in a register.

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
        longest = max(self.config.bytes_out, ID_BYTES + 1)
        word = Signal(8 * longest)
        more = Signal(longest)  # bit n: a byte follows byte n of the word
        is_ping, is_last, full, byte, take = Signal(), Signal(), Signal(), Signal(8), Signal()
        ends, arrived = Signal(), Signal()
        next_word, next_more = self._next_word(is_ping, ends)
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
                    word.eq(next_word),
                    more.eq(next_more),
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
            # The line is free long after the CRC includes the last byte.
            with m.State("CRC0"):
                send(crc.crc[8:], "CRC1")
            with m.State("CRC1"):
                send(crc.crc[:8], "IDLE")
        return m

    def _next_word(self, is_ping: Signal, ends: Signal) -> tuple[Value, Value]:
        """The identity, or the word at ``i``; and which of its bytes another one follows."""
        outputs, data = self.config.outputs, self.i.payload.data
        identity = Cat(Const(self.config.design_id, 8 * ID_BYTES), self.fault)
        answer = Mux(ends, Cat(data[: 8 * CYCLES_BYTES], self.status), data)
        number = self.i.payload.port if len(outputs) > 1 else Const(0)
        beat_bytes = per_port(number, [(1 << (port.bytes - 1)) - 1 for port in outputs])
        answer_bytes = Mux(ends, (1 << CYCLES_BYTES) - 1, beat_bytes)
        return Mux(is_ping, identity, answer), Mux(is_ping, (1 << ID_BYTES) - 1, answer_bytes)

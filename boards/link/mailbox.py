"""The words between UART protocol and frame engine, and their clock-domain-crossing mailbox."""

from collections.abc import Sequence
from enum import IntEnum

from amaranth import Array, Module, Signal
from amaranth.hdl import ValueLike
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .protocol import CYCLES_BYTES, LinkConfig

__all__ = [
    "LINK",
    "CommandKind",
    "Mailbox",
    "ReplyKind",
    "command_words",
    "per_port",
    "reply_words",
]

LINK = "link"
"""The clock domain of the UART protocol, where it has its own."""


class CommandKind(IntEnum):
    """To the frame engine."""

    BEAT = 0
    """The next beat of the frame."""
    PLAY = 1
    """All beats of the frame were sent."""
    CLEAR = 2
    """Discard everything and reset the accelerator."""


class ReplyKind(IntEnum):
    """To the UART protocol."""

    BEAT = 0
    """The next beat of the result."""
    CYCLES = 1
    """The cycles of the frame; its last word."""
    OVERRUN = 2
    """A beat arrived and there was no room for it."""
    READY = 3
    """After a reset: the words before it belong to a frame that was given up."""


def command_words(config: LinkConfig) -> stream.Signature:
    """Commands; the beat of an input narrower than the widest is in the high bytes of ``data``."""
    return stream.Signature(_words(CommandKind, 8 * config.bytes_in, len(config.inputs)))


def reply_words(config: LinkConfig) -> stream.Signature:
    """Replies; the beat of an output is in the low bytes of ``data``."""
    width = 8 * max(config.bytes_out, CYCLES_BYTES)
    return stream.Signature(_words(ReplyKind, width, len(config.outputs)))


def _words(kind: type[IntEnum], width: int, ports: int) -> data.StructLayout:
    """``port`` is the number of a beat's input or output, where there are several."""
    port = {"port": range(ports)} if ports > 1 else {}
    return data.StructLayout({"kind": kind, "data": width, **port})


def per_port(number: ValueLike, values: Sequence[ValueLike]) -> ValueLike:
    """The value of the port of that number."""
    return values[0] if len(values) == 1 else Array(values)[number]


class Mailbox(wiring.Component):
    """A register for one word from one clock domain to another. Words stay in order, none is lost.

    The writer toggles ``sent`` with each word, the reader toggles ``taken`` when it has read it;
    each passes a synchronizer to the other side, and the register is free while the two are equal.
    A word is stable for two of the reader's cycles when it is read.

    It has no reset, because both ends would need to be reset together: a CLEAR passes through it
    like any other word.

    Parameters
    ----------
    words : the stream's signature
    writer, reader : names of the two domains

    Members
    -------
    i : In(words), in ``writer``
    o : Out(words), in ``reader``, registers; a word in about four cycles of either clock
    """

    def __init__(self, words: stream.Signature, writer: str, reader: str) -> None:
        self.writer, self.reader = writer, reader
        super().__init__({"i": In(words), "o": Out(words)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        word = Signal.like(self.i.payload.as_value(), reset_less=True)
        # Neither is reset: the two domains' resets may end far apart.
        sent, taken = Signal(reset_less=True), Signal(reset_less=True)
        sent_there, taken_there = Signal(), Signal()
        m.submodules.sent = FFSynchronizer(sent, sent_there, o_domain=self.reader)
        m.submodules.taken = FFSynchronizer(taken, taken_there, o_domain=self.writer)

        m.d.comb += self.i.ready.eq(sent == taken_there)
        with m.If(self.i.valid & self.i.ready):
            m.d[self.writer] += [word.eq(self.i.payload.as_value()), sent.eq(~sent)]

        with m.If(~self.o.valid & (sent_there != taken)):
            m.d[self.reader] += [
                self.o.payload.as_value().eq(word),
                self.o.valid.eq(1),
                taken.eq(~taken),
            ]
        with m.If(self.o.valid & self.o.ready):
            m.d[self.reader] += self.o.valid.eq(0)
        return m

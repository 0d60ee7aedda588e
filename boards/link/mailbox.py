"""The words between UART protocol and frame engine, and their clock-domain-crossing mailbox."""

from enum import IntEnum

from amaranth import Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.wiring import In, Out

from .protocol import CYCLES_BYTES, LinkConfig

__all__ = ["ReplyKind", "CommandKind", "Mailbox", "LINK", "reply_words", "command_words"]

LINK = "link"
"""The UART protocol's clock domain, where it has one of its own."""


class CommandKind(IntEnum):
    """To the frame engine."""

    BEAT = 0
    """The next beat of the frame."""
    PLAY = 1
    """The frame is whole."""
    CLEAR = 2
    """Forget everything, and reset the accelerator."""


class ReplyKind(IntEnum):
    """To the UART protocol."""

    BEAT = 0
    """The next beat of the result."""
    CYCLES = 1
    """What the frame took; its last word."""
    OVERRUN = 2
    """A beat came and there was no room for it."""
    READY = 3
    """Out of reset: whatever came before this word belongs to a frame that was given up."""


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


class Mailbox(wiring.Component):
    """A place for one word, from one clock domain to another. Words stay in order and none is lost.

    The writer turns ``sent`` with each word, the reader turns ``taken`` when it has it; each sees
    the other's through a synchronizer, and the place is free while the two are alike. A word has
    been there for two of the reader's cycles when it is taken over.

    It is never cleared, for the two ends would have to agree on a moment: a word that clears goes
    through it like any other.

    Parameters
    ----------
    words : the stream's signature
    writer, reader : names of the two domains

    Members
    -------
    i : In(words), in ``writer``
    o : Out(words), in ``reader``, from registers; a word in about four cycles of either clock
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

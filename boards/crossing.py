"""What terminal and player say to each other, word by word, and the way between their clocks."""

from enum import IntEnum

from amaranth import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import AsyncFIFO
from amaranth.lib.wiring import In, Out

from .protocol import CYCLES_BYTES, LinkConfig

__all__ = ["Answer", "Command", "Crossing", "LINK", "answers", "commands"]

LINK = "link"
"""The terminal's clock domain, where it has one of its own."""

_DEPTH = 4


class Command(IntEnum):
    """To the player."""

    BEAT = 0
    """The next beat of the frame."""
    PLAY = 1
    """The frame is whole."""
    CLEAR = 2
    """Forget everything, and reset the accelerator."""


class Answer(IntEnum):
    """To the terminal."""

    BEAT = 0
    """The next beat of the result."""
    CYCLES = 1
    """What the frame took; its last word."""
    OVERRUN = 2
    """A beat came and there was no room for it."""
    READY = 3
    """Out of reset: whatever came before this word belongs to a frame that was given up."""


def commands(config: LinkConfig) -> stream.Signature:
    return stream.Signature(data.StructLayout({"kind": Command, "data": 8 * config.bytes_in}))


def answers(config: LinkConfig) -> stream.Signature:
    width = 8 * max(config.bytes_out, CYCLES_BYTES)
    return stream.Signature(data.StructLayout({"kind": Answer, "data": width}))


class Crossing(wiring.Component):
    """A short queue from one clock domain to another. Words stay in order and none is lost.

    It is never cleared, for the two ends would have to agree on a moment: a word that clears goes
    through it like any other.

    Parameters
    ----------
    words : the stream's signature
    writer, reader : names of the two domains

    Members
    -------
    i : In(words), in ``writer``
    o : Out(words), in ``reader``; from registers, a word in three cycles
    """

    def __init__(self, words: stream.Signature, writer: str, reader: str) -> None:
        self.writer, self.reader = writer, reader
        super().__init__({"i": In(words), "o": Out(words)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.queue = queue = AsyncFIFO(
            width=len(self.i.payload.as_value()), depth=_DEPTH,
            w_domain=self.writer, r_domain=self.reader)
        offer, pop = Signal(), Signal()
        m.d.comb += [
            queue.w_data.eq(self.i.payload.as_value()), queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            self.o.payload.as_value().eq(queue.r_data), self.o.valid.eq(offer),
            queue.r_en.eq(pop),
        ]
        # Words are rare: time for the queue's pointers to start from a register each.
        m.d[self.reader] += [pop.eq(offer & self.o.ready),
                             offer.eq(Mux(offer, ~self.o.ready, queue.r_rdy & ~pop))]
        return m

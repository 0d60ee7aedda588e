"""A circular buffer of blocks, each of which is read in any order, any number of times."""

from dataclasses import dataclass

from amaranth import Module, Mux, Signal, signed
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from ..control.credits import counter_nonzero
from ..sizes import at_least
from ..target.base import Target
from ..target.resources import Resources
from .ram import Ram, RamConfig

__all__ = ["BlockBuffer", "BlockBufferConfig"]

#: words beyond two blocks: more than pass from the release of a block until its room is written
_SPARE = 8
#: words that may arrive until a full buffer is known to be full
_UNDER_WAY = 3


@dataclass(frozen=True)
class BlockBufferConfig:
    """Blocks of ``words`` words of ``width`` bits."""

    words: int
    width: int
    target: Target

    #: cycles from the last word of a block in until the block is there
    arrival = 1

    def __post_init__(self):
        at_least(1, self, "words", "width")

    @property
    def ram(self) -> RamConfig:
        """A power of two, so that pointers wrap by themselves."""
        least = 2 * self.words + _SPARE + _UNDER_WAY
        return RamConfig(1 << (least - 1).bit_length(), self.width, self.target)

    @property
    def held(self) -> tuple[int, int]:
        """Words taken while nothing is freed: at least and at most."""
        return self.ram.depth - _UNDER_WAY - 1, self.ram.depth

    @property
    def latency(self) -> int:
        """Cycles from an address to its word."""
        return 1 + self.ram.latency

    def resources(self) -> Resources:
        bits = self.ram.depth.bit_length()
        return self.ram.resources() + Resources(5 * bits + 10, 6 * bits + 10)


class BlockBuffer(wiring.Component):
    """``data`` is word ``address`` of the oldest block, ``config.latency`` cycles earlier.

    Blocks are stored in the order in which they arrive, and ``free`` releases the oldest one:
    addresses from the next cycle on are those of the next block. Takes a word a cycle: the next
    block arrives while one is read.

    Members
    -------
    i : In(stream.Signature(width))
    there : Out(1), a whole block is stored
    free : In(1), only while ``there``
    address : In(range(words))
    data : Out(width)
    """

    def __init__(self, config: BlockBufferConfig):
        self.config = config
        super().__init__(
            {
                "i": In(stream.Signature(config.width)),
                "there": Out(1),
                "free": In(1),
                "address": In(range(max(2, config.words))),
                "data": Out(config.width),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        depth = c.ram.depth
        m.submodules.store = store = Ram(c.ram)
        write, last = Signal(), Signal()
        place = Signal(range(max(2, c.words)))
        tail, head = Signal(range(depth)), Signal(range(depth))
        room = Signal(signed(depth.bit_length() + 1), init=depth - _UNDER_WAY - 1)
        change = Signal(signed(depth.bit_length() + 1))
        m.d.comb += [
            self.i.ready.eq(~room[-1]),
            write.eq(self.i.valid & self.i.ready),
            last.eq(write & (place == c.words - 1)),
            store.write_address.eq(tail),
            store.write_data.eq(self.i.payload),
            store.write_enable.eq(write),
            self.data.eq(store.data),
        ]
        with m.If(write):
            m.d.sync += [tail.eq(tail + 1), place.eq(Mux(place == c.words - 1, 0, place + 1))]
        with m.If(self.free):
            m.d.sync += head.eq(head + c.words)
        m.d.sync += [
            change.eq(Mux(self.free, c.words, 0) - write),
            room.eq(room + change),
            store.address.eq(head + self.address),
        ]
        most = depth // c.words + 1
        m.d.comb += self.there.eq(counter_nonzero(m, "blocks", last, self.free, most))
        return m

"""A memory for reading and writing in block RAM, at the block RAMs' own shapes and clock."""

from dataclasses import dataclass
from functools import cached_property

from amaranth import Cat, Module, Signal
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out

from ..control.delay import delay, delay_flags
from ..sizes import at_least, ceil_div
from ..target.base import Target
from ..target.resources import Resources
from .tiles import Strip, choice_luts, chosen, cover, estimate, in_tiles, tile

__all__ = ["SHALLOW", "RamConfig", "Ram"]

#: bits and words up to which a memory is cheaper in logic than in a block RAM, and no slower
_SMALL = 2048
SHALLOW = 64
#: block RAMs that are near enough to each other for a word to arrive and be selected in a cycle
_NEAR = 4


@dataclass(frozen=True)
class RamConfig:
    """``depth`` words of ``width`` bits; small ones in LUT RAM if the ``target`` has any."""

    depth: int
    width: int
    target: Target

    def __post_init__(self):
        at_least(1, self, "depth", "width")

    @property
    def distributed(self) -> bool:
        return (
            self.target.lut_ram is not None
            and self.depth <= SHALLOW
            and self.depth * self.width <= _SMALL
        )

    @property
    def strips(self) -> tuple[Strip, ...]:
        """How block RAMs hold it."""
        return cover(self.depth, self.width, self.target)

    @cached_property
    def latency(self) -> int:
        """Cycles from an address to its word: the memory, its output register and, where a word may
        be in several block RAMs, a register after the selection; for many of them one before it
        too, where the family has registers to spare.
        """
        most = 1 if self.distributed else max(len(strip.segments) for strip in self.strips)
        return 2 + (most > 1) + (most > _NEAR and self.target.register_rich)

    def resources(self) -> Resources:
        """An estimate; block RAMs are exact."""
        written = self.width + (self.depth - 1).bit_length() + 1
        cell = self.target.lut_ram
        if cell is None or not self.distributed:
            return estimate(self.depth, self.width, self.target, self.latency) + Resources(
                ff=written
            )
        rows = ceil_div(self.depth, cell.words)
        across = cell.luts * ceil_div(self.width, cell.bits) + cell.row_luts
        return Resources(rows * across + self.width * choice_luts(rows), written + 2 * self.width)


class Ram(wiring.Component):
    """``data`` is the word at ``address``, ``config.latency`` cycles earlier; one read and one
    write a cycle.

    A write is registered first: a word written in one cycle is found by an ``address`` from the
    second cycle after on. The word at an address that is being written is undefined in the cycle
    between.

    Members
    -------
    address : In(range(depth))
    data : Out(width)
    write_address : In(range(depth))
    write_data : In(width)
    write_enable : In(1)
    """

    def __init__(self, config: RamConfig):
        self.config = config
        address = range(max(2, config.depth))
        super().__init__(
            {
                "address": In(address),
                "data": Out(config.width),
                "write_address": In(address),
                "write_data": In(config.width),
                "write_enable": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        data, address = delay(m, self.write_data, 1), delay(m, self.write_address, 1)
        if c.distributed:
            store = memory.Memory(
                shape=c.width, depth=c.depth, init=[], attrs={"ram_style": c.target.lut_ram.style}
            )
            m.submodules.store = store
            word = self._port(m, store, address, data, delay_flags(m, self.write_enable, 1))
            m.d.comb += self.data.eq(word)
            return m
        parts, first = [], 0
        for n, strip in enumerate(c.strips):
            parts.append(
                self._strip(m, f"strip_{n}", strip, address, data[first : first + strip.width])
            )
            first += strip.width
        m.d.comb += self.data.eq(Cat(parts))
        return m

    def _strip(self, m, name, strip, address, data):
        """The strip's word, ``latency`` cycles after its address; ``data`` is written to
        ``address``.
        """
        words = []
        for n, segment in enumerate(strip.segments):
            enable = Signal(name=f"{name}_{n}_enable")
            m.d.sync += enable.eq(self.write_enable & segment.holds(self.write_address))
            held = []
            for k, bits in enumerate(in_tiles(strip, segment)):
                store = tile(m, f"{name}_{n}_{k}", segment.words, len(bits), [])
                held.append(self._port(m, store, address, data[bits.start : bits.stop], enable))
            words.append(Cat(held))
        if self.config.latency == 2:
            return words[0]
        before = self.config.latency - 3
        return chosen(
            m, strip, delay(m, self.address, before), [delay(m, word, before) for word in words]
        )

    def _port(self, m, store, address, data, enable):
        """Write ``data`` to ``address`` of ``store``, and its word, two cycles after the address.

        An asynchronous port and two registers: yosys merges the first one into the block RAM and
        respects ``no_rw_check`` then, which it does not for a port that is synchronous already.
        """
        write, read = store.write_port(), store.read_port(domain="comb")
        m.d.comb += [
            write.addr.eq(address),
            write.data.eq(data),
            write.en.eq(enable),
            read.addr.eq(self.address),
        ]
        return delay(m, read.data, 2)

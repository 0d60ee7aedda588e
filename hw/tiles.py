"""Memories cut to the native shapes of block RAM, so that each tile is one block RAM."""

from dataclasses import dataclass
from functools import lru_cache, reduce
from operator import or_

from amaranth import Module, Mux, Value
from amaranth.lib import memory

from .cost import SHAPES, Resources
from .delay import delay
from .width import ceil_div

__all__ = ["Segment", "Strip", "chosen", "cover", "estimate", "in_tiles", "tile", "widest"]


@dataclass(frozen=True)
class Segment:
    """``words`` words from ``start`` on, in block RAMs of ``depth`` words of ``bits`` bits.

    ``start`` is a multiple of ``depth``, a power of two; so the low bits of an address are the
    address within, and the high bits tell whether it is within.
    """

    start: int
    words: int
    depth: int
    bits: int

    @property
    def address_bits(self) -> int:
        return self.depth.bit_length() - 1

    def holds(self, address: Value) -> Value:
        """Whether ``address`` is in this segment."""
        return address[self.address_bits:] == self.start >> self.address_bits


@dataclass(frozen=True)
class Strip:
    """``width`` bits of every word, in segments one below the other, each of block RAMs side by
    side.
    """

    width: int
    segments: tuple[Segment, ...]

    @property
    def block_rams(self) -> int:
        return sum(ceil_div(self.width, segment.bits) for segment in self.segments)

    @property
    def has_choice(self) -> bool:
        """Whether a word may come from several block RAMs."""
        return len(self.segments) > 1

    def resources(self, latency: int) -> Resources:
        """An estimate, with a register after each block RAM and, at a ``latency`` of three cycles,
        another after the choice; block RAMs are exact.
        """
        count = len(self.segments)
        lut, flags = 0, 0
        if self.has_choice:
            lut, flags = self.width * ceil_div(2 * count - 1, 3) + count, 2 * count
        return Resources(lut, self.width * (count + latency - 2) + flags, 0, self.block_rams)


def cover(depth: int, width: int, family: str) -> tuple[Strip, ...]:
    """Strips that hold ``depth`` words of ``width`` bits in the fewest block RAMs; among those, in
    the fewest segments, then in the fewest strips.
    """
    whole = _strip(depth, widest(family), family)
    many, rest = _split(width, whole.width)
    return (whole,) * many + _last(depth, rest, family)


@lru_cache(maxsize=1 << 16)
def estimate(depth: int, width: int, family: str, latency: int) -> Resources:
    """What :func:`cover` costs, with ``latency`` cycles from the address to the word."""
    whole = _strip(depth, widest(family), family)
    many, rest = _split(width, whole.width)
    return sum((strip.resources(latency) for strip in _last(depth, rest, family)),
               whole.resources(latency) * many)


def _split(width: int, most: int) -> tuple[int, int]:
    """How many strips of the widest shape, ``most``, and how many bits are left for the search.

    The widest shape is also the densest; so only the last few strips may gain by another.
    """
    many = max(0, width // most - 1)
    return many, width - many * most


@lru_cache(maxsize=1 << 14)
def _last(depth: int, width: int, family: str) -> tuple[Strip, ...]:
    """The best strips for a width of a few of them, by dynamic programming over the width."""
    best: list[tuple[tuple[int, int, int], int]] = [((0, 0, 0), 0)]
    for covered in range(1, width + 1):
        ways = [(_sum(best[max(0, covered - n)][0], cost), min(n, covered))
                for n, cost in _worthwhile(depth, family)]
        best.append(min(ways))
    strips = []
    while width:
        strips.append(_strip(depth, best[width][1], family))
        width -= best[width][1]
    return tuple(sorted(strips, key=lambda strip: -strip.width))


def _sum(a: tuple[int, int, int], b: tuple[int, int, int]) -> tuple[int, int, int]:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


@lru_cache(maxsize=1 << 12)
def _worthwhile(depth: int, family: str) -> list[tuple[int, tuple[int, int, int]]]:
    """Width and cost (block RAMs, choices, strips) of the strips that no wider one costs less than.
    """
    found: list[tuple[int, tuple[int, int, int]]] = []
    for width in range(widest(family), 0, -1):
        strip = _strip(depth, width, family)
        cost = (strip.block_rams, len(strip.segments) - 1, 1)
        if not found or cost < found[-1][1]:
            found.append((width, cost))
    return found


def widest(family: str) -> int:
    """Bits of a word in the widest shape."""
    return max(bits for _, bits in _shapes(family))


def _shapes(family: str) -> tuple[tuple[int, int], ...]:
    return SHAPES.get(family, SHAPES["ecp5"])


@lru_cache(maxsize=1 << 16)
def _strip(depth: int, width: int, family: str) -> Strip:
    deepest_first = tuple(sorted(_shapes(family), reverse=True))
    segments, start = [], 0
    for words, bits in _stack(depth, width, deepest_first):
        segments.append(Segment(start, min(words, depth - start), words, bits))
        start += words
    return Strip(width, tuple(segments))


def _stack(depth: int, width: int, shapes: tuple[tuple[int, int], ...]) -> tuple:
    """The shapes, the deepest first, whose words together are at least ``depth``, of least cost.

    A shape's cost grows with its number; so it is taken never, or as often as it goes in whole, or
    once more.
    """
    first, *others = shapes
    whole, rest = divmod(depth, first[0])
    ways = [(first,) * (whole + (rest > 0))]
    if others:
        ways.append(_stack(depth, width, tuple(others)))
        if rest and whole:
            ways.append((first,) * whole + _stack(rest, width, tuple(others)))
    return min(ways, key=lambda way: (sum(ceil_div(width, bits) for _, bits in way), len(way)))


def tile(m: Module, name: str, words: int, width: int, init) -> memory.Memory:
    """A memory that is to become one block RAM.

    What is read while it is written does not matter; else synthesis would put a bypass between the
    block RAM and its register.
    """
    attributes = {"rom_style": "block", "ram_style": "block", "no_rw_check": 1}
    store = memory.Memory(shape=width, depth=words, init=init, attrs=attributes)
    m.submodules[name] = store
    return store


def chosen(m: Module, strip: Strip, address: Value, words: list[Value]) -> Value:
    """That of the segments' ``words`` which ``address``, two cycles earlier, is in; a cycle later.

    Which one is told by a register for each, and what is not chosen is masked: two levels of logic
    for four segments.
    """
    if not strip.has_choice:
        return delay(m, words[0], 1)
    flags = [delay(m, segment.holds(address), 2) for segment in strip.segments]
    return delay(m, reduce(or_, (Mux(flag, word, 0)
                                 for flag, word in zip(flags, words, strict=True))), 1)


def in_tiles(strip: Strip, segment: Segment) -> list[range]:
    """The bits of a strip that each block RAM of a segment holds."""
    return [range(bit, min(bit + segment.bits, strip.width))
            for bit in range(0, strip.width, segment.bits)]

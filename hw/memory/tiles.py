"""Memories cut to the native shapes of block RAM, so that each tile is one block RAM."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from operator import or_

from amaranth import Module, Mux, Value
from amaranth.lib import memory

from ..control.delay import delay
from ..sizes import ceil_div
from ..target.base import Target
from ..target.resources import Resources

__all__ = [
    "Segment",
    "Strip",
    "best_strip",
    "choice_luts",
    "chosen",
    "cover",
    "estimate",
    "in_tiles",
    "table_estimate",
    "tile",
]


#: words of a table in logic that is read in one cycle: a LUT a bit
TABLE = 16

#: tables among which one cycle selects a word
_SELECTED = 16

#: a block RAM costs as much as its size divided by this, in bits in logic
_LOGIC_SHARE = 8

#: block RAMs in a stack, of other than the deepest shape, that are worth a search
_SEGMENTS = 512


@dataclass(frozen=True)
class Segment:
    """``words`` words from ``start`` on, in block RAMs of ``depth`` words of ``bits`` bits; in
    logic where ``bits`` is 0.

    ``start`` is a multiple of ``depth``, a power of two: the low bits of an address are the address
    in the segment, and the high bits select the segment.
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
        return address[self.address_bits :] == self.start >> self.address_bits

    def resources(self, width: int, target: Target) -> Resources:
        """Of ``width`` bits of each word and the register after them, which ECP5's block RAMs have
        themselves.
        """
        if self.bits:
            return Resources(
                0, 0 if target.block_ram_register else width, 0, ceil_div(width, self.bits)
            )
        return table_estimate(self.words, width)


@dataclass(frozen=True)
class Stack:
    """Segments one below the other that hold every word; how many of each kind is counted once."""

    segments: tuple[Segment, ...]

    @cached_property
    def _counts(self) -> list[tuple[int, int]]:
        """Widths of block RAMs, and how many segments are of such."""
        return [*Counter(segment.bits for segment in self.segments if segment.bits).items()]

    @cached_property
    def _logic_words(self) -> int:
        return sum(segment.words for segment in self.segments if not segment.bits)

    def price(self, width: int, target: Target) -> tuple[int, int, int]:
        """What to save, first things first, where words are ``width`` bits wide: bits, where a
        block RAM counts as some in logic; choices; strips.
        """
        shape = target.memory_shapes[0]
        rams = 0
        for bits, count in self._counts:
            rams -= -width // bits * count
        logic = width * self._logic_words
        return rams * (shape.size // _LOGIC_SHARE) + logic, len(self.segments) - 1, 1


@dataclass(frozen=True)
class Strip:
    """``width`` bits of every word, in a stack of segments, each of block RAMs side by side."""

    width: int
    stack: Stack

    @property
    def segments(self) -> tuple[Segment, ...]:
        return self.stack.segments

    @property
    def has_choice(self) -> bool:
        """Whether a word may come from several block RAMs."""
        return len(self.segments) > 1

    def resources(self, latency: int, target: Target) -> Resources:
        """An estimate, with a register after each segment and, at a ``latency`` of three cycles,
        another after the choice, of four, before it too; block RAMs are exact.
        """
        count = len(self.segments)
        registers = (latency > 2) + (latency > 3) * count
        choice = Resources(
            self.width * choice_luts(count) + count * self.has_choice,
            self.width * registers + 2 * count * self.has_choice,
        )
        return sum((segment.resources(self.width, target) for segment in self.segments), choice)

    def price(self, target: Target) -> tuple[int, int, int]:
        return self.stack.price(self.width, target)


def table_estimate(words: int, width: int) -> Resources:
    """Of ``words`` constants of ``width`` bits in logic, a LUT a bit, and the choice among them."""
    tables = ceil_div(words, TABLE)
    flags = tables * (tables > 1)
    return Resources(width * (tables + choice_luts(tables)) + flags, width * (tables + 1) + flags)


def choice_luts(count: int) -> int:
    """LUTs, for each bit, of the selection among ``count`` words by one-hot flags."""
    return ceil_div(2 * count - 1, 3) if count > 1 else 0


def cover(
    depth: int, width: int, target: Target, logic: bool = False, whole: bool = False
) -> tuple[Strip, ...]:
    """Strips that hold ``depth`` words of ``width`` bits in the fewest block RAMs; among those, in
    the fewest segments, then in the fewest strips.

    With ``logic``, small remainders are in logic instead: few words, or few bits of them. With
    ``whole`` too, words are in block RAM however few they are, but for some bits.
    """
    widest, many, rest = _split(depth, width, target, logic, whole)
    return (widest,) * many + _last(depth, rest, target, logic)


@lru_cache(maxsize=1 << 16)
def estimate(
    depth: int,
    width: int,
    target: Target,
    latency: int,
    logic: bool = False,
    whole: bool = False,
) -> Resources:
    """What :func:`cover` costs, with ``latency`` cycles from the address to the word."""
    widest, many, rest = _split(depth, width, target, logic, whole)
    return sum(
        (strip.resources(latency, target) for strip in _last(depth, rest, target, logic)),
        widest.resources(latency, target) * many,
    )


def _split(
    depth: int, width: int, target: Target, logic: bool, whole: bool
) -> tuple[Strip, int, int]:
    """The widest strip, how many of it there are, and how many bits are left for the search.

    The widest shape is also the densest; so only the last few strips may gain by another.
    """
    widest = best_strip(depth, target.widest_memory, target, logic)
    if whole and not widest.segments[0].bits:
        widest = best_strip(depth, target.widest_memory, target, False)
        many = width // widest.width
    else:
        many = max(0, width // widest.width - 1)
    return widest, many, width - many * widest.width


@lru_cache(maxsize=1 << 14)
def _last(depth: int, width: int, target: Target, logic: bool) -> tuple[Strip, ...]:
    """The best strips for a width of a few of them, by dynamic programming over the width: any last
    one, after those that are worthwhile.
    """
    if not width:
        return ()
    worthwhile = _worthwhile(depth, target, logic)
    best: list[tuple[tuple[int, int, int], tuple[int, ...]]] = [((0, 0, 0), ())]
    for covered in range(1, width):
        ways = [_join(best[covered - n], n, price) for n, price in worthwhile if n <= covered]
        best.append(min(ways))
    prices = [
        best_strip(depth, n, target, logic).price(target)
        for n in range(1, min(width, target.widest_memory) + 1)
    ]
    _, widths = min(_join(best[width - n], n, price) for n, price in enumerate(prices, 1))
    return tuple(best_strip(depth, n, target, logic) for n in sorted(widths, reverse=True))


def _join(before: tuple, width: int, price: tuple[int, int, int]) -> tuple:
    """Price and widths with a strip more."""
    (bits, choices, strips), widths = before
    return (bits + price[0], choices + price[1], strips + price[2]), (*widths, width)


@lru_cache(maxsize=1 << 12)
def _worthwhile(
    depth: int, target: Target, logic: bool
) -> tuple[tuple[int, tuple[int, int, int]], ...]:
    """Width and price of those strips that are cheaper, by the bit, than all narrower ones; and of
    the narrowest.
    """
    found: list[tuple[int, tuple[int, int, int]]] = []
    for width in range(1, target.widest_memory + 1):
        price = best_strip(depth, width, target, logic).price(target)
        if not found or price[0] * found[-1][0] < found[-1][1][0] * width:
            found.append((width, price))
    return tuple(found)


@lru_cache(maxsize=1 << 16)
def best_strip(depth: int, width: int, target: Target, logic: bool) -> Strip:
    """The best strip for ``width`` bits, no more than the widest shape has."""
    stacks = _candidate_stacks(depth, target, logic)
    return Strip(width, min(stacks, key=lambda stack: stack.price(width, target)))


@lru_cache(maxsize=1 << 12)
def _candidate_stacks(depth: int, target: Target, logic: bool) -> tuple[Stack, ...]:
    """The stacks among which is the best of ``depth`` words, of whatever width."""
    deepest_first = tuple(
        sorted(((shape.words, shape.bits) for shape in target.memory_shapes), reverse=True)
    )
    # More block RAMs in a stack than any device has are not worth a search.
    shallower = tuple(shape for shape in deepest_first[1:] if depth // shape[0] <= _SEGMENTS)
    shapes = (*deepest_first[:1], *shallower)
    return tuple(Stack(_segments(depth, way)) for way in _stacks(depth, shapes, logic))


def _segments(depth: int, shapes: tuple[tuple[int, int], ...]) -> tuple[Segment, ...]:
    segments, start = [], 0
    for words, bits in shapes:
        segments.append(Segment(start, min(words, depth - start), words, bits))
        start += words
    return tuple(segments)


def _stacks(
    depth: int, native: tuple[tuple[int, int], ...], logic: bool
) -> list[tuple[tuple[int, int], ...]]:
    """Ways to put shapes, the deepest first, below each other until they have ``depth`` words.

    The price of a shape grows with its number; so it is taken never, or as often as it goes in
    whole, or once more; the rest may be logic.
    """
    ways = [((1 << (depth - 1).bit_length(), 0),)] if logic else []
    if not native:
        return ways
    first, *others = native
    whole, rest = divmod(depth, first[0])
    ways = [(first,) * (whole + (rest > 0)), *_stacks(depth, tuple(others), logic)]
    if rest and whole:
        below = logic and rest <= _SELECTED * TABLE
        ways += [(first,) * whole + way for way in _stacks(rest, tuple(others), below)]
    return ways


def tile(m: Module, name: str, words: int, width: int, init) -> memory.Memory:
    """A memory that is to become one block RAM.

    A read of the address that is being written is undefined; otherwise synthesis would put a bypass
    between the block RAM and its register.
    """
    attributes = {"rom_style": "block", "ram_style": "block", "no_rw_check": 1}
    store = memory.Memory(shape=width, depth=words, init=init, attrs=attributes)
    m.submodules[name] = store
    return store


def chosen(m: Module, strip: Strip, address: Value, words: list[Value]) -> Value:
    """That of the segments' ``words`` which ``address``, two cycles earlier, is in; a cycle later.

    Each segment has a flag in a register that masks its word: two levels of logic for four
    segments.
    """
    if not strip.has_choice:
        return delay(m, words[0], 1)
    flags = [delay(m, segment.holds(address), 2) for segment in strip.segments]
    return delay(
        m, reduce(or_, (Mux(flag, word, 0) for flag, word in zip(flags, words, strict=True))), 1
    )


def in_tiles(strip: Strip, segment: Segment) -> list[range]:
    """The bits of a strip that each block RAM of a segment holds."""
    return [
        range(bit, min(bit + segment.bits, strip.width))
        for bit in range(0, strip.width, segment.bits)
    ]

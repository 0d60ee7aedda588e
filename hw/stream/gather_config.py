"""The parameters of a reordering buffer, and its schedule: addresses, arrivals, releases, depth."""

from collections.abc import Sequence as Listed
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth import Shape
from numpy.typing import NDArray

from ..memory.ram import RamConfig
from ..memory.sequence import Sequence
from ..sizes import at_least, divisors
from ..target.base import Target
from ..target.resources import Resources
from .fifo import Queue

__all__ = ["Chunks", "GatherConfig", "Nest", "Steps"]

Ints = NDArray[np.int64]

#: values of a sequence of arrivals or releases that are worth a ROM
_TABLE = 128
#: loops of a nest of addresses
_LOOPS = 6


@dataclass(frozen=True)
class Nest:
    """Addresses ``start + sum of index * stride`` of nested loops, (count, stride) from the inside
    out.
    """

    start: int
    loops: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, addresses: Ints) -> "Nest | None":
        """The nest that gives ``addresses``, where -1 stands for any; None if there is none of a
        few loops.
        """
        base, known = addresses.astype(np.int64), addresses >= 0
        loops: list[tuple[int, int]] = []
        while len(base) > 1:
            found = _inner_loop(base, known)
            if found is None or len(loops) == _LOOPS:
                return None
            count, stride = found
            loops.append(found)
            base, known = _firsts(base, known, count, stride)
        return cls(int(base[0]) if known[0] else 0, tuple(loops))

    def addresses(self) -> Ints:
        """All addresses, in order; those that were free to choose may be below 0."""
        found = np.array([self.start])
        for count, stride in reversed(self.loops):
            found = (found[:, None] + stride * np.arange(count)).reshape(-1)
        return found

    def steps(self, following: int) -> list[int]:
        """The steps from the last address of loop n to the next one, for each n; the last step is
        to the address ``following``.
        """
        steps, reach = [], 0
        for count, stride in self.loops:
            steps.append(stride - reach)
            reach += (count - 1) * stride
        return [*steps, following - self.start - reach]


def _inner_loop(base: Ints, known: NDArray[np.bool_]) -> tuple[int, int] | None:
    """The longest loop (count, stride) such that ``base`` is a whole number of its runs."""
    places = np.flatnonzero(known)
    if len(places) < 2:
        return len(base), 0
    first, second = (int(place) for place in places[:2])
    stride, rest = divmod(int(base[second] - base[first]), second - first)
    if rest:
        return None
    line = base[first] + stride * (np.arange(len(base)) - first)
    wrong = np.flatnonzero(known & (base != line))
    most = int(wrong[0]) if len(wrong) else len(base)
    for count in reversed(divisors(len(base))):
        if 1 < count <= most and _fits(base, known, count, stride):
            return count, stride
    return None


def _firsts(
    base: Ints, known: NDArray[np.bool_], count: int, stride: int
) -> tuple[Ints, NDArray[np.bool_]]:
    """Of each run of ``count`` the first address, and whether it is known."""
    offsets = (base - stride * np.tile(np.arange(count), len(base) // count)).reshape(-1, count)
    some = known.reshape(-1, count)
    return offsets[np.arange(len(some)), some.argmax(axis=1)], some.any(axis=1)


def _fits(base: Ints, known: NDArray[np.bool_], count: int, stride: int) -> bool:
    firsts, _ = _firsts(base, known, count, stride)
    line = (firsts[:, None] + stride * np.arange(count)).reshape(-1)
    return bool((~known | (base == line)).all())


@dataclass(frozen=True)
class Steps:
    """How the address moves from read to read: in a ``nest``, or by a ``sequence`` of steps."""

    nest: Nest | None
    sequence: Sequence

    @property
    def latency(self) -> int:
        """Cycles from a read to its step."""
        return 0 if self.nest else self.sequence.latency


@dataclass(frozen=True)
class Chunks:
    """What the ends of chunks of ``size`` events each are worth."""

    size: int
    amounts: Sequence

    @classmethod
    def of(cls, cumulative: Ints) -> "Chunks":
        """The smallest chunks with a simple sequence; ``cumulative``: the sum after each event."""
        total = len(cumulative) - 1
        for size in divisors(total):
            amounts = Sequence.of(np.diff(cumulative[::size]))
            if not amounts.in_rom or len(amounts.values) <= _TABLE:
                return cls(size, amounts)
        raise AssertionError("one chunk is a simple sequence")

    def resources(self, target: Target) -> Resources:
        """An estimate of the counters."""
        bits = (self.size - 1).bit_length()
        return self.amounts.resources(target) + Resources(bits, bits + 2)


@dataclass(frozen=True, eq=False)
class GatherConfig:
    """A frame of ``words`` beats in. ``source`` [beats out]: the beat in that each beat out is made
    of, -1: of none. ``pattern`` [beats out]: which of the ``patterns`` selects its elements;
    a pattern lists for each lane out the lane in, -1: the constant ``fill``.
    """

    words: int
    source: Ints
    patterns: tuple[tuple[int, ...], ...]
    pattern: Ints
    lanes_in: int
    element: Shape
    fill: int
    target: Target

    #: beats of the small queue at the output
    AHEAD = 16

    def __post_init__(self) -> None:
        at_least(1, self, "words", "lanes_in")
        if not -1 <= self.source.min() <= self.source.max() < self.words:
            raise ValueError(
                f"GatherConfig: source={self.source.min()} to {self.source.max()}, but a frame has "
                f"{self.words} words; choose 0 to {self.words - 1}, or -1"
            )
        lanes = [lane for pattern in self.patterns for lane in pattern]
        if not -1 <= min(lanes) <= max(lanes) < self.lanes_in:
            raise ValueError(
                f"GatherConfig: patterns={self.patterns}, but a word has {self.lanes_in} lanes; "
                f"choose 0 to {self.lanes_in - 1}, or -1"
            )

    @property
    def lanes_out(self) -> int:
        return len(self.patterns[0])

    @property
    def reads(self) -> int:
        """Beats of a frame out."""
        return len(self.source)

    def cycles(self) -> int:
        """Cycles a frame: one a beat in or out, whichever are more."""
        return max(self.words, self.reads)

    # Order

    @cached_property
    def needed(self) -> Ints:
        """Words that must have arrived before each read: at least one, so that a read of the fill
        waits for its frame too.
        """
        return np.maximum(np.maximum.accumulate(self.source + 1), 1)

    @cached_property
    def released(self) -> Ints:
        """Words that no read of the frame needs any more, [reads done]; after the last one also
        those at the start of the next frame.
        """
        sources: Listed[int] | Ints = np.where(self.source < 0, self.words, self.source)
        kept = np.minimum.accumulate(np.array([*sources, self.words])[::-1])[::-1]
        kept[-1] += kept[0]
        return kept

    @cached_property
    def arrivals(self) -> Chunks:
        """Reads that each chunk of words in makes possible."""
        after = np.arange(self.words + 1)
        return Chunks.of(np.searchsorted(self.needed, after, side="right"))

    @cached_property
    def releases(self) -> Chunks:
        """Words that each chunk of reads releases."""
        return Chunks.of(self.released)

    @cached_property
    def steps(self) -> Steps:
        """The moves of the address."""
        held = self._held
        moves = Sequence.of(np.diff(held, append=self.words + held[0]))
        return Steps(Nest.of(self.source) if moves.in_rom else None, moves)

    @property
    def start(self) -> int:
        """The address of the first read."""
        return self.steps.nest.start if self.steps.nest else int(self._held[0])

    @cached_property
    def _held(self) -> Ints:
        """The source of each read; a read of the fill stays at the word before it."""
        known = np.maximum.accumulate(np.where(self.source < 0, -1, np.arange(self.reads)))
        return np.where(known < 0, 0, self.source[known])

    @cached_property
    def which(self) -> Sequence:
        """The pattern of each read."""
        return Sequence.of(self.pattern)

    # Time

    @property
    def begin(self) -> int:
        """Cycles from the last word that a read needs to the read."""
        return 2 + self.arrivals.amounts.latency

    @property
    def fetch(self) -> int:
        """Cycles from a read to its address at the memory."""
        return self.steps.latency + 2

    @property
    def release_wait(self) -> int:
        """Cycles from a read to its release: a word is written after the last read of the one that
        was there.
        """
        return max(self.releases.amounts.latency, self.fetch - 2)

    def chosen(self, ram: RamConfig) -> int:
        """Cycles from a read to its beat, before the queue."""
        return self.fetch + ram.latency + (len(self.patterns) > 1)

    @property
    def latency(self) -> int:
        """Cycles from the last beat in to the last beat out."""
        return self.begin + self.chosen(self.ram) + Queue.latency

    # Depth

    @cached_property
    def depth(self) -> int:
        """Words of the memory: the least with which frames follow one another in :meth:`cycles`
        where beats in come at an even pace.

        A read takes place when the chunk that it needs has arrived, after the one before it. The
        memory holds each word from its arrival until the chunk of reads that needs it last is done.
        """
        frame = self.cycles()
        came = np.arange(self.words) * frame // self.words
        done = self._read_times(came, frame)[self.releases.size - 1 :: self.releases.size]
        free = np.concatenate([done + self.release_wait + 2 + n * frame for n in range(-4, 1)])
        totals = np.cumsum(np.diff(self.released[:: self.releases.size]))
        freed = np.concatenate([totals + n * self.words for n in range(-4, 1)])
        index = np.searchsorted(free, came, side="right") - 1
        held = np.arange(1, self.words + 1) - freed[index] - self.released[0]
        return max(1, int(held.max()))

    def _read_times(self, came: Ints, frame: int) -> Ints:
        """The cycle of each read of a frame whose words come in the cycles ``came``."""
        size = self.arrivals.size
        ready = came[-(-self.needed // size) * size - 1] + self.begin
        places = np.arange(self.reads)
        times = np.maximum.accumulate(ready - places) + places
        # the frame before may still be read
        before = times[-1] + 1 - frame
        return np.maximum(times, before + places)

    @property
    def ram(self) -> RamConfig:
        return RamConfig(self.depth, self.lanes_in * self.element.width, self.target)

    @property
    def taken(self) -> tuple[int, int]:
        """The least and the most words that are taken while the output is blocked, beyond the share
        of the frame that has left.
        """
        chunk = self.releases.size
        left = np.arange(self.reads + 1)
        due = left * self.words / self.reads
        behind = self.released[left // chunk * chunk] - due
        ahead = self.released[np.minimum((left + self.AHEAD) // chunk * chunk, self.reads)] - due
        return self.depth + int(np.floor(behind.min())), self.depth + int(np.ceil(ahead.max()))

    # Cost

    @property
    def memory_bits(self) -> int:
        return self.depth * self.lanes_in * self.element.width

    def resources(self) -> Resources:
        """An estimate: the memory and its addresses, the queue, and the choice of elements."""
        width, bits = self.lanes_out * self.element.width, (self.depth - 1).bit_length()
        sequences = [self.which] if self.steps.nest else [self.which, self.steps.sequence]
        loops = len(self.steps.nest.loops) if self.steps.nest else 0
        choice = (len(self.patterns) - 1) * width
        return sum(
            (each.resources(self.target) for each in (*sequences, self.arrivals, self.releases)),
            self.ram.resources()
            + Queue.estimate(width, self.target)
            + Resources(30 + 5 * bits + loops * bits, 40 + 6 * bits + loops * (bits + 2))
            + Resources(choice, choice and width),
        )

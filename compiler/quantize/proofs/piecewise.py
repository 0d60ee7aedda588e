"""Wide tables as straight pieces: a function of many inputs in the memory of a few hundred.

The exact outputs for all inputs (:func:`.table.for_unary`) are cut into segments of a power of two
of inputs, on each of which ``(slope * place + offset) >> shift`` gives every output. Segments are
found in two steps: the upper bits of the input choose a block, and the block says how long its
segments are and where they begin. Every input is computed before a result is returned, so it is
exact whatever the function is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from ... import ir
from .table import for_unary

__all__ = ["Piecewise", "for_wide_unary"]

#: bits below the point of slopes to try, and upper bits of the input that choose a block
_SHIFTS = (6, 8, 10, 12, 14)
_BLOCK_BITS = range(3, 11)


@dataclass(frozen=True, eq=False)
class Piecewise:
    """``y = (slope[s] * place + offset[s]) >> shift`` for raw inputs of ``bits`` bits.

    With ``u = raw - dtype.low``, the upper ``block_bits`` bits of u choose an entry of ``first``
    and ``length_bits``; the bits below them are ``rest``. Segment ``s = first + (rest >>
    length_bits)`` holds 2**length_bits inputs, and ``place`` is the lower ``length_bits`` bits of
    ``rest``.
    """

    bits: int
    block_bits: int
    first: NDArray[np.int64]
    length_bits: NDArray[np.int64]
    slope: NDArray[np.int64]
    offset: NDArray[np.int64]
    shift: int

    def apply(self, u: NDArray[np.integer]) -> NDArray[np.int64]:
        """What the hardware computes."""
        below = self.bits - self.block_bits
        block, rest = u >> below, u & ((1 << below) - 1)
        length = self.length_bits[block]
        segment = self.first[block] + (rest >> length)
        place = rest & ((1 << length) - 1)
        found: NDArray[np.int64] = (
            self.slope[segment] * place + self.offset[segment]
        ) >> self.shift
        return found


@lru_cache(maxsize=256)
def for_wide_unary(graph: ir.Graph, op: ir.Unary) -> Piecewise:
    """The pieces of ``op``, which equal its table on every input."""
    table = for_unary(graph, op)
    trials = (trial for shift in _SHIFTS for trial in _trials(table, shift))
    best = min(trials, key=lambda trial: trial.memory_bits).pieces()
    assert np.array_equal(best.apply(np.arange(len(table))), table)
    return best


@dataclass(frozen=True, eq=False)
class _Level:
    """Every segment of 2**k inputs: whether it is a straight piece, and its line."""

    fits: NDArray[np.bool_]
    slope: NDArray[np.int64]
    offset: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class _Trial:
    """A choice of shift and block size; ``chosen[b]``: log2 of the segments' length in block b."""

    levels: list[_Level]
    shift: int
    block_bits: int
    chosen: NDArray[np.int64]
    counts: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        below = len(self.levels) - 1 - self.block_bits
        object.__setattr__(self, "counts", 1 << (below - self.chosen))

    @property
    def memory_bits(self) -> int:
        """Bits of both memories, about: a slope is narrow, an offset as wide as an output."""
        width = 2 * self.shift + int(self.levels[0].offset.max() >> self.shift).bit_length() + 1
        return int(self.counts.sum()) * width + (len(self.chosen) << 4)

    def pieces(self) -> Piecewise:
        slopes, offsets = [], []
        for block, k in enumerate(self.chosen):
            start, count = block * self.counts[block], self.counts[block]
            slopes.append(self.levels[k].slope[start : start + count])
            offsets.append(self.levels[k].offset[start : start + count])
        return Piecewise(
            len(self.levels) - 1,
            self.block_bits,
            np.concatenate([[0], np.cumsum(self.counts)[:-1]]),
            self.chosen,
            np.concatenate(slopes),
            np.concatenate(offsets),
            self.shift,
        )


def _trials(table: NDArray[np.int64], shift: int) -> Iterator[_Trial]:
    bits = len(table).bit_length() - 1
    levels = [_level(table, k, shift) for k in range(bits + 1)]
    for block_bits in _BLOCK_BITS:
        below = bits - block_bits
        chosen = np.zeros(1 << block_bits, np.int64)
        for k in range(1, below + 1):
            chosen[levels[k].fits.reshape(1 << block_bits, -1).all(axis=1)] = k
        yield _Trial(levels, shift, block_bits, chosen)


def _level(table: NDArray[np.int64], k: int, shift: int) -> _Level:
    """Lines for all segments of 2**k inputs, where one of a few slopes near the mean fits."""
    segments = table.reshape(-1, 1 << k)
    place = np.arange(1 << k)
    fits = np.zeros(len(segments), bool)
    slope, offset = np.zeros(len(segments), np.int64), segments[:, 0] << shift
    for trial in _slopes(segments, k, shift):
        left = ~fits
        if not left.any():
            break
        # (slope * place + offset) >> shift is y for y << shift <= slope * place + offset < ...
        least = (segments[left] << shift) - trial[left, None] * place
        low, high = least.max(axis=1), least.min(axis=1) + (1 << shift) - 1
        found = np.flatnonzero(left)[low <= high]
        slope[found], offset[found] = trial[found], low[low <= high]
        fits[found] = True
    return _Level(fits, slope, offset)


def _slopes(segments: NDArray[np.int64], k: int, shift: int) -> Iterator[NDArray[np.int64]]:
    """Slopes to try for each segment: level, then those between its ends and between its halves,
    and their neighbours.
    """
    yield np.zeros(len(segments), np.int64)
    if k == 0:
        return
    half = 1 << (k - 1)
    rise = (segments[:, -1] - segments[:, 0]) << shift
    halves = (segments[:, half:].sum(axis=1) - segments[:, :half].sum(axis=1)) << shift
    means = (rise / ((1 << k) - 1), rise / (1 << k), halves / (half * half))
    for mean in means:
        for step in (0, 1, -1, 2, -2):
            yield np.rint(mean).astype(np.int64) + step

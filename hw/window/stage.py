"""A stage with a sliding window: feed, arithmetic, and an output queue with credits."""

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property

import numpy as np
from amaranth import Module, Shape
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from ..arithmetic.minimal_filtering import MinimalFiltering
from ..control.credits import credit_available
from ..control.delay import delay_flags
from ..sizes import at_least, ceil_div
from ..stream.fifo import Queue
from ..stream.signature import PushStream, beats, connect_push
from ..target.resources import Resources
from .config import WindowConfig
from .reuse_buffer import ReuseBuffer, ReuseBufferConfig
from .sliding_window import SlidingWindow
from .tile_buffer import TileBuffer, TileBufferConfig
from .tile_queue import TileQueue, TileQueueConfig

__all__ = ["FeedConfig", "TileFeedConfig", "WindowStage"]


#: cycles of cutting a word of a reuse buffer that do not overlap with the reads before it
_FILLING = 5


@dataclass(frozen=True)
class FeedConfig:
    """A window whose reductions reach the arithmetic ``width`` words a cycle, ``passes`` times.

    A word is ``word`` neighbouring elements of a read (1 for a matrix product; the channels that
    are computed in parallel for a depthwise layer). Where a read has ``width`` words the ``window``
    makes all passes, reading its line buffer again; otherwise it makes one, and a
    :class:`ReuseBuffer` cuts its reads and repeats them.
    """

    window: WindowConfig
    width: int
    passes: int = 1
    word: int = 1

    def __post_init__(self):
        at_least(1, self, "width", "passes", "word")
        if self.window.taps * self.window.chunk % self.word:
            raise ValueError(
                f"FeedConfig: word={self.word}, but it must divide the "
                f"{self.window.taps * self.window.chunk} elements of a read"
            )
        passes = self.passes if self.direct else 1
        if self.window.passes != passes:
            raise ValueError(
                f"FeedConfig: the window makes {self.window.passes} passes, but it must make "
                f"{passes}: " + ("all of them" if self.direct else "the reuse buffer repeats")
            )

    @property
    def read_width(self) -> int:
        """Words of a read."""
        return self.window.taps * self.window.chunk // self.word

    @property
    def direct(self) -> bool:
        """Whether the arithmetic takes the window's reads as they are."""
        return self.read_width == self.width

    @cached_property
    def reuse(self) -> ReuseBufferConfig:
        """The reuse buffer, where the reads are not ``direct``."""
        element = self.window.element
        return ReuseBufferConfig(
            self.window.reads * self.read_width,
            self.read_width,
            self.width,
            self.passes,
            Shape(element.width * self.word, element.signed),
            target=self.window.target,
        )

    @property
    def folds(self) -> int:
        """Cycles of one reduction."""
        return self.window.reads if self.direct else self.reuse.folds

    @property
    def element(self) -> Shape:
        return self.window.element

    @property
    def period(self) -> int:
        """Cycles from the start of what results are reserved for to the next one's."""
        return self.folds

    @property
    def pixel_cycles(self) -> int:
        """Cycles of a pixel of output."""
        return self.window.groups * self.passes * self.folds

    def cycles(self) -> int:
        """Cycles a frame: reductions without a pause, and at least one for each beat in."""
        w = self.window
        return max(w.height_out * w.width_out * self.pixel_cycles, w.beats_in())

    @property
    def late(self) -> float:
        """Cycles, in those of a pixel, that the first of two pixels leaves later than after its
        own.
        """
        return 0.0

    def looks_at(self) -> NDArray[np.int64]:
        """The window's, for each pixel of output."""
        return self.window.looks_at()

    def buffer(self) -> ReuseBuffer | TileBuffer | None:
        """What stands between the window and the arithmetic."""
        return None if self.direct else ReuseBuffer(self.reuse)

    def order(self) -> NDArray[np.int64]:
        """Flat weight index of each element of each word, [folds, width * word] (-1: padding)."""
        order = self.window.order()
        if self.direct:
            return order
        flat = order.reshape(-1, self.word)
        padded = np.full((self.folds * self.width, self.word), -1, np.int64)
        padded[: len(flat)] = flat
        return padded.reshape(self.folds, self.width * self.word)

    @cached_property
    def latency(self) -> int:
        """Cycles from the start of a reduction to its first word."""
        return (self.window if self.direct else self.reuse).latency

    def stage_latency(self, arithmetic: int) -> int:
        """Cycles from the last read of a reduction to its last beat out of a stage whose arithmetic
        has the latency ``arithmetic``. A reuse buffer holds the reduction before it sends it; then
        these are at most the cycles from the buffer's last read, and those of filling it that do
        not overlap with the sending.
        """
        filling = 0 if self.direct else self.window.latency + _FILLING
        return filling + self.latency + arithmetic + Queue.latency

    def resources(self) -> Resources:
        """An estimate of window and reuse buffer."""
        window = self.window.resources()
        return window if self.direct else window + self.reuse.resources()

    @property
    def memory_bits(self) -> int:
        return self.window.memory_bits + (0 if self.direct else self.reuse.memory_bits)

    def queue_depth(self, latency: int, results: int) -> int:
        """Beats of the output queue: those in flight while one reduction, of ``results`` beats,
        follows the other without a pause through arithmetic of that ``latency``.
        """
        in_flight = ceil_div(self.latency + self.period + latency + results + 8, self.period) + 1
        return 16 * ceil_div((in_flight + 2) * results, 16)


@dataclass(frozen=True)
class TileFeedConfig(FeedConfig):
    """The feed of minimal ``filtering``: a window of four columns, and in both directions of four
    rows, moves by two, and a :class:`TileBuffer` sends the positions of each tile, whose results
    are two pixels, or two by two.
    """

    filtering: MinimalFiltering = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "width", "passes")
        w, filtering = self.window, self.filtering
        directions = slice(2 - filtering.directions, 2)
        if (
            {*w.kernel[directions]} != {filtering.SIDE}
            or {*w.stride[directions]} != {filtering.STEP}
            or {*w.parallel[directions]} != {1}
        ):
            raise ValueError(
                f"TileFeedConfig: kernel={w.kernel}, stride={w.stride}, parallel={w.parallel}, but "
                f"tiles are {filtering.SIDE} columns wide, {filtering.STEP} apart, and read column "
                "by column; in both directions their rows are the same"
            )
        if w.groups != 1 or w.passes != 1 or self.word != 1 or self.width != w.taps * w.chunk:
            raise ValueError(
                f"TileFeedConfig: groups={w.groups}, passes={w.passes} of the window, "
                f"word={self.word}, width={self.width}, but a tile is read once, "
                f"{w.taps * w.chunk} elements at once"
            )

    @cached_property
    def tile(self) -> TileBufferConfig:
        """The buffer."""
        w = self.window
        return TileBufferConfig(
            self.filtering,
            w.steps[0],
            w.group_words,
            self.width,
            self.passes,
            w.element,
            target=w.target,
        )

    @property
    def by_rows(self) -> bool:
        """Whether tiles have several rows of pixels, which a :class:`TileQueue` puts in order."""
        return self.filtering.directions == 2

    @property
    def folds(self) -> int:
        return self.tile.folds

    @property
    def period(self) -> int:
        return self.tile.cycles if self.by_rows else self.tile.passes * self.tile.folds

    @property
    def pixel_cycles(self) -> int:
        return self.tile.cycles // self.filtering.outputs

    @property
    def element(self) -> Shape:
        return self.tile.transformed

    def cycles(self) -> int:
        w = self.window
        return max(w.height_out * w.width_out * self.tile.cycles, w.beats_in())

    @property
    def late(self) -> float:
        filtering = self.filtering
        if self.by_rows:
            return 0.0  # all pixels of a tile leave when it is complete
        first = Fraction(filtering.complete()[0] + 1, filtering.positions)
        return float(filtering.outputs * first - 1)

    def looks_at(self) -> NDArray[np.int64]:
        """The window's, for each pixel of output of a tile; a row of tiles is a row."""
        return np.repeat(self.window.looks_at(), self.filtering.outputs, 1)

    def order(self) -> NDArray[np.int64]:
        """Flat index of each element of each word into what a position sums, [folds, width]."""
        w, side = self.window, self.filtering.SIDE
        order = w.order().reshape(w.steps[0], side, w.group_words, self.width)[:, 0]
        if self.by_rows:
            order = order[:1]
        row, channel = np.divmod(order.reshape(self.folds, self.width), side * w.channels)
        return np.where(row < 0, -1, row * w.channels + channel)

    def queue(self, beats: int, width: int) -> TileQueueConfig | None:
        """What puts pixels of ``beats`` beats of ``width`` bits in the order of the map, where
        tiles have several rows of them.
        """
        if not self.by_rows:
            return None
        return TileQueueConfig(self.window.width_out, beats, width, self.window.target)

    @cached_property
    def latency(self) -> int:
        return self.tile.latency

    def stage_latency(self, arithmetic: int) -> int:
        """From the last beat that a tile needs: it is read before it leaves."""
        read = self.window.latency + self.tile.reads
        return read + self.latency + arithmetic + Queue.latency

    def resources(self) -> Resources:
        return self.window.resources() + self.tile.resources()

    @property
    def memory_bits(self) -> int:
        return self.window.memory_bits + self.tile.memory_bits

    def buffer(self) -> TileBuffer:
        return TileBuffer(self.tile)


class WindowStage(wiring.Component):
    """Window, arithmetic and output queue; the base of convolutions and pools.

    A reduction starts when the queue has room for all its results, so no stall reaches the
    arithmetic. While ``i`` is valid and ``o`` is ready, a word enters it every cycle.

    Members
    -------
    i : In(beats(chunk, element))
    o : Out(beats(lanes, out))
    """

    def __init__(self, feed: FeedConfig, *, lanes: int, out: Shape, results: int):
        """``results``: beats of a reduction."""
        self.feed = feed
        self.results = results
        super().__init__(
            {"i": In(beats(feed.window.chunk, feed.window.element)), "o": Out(beats(lanes, out))}
        )

    def arithmetic(self, m: Module, flow: PushStream) -> tuple:
        """Add the arithmetic; return its output flow, a flag of dropped beats, and its latency."""
        raise NotImplementedError

    def output_queue(self, latency: int) -> tuple[Queue | TileQueue, int, int]:
        """The queue for results of arithmetic of that latency, its credits, and those that are
        taken at once.
        """
        depth = self.feed.queue_depth(latency, self.results)
        queue = Queue(self.o.payload.shape(), depth, self.feed.window.target)
        return queue, depth, self.results

    def elaborate(self, platform):
        m = Module()
        m.submodules.window = window = SlidingWindow(self.feed.window)
        wiring.connect(m, wiring.flipped(self.i), window.i)
        source = window
        if buffer := self.feed.buffer():
            m.submodules.reuse_buffer = source = buffer
            connect_push(m, window.o, source.i)
            m.d.comb += [window.grant.eq(source.room), source.taken.eq(window.start)]
        flow, dropped, latency = self.arithmetic(m, source.o)

        queue, size, share = self.output_queue(latency)
        m.submodules.queue = queue
        returned = queue.freed
        if not isinstance(queue, TileQueue):  # whose credits are tiles, whatever they drop
            returned = returned + delay_flags(m, dropped, 1)
        free = credit_available(
            m, size, share, returned, source.start, apart=self.feed.period, late=1
        )
        m.d.comb += [
            # registered in both directions: the queue may be far from the window
            source.grant.eq(free),
            queue.data.eq(flow.payload),
            queue.write.eq(flow.valid),
        ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m

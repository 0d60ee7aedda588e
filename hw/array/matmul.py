"""Convolutions: a window, a systolic array, one requantizer for many columns."""

from dataclasses import dataclass

import numpy as np
from amaranth import Module
from amaranth.lib import wiring
from numpy.typing import NDArray

from ..arithmetic.minimal_filtering import OutputTransform, OutputTransformConfig
from ..arithmetic.requantize import Requantize, RequantizeConfig, Timing
from ..stream.fifo import Queue
from ..stream.signature import connect_push
from ..window.stage import FeedConfig, TileFeedConfig, WindowStage
from ..window.tile_queue import TileQueue, TileQueueConfig
from .config import ArrayConfig
from .systolic import SystolicArray

__all__ = ["MatMulConfig", "MatMul", "output_transform", "results"]


def output_transform(feed: FeedConfig, array: ArrayConfig) -> OutputTransformConfig | None:
    """What makes pixels of the array's sums where the feed is of tiles."""
    if not isinstance(feed, TileFeedConfig):
        return None
    beats, apart = feed.passes * array.groups, feed.passes * feed.folds
    return OutputTransformConfig(feed.filtering, beats, array.lanes, array.acc, apart, array.target)


def results(feed: FeedConfig, array: ArrayConfig) -> int:
    """Beats that are reserved at once: of a reduction, or of a pixel of a tile."""
    transform = output_transform(feed, array)
    return transform.beats if transform else array.groups


@dataclass(frozen=True)
class MatMulConfig:
    """A convolution (dense, grouped or depthwise) folded onto ``array``.

    ``requantize`` holds a pixel's constants in the order in which results leave the array.
    """

    feed: FeedConfig
    array: ArrayConfig
    requantize: RequantizeConfig

    def __post_init__(self):
        array, feed, requantize = self.array, self.feed, self.requantize
        for what, given, taken in (
            ("the feed gives reductions of this many cycles", feed.folds, array.folds),
            ("the feed gives words of this many elements", feed.width * feed.word, array.elements),
            ("the array gives beats of this many results", array.lanes, requantize.lanes),
            ("the array gives results of this shape", array.acc, requantize.acc),
        ):
            if given != taken:
                raise ValueError(f"MatMulConfig: {what}: {given!r}, but {taken!r} is taken")

    def cycles(self) -> int:
        """Cycles a frame: ``pixels * folds * passes * groups``, no bubbles."""
        return self.feed.cycles()

    @property
    def latency(self) -> int:
        """Cycles from the last read of a reduction to its last beat out."""
        return self.latency_of(self.feed, self.array, self.requantize.timing, self.tile_queue)

    @staticmethod
    def latency_of(
        feed: FeedConfig, array: ArrayConfig, requantize: Timing, tiles: TileQueueConfig | None
    ) -> int:
        """:attr:`latency`, of which the constants need not be known; with a :attr:`tile_queue` from
        the last read of a tile to the last beat of its first pixel.
        """
        transform = output_transform(feed, array)
        last = array.latency + array.drain_cycles + (transform.latency if transform else 0)
        ordering = tiles.latency - Queue.latency if tiles else 0
        return feed.stage_latency(last + requantize.latency + ordering)

    @property
    def tile_queue(self) -> TileQueueConfig | None:
        """What puts pixels in order where tiles have several rows of them."""
        if not isinstance(self.feed, TileFeedConfig):
            return None
        beats = sum(self.requantize.keep) // self.feed.filtering.outputs
        return self.feed.queue(beats, self.array.lanes * self.requantize.out.width)

    @property
    def lanes_out(self) -> int:
        return self.array.lanes

    @property
    def results(self) -> int:
        """Those of :func:`results`."""
        return results(self.feed, self.array)


class MatMul(WindowStage):
    """``o = requantize(sum over the window of x * weight)``, for each output channel of each pixel.

    Takes ``config.cycles()`` cycles a frame.

    Members
    -------
    i : In(beats(chunk, x))
    o : Out(beats(lanes_out, out))
    """

    def __init__(self, config: MatMulConfig, weights: NDArray[np.int64]):
        """``weights``: [pe, simd, depth], as :class:`.systolic.SystolicArray` takes them."""
        self.config = config
        self.weights = weights
        super().__init__(
            config.feed,
            lanes=config.lanes_out,
            out=config.requantize.out,
            results=config.results,
        )

    def output_queue(self, latency: int) -> tuple[Queue | TileQueue, int, int]:
        tiles = self.config.tile_queue
        if tiles is None:
            return super().output_queue(latency)
        return TileQueue(self.o.payload.shape(), tiles), tiles.tiles, 1

    def arithmetic(self, m: Module, flow) -> tuple:
        config = self.config
        m.submodules.array = array = SystolicArray(config.array, self.weights)
        m.submodules.requantize = requantize = Requantize(config.requantize)
        connect_push(m, flow, array.i)
        # the stage counts on a result a cycle
        waits = config.array.drain_cycles - (config.array.groups - 1)
        latency = config.array.latency + waits + config.requantize.latency
        last = array
        if transform := output_transform(config.feed, config.array):
            m.submodules.output_transform = last = OutputTransform(transform)
            wiring.connect(m, array.o, last.i)
            latency += transform.latency
        wiring.connect(m, last.o, requantize.i)
        return requantize.o, requantize.dropped, latency

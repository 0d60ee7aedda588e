"""What convolutions and pools share: a line buffer whose windows feed an arithmetic."""

from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..quantize.proofs.requantizer import (
    accumulator_type,
    fast_accumulator_type,
    result_type,
    scaled_result_type,
)
from .base import Buffering, Design, StagePlan, StageTiming, WindowNeeds, hw_shape

__all__ = [
    "WindowDesign",
    "accumulator",
    "fast_accumulator",
    "feed_resources",
    "filtered_accumulator",
    "initiation_interval",
    "largest_divisors",
    "parallel_taps",
    "shared_feed",
    "tree_accumulator",
    "window_config",
]

#: most cycles for a result: a multiplier of usual width then takes them bit by bit
_MAX_INITIATION_INTERVAL = 16
#: share of a frame's cycles that the last results may take to leave, so that latency stays low
_DRAIN_SHARE = Fraction(1, 32)


@dataclass(frozen=True)
class WindowDesign(Design):
    """A line buffer, the arithmetic behind it, and a queue with room reserved for each result."""

    feed: hw.FeedConfig

    @property
    def results(self) -> int:
        """Beats that one reduction gives."""
        return 1

    def cycles(self) -> int:
        return self.feed.cycles()

    @property
    def timing(self) -> StageTiming:
        window = self.feed.window
        return StageTiming(
            self.feed.pixel_cycles,
            self.latency,
            window.words,
            window.arrival,
            window.rows,
            window.unit,
        )

    @property
    def drain_cycles(self) -> int:
        return max(self.latency, self.feed.queue_depth(self.latency, self.results))

    @cached_property
    def buffering(self) -> Buffering:
        window = self.feed.window
        in_flight = ceil(self.latency / max(1, self.cycles() // (window.height * window.width)))
        return Buffering(window.capacity, window.capacity + in_flight, _line_buffer(self.feed))


@lru_cache(maxsize=4096)
def _line_buffer(feed: hw.FeedConfig) -> WindowNeeds:
    """Cached, for many schedules are tried with one window."""
    return WindowNeeds(feed.looks_at(), feed.window.releases(), feed.window.width, feed.late)


@lru_cache(maxsize=4096)
def shared_feed(feed: hw.FeedConfig) -> hw.FeedConfig:
    """The first of equal feeds: many arrays are tried behind one, and it keeps what it computes."""
    return feed


@lru_cache(maxsize=4096)
def feed_resources(feed: hw.FeedConfig) -> hw.Resources:
    """Cached, for many arrays are tried behind one feed."""
    return feed.resources()


def _signed(exact: ir.Int) -> ir.Int:
    """The narrowest signed type that holds a type."""
    return ir.Int(exact.bits + (not exact.signed), True)


@lru_cache(maxsize=1024)
def accumulator(op: ir.Op, graph: ir.Graph) -> ir.Int:
    """Signed, and wide enough for every partial sum; cached, for many foldings are tried."""
    exact = accumulator_type(op, graph)
    return _signed(exact)


@lru_cache(maxsize=1024)
def fast_accumulator(op: ir.Conv, graph: ir.Graph) -> ir.Int:
    """The same for every result of the fast inner product."""
    exact = fast_accumulator_type(op, graph)
    return _signed(exact)


@lru_cache(maxsize=1024)
def tree_accumulator(op: ir.Conv, graph: ir.Graph, code: hw.WeightCode) -> ir.Int:
    """The same for every result of adder trees with weights in that code."""
    weight = op.weight.reshape(op.channels, -1).astype(np.int64)
    exact = result_type(op, graph, code.excess(weight, hw_shape(graph.quant(op.inputs[0]).dtype)))
    return _signed(exact)


@lru_cache(maxsize=1024)
def filtered_accumulator(
    op: ir.Conv, graph: ir.Graph, filtering: hw.MinimalFiltering, fast: bool
) -> ir.Int:
    """The same for every output of minimal filtering, which is a multiple of a sum; with the fast
    inner product more by products of two transformed weights, at most half the sum of their
    squares.
    """
    excess = np.zeros(op.channels, np.int64)
    if fast:
        squares = filtering.transformed_filters(op.weight.astype(np.int64)) ** 2
        each = squares.sum(2) // 2
        excess = np.tensordot(abs(filtering.signs), each, 1).max(0)
    return _signed(scaled_result_type(op, graph, filtering.scale, excess))


def parallel_taps(window: ir.Window) -> list[tuple[int, int]]:
    """Ways to read several taps at once, the fewest memories first."""
    rows, columns = window.kernel
    ways = {(1, 1), (rows, 1), (1, columns), (rows, columns)}
    return sorted(ways, key=lambda way: (way[0] * way[1], way[1]))


def window_config(
    op: ir.Op,
    graph: ir.Graph,
    device: Device,
    stage: StagePlan,
    window: ir.Window,
    fill: int,
    chunk: int,
    parallel: tuple[int, int],
    groups: int,
    channels: int | None = None,
    passes: int = 1,
) -> hw.WindowConfig:
    """The line buffer of ``op``'s input under ``window``."""
    shape, quant = graph.shape(op.inputs[0]), graph.quant(op.inputs[0])
    return hw.WindowConfig(
        height=shape.height,
        width=shape.width,
        channels=channels or shape.channels,
        element=hw_shape(quant.dtype),
        chunk=chunk,
        kernel=window.kernel,
        stride=window.stride,
        dilation=window.dilation,
        pads=window.pads,
        fill=fill,
        parallel=parallel,
        groups=groups,
        passes=passes,
        minimal_rows=stage.minimal_rows,
        target=device.target,
    )


def initiation_interval(feed: hw.FeedConfig, results: int) -> int:
    """Cycles between two of a reduction's ``results``: as many as there are, so that requantizing
    takes little logic, where that helps and does not delay the frame.
    """
    drain = (
        int(_DRAIN_SHARE * feed.cycles()) // (results - 1)
        if results > 1
        else _MAX_INITIATION_INTERVAL
    )
    return max(1, min(feed.folds // results, drain, _MAX_INITIATION_INTERVAL))


def largest_divisors(most: int, limit: int) -> NDArray[np.int64]:
    """Of each number from 1 to ``most``: its largest divisor up to ``limit``."""
    found = np.ones(most, np.int64)
    for divisor in range(2, min(most, limit) + 1):
        found[divisor - 1 :: divisor].fill(divisor)
    return found

"""Pools and borders: a window, and a comparison or a sum."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..errors import PlanError
from ..quantize.proofs.requantizer import (
    average_counts,
    taps_inside,
)
from ..quantize.proofs.rounding import level
from .base import StageKind, StagePlan, StagePort, StagePorts, check_range, hw_shape
from .global_pool import GlobalPoolDesign
from .rounding import multiplier_bits, proven, rounding
from .streaming import even_widths
from .windowed import (
    WindowDesign,
    accumulator,
    feed_resources,
    initiation_interval,
    parallel_taps,
    window_config,
)

__all__ = ["Pool", "PoolDesign", "pool_window"]


@dataclass(frozen=True)
class PoolDesign(WindowDesign):
    """A window, a tree, and for an average a requantizer; ``acc`` is the type of the sum."""

    acc: ir.Int | None

    @property
    def ports(self) -> StagePorts:
        (op,), pe = self.ops, self.stage.pe
        return StagePorts((StagePort(op.inputs[0], pe, "i"),), (StagePort(op.output, pe, "o"),))

    @property
    def initiation_interval(self) -> int:
        """Cycles from one result to the next that requantizing may take."""
        return initiation_interval(self.feed, 1)

    @property
    def memory_bits(self) -> int:
        return self.feed.memory_bits

    @property
    def latency(self) -> int:
        rounds = self._rounds if self.acc else None
        return hw.PoolConfig.latency_of(self.feed, self._reduce, rounds)

    @property
    def _rounds(self) -> hw.Timing:
        """The requantizer of an average."""
        return hw.RequantizeConfig.usual(1, self.initiation_interval, self._mult_bits)

    @property
    def _mult_bits(self) -> int:
        (op,) = self.ops
        assert isinstance(op, ir.AveragePool)
        return multiplier_bits(op, self.graph)

    @property
    def _reduce(self) -> hw.ReduceConfig:
        out = hw_shape(self.acc) if self.acc else self.feed.element
        feed = self.feed
        return hw.ReduceConfig(feed.width, self.stage.pe, feed.folds, feed.element, out)

    def resources(self, device: Device) -> hw.Resources:
        lanes, reduce = self.stage.pe, self._reduce
        out = self.graph.quant(self.ops[-1].output).dtype
        rounds = (
            hw.RequantizeConfig.estimate(
                lanes,
                reduce.out.width,
                1,
                self.initiation_interval,
                device.target,
                mult=self._mult_bits,
            )
            if self.acc
            else hw.Resources()
        )
        return (
            feed_resources(self.feed)
            + reduce.resources()
            + rounds
            + hw.Queue.estimate(
                out.bits * lanes,
                device.target,
                self.feed.queue_depth(self.latency, self.results),
            )
        )

    def constants(self) -> hw.RequantizeConfig | None:
        """The requantizer of an average; a largest element and a border have none."""
        (op,), graph, lanes = self.ops, self.graph, self.stage.pe
        if not isinstance(op, ir.AveragePool):
            return None
        assert self.acc is not None, f"{op.name}: an average without an accumulator"
        exact = proven(op, graph)
        shape = graph.shape(op.inputs[0])
        counts = average_counts(op, shape)
        if len(counts) == 1:
            entries, repeat = [0], 1
        else:
            rows, columns = taps_inside(op, shape)
            entries = [counts.index(row * column) for row in rows for column in columns]
            repeat = self.feed.window.groups
        return hw.RequantizeConfig(
            lanes,
            hw_shape(self.acc),
            hw_shape(graph.quant(op.output).dtype),
            tuple(exact.mult[e] for e in entries for _ in range(lanes)),
            tuple(exact.offset[e] for e in entries for _ in range(lanes)),
            (True,) * len(entries),
            rounding(exact),
            repeat,
            self.initiation_interval,
            target=self.feed.window.target,
        )

    def build(self, constants: hw.RequantizeConfig | None) -> hw.Component:
        out = hw_shape(self.graph.quant(self.ops[-1].output).dtype)
        config = hw.PoolConfig(self.feed, self.stage.pe, out, constants)
        return hw.AveragePool(config) if constants else hw.MaxPool(config)


class Pool(StageKind):
    """One pool or border: ``simd`` taps by ``pe`` channels a cycle.

    A pool over a whole map needs no line buffer (:mod:`.global_pool`).
    """

    name = "pool"
    folding = (
        "`simd`: taps read a cycle (whole rows or columns; 1 where the window is the whole map); "
        "`pe`: channels side by side"
    )
    fields = frozenset({"simd", "pe", "minimal_rows"})

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.MaxPool | ir.AveragePool | ir.Pad)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        (op,) = ops
        window, _ = pool_window(op, graph)
        if _is_global(op, graph):
            yield from even_widths(op, graph)
            return
        lanes = [pe for _, pe in even_widths(op, graph)]
        for way in parallel_taps(window):
            for pe in lanes:
                yield way[0] * way[1], pe

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> PoolDesign | GlobalPoolDesign:
        (op,) = ops
        shape = graph.shape(op.inputs[0])
        window, fill = pool_window(op, graph)
        if _is_global(op, graph):
            if stage.simd != 1:
                raise PlanError(
                    f"{op.name}: simd={stage.simd}, but a pool over a whole map takes its pixels "
                    "as they come, one at a time; choose simd=1"
                )
            check_range(
                op, "pe", stage.pe, shape.channels, f"the map has {shape.channels} channels"
            )
            words = shape.pixels * ceil(shape.channels / stage.pe)
            return GlobalPoolDesign(stage, ops, graph, words, device.target)
        check_range(op, "simd", stage.simd, window.taps, f"the window has {window.taps} taps")
        check_range(op, "pe", stage.pe, shape.channels, f"the map has {shape.channels} channels")
        way = next((w for w in parallel_taps(window) if w[0] * w[1] == stage.simd), None)
        if way is None:
            ways = sorted({w[0] * w[1] for w in parallel_taps(window)})
            raise PlanError(
                f"{op.name}: simd={stage.simd}, but a pool reads whole rows or columns of "
                f"its window at once; choose one of {ways}"
            )
        blocks = ceil(shape.channels / stage.pe)
        feed = hw.FeedConfig(
            window_config(
                op,
                graph,
                device,
                stage,
                window,
                fill,
                stage.pe,
                parallel=way,
                groups=blocks,
                channels=blocks * stage.pe,
            ),
            stage.simd,
            1,
            stage.pe,
        )
        acc = accumulator(op, graph) if isinstance(op, ir.AveragePool) else None
        return PoolDesign(stage, ops, graph, feed, acc)


def _is_global(op: ir.Op, graph: ir.Graph) -> bool:
    """Whether the one window of a pool is its map as it is."""
    if isinstance(op, ir.Pad):
        return False
    (window, _), shape = pool_window(op, graph), graph.shape(op.inputs[0])
    return (
        window.kernel == (shape.height, shape.width)
        and window.dilation == (1, 1)
        and not any(window.pads)
    )


def pool_window(op: ir.Op, graph: ir.Graph) -> tuple[ir.Window, int]:
    """The window of a pool or a border, and what its padding reads as."""
    quant = graph.quant(op.inputs[0])
    if isinstance(op, ir.MaxPool):
        return op.window, quant.dtype.low
    if isinstance(op, ir.AveragePool):
        return op.window, quant.zero
    assert isinstance(op, ir.Pad)
    return ir.Window(pads=op.pads), level(op.fill, quant)

"""From an operator and its folding to the shape of its hardware: cycles, widths and cost."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache, singledispatch
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ... import hw
from ...hw.target.device import Device
from .. import ir
from ..errors import PlanError
from ..quantize.proofs.requantizer import accumulator_type, round_half_even
from .resources import Resources

__all__ = [
    "StagePlan",
    "Design",
    "ConvDesign",
    "PoolDesign",
    "SimpleDesign",
    "ConvFoldings",
    "conv_foldings",
    "design",
    "foldings",
    "packing",
]

_QUEUE_LATENCY = 2
#: most cycles for a result: a multiplier of usual width then takes them bit by bit
_MAX_INITIATION_INTERVAL = 16
#: share of a frame's cycles that the last results may take to leave, for the sake of its latency
_DRAIN_SHARE = Fraction(1, 32)


@dataclass(frozen=True)
class StagePlan:
    """One stage of hardware: which operators it runs, and how wide it is.

    ``ops`` are names of the values that the stage computes. A convolution has ``simd`` rows
    (products summed a cycle) by ``pe`` columns (output channels side by side); a pool has ``simd``
    taps by ``pe`` channels; everything else handles ``pe`` channels a cycle. ``dsp_multipliers`` is
    the number of multipliers in DSP blocks, the others are soft logic. ``weights`` is where weights
    are stored: "logic", "block_ram", or "packed_rows" (the fewest block RAMs, at the cost of some
    logic). ``minimal_rows``: the line buffer has no spare row. ``site`` is where along the device's
    path of DSP blocks the stage's own begin; None leaves it to the placer.
    """

    name: str
    ops: tuple[str, ...]
    simd: int = 1
    pe: int = 1
    dsp_multipliers: int = 0
    weights: str = "logic"
    minimal_rows: bool = False
    site: int | None = None


@dataclass(frozen=True)
class Design:
    """The shape of a stage's hardware, before any constant is known."""

    stage: StagePlan
    pixels_out: int

    @property
    def lanes_in(self) -> int:
        return self.stage.pe

    @property
    def lanes_out(self) -> int:
        return self.stage.pe

    @property
    def multipliers(self) -> int:
        """Multipliers for the network's own products."""
        return 0

    @property
    def products_per_block(self) -> int:
        """Products that a DSP block gives this stage, at most; 0: it can not use any."""
        return 0

    def blocks(self, hard: int) -> int:
        """DSP blocks that make ``dsp_multipliers`` of the products."""
        return 0

    @property
    def memory_bits(self) -> int:
        return 0

    def cycles(self) -> int:
        """Cycles a frame."""
        raise NotImplementedError

    @property
    def latency(self) -> int:
        """Cycles from the last element in (for a window: read) to the last beat out."""
        raise NotImplementedError

    def resources(self, device: Device) -> Resources:
        raise NotImplementedError


@dataclass(frozen=True)
class ConvDesign(Design):
    """A windowed systolic array and its requantizers."""

    feed: hw.FeedConfig
    array: hw.ArrayConfig
    results: int

    @property
    def lanes_in(self) -> int:
        return self.feed.window.chunk

    @property
    def lanes_out(self) -> int:
        return self.array.lanes

    @property
    def multipliers(self) -> int:
        return self.array.multipliers

    @property
    def products_per_block(self) -> int:
        return self.array.products_per_block

    def blocks(self, hard: int) -> int:
        return self.array.blocks(hard)

    @property
    def memory_bits(self) -> int:
        return self.feed.memory_bits + self.array.memory_bits

    def cycles(self) -> int:
        return self.feed.cycles()

    @property
    def latency(self) -> int:
        rounds = hw.RequantizeConfig.usual(self.results, self.array.initiation_interval)
        return (
            self.feed.latency
            + self.array.latency
            + self.array.drain_cycles
            + rounds.latency
            + _QUEUE_LATENCY
        )

    def resources(self, device: Device) -> Resources:
        lanes = self.array.lanes
        rounds = hw.RequantizeConfig.estimate(
            lanes, self.array.acc.width, self.results, self.array.initiation_interval, device.family
        )
        return (
            _feed_resources(self.feed)
            + self.array.resources()
            + rounds
            + hw.Queue.estimate(8 * lanes, device.family)
        )


@dataclass(frozen=True)
class PoolDesign(Design):
    """A window and a comparison or a sum."""

    feed: hw.FeedConfig
    acc: ir.Int | None

    @property
    def initiation_interval(self) -> int:
        """Cycles from one result to the next that requantizing may take."""
        return _initiation_interval(self.feed, 1)

    @property
    def memory_bits(self) -> int:
        return self.feed.memory_bits

    def cycles(self) -> int:
        return self.feed.cycles()

    @property
    def latency(self) -> int:
        levels = (self.feed.width - 1).bit_length() + 1
        rounds = hw.RequantizeConfig.usual(1, self.initiation_interval).latency if self.acc else 0
        return self.feed.latency + levels + rounds + _QUEUE_LATENCY

    def resources(self, device: Device) -> Resources:
        lanes, element = self.stage.pe, self.feed.element
        out = hw_shape(self.acc) if self.acc else element
        reduce = hw.ReduceConfig(self.feed.width, lanes, self.feed.folds, element, out)
        rounds = (
            hw.RequantizeConfig.estimate(lanes, out.width, 1, self.initiation_interval)
            if self.acc
            else Resources()
        )
        return (
            _feed_resources(self.feed)
            + reduce.resources()
            + rounds
            + hw.Queue.estimate(8 * lanes, device.family)
        )


@dataclass(frozen=True)
class SimpleDesign(Design):
    """A stage of one beat a cycle, ``pipeline`` cycles long; ``table_bits`` of memory a lane."""

    beats: int
    pipeline: int
    cost: Resources
    table_bits: int = 0
    family: str = "generic"

    def cycles(self) -> int:
        return self.beats

    @property
    def latency(self) -> int:
        return self.pipeline

    @property
    def memory_bits(self) -> int:
        return self.table_bits * self.stage.pe

    def resources(self, device: Device) -> Resources:
        return self.cost


@lru_cache(maxsize=4096)
def _feed_resources(feed: hw.FeedConfig) -> Resources:
    """Remembered, for many arrays are tried behind one feed."""
    return feed.resources()


# From operators to designs.


@singledispatch
def design(op: ir.Op, graph: ir.Graph, stage: StagePlan, device: Device) -> Design:
    """The shape of ``op``'s hardware when folded as ``stage`` says; :class:`PlanError` when it may
    not.
    """
    raise NotImplementedError(f"{op.name}: no hardware for {type(op).__name__}")


@singledispatch
def foldings(op: ir.Op, graph: ir.Graph) -> Iterator[tuple[int, int]]:
    """The (simd, pe) worth trying for ``op``."""
    shape = graph.shape(op.output)
    for beats in sorted({ceil(shape.channels / n) for n in range(1, shape.channels + 1)}):
        yield 1, beats


def hw_shape(dtype: ir.Int) -> hw.Shape:
    """An integer type as the gateware spells it."""
    return hw.integer(dtype.bits, dtype.signed)


@lru_cache(maxsize=1024)
def _accumulator(op: ir.Op, graph: ir.Graph) -> ir.Int:
    """Signed, and wide enough for every partial sum; remembered, for many foldings are tried."""
    exact = accumulator_type(op, graph)
    return ir.Int(exact.bits + (not exact.signed), True)


@lru_cache(maxsize=1024)
def _weight_type(op: ir.Conv) -> tuple[ir.Int, int]:
    """Signed, and wide enough for every weight; and the largest absolute weight."""
    low, high = min(int(op.weight.min()), -1), max(int(op.weight.max()), 1)
    return ir.Int(ir.Int.holding(low, high).bits, True), max(-low, high)


def _packed_type(
    op: ir.Conv, x: hw.Shape, stage: StagePlan, device: Device
) -> tuple[ir.Int, int, int]:
    """The type of the weights, the largest, and how many products of one x share a DSP block."""
    w, most = _weight_type(op)
    if op.depthwise or not stage.dsp_multipliers:
        return w, most, 1
    pack = hw.packed_products(hw.block_of(device.family), x, most)
    if pack > 1 and most > w.high:  # weights that share a block borrow from one another
        w = ir.Int(w.bits + 1, True)
    return w, most, pack


def packing(op: ir.Conv, graph: ir.Graph, device: Device) -> int:
    """Products of one activation that a DSP block can give."""
    x = hw_shape(graph.quant(op.inputs[0]).dtype)
    return _packed_type(op, x, StagePlan("", (op.output,), dsp_multipliers=1), device)[2]


def _within(op: ir.Op, name: str, value: int, most: int, why: str) -> None:
    if not 1 <= value <= most:
        raise PlanError(f"{op.name}: {name}={value}, but {why}; choose 1 to {most}")


def _parallel_taps(window: ir.Window) -> list[tuple[int, int]]:
    """Ways to read several taps at once, the fewest memories first."""
    rows, columns = window.kernel
    ways = {(1, 1), (rows, 1), (1, columns), (rows, columns)}
    return sorted(ways, key=lambda way: (way[0] * way[1], way[1]))


def _window(
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
        family=device.family,
    )


@design.register
def _(op: ir.Conv, graph: ir.Graph, stage: StagePlan, device: Device) -> Design:
    depthwise = op.depthwise
    taps = op.window.taps
    most = taps if depthwise else op.reduction
    _within(
        op,
        "simd",
        stage.simd,
        most,
        f"the layer sums {most} products" + (" (it is depthwise)" if depthwise else ""),
    )
    columns = op.channels if depthwise else op.channels // op.groups
    _within(
        op,
        "pe",
        stage.pe,
        columns,
        f"the layer has {columns} output channels"
        + ("" if depthwise or op.groups == 1 else " in a group"),
    )
    feed = (_depthwise_feed if depthwise else _conv_feed)(op, graph, device, stage)
    groups = feed.window.groups
    x = hw_shape(graph.quant(op.inputs[0]).dtype)
    w, most, pack = _packed_type(op, x, stage, device)
    # a beat may not hold channels of two groups; columns of one beat may share DSP blocks
    within = columns if groups > 1 and not depthwise else None
    lanes = _lanes(stage.pe, feed.folds, within, pack)
    if lanes is None:
        raise PlanError(
            f"{op.name}: pe={stage.pe} with simd={stage.simd}, but {stage.pe} results "
            f"every {feed.folds} cycles do not pack into beats of a group's {columns} "
            f"channels; choose a pe that divides {columns}"
        )
    array = hw.ArrayConfig(
        simd=stage.simd,
        pe=stage.pe,
        folds=feed.folds,
        depth=feed.folds * feed.passes * groups,
        lanes=lanes,
        x=x,
        w=hw_shape(w),
        acc=hw_shape(_accumulator(op, graph)),
        family=device.family,
        shared=not depthwise,
        dsp_multipliers=min(stage.dsp_multipliers, stage.simd * stage.pe),
        memory=stage.weights,
        max_abs_weight=most,
        initiation_interval=_initiation_interval(feed, stage.pe // lanes),
    )
    array = replace(array, sites=_sites(stage, device, array.blocks(array.multipliers_in_dsp)))
    pixels = graph.shape(op.output).pixels
    return ConvDesign(stage, pixels, feed, array, groups * feed.passes * array.groups)


def _lanes(pe: int, folds: int, within: int | None, pack: int = 1) -> int | None:
    """The fewest results a beat with which ``pe`` of them leave every ``folds`` cycles, a multiple
    of ``pack`` or else of something smaller; ``within`` is what it must divide.
    """
    legal = [
        q
        for q in range(1, pe + 1)
        if pe % q == 0 and pe // q <= folds and (within is None or within % q == 0)
    ]
    return next((q for n in range(pack, 0, -1) for q in legal if q % n == 0), None)


def _initiation_interval(feed: hw.FeedConfig, results: int) -> int:
    """Cycles from one of a reduction's ``results`` to the next: all the time that there is, so that
    requantizing takes little logic, where it helps and does not hold up the frame.
    """
    drain = (
        int(_DRAIN_SHARE * feed.cycles()) // (results - 1)
        if results > 1
        else _MAX_INITIATION_INTERVAL
    )
    return max(1, min(feed.folds // results, drain, _MAX_INITIATION_INTERVAL))


def _sites(stage: StagePlan, device: Device, blocks: int) -> tuple[str, ...]:
    """Places of the stage's DSP blocks, from its first one along the device's path."""
    if stage.site is None or not device.dsp_sites:
        return ()
    if stage.site + blocks > len(device.dsp_sites):
        raise PlanError(
            f"stage {stage.name}: {blocks} DSP blocks from site {stage.site} on, but "
            f"{device.name} has {len(device.dsp_sites)}; choose a smaller site, or "
            "leave it out"
        )
    return device.dsp_sites[stage.site : stage.site + blocks]


def _conv_feed(op: ir.Conv, graph: ir.Graph, device: Device, stage: StagePlan) -> hw.FeedConfig:
    fill = graph.quant(op.inputs[0]).zero
    way, chunk = _read(op, stage.simd)
    passes = ceil(op.channels // op.groups / stage.pe)
    window = _window(
        op,
        graph,
        device,
        stage,
        op.window,
        fill,
        chunk,
        parallel=way,
        groups=op.groups,
        passes=passes if way[0] * way[1] * chunk == stage.simd else 1,
    )
    return hw.FeedConfig(window, stage.simd, passes)


def _read(op: ir.Conv, simd: int) -> tuple[tuple[int, int], int]:
    """Taps (rows, columns) and channels that the line buffer gives at once: just ``simd`` elements
    if it can, else the next larger number, for a replay to cut.
    """
    depth = op.weight.shape[3]
    pointwise = op.window.taps == 1 and op.groups == 1
    for way in _parallel_taps(op.window):
        chunk, rest = divmod(simd, way[0] * way[1])
        if not rest and chunk <= depth and (depth % chunk == 0 or pointwise):
            return way, chunk
    divisors = [d for d in range(1, depth + 1) if depth % d == 0]
    return min(
        (
            (way, d)
            for way in _parallel_taps(op.window)
            for d in divisors
            if way[0] * way[1] * d >= simd
        ),
        key=lambda pair: pair[0][0] * pair[0][1] * pair[1],
    )


def _depthwise_feed(
    op: ir.Conv, graph: ir.Graph, device: Device, stage: StagePlan
) -> hw.FeedConfig:
    fill = graph.quant(op.inputs[0]).zero
    simd, pe = stage.simd, stage.pe
    blocks = ceil(op.channels / pe)
    way = next((way for way in _parallel_taps(op.window) if way[0] * way[1] == simd), None)
    way = way or next(way for way in _parallel_taps(op.window) if way[0] * way[1] >= simd)
    window = _window(
        op,
        graph,
        device,
        stage,
        op.window,
        fill,
        pe,
        parallel=way,
        groups=blocks,
        channels=blocks * pe,
    )
    return hw.FeedConfig(window, simd, 1, pe)


@dataclass(frozen=True)
class ConvFoldings:
    """Foldings of a convolution as columns of integers, a row each, without their designs.

    ``lanes``: results a beat, each a requantizer. ``cut``: 1 where the reads need a replay.
    """

    cycles: NDArray[np.int64]
    multipliers: NDArray[np.int64]
    lanes: NDArray[np.int64]
    cut: NDArray[np.int64]
    simd: NDArray[np.int64]
    pe: NDArray[np.int64]


#: most places at which a replay may have to begin a word: its choice among them grows with each
_MOST_PLACES = 16


@lru_cache(maxsize=256)
def conv_foldings(op: ir.Conv, graph: ir.Graph) -> ConvFoldings:
    """Every folding that could be worth its multipliers, by cycles and then multipliers.

    Any simd up to the reduction and any pe up to the channels is legal, and listed unless it needs
    a replay larger than is sensible. Folds take few values and a simd larger than they need only
    costs, unless the line buffer reads just so many at once; a larger pe may have a divisor closer
    to the folds, so it is kept.
    """
    columns = op.channels if op.depthwise else op.channels // op.groups
    reduction = op.window.taps if op.depthwise else op.reduction
    there, pixels = graph.shape(op.inputs[0]), graph.shape(op.output).pixels
    folds = -(-reduction // np.arange(1, reduction + 1))
    least = np.unique(folds, return_index=True)[1] + 1
    pe = np.arange(1, columns + 1)
    passes = -(-columns // pe) * (1 if op.depthwise else op.groups)
    found = []
    for simd in sorted({*least.tolist(), *_read_at_once(op)}, reverse=True):
        count = int(folds[simd - 1])
        if op.depthwise:
            direct, chunk = simd in _read_at_once(op), pe
        else:
            way, channels = _read(op, simd)
            direct, chunk = way[0] * way[1] * channels == simd, np.full(columns, channels)
        if not direct and hw.ReuseBufferConfig.places(_at_once(op, simd), simd) > _MOST_PLACES:
            continue
        words = -(-there.channels // chunk)
        lanes = pe // _largest_divisors(columns, count)
        if op.groups > 1 and not op.depthwise:
            lanes = np.array([_lanes(n, count, columns) or 0 for n in range(1, columns + 1)])
        found.append(
            np.stack(
                [
                    np.maximum(pixels * count * passes, there.pixels * words),
                    simd * pe,
                    lanes,
                    np.full(columns, not direct),
                    np.full(columns, simd),
                    pe,
                ]
            )
        )
    table = np.concatenate(found, 1)
    table = table[:, table[2] > 0]
    return ConvFoldings(*table[:, np.lexsort((table[2], table[1], table[0]))])


def _at_once(op: ir.Conv, simd: int) -> int:
    """Elements (of each channel, in a depthwise layer) that the line buffer gives for ``simd``."""
    if op.depthwise:
        return min(n for n in _read_at_once(op) if n >= simd)
    (rows, columns), channels = _read(op, simd)
    return rows * columns * channels


def _read_at_once(op: ir.Conv) -> set[int]:
    """Every simd that the line buffer gives by channels that divide and taps in line."""
    ways = {rows * columns for rows, columns in _parallel_taps(op.window)}
    if op.depthwise:
        return ways
    depth = op.weight.shape[3]
    return {way * d for way in ways for d in range(1, depth + 1) if depth % d == 0}


def _largest_divisors(most: int, limit: int) -> NDArray[np.int64]:
    """Of each number from 1 to ``most``: its largest divisor up to ``limit``."""
    found = np.ones(most, np.int64)
    for divisor in range(2, min(most, limit) + 1):
        found[divisor - 1 :: divisor].fill(divisor)
    return found


@foldings.register
def _(op: ir.Conv, graph: ir.Graph) -> Iterator[tuple[int, int]]:
    table = conv_foldings(op, graph)
    yield from zip(table.simd.tolist(), table.pe.tolist(), strict=True)


@design.register(ir.MaxPool)
@design.register(ir.AveragePool)
@design.register(ir.Pad)
def _(
    op: ir.MaxPool | ir.AveragePool | ir.Pad, graph: ir.Graph, stage: StagePlan, device: Device
) -> Design:
    shape = graph.shape(op.inputs[0])
    window, fill = pool_window(op, graph)
    _within(op, "simd", stage.simd, window.taps, f"the window has {window.taps} taps")
    _within(op, "pe", stage.pe, shape.channels, f"the map has {shape.channels} channels")
    way = next((w for w in _parallel_taps(window) if w[0] * w[1] == stage.simd), None)
    if way is None:
        ways = sorted({w[0] * w[1] for w in _parallel_taps(window)})
        raise PlanError(
            f"{op.name}: simd={stage.simd}, but a pool reads whole rows or columns of "
            f"its window at once; choose one of {ways}"
        )
    blocks = ceil(shape.channels / stage.pe)
    feed = hw.FeedConfig(
        _window(
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
    acc = _accumulator(op, graph) if isinstance(op, ir.AveragePool) else None
    return PoolDesign(stage, graph.shape(op.output).pixels, feed, acc)


def pool_window(op: ir.Op, graph: ir.Graph) -> tuple[ir.Window, int]:
    """The window of a pool or a border, and what its padding reads as."""
    quant = graph.quant(op.inputs[0])
    if isinstance(op, ir.MaxPool):
        return op.window, quant.dtype.low
    if isinstance(op, ir.AveragePool):
        return op.window, quant.zero
    assert isinstance(op, ir.Pad)
    level = Fraction(op.fill) / quant.step
    rounded = round_half_even(level.numerator, level.denominator) + quant.zero
    return ir.Window(pads=op.pads), min(max(rounded, quant.dtype.low), quant.dtype.high)


@foldings.register(ir.MaxPool)
@foldings.register(ir.AveragePool)
@foldings.register(ir.Pad)
def _(op: ir.Op, graph: ir.Graph) -> Iterator[tuple[int, int]]:
    channels = graph.shape(op.output).channels
    window, _ = pool_window(op, graph)
    lanes = sorted({ceil(channels / n) for n in range(1, channels + 1)})
    for way in _parallel_taps(window):
        for pe in lanes:
            yield way[0] * way[1], pe


def _beats(op: ir.Op, graph: ir.Graph, pe: int) -> int:
    shape = graph.shape(op.output)
    _within(op, "pe", pe, shape.channels, f"the map has {shape.channels} channels")
    return shape.pixels * ceil(shape.channels / pe)


@design.register
def _(op: ir.Add, graph: ir.Graph, stage: StagePlan, device: Device) -> Design:
    return SimpleDesign(
        stage,
        graph.shape(op.output).pixels,
        _beats(op, graph, stage.pe),
        17 if hw.AddConfig.waits(device.family) else 13,
        hw.AddConfig.estimate(stage.pe, device.family),
        family=device.family,
    )


@design.register
def _(op: ir.Unary, graph: ir.Graph, stage: StagePlan, device: Device) -> Design:
    words, width = 1 << graph.quant(op.inputs[0]).dtype.bits, graph.quant(op.output).dtype.bits
    return SimpleDesign(
        stage,
        graph.shape(op.output).pixels,
        _beats(op, graph, stage.pe),
        4,
        hw.LookupConfig.estimate(stage.pe, words, width, device.family),
        words * width,
        device.family,
    )


@design.register
def _(op: ir.Concat, graph: ir.Graph, stage: StagePlan, device: Device) -> Design:
    shape = graph.shape(op.output)
    channels = [graph.shape(name).channels for name in op.inputs]
    if any(c % stage.pe for c in channels[:-1]):
        raise PlanError(
            f"{op.name}: pe={stage.pe}, but the inputs have {channels} channels; "
            "choose a number that divides all but the last"
        )
    beats = shape.pixels * sum(ceil(c / stage.pe) for c in channels)
    return SimpleDesign(
        stage, shape.pixels, beats, 0, hw.ConcatConfig.estimate(len(channels), stage.pe)
    )


@foldings.register
def _(op: ir.Concat, graph: ir.Graph) -> Iterator[tuple[int, int]]:
    channels = [graph.shape(name).channels for name in op.inputs]
    for pe in range(1, max(channels) + 1):
        if all(c % pe == 0 for c in channels[:-1]):
            yield 1, pe


@design.register
def _(op: ir.ArgMax, graph: ir.Graph, stage: StagePlan, device: Device) -> Design:
    _within(op, "pe", stage.pe, 1, "the largest is found one element a cycle")
    return SimpleDesign(
        replace(stage, pe=1), 1, graph.shape(op.inputs[0]).size, 1, hw.ArgMaxConfig.estimate()
    )

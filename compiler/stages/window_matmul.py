"""Convolutions and dense layers: a window, a systolic array, one requantizer for many columns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..errors import PlanError
from .base import (
    Buffering,
    Design,
    Foldings,
    MultiplierCost,
    Products,
    StageKind,
    StagePlan,
    StagePort,
    StagePorts,
    check_range,
    hw_shape,
)
from .minimal_filtering import (
    DIRECTIONS,
    check_filtered,
    filtered_foldings,
    reason_against,
    tile_feed,
)
from .rounding import multiplier_bits, proven, rounding
from .windowed import (
    WindowDesign,
    accumulator,
    fast_accumulator,
    feed_resources,
    filtered_accumulator,
    initiation_interval,
    largest_divisors,
    parallel_taps,
    shared_feed,
    tree_accumulator,
    window_config,
)

__all__ = ["WindowMatmul", "WindowMatmulDesign"]

#: most places at which a reuse buffer may have to begin a word: its choice grows with each
_MOST_PLACES = 16
#: products that a tree of adders sums, at least, in the planner's candidates
_LEAST_TREE = 4


@lru_cache(maxsize=1 << 14)
def _latency(
    feed: hw.FeedConfig,
    array: hw.ArrayConfig,
    entries: int,
    bits: int,
    tiles: hw.TileQueueConfig | None,
) -> int:
    """That of a stage with multipliers of ``bits`` in its requantizer; cached, for networks have
    many layers of one shape.
    """
    rounds = hw.RequantizeConfig.usual(entries, array.initiation_interval, bits)
    return hw.MatMulConfig.latency_of(feed, array, rounds, tiles)


@lru_cache(maxsize=1 << 14)
def _resources(
    feed: hw.FeedConfig,
    array: hw.ArrayConfig,
    entries: int,
    bits: int,
    tiles: hw.TileQueueConfig | None,
    out: int,
) -> hw.Resources:
    """Those of a stage whose results have ``out`` bits, otherwise as :func:`_latency`."""
    rounds = hw.RequantizeConfig.estimate(
        array.lanes, array.acc.width, entries, array.initiation_interval, array.target, bits
    )
    transform = hw.output_transform(feed, array)
    if tiles:
        queue = tiles.resources()
    else:
        latency = _latency(feed, array, entries, bits, None)
        depth = feed.queue_depth(latency, hw.results(feed, array))
        queue = hw.Queue.estimate(out * array.lanes, array.target, depth)
    return (
        feed_resources(feed)
        + array.resources()
        + (transform.resources() if transform else hw.Resources())
        + rounds
        + queue
    )


@dataclass(frozen=True)
class Constants:
    """A requantizer for each output channel, and weights [pe, simd, words in the order of use]."""

    requantize: hw.RequantizeConfig
    weights: NDArray[np.int64]


@dataclass(frozen=True)
class WindowMatmulDesign(WindowDesign):
    """A windowed systolic array and its requantizers, with constants for ``entries`` beats."""

    array: hw.ArrayConfig
    entries: int

    @property
    def op(self) -> ir.Conv:
        (op,) = self.ops
        assert isinstance(op, ir.Conv)
        return op

    @property
    def ports(self) -> StagePorts:
        return StagePorts(
            (StagePort(self.op.inputs[0], self.feed.window.chunk, "i"),),
            (StagePort(self.op.output, self.array.lanes, "o"),),
        )

    @property
    def results(self) -> int:
        return hw.results(self.feed, self.array)

    @property
    def multipliers(self) -> int:
        return self.array.multipliers

    @property
    def products_per_cycle(self) -> int:
        return ceil(self.array.simd * self.array.pe * self._gain)

    @property
    def products_per_block(self) -> int | Fraction:
        return self.array.products_per_block * (2 if self.array.fast else 1) * self._gain

    @property
    def _gain(self) -> int | Fraction:
        """Products of the network that a product of the array stands for."""
        return self.filtering.gain if self.filtering else 1

    @property
    def filtering(self) -> hw.MinimalFiltering | None:
        """That of the stage, if it has any."""
        return self.feed.filtering if isinstance(self.feed, hw.TileFeedConfig) else None

    @property
    def _tiles(self) -> hw.TileQueueConfig | None:
        """What orders pixels, where tiles have several rows of them."""
        if not isinstance(self.feed, hw.TileFeedConfig):
            return None
        return self.feed.queue(self.beats_out, self.array.lanes * self._out_bits)

    @property
    def _out_bits(self) -> int:
        return self.graph.quant(self.op.output).dtype.bits

    @property
    def block_worth(self) -> int:
        array = self.array
        luts: int = array.soft_multiplier.lut(array.target.carry_luts)
        return luts * array.products_per_block

    def blocks(self, dsp_multipliers: int) -> int:
        return self.array.blocks(dsp_multipliers)

    def products_of(self, op: ir.Op) -> int:
        return self.pixels_out * self.op.channels * self.op.reduction

    @property
    def memory_bits(self) -> int:
        return self.feed.memory_bits + self.array.memory_bits

    @property
    def latency(self) -> int:
        bits = multiplier_bits(self.op, self.graph)
        return _latency(self.feed, self.array, self.entries, bits, self._tiles)

    @property
    def drain_cycles(self) -> int:
        tiles = self._tiles
        return max(self.latency, tiles.held) if tiles else super().drain_cycles

    @cached_property
    def buffering(self) -> Buffering:
        found, tiles = super().buffering, self._tiles
        if tiles is None or found.lines is None:
            return found
        lines = replace(
            found.lines,
            complete=_complete(self.graph.shape(self.op.output)),
            leaving=tiles.beats,
        )
        held = tiles.tiles * hw.MinimalFiltering(2).outputs  # as many of input, for the stride is 1
        return replace(found, most=found.most + held, lines=lines)

    def resources(self, device: Device) -> hw.Resources:
        bits = multiplier_bits(self.op, self.graph)
        return _resources(self.feed, self.array, self.entries, bits, self._tiles, self._out_bits)

    def alternatives(self, device: Device, lean: bool) -> Iterator[Design]:
        if self.array.depth == 1:
            return
        stored = self._in_memory("block_ram")
        yield stored
        filled = ceil(self.array.memory_bits / device.target.block_ram_bits)
        if lean and stored.resources(device).bram - self.resources(device).bram > filled:
            yield self._in_memory("packed_rows")

    def _in_memory(self, memory: str) -> "WindowMatmulDesign":
        """The design with its weights in such a memory."""
        return replace(
            self,
            stage=replace(self.stage, weights=memory),
            array=replace(self.array, memory=memory),
        )

    def constants(self) -> Constants:
        op, graph, array = self.op, self.graph, self.array
        exact, filtering = proven(op, graph), self.filtering
        channels = self._channels()
        weights, lanes = self._weights(channels), array.lanes
        # a result's place: columns side by side, and then the reductions of a pixel
        excess = array.excess(weights).T
        if filtering:  # those of all pixels of a tile, of a multiple of the sums
            each = excess.reshape(filtering.positions, len(channels))
            excess, channels = filtering.transformed_results(each), channels * filtering.outputs
            exact = exact.times(filtering.scale)
        kept = [channel if channel is not None else 0 for channel in channels]
        requantize = hw.RequantizeConfig(
            lanes,
            array.acc,
            hw_shape(graph.quant(op.output).dtype),
            tuple(exact.mult[c] for c in kept),
            tuple(
                exact.offset[c] - exact.mult[c] * e
                for c, e in zip(kept, excess.reshape(-1).tolist(), strict=True)
            ),
            tuple(
                any(c is not None for c in channels[i : i + lanes])
                for i in range(0, len(channels), lanes)
            ),
            rounding(exact),
            initiation_interval=array.initiation_interval,
            target=array.target,
        )
        return Constants(requantize, weights)

    def _channels(self) -> list[int | None]:
        """Output channel of each result of a pixel in the order in which they leave; None: none."""
        op, pe = self.op, self.array.pe
        if op.depthwise:
            return [c if c < op.channels else None for c in range(self.feed.window.groups * pe)]
        columns = op.channels // op.groups
        return [
            group * columns + c if c < columns else None
            for group in range(op.groups)
            for c in range(self.feed.passes * pe)
        ]

    def _weights(self, channels: Sequence[int | None]) -> NDArray[np.int64]:
        """Weights as the array stores them: [pe, simd, words in the order of use]."""
        op, array, order = self.op, self.array, self.feed.order()
        weight = op.weight.astype(np.int64)
        if filtering := self.filtering:  # a filter for each position
            weight = np.concatenate(filtering.transformed_filters(weight))
            channels = [
                None if channel is None else position * op.channels + channel
                for position in range(filtering.positions)
                for channel in channels
            ]
        runs = len(channels) // array.pe
        stored = np.zeros((array.pe, array.simd, runs, array.folds), np.int64)
        flat = weight.reshape(len(weight), -1)
        for n, channel in enumerate(channels):
            if channel is None:
                continue
            run, column = divmod(n, array.pe)
            if op.depthwise:
                taken = order.reshape(array.folds, array.simd, array.pe)[:, :, column]
                depth = self.feed.window.channels // self.feed.window.groups
                taken = np.where(taken < 0, -1, taken // depth)
            else:
                taken = order
            stored[column, :, run] = np.where(taken < 0, 0, flat[channel][taken]).T
        return stored.reshape(array.pe, array.simd, runs * array.folds)

    def build(self, constants: Constants) -> hw.Component:
        config = hw.MatMulConfig(self.feed, self.array, constants.requantize)
        return hw.MatMul(config, constants.weights)


class WindowMatmul(StageKind):
    """One convolution (ordinary, grouped or depthwise) or dense layer on a systolic array.

    The array has ``simd`` rows (products summed a cycle) by ``pe`` columns (output channels side by
    side).
    """

    name = "window_matmul"
    folding = "`simd`: products summed a cycle; `pe`: output channels side by side"
    fields = frozenset(
        {
            "simd",
            "pe",
            "dsp_multipliers",
            "weights",
            "minimal_rows",
            "fast_inner_product",
            "minimal_filtering",
            "adder_trees",
            "site",
        }
    )

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.Conv)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        table = _foldings(_conv(ops), graph)
        yield from zip(table.simd.tolist(), table.pe.tolist(), strict=True)

    def multiplier(self, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device) -> MultiplierCost:
        op = _conv(ops)
        pack = _pack(op, graph, device)
        single = StagePlan(op.name, self.name, (op.output,), 1, 1, 1)
        design = self.design(single, ops, graph, device)
        in_block = design.array.resources()
        in_logic = replace(design.array, dsp_multipliers=0).resources()
        per_block = max(pack, design.array.products_per_block) if in_block.dsp else 0
        return MultiplierCost(
            per_block,
            pack,
            in_block,
            in_logic,
            fast=None if op.depthwise else _pair_cost(op, graph, design),
            filtered={
                directions: cost
                for directions in DIRECTIONS
                if (cost := self._filtered_cost(op, graph, device, directions))
            },
        )

    def _filtered_cost(
        self, op: ir.Conv, graph: ir.Graph, device: Device, directions: int
    ) -> MultiplierCost | None:
        if reason_against(op, graph, directions):
            return None
        stage = StagePlan(op.name, self.name, (op.output,), 1, 1, 1, minimal_filtering=directions)
        try:
            design = self.design(stage, (op,), graph, device)
        except PlanError:
            return None
        in_block = design.array.resources()
        return MultiplierCost(
            design.array.products_per_block,
            1,
            in_block,
            replace(design.array, dsp_multipliers=0).resources(),
            fast=_pair_cost(op, graph, design),
        )

    def candidates(self, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device) -> Foldings:
        op = _conv(ops)
        table, cost = _foldings(op, graph), self.multiplier(ops, graph, device)
        # columns that find none to share a block with take it alone
        shared = np.where(table.pe % cost.pack, cost.pack, 1)
        plain = np.stack(
            [
                table.cycles,
                table.multipliers * shared,
                table.lanes,
                table.cut,
                table.simd,
                table.pe,
                table.products,
            ]
        )
        ways = [plain]
        if cost.fast:
            ways.append(_in_pairs(plain, cost, Products.PAIRS))
        for directions, multiplier in cost.filtered.items():
            filtered = filtered_foldings(op, graph, directions)
            filtered[1] *= max(1, cost.per_block)
            ways.append(filtered)
            if multiplier.fast:
                ways.append(_in_pairs(filtered, cost, Products.of(directions, True)))
        if _trees_pay(op, graph, device):
            trees = plain.copy()
            trees[1] = table.multipliers
            trees[6] = Products.TREES
            ways.append(trees[:, table.simd >= _LEAST_TREE])
        columns = np.concatenate(ways, 1)
        return Foldings(*columns[:, np.lexsort((columns[2], columns[1], columns[0]))])

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> WindowMatmulDesign:
        op = _conv(ops)
        depthwise = op.depthwise
        taps = op.window.taps
        most = taps if depthwise else op.reduction
        check_range(
            op,
            "simd",
            stage.simd,
            most,
            f"the layer sums {most} products" + (" (it is depthwise)" if depthwise else ""),
        )
        columns = op.channels if depthwise else op.channels // op.groups
        check_range(
            op,
            "pe",
            stage.pe,
            columns,
            f"the layer has {columns} output channels"
            + ("" if depthwise or op.groups == 1 else " in a group"),
        )
        if stage.minimal_filtering:
            check_filtered(op, graph, stage)
        if depthwise and stage.products is not Products.SINGLE:
            field = "adder_trees" if stage.adder_trees else "fast_inner_product"
            raise PlanError(
                f"{op.name}: {field} is true, but the layer is depthwise, so no two of its columns "
                "share activations; set it to false"
            )
        if stage.adder_trees and (stage.fast_inner_product or stage.dsp_multipliers):
            raise PlanError(
                f"{op.name}: adder_trees is true, but so is fast_inner_product, or dsp_multipliers "
                "is not 0; set adder_trees to false, or these to false and 0"
            )
        make = _depthwise_feed if depthwise else _conv_feed
        feed = shared_feed(
            (tile_feed if stage.minimal_filtering else make)(op, graph, device, stage)
        )
        array = _array(op, graph, device, stage, feed)
        if array.fast:
            _check_gain(op, array, _array(op, graph, device, _without_fast(stage), feed))
        if stage.site is not None:
            blocks = array.blocks(array.multipliers_in_dsp)
            array = replace(array, sites=_sites(stage.name, stage.site, blocks, device))
        entries = feed.window.groups * feed.passes * array.groups
        if isinstance(feed, hw.TileFeedConfig):
            entries = feed.filtering.outputs * hw.results(feed, array)
        return WindowMatmulDesign(stage, ops, graph, feed, array, entries)


def _complete(shape: ir.Shape) -> NDArray[np.int64]:
    """For each pixel in raster order the number of the last one of its tile of 2 x 2 pixels, of
    pixels tile by tile.
    """
    tiles = np.arange(shape.pixels // 4).reshape(shape.height // 2, shape.width // 2)
    return (4 * tiles + 3).repeat(2, 0).repeat(2, 1).reshape(-1)


def _conv(ops: tuple[ir.Op, ...]) -> ir.Conv:
    (op,) = ops
    assert isinstance(op, ir.Conv)
    return op


def _array(
    op: ir.Conv, graph: ir.Graph, device: Device, stage: StagePlan, feed: hw.FeedConfig
) -> hw.ArrayConfig:
    """The systolic array behind ``feed``, its DSP blocks without places."""
    groups = feed.window.groups
    columns = op.channels if op.depthwise else op.channels // op.groups
    x, runs = feed.element, feed.passes * groups
    if isinstance(feed, hw.TileFeedConfig):
        (w, most), pack = _filter_type(op, feed.filtering), 1
        runs = feed.filtering.positions * feed.passes
    else:
        w, most, pack = _packed_type(op, x, stage, device)
    # a beat may not hold channels of two groups; columns of one beat may share DSP blocks
    within = columns if groups > 1 and not op.depthwise else None
    lanes = _lanes(stage.pe, feed.folds, within, pack)
    if lanes is None:
        raise PlanError(
            f"{op.name}: pe={stage.pe} with simd={stage.simd}, but {stage.pe} results "
            f"every {feed.folds} cycles do not pack into beats of a group's {columns} "
            f"channels; choose a pe that divides {columns}"
        )
    tree = _weight_code(op, stage, feed) if stage.adder_trees else None
    if tree:
        acc = tree_accumulator(op, graph, tree)
    elif isinstance(feed, hw.TileFeedConfig):
        acc = filtered_accumulator(op, graph, feed.filtering, stage.fast_inner_product)
    else:
        acc = (fast_accumulator if stage.fast_inner_product else accumulator)(op, graph)
    array = hw.ArrayConfig(
        simd=stage.simd,
        pe=stage.pe,
        folds=feed.folds,
        depth=feed.folds * runs,
        lanes=lanes,
        x=x,
        w=hw_shape(w),
        acc=hw_shape(acc),
        target=device.target,
        shared=not op.depthwise,
        dsp_multipliers=0,
        memory=stage.weights,
        max_abs_weight=most,
        initiation_interval=initiation_interval(feed, stage.pe // lanes),
        fast=stage.fast_inner_product,
        tree=tree,
    )
    return replace(array, dsp_multipliers=min(stage.dsp_multipliers, array.multipliers))


def _without_fast(stage: StagePlan) -> StagePlan:
    """The stage with a multiplier for each product, all in DSP blocks if any is."""
    hard = stage.simd * stage.pe if stage.dsp_multipliers else 0
    return replace(stage, fast_inner_product=False, dsp_multipliers=hard)


def _check_gain(op: ir.Conv, fast: hw.ArrayConfig, plain: hw.ArrayConfig) -> None:
    """Refuse the fast inner product where it takes no fewer multipliers, or no fewer DSP blocks."""
    folding = f"{op.name}: fast_inner_product is true, but with simd={fast.simd}, pe={fast.pe}"
    if fast.multipliers >= plain.multipliers:
        raise PlanError(
            f"{folding} it takes {fast.multipliers} multipliers instead of {plain.multipliers}; "
            "choose a larger simd and pe, or set it to false"
        )
    if not plain.multipliers_in_dsp:
        return
    if not fast.products_per_block:
        width = fast.operands.x.width
        raise PlanError(
            f"{folding} it multiplies sums of {width} bits, which are too wide for the DSP blocks "
            f"of {fast.target.name}; set it to false"
        )
    blocks, without = fast.blocks(fast.multipliers), plain.blocks(plain.multipliers)
    if blocks >= without:
        raise PlanError(
            f"{folding} it takes {blocks} DSP blocks instead of {without}, each of which gives up "
            f"to {plain.products_per_block} products; set it to false"
        )


def _in_pairs(plain: NDArray[np.int64], cost: MultiplierCost, way: Products) -> NDArray[np.int64]:
    """Those of the foldings, as columns, that take fewer multipliers by the fast inner product."""
    fast = plain.copy()
    simd, pe = plain[4], plain[5]
    fast[1] = -(-simd // 2) * (pe + 1) * max(1, cost.per_block)
    fast[6] = way
    return fast[:, fast[1] < plain[1]]


def _pair_cost(op: ir.Conv, graph: ir.Graph, single: WindowMatmulDesign) -> MultiplierCost | None:
    """What the fast inner product takes in the array of a ``single`` product."""
    filtering = single.filtering
    acc = (
        filtered_accumulator(op, graph, filtering, True)
        if filtering
        else fast_accumulator(op, graph)
    )
    pair = _pair(single.array, hw_shape(acc))
    if pair is None:
        return None
    return MultiplierCost(
        pair.products_per_block,
        1,
        pair.resources(),
        replace(pair, dsp_multipliers=0).resources(),
        pair.multipliers,
    )


def _pair(single: hw.ArrayConfig, acc: hw.Shape) -> hw.ArrayConfig | None:
    """The array of one product, ``single``, with a pair of them by the fast inner product; None
    where no array with it is smaller.
    """
    pair = replace(
        single,
        simd=2,
        acc=acc,
        dsp_multipliers=None,
        fast=True,
    )
    if single.products_per_block:
        return pair if pair.products_per_block else None
    carry = single.target.carry_luts
    more = pair.soft_multiplier.lut(carry) + 2 * (pair.operands.x.width + carry)
    return pair if more < 2 * single.soft_multiplier.lut(carry) else None


def _weight_code(op: ir.Conv, stage: StagePlan, feed: hw.FeedConfig) -> hw.WeightCode:
    """The code of the fewest LUTs for the weights that the array stores."""
    if _weight_type(op)[1] > 1:
        return hw.WeightCode.PLANES
    padded = stage.simd * feed.folds != op.reduction  # with weights of 0
    return hw.WeightCode.TERNARY if padded or not op.weight.all() else hw.WeightCode.SIGN


@lru_cache(maxsize=1024)
def _trees_pay(op: ir.Conv, graph: ir.Graph, device: Device) -> bool:
    """Whether a tree of adders takes less logic than multipliers in soft logic."""
    if op.depthwise or op.reduction < _LEAST_TREE:
        return False
    stage = StagePlan(op.name, WindowMatmul.name, (op.output,), _LEAST_TREE)
    feed = _conv_feed(op, graph, device, stage)
    trees, multipliers = (
        _array(op, graph, device, replace(stage, adder_trees=way), feed).resources().lut
        for way in (True, False)
    )
    return trees < multipliers


@lru_cache(maxsize=1024)
def _weight_type(op: ir.Conv) -> tuple[ir.Int, int]:
    """Signed, and wide enough for every weight; and the largest absolute weight."""
    return _signed_type(op.weight)


@lru_cache(maxsize=1024)
def _filter_type(op: ir.Conv, filtering: hw.MinimalFiltering) -> tuple[ir.Int, int]:
    """The same of the transformed filters."""
    return _signed_type(filtering.transformed_filters(op.weight.astype(np.int64)))


def _signed_type(weight: NDArray[np.number]) -> tuple[ir.Int, int]:
    low, high = min(int(weight.min()), -1), max(int(weight.max()), 1)
    return ir.Int(ir.Int.holding(low, high).bits, True), max(-low, high)


def _packed_type(
    op: ir.Conv, x: hw.Shape, stage: StagePlan, device: Device
) -> tuple[ir.Int, int, int]:
    """The type of the weights, the largest, and how many products of one x share a DSP block."""
    w, most = _weight_type(op)
    if op.depthwise or stage.products is not Products.SINGLE or not stage.dsp_multipliers:
        return w, most, 1
    pack = hw.packed_products(device.target.dsp, x, most)
    if pack > 1 and most > w.high:  # weights that share a block borrow from one another
        w = ir.Int(w.bits + 1, True)
    return w, most, pack


def _pack(op: ir.Conv, graph: ir.Graph, device: Device) -> int:
    """Products of one activation that a DSP block can give."""
    x = hw_shape(graph.quant(op.inputs[0]).dtype)
    stage = StagePlan("", WindowMatmul.name, (op.output,), dsp_multipliers=1)
    return _packed_type(op, x, stage, device)[2]


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


def _sites(stage: str, first: int, blocks: int, device: Device) -> tuple[str, ...]:
    """Places of a stage's DSP blocks, from its first one along the device's path."""
    if not device.dsp_sites:
        return ()
    if first + blocks > len(device.dsp_sites):
        raise PlanError(
            f"stage {stage}: {blocks} DSP blocks from site {first} on, but {device.name} has "
            f"{len(device.dsp_sites)}; choose a smaller site, or leave it out"
        )
    return device.dsp_sites[first : first + blocks]


def _conv_feed(op: ir.Conv, graph: ir.Graph, device: Device, stage: StagePlan) -> hw.FeedConfig:
    fill = graph.quant(op.inputs[0]).zero
    way, chunk = _read(op, stage.simd)
    passes = ceil(op.channels // op.groups / stage.pe)
    window = window_config(
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
    if it can, else the next larger number, for a reuse buffer to cut.
    """
    depth = op.weight.shape[3]
    pointwise = op.window.taps == 1 and op.groups == 1
    for way in parallel_taps(op.window):
        chunk, rest = divmod(simd, way[0] * way[1])
        if not rest and chunk <= depth and (depth % chunk == 0 or pointwise):
            return way, chunk
    divisors = [d for d in range(1, depth + 1) if depth % d == 0]
    return min(
        (
            (way, d)
            for way in parallel_taps(op.window)
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
    way = next((way for way in parallel_taps(op.window) if way[0] * way[1] == simd), None)
    way = way or next(way for way in parallel_taps(op.window) if way[0] * way[1] >= simd)
    window = window_config(
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


@lru_cache(maxsize=256)
def _foldings(op: ir.Conv, graph: ir.Graph) -> Foldings:
    """Every folding that could be worth its multipliers, by cycles and then multipliers.

    Any simd up to the reduction and any pe up to the channels is legal, and listed unless it needs
    a large reuse buffer. Folds take few values and a simd larger than they need only
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
        lanes = pe // largest_divisors(columns, count)
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
                    np.full(columns, Products.SINGLE),
                ]
            )
        )
    table = np.concatenate(found, 1)
    table = table[:, table[2] > 0]
    return Foldings(*table[:, np.lexsort((table[2], table[1], table[0]))])


def _at_once(op: ir.Conv, simd: int) -> int:
    """Elements (of each channel, in a depthwise layer) that the line buffer gives for ``simd``."""
    if op.depthwise:
        return min(n for n in _read_at_once(op) if n >= simd)
    (rows, columns), channels = _read(op, simd)
    return rows * columns * channels


def _read_at_once(op: ir.Conv) -> set[int]:
    """Every simd that the line buffer gives by channels that divide and taps in line."""
    ways = {rows * columns for rows, columns in parallel_taps(op.window)}
    if op.depthwise:
        return ways
    depth = op.weight.shape[3]
    return {way * d for way in ways for d in range(1, depth + 1) if depth % d == 0}

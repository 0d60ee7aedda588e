"""Minimal filtering in a convolution: where it works, its feed and its foldings."""

from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..errors import PlanError
from .base import Products, StagePlan
from .windowed import largest_divisors, window_config

__all__ = [
    "DIRECTIONS",
    "check_filtered",
    "filtered_foldings",
    "reason_against",
    "tile_feed",
]

#: in which minimal filtering works: along the columns, or along rows and columns
DIRECTIONS = (1, 2)


def reason_against(op: ir.Conv, graph: ir.Graph, directions: int) -> str:
    """Why minimal filtering in so many directions is not for a layer; empty where it is."""
    window, out = op.window, graph.shape(op.output)
    taps, step = hw.MinimalFiltering.TAPS, hw.MinimalFiltering.STEP
    if op.depthwise or op.groups > 1:
        return "the layer has groups"
    sides = ((1, "columns", out.width), (0, "rows", out.height))
    for axis, name, size in sides[:directions]:
        if (window.kernel[axis], window.stride[axis], window.dilation[axis]) != (taps, 1, 1):
            return f"the layer does not slide {taps} taps along {name}, one by one"
        if size % step:
            return f"its output has {size} {name}, an odd number"
    return ""


def _tile_words(op: ir.Conv, directions: int) -> dict[int, tuple[int, int]]:
    """Every simd that a tile is read with: rows and channels at once."""
    rows, depth = op.window.kernel[0] if directions == 1 else 1, op.weight.shape[3]
    divisors = [d for d in range(1, depth + 1) if depth % d == 0]
    return {n * d: (n, d) for n in (rows, 1) for d in divisors}


def check_filtered(op: ir.Conv, graph: ir.Graph, stage: StagePlan) -> None:
    """Refuse minimal filtering where it does not work."""
    directions = stage.minimal_filtering
    found = f"{op.name}: minimal_filtering is {directions}"
    if directions not in DIRECTIONS:
        raise PlanError(
            f"{found}, but it must be 0 (off), 1 (along columns) or 2 (along rows and columns)"
        )
    if why := reason_against(op, graph, directions):
        raise PlanError(f"{found}, but {why}; set it to 0")
    if stage.adder_trees:
        raise PlanError(f"{found}, but adder_trees is true; set it to false, or the other to 0")
    words = _tile_words(op, directions)
    if stage.simd not in words:
        raise PlanError(
            f"{found}, but with simd={stage.simd}; choose one of "
            f"{', '.join(map(str, sorted(words)))}"
        )


def tile_feed(op: ir.Conv, graph: ir.Graph, device: Device, stage: StagePlan) -> hw.TileFeedConfig:
    """The feed of minimal filtering: windows of one pixel more in each direction, two apart."""
    filtering = hw.MinimalFiltering(stage.minimal_filtering)
    rows, chunk = _tile_words(op, filtering.directions)[stage.simd]
    both = filtering.directions == 2
    window = replace(
        op.window,
        kernel=(filtering.SIDE if both else op.window.kernel[0], filtering.SIDE),
        stride=(filtering.STEP if both else op.window.stride[0], filtering.STEP),
    )
    fill = graph.quant(op.inputs[0]).zero
    config = window_config(
        op, graph, device, stage, window, fill, chunk, parallel=(rows, 1), groups=1
    )
    passes = ceil(op.channels / stage.pe)
    feed = hw.TileFeedConfig(config, stage.simd, passes, filtering=filtering)
    if feed.passes * feed.folds < hw.LEAST_APART:
        raise PlanError(
            f"{op.name}: minimal_filtering is {filtering.directions}, but with simd={stage.simd}, "
            f"pe={stage.pe} a position takes {feed.passes * feed.folds} cycles, fewer than "
            f"{hw.LEAST_APART}; choose a smaller simd or pe"
        )
    return feed


def filtered_foldings(op: ir.Conv, graph: ir.Graph, directions: int) -> NDArray[np.int64]:
    """Those of minimal filtering, as the columns of those of a stage without it."""
    filtering = hw.MinimalFiltering(directions)
    there, tiles = graph.shape(op.inputs[0]), graph.shape(op.output).pixels // filtering.outputs
    summed = 1 if directions == 2 else op.window.kernel[0]
    pe = np.arange(1, op.channels + 1)
    passes, found = -(-op.channels // pe), []
    for simd, (rows, chunk) in _tile_words(op, directions).items():
        folds = summed // rows * op.weight.shape[3] // chunk
        columns = np.stack(
            [
                np.maximum(
                    tiles * filtering.positions * folds * passes,
                    there.pixels * (there.channels // chunk),
                ),
                simd * pe,
                pe // largest_divisors(op.channels, folds),
                np.ones_like(pe),
                np.full_like(pe, simd),
                pe,
                np.full_like(pe, Products.of(directions, False)),
            ]
        )
        found.append(columns[:, folds * passes >= hw.LEAST_APART])
    return np.concatenate(found, 1)

"""Minimal filtering in a convolution: where it works, its feed and its foldings."""

from dataclasses import replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..errors import PlanError
from .base import FILTER_TAPS, Products, StagePlan
from .windowed import largest_divisors, window_config

__all__ = ["check_filtered", "filtered_foldings", "reason_against", "tile_feed"]


def reason_against(op: ir.Conv, graph: ir.Graph) -> str:
    """Why minimal filtering is not for a layer; empty where it is."""
    window, out = op.window, graph.shape(op.output)
    if op.depthwise or op.groups > 1:
        return "the layer has groups"
    if window.kernel[1] != FILTER_TAPS or window.stride[1] != 1 or window.dilation[1] != 1:
        return f"the layer does not slide {FILTER_TAPS} taps column by column"
    if out.width % hw.OUTPUTS:
        return f"its output has {out.width} columns, an odd number"
    return ""


def _tile_words(op: ir.Conv) -> dict[int, tuple[int, int]]:
    """Every simd that a tile is read with: rows and channels at once."""
    rows, depth = op.window.kernel[0], op.weight.shape[3]
    divisors = [d for d in range(1, depth + 1) if depth % d == 0]
    return {n * d: (n, d) for n in (rows, 1) for d in divisors}


def check_filtered(op: ir.Conv, graph: ir.Graph, stage: StagePlan) -> None:
    """Refuse minimal filtering where it does not work."""
    if why := reason_against(op, graph):
        raise PlanError(f"{op.name}: minimal_filtering is true, but {why}; set it to false")
    if stage.adder_trees:
        raise PlanError(
            f"{op.name}: minimal_filtering is true, but so is adder_trees; set one to false"
        )
    words = _tile_words(op)
    if stage.simd not in words:
        raise PlanError(
            f"{op.name}: minimal_filtering is true, but with simd={stage.simd}; choose one of "
            f"{', '.join(map(str, sorted(words)))}"
        )


def tile_feed(op: ir.Conv, graph: ir.Graph, device: Device, stage: StagePlan) -> hw.TileFeedConfig:
    """The feed of minimal filtering: windows of one column more, two columns apart."""
    rows, chunk = _tile_words(op)[stage.simd]
    window = replace(
        op.window,
        kernel=(op.window.kernel[0], FILTER_TAPS + 1),
        stride=(op.window.stride[0], hw.OUTPUTS),
    )
    fill = graph.quant(op.inputs[0]).zero
    config = window_config(
        op, graph, device, stage, window, fill, chunk, parallel=(rows, 1), groups=1
    )
    feed = hw.TileFeedConfig(config, stage.simd, ceil(op.channels / stage.pe))
    if feed.passes * feed.folds < hw.LEAST_APART:
        raise PlanError(
            f"{op.name}: minimal_filtering is true, but with simd={stage.simd}, pe={stage.pe} a "
            f"position takes {feed.passes * feed.folds} cycles, fewer than {hw.LEAST_APART}; "
            "choose a smaller simd or pe"
        )
    return feed


def filtered_foldings(op: ir.Conv, graph: ir.Graph) -> NDArray[np.int64]:
    """Those of minimal filtering, as the columns of those of a stage without it."""
    there, tiles = graph.shape(op.inputs[0]), graph.shape(op.output).pixels // hw.OUTPUTS
    pe = np.arange(1, op.channels + 1)
    passes, found = -(-op.channels // pe), []
    for simd, (rows, chunk) in _tile_words(op).items():
        folds = op.window.kernel[0] // rows * op.weight.shape[3] // chunk
        columns = np.stack(
            [
                np.maximum(
                    tiles * hw.POSITIONS * folds * passes,
                    there.pixels * (there.channels // chunk),
                ),
                simd * pe,
                pe // largest_divisors(op.channels, folds),
                np.ones_like(pe),
                np.full_like(pe, simd),
                pe,
                np.full_like(pe, Products.FILTERED),
            ]
        )
        found.append(columns[:, folds * passes >= hw.LEAST_APART])
    return np.concatenate(found, 1)

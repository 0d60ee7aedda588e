"""The float network in NumPy: what calibration measures and what accuracy is compared with."""

from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import DataError
from ..passes.real_weights import real
from ..sample_layout import layout_advice

__all__ = ["Floats", "apply", "evaluate", "model_input", "patches"]

Floats = NDArray[np.float32]


def model_input(graph: ir.Graph, x: NDArray[Any] | ir.Feeds) -> dict[str, Floats]:
    """Model inputs ``[frames, *port.shape]`` in stream order, ``[frames, H, W, C]``, by name.

    The array of a lone input may be given by itself.
    """
    given = ir.feeds(graph, x)
    return {port.name: _streamed(graph, port, given[port.name]) for port in graph.inputs}


def _streamed(graph: ir.Graph, port: ir.InputPort, x: NDArray[Any]) -> Floats:
    if x.shape[1:] != port.shape:
        raise DataError(
            f"{port.name}: samples of shape {x.shape[1:]}, but the model takes "
            f"{port.shape}: {layout_advice(x.shape, port.shape, port.name)}"
        )
    flat = x.reshape(len(x), -1)[:, port.order].astype(np.float32)
    return flat.reshape(len(x), *graph.shape(port.value).array)


@np.errstate(over="ignore", divide="ignore", invalid="ignore")
def evaluate(graph: ir.Graph, x: NDArray[Any] | ir.Feeds) -> dict[str, Floats]:
    """All values, ``[frames, H, W, C]``, of a float graph for inputs of that layout by name.
    Those that float32 does not hold are infinite, or NaN.

    Of a graph that is quantized but for some values: the real numbers that the integers stand for.
    """
    given = ir.feeds(graph, x)
    values: dict[str, Floats] = {}
    for port in graph.inputs:
        entering, quant = np.asarray(given[port.name], np.float32), graph.values[port.value].quant
        if quant is not None and port.integer is None:
            entering = quant.quantize(entering).astype(np.float32)
        values[port.value] = entering if quant is None else quant.dequantize(entering)
    reals = {op.output: real(op) for op in graph}

    def compute(op: ir.Op, *inputs: Floats) -> Floats:
        shape, quant = graph.shape(op.output), graph.values[op.output].quant
        y = apply(reals[op.output], *inputs)
        y = y.reshape(len(y), -1, shape.width, shape.channels)
        return y if quant is None else quant.dequantize(quant.quantize(y))

    ir.loops.evaluate(graph, values, compute)
    return values


@singledispatch
def apply(op: ir.Op, *inputs: Floats) -> Floats:
    """The operator's function on float maps."""
    raise NotImplementedError(f"{op.name}: no float rule for {type(op).__name__}")


def patches(x: NDArray[Any], window: ir.Window, fill: float) -> list[NDArray[Any]]:
    """For every tap in raster order, the padded map as that tap sees it."""
    top, left, bottom, right = window.pads
    x = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    (span_rows, span_columns), (down, across) = window.span, window.stride
    rows = x.shape[1] - span_rows + 1
    columns = x.shape[2] - span_columns + 1
    return [
        x[:, r : r + rows : down, c : c + columns : across]
        for r in range(0, span_rows, window.dilation[0])
        for c in range(0, span_columns, window.dilation[1])
    ]


def _clamp(x: NDArray[Any], clamp: ir.Clamp) -> Floats:
    return np.asarray(np.clip(x, clamp.low, clamp.high), np.float32)


@apply.register
def _(op: ir.Conv, x: Floats) -> Floats:
    taps = patches(x, op.window, 0)
    bias = np.array([float(b) for b in op.exact_bias()], np.float32)
    if op.depthwise:
        kernel = op.weight.reshape(op.channels, len(taps))
        y = taps[0] * kernel[:, 0]
        for number, tap in enumerate(taps[1:], 1):
            y += tap * kernel[:, number]
        return _clamp(y + bias, op.clamp)
    inner, outer = op.weight.shape[3], op.channels // op.groups
    parts = []
    for group in range(op.groups):
        seen = np.stack([tap[..., group * inner : (group + 1) * inner] for tap in taps], axis=3)
        kernel = op.weight[group * outer : (group + 1) * outer].reshape(outer, -1)
        parts.append(seen.reshape(*seen.shape[:3], -1) @ kernel.T)
    return _clamp(np.concatenate(parts, axis=3) + bias, op.clamp)


@apply.register
def _(op: ir.MaxPool, x: Floats) -> Floats:
    best: Floats = np.maximum.reduce(patches(x, op.window, -np.inf))
    return best


@apply.register
def _(op: ir.AveragePool, x: Floats) -> Floats:
    inside = np.ones((1, *x.shape[1:3], 1), np.float32)
    total = np.sum(patches(x, op.window, 0), axis=0)
    count = np.sum(patches(inside, op.window, float(op.count_padding)), axis=0)
    return _clamp(total / count, op.clamp)


@apply.register
def _(op: ir.Pad, x: Floats) -> Floats:
    top, left, bottom, right = op.pads
    border = ((0, 0), (top, bottom), (left, right), (0, 0))
    return np.asarray(np.pad(x, border, constant_values=op.fill), np.float32)


@apply.register
def _(op: ir.Elementwise, *inputs: Floats) -> Floats:
    with np.errstate(all="ignore"):
        y = op.compute(*(x.astype(np.float64) for x in inputs))
    return _clamp(y, op.clamp if isinstance(op, ir.Clampable) else ir.Clamp())


@apply.register
def _(op: ir.ops.MatMul, a: Floats, b: Floats) -> Floats:
    left, right = (x.reshape(len(x), op.products, -1, x.shape[3]) for x in (a, b))
    y = left @ right
    return _clamp(y.reshape(len(y), -1, 1, y.shape[3]), op.clamp)


@apply.register
def _(op: ir.Concat, *inputs: Floats) -> Floats:
    return np.concatenate(inputs, axis=3)


@apply.register
def _(op: ir.Gather, x: Floats) -> Floats:
    taken = x.reshape(len(x), -1)[:, op.order]
    return np.asarray(np.where(op.order < 0, op.fill, taken), np.float32)


@apply.register
def _(op: ir.Delay, x: Floats, *given: Floats) -> Floats:
    first = np.empty_like(x[:, :1], np.float32)
    first[:] = op.initial
    return np.concatenate([*(given or [first]), x[:, :-1]], axis=1, dtype=np.float32)


@apply.register
def _(op: ir.FrameDelay, x: Floats) -> Floats:
    return np.concatenate([op.initial[None], x[:-1]], dtype=np.float32)


@apply.register
def _(op: ir.Reshape, x: Floats) -> Floats:
    return x


@apply.register
def _(op: ir.ArgMax, x: Floats) -> Floats:
    best = np.argmax(x.reshape(len(x), -1), axis=1).reshape(-1, 1, 1, 1)
    return np.asarray(best, np.float32)

"""MaxPool, AveragePool, Pad, and Concat."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir, limits
from ..errors import ModelError
from .builder import Builder
from .operands import (
    Handler,
    Operand,
    activation,
    axis_of,
    bounded,
    constant,
    finite,
    integers,
    optional,
    slid,
    windowed,
)
from .source import Node
from .tensors import Constant, Tensor, permutes

__all__ = ["HANDLERS", "constant_stream", "one_stream"]


def _tensor(operand: Operand, node: Node) -> Tensor:
    """A tensor of real numbers or integers: the operator only selects elements."""
    return operand if isinstance(operand, Tensor) else activation(operand, node)


def _pooled(node: Node, shape: ir.Shape, rank: int) -> ir.Window:
    """The window of a pool, which holds at least one element of the map wherever it stands."""
    window = windowed(node, shape, tuple(node.get("kernel_shape", ())), rank)
    if any(pad >= window.span[side % 2] for side, pad in enumerate(window.pads)):
        raise ModelError(
            f"{node}: has pads {list(window.pads)} for a window of "
            f"{window.span[0]}x{window.span[1]}; accepted: pads below the window's extent"
        )
    return window


def max_pool(build: Builder, node: Node, x: Operand) -> Tensor:
    """ONNX MaxPool."""
    x = _tensor(x, node)
    if len([name for name in node.outputs if name]) > 1:
        raise ModelError(f"{node}: gives indices too; accepted: values only")
    source = build.as_map(x, node)
    found = build.streams[source].shape
    window = _pooled(node, found, x.order.ndim - 2)
    shape = slid(node, window, found, found.channels, build.batch)
    result = build.computed(
        ir.MaxPool(node.name, (source,), node.outputs[0], window),
        shape,
        [x],
        build.map_order(shape, x),
    )
    return replace(result, real=x.real)


def average_pool(build: Builder, node: Node, x: Operand) -> Tensor:
    """ONNX AveragePool."""
    x = activation(x, node)
    source = build.as_map(x, node)
    found = build.streams[source].shape
    window = _pooled(node, found, x.order.ndim - 2)
    count = bool(node.get("count_include_pad", 0)) and any(window.pads)
    if count and node.get("ceil_mode", 0):
        raise ModelError(
            f"{node}: ceil_mode=1 with count_include_pad=1; accepted: one of them, as runtimes "
            "disagree on the count at the border; pad explicitly and set ceil_mode=0"
        )
    shape = slid(node, window, found, found.channels, build.batch)
    op = ir.AveragePool(node.name, (source,), node.outputs[0], window, count)
    return build.computed(op, shape, [x], build.map_order(shape, x))


# -- padding and concatenation ---------------------------------------------------------------------


def pad(
    build: Builder,
    node: Node,
    x: Operand,
    pads: Operand = None,
    value: Operand = None,
    axes: Operand = None,
) -> Tensor:
    """ONNX Pad on any axes but the batch: a constant on rows and columns as ``ir.Pad``; other
    modes, and other axes, are another arrangement. Negative pads cut off.
    """
    x = _tensor(x, node)
    mode = node.get("mode", "constant")
    if mode not in ("constant", "reflect", "edge", "wrap"):
        raise ModelError(f"{node}: mode {mode!r}; accepted: constant, reflect, edge, wrap")
    amounts = _amounts(node, x, pads, axes)
    if amounts[:, 0].any():
        raise ModelError(f"{node}: pads {amounts.tolist()}; accepted: none on the batch")
    if not amounts.any():
        return replace(x, label=node.outputs[0]) if x.raw else x
    if (amounts < 0).any():
        x, amounts = _cut(node, x, amounts), np.maximum(amounts, 0)
        if not amounts.any():
            return x
    size = prod((n + int(m)) for n, m in zip(x.order.shape, amounts.sum(axis=0), strict=True))
    if size > limits.MAP_ELEMENTS:
        raise ModelError(
            f"{node}: pads to {size} elements; accepted: at most {limits.MAP_ELEMENTS}; use a "
            "smaller pad"
        )
    if mode != "constant":
        return x.moved(np.pad(x.order, amounts.T, mode=mode), node.outputs[0])
    fill = _fill(build, node, x, value)
    for axis in (1, x.order.ndim - 1):
        if x.order.ndim in (3, 4) and not amounts[:, axis].any() and _streams(build, x, axis):
            return _padded(build, node, x, amounts, fill, axis)
    order = np.pad(x.order, amounts.T, constant_values=-1)
    return replace(x.moved(order, node.outputs[0]), fill=fill)


def _cut(node: Node, x: Tensor, amounts: NDArray[np.int64]) -> Tensor:
    """The tensor without what negative pads cut off."""
    begins, ends = np.maximum(-amounts, 0)
    order = x.order[
        tuple(
            slice(int(begin), n - int(end))
            for begin, end, n in zip(begins, ends, x.order.shape, strict=True)
        )
    ]
    if not order.size:
        raise ModelError(f"{node}: pads {amounts.tolist()}; accepted: pads that leave something")
    return x.moved(order, node.outputs[0])


def _fill(build: Builder, node: Node, x: Tensor, value: Operand) -> float:
    """The real number to pad with."""
    fill = optional(value, float(node.get("value", 0.0)), node, "pad value")
    if fill <= -float(np.finfo(np.float32).max):
        fill = -inf
    if x.real:
        return fill
    quant = build.quant(x.handle)
    if quant is None:
        raise ModelError(f"{node}: pads integers of unknown scale; put DequantizeLinear before it")
    return (fill - quant.zero) * quant.scale


def _streams(build: Builder, x: Tensor, channels: int) -> bool:
    """Whether ``x`` is a map in stream order, its channels on that axis."""
    labels = np.moveaxis(x.order, channels, -1)
    whole = x.order.shape[0] == build.batch
    return whole and np.array_equal(
        labels.reshape(-1), np.arange(build.batch * build.shape(x).size)
    )


def _amounts(node: Node, x: Tensor, pads: Operand, axes: Operand) -> NDArray[np.int64]:
    """[begin and end, axis] of the pads, for all axes."""
    listed = list(node.get("pads", ())) or integers(pads, node, "pads")
    which = list(range(x.order.ndim))
    if axes is not None:
        which = [axis_of(node, a, x.order.ndim) for a in integers(axes, node, "axes")]
    if len(listed) != 2 * len(which) or len(set(which)) != len(which):
        raise ModelError(
            f"{node}: has {len(listed)} pads for the axes {which}; accepted: begin and end of each "
            "axis, each axis once"
        )
    if not all(abs(n) <= limits.MAP_ELEMENTS for n in listed):
        raise ModelError(
            f"{node}: has pads {listed}; accepted: at most {limits.MAP_ELEMENTS}; use a smaller pad"
        )
    amounts = np.zeros((2, x.order.ndim), np.int64)
    amounts[:, which] = np.reshape(listed, (2, -1))
    return amounts


def _padded(
    build: Builder,
    node: Node,
    x: Tensor,
    amounts: NDArray[np.int64],
    fill: float,
    channels: int,
) -> Tensor:
    """``ir.Pad`` of a map in stream order, whose channels are on that axis."""
    view = replace(x, order=np.moveaxis(x.order, channels, 1))
    swapped = np.delete(amounts, channels, axis=1)
    source = build.as_map(view, node)
    found = build.streams[source].shape
    top, bottom = (int(n) for n in swapped[:, 1])
    left, right = (int(n) for n in swapped[:, 2]) if x.order.ndim == 4 else (0, 0)
    shape = bounded(
        node,
        ir.Shape(found.height + top + bottom, found.width + left + right, found.channels),
        build.batch,
    )
    op = ir.Pad(node.name, (source,), node.outputs[0], (top, left, bottom, right), fill)
    order = np.moveaxis(build.map_order(shape, x), 0, channels - 1)
    result = build.computed(op, shape, [x], order)
    return replace(result, real=x.real)


def concat(build: Builder, node: Node, *operands: Operand) -> Tensor:
    """ONNX Concat of activations and constants along any axis."""
    operands = tuple(o for o in operands if not isinstance(o, Constant) or o.array.size)
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    axis = axis_of(node, int(node.get("axis", 1)), tensors[0].order.ndim)
    if axis == 0 and not build.lone:
        raise ModelError(
            f"{node}: concatenates along the batch; accepted: any other axis; concatenate "
            "channels, or export the network with a batch of 1"
        )
    quants = {build.quant(tensor.handle) for tensor in tensors if not tensor.real}
    if len({tensor.real for tensor in tensors}) > 1 or len(quants) > 1:
        raise ModelError(
            f"{node}: concatenates integers of different scales; put DequantizeLinear before it"
        )
    numbers = _numbers(node, operands)
    if numbers.size > 1 and tensors[0].real:
        operands = tuple(
            constant_stream(build, node, tensors[0], o, n) for n, o in enumerate(operands)
        )
        tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    joined, orders = one_stream(build, node, tensors, axis)
    if len(tensors) == len(operands):
        return replace(joined, order=np.concatenate(orders, axis=axis))
    fill = _fill_of(build, node, joined, numbers)
    parts = iter(orders)
    pieces = [
        next(parts) if isinstance(operand, Tensor) else _filled(operand, node)
        for operand in operands
    ]
    order = np.concatenate(pieces, axis=axis)
    return replace(joined.moved(order, node.outputs[0]), fill=fill)


def _numbers(node: Node, operands: Sequence[Operand]) -> NDArray[Any]:
    """The different numbers in all constant operands."""
    constants = [constant(o, node, "operand") for o in operands if not isinstance(o, Tensor)]
    arrays = [finite(c.real(), c.name, node).reshape(-1) for c in constants]
    return np.unique(np.concatenate([np.zeros(0, np.float32), *arrays]))


def _fill_of(build: Builder, node: Node, joined: Tensor, numbers: NDArray[Any]) -> float:
    """The one number of all constant operands as a real number."""
    if joined.real:
        return float(numbers[0])
    quant = build.quant(joined.handle)
    if quant is None or numbers.size != 1:
        raise ModelError(
            f"{node}: concatenates integers with {numbers.size} different constants; accepted: one "
            "number, and integers of a known scale; put DequantizeLinear before the node"
        )
    return (float(numbers[0]) - quant.zero) * quant.scale


def _filled(operand: Operand, node: Node) -> NDArray[np.int64]:
    return np.full(constant(operand, node, "operand").array.shape, -1, np.int64)


def constant_stream(build: Builder, node: Node, x: Tensor, operand: Operand, number: int) -> Tensor:
    """A constant as a stream in step with ``x``: the bias of a convolution of one element of ``x``,
    whose weights are 0; a tensor as it is.
    """
    if isinstance(operand, Tensor):
        return operand
    values = constant(operand, node, "operand").real().astype(np.float32)
    if len(values) != build.batch or not (values == values[:1]).all():
        raise ModelError(
            f"{node}: concatenates a constant of shape {list(values.shape)}, which differs from "
            "sample to sample; accepted: the same numbers for each sample"
        )
    element = build.arranged(x, np.zeros(1, np.int64), ir.Shape(1, 1, 1), node)
    row = values[0].reshape(-1)
    name, integer = f"constant_{number}", build.quant(x.handle) is not None
    op = ir.Conv(
        f"{node.name}/{name}",
        (element,),
        f"{node.outputs[0]}/{name}",
        np.zeros((row.size, 1, 1, 1), np.int8 if integer else np.float32),
        np.ones(row.size, np.float32) if integer else None,
        row,
    )
    order = np.arange(row.size).reshape(values.shape[1:])
    return build.computed(op, ir.Shape(1, 1, row.size), [x], order)


def one_stream(
    build: Builder, node: Node, tensors: list[Tensor], axis: int
) -> tuple[Tensor, list[NDArray[np.int64]]]:
    """A stream of all elements of ``tensors``, and the labels of each of them in it."""
    first, output = tensors[0], node.outputs[0]
    alike = len({tensor.handle for tensor in tensors}) == 1
    if len(tensors) == 1:
        return first, [first.order]
    if alike and not all(
        permutes(build.frame(tensor, node), build.shape(tensor)) for tensor in tensors
    ):
        return first.moved(first.order, output), [tensor.order for tensor in tensors]
    tensors = [build.natural(tensor, node) for tensor in tensors]
    maps = _maps(build, tensors, axis)
    out = ir.Shape(maps[0].height, maps[0].width, sum(shape.channels for shape in maps))
    bounded(node, out, build.batch)
    sources = tuple(build.reshaped(t, s, node) for t, s in zip(tensors, maps, strict=True))
    handle = build.add(ir.Concat(node.name, sources, output), out, tensors)
    orders = _side_by_side(tensors, maps, out)
    return Tensor(handle, orders[0], output, first.real), orders


def _maps(build: Builder, tensors: list[Tensor], axis: int) -> list[ir.Shape]:
    """The maps whose channels are put side by side: pixels, whole rows or whole maps, the first of
    them such that the result is in stream order; if none is, the first that fit.
    """
    shapes = [build.shape(tensor) for tensor in tensors]
    rows = [ir.Shape(s.height, 1, s.width * s.channels) for s in shapes]
    whole = [ir.Shape(1, 1, s.size) for s in shapes]
    fitting = [
        maps for maps in (shapes, rows, whole) if len({(s.height, s.width) for s in maps}) == 1
    ]
    for maps in fitting:
        out = ir.Shape(1, 1, sum(s.channels for s in maps))
        joined = np.concatenate(_side_by_side(tensors, maps, out), axis=axis)
        if np.array_equal(np.moveaxis(joined, 1, -1).reshape(-1), np.arange(joined.size)):
            return maps
    return fitting[0]


def _side_by_side(
    tensors: list[Tensor], maps: list[ir.Shape], out: ir.Shape
) -> list[NDArray[np.int64]]:
    """The labels of each tensor in the concatenated stream."""
    orders, start = [], 0
    for tensor, shape in zip(tensors, maps, strict=True):
        pixel, channel = np.divmod(tensor.order, shape.channels)
        orders.append(pixel * out.channels + start + channel)
        start += shape.channels
    return orders


HANDLERS: dict[str, Handler] = {
    "MaxPool": Handler(max_pool),
    "AveragePool": Handler(average_pool),
    "Pad": Handler(pad),
    "Concat": Handler(concat),
}

"""MaxPool, AveragePool, Pad, and Concat."""

from dataclasses import replace
from math import inf

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
    integers,
    optional,
    slid,
    windowed,
)
from .source import Node
from .tensors import Tensor

__all__ = ["HANDLERS"]


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
    """ONNX Pad with a constant, on rows and columns."""
    x = _tensor(x, node)
    if node.get("mode", "constant") != "constant":
        raise ModelError(
            f"{node}: mode {node.get('mode', '')}; accepted: constant; pad the training data, "
            "or train with zero padding"
        )
    amounts = _amounts(node, x, pads, axes)
    if not amounts.any():
        return replace(x, label=node.outputs[0]) if x.raw else x
    if (amounts < 0).any() or amounts[:, 0].any():
        raise ModelError(
            f"{node}: pads {amounts.tolist()}; accepted: none below 0, none on the batch"
        )
    fill = optional(value, float(node.get("value", 0.0)), node, "pad value")
    if fill <= -float(np.finfo(np.float32).max):
        fill = -inf
    if not x.real:
        quant = build.quant(x.handle)
        if quant is None:
            raise ModelError(
                f"{node}: pads integers of unknown scale; put DequantizeLinear before it"
            )
        fill = (fill - quant.zero) * quant.scale
    return _padded(build, node, x, amounts, fill)


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
    build: Builder, node: Node, x: Tensor, amounts: NDArray[np.int64], fill: float
) -> Tensor:
    """``ir.Pad`` on a map whose channels come first or last."""
    first = not amounts[:, 1].any()
    view = x if first else replace(x, order=np.moveaxis(x.order, -1, 1))
    swapped = (
        amounts if first else np.concatenate([amounts[:, :1], amounts[:, -1:], amounts[:, 1:-1]], 1)
    )
    if swapped[:, 1].any():
        raise ModelError(f"{node}: pads the channels; accepted: rows and columns")
    source = build.as_map(view, node)
    found = build.streams[source].shape
    top, bottom = (int(n) for n in swapped[:, 2])
    left, right = (int(n) for n in swapped[:, 3]) if x.order.ndim == 4 else (0, 0)
    shape = bounded(
        node,
        ir.Shape(found.height + top + bottom, found.width + left + right, found.channels),
        build.batch,
    )
    op = ir.Pad(node.name, (source,), node.outputs[0], (top, left, bottom, right), fill)
    order = build.map_order(shape, x)
    result = build.computed(op, shape, [x], order if first else np.moveaxis(order, 0, -1))
    return replace(result, real=x.real)


def concat(build: Builder, node: Node, *operands: Operand) -> Tensor:
    """ONNX Concat of activations: side by side on the channels of one map, or of one pixel."""
    if not all(isinstance(operand, Tensor) for operand in operands):
        raise ModelError(
            f"{node}: concatenates a constant; accepted: tensors computed from the input"
        )
    tensors = [operand for operand in operands if isinstance(operand, Tensor)]
    axis = axis_of(node, int(node.get("axis", 1)), tensors[0].order.ndim)
    if axis == 0:
        raise ModelError(
            f"{node}: concatenates along the batch; accepted: any other axis; concatenate channels"
        )
    if len(tensors) == 1:
        return tensors[0]
    quants = {build.quant(tensor.handle) for tensor in tensors if not tensor.real}
    if len({tensor.real for tensor in tensors}) > 1 or len(quants) > 1:
        raise ModelError(
            f"{node}: concatenates integers of different scales; put DequantizeLinear before it"
        )
    maps = [build.shape(tensor) for tensor in tensors]
    if len({(shape.height, shape.width) for shape in maps}) > 1:
        maps = [ir.Shape(1, 1, shape.size) for shape in maps]
    out = ir.Shape(maps[0].height, maps[0].width, sum(shape.channels for shape in maps))
    bounded(node, out, build.batch)
    sources = tuple(build.reshaped(t, s, node) for t, s in zip(tensors, maps, strict=True))
    order = np.concatenate(_side_by_side(tensors, maps, out), axis=axis)
    handle = build.add(ir.Concat(node.name, sources, node.outputs[0]), out, tensors)
    return Tensor(handle, order, node.outputs[0], tensors[0].real)


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

"""Conv, Gemm, MatMul, BatchNormalization, and Add, Sub, Mul, Div by constants."""

from dataclasses import replace
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .operands import (
    Handler,
    Operand,
    activation,
    bounded,
    constant,
    finite,
    overflow,
    slid,
    windowed,
)
from .source import Node
from .tensors import Constant, Tensor, channelwise, permutes, repeats
from .training import normalizes_by_batch, training_error

__all__ = ["HANDLERS", "affine", "bias_of", "dense", "offset", "scaled", "weight_of"]


def conv(build: Builder, node: Node, x: Operand, w: Operand, b: Operand = None) -> Tensor:
    """ONNX Conv, of one or two dimensions, any group."""
    x, kernel = activation(x, node), constant(w, node, "weight")
    source = build.as_map(x, node)
    rank = x.order.ndim - 2
    if kernel.array.ndim != rank + 2 or not kernel.array.size:
        raise ModelError(
            f"{node}: its weight has shape {list(kernel.array.shape)}, but the input has "
            f"{rank + 2} axes; accepted: [outputs, inputs / group, *kernel] for the input's axes"
        )
    if tuple(node.get("kernel_shape", kernel.array.shape[2:])) != kernel.array.shape[2:]:
        raise ModelError(
            f"{node}: kernel_shape is {node.get('kernel_shape', [])}, but its weight has shape "
            f"{list(kernel.array.shape)}; accepted: the weight's, or none; check the model with "
            "onnx.checker"
        )
    if rank == 1:
        kernel = replace(
            kernel,
            array=kernel.array[..., None],
            scale=None if kernel.scale is None else kernel.scale[..., None],
        )
    found = build.streams[source].shape
    window = windowed(node, found, kernel.array.shape[2 : 2 + rank], rank)
    weight, weight_scale = weight_of(kernel, node)
    weight, groups = weight.transpose(0, 2, 3, 1), int(node.get("group", 1))
    channels = found.channels
    if weight.shape[3] * groups != channels:
        raise ModelError(
            f"{node}: its weight has {weight.shape[3]} input channels in {groups} groups, but "
            f"the input has {channels}; accepted: channels = group * weight channels"
        )
    if weight.shape[0] % groups:
        raise ModelError(
            f"{node}: has {weight.shape[0]} output channels in {groups} groups; accepted: groups "
            "that divide them"
        )
    bias, bias_scale = bias_of(b, weight.shape[0], node)
    shape = slid(node, window, found, weight.shape[0], build.batch)
    op = ir.Conv(
        node.name,
        (source,),
        node.outputs[0],
        weight,
        weight_scale,
        bias,
        bias_scale,
        window=window,
        groups=groups,
    )
    return build.computed(op, shape, [x], build.map_order(shape, x))


def gemm(build: Builder, node: Node, x: Operand, w: Operand, b: Operand = None) -> Tensor:
    """ONNX Gemm: ``alpha * x @ w + beta * b``."""
    x = activation(x, node)
    if node.get("transA", 0):
        if not build.lone or x.order.ndim != 2:
            raise ModelError(
                f"{node}: transA=1 makes the batch the features; accepted: transA=0, or a network "
                "whose batch is 1; transpose the input in the exporter"
            )
        x = x.moved(x.order.T, node.outputs[0])
    w = _times(constant(w, node, "weight"), node.get("alpha", 1.0), node)
    w = w if node.get("transB", 0) else _transposed(w)
    if b is None:
        return dense(build, node, x, w, None)
    b = _times(constant(b, node, "bias"), node.get("beta", 1.0), node)
    if b.array.ndim < 2 or b.array.shape[0] == 1:
        return dense(build, node, x, w, b)
    return offset(build, node, dense(build, node.step("product"), x, w, None), b)


def matmul(build: Builder, node: Node, x: Operand, w: Operand) -> Tensor:
    """ONNX MatMul of two activations, or of an activation and a constant, either way round: a dense
    layer over the last axis, or the last but one.
    """
    if isinstance(x, Tensor) and isinstance(w, Tensor):
        return _product(build, node, activation(x, node), activation(w, node))
    left = isinstance(x, Constant)
    x, kernel = activation(w if left else x, node), constant(x if left else w, node, "operand")
    if left and (x.order.ndim < 3 or kernel.array.ndim < 2):
        raise ModelError(
            f"{node}: multiplies a constant of shape {list(kernel.array.shape)} by a tensor of "
            f"shape {list(x.order.shape)}; accepted: a matrix by [batch, ..., rows, columns]"
        )
    if left:  # (x.T @ w.T).T
        x = x.moved(x.order.swapaxes(-1, -2), node.outputs[0])
    elif kernel.array.ndim > 1:
        kernel = _transposed(kernel)
    else:
        kernel = _reshaped(kernel, (1, -1))
    result = _matrices(build, node, x, kernel)
    if left:
        return replace(result, order=result.order.swapaxes(-1, -2))
    vector = isinstance(w, Constant) and w.array.ndim == 1
    return replace(result, order=result.order[..., 0]) if vector else result


def _matrices(build: Builder, node: Node, x: Tensor, kernel: Constant) -> Tensor:
    """``x @ kernel.T``, for each element of the axes before the last two of both."""
    if kernel.array.ndim == x.order.ndim > 2 and kernel.array.shape[0] == 1:
        kernel = _reshaped(kernel, kernel.array.shape[1:])
    outer = kernel.array.shape[:-2]
    if all(n == 1 for n in outer) and kernel.array.ndim <= x.order.ndim:
        return dense(build, node, x, _reshaped(kernel, kernel.array.shape[-2:]), None)
    labels = build.frame(x, node)
    inner = labels.shape[:-2]
    outer = (*[1] * (len(inner) - len(outer)), *outer)
    fits = len(outer) == len(inner) and kernel.array.shape[-1] == labels.shape[-1]
    if not fits or any(n not in (1, m) for n, m in zip(outer, inner, strict=True)):
        raise ModelError(
            f"{node}: multiplies matrices of shape {list(kernel.array.shape)} (transposed) by a "
            f"tensor of shape {list(x.order.shape)}; accepted: one matrix, or one for each element "
            "of the axes after the batch"
        )
    return _groups(build, node, x, labels, kernel)


def _groups(
    build: Builder, node: Node, x: Tensor, labels: NDArray[np.int64], kernel: Constant
) -> Tensor:
    """A matrix for each element of the outer axes: a convolution of as many groups."""
    inner, (rows, features) = labels.shape[:-2], labels.shape[-2:]
    count, outputs = prod(inner), kernel.array.shape[-2]

    def spread(value: NDArray[Any]) -> NDArray[Any]:
        whole = np.broadcast_to(value, (*inner, *value.shape[-2:]))
        return whole.reshape(count * outputs, features)

    scale = None if kernel.scale is None else spread(kernel.scale)
    weight, weight_scale = weight_of(replace(kernel, array=spread(kernel.array), scale=scale), node)
    order = labels.reshape(count, rows, features).transpose(1, 0, 2).reshape(-1)
    shape = bounded(node, ir.Shape(rows, 1, count * features), build.batch, "operand")
    op = ir.Conv(
        node.name,
        (build.arranged(x, order, shape, node),),
        node.outputs[0],
        weight[:, None, None, :],
        weight_scale,
        groups=count,
    )
    out = bounded(node, ir.Shape(rows, 1, count * outputs), build.batch)
    places = np.arange(out.size).reshape(rows, count, outputs).transpose(1, 0, 2)
    return build.computed(op, out, [x], places.reshape(*inner, rows, outputs))


def _reshaped(kernel: Constant, shape: tuple[int, ...]) -> Constant:
    scale = None if kernel.scale is None else kernel.scale.reshape(shape)
    return replace(kernel, array=kernel.array.reshape(shape), scale=scale)


def _product(build: Builder, node: Node, a: Tensor, b: Tensor) -> Tensor:
    """Of matrices on the last two axes, for each element of the other axes."""
    left, right = build.frame(a, node), build.frame(b, node)
    fits = left.ndim > 1 and right.ndim > 1 and left.shape[-1] == right.shape[-2]
    try:
        outer = np.broadcast_shapes(left.shape[:-2], right.shape[:-2])
    except ValueError:
        fits = False
    if not fits:
        raise ModelError(
            f"{node}: multiplies tensors of shapes {list(a.order.shape)} and "
            f"{list(b.order.shape)}; accepted: [batch, ..., m, k] and [batch, ..., k, n]"
        )
    sources = []
    for tensor, labels in ((a, left), (b, right)):
        rows = np.broadcast_to(labels, (*outer, *labels.shape[-2:])).reshape(-1, labels.shape[-1])
        shape = bounded(node, ir.Shape(len(rows), 1, rows.shape[1]), build.batch, "operand")
        sources.append(build.arranged(tensor, rows.reshape(-1), shape, node))
    products = prod(outer)
    op = ir.ops.MatMul(node.name, tuple(sources), node.outputs[0], products=products)
    out = bounded(node, ir.Shape(products * left.shape[-2], 1, right.shape[-1]), build.batch)
    order = np.arange(out.size).reshape(*outer, left.shape[-2], right.shape[-1])
    return build.computed(op, out, [a, b], order)


def dense(build: Builder, node: Node, x: Tensor, kernel: Constant, b: Constant | None) -> Tensor:
    """``x @ kernel.T + b`` over the last axis of ``x``, whatever the order of its channels."""
    labels = build.frame(x, node)
    features = labels.shape[-1] if labels.ndim else 0
    if kernel.array.ndim != 2 or kernel.array.shape[1] != features or not kernel.array.size:
        raise ModelError(
            f"{node}: its weight has shape {list(kernel.array.shape)} (outputs, inputs), but "
            f"the input has {features} features; accepted: as many inputs as features"
        )
    source, shape, order = _pixels(build, x, labels, node)
    weight, weight_scale = weight_of(kernel, node)
    stream = np.empty_like(weight)
    stream[:, order] = weight
    bias, bias_scale = bias_of(b, weight.shape[0], node)
    op = ir.Conv(
        node.name,
        (source,),
        node.outputs[0],
        stream[:, None, None, :],
        weight_scale,
        bias,
        bias_scale,
    )
    out = bounded(node, ir.Shape(shape.height, shape.width, weight.shape[0]), build.batch)
    arrangement = np.arange(out.size).reshape(*labels.shape[:-1], weight.shape[0])
    return build.computed(op, out, [x], arrangement)


def _pixels(
    build: Builder, x: Tensor, labels: NDArray[np.int64], node: Node
) -> tuple[str, ir.Shape, NDArray[np.int64]]:
    """The map whose channels are the last axis of ``labels``, and the channel of each feature: the
    features of a pixel lie side by side, in any order.
    """
    rows = labels.reshape(-1, labels.shape[-1])
    order = rows[0]
    if (
        not np.array_equal(rows, order + rows.shape[1] * np.arange(len(rows))[:, None])
        or not permutes(labels, build.shape(x))
        or order.max() >= rows.shape[1]
    ):
        height, width = labels.shape[:2] if labels.ndim == 3 else (len(rows), 1)
        shape = ir.Shape(height, width, rows.shape[1])
        source = build.arranged(x, labels.reshape(-1), shape, node)
        return source, shape, np.arange(rows.shape[1])
    found = build.shape(x)
    if found.channels == rows.shape[1]:
        return x.handle, found, order
    height, width = labels.shape[:2] if labels.ndim == 3 else (len(rows), 1)
    shape = ir.Shape(height, width, rows.shape[1])
    return build.reshaped(x, shape, node), shape, order


def _transposed(kernel: Constant) -> Constant:
    """Each matrix on the last two axes transposed."""
    if kernel.array.ndim < 2:
        return kernel
    scale = None if kernel.scale is None else kernel.scale.swapaxes(-1, -2)
    return replace(kernel, array=kernel.array.swapaxes(-1, -2), scale=scale)


def _times(value: Constant, factor: float, node: Node) -> Constant:
    """``value * factor``; in a quantized network only when the scale stays a float32."""
    if factor == 1:
        return value
    if value.scale is None:
        product = (value.array * np.float32(factor)).astype(np.float32)
        lost = overflow(f"{value.name} * {factor:g}", [value], product)
        return replace(value, array=product, overflowed=lost)
    scale = (value.scale * np.float32(factor)).astype(np.float32)
    exact = all(
        Fraction(float(a)) * Fraction(factor) == Fraction(float(b))
        for a, b in zip(np.unique(value.scale), np.unique(scale), strict=False)
    )
    if not exact or factor <= 0:
        raise ModelError(
            f"{node}: multiplies quantized weights by {factor:.9g}; accepted: 1, or another "
            "power of two; fold the factor into the weights before quantizing"
        )
    return replace(value, scale=scale)


def weight_of(kernel: Constant, node: Node) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Weights in their narrowest type, and the scale of each output channel (axis 0)."""
    weight = finite(kernel.array, kernel.described, node)
    if kernel.scale is None:
        return weight.astype(np.float32), None
    scales = kernel.scale.reshape(len(kernel.scale), -1)
    if not (scales == scales[:, :1]).all():
        raise ModelError(
            f"{node}: the scales of {kernel.name} differ within an output channel; accepted: "
            "one scale, or one an output channel; quantize along the output axis"
        )
    return _narrow(weight), finite(scales[:, 0].copy(), kernel.described, node).astype(np.float32)


def _narrow(weight: NDArray[Any]) -> NDArray[Any]:
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    return weight.astype(
        next(
            t
            for t in (np.int8, np.int16, np.int32, np.int64)
            if np.iinfo(t).min <= low and high <= np.iinfo(t).max
        )
    )


def bias_of(
    b: Operand,
    channels: int,
    node: Node,
) -> tuple[NDArray[Any] | None, NDArray[np.float32] | None]:
    """A bias of one number a channel: float32 and None, or integers and their scales."""
    if b is None:
        return None, None
    b = constant(b, node, "bias")
    try:
        values, scale = (
            _row(b.array, channels),
            None if b.scale is None else _row(b.scale, channels),
        )
    except ValueError:
        raise ModelError(
            f"{node}: its bias {b.name} has shape {list(b.array.shape)}; accepted: one number "
            f"an output channel ({channels})"
        ) from None
    if scale is None:
        return finite(values.astype(np.float32), b.described, node), None
    return _integers(values), finite(scale, b.described, node)


def _integers(bias: NDArray[Any]) -> NDArray[Any]:
    """Integer biases as int32; a zero point may have made them wider."""
    narrow = np.abs(bias.astype(np.int64)).max(initial=0) < 2**31
    return bias.astype(np.int32 if narrow else np.int64)


def _row(values: NDArray[Any], channels: int) -> NDArray[Any]:
    return np.broadcast_to(values.reshape(-1), channels).copy()


# -- one multiplication and one addition a channel: a depthwise 1x1 convolution ------------------


def affine(
    build: Builder, node: Node, x: Tensor, factor: Constant, shift: Constant | None
) -> Tensor:
    """``x * factor + shift``; ``ir.Conv`` of one tap a channel, which a pass may fold. Elements of
    ``x`` are repeated where the constants have more.

    Constants that differ from pixel to pixel are those of the channels of a map of one pixel, which
    is the same stream.
    """
    x = _grown(build, node, x, [c for c in (factor, shift) if c is not None])
    if repeats(build.frame(x, node)):
        x = build.natural(x, node)
    parts = [finite(factor.array, factor.described, node), factor.scale]
    if shift is not None:
        parts += [finite(shift.array, shift.described, node), shift.scale]
    shape, rows = _spread(build, node, x, parts)
    weight, scale, bias, bias_scale = (*rows, None, None)[:4]
    assert weight is not None
    op = ir.Conv(
        node.name,
        (build.reshaped(x, shape, node),),
        node.outputs[0],
        (weight if scale is None else _narrow(weight)).reshape(-1, 1, 1, 1),
        scale,
        bias if bias is None or bias_scale is None else _integers(bias),
        bias_scale,
        groups=shape.channels,
    )
    return build.elementwise(op, shape, [x])


def _grown(build: Builder, node: Node, x: Tensor, constants: list[Constant]) -> Tensor:
    """``x`` in the shape that it has together with the constants; as it is where that differs in
    the batch, or where they do not broadcast.
    """
    try:
        shape = np.broadcast_shapes(x.order.shape, *(each.array.shape for each in constants))
    except ValueError:
        return x
    alike = len(shape) == x.order.ndim and shape[:1] == x.order.shape[:1]
    if shape == x.order.shape or not (alike or build.lone):
        return x
    return replace(x, order=np.broadcast_to(x.order, shape))


def _spread(
    build: Builder, node: Node, x: Tensor, parts: list[NDArray[Any] | None]
) -> tuple[ir.Shape, list[NDArray[Any] | None]]:
    """Constants as one number a channel, and the map that has these channels."""
    shape = build.shape(x)
    for found in (shape, ir.Shape(1, 1, shape.size)):
        rows = [
            None if part is None else channelwise(part, x.order, found, str(node)) for part in parts
        ]
        if all((row is None) == (part is None) for row, part in zip(rows, parts, strict=True)):
            return found, rows
    raise ModelError(
        f"{node}: its constant differs from sample to sample of the batch; accepted: one constant "
        "for all samples; export the network with a batch of 1"
    )


def offset(build: Builder, node: Node, x: Tensor, shift: Constant, sign: int = 1) -> Tensor:
    """``sign * x + shift``."""
    if shift.scale is None:
        shift = replace(shift, array=shift.array.astype(np.float32))
    if build.quant(x.handle) is None and shift.scale is None:
        return affine(build, node, x, Constant(node.name, np.full((), sign, np.float32)), shift)
    one = Constant(node.name, np.full((), sign, np.int8), np.ones((), np.float32))
    return affine(build, node, x, one, shift)


def scaled(
    build: Builder, node: Node, x: Tensor, factor: Constant, shift: Constant | None = None
) -> Tensor:
    """``x * factor + shift``; for a quantized tensor a float factor is split into sign and
    scale.
    """
    if factor.scale is None and build.quant(x.handle) is not None:
        real = finite(factor.array.astype(np.float32), factor.described, node)
        scale = np.where(real == 0, np.float32(1), np.abs(real)).astype(np.float32)
        factor = replace(factor, array=np.sign(real).astype(np.int8), scale=scale)
    elif factor.scale is None:
        factor = replace(factor, array=factor.array.astype(np.float32))
    return affine(build, node, x, factor, shift)


def batch_normalization(build: Builder, node: Node, x: Operand, *statistics: Operand) -> Tensor:
    """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` with the stored statistics.

    The features of a flattened map are the channels of one pixel.
    """
    x = activation(x, node)
    if x.order.ndim == 2 and build.shape(x).pixels > 1:
        flat = ir.Shape(1, 1, build.shape(x).size)
        x = replace(x, handle=build.reshaped(x, flat, node))
    if normalizes_by_batch(node):
        raise training_error(node)
    names = ("scale", "bias", "mean", "variance")
    gamma, beta, mean, variance = (
        finite(constant(value, node, name).real().astype(np.float64), f"its {name}", node)
        for value, name in zip(statistics, names, strict=True)
    )
    slope = gamma / np.sqrt(variance + node.get("epsilon", 1e-5))
    axes = (-1, *[1] * (x.order.ndim - 2))
    factor = finite(slope.astype(np.float32).reshape(axes), "its scale / sqrt(variance)", node)
    offsets = (beta - mean * slope).astype(np.float32).reshape(axes)
    shift = finite(offsets, "its bias - mean * scale / sqrt(variance)", node)
    return scaled(build, node, x, Constant(node.name, factor), Constant(node.name, shift))


HANDLERS: dict[str, Handler] = {
    "Conv": Handler(conv),
    "Gemm": Handler(gemm),
    "MatMul": Handler(matmul),
    "BatchNormalization": Handler(batch_normalization),
}

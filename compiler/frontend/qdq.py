"""QuantizeLinear and DequantizeLinear: annotations on activations, integers for constants."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .operands import Handler, Operand, axis_of, constant, finite
from .source import Node
from .tensors import Constant, Tensor

__all__ = ["HANDLERS", "fold_dequantize", "fold_quantize"]

#: types that activations may have in the file
TYPES = ("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2")


def quantize_linear(
    build: Builder, node: Node, x: Operand, scale: Operand, zero: Operand = None
) -> Tensor:
    """The value is rounded here and takes the name of this node's output."""
    x = _quantized(x, node)
    quant = _quant(node, scale, zero)
    if not x.real:
        raise ModelError(
            f"{node}: quantizes integers; accepted: float32; put DequantizeLinear before it"
        )
    name, clamp = node.outputs[0], ir.Clamp()
    saturation = build.saturations.get(name)
    if saturation is not None:
        quant = replace(quant, dtype=saturation.dtype(quant.zero))
        name, clamp = saturation.tensor, saturation.clamp(quant)
    if x.tail:
        if clamp != ir.Clamp():
            raise ModelError(
                f"{node}: is clipped on the host to a range that is no type's; accepted: the range "
                "of an integer type"
            )
        return replace(x, tail=(*x.tail, ir.Quantize(quant)), real=False, label=name)
    if clamp != ir.Clamp():
        handle = build.quantize(x.handle, quant, node.outputs[0], node, x.raw)
        op = ir.Unary(node.name, (handle,), name, ir.Identity(), clamp)
        handle = build.add(op, build.streams[handle].shape, [])
    else:
        handle = x.handle
    handle = build.quantize(handle, quant, name, node, x.raw)
    return replace(x, handle=handle, real=False, raw=False, label=name)


def dequantize_linear(
    build: Builder, node: Node, x: Operand, scale: Operand, zero: Operand = None
) -> Tensor:
    """Back to the real numbers the integers stand for, with the scale they were rounded to."""
    x = _quantized(x, node)
    quant = _quant(node, scale, zero)
    if x.tail:
        last = x.tail[-1]
        if isinstance(last, ir.Quantize) and _reads_as(last.quant, quant):
            quant = last.quant
        return replace(x, tail=(*x.tail, ir.Dequantize(quant)), real=True)
    found = build.quant(x.handle)
    if found is None:
        handle = build.quantize(x.handle, quant, build.streams[x.handle].name, node, True)
        return replace(x, handle=handle, real=True, raw=False)
    if not _reads_as(found, quant):
        raise ModelError(
            f"{node}: reads integers as {quant}, but they were rounded as {found}; accepted: "
            "the same scale and zero point as the QuantizeLinear before it"
        )
    return replace(x, real=True, raw=False)


def _quantized(x: Operand, node: Node) -> Tensor:
    """The tensor to quantize, whose scale alone may be constant."""
    if not isinstance(x, Tensor):
        raise ModelError(
            f"{node}: its first input is a constant, but its scale is computed at run time; "
            "accepted: a constant scale"
        )
    return x


def _reads_as(stored: ir.Quant, quant: ir.Quant) -> bool:
    """Whether ``quant`` reads integers of ``stored``: a Clip may have left fewer of its type."""
    same = (stored.scale, stored.zero) == (quant.scale, quant.zero)
    held = quant.dtype.low <= stored.dtype.low and stored.dtype.high <= quant.dtype.high
    return same and held


def _quant(node: Node, scale: Operand, zero: Operand) -> ir.Quant:
    """The quantization of an activation: one scale, one zero point."""
    step = constant(scale, node, "scale").real()
    point = Constant("", np.zeros(1, np.uint8)) if zero is None else _zero_point(zero, node)
    if step.size != 1:
        raise ModelError(
            f"{node}: has {step.size} scales for an activation; accepted: one; quantize "
            "activations per tensor and weights per channel"
        )
    value = float(np.float32(step.reshape(-1)[0]))
    if not (np.isfinite(value) and value > 0):
        raise ModelError(
            f"{node}: has the scale {value:g}; accepted: a finite number above 0; calibrate with "
            "data that reaches this tensor"
        )
    if point.array.size != 1:
        raise ModelError(
            f"{node}: has {point.array.size} zero points for an activation; accepted: one"
        )
    dtype = point.integer
    if dtype is None or dtype.name not in TYPES:
        raise ModelError(
            f"{node}: quantizes an activation to {dtype.name if dtype else point.array.dtype}; "
            f"accepted: {', '.join(TYPES)}"
        )
    return ir.Quant(dtype, value, int(point.array.reshape(-1)[0]))


def _zero_point(zero: Operand, node: Node) -> Constant:
    return constant(zero, node, "zero point")


def fold_dequantize(node: Node, x: Constant, scale: Operand, zero: Operand = None) -> Constant:
    """Integer weights and their scales, less the zero point (they may then need one bit more)."""
    if x.scale is not None or x.array.dtype.kind not in "iu":
        raise ModelError(f"{node}: dequantizes {x.array.dtype} constants; accepted: integers")
    step = _steps(node, scale, x)
    point = np.zeros((), np.int64) if zero is None else constant(zero, node, "zero point").array
    if point.dtype.kind not in "iu":
        raise ModelError(f"{node}: has a zero point of type {point.dtype}; accepted: integers")
    steps, points = (_along(node, part, x.array) for part in (step, point))
    return Constant(
        x.name, x.array.astype(np.int64) - points.astype(np.int64), steps.astype(np.float32)
    )


def fold_quantize(node: Node, x: Constant, scale: Operand, zero: Operand = None) -> Constant:
    """Float constants rounded as QuantizeLinear does."""
    step = _along(node, _steps(node, scale, x), x.array)
    point = Constant("", np.zeros((), np.uint8)) if zero is None else _zero_point(zero, node)
    dtype = point.integer
    if dtype is None:
        raise ModelError(f"{node}: quantizes to {point.array.dtype}; accepted: integers")
    values = np.rint(finite(x.real(), x.name, node).astype(np.float32) / step) + _along(
        node, point.array, x.array
    )
    stored = np.clip(values, dtype.low, dtype.high).astype(dtype.numpy)
    return Constant(x.name, stored, dtype=point.dtype)


def _steps(node: Node, scale: Operand, x: Constant) -> NDArray[Any]:
    """The scales of a constant: finite and above 0."""
    step = finite(constant(scale, node, "scale").real(), f"{x.name} (its scale)", node)
    if not (step > 0).all():
        raise ModelError(
            f"{node}: {x.name} has a scale that is not above 0; accepted: positive scales"
        )
    return step


def _along(node: Node, part: NDArray[Any], array: NDArray[Any]) -> NDArray[Any]:
    """Scales or zero points spread to the shape of the constant they belong to."""
    if node.get("block_size", 0):
        raise ModelError(f"{node}: quantizes in blocks; accepted: per tensor or per channel")
    if part.size == 1:
        return np.broadcast_to(part.reshape(()), array.shape)
    axis = axis_of(node, int(node.get("axis", 1)), array.ndim)
    if part.ndim != 1 or part.size != array.shape[axis]:
        raise ModelError(
            f"{node}: has {part.size} scales or zero points along axis {axis} of a constant of "
            f"shape {list(array.shape)}; accepted: one, or one an element of the axis"
        )
    return np.broadcast_to(
        part.reshape([-1 if i == axis else 1 for i in range(array.ndim)]), array.shape
    )


HANDLERS: dict[str, Handler] = {
    "QuantizeLinear": quantize_linear,
    "DequantizeLinear": dequantize_linear,
}

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

TYPES = {"int8": ir.Int(8, True), "uint8": ir.Int(8, False)}


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
    name = node.outputs[0]
    if x.tail:
        return replace(x, tail=(*x.tail, ir.Quantize(quant)), real=False, label=name)
    handle = build.quantize(x.handle, quant, name, node, x.raw)
    return replace(x, handle=handle, real=False, raw=False, label=name)


def dequantize_linear(
    build: Builder, node: Node, x: Operand, scale: Operand, zero: Operand = None
) -> Tensor:
    """Back to the real numbers the integers stand for, with the scale they were rounded to."""
    x = _quantized(x, node)
    quant = _quant(node, scale, zero)
    if x.tail:
        return replace(x, tail=(*x.tail, ir.Dequantize(quant)), real=True)
    found = build.quant(x.handle)
    if found is None:
        handle = build.quantize(x.handle, quant, build.streams[x.handle].name, node, True)
        return replace(x, handle=handle, real=True, raw=False)
    if found != quant:
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


def _quant(node: Node, scale: Operand, zero: Operand) -> ir.Quant:
    """The quantization of an activation: one scale, one zero point."""
    step = constant(scale, node, "scale").real()
    point = np.uint8(0) if zero is None else constant(zero, node, "zero point").array
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
    if point.size != 1:
        raise ModelError(f"{node}: has {point.size} zero points for an activation; accepted: one")
    if point.dtype.name not in TYPES:
        raise ModelError(
            f"{node}: quantizes an activation to {point.dtype.name}; accepted: int8, uint8"
        )
    return ir.Quant(TYPES[point.dtype.name], value, int(point.reshape(-1)[0]))


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
    point = np.zeros((), np.uint8) if zero is None else constant(zero, node, "zero point").array
    if point.dtype.kind not in "iu":
        raise ModelError(f"{node}: quantizes to {point.dtype}; accepted: integers")
    limits = np.iinfo(point.dtype)
    values = np.rint(finite(x.real(), x.name, node).astype(np.float32) / step) + _along(
        node, point, x.array
    )
    return Constant(x.name, np.clip(values, limits.min, limits.max).astype(point.dtype))


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

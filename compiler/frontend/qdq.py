"""QuantizeLinear and DequantizeLinear: annotations on activations, integers for constants."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .element_types import quantized_type
from .operands import Handler, Operand, axis_of, constant, finite
from .source import DTYPES, QUANTIZED, Node
from .tensors import Constant, Tensor

__all__ = ["HANDLERS", "fold_dequantize", "fold_quantize"]


def quantize_linear(
    build: Builder, node: Node, x: Operand, scale: Operand, zero: Operand = None
) -> Tensor:
    """The value is rounded here and takes the name of this node's output; so is padding."""
    x = _quantized(x, node)
    _check_precision(node, "precision")
    dtype = quantized_type(node, _type_name(zero, node))
    quant = _quant(node, scale, zero, dtype)
    if not x.real:
        raise ModelError(
            f"{node}: quantizes integers; accepted: float32; put DequantizeLinear before it"
        )
    name, clamp = node.outputs[0], ir.Clamp()
    saturation = build.saturations.get(name)
    if saturation is not None:
        quant = replace(quant, dtype=saturation.dtype(quant.zero))
        name, clamp = saturation.tensor, saturation.clamp(quant)
    fill = x.fill
    if fill is not None and (build.fills(x) or build.rounded(x) == quant):
        x, fill = build.natural(x, node), None
    if x.tail:
        if clamp != ir.Clamp():
            raise ModelError(
                f"{node}: is clipped on the host to a range that is no type's; accepted: the range "
                "of an integer type"
            )
        return replace(x, tail=(*x.tail, ir.Quantize(quant)), real=False, label=name)
    if clamp != ir.Clamp():
        handle = build.quantize(x.handle, quant, node.outputs[0], node, x.raw)
        op = ir.Unary(node.name, (handle,), name, clamp=clamp)
        handle = build.add(op, build.streams[handle].shape, [])
    else:
        handle = x.handle
    handle = build.quantize(handle, quant, name, node, x.raw)
    if fill is not None:
        fill = float(quant.dequantize(quant.quantize(min(max(fill, clamp.low), clamp.high))))
    return replace(x, handle=handle, real=False, raw=False, label=name, fill=fill)


def dequantize_linear(
    build: Builder, node: Node, x: Operand, scale: Operand, zero: Operand = None
) -> Tensor:
    """Back to the real numbers that the integers stand for, with the scale they were rounded to.

    Without a zero point it is 0 of the type that the integers have.
    """
    x = _quantized(x, node)
    _check_precision(node, "output_dtype")
    stored = _stored(build, node, x)
    name = _type_name(zero, node)
    if name is not None and name not in QUANTIZED:
        raise ModelError(
            f"{node}: has a zero point of type {name} for an activation; accepted: "
            f"{', '.join(QUANTIZED)}"
        )
    quant = _quant(node, scale, zero, (name and ir.Int.named(name)) or stored)
    if x.tail:
        last = x.tail[-1]
        if isinstance(last, ir.Quantize) and _reads_as(last.quant, quant):
            quant = last.quant
        return replace(x, tail=(*x.tail, ir.Dequantize(quant)), real=True)
    found = build.quant(x.handle)
    if found is None:
        if quant.dtype != stored:
            raise ModelError(
                f"{node}: reads integers as {quant}, but they are {stored.name}; accepted: a zero "
                "point of their type; check the model with onnx.checker"
            )
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


def _check_precision(node: Node, attribute: str) -> None:
    """Refuse arithmetic in another type than float32."""
    number = int(node.get(attribute, 0))
    if DTYPES.get(number, "float32" if not number else "") != "float32":
        raise ModelError(
            f"{node}: {attribute} is {number}; accepted: 1 (float32), or none; export the network "
            "in float32"
        )


def _stored(build: Builder, node: Node, x: Tensor) -> ir.Int:
    """The type of the integers that a DequantizeLinear reads."""
    if x.tail:
        last = x.tail[-1]
        return last.quant.dtype if isinstance(last, ir.Quantize) else ir.Int(32, True)
    dtype = None if x.real else build.integer(x.handle)
    if dtype is None:
        raise ModelError(
            f"{node}: dequantizes real numbers; accepted: the integers of QuantizeLinear or of the "
            "network's input"
        )
    return dtype


def _reads_as(stored: ir.Quant, quant: ir.Quant) -> bool:
    """Whether ``quant`` reads integers of ``stored``: a Clip may have left fewer of its type."""
    same = (stored.scale, stored.zero) == (quant.scale, quant.zero)
    held = quant.dtype.low <= stored.dtype.low and stored.dtype.high <= quant.dtype.high
    return same and held


def _type_name(zero: Operand, node: Node) -> str | None:
    """The type of a zero point; None when there is none."""
    if zero is None:
        return None
    point = constant(zero, node, "zero point")
    return point.integer.name if point.integer else point.array.dtype.name


def _quant(node: Node, scale: Operand, zero: Operand, dtype: ir.Int) -> ir.Quant:
    """The quantization of an activation: one scale, one zero point."""
    step = constant(scale, node, "scale").real()
    point = np.zeros(1, np.int64) if zero is None else constant(zero, node, "zero point").array
    if node.get("block_size", 0):
        raise ModelError(f"{node}: quantizes in blocks; accepted: one scale for an activation")
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
    return ir.Quant(dtype, value, int(point.reshape(-1)[0]))


def fold_dequantize(node: Node, x: Constant, scale: Operand, zero: Operand = None) -> Constant:
    """Integer weights and their scales, less the zero point (they may then need one bit more)."""
    if x.scale is not None or x.integer is None:
        raise ModelError(f"{node}: dequantizes {x.array.dtype} constants; accepted: integers")
    _check_precision(node, "output_dtype")
    step = _steps(node, scale, x)
    name = _type_name(zero, node)
    if name not in (None, x.integer.name):
        raise ModelError(
            f"{node}: {x.name} is {x.integer.name}, but its zero point is {name}; accepted: a zero "
            "point of the same type; check the model with onnx.checker"
        )
    point = np.zeros((), np.int64) if zero is None else constant(zero, node, "zero point").array
    steps, points = (_along(node, part, x.array) for part in (step, point))
    return Constant(
        x.name, x.array.astype(np.int64) - points.astype(np.int64), steps.astype(np.float32)
    )


def fold_quantize(node: Node, x: Constant, scale: Operand, zero: Operand = None) -> Constant:
    """Float constants rounded as QuantizeLinear does."""
    _check_precision(node, "precision")
    step = _along(node, _steps(node, scale, x), x.array)
    dtype = quantized_type(node, _type_name(zero, node))
    point = np.zeros((), np.int64) if zero is None else constant(zero, node, "zero point").array
    values = np.rint(finite(x.real(), x.described, node).astype(np.float32) / step) + _along(
        node, point, x.array
    )
    stored = np.clip(values, dtype.low, dtype.high).astype(dtype.numpy)
    return Constant(x.name, stored, dtype=None if dtype.name == stored.dtype.name else dtype)


def _steps(node: Node, scale: Operand, x: Constant) -> NDArray[Any]:
    """The scales of a constant: finite and above 0."""
    step = finite(constant(scale, node, "scale").real(), f"the scale of {x.name}", node)
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
    "QuantizeLinear": Handler(quantize_linear, elementwise=True, on_host=True, masks=True),
    "DequantizeLinear": Handler(dequantize_linear, elementwise=True, on_host=True),
}

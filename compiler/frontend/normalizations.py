"""Normalizations, and Softmax inside the network, as the operators that they stand for.

Each intermediate result is a value of the network with a type of its own, so that the written file
spells the integer algorithm: mean, difference, square, mean, function of it, product.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .masks import unmasked
from .operands import Handler, Operand, activation, axis_of, constant, finite
from .source import Node
from .steps import Steps
from .tensors import Tensor

__all__ = ["HANDLERS", "softmax_inside"]


@dataclass(frozen=True)
class Normalization(Steps):
    """The steps of a normalization."""

    def centered(self, x: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """The mean along ``axes``, and what ``x`` differs by."""
        mean = self.reduce("ReduceMean", x, axes, "mean")
        return mean, self.sub(x, mean, "centered")

    def inverse_root(self, x: Tensor, axes: tuple[int, ...], epsilon: float) -> Tensor:
        """``1 / sqrt(mean(x * x) + epsilon)``."""
        square = self.mul(x, x, "square")
        variance = self.reduce("ReduceMean", square, axes, "variance")
        variance = self.plus(variance, epsilon, "epsilon")
        return self.unary(variance, ir.functions.Pow(-0.5), "inverse_root")


def _real(operand: Operand, node: Node, what: str) -> NDArray[Any]:
    return finite(constant(operand, node, what).real(), what, node)


def layer_normalization(
    build: Builder, node: Node, x: Operand, scale: Operand, bias: Operand = None
) -> list[Tensor]:
    """ONNX LayerNormalization: over all axes from ``axis`` on."""
    x, steps = activation(x, node), Normalization(build, node)
    axes = _from_axis(node, x)
    mean, centered = steps.centered(x, axes)
    root = steps.inverse_root(centered, axes, float(node.get("epsilon", 1e-5)))
    shift = None if bias is None else _real(bias, node, "bias")
    normal = steps.mul(centered, root, "normal")
    result = steps.scaled(normal, _real(scale, node, "scale"), shift, "")
    return [result, mean, root][: len(node.outputs)]


def rms_normalization(build: Builder, node: Node, x: Operand, scale: Operand) -> Tensor:
    """ONNX RMSNormalization: over all axes from ``axis`` on."""
    x, steps = activation(x, node), Normalization(build, node)
    root = steps.inverse_root(x, _from_axis(node, x), float(node.get("epsilon", 1e-5)))
    return steps.scaled(steps.mul(x, root, "normal"), _real(scale, node, "scale"), None, "")


def _from_axis(node: Node, x: Tensor) -> tuple[int, ...]:
    rank = x.order.ndim
    return tuple(range(axis_of(node, int(node.get("axis", -1)), rank), rank))


def instance_normalization(
    build: Builder, node: Node, x: Operand, scale: Operand, bias: Operand
) -> Tensor:
    """ONNX InstanceNormalization: over the pixels of each channel."""
    x = activation(x, node)
    return _grouped(build, node, x, x.order.shape[1], scale, bias)


def group_normalization(
    build: Builder, node: Node, x: Operand, scale: Operand, bias: Operand
) -> Tensor:
    """ONNX GroupNormalization: over the pixels of all channels of a group."""
    x, groups = activation(x, node), int(node.get("num_groups", 1))
    if groups < 1 or x.order.ndim < 2 or x.order.shape[1] % groups:
        raise ModelError(
            f"{node}: has {groups} groups of a tensor of shape {list(x.order.shape)}; accepted: "
            "groups that divide the channels"
        )
    return _grouped(build, node, x, groups, scale, bias)


def _grouped(
    build: Builder, node: Node, x: Tensor, groups: int, scale: Operand, bias: Operand
) -> Tensor:
    """Normalization within groups of channels; ``scale`` and ``bias`` a channel, or a group."""
    steps, shape = Normalization(build, node), x.order.shape
    build.frame(x, node)
    split = x.moved(x.order.reshape(shape[0], groups, -1), node.outputs[0])
    _, centered = steps.centered(split, (2,))
    root = steps.inverse_root(centered, (2,), float(node.get("epsilon", 1e-5)))
    normal = steps.mul(centered, root, "normal")
    joined = normal.moved(normal.order.reshape(shape), node.outputs[0])
    factors = [_real(part, node, what) for part, what in ((scale, "scale"), (bias, "bias"))]
    spread = [
        np.repeat(f.reshape(-1), shape[1] // max(f.size, 1)).reshape(-1, *[1] * (len(shape) - 2))
        for f in factors
    ]
    return steps.scaled(joined, spread[0], spread[1], "")


def mean_variance_normalization(build: Builder, node: Node, x: Operand) -> Tensor:
    """ONNX MeanVarianceNormalization, by default over the batch and all pixels."""
    x, steps = activation(x, node), Normalization(build, node)
    listed = node.get("axes", (0, 2, 3))
    axes = tuple(sorted(axis_of(node, axis, x.order.ndim) for axis in listed))
    _, centered = steps.centered(x, axes)
    root = steps.inverse_root(centered, axes, 1e-9)
    return steps.mul(centered, root, "")


def local_response(build: Builder, node: Node, x: Operand) -> Tensor:
    """ONNX LRN: ``x / (bias + alpha / size * (sum of squares of size channels)) ** beta``."""
    x, steps = activation(x, node), Normalization(build, node)
    size, channels = int(node.get("size", 1)), x.order.shape[1]
    square = steps.mul(x, x, "square")
    source = build.as_map(square, steps.step("square"))
    found = build.streams[source].shape
    distance = np.arange(channels) - np.arange(channels)[:, None]
    near = (-((size - 1) // 2) <= distance) & (distance <= size // 2)
    each = np.float32(node.get("alpha", 1e-4) / size)
    step = steps.step("sum")
    op = ir.Conv(
        step.name,
        (source,),
        step.outputs[0],
        (near * each).astype(np.float32)[:, None, None, :],
        bias=np.full(channels, node.get("bias", 1.0), np.float32),
    )
    total = build.computed(op, found, [square], build.map_order(found, x))
    power = steps.unary(total, ir.functions.Pow(-float(node.get("beta", 0.75))), "power")
    return steps.mul(x, power, "")


def lp_normalization(build: Builder, node: Node, x: Operand) -> Tensor:
    """ONNX LpNormalization: ``x / norm`` along an axis."""
    x, steps = activation(x, node), Normalization(build, node)
    axis, p = axis_of(node, int(node.get("axis", -1)), x.order.ndim), int(node.get("p", 2))
    if p not in (1, 2):
        raise ModelError(f"{node}: has p={p}; accepted: 1 or 2")
    norm = steps.reduce("ReduceL1" if p == 1 else "ReduceL2", x, (axis,), "norm")
    return steps.mul(x, steps.unary(norm, ir.functions.Reciprocal(), "reciprocal"), "")


def softmax_inside(
    build: Builder, node: Node, x: Operand, axes: tuple[int, ...], log: bool
) -> Tensor:
    """Softmax, or its logarithm, in hardware: ``exp(x - max) / sum``; padding has no weight."""
    x, steps = activation(x, node), Normalization(build, node)
    hidden = x.order < 0
    if hidden.any():
        order = unmasked(node, x.order, axes)
        x = build.natural(replace(x, order=order, fill=None), node)
    largest = steps.reduce("ReduceMax", x, axes, "max")
    below = steps.sub(x, largest, "below")
    power = steps.unary(below, ir.functions.Exp(), "exp")
    if hidden.any():
        order = np.where(hidden, -1, power.order)
        power = build.natural(replace(power, order=order, fill=0.0), node)
    total = steps.reduce("ReduceSum", power, axes, "sum")
    if log:
        return steps.sub(below, steps.unary(total, ir.functions.Log(), "log"), "")
    return steps.mul(power, steps.unary(total, ir.functions.Reciprocal(), "reciprocal"), "")


HANDLERS: dict[str, Handler] = {
    "LayerNormalization": Handler(layer_normalization),
    "RMSNormalization": Handler(rms_normalization),
    "InstanceNormalization": Handler(instance_normalization),
    "GroupNormalization": Handler(group_normalization),
    "MeanVarianceNormalization": Handler(mean_variance_normalization),
    "LRN": Handler(local_response),
    "LpNormalization": Handler(lp_normalization),
}

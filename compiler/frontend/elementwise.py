"""Activation functions and operators of several activations: how they are read, and their ONNX
form.
"""

from collections.abc import Mapping
from dataclasses import asdict, fields, replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .linear import offset, scaled
from .operands import Handler, Operand, activation, constant, optional, scalar
from .source import Node
from .tensors import Constant, Tensor

__all__ = ["FUNCTIONS", "HANDLERS", "OPERATORS", "onnx_form"]

UNBOUNDED = ir.Clamp()


def _unary(
    build: Builder, node: Node, x: Operand, function: ir.Function, clamp: ir.Clamp = UNBOUNDED
) -> Tensor:
    x = activation(x, node)
    op = ir.Unary(node.name, (x.handle,), node.outputs[0], function, clamp=clamp)
    return build.elementwise(op, build.shape(x), [x])


def relu(build: Builder, node: Node, x: Operand) -> Tensor:
    return _unary(build, node, x, ir.Identity(), ir.Clamp(0.0, inf))


def clip(
    build: Builder, node: Node, x: Operand, low: Operand = None, high: Operand = None
) -> Tensor:
    if isinstance(x, Tensor) and not x.real and build.saturates(node):
        return x
    bottom = optional(low, float(node.get("min", -inf)), node, "lower bound")
    top = optional(high, float(node.get("max", inf)), node, "upper bound")
    if not bottom <= top:
        raise ModelError(
            f"{node}: clips to {bottom:g} .. {top:g}; accepted: lower bound <= upper bound"
        )
    limit = float(np.finfo(np.float32).max)
    clamp = ir.Clamp(-inf if bottom <= -limit else bottom, inf if top >= limit else top)
    return _unary(build, node, x, ir.Identity(), clamp)


def prelu(build: Builder, node: Node, x: Operand, slope: Operand) -> Tensor:
    """PRelu with one slope for all channels is LeakyRelu."""
    slopes = np.unique(constant(slope, node, "slope").real())
    if slopes.size != 1:
        raise ModelError(
            f"{node}: has {slopes.size} different slopes; accepted: one for all channels; train "
            "with PReLU(num_parameters=1) or LeakyReLU"
        )
    return _unary(build, node, x, ir.functions.LeakyRelu(float(slopes[0])))


# -- several operands ------------------------------------------------------------------------------

#: the ONNX operator of each elementwise operator of several activations
OPERATORS: dict[str, type[ir.Elementwise]] = {
    "Add": ir.Add,
    "Sub": ir.ops.Sub,
    "Mul": ir.ops.Mul,
    "Max": ir.ops.Max,
    "Min": ir.ops.Min,
}


def _pair(build: Builder, node: Node, a: Tensor, b: Operand) -> Tensor:
    """A node of :data:`OPERATORS` of two activations of one shape."""
    b = activation(b, node)
    if not np.array_equal(a.order, b.order):
        raise ModelError(
            f"{node}: its inputs of shapes {list(a.order.shape)} and {list(b.order.shape)} list "
            "their elements in different orders; accepted: two tensors of one shape and layout; no "
            "broadcasting between activations"
        )
    source = build.reshaped(b, build.shape(a), node)
    op = OPERATORS[node.op](node.name, (a.handle, source), node.outputs[0])
    return build.elementwise(op, build.shape(a), [a, b])


def add(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """Of two activations, or of an activation and a constant."""
    if isinstance(a, Constant):
        a, b = b, a
    a = activation(a, node)
    return offset(build, node, a, b) if isinstance(b, Constant) else _pair(build, node, a, b)


def sub(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """Of two activations, or of an activation and a constant, either way round."""
    if isinstance(a, Constant):
        return offset(build, node, activation(b, node), a, sign=-1)
    a = activation(a, node)
    if isinstance(b, Constant):
        return offset(build, node, a, replace(b, array=-_signed(b.array)))
    return _pair(build, node, a, b)


def _signed(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype.kind == "f" else array.astype(np.int64)


def mul(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """Of two activations, or of an activation and a constant; ``x * HardSigmoid(x)`` is
    HardSwish.
    """
    if isinstance(a, Constant):
        a, b = b, a
    a = activation(a, node)
    if isinstance(b, Constant):
        return scaled(build, node, a, b)
    b = activation(b, node)
    for x, gate in ((a, b), (b, a)):
        if _gates(build, gate, x):
            return _unary(build, node, x, ir.functions.HardSwish())
    return _pair(build, node, a, b)


def _gates(build: Builder, gate: Tensor, x: Tensor) -> bool:
    """Whether ``gate`` is the float HardSigmoid of ``x`` with the slope that makes HardSwish."""
    op = build.ops.get(gate.handle)
    return (
        gate.raw
        and isinstance(op, ir.Unary)
        and op.inputs == (x.handle,)
        and op.function == ir.functions.HardSigmoid(float(np.float32(1 / 6)), 0.5)
        and np.array_equal(gate.order, x.order)
    )


def div(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """By a constant."""
    divisor = constant(b, node, "divisor").real()
    if not np.all(divisor):
        raise ModelError(f"{node}: divides by zero; accepted: a divisor without zeros")
    return scaled(
        build,
        node,
        activation(a, node),
        Constant(node.name, (1 / divisor.astype(np.float64)).astype(np.float32)),
    )


def extremum(build: Builder, node: Node, *operands: Operand) -> Tensor:
    """Max or Min of any number of activations, and of numbers, which limit the result."""
    bounds = [scalar(x, node, "bound") for x in operands if isinstance(x, Constant)]
    x, *others = (activation(each, node) for each in operands if not isinstance(each, Constant))
    for n, other in enumerate(others):
        name = node.outputs[0] if n == len(others) - 1 else f"{node.outputs[0]}/{n}"
        x = _pair(build, replace(node, outputs=(name,)), x, other)
    if not bounds:
        return x
    clamp = ir.Clamp(max(bounds), inf) if node.op == "Max" else ir.Clamp(-inf, min(bounds))
    return _unary(build, node, x, ir.Identity(), clamp)


# -- functions of one activation -------------------------------------------------------------------

#: the ONNX operator of each function; the function's fields are the operator's attributes
FUNCTIONS: dict[str, type[ir.Function]] = {
    "LeakyRelu": ir.functions.LeakyRelu,
    "Sigmoid": ir.functions.Sigmoid,
    "Tanh": ir.functions.Tanh,
    "HardSigmoid": ir.functions.HardSigmoid,
    "HardSwish": ir.functions.HardSwish,
    "Elu": ir.functions.Elu,
    "Selu": ir.functions.Selu,
    "Celu": ir.functions.Celu,
    "Softplus": ir.functions.Softplus,
    "Softsign": ir.functions.Softsign,
    "Mish": ir.functions.Mish,
    "ThresholdedRelu": ir.functions.ThresholdedRelu,
    "Exp": ir.functions.Exp,
    "Abs": ir.functions.Abs,
    "Neg": ir.functions.Neg,
    "Sign": ir.functions.Sign,
    "Floor": ir.functions.Floor,
    "Ceil": ir.functions.Ceil,
    "Round": ir.functions.Round,
}


def _function(build: Builder, node: Node, x: Operand) -> Tensor:
    """A node of :data:`FUNCTIONS`; attributes that it lacks have the function's defaults."""
    kind = FUNCTIONS[node.op]
    numbers = {f.name: float(np.float32(node.get(f.name, f.default))) for f in fields(kind)}
    return _unary(build, node, x, kind(**numbers))


def onnx_form(op: ir.Elementwise) -> tuple[str | None, dict[str, Any]]:
    """The ONNX operator and attributes that compute ``op``, but for its clamp; None: nothing does,
    as for the identity.
    """
    if isinstance(op, ir.Unary):
        if op.function == ir.Identity():
            return None, {}
        return _name_of(type(op.function), FUNCTIONS), asdict(op.function)
    return _name_of(type(op), OPERATORS), {}


def _name_of(kind: type, table: Mapping[str, type]) -> str:
    name = next((name for name, found in table.items() if found is kind), None)
    if name is None:
        raise NotImplementedError(f"no ONNX form for {kind.__name__}")
    return name


HANDLERS: dict[str, Handler] = {
    "Relu": Handler(relu, elementwise=True),
    "Clip": Handler(clip, elementwise=True),
    "PRelu": Handler(prelu, elementwise=True),
    **{name: Handler(_function, elementwise=True) for name in FUNCTIONS},
    "Add": Handler(add, elementwise=True),
    "Sub": Handler(sub, elementwise=True),
    "Mul": Handler(mul, elementwise=True),
    "Div": Handler(div, elementwise=True),
    "Max": Handler(extremum, elementwise=True),
    "Min": Handler(extremum, elementwise=True),
}

"""Activation functions and operators of several activations: how they are read, and their ONNX
form.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from fractions import Fraction
from math import inf, isinf
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .linear import offset, scaled
from .masks import chosen, finite_score, masked_product, masked_sum
from .operands import (
    Handler,
    Operand,
    activation,
    constant,
    finite,
    optional,
    overflow,
    scalar,
    settled,
)
from .source import Node
from .tensors import Constant, Tensor

__all__ = ["FUNCTIONS", "HANDLERS", "OPERATORS", "onnx_form", "pair", "unary"]

UNBOUNDED = ir.Clamp()


def unary(
    build: Builder, node: Node, x: Operand, function: ir.Function, clamp: ir.Clamp = UNBOUNDED
) -> Tensor:
    x = activation(x, node)
    op = ir.Unary(node.name, (x.handle,), node.outputs[0], function, clamp=clamp)
    return build.elementwise(op, build.shape(x), [x])


def relu(build: Builder, node: Node, x: Operand) -> Tensor:
    return unary(build, node, x, ir.Identity(), ir.Clamp(0.0, inf))


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
    return unary(build, node, x, ir.Identity(), clamp)


def prelu(build: Builder, node: Node, x: Operand, slope: Operand) -> Tensor:
    """PRelu: one slope for all is LeakyRelu; slopes up to 1 are ``max(x, x * slope)``; others are
    ``max(x, 0) + min(x, 0) * slope``. Computed slopes are a second activation.
    """
    x = activation(x, node)
    if isinstance(slope, Tensor):
        return pair(build, node, x, slope)
    slope = constant(slope, node, "slope")
    slopes = np.unique(slope.real())
    if slopes.size == 1:
        return unary(build, node, x, ir.functions.LeakyRelu(float(slopes[0])))
    output = node.outputs[0]
    below = x
    if slopes.max(initial=0) > 1:
        below = _part(build, node, x, ir.Clamp(-inf, 0.0), f"{output}/negative")
    product = scaled(build, replace(node, outputs=(f"{output}/slope",)), below, slope)
    product = _held(build, node, product, below, slope)
    if below is x:
        return _combined(build, node, ir.ops.Max, x, product)
    above = _part(build, node, x, ir.Clamp(0.0, inf), f"{output}/positive")
    return _combined(build, node, ir.Add, above, product)


def _part(build: Builder, node: Node, x: Tensor, clamp: ir.Clamp, name: str) -> Tensor:
    """``x`` within limits; of rounded values in their own type."""
    op = ir.Unary(node.name, (x.handle,), name, clamp=clamp)
    return build.exact(build.elementwise(op, build.shape(x), [x]), build.rounded(x))


def _held(build: Builder, node: Node, product: Tensor, x: Tensor, slope: Constant) -> Tensor:
    """``x * slope`` of rounded values in a type that holds each product."""
    quant = build.rounded(x)
    if quant is None:
        return product
    scales = None if slope.scale is None else np.unique(slope.scale)
    exact = None
    if scales is not None and scales.size == 1:
        largest = max(quant.dtype.high - quant.zero, quant.zero - quant.dtype.low)
        bits = 1 + int(largest * np.abs(slope.array).max()).bit_length()
        step = float(np.float32(quant.scale * float(scales[0])))
        if bits <= 16 and quant.step * Fraction(float(scales[0])) == Fraction(step):
            exact = ir.Quant(ir.Int(bits, True), step, 0)
    if exact is None:
        raise ModelError(
            f"{node}: has different slopes on quantized values, and no type of 16 bits holds the "
            "products; accepted: one slope, or integer slopes whose scale, like the input's, is a "
            "power of two; quantize the float32 network instead"
        )
    return build.exact(product, exact)


def _combined(
    build: Builder, node: Node, kind: type[ir.Elementwise], a: Tensor, b: Tensor
) -> Tensor:
    """An operator of two activations of one shape, in any arrangement."""
    sources, shape, order = build.aligned([a, b], node)
    op = kind(node.name, sources, node.outputs[0])
    return Tensor(build.add(op, shape, [a, b]), order, node.outputs[0])


# -- several operands ------------------------------------------------------------------------------

#: the ONNX operator of each elementwise operator of several activations
OPERATORS: dict[str, type[ir.Elementwise]] = {
    "Add": ir.Add,
    "Sub": ir.ops.Sub,
    "Mul": ir.ops.Mul,
    "PRelu": ir.ops.PRelu,
    "Max": ir.ops.Max,
    "Min": ir.ops.Min,
}


def pair(build: Builder, node: Node, a: Tensor, b: Operand) -> Tensor:
    """A node of :data:`OPERATORS` of two activations, whose elements are repeated where their
    shapes differ.
    """
    b = activation(b, node)
    try:
        orders = np.broadcast_arrays(a.order, b.order)
    except ValueError:
        raise ModelError(
            f"{node}: its inputs of shapes {list(a.order.shape)} and {list(b.order.shape)} do not "
            "broadcast; check the model with onnx.checker"
        ) from None
    a, b = (replace(x, order=order) for x, order in zip((a, b), orders, strict=True))
    return _combined(build, node, OPERATORS[node.op], a, b)


def add(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """Of two activations, or of an activation and a constant."""
    if isinstance(a, Constant):
        a, b = b, a
    a = activation(a, node)
    if not isinstance(b, Constant):
        return pair(build, node, a, b)
    masked = masked_sum(build, node, a, b) if node.outputs[0] in build.weighed else None
    return masked or offset(build, node, a, b)


def sub(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """Of two activations, or of an activation and a constant, either way round."""
    if isinstance(a, Constant):
        return offset(build, node, activation(b, node), a, sign=-1)
    a = activation(a, node)
    if isinstance(b, Constant):
        return offset(build, node, a, replace(b, array=-_signed(b.array)))
    return pair(build, node, a, b)


def _signed(array: NDArray[Any]) -> NDArray[Any]:
    return array if array.dtype.kind == "f" else array.astype(np.int64)


def mul(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """Of two activations, or of an activation and a constant."""
    if isinstance(a, Constant):
        a, b = b, a
    a = activation(a, node)
    if isinstance(b, Constant) and (product := masked_product(build, node, a, b)):
        return product
    a, b = activation(settled(build, node, a), node), settled(build, node, b)
    return scaled(build, node, a, b) if isinstance(b, Constant) else pair(build, node, a, b)


def div(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """By a constant; by an activation as the product with its reciprocal."""
    if isinstance(b, Tensor):
        divisor = activation(settled(build, node, b), node)
        inverse = unary(build, node.step("reciprocal"), divisor, ir.functions.Reciprocal())
        return mul(build, replace(node, op="Mul"), a, inverse)
    known = constant(b, node, "divisor")
    if not np.all(known.real()):
        raise ModelError(f"{node}: divides by zero; accepted: a divisor without zeros")
    factor = (1 / known.real().astype(np.float64)).astype(np.float32)
    lost = overflow(f"1 / {known.name}", [known], factor)
    return mul(build, node, a, Constant(node.name, factor, overflowed=lost))


def extremum(build: Builder, node: Node, *operands: Operand) -> Tensor:
    """Max or Min of any number of activations, and of numbers, which limit the result."""
    constants = [x for x in operands if isinstance(x, Constant)]
    bounds = [scalar(x, node, "bound") for x in constants if x.array.size == 1]
    maps = [x for x in constants if x.array.size != 1]
    x, *others = (activation(each, node) for each in operands if not isinstance(each, Constant))
    x = _one_by_one(build, node, pair, x, others, not constants)
    for number, each in enumerate(maps):
        step = node if not bounds and number + 1 == len(maps) else node.step(f"bound_{number}")
        x = _bounded(build, step, x, each, node.op == "Max")
    if not bounds:
        return x
    clamp = ir.Clamp(max(bounds), inf) if node.op == "Max" else ir.Clamp(-inf, min(bounds))
    return unary(build, node, x, ir.Identity(), clamp)


def _bounded(build: Builder, node: Node, x: Tensor, bound: Constant, below: bool) -> Tensor:
    """``max(x - bound, 0) + bound``, or the smaller one."""
    real = replace(bound, array=bound.real().astype(np.float32), scale=None)
    apart = offset(build, node.step("apart"), x, replace(real, array=-real.array))
    clamp = ir.Clamp(0.0, inf) if below else ir.Clamp(-inf, 0.0)
    part = unary(build, node.step("part"), apart, ir.Identity(), clamp)
    return offset(build, replace(node, attributes={}), part, real)


def total(build: Builder, node: Node, *operands: Operand) -> Tensor:
    """Sum or Mean of any number of activations and constants."""
    constants = [each for each in operands if isinstance(each, Constant)]
    x, *others = (activation(each, node) for each in operands if not isinstance(each, Constant))
    means = node.op == "Mean" and len(operands) > 1
    adds = replace(node, op="Add")
    x = _one_by_one(build, adds, add, x, [*others, *constants], not means)
    if means:
        return scaled(build, node, x, Constant(node.name, np.array(1 / len(operands), np.float32)))
    return x.moved(x.order, node.outputs[0]) if len(operands) == 1 else x


def _one_by_one(
    build: Builder,
    node: Node,
    combine: Callable[[Builder, Node, Tensor, Operand], Tensor],
    x: Tensor,
    others: Sequence[Operand],
    whole: bool,
) -> Tensor:
    """``x`` combined with the others, one after the other; ``whole``: the last result is that of
    the node.
    """
    for n, other in enumerate(others, 1):
        step = node if whole and n == len(others) else node.step(str(n))
        x = combine(build, step, x, other)
    return x


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
    "Gelu": ir.functions.Gelu,
    "Erf": ir.functions.Erf,
    "Swish": ir.functions.Swish,
    "Shrink": ir.functions.Shrink,
    "Log": ir.functions.Log,
    "Sqrt": ir.functions.Sqrt,
    "Reciprocal": ir.functions.Reciprocal,
    "Sin": ir.functions.Sin,
    "Cos": ir.functions.Cos,
    "Tan": ir.functions.Tan,
    "Asin": ir.functions.Asin,
    "Acos": ir.functions.Acos,
    "Atan": ir.functions.Atan,
    "Sinh": ir.functions.Sinh,
    "Cosh": ir.functions.Cosh,
    "Asinh": ir.functions.Asinh,
    "Acosh": ir.functions.Acosh,
    "Atanh": ir.functions.Atanh,
}
#: the ONNX operator, of two operands, of each function whose one field is the second
COMPARISONS: dict[str, Callable[[float], ir.Function]] = {
    "Greater": ir.functions.Greater,
    "Less": ir.functions.Less,
    "GreaterOrEqual": ir.functions.GreaterOrEqual,
    "LessOrEqual": ir.functions.LessOrEqual,
    "Equal": ir.functions.Equal,
}
BY_CONSTANT: dict[str, Callable[[float], ir.Function]] = {
    "Pow": ir.functions.Pow,
    "Mod": ir.functions.Mod,
    **COMPARISONS,
}
UNARY: Mapping[str, Callable[..., ir.Function]] = {**FUNCTIONS, **BY_CONSTANT}
#: the ONNX operator of each operation of an expression of two numbers
OPERATIONS: dict[str, type[ir.expressions.Operation]] = {
    "Add": ir.expressions.Sum,
    "Sub": ir.expressions.Difference,
    "Mul": ir.expressions.Product,
    "Max": ir.expressions.Larger,
    "Min": ir.expressions.Smaller,
}
#: the comparison of the operands the other way round
MIRRORED: dict[Callable[[float], ir.Function], Callable[[float], ir.Function]] = {
    ir.functions.Greater: ir.functions.Less,
    ir.functions.Less: ir.functions.Greater,
    ir.functions.GreaterOrEqual: ir.functions.LessOrEqual,
    ir.functions.LessOrEqual: ir.functions.GreaterOrEqual,
}


def _function(build: Builder, node: Node, x: Operand) -> Tensor:
    """A node of :data:`FUNCTIONS`; attributes that it lacks have the function's defaults."""
    kind = FUNCTIONS[node.op]
    found = {f.name: node.get(f.name, f.default) for f in fields(kind)}
    rounded = {
        name: float(np.float32(value)) if isinstance(value, float | int) else value
        for name, value in found.items()
    }
    return unary(build, node, x, kind(**rounded))


def _by_constant(build: Builder, node: Node, x: Operand, y: Operand) -> Tensor:
    """A node of :data:`BY_CONSTANT`: an activation, and one number."""
    number = constant(y, node, "second input")
    return unary(build, node, x, BY_CONSTANT[node.op](_lone(number, node)))


def _lone(value: Constant, node: Node) -> float:
    """The number that all elements of a constant are."""
    found = np.unique(value.real().astype(np.float32))
    if found.size != 1:
        raise ModelError(
            f"{node}: its constant operand {value.name} holds {found.size} different numbers; "
            "accepted: one number"
        )
    return float(finite(found, value.described, node)[0])


def compare(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """Two activations, or an activation and a constant, either way round: 1 or 0. An activation,
    and numbers that differ from channel to channel, are subtracted first.
    """
    kind = COMPARISONS[node.op]
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        below = pair(build, node.step("difference", "Sub"), activation(a, node), b)
        return unary(build, node, below, kind(0.0))
    if isinstance(a, Constant):
        a, b, kind = b, a, MIRRORED.get(kind, kind)
    x, bound = activation(a, node), constant(b, node, "second input")
    if np.unique(bound.real()).size == 1:
        return unary(build, node, x, kind(_lone(bound, node)))
    negated = replace(bound, array=-_signed(bound.array))
    return unary(build, node, offset(build, node, x, negated), kind(0.0))


def remainder(build: Builder, node: Node, x: Operand, y: Operand) -> Tensor:
    """Mod with the sign of the dividend, which is what floats have."""
    if not node.get("fmod", 0):
        raise ModelError(f"{node}: fmod=0, which is for integers; accepted: fmod=1")
    return _by_constant(build, node, x, y)


def negation(build: Builder, node: Node, x: Operand) -> Tensor:
    """Not, of 0 and 1."""
    return unary(build, node, x, ir.functions.Equal(0.0))


def logical(build: Builder, node: Node, a: Operand, b: Operand) -> Tensor:
    """And, Or or Xor of 0 and 1: the smaller, the larger, or the distance."""
    if node.op == "Xor":
        apart = sub(build, node.step("difference", "Sub"), a, b)
        return unary(build, node, apart, ir.functions.Abs())
    return extremum(build, replace(node, op="Min" if node.op == "And" else "Max"), a, b)


def where(
    build: Builder, node: Node, condition: Operand, a: Operand, b: Operand
) -> Tensor | list[Tensor | Constant]:
    """``condition * a + (1 - condition) * b``, for a condition of 0 and 1 that is computed."""
    if isinstance(condition, Constant):
        return chosen(build, node, condition, a, b)
    condition = activation(condition, node)
    if node.outputs[0] in build.scores:
        a, b = finite_score(a), finite_score(b)
    taken = mul(build, node.step("chosen", "Mul"), condition, a)
    otherwise = negation(build, node.step("otherwise", "Not"), condition)
    other = mul(build, node.step("other", "Mul"), otherwise, b)
    return add(build, replace(node, op="Add"), taken, other)


@dataclass(frozen=True)
class OnnxNode:
    """A node of an operator's ONNX form. ``inputs``: the number of an operand, or of an earlier
    node's result, which are counted on from the operands; or a constant; or None.
    """

    op: str
    inputs: tuple[int | np.float32 | None, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def onnx_form(op: ir.Elementwise) -> tuple[OnnxNode, ...]:
    """The ONNX nodes that compute ``op``, but for its clamp; none for the identity."""
    if not isinstance(op, ir.Unary):
        return (OnnxNode(_name_of(type(op), OPERATORS), tuple(range(len(op.inputs)))),)
    if op.function == ir.Identity():
        return ()
    nodes: list[OnnxNode] = []
    results = [0]
    for step in ir.expressions.spelled(op.function) or (ir.expressions.Step(op.function, (0,)),):
        inputs = tuple(results[n] for n in step.operands)
        nodes += _nodes(step.operation, inputs, len(nodes) + 1)
        results.append(len(nodes))
    return tuple(nodes)


def _nodes(
    part: ir.expressions.Operation | ir.Function, inputs: tuple[int, ...], first: int
) -> list[OnnxNode]:
    """The nodes of a step of an expression, of which the first makes the result ``first``."""
    if isinstance(part, ir.Function):
        return _function_nodes(part, inputs, first)
    if isinstance(part, ir.expressions.Affine):
        scaling = [OnnxNode("Mul", (*inputs, np.float32(part.factor)))]
        if not part.shift:
            return scaling
        if part.factor == 1:
            return [OnnxNode("Add", (*inputs, np.float32(part.shift)))]
        return [*scaling, OnnxNode("Add", (first, np.float32(part.shift)))]
    if isinstance(part, ir.expressions.Limit):
        if (part.low, part.high) == (0, inf):
            return [OnnxNode("Relu", inputs)]
        bounds = (None if isinf(end) else np.float32(end) for end in (part.low, part.high))
        return [OnnxNode("Clip", (*inputs, *bounds))]
    return [OnnxNode(_name_of(type(part), OPERATIONS), inputs)]


def _function_nodes(function: ir.Function, inputs: tuple[int, ...], first: int) -> list[OnnxNode]:
    name, values = _name_of(type(function), UNARY), asdict(function)
    if name in FUNCTIONS:
        return [OnnxNode(name, inputs, values)]
    second = tuple(np.float32(value) for value in values.values())
    node = OnnxNode(name, (*inputs, *second), {"fmod": 1} if name == "Mod" else {})
    as_float = OnnxNode("Cast", (first,), {"to": int(TensorProto.FLOAT)})
    return [node, as_float] if name in COMPARISONS else [node]


def _name_of(kind: type, table: Mapping[str, Callable[..., Any]]) -> str:
    name = next((name for name, found in table.items() if found is kind), None)
    if name is None:
        raise NotImplementedError(f"no ONNX form for {kind.__name__}")
    return name


HANDLERS: dict[str, Handler] = {
    "Relu": Handler(relu, elementwise=True),
    "Clip": Handler(clip, elementwise=True),
    "PRelu": Handler(prelu, elementwise=True),
    **{name: Handler(_function, elementwise=True) for name in FUNCTIONS},
    "Pow": Handler(_by_constant, elementwise=True),
    "Mod": Handler(remainder, elementwise=True),
    **{name: Handler(compare, elementwise=True) for name in COMPARISONS},
    "Not": Handler(negation, elementwise=True),
    **{name: Handler(logical, elementwise=True) for name in ("And", "Or", "Xor")},
    "Where": Handler(where, elementwise=True),
    "Add": Handler(add, elementwise=True),
    "Sub": Handler(sub, elementwise=True),
    "Mul": Handler(mul, elementwise=True, masks=True),
    "Div": Handler(div, elementwise=True, masks=True),
    "Sum": Handler(total, elementwise=True),
    "Mean": Handler(total, elementwise=True),
    "Max": Handler(extremum, elementwise=True),
    "Min": Handler(extremum, elementwise=True),
}

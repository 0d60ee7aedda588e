"""QOperator: operators on integers with scales and zero points, of ONNX and of ONNX Runtime.

    before: yq = QLinearConv(xq, sx, zx, wq, sw, zw, sy, zy, bq)
    after:  x = DequantizeLinear(xq, sx, zx);  w = DequantizeLinear(wq, sw, zw)
            b = DequantizeLinear(bq, sx * sw)
            yq = QuantizeLinear(Conv(x, w, b), sy, zy)

So the standard defines each operator, and so does ONNX Runtime's list of contributed operators:
accumulate exactly, scale, round half to even, saturate.
"""

from collections.abc import Callable, Mapping

import numpy as np

from ...errors import ModelError
from ..source import Node, Source
from .rewriting import Nodes, Rule, attributes_of, rewritten

__all__ = ["RULES", "static_operators"]

MICROSOFT = "com.microsoft::"

Build = Callable[[Nodes, Node], None]


def static_operators(source: Source) -> Source:
    """QOperator nodes become DequantizeLinear, the float operator, QuantizeLinear."""
    return rewritten(source, RULES)


def _conv(nodes: Nodes, node: Node) -> None:
    x, sx, zx, w, sw, zw, sy, zy, b = _padded(node, 9)
    x_real = nodes.dequantize(node, [_first(nodes, node, x, w), sx, zx], "/x")
    inputs = [x_real, nodes.dequantize(node, [w, sw, zw], "/w", axis=0)]
    if b:
        inputs.append(_bias(nodes, node, b, [sx, sw]))
    real = nodes.add(node, "Conv", inputs, **attributes_of(node, "Conv"))
    _leave(nodes, node, real, sy, zy, _rank(nodes, w))


def _matmul(nodes: Nodes, node: Node) -> None:
    a, sa, za, b, sb, zb, sy, zy = _padded(node, 8)
    inputs = [
        nodes.dequantize(node, [a, sa, za], "/a", axis=-2),
        nodes.dequantize(node, [b, sb, zb], "/b", axis=-1),
    ]
    nodes.quantize(node, [nodes.add(node, "MatMul", inputs), sy, zy])


def _gemm(nodes: Nodes, node: Node) -> None:
    """``alpha * sa * sb * ((a - za) @ (b - zb) + c)``; ``alpha`` moves into the scale of b."""
    a, sa, za, b, sb, zb, c, sy, zy = _padded(node, 9)
    alpha, transposed = float(node.get("alpha", 1.0)), int(node.get("transB", 0))
    if alpha != 1.0:
        factor = nodes.constant(f"{node.name}/alpha", np.float32(alpha))
        sb = nodes.product(node, [sb, factor], "/scale")
    inputs = [
        nodes.dequantize(node, [a, sa, za], "/a"),
        nodes.dequantize(node, [b, sb, zb], "/b", axis=0 if transposed else -1),
    ]
    if c:
        inputs.append(_bias(nodes, node, c, [sa, sb], axis=-1))
    output = "" if sy else node.outputs[0]
    flip = int(node.get("transA", 0))
    real = nodes.add(node, "Gemm", inputs, output=output, transA=flip, transB=transposed)
    if sy:
        nodes.quantize(node, [real, sy, zy])


def _two(op: str) -> Build:
    """An elementwise operator of two tensors."""

    def build(nodes: Nodes, node: Node) -> None:
        a, sa, za, b, sb, zb, sy, zy = _padded(node, 8)
        inputs = [
            nodes.dequantize(node, [a, sa, za], "/a"),
            nodes.dequantize(node, [b, sb, zb], "/b"),
        ]
        zero = zy or _zero_like(nodes, node, za, zb)
        nodes.quantize(node, [nodes.add(node, op, inputs), sy, zero])

    return build


def _one(op: str) -> Build:
    """An operator of one tensor."""

    def build(nodes: Nodes, node: Node) -> None:
        x, sx, zx, sy, zy = _padded(node, 5)
        attributes, opset = attributes_of(node, op), int(node.get("opset", 0))
        rank = len(attributes["kernel_shape"]) + 2 if "kernel_shape" in attributes else 4
        x_real = nodes.dequantize(node, [_entering(nodes, node, x, rank), sx, zx], "/x")
        real = nodes.add(node, op, [x_real], opset=opset, **attributes)
        _leave(nodes, node, real, sy, zy or _zero_like(nodes, node, zx), rank)

    return build


def _where(nodes: Nodes, node: Node) -> None:
    """Inputs: condition, then tensor, scale, zero point of each choice, then the output's."""
    condition, a, sa, za, b, sb, zb, sy, zy = node.inputs
    inputs = [nodes.dequantize(node, [a, sa, za], "/a"), nodes.dequantize(node, [b, sb, zb], "/b")]
    nodes.quantize(node, [nodes.add(node, "Where", [condition, *inputs]), sy, zy])


def _concat(nodes: Nodes, node: Node) -> None:
    """Inputs: scale and zero point of the output, then tensor, scale, zero point of each input."""
    sy, zy, *rest = node.inputs
    if len(rest) % 3 or not all(rest):
        raise ModelError(
            f"{node}: has {len(rest)} inputs after the output's scale and zero point; accepted: a "
            "tensor, a scale and a zero point for each part; export the network again"
        )
    parts = [nodes.dequantize(node, rest[n : n + 3], f"/x{n // 3}") for n in range(0, len(rest), 3)]
    nodes.quantize(node, [nodes.add(node, "Concat", parts, axis=node.get("axis", 1)), sy, zy])


def _standard(op: str) -> Build:
    """ONNX Runtime's own name for a standard operator; its types are those of a newer opset."""

    def build(nodes: Nodes, node: Node) -> None:
        inputs = [node.inputs[0], node.inputs[1], _padded(node, 3)[2]]
        axis = int(node.get("axis", 1))
        if op == "QuantizeLinear":
            nodes.quantize(node, inputs, axis)
        else:
            nodes.dequantize(node, inputs, "", axis, node.outputs[0])

    return build


# -- what they share -------------------------------------------------------------------------------


def _padded(node: Node, count: int) -> tuple[str, ...]:
    """The inputs, ``""`` for those at the end that are left out."""
    return (*node.inputs, *[""] * (count - len(node.inputs)))


def _bias(nodes: Nodes, node: Node, bias: str, scales: list[str], axis: int = 0) -> str:
    """An int32 bias, whose scale is the product of the scales of input and weight."""
    return nodes.dequantize(
        node, [bias, nodes.product(node, scales, "/bias_scale"), ""], "/bias", axis
    )


def _zero_like(nodes: Nodes, node: Node, *zeros: str) -> str:
    """A zero of the type of the first zero point that is there: the type of all tensors."""
    found = next((nodes.known(zero) for zero in zeros if zero), None)
    if found is None:
        raise ModelError(
            f"{node}: lacks the zero points of its tensors; accepted: a constant zero point for "
            "each, which gives the type; export the network again"
        )
    return nodes.constant(f"{node.name}/zero_point", np.zeros_like(found.reshape(-1)[:1])[0])


def _rank(nodes: Nodes, weight: str) -> int:
    found = nodes.known(weight)
    return 4 if found is None else found.ndim


def _first(nodes: Nodes, node: Node, x: str, weight: str) -> str:
    return _entering(nodes, node, x, _rank(nodes, weight))


def _entering(nodes: Nodes, node: Node, x: str, rank: int) -> str:
    """The input with its channels on axis 1."""
    if not node.get("channels_last", 0):
        return x
    return nodes.add(node, "Transpose", [x], "/first", perm=[0, rank - 1, *range(1, rank - 1)])


def _leave(nodes: Nodes, node: Node, real: str, scale: str, zero: str, rank: int) -> None:
    """Round, and bring the channels back to the last axis where they came from there."""
    if node.get("channels_last", 0):
        real = nodes.add(node, "Transpose", [real], "/last", perm=[0, *range(2, rank), 1])
    nodes.quantize(node, [real, scale, zero])


def _rule(op: str, build: Build, least: int, most: int, absent: tuple[int, ...] = ()) -> Rule:
    """``absent``: inputs before ``least`` that may be absent."""
    return Rule(op, build, least, most, frozenset(range(least)) - set(absent))


def _of_two(op: str) -> Rule:
    return _rule(op, _two(op), 7, 8, (2, 5))


def _of_one(op: str, least: int = 4) -> Rule:
    return _rule(op, _one(op), least, 5, (2,))


#: by the operator's name in the file, with its domain
RULES: Mapping[str, Rule] = {
    "QLinearConv": _rule("Conv", _conv, 8, 9),
    "QLinearMatMul": _rule("MatMul", _matmul, 8, 8),
    f"{MICROSOFT}QLinearConv": _rule("Conv", _conv, 8, 9),
    f"{MICROSOFT}QGemm": _rule("Gemm", _gemm, 6, 9),
    f"{MICROSOFT}QLinearAdd": _of_two("Add"),
    f"{MICROSOFT}QLinearMul": _of_two("Mul"),
    f"{MICROSOFT}QLinearWhere": _rule("Where", _where, 9, 9),
    f"{MICROSOFT}QLinearConcat": Rule("Concat", _concat, 5, 2 + 3 * 84, frozenset({0, 1})),
    f"{MICROSOFT}QLinearAveragePool": _of_one("AveragePool"),
    f"{MICROSOFT}QLinearGlobalAveragePool": _of_one("GlobalAveragePool", 5),
    f"{MICROSOFT}QLinearSigmoid": _of_one("Sigmoid"),
    f"{MICROSOFT}QLinearLeakyRelu": _of_one("LeakyRelu"),
    f"{MICROSOFT}QLinearSoftmax": _of_one("Softmax", 5),
    f"{MICROSOFT}QuantizeLinear": _rule("QuantizeLinear", _standard("QuantizeLinear"), 2, 3),
    f"{MICROSOFT}DequantizeLinear": _rule("DequantizeLinear", _standard("DequantizeLinear"), 2, 3),
}

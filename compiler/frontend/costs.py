"""Products, stored numbers and shapes of an ONNX model, before it is a graph."""

from collections.abc import Callable, Mapping
from math import prod
from typing import Any

from .source import Node, Source

__all__ = ["node_macs", "stored_numbers"]

Shapes = Mapping[str, tuple[int, ...]]

#: nodes whose inputs behind the first describe a quantization
_QUANTIZING = ("QuantizeLinear", "DequantizeLinear")


def node_macs(node: Node, shapes: Shapes) -> int:
    """Products of a frame that a node takes, as far as the shapes of its operands are known; none
    of operands that the operator does not allow.
    """
    rule = _PRODUCTS.get(node.op.rpartition("::")[2])
    try:
        return rule(node, shapes) if rule else 0
    except (KeyError, IndexError, ValueError):
        return 0


def stored_numbers(source: Source) -> int:
    """Weights and biases: the elements of the stored constants that nodes compute with.

    Integers of 64 bits are shapes and axes; scales and zero points describe numbers.
    """
    counted: dict[str, int] = {}
    for node in source.nodes:
        names = node.inputs[:1] if node.op in _QUANTIZING else node.inputs
        for name in names:
            constant = source.constants.get(name)
            if constant is not None and constant.dtype.name != "int64":
                counted[name] = constant.size
    return sum(counted.values())


def _convolution(node: Node, shapes: Shapes) -> int:
    """Each output is a sum over the window and the channels of its group."""
    _, *window = shapes[_weight(node)]
    return prod(shapes[node.outputs[0]][1:]) * prod(window)


def _transposed(node: Node, shapes: Shapes) -> int:
    """Each input is multiplied with every weight of its channel."""
    _, *window = shapes[node.inputs[1]]
    return prod(shapes[node.inputs[0]][1:]) * prod(window)


def _product(node: Node, shapes: Shapes) -> int:
    """Each output is a sum over the last axis of the first operand."""
    return prod(shapes[node.outputs[0]][1:]) * shapes[node.inputs[0]][-1]


def _gemm(node: Node, shapes: Shapes) -> int:
    rows, columns = shapes[node.inputs[0]][-2:]
    return prod(shapes[node.outputs[0]][1:]) * (rows if node.get("transA", 0) else columns)


def _recurrent(node: Node, shapes: Shapes) -> int:
    """Every step multiplies all weights of input and state."""
    steps = shapes[node.inputs[0]][0 if not node.get("layout", 0) else 1]
    return steps * sum(prod(shapes[name]) for name in node.inputs[1:3])


def _linear(node: Node, shapes: Shapes) -> int:
    """One for each coefficient."""
    return len(node.get("coefficients", ()))


def _weight(node: Node) -> str:
    """The weights of a convolution; those of QLinearConv follow the scale of its input."""
    return node.inputs[3 if node.op.startswith("QLinear") else 1]


_PRODUCTS: Mapping[str, Callable[[Node, Any], int]] = {
    "Conv": _convolution,
    "ConvInteger": _convolution,
    "QLinearConv": _convolution,
    "ConvTranspose": _transposed,
    "MatMul": _product,
    "MatMulInteger": _product,
    "QLinearMatMul": _product,
    "Gemm": _gemm,
    "QGemm": _gemm,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "LinearClassifier": _linear,
    "LinearRegressor": _linear,
}

"""The operators of scikit-learn's pipelines around a network, in the domain ai.onnx.ml.

    before: y = Scaler(x) <offset = o, scale = s>
    after:  d = Sub(x, o);  y = Mul(d, s)

The definitions are those of ai.onnx.ml. All other operators of the domain stay as they are.
"""

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from ..source import Node, Source
from .rewriting import Nodes, fitting, types_of

__all__ = ["OPERATORS", "pipelines"]

#: what the operators become, by their names with domain; ZipMap ends where the file is read
OPERATORS: Mapping[str, str] = {
    "ai.onnx.ml::Scaler": "`Sub`, `Mul`",
    "ai.onnx.ml::LinearRegressor": "`Gemm`",
    "ai.onnx.ml::ZipMap": "its input: a column a class",
}
#: the version of the standard operators that are written
_OPSET = 13


def pipelines(source: Source) -> Source:
    """``source`` with the nodes of ai.onnx.ml that have a form in standard operators replaced."""
    if not any(node.op in _BUILDERS for node in source.nodes):
        return source
    nodes, types = Nodes(source), types_of(source)
    for node in source.nodes:
        build = _BUILDERS.get(node.op)
        if build is None or not node.inputs:
            nodes.keep(node)
            continue
        with fitting(node):
            x = node.inputs[0]
            if types.get(x) != "float32":
                to = int(onnx.TensorProto.FLOAT)
                x = nodes.add(node, "Cast", [x], "/float", opset=_OPSET, to=to)
            build(nodes, node, x)
    return nodes.finished()


def _scaler(nodes: Nodes, node: Node, x: str) -> None:
    offset = nodes.constant(f"{node.name}/offset", _numbers(node, "offset"))
    scale = nodes.constant(f"{node.name}/scale", _numbers(node, "scale"))
    centered = nodes.add(node, "Sub", [x, offset], "/centered", opset=_OPSET)
    nodes.add(node, "Mul", [centered, scale], output=node.outputs[0], opset=_OPSET)


def _regressor(nodes: Nodes, node: Node, x: str) -> None:
    rows, bias = int(node.attributes.get("targets", 1)), _numbers(node, "intercepts")
    if node.attributes.get("post_transform", b"NONE") != b"NONE" or bias.size not in (0, rows):
        nodes.keep(node)
        return
    weights = _numbers(node, "coefficients").reshape(rows, -1)
    inputs = [x, nodes.constant(f"{node.name}/coefficients", weights)]
    if bias.size:
        inputs.append(nodes.constant(f"{node.name}/intercepts", bias))
    nodes.add(node, "Gemm", inputs, output=node.outputs[0], opset=_OPSET, transB=1)


def _numbers(node: Node, attribute: str) -> NDArray[np.float32]:
    return np.array(node.attributes.get(attribute, []), np.float32)


_BUILDERS: Mapping[str, Callable[[Nodes, Node, str], None]] = {
    "ai.onnx.ml::Scaler": _scaler,
    "ai.onnx.ml::LinearRegressor": _regressor,
}

"""The operators of scikit-learn's pipelines around a network, in the domain ai.onnx.ml.

    before: y = Scaler(x) <offset = o, scale = s>
    after:  d = Sub(x, o);  y = Mul(d, s)

The definitions are those of ai.onnx.ml. All other operators of the domain stay as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from ..source import Node, Source
from .rewriting import Nodes, fitting, types_of

__all__ = ["OPERATORS", "pipelines"]

#: what the operators become, by their names with domain; ZipMap ends where the file is read
OPERATORS: Mapping[str, str] = {
    "ai.onnx.ml::Scaler": "`Sub`, `Mul`; on the host where each feature has a scale of its own",
    "ai.onnx.ml::LinearRegressor": "`Gemm`",
    "ai.onnx.ml::LinearClassifier": "`Gemm`, `ArgMax`, `Softmax` or `Sigmoid`; classes "
    "0, 1, 2, ...",
    "ai.onnx.ml::Normalizer": "`ReduceL1`, `ReduceL2` or `ReduceMax`, `Div`",
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
    offsets, scales = _numbers(node, "offset"), _numbers(node, "scale")
    if np.unique(scales).size > 1:
        # features of different ranges: integers of one scale for all would lose most of them
        nodes.keep(node)
        return
    offset = nodes.constant(f"{node.name}/offset", offsets)
    scale = nodes.constant(f"{node.name}/scale", scales)
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


def _classifier(nodes: Nodes, node: Node, x: str) -> None:
    labels = np.array(node.attributes.get("classlabels_ints", []), np.int64)
    weights, bias = _numbers(node, "coefficients"), _numbers(node, "intercepts")
    transform = _TRANSFORMS.get(node.attributes.get("post_transform", b"NONE"))
    rows = labels.size  # of two classes there may be one, whose sign decides
    numbered = rows > 0 and np.array_equal(labels, np.arange(rows))
    if not numbered or transform is None or bias.size != rows or weights.size % rows:
        nodes.keep(node)
        return
    label, scores = (*node.outputs, "")[:2]
    constants = {"coefficients": weights.reshape(rows, -1), "intercepts": bias}
    inputs = [nodes.constant(f"{node.name}/{name}", each) for name, each in constants.items()]
    found = nodes.add(node, "Gemm", [x, *inputs], "/scores", opset=_OPSET, transB=1)
    if label:
        nodes.add(node, "ArgMax", [found], output=label, opset=_OPSET, axis=1, keepdims=0)
    if scores:
        more: dict[str, Any] = {"axis": 1} if transform == "Softmax" else {}
        nodes.add(node, transform, [found], output=scores, opset=_OPSET, **more)


def _normalizer(nodes: Nodes, node: Node, x: str) -> None:
    norm = node.attributes.get("norm", b"MAX")
    if norm == b"L1" and _sums_to_one(nodes.source, x):
        nodes.add(node, "Identity", [x], output=node.outputs[0], opset=_OPSET)
        return
    reduction = _NORMS.get(norm)
    if reduction is None:
        nodes.keep(node)
        return
    size = nodes.add(node, reduction, [x], "/norm", opset=_OPSET, axes=[1], keepdims=1)
    nodes.add(node, "Div", [x, size], output=node.outputs[0], opset=_OPSET)


def _sums_to_one(source: Source, x: str) -> bool:
    """Whether a tensor has the probabilities of all classes."""
    return any(
        node.op == "ai.onnx.ml::LinearClassifier"
        and node.attributes.get("post_transform") == b"SOFTMAX"
        for node in source.nodes
        if x in node.outputs
    )


#: what turns scores into probabilities, and what a norm is
_TRANSFORMS = {b"NONE": "Identity", b"SOFTMAX": "Softmax", b"LOGISTIC": "Sigmoid"}
_NORMS = {b"L1": "ReduceL1", b"L2": "ReduceL2", b"MAX": "ReduceMax"}


def _numbers(node: Node, attribute: str) -> NDArray[np.float32]:
    return np.array(node.attributes.get(attribute, []), np.float32)


_BUILDERS: Mapping[str, Callable[[Nodes, Node, str], None]] = {
    "ai.onnx.ml::Scaler": _scaler,
    "ai.onnx.ml::LinearRegressor": _regressor,
    "ai.onnx.ml::LinearClassifier": _classifier,
    "ai.onnx.ml::Normalizer": _normalizer,
}

"""If nodes whose condition is known before the network runs.

    before: y = If(condition) <then_branch = {t = Relu(x)}, else_branch = {e = Identity(x)}>
    after:  y = Relu(x)

Exporters leave such nodes where a shape decides: the condition then follows from constants and from
the shapes of tensors, which are fixed. Any other If stays, and the importer refuses it.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from ...errors import ModelError
from .. import folding
from ..source import Node, Source, array, node_of
from .rewriting import Nodes

__all__ = ["taken_branches"]

#: nodes that read the shape of a tensor, not its numbers
_SHAPES = ("Shape", "Size")
#: elements of the constants that shape inference gets with their numbers: shapes, axes and the like
_SMALL = 64


def taken_branches(source: Source) -> Source:
    """Each If of a known condition becomes the branch that it takes, from outside in."""
    done: set[Node] = set()
    while True:
        found = [node for node in source.nodes if node.op == "If" and node not in done]
        if not found:
            return source
        done.update(found)
        taken = _conditions(source, found)
        if not taken:
            continue
        nodes = Nodes(source)
        for node in source.nodes:
            if node.op == "If" and node.outputs[0] in taken:
                _splice(nodes, node, taken[node.outputs[0]])
            else:
                nodes.keep(node)
        source = nodes.finished()


def _splice(nodes: Nodes, node: Node, condition: bool) -> None:
    """Append the nodes of a branch, under names of their own."""
    branch = node.attributes.get("then_branch" if condition else "else_branch")
    if not isinstance(branch, onnx.GraphProto) or len(branch.output) != len(node.outputs):
        raise ModelError(
            f"{node}: its branches do not give its {len(node.outputs)} outputs; accepted: a graph "
            "with as many; check the model with onnx.checker"
        )
    names: dict[str, str] = {}
    for tensor in branch.initializer:
        names[tensor.name] = nodes.constant(f"{node.name}/{tensor.name}", array(tensor, str(node)))
    results = dict(zip((info.name for info in branch.output), node.outputs, strict=True))
    for inner in branch.node:
        for name in filter(None, inner.output):
            names[name] = results.pop(name, None) or nodes.unique(f"{node.name}/{name}")
    for inner in branch.node:
        nodes.keep(node_of(_renamed(inner, names), node.opset))
    for name, output in results.items():  # what the branch does not compute itself
        nodes.add(node, "Identity", [names.get(name, name)], output=output)


def _renamed(proto: onnx.NodeProto, names: Mapping[str, str]) -> onnx.NodeProto:
    """A copy of a node, and of the graphs in it, that reads and writes other names."""
    copy = onnx.NodeProto()
    copy.CopyFrom(proto)
    _rename(copy, names)
    return copy


def _rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    for tensors in (node.input, node.output):
        for place, name in enumerate(tensors):
            tensors[place] = names.get(name, name)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                _rename(inner, names)
            for info in graph.output:
                info.name = names.get(info.name, info.name)


# -- conditions ------------------------------------------------------------------------------------


def _conditions(source: Source, nodes: Iterable[Node]) -> dict[str, bool]:
    """The condition of each If whose is known, by the name of its first output."""
    wanted = {node.inputs[0] for node in nodes if node.inputs}
    values = _values(source, wanted)
    return {
        node.outputs[0]: bool(values[node.inputs[0]].reshape(-1)[0])
        for node in nodes
        if node.inputs and values.get(node.inputs[0], np.zeros(0)).size == 1
    }


def _values(source: Source, wanted: set[str]) -> dict[str, NDArray[Any]]:
    """The constants among ``wanted``, and those that they follow from."""
    needed, path = set(wanted), []
    for node in reversed(source.nodes):
        if not needed.isdisjoint(node.outputs):
            path.append(node)
            if node.op not in _SHAPES:
                needed.update(node.inputs)
    values = {name: array for name, array in source.constants.items() if name in needed}
    shapes = _shapes(source) if any(node.op in _SHAPES for node in path) else {}
    for node in reversed(path):
        operands: list[NDArray[Any] | None]
        if node.op in _SHAPES and node.inputs[0] in shapes:
            operands = [np.broadcast_to(np.int8(0), shapes[node.inputs[0]])]
        elif all(name in values for name in node.inputs if name):
            operands = [values.get(name) for name in node.inputs]
        else:
            continue
        if node.op in folding.SIZES:
            results = folding.evaluate(node, operands)
            values.update(zip(node.outputs, results, strict=False))
    return values


def _shapes(source: Source) -> dict[str, tuple[int, ...]]:
    """The tensors whose shape can be inferred, with the batch that the importer assumes."""
    known = {port.name: (source.batch, *(port.shape or ())) for port in source.inputs}
    infos = [
        helper.make_tensor_value_info(port.name, _element(port.dtype), known[port.name])
        for port in source.inputs
    ]
    small = []
    for name, constant in source.constants.items():
        tensor = numpy_helper.from_array(np.asarray(constant), name)
        if constant.size <= _SMALL:
            small.append(tensor)
        else:
            infos.append(helper.make_tensor_value_info(name, tensor.data_type, constant.shape))
    graph = helper.make_graph([n.proto for n in source.nodes], "shapes", infos, [], small)
    domains = {node.proto.domain for node in source.nodes} - {"", "ai.onnx"}
    opsets = [helper.make_opsetid("", source.nodes[0].opset)]
    opsets += [helper.make_opsetid(domain, 1) for domain in sorted(domains)]
    try:
        found = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets))
    except Exception:  # the C++ code raises several
        return known
    for info in found.graph.value_info:
        dims = info.type.tensor_type.shape.dim
        if info.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            known[info.name] = tuple(dim.dim_value for dim in dims)
    return known


def _element(dtype: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

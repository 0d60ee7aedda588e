"""If nodes whose condition is known before the network runs.

    before: y = If(condition) <then_branch = {t = Relu(x)}, else_branch = {e = Identity(x)}>
    after:  y = Relu(x)

Exporters leave such nodes where a shape decides: the condition then follows from constants and from
the shapes of tensors, which are fixed. Any other If stays, and the importer refuses it.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import onnx

from ...errors import ModelError
from ..source import Node, Source, array, node_of
from .rewriting import Nodes, evaluated, fitting

__all__ = ["taken_branches"]


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
                with fitting(node):
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
    values = evaluated(source, wanted)
    return {
        node.outputs[0]: bool(values[node.inputs[0]].reshape(-1)[0])
        for node in nodes
        if node.inputs and values.get(node.inputs[0], np.zeros(0)).size == 1
    }

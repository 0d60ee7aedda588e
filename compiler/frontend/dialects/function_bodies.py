"""Operators that ONNX defines by others: their nodes become the nodes of that definition.

    before: y = SwiGLU(a)
    after:  g, u = Split(a);  s = Swish(g);  y = Mul(s, u)

Only operators that nothing else here reads are expanded: Attention, RotaryEmbedding,
CausalConvWithState and the like. Their definition may depend on the types of the operands.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import onnx
from onnx import defs

from ...errors import ModelError
from ..registry import HANDLERS
from ..source import CODES, Node, Source, node_of
from . import integer_sums, qoperator
from .rewriting import Nodes, fitting, shapes_of, types_of

__all__ = ["function_bodies"]

#: definitions that use others
_DEPTH = 4
#: operators with a definition whose results are random, or that loop
_NOT = ("Bernoulli", "Range", "SequenceMap", "If", "Loop", "Scan")


def function_bodies(source: Source) -> Source:
    """Each node of an operator that only its definition explains becomes that."""
    for _ in range(_DEPTH):
        found = {node.key: body for node in source.nodes if (body := _schema(node)) is not None}
        if not found:
            return source
        types, shapes = types_of(source), shapes_of(source)
        nodes = Nodes(source)
        for node in source.nodes:
            schema = found.get(node.key)
            body = None if schema is None else _body(node, schema, types, shapes)
            if body is None:
                nodes.keep(node)
                continue
            with fitting(node):
                _splice(nodes, node, body)
        grown = nodes.finished()
        if len(grown.nodes) == len(source.nodes):
            return grown
        source = grown
    return source


def _schema(node: Node) -> Any:
    """The schema of an operator to expand; None for others."""
    known = (*_NOT, *qoperator.RULES, *integer_sums.OPERATORS)
    if node.op in HANDLERS or node.op in known or "::" in node.op:
        return None
    try:
        # Any: its stubs lack what concerns functions.
        schema: Any = defs.get_schema(node.op, node.opset, "")
    except defs.SchemaError:
        return None
    return schema if schema.has_function or schema.has_context_dependent_function else None


def _body(
    node: Node,
    schema: Any,
    types: Mapping[str, str],
    shapes: Mapping[str, tuple[int, ...]],
) -> onnx.FunctionProto | None:
    """The definition of a node, of the newest opset up to its own; None where there is none."""
    function = onnx.FunctionProto()
    if schema.has_function:
        fitting_ones = [n for n in schema.function_opset_versions if n <= node.opset]
        if not fitting_ones:
            return None
        function.ParseFromString(schema.get_function_with_opset_version(max(fitting_ones)))
        return function
    versions = schema.context_dependent_function_opset_versions
    fitting_ones = [n for n in versions if n <= node.opset]
    operands = [_type(name, types, shapes) for name in node.inputs]
    if not fitting_ones or any(
        name and not each for name, each in zip(node.inputs, operands, strict=True)
    ):
        return None
    made = schema.get_context_dependent_function_with_opset_version(
        max(fitting_ones), node.proto.SerializeToString(), operands
    )
    if not made:
        return None
    function.ParseFromString(made)
    return function


def _type(name: str, types: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> bytes:
    """The type of an operand as ONNX writes it; empty where it is not known."""
    number = CODES.get(types.get(name, ""))
    if number is None:
        return b""
    found: bytes = onnx.helper.make_tensor_type_proto(number, shapes.get(name)).SerializeToString()
    return found


def _splice(nodes: Nodes, node: Node, body: onnx.FunctionProto) -> None:
    """Append the nodes of a definition, under names of their own."""
    names = dict.fromkeys(body.input, "")
    names.update(zip(body.input, node.inputs, strict=False))
    results = dict(zip(body.output, node.outputs, strict=False))
    opset = max((o.version for o in body.opset_import if o.domain == ""), default=node.opset)
    attributes = {a.name: a for a in (*body.attribute_proto, *node.proto.attribute)}
    for inner in body.node:
        proto = onnx.NodeProto()
        proto.CopyFrom(inner)
        for place, name in enumerate(proto.input):
            proto.input[place] = names.get(name, name)
        while proto.input and not proto.input[-1]:
            del proto.input[-1]
        for place, name in enumerate(proto.output):
            if name:
                own = results.get(name) or nodes.unique(f"{node.key}/{name}")
                names[name] = proto.output[place] = own
        _substitute(proto, attributes)
        proto.name = f"{node.name}/{inner.name or inner.op_type}"
        made = node_of(proto, opset)
        nodes.keep(replace(made, written=node.written or node.op, origin=node.origin or node.key))
    if missing := [n for f, n in results.items() if n and names.get(f) != n]:
        raise ModelError(
            f"{node}: its definition does not give its output {missing[0]}; accepted: the "
            "outputs that the operator has; check the model with onnx.checker"
        )


def _substitute(proto: onnx.NodeProto, attributes: Mapping[str, onnx.AttributeProto]) -> None:
    """Attributes that refer to those of the function's node, in their place."""
    kept = []
    for attribute in proto.attribute:
        if not attribute.ref_attr_name:
            kept.append(attribute)
        elif attribute.ref_attr_name in attributes:
            found = onnx.AttributeProto()
            found.CopyFrom(attributes[attribute.ref_attr_name])
            found.name = attribute.name
            kept.append(found)
    copies = [onnx.AttributeProto.FromString(each.SerializeToString()) for each in kept]
    del proto.attribute[:]
    proto.attribute.extend(copies)

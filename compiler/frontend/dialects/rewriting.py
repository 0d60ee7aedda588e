"""A node list in the making: what the dialects share."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import defs, helper, numpy_helper

from ...errors import ModelError
from .. import folding, schema
from ..source import CODES, DTYPES, Node, Source, captured, constants_of, unique

__all__ = [
    "QUANTIZING_OPSET",
    "Nodes",
    "Rewrite",
    "Rule",
    "attributes_of",
    "evaluated",
    "fitting",
    "rewritten",
    "shapes_of",
    "types_of",
]

#: Gives a source that computes the same; the same object when there is nothing to rewrite.
Rewrite = Callable[[Source], Source]

#: The opset whose QuantizeLinear and DequantizeLinear the rewrites write: per axis, of any integer.
QUANTIZING_OPSET = 21

#: nodes that read the shape of a tensor, not its numbers
_SHAPES = ("Shape", "Size")
#: elements of the constants that shape inference gets with their numbers: shapes, axes and the like
_SMALL = 64


class Nodes:
    """The nodes that replace those of ``source``, in processing order.

    New nodes are called after the one they replace, which stays named in every message.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.constants: dict[str, NDArray[Any]] = dict(source.constants)
        self._known = constants_of(source)
        self._nodes: list[Node] = []
        self._taken = {"", *self._known, *(port.name for port in source.inputs)}
        self._taken |= {name for node in source.nodes for name in node.outputs}

    def keep(self, node: Node) -> None:
        """Append a node as it is."""
        self._nodes.append(node)

    def known(self, name: str) -> NDArray[Any] | None:
        """A stored constant; None for what is computed, and for an absent input."""
        return self._known.get(name)

    def constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        """Add a constant; returns its name."""
        name = self.unique(name)
        self.constants[name] = self._known[name] = np.asarray(array)
        return name

    def add(
        self,
        node: Node,
        op: str,
        inputs: Sequence[str],
        suffix: str = "",
        output: str = "",
        opset: int = 0,
        **attributes: Any,
    ) -> str:
        """Append a standard operator in the place of ``node``; returns its output.

        ``suffix`` follows the name of ``node`` in its own; ``opset`` is that of ``node`` unless
        given.
        """
        tensor = output or self.unique(f"{node.outputs[0]}{suffix or '/real'}")
        name = f"{node.name}{suffix}"
        try:
            proto = helper.make_node(op, list(inputs), [tensor], name=name, **attributes)
        except (TypeError, ValueError) as error:
            raise ModelError(
                f"{node}: has an attribute that can not be read ({error}); check the model with "
                "onnx.checker"
            ) from None
        opset = opset or node.opset
        schema.check(proto, str(node), opset)
        written = node.written or node.op
        origin = node.origin or node.key
        made = Node(name, op, tuple(inputs), (tensor,), attributes, proto, opset, written, origin)
        self._nodes.append(made)
        return tensor

    def dequantize(
        self, node: Node, inputs: Sequence[str], suffix: str, axis: int = 1, output: str = ""
    ) -> str:
        """DequantizeLinear of ``inputs``: integers, scale, zero point (which may be ``""``)."""
        return self.add(
            node,
            "DequantizeLinear",
            _without_last_absent(inputs),
            suffix,
            output,
            opset=QUANTIZING_OPSET,
            axis=axis,
        )

    def quantize(self, node: Node, inputs: Sequence[str], axis: int = 1) -> None:
        """QuantizeLinear of ``inputs`` (real numbers, scale, zero point) as the output of
        ``node``.
        """
        self.add(
            node,
            "QuantizeLinear",
            _without_last_absent(inputs),
            "/quantize",
            node.outputs[0],
            opset=QUANTIZING_OPSET,
            axis=axis,
        )

    def product(self, node: Node, names: Sequence[str], suffix: str) -> str:
        """The product of constants, in float32."""
        result = names[0]
        for name in names[1:]:
            result = self.add(node, "Mul", [result, name], suffix)
        return result

    def finished(self) -> Source:
        """The source with the new nodes, without those that nothing needs any more."""
        needed, kept = {port.name for port in self.source.outputs}, []
        for node in reversed(self._nodes):
            if not needed.isdisjoint(node.outputs):
                needed.update((*node.inputs, *captured(node.proto)))
                kept.append(node)
        constants = {name: array for name, array in self.constants.items() if name in needed}
        return replace(self.source, nodes=tuple(reversed(kept)), constants=constants)

    def unique(self, name: str) -> str:
        """A name that no tensor has yet: ``name``, or one that begins with it."""
        return unique(name, self._taken)


@contextmanager
def fitting(node: Node) -> Iterator[None]:
    """While a node is rewritten: refuse constants and attributes that contradict each other."""
    try:
        yield
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"{node}: does not fit its operands ({reason}); accepted: operands and attributes that "
            "the operator allows; check the model with onnx.checker"
        ) from error


@dataclass(frozen=True)
class Rule:
    """How a node of one operator is rewritten: ``build`` appends what replaces it.

    ``becomes``: the operator between DequantizeLinear and QuantizeLinear, or what the node is.
    ``least`` and ``most`` are how many inputs the operator takes; those listed in ``required`` may
    not be absent.
    """

    becomes: str
    build: Callable[[Nodes, Node], None]
    least: int
    most: int
    required: frozenset[int]

    def __call__(self, nodes: Nodes, node: Node) -> None:
        """Raises ModelError for a wrong number of inputs or outputs."""
        count = len(node.inputs)
        if not self.least <= count <= self.most or len(node.outputs) != 1:
            raise ModelError(
                f"{node}: has {count} inputs and {len(node.outputs)} outputs, which the operator "
                f"does not allow; accepted: {self.least} to {self.most} inputs and one output; "
                "export the network again"
            )
        for n in sorted(self.required):
            if n < count and not node.inputs[n]:
                raise ModelError(
                    f"{node}: lacks its input {n}; accepted: a node with it; export the network "
                    "again"
                )
        self.build(nodes, node)


def rewritten(source: Source, rules: Mapping[str, Rule]) -> Source:
    """``source`` with the nodes that have a rule replaced."""
    if not any(node.op in rules for node in source.nodes):
        return source
    nodes = Nodes(source)
    for node in source.nodes:
        rule = rules.get(node.op)
        if rule is None:
            nodes.keep(node)
        else:
            with fitting(node):
                rule(nodes, node)
    return nodes.finished()


def attributes_of(node: Node, op: str) -> dict[str, Any]:
    """The attributes of ``node`` that the standard operator ``op`` has too."""
    known = defs.get_schema(op, node.opset, "").attributes
    return {name: value for name, value in node.attributes.items() if name in known}


def _without_last_absent(inputs: Sequence[str]) -> list[str]:
    return [*inputs[:-1], *(name for name in inputs[-1:] if name)]


# -- constants that are computed ------------------------------------------------------------------


def evaluated(source: Source, wanted: set[str]) -> dict[str, NDArray[Any]]:
    """The constants among ``wanted``, and those that they follow from: stored, or computed from
    constants and from the shapes of tensors.
    """
    needed, path = set(wanted), []
    for node in reversed(source.nodes):
        if not needed.isdisjoint(node.outputs):
            path.append(node)
            if node.op not in _SHAPES:
                needed.update(node.inputs)
    values = {name: array for name, array in source.constants.items() if name in needed}
    shapes = shapes_of(source) if any(node.op in _SHAPES for node in path) else {}
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


def shapes_of(source: Source) -> dict[str, tuple[int, ...]]:
    """The tensors whose shape can be inferred, with the batch that the importer assumes."""
    known = {name: array.shape for name, array in source.constants.items()}
    known |= {port.name: port.dims(source.batch) for port in source.inputs}
    for info in _inferred(source):
        dims = info.type.tensor_type.shape.dim
        if info.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            known[info.name] = tuple(dim.dim_value for dim in dims)
    return known


def types_of(source: Source) -> dict[str, str]:
    """The element types of the tensors whose can be inferred, by NumPy's or ONNX's names."""
    known = {name: array.dtype.name for name, array in source.constants.items()}
    known |= {port.name: port.dtype for port in source.inputs}
    for info in _inferred(source):
        number = info.type.tensor_type.elem_type
        if number in DTYPES:
            known[info.name] = DTYPES[number]
    return known


def _inferred(source: Source) -> Sequence[onnx.ValueInfoProto]:
    """What shape inference knows of the tensors that nodes compute."""
    if not source.nodes:
        return ()
    infos = [
        helper.make_tensor_value_info(port.name, CODES[port.dtype], port.dims(source.batch))
        for port in source.inputs
    ]
    small = []
    for name, constant in source.constants.items():
        tensor = numpy_helper.from_array(np.asarray(constant), name)
        if constant.size <= _SMALL:
            small.append(tensor)
        else:
            infos.append(helper.make_tensor_value_info(name, tensor.data_type, constant.shape))
    # no file holds nodes without outputs
    protos = [schema.inferable(node.proto) for node in source.nodes if node.proto.output]
    graph = helper.make_graph(protos, "shapes", infos, [], small)
    domains = {proto.domain for proto in protos} - {"", "ai.onnx"}
    opsets = [helper.make_opsetid("", source.nodes[0].opset)]
    opsets += [helper.make_opsetid(domain, 1) for domain in sorted(domains)]
    try:
        found = onnx.shape_inference.infer_shapes(helper.make_model(graph, opset_imports=opsets))
    except Exception:  # the C++ code raises several
        return ()
    return [*found.graph.value_info]

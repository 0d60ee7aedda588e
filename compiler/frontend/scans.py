"""Scan nodes that run over the rows of a map: loops of the graph.

Before: y = Scan(start, x) <body(h, row) = {a = Unsqueeze(row, 2), ..., b = Squeeze(next, 2)}>
After:  the nodes of the body, over whole maps, between a node that begins the states and one that
        ends the loop

The body computes a row of maps [batch, channels, rows, columns] with operators that treat every row
alike, so that on whole maps they compute all rows at once; a state is what it becomes, a row later.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .operands import Handler, Operand, activation
from .source import Node, Source, array, node_of, unique
from .tensors import Tensor

__all__ = ["BEGIN", "END", "HANDLERS", "inlined"]

#: the nodes around an inlined body; a file can not hold them
BEGIN, END = "Scan::Begin", "Scan::End"
#: the axis of a map's rows
_ROWS = 2


@lru_cache(maxsize=2)
def inlined(source: Source) -> Source:
    """``source`` with the bodies of its Scan nodes among its nodes; itself where it has none.

    The same source for the same argument, as long as it is one of the last two.
    """
    if not any(node.op == "Scan" for node in source.nodes):
        return source
    makers = {name: node for node in source.nodes for name in node.outputs}
    constants = dict(source.constants)
    taken = {"", *constants, *makers, *(port.name for port in source.inputs)}
    nodes: list[Node] = []
    for node in source.nodes:
        nodes += _Scan(node, makers, constants, taken).nodes() if node.op == "Scan" else [node]
    return replace(source, nodes=_needed(nodes, source), constants=constants)


def _needed(nodes: Sequence[Node], source: Source) -> tuple[Node, ...]:
    needed, kept = {port.name for port in source.outputs}, []
    for node in reversed(nodes):
        if not needed.isdisjoint(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return tuple(reversed(kept))


class _Scan:
    """The nodes that stand for one Scan."""

    def __init__(
        self,
        node: Node,
        makers: Mapping[str, Node],
        constants: dict[str, Any],
        taken: set[str],
    ) -> None:
        self.node, self.makers, self.constants, self.taken = node, makers, constants, taken
        body, count = node.attributes.get("body"), node.get("num_scan_inputs", 0)
        if not isinstance(body, onnx.GraphProto):
            raise self._refused("has no body")
        self.body, self.states = body, len(node.inputs) - count
        streams = len(node.outputs) - self.states
        ways = (
            ("scan_input_axes", count, _ROWS),
            ("scan_output_axes", streams, _ROWS),
            ("scan_input_directions", count, 0),
            ("scan_output_directions", streams, 0),
        )
        fits = (len(body.input), len(body.output)) == (len(node.inputs), len(node.outputs))
        if not fits or not 0 < count < len(node.inputs) or streams < 1 or node.opset < 9:
            raise self._refused("has a body of other inputs and outputs")
        for name, number, wanted in ways:
            if tuple(node.attributes.get(name, [0] * number)) != (wanted,) * number:
                raise self._refused(f"has {name} of {node.attributes.get(name)}")

    def _refused(self, why: str) -> ModelError:
        return ModelError(
            f"{self.node}: {why}; accepted: a Scan forwards over axis {_ROWS} of maps [batch, "
            "channels, rows, columns], whose body begins with Unsqueeze of that axis and ends with "
            "Squeeze, and whose states begin with constants, alike for all samples, or with "
            "tensors [batch, channels, 1]"
        )

    def nodes(self) -> list[Node]:
        """The state's beginnings, the body, and the end."""
        node, body = self.node, self.body
        names: dict[str, str] = {}
        for tensor in body.initializer:
            name = names[tensor.name] = unique(f"{node.name}/{tensor.name}", self.taken)
            self.constants[name] = array(tensor, str(node))
        inputs = [info.name for info in body.input]
        begun = [unique(f"{node.name}/{name}", self.taken) for name in inputs[: self.states]]
        streams = inputs[self.states :]
        maps = [unique(f"{node.name}/{name}", self.taken) for name in streams]
        names |= dict(zip(inputs, (*begun, *maps), strict=True))
        for inner in body.node:
            for name in filter(None, inner.output):
                free = name not in self.taken
                names[name] = unique(name if free else f"{node.name}/{name}", self.taken)
        starts = node.inputs[: self.states]
        sizes = [self._channels(info) for info in body.input[: self.states]]
        states = [
            (self._first(start, size), size) for start, size in zip(starts, sizes, strict=True)
        ]
        computed = [
            start for start, (first, _) in zip(starts, states, strict=True) if first is None
        ]
        given = (*node.inputs[self.states :], *computed)
        found = [self._node(BEGIN, given, (*begun, *maps), states=states)]
        ends = {info.name for info in body.output}
        for inner in body.node:
            found.append(self._inner(inner, names, set(inputs), ends))
        results = [names.get(info.name, info.name) for info in body.output]
        end = (*results[self.states :], *begun, *results[: self.states])
        found.append(self._node(END, end, node.outputs[self.states :], states=self.states))
        return found

    def _node(self, op: str, inputs: Sequence[str], outputs: Sequence[str], **more: Any) -> Node:
        origin = self.node.origin or self.node.key
        return replace(
            self.node,
            op=op,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
            attributes=more,
            proto=onnx.NodeProto(op_type="Identity"),
            written="Scan",
            origin=origin,
        )

    def _inner(
        self, proto: onnx.NodeProto, names: Mapping[str, str], inputs: set[str], ends: set[str]
    ) -> Node:
        """A node of the body, which works on whole maps."""
        proto_of_maps = onnx.NodeProto()
        proto_of_maps.CopyFrom(proto)
        for kind, wanted, tensors in (
            ("Unsqueeze", inputs, proto.input),
            ("Squeeze", ends, proto.output),
        ):
            if wanted.isdisjoint(tensors):
                continue
            axes = self._known(proto.input[1], names) if len(proto.input) > 1 else None
            if proto.op_type != kind or axes is None or axes.tolist() != [_ROWS]:
                raise self._refused(f"has the node {proto.name or proto.op_type} at its border")
            proto_of_maps.op_type = "Identity"
            del proto_of_maps.input[1:]
        for tensors in (proto_of_maps.input, proto_of_maps.output):
            for place, name in enumerate(tensors):
                tensors[place] = names.get(name, name)
        made = node_of(proto_of_maps, self.node.opset)
        return replace(made, origin=self.node.origin or self.node.key)

    def _known(self, name: str, names: Mapping[str, str]) -> Any:
        return self.constants.get(names.get(name, name))

    def _first(self, start: str, size: int) -> NDArray[np.float32] | None:
        """The numbers that a state begins with, [channels]; None where they are computed."""
        maker = self.makers.get(start)
        known = self.constants.get(start)
        if maker is not None and maker.op == "ConstantOfShape":
            value = maker.attributes.get("value")
            known = np.zeros(1) if value is None else array(value, str(maker))
        if maker is not None and maker.op == "Expand":
            known = self.constants.get(maker.inputs[0])
        if known is None:
            return None
        rows = known.reshape(-1, size if known.size % size == 0 else 1)
        if not known.size or (rows != rows[0]).any() or rows.shape[1] not in (1, size):
            raise self._refused(f"begins with the state {start}")
        first = np.empty(size, np.float32)
        first[:] = rows[0]
        return first

    def _channels(self, info: onnx.ValueInfoProto) -> int:
        dims = info.type.tensor_type.shape.dim
        if len(dims) != 3 or not dims[1].dim_value > 0 or dims[2].dim_value != 1:
            raise self._refused(f"has a state {info.name} without the shape [batch, channels, 1]")
        return int(dims[1].dim_value)


def begin(build: Builder, node: Node, *operands: Operand) -> list[Tensor]:
    """The states of a loop over the rows of maps, and the maps, in stream order. Behind the maps
    the operands are the beginnings of those states that do not begin with numbers.
    """
    known = node.attributes["states"]
    count = len(operands) - sum(first is None for first, _ in known)
    tensors = [activation(each, node) for each in operands]
    maps, starts = [], iter(tensors[count:])
    for tensor in tensors[:count]:
        if tensor.order.ndim != 4 or tensor.order.shape[3] != 1:
            raise ModelError(
                f"{node}: runs over a tensor of shape {list(tensor.order.shape)}; accepted: "
                "[batch, channels, rows, 1]"
            )
        _, channels, rows, _ = tensor.order.shape
        labels = replace(tensor, order=tensor.order[..., 0].transpose(0, 2, 1))
        maps.append(build.as_rows(labels, ir.Shape(rows, 1, channels), node))
    rows = maps[0].order.shape[1]
    states = [
        build.state(
            name, rows, channels, _start(next(starts), node) if first is None else first, node
        )
        for name, (first, channels) in zip(node.outputs, known, strict=False)
    ]
    return [
        replace(each, order=each.order.transpose(0, 2, 1)[..., None]) for each in (*states, *maps)
    ]


def _start(x: Tensor, node: Node) -> Tensor:
    """What a state begins with, [batch, channels]."""
    if x.order.ndim != 3 or x.order.shape[2] != 1:
        raise ModelError(
            f"{node}: begins with a state of shape {list(x.order.shape)}; accepted: [batch, "
            "channels, 1]"
        )
    return replace(x, order=x.order[..., 0])


def end(build: Builder, node: Node, *operands: Operand) -> list[Tensor]:
    """The outputs of a loop, whose states are closed."""
    count = node.get("states", 0)
    tensors = [activation(each, node) for each in operands]
    given, before, after = (
        tensors[: len(tensors) - 2 * count],
        tensors[len(tensors) - 2 * count : len(tensors) - count],
        tensors[len(tensors) - count :],
    )
    for number, (state, tensor) in enumerate(zip(before, after, strict=True)):
        rows = tensor.order[..., 0].transpose(0, 2, 1)
        closing = node if count == 1 else node.step(str(number))
        build.close(state, replace(tensor, order=rows), closing)
    return given


HANDLERS: dict[str, Handler] = {BEGIN: Handler(begin), END: Handler(end)}

"""A node list in the making: what the dialects share."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import defs, helper

from ...errors import ModelError
from .. import schema
from ..source import Node, Source, captured, constants_of

__all__ = ["QUANTIZING_OPSET", "Nodes", "Rewrite", "Rule", "rewritten"]

#: Gives a source that computes the same; the same object when there is nothing to rewrite.
Rewrite = Callable[[Source], Source]

#: The opset whose QuantizeLinear and DequantizeLinear the rewrites write: per axis, of any integer.
QUANTIZING_OPSET = 21


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
        made = Node(name, op, tuple(inputs), (tensor,), attributes, proto, opset, written)
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
        base, number = name, 2
        while name in self._taken:
            name, number = f"{base}/{number}", number + 1
        self._taken.add(name)
        return name


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
            rule(nodes, node)
    return nodes.finished()


def attributes_of(node: Node, op: str) -> dict[str, Any]:
    """The attributes of ``node`` that the standard operator ``op`` has too."""
    known = defs.get_schema(op, node.opset, "").attributes
    return {name: value for name, value in node.attributes.items() if name in known}


def _without_last_absent(inputs: Sequence[str]) -> list[str]:
    return [*inputs[:-1], *(name for name in inputs[-1:] if name)]

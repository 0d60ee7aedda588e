"""Real numbers that several QuantizeLinear round, or that others read as they are.

    before: a = Relu(c);  q = QuantizeLinear(a, s);  m = ReduceMean(a)
    after:  a = Relu(c);  b = Clip(a);  q = QuantizeLinear(b, s);  m = ReduceMean(a)

``a`` is then a value that no QuantizeLinear rounds: samples give it a type, as they do in a float
network, and each QuantizeLinear rounds it again. Where one rounds all that is read, nothing is
rewritten. An operator that computes a part of its output from another part, as a recurrent layer
does, is a reader of its output.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..registry import HANDLERS
from ..scans import END
from ..shapes import MOVING, SAME
from ..source import Node, Source, captured, constants_of
from .rewriting import Nodes

__all__ = ["single_roundings"]

#: operators that give elements of their inputs, which a QuantizeLinear behind them rounds
_PASSING = MOVING | SAME | {"Concat", "MaxPool", "Pad"}
_QUANTIZE, _DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"

#: what a QuantizeLinear rounds with; None for any other reader
_Reader = tuple[object, ...] | None


def single_roundings(source: Source) -> Source:
    """A Clip without bounds before each QuantizeLinear of numbers that have other readers too."""
    if not any(node.op == _QUANTIZE for node in source.nodes):
        return source
    constants = constants_of(source)
    shared = _shared(source, constants)
    if not shared:
        return source
    nodes, copies = Nodes(source), dict[tuple[object, ...], str]()
    for node in source.nodes:
        if node.op != _QUANTIZE or node.inputs[0] not in shared:
            nodes.keep(node)
            continue
        key = (node.inputs[0], _rounding(node, constants))
        if key not in copies:
            copies[key] = nodes.add(node, "Clip", node.inputs[:1], "/copy")
        nodes.keep(_reading(node, copies[key]))
    return nodes.finished()


def _shared(source: Source, constants: Mapping[str, NDArray[np.generic]]) -> set[str]:
    """The tensors of real numbers that a QuantizeLinear rounds, and others read otherwise."""
    varying = {port.name for port in source.inputs}
    #: of each tensor, those whose elements it has
    roots: dict[str, frozenset[str]] = {name: frozenset({name}) for name in varying}
    readers: dict[str, set[_Reader]] = {name: set() for name in varying}
    for node in source.nodes:
        names = [name for name in (*node.inputs, *captured(node.proto)) if name in varying]
        if not names or node.op in ("Shape", "Size"):
            continue
        varying.update(node.outputs)
        if node.op == END:  # it names the states, and reads none
            continue
        if node.op in _PASSING:
            below = frozenset().union(*(roots.get(name, frozenset()) for name in names))
            roots |= dict.fromkeys(node.outputs, below)
            continue
        reader = _rounding(node, constants) if node.op == _QUANTIZE else None
        for root in (root for name in names for root in roots.get(name, ())):
            readers[root].add(reader)
        if node.op not in (_QUANTIZE, _DEQUANTIZE):
            roots |= {name: frozenset({name}) for name in node.outputs}
            handler = HANDLERS.get(node.op)
            own: set[_Reader] = {None} if handler is not None and handler.rereads else set()
            readers |= {name: set(own) for name in node.outputs}
    for port in source.outputs:
        for root in roots.get(port.name, ()):
            readers[root].add(None)
    several = {root for root, found in readers.items() if len(found) > 1}
    return {name for name, found in roots.items() if not several.isdisjoint(found)}


def _rounding(node: Node, constants: Mapping[str, NDArray[np.generic]]) -> tuple[object, ...]:
    """What tells the result of a QuantizeLinear from that of another."""
    parts = [constants.get(name) for name in node.inputs[1:]]
    known = tuple(
        name if part is None else (part.dtype.name, part.tobytes())
        for name, part in zip(node.inputs[1:], parts, strict=True)
    )
    return (*known, node.get("output_dtype", 0))


def _reading(node: Node, name: str) -> Node:
    """A node that reads ``name`` in the place of its first input."""
    proto = type(node.proto)()
    proto.CopyFrom(node.proto)
    proto.input[0] = name
    return replace(node, inputs=(name, *node.inputs[1:]), proto=proto)

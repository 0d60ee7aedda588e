"""What becomes of every node of a model: in hardware, on the host, folded, or unsupported."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from .. import ir, passes
from ..errors import ModelError
from ..passes.fold_forward import kept_by_padding
from . import costs
from .dialects import standard
from .dialects.rewriting import shapes_of
from .importer import Reading, is_verbatim, read_nodes
from .registry import HANDLERS
from .source import Node, Source, read
from .training import refusals

__all__ = ["Survey", "Verdict", "refusal", "survey", "surveyed"]

HARDWARE, HOST, FOLDED, UNSUPPORTED = "hardware", "host", "folded", "unsupported"
#: the operator of a node that a dialect has refused, which no other dialect and no handler knows
_REFUSED = "refused"


@dataclass(frozen=True)
class Verdict:
    """What becomes of one node of the file; ``change`` is what would put it into hardware.

    ``key``: the node's first output.
    """

    name: str
    op: str
    verdict: str
    reason: str
    change: str = ""
    key: str = ""


@dataclass(frozen=True, eq=False)
class Survey:
    """Every node's verdict, in the file's order.

    ``graph``: the network where all of it has hardware, as :func:`~.importer.load` gives it.
    ``macs`` are products of a frame, ``parameters`` the stored numbers that nodes compute with.
    ``refused``: why nodes have no hardware, by their first outputs; ``shapes``: of the tensors, as
    far as they are known; ``error``: what is wrong with no node in particular.
    """

    verdicts: tuple[Verdict, ...]
    macs: int
    parameters: int
    graph: ir.Graph | None
    refused: Mapping[str, ModelError]
    shapes: Mapping[str, tuple[int, ...]]
    error: ModelError | None = None


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # infinities are refused in words
def survey(path: str | Path) -> Survey:
    """The verdicts on the model in file ``path``, all of them whatever is refused.

    Raises ModelError only for a file without nodes that can be read.
    """
    first, *others = read(path, foreign=True).readings()
    found = surveyed(first)
    again = (surveyed(source) for source in others if found.graph is None)
    return next((each for each in again if each.graph is not None), found)


def surveyed(found: Source) -> Survey:
    """The verdicts on a model that has been read."""
    source, reading, error = _read(found)
    graph = None
    if reading.graph is not None:
        try:
            graph = passes.run(reading.graph, passes.ON_READ)
            graph = replace(graph, verbatim=graph.verbatim and is_verbatim(source, found))
            real = any(port.value in graph.open_values for port in graph.inputs)
            if real and (early := _pre_processing(source)):
                reading, graph = replace(reading, refused=early, graph=None), None
        except ModelError as refusing:
            node = _blamed(refusing, source.nodes)
            error = refusing if node is None else None
            more = {} if node is None else {node.key: refusing}
            reading = replace(reading, refused=more, graph=None)
    shapes = {**shapes_of(found), **reading.shapes}
    return Survey(
        _verdicts(found, source, reading, graph),
        sum(costs.node_macs(node, shapes) for node in found.nodes),
        costs.stored_numbers(found),
        graph,
        _of_file(reading.refused, source),
        shapes,
        error,
    )


def _pre_processing(source: Source) -> dict[str, ModelError]:
    """Why the nodes before the first quantized values are the host's, by their first outputs; none
    where one of them is more than elementwise, or leaves without being quantized.
    """
    early = {port.name for port in source.inputs}
    found: dict[str, ModelError] = {}
    for node in source.nodes:
        varying = early.intersection(node.inputs)
        if node.op == "QuantizeLinear" or not varying:
            continue
        handler = HANDLERS.get(node.op)
        if handler is None or not (handler.elementwise or handler.moves):
            return {}
        early.update(node.outputs)
        found[node.key] = ModelError(
            f"{node}: is before the first quantized value; accepted in hardware: values behind "
            "QuantizeLinear and DequantizeLinear; insert them before this node"
        )
    return {} if early.intersection(port.name for port in source.outputs) else found


def _of_file(refused: Mapping[str, ModelError], source: Source) -> dict[str, ModelError]:
    """The refusals by the first outputs of the nodes in the file."""
    origins = {node.key: node.origin or node.key for node in source.nodes}
    return {origins.get(key, key): error for key, error in refused.items()}


def _read(found: Source) -> tuple[Source, Reading, ModelError | None]:
    """``found`` in standard operators, but for nodes that a dialect refuses; and its reading."""
    refused: dict[str, ModelError] = {**refusals(found)}
    source = found
    while True:
        try:
            source = standard(source)
            return source, read_nodes(source, refused), None
        except ModelError as error:
            node = _blamed(error, source.nodes)
            if node is None or node.key in refused:
                nothing = Reading(refused, {}, frozenset(), frozenset(), (), None, {})
                return source, nothing, error
            refused[node.key] = error
            source = _hidden(source, node)


def _hidden(source: Source, node: Node) -> Source:
    """``source`` with an operator in the place of ``node`` that nothing knows."""
    hidden = replace(node, op=f"{_REFUSED}::{node.op}", written=node.written or node.op)
    nodes = tuple(hidden if each is node else each for each in source.nodes)
    return replace(source, nodes=nodes)


def _blamed(error: ModelError, nodes: Iterable[Node]) -> Node | None:
    """The node that a message begins with; the longest name of several."""
    text = str(error)
    found = [node for node in nodes if text.startswith((f"{node}: ", f"{node.name}: "))]
    return max(found, key=lambda node: len(node.name), default=None)


# -- verdicts --------------------------------------------------------------------------------------


def _verdicts(
    found: Source, source: Source, reading: Reading, graph: ir.Graph | None
) -> tuple[Verdict, ...]:
    """A verdict for each node of the file, and for refused nodes that a dialect made of none."""
    parts: dict[str, list[Node]] = {}
    for node in source.nodes:
        parts.setdefault(node.origin or node.key, []).append(node)
    ops: dict[str, ir.Op] = {op.name: op for op in (graph.ops if graph else reading.ops)}
    kept = kept_by_padding(graph) if graph else {}
    rows = [_verdict(node, parts.pop(node.key, []), reading, ops, kept) for node in found.nodes]
    others = [node for made in parts.values() for node in made]
    return (
        *rows,
        *(refusal(n, reading.refused[n.key]) for n in others if n.key in reading.refused),
    )


def _verdict(
    node: Node,
    parts: list[Node],
    reading: Reading,
    ops: Mapping[str, ir.Op],
    kept: Mapping[str, str],
) -> Verdict:
    """The verdict on a node of the file, which ``parts`` stand for. ``kept``: operators that the
    padding of another one keeps from being folded into it.
    """
    keys = [part.key for part in parts]
    for key in keys:
        if key in reading.refused:
            return refusal(node, reading.refused[key])
    for key in keys:
        if key in reading.blocked:
            reason = f"depends on {reading.blocked[key]}, which has no hardware"
            return _row(node, UNSUPPORTED, reason, f"see {reading.blocked[key]}")
    if any(key in reading.on_host for key in keys):
        return _row(node, HOST, "a step on the network's output")
    made = [ops[part.name] for part in parts if part.name in ops]
    if made:
        kinds = ", ".join(dict.fromkeys(type(op).__name__ for op in made))
        readers = [kept[op.name] for op in made if op.name in kept]
        why = [f"; not folded into {name}, which pads this result with zeros" for name in readers]
        return _row(node, HARDWARE, f"computed by {kinds}{''.join(why)}")
    return _row(node, FOLDED, _folded(node, parts, reading))


def _folded(node: Node, parts: list[Node], reading: Reading) -> str:
    """Why a node leaves nothing behind."""
    if not parts:
        return "no output depends on what it computes"
    if all(part.key in reading.constant for part in parts):
        return "computed at compile time"
    if node.op in HANDLERS and HANDLERS[node.op].moves:
        return "changes only the order or the shape of elements"
    return "part of the operators around it"


def _row(node: Node, verdict: str, reason: str, change: str = "") -> Verdict:
    return Verdict(node.name, node.written or node.op, verdict, reason, change, node.key)


def refusal(node: Node, error: ModelError) -> Verdict:
    """The verdict on a refused node: what was found, and what is accepted."""
    text = str(error).removeprefix(f"{node}: ").removeprefix(f"{node.name}: ")
    reason, found, change = text.partition("; accepted: ")
    if found:
        return _row(node, UNSUPPORTED, reason, f"accepted: {change}")
    reason, _, change = text.rpartition("; ")
    return _row(node, UNSUPPORTED, reason or change, change if reason else "")

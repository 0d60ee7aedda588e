"""Loops: operators that depend on their own results of the step, or of the frame, before."""

from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph
from .ops import Op

__all__ = ["evaluate", "groups", "is_loop"]

Array = NDArray[Any]


def groups(graph: Graph, *, across: bool = False) -> list[tuple[Op, ...]]:
    """The operators in processing order, those of each loop within a frame together, in their
    order; ``across``: those of each loop across frames too.
    """
    if not any(op.delaying and (across or not op.keeping) for op in graph.ops):
        return [(op,) for op in graph.ops]
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place = {name: n for n, op in enumerate(graph.ops) for name in op.outputs}
    edges = [
        (place[name], n)
        for n, op in enumerate(graph.ops)
        for name in op.inputs
        if name in place and (across or not op.keeping)
    ]
    ways = np.array(edges, np.int64).reshape(-1, 2).T
    size = len(graph.ops)
    links = coo_array((np.ones(ways.shape[1], np.int8), (ways[0], ways[1])), shape=(size, size))
    _, label = connected_components(links, connection="strong")
    members: dict[int, list[Op]] = {}
    for which, op in zip(label.tolist(), graph.ops, strict=True):
        members.setdefault(which, []).append(op)
    return [tuple(members[which]) for which in _ordered(label[ways].T.tolist(), [*members])]


def _ordered(edges: list[list[int]], names: list[int]) -> list[int]:
    """``names``, each behind those that an edge leads from to it; otherwise as they are."""
    waits = dict.fromkeys(names, 0)
    after: dict[int, list[int]] = {name: [] for name in names}
    for source, sink in edges:
        if source != sink:
            waits[sink] += 1
            after[source].append(sink)
    ready = [name for name in names if not waits[name]]
    for name in ready:
        for sink in after[name]:
            waits[sink] -= 1
            if not waits[sink]:
                ready.append(sink)
    return ready


def is_loop(group: tuple[Op, ...]) -> bool:
    """Whether the operators of a group depend on their own results."""
    return len(group) > 1


def evaluate(
    graph: Graph, values: MutableMapping[str, Array], compute: Callable[..., Array]
) -> None:
    """Add to ``values``, [frames, rows, columns, channels] by name, which hold the inputs, those of
    all operators.

    ``compute(op, *inputs)`` gives an operator's output; of one in a loop that of a single row, or
    of a single frame. The frames of a network that keeps states are one sequence after a reset.
    """
    found = groups(graph)
    kept = [op for op in graph.ops if op.keeping]
    if not kept:
        _evaluate(graph, found, values, compute)
        return
    parts: list[dict[str, Array]] = []
    for frame in range(len(next(iter(values.values())))):
        part = {name: whole[frame : frame + 1] for name, whole in values.items()}
        for op in kept:  # a delayed frame is the one before the first
            nothing = np.zeros((1, *graph.shape(op.output).array), np.int64)
            part[op.output] = parts[-1][op.inputs[0]] if parts else compute(op, nothing)
        _evaluate(graph, found, part, compute)
        parts.append(part)
    for op in graph.ops:
        values[op.output] = np.concatenate([part[op.output] for part in parts])


def _evaluate(
    graph: Graph,
    found: Sequence[tuple[Op, ...]],
    values: MutableMapping[str, Array],
    compute: Callable[..., Array],
) -> None:
    """Add the values of all ``found`` operators but those that ``values`` has."""
    for group in found:
        if is_loop(group):
            values.update(_looped(graph, group, values, compute))
        elif not group[0].keeping:
            (op,) = group
            values[op.output] = compute(op, *(values[name] for name in op.inputs))


def _looped(
    graph: Graph,
    group: tuple[Op, ...],
    values: MutableMapping[str, Array],
    compute: Callable[..., Array],
) -> dict[str, Array]:
    """The outputs of a loop, row after row."""
    inside = {op.output for op in group}
    steps = graph.shape(group[0].output).height
    rows: dict[str, list[Array]] = {name: [] for name in inside}
    outside = {name: values[name] for op in group for name in op.inputs if name not in inside}
    frames = len(next(iter(values.values())))

    def row(name: str, step: int) -> Array:
        if name in inside:
            return rows[name][step]
        whole = outside[name]
        return whole if whole.shape[1] == 1 else whole[:, step : step + 1]

    def before(op: Op) -> Array:
        """A delayed map of one row is the row before the first."""
        shape = graph.shape(op.output)
        nothing = np.zeros((frames, 1, shape.width, shape.channels), np.int64)
        return compute(op, nothing, *(row(name, 0) for name in op.inputs[1:]))

    for step in range(steps):
        for op in group:
            if not op.delaying:
                found = compute(op, *(row(name, step) for name in op.inputs))
            elif step:
                found = row(op.inputs[0], step - 1)
            else:
                found = before(op)
            rows[op.output].append(found)
    return {name: np.concatenate(parts, axis=1) for name, parts in rows.items()}

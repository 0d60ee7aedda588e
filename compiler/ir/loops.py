"""Loops: operators of one step that depend on their own results of the step before."""

from collections.abc import Callable, MutableMapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .graph import Graph
from .ops import Op

__all__ = ["evaluate", "groups", "is_loop"]

Array = NDArray[Any]


def groups(graph: Graph) -> list[tuple[Op, ...]]:
    """The operators in processing order, those of each loop together, in their order."""
    if not any(op.delaying for op in graph.ops):
        return [(op,) for op in graph.ops]
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    place = {name: n for n, op in enumerate(graph.ops) for name in op.outputs}
    edges = [
        (place[name], n) for n, op in enumerate(graph.ops) for name in op.inputs if name in place
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

    ``compute(op, *inputs)`` gives an operator's output; of one in a loop that of a single row.
    """
    for group in groups(graph):
        if is_loop(group):
            values.update(_looped(graph, group, values, compute))
        else:
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

    for step in range(steps):
        for op in group:
            if not op.delaying:
                found = compute(op, *(row(name, step) for name in op.inputs))
            elif step:
                found = row(op.inputs[0], step - 1)
            else:  # a delayed map of one row is the row before the first
                shape = graph.shape(op.output)
                found = compute(op, np.zeros((frames, 1, shape.width, shape.channels), np.int64))
            rows[op.output].append(found)
    return {name: np.concatenate(parts, axis=1) for name, parts in rows.items()}

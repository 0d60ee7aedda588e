"""Values of different types before an operator that passes them on."""

from collections.abc import Iterator
from dataclasses import replace

from .. import ir

__all__ = ["open_selected"]


def open_selected(graph: ir.Graph) -> ir.Graph:
    """What a Concat, a pool or a move passes on in floats enters it in floats.

    Before: ``y = concat a, b``, of which ``a`` is rounded and ``y`` is not
    After:  ``a/open = a;  y = concat a/open, b``
    Exact:  a copy in floats has the numbers of the integers; samples will give ``a/open``, ``b``
            and ``y`` one type.
    """
    opened: dict[str, ir.Value] = {}
    ops: list[ir.Op] = []
    for op in graph.ops:
        rounded = dict.fromkeys(_rounded(graph, op))
        for name in rounded:
            if name not in opened:
                opened[name] = ir.Value(_unused(graph, name), graph.shape(name), None)
                ops.append(ir.Unary(f"{op.name}/open", (name,), opened[name].name))
        names = (opened[name].name if name in rounded else name for name in op.inputs)
        ops.append(replace(op, inputs=tuple(names)) if rounded else op)
    return graph.replace(ops, opened.values()) if opened else graph


def _rounded(graph: ir.Graph, op: ir.Op) -> Iterator[str]:
    """The inputs with a type of an operator that passes on their values without one."""
    if op.selecting and graph.values[op.output].quant is None:
        yield from (name for name in op.inputs if graph.values[name].quant is not None)


def _unused(graph: ir.Graph, name: str) -> str:
    name += "/open"
    while name in graph.values:
        name += "/open"
    return name

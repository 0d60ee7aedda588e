"""How low the range of a value must reach: not to the numbers that a Softmax gives no weight."""

from collections import defaultdict
from collections.abc import Mapping
from functools import singledispatch
from math import inf, log

from .. import ir
from .calibrate import Statistics

__all__ = ["floors"]


def floors(
    graph: ir.Graph, statistics: Mapping[str, Statistics], dtypes: Mapping[str, ir.Int]
) -> dict[str, float]:
    """By value the number below which clipping changes no result on the samples; minus infinity
    where there is none.

    ``exp(x)`` of numbers far below the largest ``x`` rounds to 0. So it does for the scores that an
    attention mask lowers by a large number, which would otherwise take all levels of the range.
    """
    readers: dict[str, list[ir.Op]] = defaultdict(list)
    for op in graph:
        for name in dict.fromkeys(op.inputs):
            readers[name].append(op)
    leaving = {port.value for port in graph.outputs}
    found: dict[str, float] = {}
    computed = [name for op in reversed(graph.ops) for name in op.outputs]
    for name in (*computed, *(port.value for port in graph.inputs)):
        each = [_needed(op, name, found, statistics, dtypes) for op in readers[name]]
        found[name] = -inf if name in leaving else min(each, default=-inf)
    return found


@singledispatch
def _needed(
    op: ir.Op,
    name: str,
    found: Mapping[str, float],
    statistics: Mapping[str, Statistics],
    dtypes: Mapping[str, ir.Int],
) -> float:
    """The number below which ``op`` does not tell the numbers of its operand ``name`` apart, where
    those of its results are not told apart below what is ``found``.
    """
    return found.get(op.outputs[0], -inf) if op.selecting else -inf


@_needed.register
def _(
    op: ir.Unary,
    name: str,
    found: Mapping[str, float],
    statistics: Mapping[str, Statistics],
    dtypes: Mapping[str, ir.Int],
) -> float:
    if op.function != ir.functions.Exp() or op.clamp != ir.Clamp():
        return -inf
    levels = float((1 << dtypes[op.output].bits) - 1)
    return statistics[name].high - log(2 * levels) - 1


@_needed.register
def _(
    op: ir.Add,
    name: str,
    found: Mapping[str, float],
    statistics: Mapping[str, Statistics],
    dtypes: Mapping[str, ir.Int],
) -> float:
    first, second = op.inputs
    other = second if name == first else first
    return found.get(op.output, -inf) - max(statistics[other].high, 0.0)


@_needed.register
def _(
    op: ir.ops.Sub,
    name: str,
    found: Mapping[str, float],
    statistics: Mapping[str, Statistics],
    dtypes: Mapping[str, ir.Int],
) -> float:
    below = found.get(op.output, -inf)
    if below == -inf:
        return -inf
    lowest = statistics[op.inputs[1]].low
    return lowest if name == op.inputs[1] else lowest + below

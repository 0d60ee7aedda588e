"""Values that need more bits: those around a function that is steep where they are small."""

import numpy as np

from .. import ir

__all__ = ["sensitive"]

#: a small number, and by how many of it a steep function changes up to twice that number
SMALL, CHANGE = 2.0**-12, 16


def sensitive(graph: ir.Graph) -> frozenset[str]:
    """The inputs and outputs of steep functions, such as 1 / x and the square root, and what the
    inputs are means, sums or selections of: a variance, its squares, the factor that it becomes.

    A step of a few bits is there larger than most of the values, or than the results.
    """
    found: set[str] = set()
    for op in graph:
        if isinstance(op, ir.Elementwise):
            for number, name in enumerate(op.inputs):
                if _is_steep(op, number):
                    found |= {op.output, *_origins(graph, name)}
    return frozenset(found)


def _origins(graph: ir.Graph, value: str) -> set[str]:
    """A value, and those that it is a mean, a sum, a multiple or a selection of."""
    found, pending = set[str](), [value]
    while pending:
        name = pending.pop()
        op = graph.producer(name)
        found.add(name)
        if op is not None and (op.selecting or isinstance(op, ir.AveragePool) or _scales(op)):
            pending += [source for source in op.inputs if source not in found]
    return found - {port.value for port in graph.inputs}


def _scales(op: ir.Op) -> bool:
    """Whether the operator multiplies and shifts each channel, or sums."""
    if not isinstance(op, ir.Conv):
        return False
    each = op.window.taps == 1 and op.weight.shape[3] == 1 and op.channels == op.groups
    return each or bool((op.weight == 1).all())


def _is_steep(op: ir.Elementwise, number: int) -> bool:
    """Whether small values of an input that are close together have results that are not; the
    others are 1.
    """
    operands = [np.ones(2)] * len(op.inputs)
    operands[number] = np.array([SMALL, 2 * SMALL])
    with np.errstate(all="ignore"):
        change = np.abs(np.diff(op.compute(*operands)))
    return bool((change > CHANGE * SMALL).all())

"""Refuse what no later pass can put right."""

from math import isfinite

from .. import ir
from ..errors import ModelError

__all__ = ["refuse_endless_pads"]


def refuse_endless_pads(graph: ir.Graph) -> ir.Graph:
    """The graph as it is: every Pad that is left has a finite value.

    Raises ModelError for a pad value that no integer stands for.
    """
    for op in graph.ops:
        if isinstance(op, ir.Gather | ir.Pad) and not isfinite(op.fill):
            raise ModelError(
                f"{op.name}: pads with {op.fill}; accepted: a finite number, or -inf before a "
                "MaxPool that alone reads the border, and in each window some of the map; pad in "
                "the MaxPool or Conv after it instead"
            )
    return graph

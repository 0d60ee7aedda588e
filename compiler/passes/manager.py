"""Run passes over a graph, and check the graph after each."""

from collections.abc import Callable, Iterable

from .. import ir

__all__ = ["Pass", "run"]

#: Takes a legal graph and gives a legal graph that computes the same; or raises ModelError for what
#: no later pass and no hardware accepts.
Pass = Callable[[ir.Graph], ir.Graph]


def run(graph: ir.Graph, passes: Iterable[Pass]) -> ir.Graph:
    """The graph after each of ``passes`` in turn.

    Raises :class:`~.ir.IRError` that names the pass that left an illegal graph.
    """
    for each in passes:
        graph = each(graph)
        ir.verify(graph, after=each.__name__)
    return graph

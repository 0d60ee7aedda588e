"""When a value may disappear into the operator that reads it."""

from .. import ir

__all__ = ["sole_reader"]


def sole_reader(graph: ir.Graph, name: str) -> ir.Op | None:
    """The only operator that reads the value; None when it has others, or leaves the network."""
    if any(port.value == name for port in graph.outputs):
        return None
    readers = graph.consumers(name)
    return readers[0] if len(readers) == 1 and readers[0].inputs.count(name) == 1 else None

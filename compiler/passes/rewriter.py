"""A graph that a pass is changing: who computes and who reads each value, after every change."""

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import replace

from .. import ir

__all__ = ["Rewriter"]


class Rewriter:
    """Operators in slots, in processing order. Every change takes constant time.

    ``values`` is the graph's table, which a pass may change; ``verbatim`` is the graph's, which a
    pass sets to False where it rounds a number. Iteration visits every operator that
    is in its slot when its turn comes.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.values = dict(graph.values)
        self.verbatim = graph.verbatim
        self._graph = graph
        self._slots: list[ir.Op | None] = [None] * len(graph.ops)
        self._producer: dict[str, int] = {}
        self._readers: dict[str, Counter[int]] = {name: Counter() for name in graph.values}
        self._leaving = {port.value for port in graph.outputs}
        for slot, op in enumerate(graph.ops):
            self._fill(slot, op)

    def __iter__(self) -> Iterator[ir.Op]:
        for slot in range(len(self._slots)):
            op = self._slots[slot]
            if op is not None:
                yield op

    def producer(self, name: str) -> ir.Op | None:
        """The operator that computes a value; None for an input of the network."""
        slot = self._producer.get(name)
        return None if slot is None else self._slots[slot]

    def sole_reader(self, name: str) -> ir.Op | None:
        """The only operator that reads a value, once; None when there are others, or when the value
        leaves the network.

        Such a value may disappear into its reader.
        """
        readers = self._readers[name]
        if name in self._leaving or readers.total() != 1:
            return None
        (slot,) = readers
        return self._slots[slot]

    def read_within(self, name: str, outputs: Container[str]) -> bool:
        """Whether all readers of a value compute one of ``outputs``, and it stays in the network.

        Such a value may disappear with them.
        """
        readers = (self._slots[slot] for slot in self._readers[name])
        return name not in self._leaving and all(op and op.output in outputs for op in readers)

    def erase(self, op: ir.Op) -> None:
        """Remove an operator. Another one must compute its output, or nothing may read it."""
        self._clear(self._producer[op.output])

    def substitute(self, op: ir.Op, by: ir.Op) -> None:
        """Put ``by`` into the slot of ``op``."""
        slot = self._producer[op.output]
        self._clear(slot)
        self._fill(slot, by)

    def graph(self) -> ir.Graph:
        """The graph as it is now, without the values that nothing uses any more."""
        changed = self._graph.replace(self, self.values.values())
        return replace(changed, verbatim=self.verbatim)

    def _fill(self, slot: int, op: ir.Op) -> None:
        self._slots[slot] = op
        self._producer |= dict.fromkeys(op.outputs, slot)
        for name in op.inputs:
            self._readers.setdefault(name, Counter())[slot] += 1

    def _clear(self, slot: int) -> None:
        op = self._slots[slot]
        assert op is not None, f"nothing is in slot {slot}"
        self._slots[slot] = None
        for name in op.outputs:
            del self._producer[name]
        for name in op.inputs:
            self._readers[name][slot] -= 1
            if not self._readers[name][slot]:
                del self._readers[name][slot]

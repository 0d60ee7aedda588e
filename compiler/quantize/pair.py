"""The float network and the integer network that is made of it, run side by side on samples."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..ir.feeds import count, take
from ..passes.real_weights import real
from .float_model import Floats, apply, evaluate, model_input
from .rounding import Moments

__all__ = ["Pair", "spread"]

#: elements of values that are kept at a time
KEPT = 1 << 26
#: samples at most, and at least
MOST, FEWEST = 256, 8


class Pair:
    """Both networks as far as the integer one has been made.

    ``wanted``: the convolutions whose :meth:`moments` will be asked for; without any nothing is
    run. ``graph`` is the float network, ``typed`` the same with the ``Quant`` of every value. Of
    many ``samples`` some are taken, spread evenly. :meth:`step` is called for every operator in
    flow order; values that nothing reads any more are dropped.
    """

    def __init__(
        self,
        graph: ir.Graph,
        typed: ir.Graph,
        samples: NDArray[Any] | ir.Feeds,
        wanted: Iterable[ir.Op],
    ) -> None:
        self._wanted = {op.output for op in wanted}
        self._graph, self._typed = graph, typed
        self._uses = Counter(name for op in graph for name in op.inputs)
        self._real: dict[str, Floats] = {}
        self._found: dict[str, Floats] = {}
        #: what comes before that which it is computed from, without the errors of earlier steps
        self._delayed: dict[str, Floats] = {}
        if not self._wanted:
            return
        entered = model_input(graph, spread(graph, samples, MOST))
        if delayed := [op.output for op in graph if op.delaying]:
            exact = evaluate(graph, entered)
            self._delayed = {name: exact[name] for name in delayed}
        for name, entering in entered.items():
            port = next(port for port in graph.inputs if port.name == name)
            self._real[port.value] = entering
            self._found[port.value] = self._through(port.value, entering)

    def moments(self, op: ir.Op) -> Moments | None:
        """What the weights of ``op`` meet; None where they were not asked for."""
        if not isinstance(op, ir.Conv) or op.output not in self._wanted:
            return None
        return Moments.of(op, self._found[op.inputs[0]], self._real[op.inputs[0]])

    def step(self, op: ir.Op, made: ir.Op) -> None:
        """Run the float operator and the integer one that was ``made`` of it."""
        if not self._wanted:
            return
        self._wanted.discard(op.output)
        shape = self._graph.shape(op.output).array
        for values, runs in ((self._real, op), (self._found, made)):
            if op.output in self._delayed:
                y = self._delayed[op.output]
            else:
                y = apply(real(runs), *(values[name] for name in op.inputs))
            values[op.output] = y.reshape(len(y), *shape)
        self._found[op.output] = self._through(op.output, self._found[op.output])
        for name in op.inputs:
            self._uses[name] -= 1
            if not self._uses[name]:
                self._real.pop(name, None)
                self._found.pop(name, None)

    def _through(self, name: str, x: Floats) -> Floats:
        quant = self._typed.quant(name)
        return np.asarray(quant.dequantize(quant.quantize(x)), np.float32)


def spread(graph: ir.Graph, samples: NDArray[Any] | ir.Feeds, most: int) -> ir.Feeds:
    """At most so many of the samples, and as there is memory for, spread evenly; of a sequence the
    first ones.
    """
    given = ir.feeds(graph, samples)
    largest = max(value.shape.size for value in graph.values.values())
    limit = min(most, max(FEWEST, KEPT // (8 * largest)))
    total = count(given)
    if graph.keeps:
        return take(given, slice(limit))
    return take(given, np.unique(np.linspace(0, total - 1, min(limit, total)).astype(np.int64)))

"""The calibration method of each value, by the error that it makes in the layers that read it."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..passes.real_weights import real
from ..progress import Progress, silent
from .calibrate import METHODS, Statistics
from .float_model import Floats, apply, evaluate, model_input
from .pair import spread

__all__ = ["LayerErrors"]

Affine = Callable[[float, float, ir.Int], ir.Quant]

#: samples that show the errors
SAMPLES = 32
#: shares of the range of least mean square error that are tried in addition to the methods' own
SHARES = (0.7, 0.85, 1.15)


class LayerErrors:
    """Which range a group of values gets, of those that the methods propose.

    The error of a range: the noise that rounding the values to it makes at the outputs of the
    operators that read them, relative to the power of these outputs, summed; all else in floats.
    """

    def __init__(
        self,
        graph: ir.Graph,
        samples: NDArray[Any] | ir.Feeds,
        progress: Progress = silent,
    ) -> None:
        self._graph, self._progress = graph, progress
        self._values = evaluate(graph, model_input(graph, spread(graph, samples, SAMPLES)))
        self._readers: dict[str, list[ir.Op]] = {}
        for op in graph:
            for name in op.inputs if not op.selecting else ():
                self._readers.setdefault(name, []).append(op)

    def quant(
        self, group: frozenset[str], seen: Statistics, dtype: ir.Int, affine: Affine
    ) -> ir.Quant:
        """The best ``affine(low, high, dtype)`` for a group of values."""
        self._progress(f"calibrating: {min(group)}")
        proposed = [method(seen, dtype.high - dtype.low + 1) for method in METHODS.values()]
        low, high = proposed[-1]
        proposed += [(low * share, high * share) for share in SHARES]
        quants = list(dict.fromkeys(affine(low, high, dtype) for low, high in proposed))
        if len(quants) == 1:
            return quants[0]
        return min(quants, key=lambda quant: self._error(group, quant))

    def _error(self, group: frozenset[str], quant: ir.Quant) -> float:
        rounded = {name: self._rounded(self._values[name], quant) for name in sorted(group)}
        found = 0.0
        for name in sorted(group):
            readers = self._readers.get(name, [])
            for op in readers:
                inputs = (rounded.get(each, self._values[each]) for each in op.inputs)
                found += _relative(apply(real(op), *inputs), self._values[op.output])
            if not readers and name in {port.value for port in self._graph.outputs}:
                found += _relative(rounded[name], self._values[name])
        return found

    @staticmethod
    def _rounded(x: Floats, quant: ir.Quant) -> Floats:
        return np.asarray(quant.dequantize(quant.quantize(x)), np.float32)


def _relative(found: Floats, wanted: Floats) -> float:
    wanted = wanted.reshape(found.shape)
    power = float(np.square(wanted, dtype=np.float64).mean())
    return float(np.square(found - wanted, dtype=np.float64).mean()) / power if power else 0.0

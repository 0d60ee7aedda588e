"""Let the hardware find the winning class."""

from dataclasses import replace

import numpy as np

from .. import ir
from ..errors import ModelError

__all__ = ["argmax_in_hardware"]


def argmax_in_hardware(graph: ir.Graph) -> ir.Graph:
    """Put an :class:`~.ir.ArgMax` at the end, in place of what the host would do with the scores.

    Before: ``scores -> host: dequantize, softmax`` (or argmax). After: ``argmax scores -> index``.
    Exact, because dequantizing and softmax keep the order; of equal scores the first wins, as in
    ONNX.
    """
    (port,) = graph.outputs
    value = graph.values[port.value]
    if graph.producer(port.value) and isinstance(graph.producer(port.value), ir.ArgMax):
        return graph
    if value.shape.pixels != 1:
        raise ModelError(
            f"{port.name}: the output is a map of {value.shape}, so there is no single "
            "winning class; compile without --argmax"
        )
    size = value.shape.size
    if not np.array_equal(port.order.reshape(-1), np.arange(size)):
        raise ModelError(
            f"{port.name}: the scores leave in another order than the model's; compile "
            "without --argmax"
        )
    dtype = ir.Int(max(1, (size - 1).bit_length()), False)
    winner = ir.Value(f"{port.value}_argmax", ir.Shape(1, 1, 1), ir.Quant(dtype, 1.0, 0))
    op = ir.ArgMax(f"{port.name}/ArgMax", (port.value,), winner.name)
    own = any(isinstance(step, ir.HostArgMax) for step in port.tail)
    shape = port.shape if own else (1,)
    output = replace(
        port, value=winner.name, shape=shape, dtype="int64", order=np.zeros(1, np.int64), tail=()
    )
    return replace(graph, outputs=(output,)).replace((*graph.ops, op), [winner])

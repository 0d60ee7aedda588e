"""Let the hardware find the winning class."""

from dataclasses import replace

import numpy as np

from .. import ir
from ..errors import ModelError

__all__ = ["argmax_in_hardware"]


def argmax_in_hardware(graph: ir.Graph) -> ir.Graph:
    """Put an :class:`~.ir.ArgMax` before an output, in place of what the host would do with scores.

    Before: ``scores -> host: dequantize, softmax`` (or argmax). After: ``argmax scores -> index``.
    Exact, because dequantizing and softmax keep the order; of equal scores the first wins, as in
    ONNX. A lone output is taken for scores; of several those that the host would end with Softmax
    or ArgMax.
    """
    chosen = graph.outputs
    if len(chosen) > 1:
        chosen = tuple(port for port in graph.outputs if any(map(_is_class, port.tail)))
        ends = {op.output for op in graph if isinstance(op, ir.ArgMax)}
        if not chosen and not any(port.value in ends for port in graph.outputs):
            names = ", ".join(port.name for port in graph.outputs)
            raise ModelError(
                f"{graph.name}: none of the outputs {names} ends in Softmax or ArgMax, so there is "
                "no winning class; compile without --argmax"
            )
    for port in chosen:
        graph = _with_argmax(graph, port)
    return graph


def _is_class(step: ir.HostOp) -> bool:
    return isinstance(step, ir.OverClasses | ir.HostArgMax)


def _with_argmax(graph: ir.Graph, port: ir.OutputPort) -> ir.Graph:
    """One output as the index of its largest score."""
    value = graph.values[port.value]
    if isinstance(graph.producer(port.value), ir.ArgMax):
        return graph
    if any(isinstance(step, ir.HostArgMax) and (step.lowest or step.last) for step in port.tail):
        raise ModelError(
            f"{port.name}: the output is the index of the lowest score, or of the last of equals; "
            "accepted: ArgMax that takes the first; compile without --argmax"
        )
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
    winner = ir.Value(_unused(graph, port), ir.Shape(1, 1, 1), ir.Quant(dtype, 1.0, 0))
    op = ir.ArgMax(f"{port.name}/ArgMax", (port.value,), winner.name)
    own = any(isinstance(step, ir.HostArgMax) for step in port.tail)
    shape = port.shape if own else (1,)
    output = replace(
        port, value=winner.name, shape=shape, dtype="int64", order=np.zeros(1, np.int64), tail=()
    )
    outputs = tuple(output if one is port else one for one in graph.outputs)
    return replace(graph, outputs=outputs).replace((*graph.ops, op), [winner])


def _unused(graph: ir.Graph, port: ir.OutputPort) -> str:
    """A name for the index."""
    name = f"{port.value}_argmax"
    while name in graph.values:
        name += "/2"
    return name

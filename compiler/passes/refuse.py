"""Refuse what no later pass can put right."""

from math import isfinite

from .. import ir
from ..errors import ModelError

__all__ = ["refuse_endless_pads", "refuse_mixed_types"]


def refuse_mixed_types(graph: ir.Graph) -> ir.Graph:
    """The graph as it is: all of it in floats, or in integers up to its open ends.

    Samples give an open end its range. Raises ModelError when a network is quantized only in part.
    """
    if not any(value.quant for value in graph.values.values()):
        return graph
    for op in graph.ops:
        if op.output in graph.open_ends and not _fixed(op, graph):
            continue
        if graph.values[op.output].quant is None:
            raise ModelError(
                f"{op.name}: its output {op.output} is not quantized although the network is; "
                "accepted: QuantizeLinear and DequantizeLinear after every operator but Relu and "
                "Clip; insert them, or give the float32 network"
            )
        if not op.quantized:
            raise ModelError(
                f"{op.name}: its weights are float32 although the network is quantized; accepted: "
                "integer weights through DequantizeLinear; quantize them too"
            )
    for port in graph.inputs:
        if graph.values[port.value].quant is None:
            raise ModelError(
                f"{port.name}: the input is not quantized although the network is; accepted: "
                "QuantizeLinear and DequantizeLinear after the input"
            )
    return graph


def _fixed(op: ir.Op, graph: ir.Graph) -> bool:
    """Whether an output without a type must have that of inputs that have one."""
    return op.selecting and any(graph.values[name].quant is not None for name in op.inputs)


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

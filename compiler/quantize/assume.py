"""Types before calibration: what a plan needs to know of a network that is still in floats."""

from dataclasses import replace

import numpy as np

from .. import ir
from .policy import DEFAULT, Policy
from .scheme import types

__all__ = ["assume_types"]

#: largest real number of a value, about: a function's table is then as large as in real networks
_LARGEST = 8.0


def assume_types(graph: ir.Graph, policy: Policy = DEFAULT) -> ir.Graph:
    """The graph with the types of ``policy`` and the largest weights that it allows.

    Shapes, types and costs are those of the network after calibration, with accumulators at their
    widest. The values have no meaning.
    """
    policy.check(graph)
    dtypes = types(graph, policy)
    values = [
        replace(value, quant=ir.Quant(dtype, 2 * _LARGEST / (1 << dtype.bits), 0))
        for value in graph.values.values()
        for dtype in [dtypes[value.name]]
        if value.quant is None
    ]
    return graph.replace([op if op.quantized else _assume(op, policy) for op in graph], values)


def _assume(op: ir.Op, policy: Policy) -> ir.Op:
    if not isinstance(op, ir.Conv):
        return op
    dtype, ones = policy.weight(op.name), np.ones(op.channels, np.float32)
    return replace(
        op,
        weight=np.where(op.weight < 0, -dtype.high, dtype.high).astype(dtype.numpy),
        weight_scale=ones,
        bias=None,
        bias_scale=None,
    )

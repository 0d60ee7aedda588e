"""Types before calibration: what a plan needs to know of a network that is still in floats."""

from dataclasses import replace

import numpy as np

from .. import ir

__all__ = ["assume_types"]

_INT8 = ir.Quant(ir.Int(8, True), 1.0, 0)


def assume_types(graph: ir.Graph, weight_bits: int = 8) -> ir.Graph:
    """The graph with int8 everywhere and the largest weights of ``weight_bits``: shapes, types and
    costs are those of the network after calibration (accumulators at their widest); its values mean
    nothing.
    """
    values = [replace(value, quant=_INT8) for value in graph.values.values()]
    return graph.replace([_assume(op, (1 << (weight_bits - 1)) - 1) for op in graph], values)


def _assume(op: ir.Op, most: int) -> ir.Op:
    if not isinstance(op, ir.Conv):
        return op
    ones = np.ones(op.channels, np.float32)
    return replace(
        op,
        weight=np.where(op.weight < 0, -most, most).astype(np.int8),
        weight_scale=ones,
        bias=None,
        bias_scale=None,
    )

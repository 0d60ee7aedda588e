"""Types before calibration: what a plan needs to know of a network that is still in floats."""

from dataclasses import replace

import numpy as np

from .. import ir

__all__ = ["assume_int8"]

_INT8 = ir.Quant(ir.Int(8, True), 1.0, 0)


def assume_int8(graph: ir.Graph) -> ir.Graph:
    """The graph with int8 everywhere and the largest weights: shapes, types and costs are those of
    the network after calibration (accumulators at their widest); its values mean nothing.
    """
    values = [replace(value, quant=_INT8) for value in graph.values.values()]
    return graph.replace([_assume(op) for op in graph], values)


def _assume(op: ir.Op) -> ir.Op:
    if not isinstance(op, ir.Conv):
        return op
    ones = np.ones(op.channels, np.float32)
    return replace(op, weight=np.where(op.weight < 0, -127, 127).astype(np.int8), weight_scale=ones,
                   bias=None, bias_scale=None)

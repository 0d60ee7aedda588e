"""Undo the quantization of weights where nothing else is quantized."""

from dataclasses import replace

import numpy as np

from .. import ir

__all__ = ["real", "real_weights"]


def real_weights(graph: ir.Graph) -> ir.Graph:
    """A network whose weights alone are quantized becomes the float network that it computes.

    Before: ``y = conv x, weight int8 scaled``, and no value has a ``Quant``
    After:  ``y = conv x, weight float32``
    Exact:  up to the rounding of ``weight * weight_scale`` to float32, which is what
            DequantizeLinear computes.
    """
    if any(value.quant for value in graph.values.values()):
        return graph
    return graph.replace(real(op) for op in graph.ops)


def real(op: ir.Op) -> ir.Op:
    """The operator with float weights."""
    if not isinstance(op, ir.Conv):
        return op
    weight, bias = op.weight.astype(np.float32), op.bias
    if op.weight_scale is not None:
        weight = weight * op.weight_scale[:, None, None, None]
    if bias is not None and op.bias_scale is not None:
        bias = bias.astype(np.float32) * op.bias_scale
    return replace(op, weight=weight, weight_scale=None, bias=bias, bias_scale=None)

"""Fold a multiplication and addition a channel into the linear operator before it."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from .sole import sole_reader

__all__ = ["fold_affine"]


def fold_affine(graph: ir.Graph) -> ir.Graph:
    """Batch normalization, scales and biases move into the weights.

    Before: ``a = conv x, w, b;  y = conv a, f, c`` depthwise 1x1, ``a`` not rounded and read once
    After:  ``y = conv x, w * f, b * f + c``
    Exact:  the operator is linear and nothing is rounded between. Integer weights keep their
            integers; the fold is left out when ``weight_scale * f`` is no float32. Float weights
            are rounded to float32 once more, as in any exporter.
    """
    for affine in graph.ops:
        source = graph.producer(affine.inputs[0])
        if not (
            _is_affine(affine)
            and isinstance(source, ir.Conv)
            and source.clamp == ir.Clamp()
            and graph.values[source.output].quant is None
            and sole_reader(graph, source.output) is affine
        ):
            continue
        folded = _folded(source, affine)
        if folded is not None:
            return fold_affine(
                graph.replace(
                    folded if op is affine else op for op in graph.ops if op is not source
                )
            )
    return graph


def _is_affine(op: ir.Op) -> bool:
    return (
        isinstance(op, ir.Conv)
        and op.window == ir.Window()
        and op.groups == op.channels
        and op.weight.shape[3] == 1
    )


def _folded(source: ir.Conv, affine: ir.Op) -> ir.Conv | None:
    assert isinstance(affine, ir.Conv)
    factor = affine.weight.reshape(-1).astype(np.float64)
    if affine.weight_scale is not None:
        factor = factor * affine.weight_scale
    merged = replace(source, output=affine.output, clamp=affine.clamp)
    if source.weight_scale is None:
        weight = (source.weight.astype(np.float64) * factor[:, None, None, None]).astype(np.float32)
        bias, bias_scale = _bias(source, affine, factor, np.float32)
        return replace(merged, weight=weight, bias=bias, bias_scale=bias_scale)
    scale = source.weight_scale * np.abs(factor)
    if (factor == 0).any() or (scale != scale.astype(np.float32)).any():
        return None
    sign = np.sign(factor).astype(source.weight.dtype)[:, None, None, None]
    bias, bias_scale = _bias(source, affine, factor, np.float64)
    return replace(
        merged,
        weight=source.weight * sign,
        weight_scale=scale.astype(np.float32),
        bias=bias,
        bias_scale=bias_scale,
    )


def _bias(
    source: ir.Conv,
    affine: ir.Conv,
    factor: NDArray[np.float64],
    dtype: type,
) -> tuple[NDArray[Any] | None, NDArray[np.float32] | None]:
    """``b * f + c``, kept in integers when only one of the two is there."""
    if source.bias is None:
        return affine.bias, affine.bias_scale
    if affine.bias is None and (factor == 1).all():
        return source.bias, source.bias_scale
    total = [
        b * Fraction(float(f)) + c
        for b, f, c in zip(source.exact_bias(), factor, affine.exact_bias(), strict=True)
    ]
    return np.array([float(t) for t in total], dtype), None

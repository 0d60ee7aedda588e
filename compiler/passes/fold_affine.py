"""Fold a multiplication and addition a channel into the linear operator before it."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from .rewriter import Rewriter

__all__ = ["fold_affine"]


def fold_affine(graph: ir.Graph) -> ir.Graph:
    """Batch normalization, scales and biases move into the weights.

    Before: ``a = conv x, w, b;  y = conv a, f, c`` depthwise 1x1, ``a`` not rounded and read once
    After:  ``y = conv x, w * f, b * f + c``
    Exact:  the operator is linear and nothing is rounded between. Integer weights keep their
            integers; the fold is left out when ``weight_scale * f`` is no float32. Float weights
            are rounded to float32 once more, as in any exporter.
    """
    rewriter = Rewriter(graph)
    for op in rewriter:
        current: ir.Op | None = op
        while isinstance(current, ir.Conv) and _is_affine(current):
            current = _fold(rewriter, current)  # which may be affine itself
    return rewriter.graph()


def _is_affine(op: ir.Conv) -> bool:
    return op.window == ir.Window() and op.groups == op.channels and op.weight.shape[3] == 1


def _fold(rewriter: Rewriter, affine: ir.Conv) -> ir.Conv | None:
    """The operator that computes both; None where ``affine`` stays."""
    source = rewriter.producer(affine.inputs[0])
    if (
        not isinstance(source, ir.Conv)
        or source.clamp != ir.Clamp()
        or rewriter.values[source.output].quant is not None
        or rewriter.sole_reader(source.output) is not affine
    ):
        return None
    folded = _folded(source, affine)
    if folded is not None:
        rewriter.erase(source)
        rewriter.substitute(affine, folded)
    return folded


def _folded(source: ir.Conv, affine: ir.Conv) -> ir.Conv | None:
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

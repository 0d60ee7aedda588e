"""Fold a multiplication and addition a channel into the linear operator before it."""

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from .rewriter import Rewriter

__all__ = ["fold_affine", "is_affine"]


def fold_affine(graph: ir.Graph) -> ir.Graph:
    """Batch normalization, scales and biases move into the weights.

    Before: ``a = conv x, w, b;  y = conv a, f, c`` depthwise 1x1, ``a`` not rounded and read once
    After:  ``y = conv x, w * f, b * f + c``
    Exact:  the operator is linear and nothing is rounded between. Float weights are rounded to
            float32 once more, as in any exporter. Integer weights keep their integers; where
            ``weight_scale * f`` is no float32 it is rounded to one, and the graph is no longer
            ``verbatim``. The fold is left out where that is 0 or infinite.
    """
    rewriter = Rewriter(graph)
    for op in rewriter:
        current: ir.Op | None = op
        while isinstance(current, ir.Conv) and is_affine(current):
            current = _fold(rewriter, current)  # which may be affine itself
    return rewriter.graph()


def is_affine(op: ir.Conv) -> bool:
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
    folded = _folded(rewriter, source, affine)
    if folded is not None:
        rewriter.erase(source)
        rewriter.substitute(affine, folded)
    return folded


def _folded(rewriter: Rewriter, source: ir.Conv, affine: ir.Conv) -> ir.Conv | None:
    factor = affine.weight.reshape(-1).astype(np.float64)
    if affine.weight_scale is not None:
        factor = factor * affine.weight_scale
    merged = replace(source, output=affine.output, clamp=affine.clamp)
    if source.weight_scale is None:
        weight = (source.weight.astype(np.float64) * factor[:, None, None, None]).astype(np.float32)
        bias, bias_scale = _bias(source, affine, factor, np.float32)
        return replace(merged, weight=weight, bias=bias, bias_scale=bias_scale)
    exact = source.weight_scale * np.where(factor == 0, 1, np.abs(factor))
    with np.errstate(over="ignore", under="ignore"):
        scale = exact.astype(np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all():
        return None
    if (scale != exact).any():
        rewriter.verbatim = False
    sign = np.sign(factor).astype(np.int64)[:, None, None, None]
    bias, bias_scale = _bias(source, affine, factor, np.float64)
    return replace(
        merged,
        weight=_narrow(source.weight * sign),
        weight_scale=scale,
        bias=bias,
        bias_scale=bias_scale,
    )


def _narrow(weight: NDArray[Any]) -> NDArray[Any]:
    """Integers in the narrowest signed type: the opposite of -128 needs another one."""
    held = ir.Int.holding(min(int(weight.min(initial=0)), -1), int(weight.max(initial=0)))
    return weight.astype(held.numpy)


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

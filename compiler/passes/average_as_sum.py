"""Turn an average that is scaled before it is rounded into a convolution."""

from dataclasses import replace

import numpy as np

from .. import ir
from .fold_affine import is_affine
from .rewriter import Rewriter

__all__ = ["average_as_sum"]


def average_as_sum(graph: ir.Graph) -> ir.Graph:
    """The factor of an average becomes the scale of a sum, where nothing is rounded between.

    Before: ``a = averagepool x;  y = conv a, f, c`` depthwise 1x1; ``x`` is rounded, and ``a`` is
            not and is read once
    After:  ``y = conv x, c`` depthwise over the window, weight ±1 scaled ``|f| / taps``
    Exact:  up to the rounding of ``f / taps`` to float32; where it is rounded, the graph is no
            longer ``verbatim``. Averages that do not count all taps stay.
    """
    rewriter = Rewriter(graph)
    for op in rewriter:
        if isinstance(op, ir.Conv) and is_affine(op) and not op.quantized:
            _fold(rewriter, op)
    return rewriter.graph()


def _fold(rewriter: Rewriter, affine: ir.Conv) -> None:
    pool = rewriter.producer(affine.inputs[0])
    if (
        not isinstance(pool, ir.AveragePool)
        or pool.clamp != ir.Clamp()
        or (any(pool.window.pads) and not pool.count_padding)
        or rewriter.values[pool.inputs[0]].quant is None
        or rewriter.values[pool.output].quant is not None
        or rewriter.sole_reader(pool.output) is not affine
    ):
        return
    factor = affine.weight.reshape(-1).astype(np.float64)
    exact = np.where(factor == 0, 1, np.abs(factor)) / pool.window.taps
    with np.errstate(over="ignore", under="ignore"):
        scale = exact.astype(np.float32)
    if not (np.isfinite(scale) & (scale > 0)).all():
        return
    if (scale * pool.window.taps != np.where(factor == 0, 1, np.abs(factor))).any():
        rewriter.verbatim = False
    signs = np.sign(factor).astype(np.int8).reshape(-1, 1, 1, 1)
    summed = replace(
        affine,
        inputs=pool.inputs,
        window=pool.window,
        weight=np.broadcast_to(signs, (len(factor), *pool.window.kernel, 1)).copy(),
        weight_scale=scale,
    )
    rewriter.erase(pool)
    rewriter.substitute(affine, summed)

"""Fold a multiplication and addition a channel into the linear operator after it."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import ir
from .fold_affine import is_affine
from .rewriter import Rewriter

__all__ = ["fold_forward", "kept_by_padding"]


def fold_forward(graph: ir.Graph) -> ir.Graph:
    """Batch normalization, scales and biases that no operator precedes move into the next weights.

    Before: ``a = conv x, f, c`` depthwise 1x1, a float read once;  ``y = conv a, w, b``
    After:  ``y = conv x, w * f, b + w * c``
    Exact:  the operator is linear and nothing is rounded between; float weights are rounded to
            float32 once more. Reshapes between only change the map. Where the reader pads with 0,
            the fold is left out unless ``c`` is 0.
    """
    rewriter = Rewriter(graph)
    for op in rewriter:
        if isinstance(op, ir.Conv) and is_affine(op) and not op.quantized:
            _fold(rewriter, op)
    return rewriter.graph()


def kept_by_padding(graph: ir.Graph) -> dict[str, str]:
    """The operators that are not folded because their readers pad with 0, and these readers."""
    rewriter = Rewriter(graph)
    found = {}
    for op in rewriter:
        if isinstance(op, ir.Conv) and is_affine(op) and not op.quantized:
            _, reader = _reader(rewriter, op)
            if isinstance(reader, ir.Conv) and any(reader.window.pads) and any(op.exact_bias()):
                found[op.name] = reader.name
    return found


def _reader(rewriter: Rewriter, affine: ir.Conv) -> tuple[list[ir.Reshape], ir.Op | None]:
    """The one operator that reads the result, and the reshapes between."""
    views, reader = list[ir.Reshape](), rewriter.sole_reader(affine.output)
    while isinstance(reader, ir.Reshape):
        views.append(reader)
        reader = rewriter.sole_reader(reader.output)
    return views, reader


def _fold(rewriter: Rewriter, affine: ir.Conv) -> None:
    views, reader = _reader(rewriter, affine)
    values = [affine.output, *(view.output for view in views)]
    if (
        affine.clamp != ir.Clamp()
        or not isinstance(reader, ir.Conv)
        or reader.quantized
        or any(rewriter.values[name].quant is not None for name in values)
    ):
        return
    channels = rewriter.values[reader.inputs[0]].shape.channels
    factor = _spread(affine.weight.reshape(-1).astype(np.float64), channels)
    shift = _spread(np.array([float(c) for c in affine.exact_bias()]), channels)
    if factor is None or shift is None or (shift.any() and any(reader.window.pads)):
        return
    folded = _folded(reader, factor, shift)
    rewriter.erase(affine)
    if views:
        rewriter.substitute(views[0], replace(views[0], inputs=affine.inputs))
        rewriter.substitute(reader, folded)
    else:
        rewriter.substitute(reader, replace(folded, inputs=affine.inputs))


def _spread(part: NDArray[np.float64], channels: int) -> NDArray[np.float64] | None:
    """Numbers a channel for the channels of a reshaped map; None where its pixels differ."""
    if channels % len(part) == 0:
        return np.tile(part, channels // len(part))
    if len(part) % channels:
        return None
    rows = part.reshape(-1, channels)
    return rows[0] if (rows == rows[0]).all() else None


def _folded(reader: ir.Conv, factor: NDArray[np.float64], shift: NDArray[np.float64]) -> ir.Conv:
    """``reader`` after ``x * factor + shift``."""
    each = reader.channels // reader.groups
    inputs = np.arange(len(factor)).reshape(reader.groups, -1).repeat(each, axis=0)
    weight = reader.weight.astype(np.float64)
    bias = np.array([float(b) for b in reader.exact_bias()])
    bias += (weight * shift[inputs][:, None, None, :]).sum(axis=(1, 2, 3))
    return replace(
        reader,
        weight=(weight * factor[inputs][:, None, None, :]).astype(np.float32),
        bias=bias.astype(np.float32) if shift.any() else reader.bias,
    )

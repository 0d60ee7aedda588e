"""Fold a multiplication and addition a channel into the linear operator after it."""

from dataclasses import dataclass, replace

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
        fold = _Fold.of(rewriter, op)
        if fold and not fold.padded:
            _apply(rewriter, fold)
    return rewriter.graph()


def kept_by_padding(graph: ir.Graph) -> dict[str, str]:
    """The operators that are not folded because their readers pad with 0, and these readers."""
    rewriter = Rewriter(graph)
    found = {}
    for op in rewriter:
        fold = _Fold.of(rewriter, op)
        if fold and fold.padded:
            found[op.name] = fold.reader.name
    return found


@dataclass(frozen=True, eq=False)
class _Fold:
    """An operator ``x * factor + shift``, the one that reads it, and the reshapes between."""

    affine: ir.Conv
    views: list[ir.Reshape]
    reader: ir.Conv
    factor: NDArray[np.float64]
    shift: NDArray[np.float64]

    @property
    def padded(self) -> bool:
        """Whether the reader pads with zeros what should be shifted."""
        return bool(self.shift.any()) and any(self.reader.window.pads)

    @classmethod
    def of(cls, rewriter: Rewriter, affine: ir.Op) -> "_Fold | None":
        """None where the operator can not be folded, even without padding."""
        if not isinstance(affine, ir.Conv) or not is_affine(affine) or affine.quantized:
            return None
        views, reader = list[ir.Reshape](), rewriter.sole_reader(affine.output)
        while isinstance(reader, ir.Reshape):
            views.append(reader)
            reader = rewriter.sole_reader(reader.output)
        values = [affine.output, *(view.output for view in views)]
        if (
            affine.clamp != ir.Clamp()
            or not isinstance(reader, ir.Conv)
            or reader.quantized
            or any(rewriter.values[name].quant is not None for name in values)
        ):
            return None
        channels = rewriter.values[reader.inputs[0]].shape.channels
        factor = _spread(affine.weight.reshape(-1).astype(np.float64), channels)
        shift = _spread(np.array([float(c) for c in affine.exact_bias()]), channels)
        if factor is None or shift is None:
            return None
        return cls(affine, views, reader, factor, shift)


def _apply(rewriter: Rewriter, fold: _Fold) -> None:
    affine, views, reader = fold.affine, fold.views, fold.reader
    folded = _folded(reader, fold.factor, fold.shift)
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

"""Fold selections of elements into each other, and into the convolution before or behind them."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import ir
from .rewriter import Rewriter

__all__ = ["fold_gather"]

Ints = NDArray[np.int64]


def fold_gather(graph: ir.Graph) -> ir.Graph:
    """A Gather that alone reads another is one Gather; channels that a convolution makes, or takes,
    in another order are another order of its weights.

    Before: ``a = gather x, p;  b = gather a, q``; or ``a = conv x;  b = gather a, q``; or
            ``a = gather x, q;  b = conv a``, where ``q`` is one selection of channels for all
            pixels
    After:  ``b = gather x, p[q]``; or ``b = conv x`` of those channels; or ``b = conv x``
    Exact:  elements are taken as they are, and a sum does not depend on the order of its terms.
    """
    rewriter = Rewriter(graph)
    for op in rewriter:
        folded: ir.Op | None = op
        while isinstance(folded, ir.Gather):
            folded = _fold(rewriter, folded)
    return rewriter.graph()


def _fold(rewriter: Rewriter, op: ir.Gather) -> ir.Op | None:
    """The Gather that now computes the output; None where nothing more can be folded into it."""
    source = rewriter.producer(op.inputs[0])
    if _quant(rewriter, op.inputs[0]) != _quant(rewriter, op.output):
        return None
    if source is not None and rewriter.sole_reader(source.output) is op:
        if source.view:
            return _over(rewriter, op, source)
        if isinstance(source, ir.Gather):
            return _joined(rewriter, op, source)
        if isinstance(source, ir.Conv):
            return _chosen(rewriter, op, source)
    reader = rewriter.sole_reader(op.output)
    if isinstance(reader, ir.Conv):
        return _taken(rewriter, op, reader)
    return None


def _quant(rewriter: Rewriter, name: str) -> ir.Quant | None:
    return rewriter.values[name].quant


def _over(rewriter: Rewriter, op: ir.Gather, view: ir.Op) -> ir.Op:
    """The Gather of what a Reshape reads: the order of the stream is the same."""
    rewriter.erase(view)
    rewriter.substitute(op, over := replace(op, inputs=view.inputs))
    return over


def _joined(rewriter: Rewriter, op: ir.Gather, before: ir.Gather) -> ir.Op | None:
    """One Gather, unless the two fill with different numbers."""
    fills = {each.fill for each in (op, before) if (each.order < 0).any()}
    if len(fills) > 1 or _quant(rewriter, before.inputs[0]) != _quant(rewriter, op.output):
        return None
    order = np.where(op.order < 0, -1, before.order[op.order])
    joined = ir.Gather(op.name, before.inputs, op.output, order, max(fills, default=0.0))
    rewriter.erase(before)
    rewriter.substitute(op, joined)
    return joined


def _channels(op: ir.Gather, before: ir.Shape, after: ir.Shape) -> Ints | None:
    """The channels that each pixel takes of the same pixel, each once; None: it is another order.
    The only pixel of a map may become several.
    """
    if before.pixels == 1:
        chosen = op.order
    elif (before.height, before.width) == (after.height, after.width):
        chosen = op.order[: after.channels]
    else:
        return None
    pixels = np.arange(before.pixels)[:, None] * before.channels
    once = np.unique(chosen).size == chosen.size and chosen.min() >= 0
    if not once or chosen.max() >= before.channels:
        return None
    return chosen if np.array_equal(op.order, (pixels + chosen).reshape(-1)) else None


def _chosen(rewriter: Rewriter, op: ir.Gather, conv: ir.Conv) -> ir.Op | None:
    """The convolution of those channels alone, and a Reshape where the map has another shape."""
    before, after = (rewriter.values[name].shape for name in (conv.output, op.output))
    chosen = _channels(op, before, after)
    if chosen is None or conv.groups > 1:
        return None
    conv_of = replace(
        conv,
        weight=conv.weight[chosen],
        weight_scale=None if conv.weight_scale is None else conv.weight_scale[chosen],
        bias=None if conv.bias is None else conv.bias[chosen],
        bias_scale=None if conv.bias_scale is None else conv.bias_scale[chosen],
    )
    if (before.height, before.width) == (after.height, after.width):
        rewriter.erase(op)
        rewriter.substitute(conv, replace(conv_of, output=op.output))
        return None
    name = f"{conv.output}/arranged"
    while name in rewriter.values:
        name += "/2"
    shape = replace(before, channels=chosen.size)
    rewriter.values[name] = ir.Value(name, shape, _quant(rewriter, op.output))
    rewriter.substitute(conv, replace(conv_of, output=name))
    rewriter.substitute(op, ir.Reshape(op.name, (name,), op.output))
    return None


def _taken(rewriter: Rewriter, op: ir.Gather, conv: ir.Conv) -> ir.Op | None:
    """The convolution whose weights are in the order of the Gather's input."""
    before, after = (rewriter.values[name].shape for name in (op.inputs[0], op.output))
    chosen = _channels(op, before, after)
    same = (before.height, before.width) == (after.height, after.width)
    if chosen is None or conv.groups > 1 or not same or chosen.size < before.channels:
        return None
    weight = np.empty_like(conv.weight)
    weight[..., chosen] = conv.weight
    rewriter.erase(op)
    rewriter.substitute(conv, replace(conv, inputs=op.inputs, weight=weight))
    return None

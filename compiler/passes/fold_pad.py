"""Fold a zero border into the window that slides over it."""

from dataclasses import replace

from .. import ir
from .sole import sole_reader

__all__ = ["fold_pad"]


def fold_pad(graph: ir.Graph) -> ir.Graph:
    """An explicit Pad becomes the padding of the Conv or AveragePool that reads it.

    Before: ``a = pad x, zero;  y = conv a, window``
    After:  ``y = conv x, window with the pads added``
    Exact:  both pad with the real number 0, and ``a`` has the quantization of ``x``. AveragePool
            then counts the padding, which is the same when it did so, or had none of its own.
    """
    for pad in graph.ops:
        reader = sole_reader(graph, pad.output)
        if (
            isinstance(pad, ir.Pad)
            and pad.fill == 0
            and reader is not None
            and graph.values[pad.output].quant == graph.values[pad.inputs[0]].quant
        ):
            merged = _merged(pad, reader)
            if merged is not None:
                return fold_pad(
                    graph.replace(
                        merged if op is reader else op for op in graph.ops if op is not pad
                    )
                )
    return graph


def _merged(pad: ir.Pad, reader: ir.Op) -> ir.Op | None:
    if not isinstance(reader, ir.Conv | ir.AveragePool):
        return None
    own = reader.window.pads
    top, left, bottom, right = (a + b for a, b in zip(own, pad.pads, strict=True))
    window = replace(reader.window, pads=(top, left, bottom, right))
    if isinstance(reader, ir.Conv):
        return replace(reader, inputs=pad.inputs, window=window)
    if any(own) and not reader.count_padding:
        return None
    return replace(reader, inputs=pad.inputs, window=window, count_padding=True)

"""Fold a zero border into the window that slides over it."""

from dataclasses import replace

from .. import ir
from .sole import sole_reader

__all__ = ["fold_pad"]


def fold_pad(graph: ir.Graph) -> ir.Graph:
    """An explicit Pad becomes the padding of the Conv, AveragePool or MaxPool that reads it.

    Before: ``a = pad x, 0;  y = conv a, window``
    After:  ``y = conv x, window with the pads added``
    Exact:  both pad with the real number 0, and ``a`` has the quantization of ``x``. AveragePool
            then counts the padding, which is the same when it did so, or had none of its own.
            MaxPool's padding never wins, as -infinity does in windows that see some of ``x``.
    """
    for pad in graph.ops:
        reader = sole_reader(graph, pad.output)
        if (
            isinstance(pad, ir.Pad)
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
    if not isinstance(reader, ir.Windowed) or pad.fill != reader.border:
        return None
    padded = reader.padded(pad.pads)
    return None if padded is None else replace(padded, inputs=pad.inputs)

"""Fold a zero border into the window that slides over it."""

from dataclasses import replace

from .. import ir
from .rewriter import Rewriter

__all__ = ["fold_pad"]


def fold_pad(graph: ir.Graph) -> ir.Graph:
    """An explicit Pad becomes the padding of the Conv, AveragePool or MaxPool that reads it.

    Before: ``a = pad x, 0;  y = conv a, window``
    After:  ``y = conv x, window with the pads added``
    Exact:  both pad with the real number 0, and ``a`` has the quantization of ``x``. AveragePool
            then counts the padding, which is the same when it did so, or had none of its own.
            MaxPool's padding never wins, as -infinity does in windows that see some of ``x``.
    """
    rewriter = Rewriter(graph)
    for op in rewriter:
        pad: ir.Op | None = op
        while isinstance(pad, ir.Pad) and _fold(rewriter, pad):
            pad = rewriter.producer(pad.inputs[0])  # a Pad of a Pad
    return rewriter.graph()


def _fold(rewriter: Rewriter, pad: ir.Pad) -> bool:
    """Whether the pad moved into its reader."""
    reader = rewriter.sole_reader(pad.output)
    if (
        not isinstance(reader, ir.Windowed)
        or pad.fill != reader.border
        or rewriter.values[pad.output].quant != rewriter.values[pad.inputs[0]].quant
    ):
        return False
    padded = reader.padded(pad.pads)
    if padded is None:
        return False
    rewriter.erase(pad)
    rewriter.substitute(reader, replace(padded, inputs=pad.inputs))
    return True

"""Fuse Relu and Clip into the operator before them."""

from dataclasses import replace

import numpy as np

from .. import ir
from .rewriter import Rewriter

__all__ = ["fuse_clamp"]


def fuse_clamp(graph: ir.Graph) -> ir.Graph:
    """A clamp moves up, past operators that it commutes with, into the one whose output it limits.

    Before: ``a = conv x;  b = maxpool a;  y = identity b, clamp``; ``a``, ``b`` are read once, and
            are floats or have the ``Quant`` of ``y``
    After:  ``a = conv x, clamp;  y = maxpool a``
    Exact:  a clamp and rounding are monotone, so each commutes with taking the largest, and a
            clamp between two equal roundings is one before the first.
    """
    rewriter = Rewriter(graph)
    for op in rewriter:
        clamped: ir.Op | None = op
        while isinstance(clamped, ir.Unary) and clamped.function == ir.Identity():
            clamped = _fuse(rewriter, clamped)  # which may be an identity itself
    return rewriter.graph()


def _fuse(rewriter: Rewriter, unary: ir.Unary) -> ir.Op | None:
    """The operator that has taken the clamp; None where ``unary`` stays."""
    chain = _chain(rewriter, unary)
    if not chain:
        return None
    quant = rewriter.values[unary.output].quant
    for op in chain[1:]:
        rewriter.values[op.output] = replace(rewriter.values[op.output], quant=quant)
    rewriter.erase(unary)
    rewriter.substitute(chain[0], replace(chain[0], output=unary.output))
    first = rewriter.producer(chain[-1].output if len(chain) > 1 else unary.output)
    assert isinstance(first, ir.Clampable)
    clamped = replace(first, clamp=_both(first.clamp, unary.clamp))
    rewriter.substitute(first, clamped)
    return clamped


def _chain(rewriter: Rewriter, unary: ir.Unary) -> list[ir.Op]:
    """From the last operator before ``unary`` up to the one that takes the clamp; empty if none."""
    chain: list[ir.Op] = []
    reader: ir.Op = unary
    while True:
        op = rewriter.producer(reader.inputs[0])
        if (
            op is None
            or rewriter.values[op.output].quant not in (None, rewriter.values[unary.output].quant)
            or rewriter.sole_reader(op.output) is not reader
        ):
            return []
        chain.append(op)
        if isinstance(op, ir.Clampable):
            return chain
        if not op.passes_clamp:
            return []
        reader = op


def _both(first: ir.Clamp, second: ir.Clamp) -> ir.Clamp:
    """``second`` after ``first``."""
    low, high = np.clip([first.low, first.high], second.low, second.high)
    return ir.Clamp(float(low), float(high))

"""Fuse Relu and Clip into the operator before them."""

from dataclasses import replace

import numpy as np

from .. import ir
from .sole import sole_reader

__all__ = ["fuse_clamp"]


def fuse_clamp(graph: ir.Graph) -> ir.Graph:
    """A clamp moves up, past operators that it commutes with, into the one whose output it limits.

    Before: ``a = conv x;  b = maxpool a;  y = identity b, clamp``; ``a``, ``b`` are read once, and
            are floats or have the ``Quant`` of ``y``
    After:  ``a = conv x, clamp;  y = maxpool a``
    Exact:  a clamp and rounding are monotone, so each commutes with taking the largest, and a
            clamp between two equal roundings is one before the first.
    """
    for unary in graph.ops:
        if isinstance(unary, ir.Unary) and unary.function == ir.Identity():
            chain = _chain(graph, unary)
            if chain:
                return fuse_clamp(_moved(graph, chain, unary))
    return graph


def _chain(graph: ir.Graph, unary: ir.Unary) -> list[ir.Op]:
    """From the operator that takes the clamp to the last before ``unary``; empty if none."""
    chain: list[ir.Op] = []
    reader: ir.Op = unary
    while True:
        op = graph.producer(reader.inputs[0])
        if (
            op is None
            or graph.values[op.output].quant not in (None, graph.values[unary.output].quant)
            or sole_reader(graph, op.output) is not reader
        ):
            return []
        chain.insert(0, op)
        if isinstance(op, ir.Clampable):
            return chain
        if not op.passes_clamp:
            return []
        reader = op


def _moved(graph: ir.Graph, chain: list[ir.Op], unary: ir.Unary) -> ir.Graph:
    first, last = chain[0], chain[-1]
    assert isinstance(first, ir.Clampable)
    renamed: dict[ir.Op, ir.Op] = {first: replace(first, clamp=_both(first.clamp, unary.clamp))}
    renamed[last] = replace(renamed.get(last, last), output=unary.output)
    shape, quant = graph.shape(unary.output), graph.values[unary.output].quant
    values = [replace(graph.values[op.output], quant=quant) for op in chain[:-1]]
    return graph.replace(
        (renamed.get(op, op) for op in graph.ops if op is not unary),
        [*values, ir.Value(unary.output, shape, quant)],
    )


def _both(first: ir.Clamp, second: ir.Clamp) -> ir.Clamp:
    """``second`` after ``first``."""
    low, high = np.clip([first.low, first.high], second.low, second.high)
    return ir.Clamp(float(low), float(high))

"""Products of integers of any scales, and sums of such products, rounded in one step."""

from fractions import Fraction
from itertools import product

from ... import ir
from .requantizer import Requantizer, requantizer
from .rounding import limits

__all__ = ["for_matmul", "for_multiply", "for_prelu"]


def for_multiply(graph: ir.Graph, op: ir.ops.Mul) -> Requantizer:
    """The requantizer of the product of both inputs less their zero points."""
    return _for_products(graph, op, op.clamp, 1)


def for_matmul(graph: ir.Graph, op: ir.ops.MatMul) -> Requantizer:
    """The requantizer of a sum of products of both inputs less their zero points."""
    return _for_products(graph, op, op.clamp, graph.shape(op.inputs[0]).channels)


def for_prelu(graph: ir.Graph, op: ir.ops.PRelu) -> Requantizer:
    """The requantizer of a negative input times its slope, both less their zero points, as channel
    0, and of an input that is not negative as channel 1.
    """
    a, b = (graph.quant(name) for name in op.inputs)
    y = graph.quant(op.output)
    below, above = min(a.dtype.low - a.zero, 0), max(a.dtype.high - a.zero, 0)
    products = [0, *(below * (slope - b.zero) for slope in (b.dtype.low, b.dtype.high))]
    ratio = a.step / y.step
    return requantizer(
        [ratio * b.step, ratio],
        [Fraction(y.zero)] * 2,
        *limits(y, op.clamp),
        [min(products), 0],
        [max(products), above],
        op.name,
        y.zero,
    )


def _for_products(graph: ir.Graph, op: ir.Op, clamp: ir.Clamp, count: int) -> Requantizer:
    """The requantizer of the sum of ``count`` products, proven for every integer between the least
    and the greatest sum.
    """
    a, b = (graph.quant(name) for name in op.inputs)
    y = graph.quant(op.output)
    products = [
        (left - a.zero) * (right - b.zero)
        for left, right in product((a.dtype.low, a.dtype.high), (b.dtype.low, b.dtype.high))
    ]
    least, most = count * min(*products, 0), count * max(*products, 0)
    ratio = a.step * b.step / y.step
    return requantizer([ratio], [Fraction(y.zero)], *limits(y, clamp), least, most, op.name, y.zero)

"""Products of two integers of any scales, rounded in one step."""

from fractions import Fraction
from itertools import product

from ... import ir
from .requantizer import Requantizer, requantizer
from .rounding import limits

__all__ = ["for_multiply"]


def for_multiply(graph: ir.Graph, op: ir.ops.Mul) -> Requantizer:
    """The requantizer of the product of both inputs less their zero points.

    It is proven for every integer between the least and the greatest product.
    """
    a, b = (graph.quant(name) for name in op.inputs)
    y = graph.quant(op.output)
    products = [
        (left - a.zero) * (right - b.zero)
        for left, right in product((a.dtype.low, a.dtype.high), (b.dtype.low, b.dtype.high))
    ]
    low, high = min(products), max(products)
    ratio = a.step * b.step / y.step
    return requantizer(
        [ratio],
        [Fraction(y.zero)],
        *limits(y, op.clamp),
        min(low, 0),
        max(high, 0),
        op.name,
        y.zero,
    )

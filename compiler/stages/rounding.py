"""From a proven requantizer to the gateware's."""

from functools import lru_cache, singledispatch

from ... import hw
from .. import ir
from ..quantize.policy import DEFAULT_BITS
from ..quantize.proofs.add import Adder
from ..quantize.proofs.multiply import for_matmul, for_multiply
from ..quantize.proofs.requantizer import Requantizer, for_average_pool, for_conv, for_identity

__all__ = ["multiplier_bits", "proven", "rounding"]


def rounding(exact: Requantizer | Adder) -> hw.Rounding:
    """Shift, ties and bounds as the gateware takes them."""
    return hw.Rounding(exact.shift, exact.tie_bits, exact.low, exact.high, exact.tie_parity)


@lru_cache(maxsize=256)
def proven(op: ir.Op, graph: ir.Graph) -> Requantizer:
    """The requantizer of an operator; cached, for many foldings are planned."""
    return _proven(op, graph)


@singledispatch
def _proven(op: ir.Op, graph: ir.Graph) -> Requantizer:
    raise NotImplementedError(f"{op.name}: no requantizer for {type(op).__name__}")


@_proven.register
def _(op: ir.Conv, graph: ir.Graph) -> Requantizer:
    return for_conv(graph, op)


@_proven.register
def _(op: ir.AveragePool, graph: ir.Graph) -> Requantizer:
    return for_average_pool(graph, op)


@_proven.register
def _(op: ir.ops.Mul, graph: ir.Graph) -> Requantizer:
    return for_multiply(graph, op)


@_proven.register
def _(op: ir.ops.MatMul, graph: ir.Graph) -> Requantizer:
    return for_matmul(graph, op)


@_proven.register
def _(op: ir.Unary, graph: ir.Graph) -> Requantizer:
    return for_identity(graph, op)


@lru_cache(maxsize=1024)
def multiplier_bits(op: ir.Conv | ir.AveragePool, graph: ir.Graph) -> int:
    """Bits of the requantizer's multiplier, for planning.

    Outputs of the usual width have usual multipliers, whatever their scales. A wide output's may be
    several times as wide, which costs cycles and logic, so it is proven first.
    """
    if graph.quant(op.output).dtype.bits <= DEFAULT_BITS:
        return hw.MULT_BITS
    return max(hw.MULT_BITS, proven(op, graph).mult_bits)

"""From a proven requantizer to the gateware's."""

from fractions import Fraction
from functools import lru_cache

from ... import hw
from .. import ir
from ..quantize.policy import DEFAULT_BITS
from ..quantize.proofs.add import Adder
from ..quantize.proofs.requantizer import (
    Requantizer,
    for_average_pool,
    for_conv,
    round_half_even,
)

__all__ = ["level", "multiplier_bits", "proven", "rounding"]


def rounding(exact: Requantizer | Adder) -> hw.Rounding:
    """Shift, ties and bounds as the gateware takes them."""
    return hw.Rounding(exact.shift, exact.tie_bits, exact.low, exact.high, exact.tie_parity)


def level(real: float, quant: ir.Quant) -> int:
    """A real number as an integer of ``quant``: rounded half to even, then saturated."""
    steps = Fraction(real) / quant.step
    rounded = round_half_even(steps.numerator, steps.denominator) + quant.zero
    return min(max(rounded, quant.dtype.low), quant.dtype.high)


@lru_cache(maxsize=256)
def proven(op: ir.Conv | ir.AveragePool, graph: ir.Graph) -> Requantizer:
    """The requantizer of an operator; cached, for the plan of a wide output needs it too."""
    return for_conv(graph, op) if isinstance(op, ir.Conv) else for_average_pool(graph, op)


@lru_cache(maxsize=1024)
def multiplier_bits(op: ir.Conv | ir.AveragePool, graph: ir.Graph) -> int:
    """Bits of the requantizer's multiplier, for planning.

    Outputs of the usual width have usual multipliers, whatever their scales. A wide output's may be
    several times as wide, which costs cycles and logic, so it is proven first.
    """
    if graph.quant(op.output).dtype.bits <= DEFAULT_BITS:
        return hw.MULT_BITS
    return max(hw.MULT_BITS, proven(op, graph).mult_bits)

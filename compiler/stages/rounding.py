"""From a proven requantizer to the gateware's."""

from ... import hw
from ..quantize.proofs.requantizer import Adder, Requantizer

__all__ = ["rounding"]


def rounding(exact: Requantizer | Adder) -> hw.Rounding:
    """Shift, ties and bounds as the gateware takes them."""
    return hw.Rounding(exact.shift, exact.tie_bits, exact.low, exact.high, exact.tie_parity)

"""The rounding rule of ONNX in integers, and the one that hardware uses in its place."""

from fractions import Fraction
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ... import ir

__all__ = ["level", "limits", "narrow", "round_half_even", "roundest"]


def round_half_even(numerator: int, denominator: int) -> int:
    """``numerator / denominator`` to the nearest integer, halves to the even one."""
    quotient, rest = divmod(numerator, denominator)
    return quotient + (2 * rest > denominator or (2 * rest == denominator and quotient % 2 == 1))


def level(real: float, quant: ir.Quant) -> int:
    """A real number, or an infinity, as an integer of ``quant``: rounded half to even, then
    saturated.
    """
    if real in (inf, -inf):
        return quant.dtype.high if real > 0 else quant.dtype.low
    steps = Fraction(real) / quant.step
    rounded = round_half_even(steps.numerator, steps.denominator) + quant.zero
    return min(max(rounded, quant.dtype.low), quant.dtype.high)


def limits(quant: ir.Quant, clamp: ir.Clamp) -> tuple[int, int]:
    """Lowest and highest integer that ``clamp`` leaves of ``quant``.

    Rounding is monotone, so to clamp the real number and then to round it is to round it and then
    to clip to the rounded bounds.
    """

    low, high = level(clamp.low, quant), level(clamp.high, quant)
    return min(low, high), high


def narrow(
    wide: NDArray[Any], shift: int, tie_bits: int | None, tie_parity: int, low: int, high: int
) -> NDArray[np.int64]:
    """``clip(wide >> shift, low, high)``; with ``tie_bits = v``, one less (before the clip) where
    bits ``[v, shift)`` of ``wide`` are all zero and ``wide >> shift`` has parity ``tie_parity``."""
    y = wide >> shift
    if tie_bits is not None:
        exact = ((wide >> tie_bits) & ((1 << (shift - tie_bits)) - 1)) == 0
        y = y - (exact & ((y & 1) == tie_parity))
    return np.asarray(np.clip(y, low, high), np.int64)


def roundest(low: int, high: int) -> int:
    """The integer of [low, high] with the most trailing zero bits."""
    zeros = max(abs(low), abs(high), 1).bit_length()
    while (high >> zeros) << zeros < low:
        zeros -= 1
    return (high >> zeros) << zeros

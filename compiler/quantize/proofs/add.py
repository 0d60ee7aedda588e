"""Adders: two integers of different scales summed and rounded in one step, proven for all pairs.

Narrow inputs: every pair is computed. Wide ones have up to 2**32 pairs: the proof compares the
error of the multipliers with the distance of the sums from a tie (:mod:`.margins`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from math import floor, lcm

import numpy as np
from numpy.typing import NDArray

from ... import ir
from ...errors import QuantizeError
from .margins import Margins, fit_offset, of_sums
from .rounding import limits, narrow, round_half_even, roundest

__all__ = ["Adder", "for_add"]

# Multipliers of narrow inputs are searched up to the first; scales that need more than the second
# are refused.
MULT_BITS = 26
WIDEST_MULT_BITS = 72
# Bits of both inputs together up to which all pairs are computed to prove an adder.
PAIR_BITS = 16
# Bits of their sum up to which the computation fits 64-bit integers.
SUM_BITS = 8


@dataclass(frozen=True)
class Adder:
    """``clip((a * mult_a + b * mult_b + offset) >> shift, low, high)`` of two raw integers.

    ``mult_b`` is negative, or 0, in a difference. ``tie_bits`` and ``tie_parity`` as in
    :class:`Requantizer`.
    """

    mult_a: int
    mult_b: int
    offset: int
    shift: int
    tie_bits: int | None
    low: int
    high: int
    a: ir.Int
    b: ir.Int
    tie_parity: int = 1

    @property
    def product(self) -> ir.Int:
        """The type of ``a * mult_a + b * mult_b + offset``."""
        ends = [
            a * self.mult_a + b * self.mult_b + self.offset
            for a, b in product((self.a.low, self.a.high), (self.b.low, self.b.high))
        ]
        return ir.Int.holding(min(ends), max(ends))

    def apply(self, a: NDArray[np.integer], b: NDArray[np.integer]) -> NDArray[np.int64]:
        """What the hardware computes, element by element."""
        kind = np.int64 if self.product.bits < 64 else object
        wide = a.astype(kind) * self.mult_a + b.astype(kind) * self.mult_b + self.offset
        return narrow(wide, self.shift, self.tie_bits, self.tie_parity, self.low, self.high)


def for_add(graph: ir.Graph, op: ir.Additive) -> Adder:
    """The adder of two raw inputs, proven over every pair of them."""
    a, b = (graph.quant(name) for name in op.inputs)
    y = graph.quant(op.output)
    if a.dtype.bits + b.dtype.bits <= PAIR_BITS and y.dtype.bits <= SUM_BITS:
        found = _by_enumeration(a, b, y, limits(y, op.clamp), op.sign)
        if found is not None:
            return found
    found = _WideSums.of(a, b, y, limits(y, op.clamp), op.sign).solve()
    if found is None:
        raise QuantizeError(
            f"{op.name}: no adder with multipliers of up to {WIDEST_MULT_BITS} bits is exact for "
            f"the scales {a.scale:g} and {b.scale:g} to {y.scale:g}; change the output scale "
            "slightly"
        )
    return found


def _by_enumeration(
    a: ir.Quant, b: ir.Quant, y: ir.Quant, clip: tuple[int, int], sign: int
) -> Adder | None:
    """The narrowest adder that equals the table of all sums; None: none of usual width does."""
    wanted = _exact_sums(a, b, y, clip, sign)
    sums = _Sums(
        a.step / y.step,
        sign * b.step / y.step,
        wanted,
        np.arange(a.dtype.low, a.dtype.high + 1)[:, None],
        np.arange(b.dtype.low, b.dtype.high + 1)[None, :],
        clip,
        y.zero,
    )
    for shift, tie_bits in sums.attempts():
        if (found := sums.solve(shift, tie_bits)) is not None:
            adder = Adder(*found, shift, tie_bits, *clip, a.dtype, b.dtype, 1 - y.zero % 2)
            assert np.array_equal(adder.apply(sums.a, sums.b), wanted)
            return adder
    return None


def _exact_sums(
    a: ir.Quant, b: ir.Quant, y: ir.Quant, clip: tuple[int, int], sign: int
) -> NDArray[np.int64]:
    """The exact result of every pair, ``[a, b]``."""
    unit = lcm((a.step / y.step).denominator, (b.step / y.step).denominator)
    in_a, in_b = int(a.step / y.step * unit), sign * int(b.step / y.step * unit)
    sums = [
        [round_half_even(real_a + real_b, unit) for real_b in _multiples(in_b, b)]
        for real_a in _multiples(in_a, a)
    ]
    # An output step far below the inputs' makes sums beyond any machine integer: clip them first.
    low, high = clip
    return np.array([[min(max(v + y.zero, low), high) for v in row] for row in sums], np.int64)


def _multiples(unit: int, quant: ir.Quant) -> list[int]:
    return [(raw - quant.zero) * unit for raw in range(quant.dtype.low, quant.dtype.high + 1)]


@dataclass(frozen=True, eq=False)
class _Sums:
    """The search for an :class:`Adder`: ``wanted[a, b]`` is the exact table; ``beta`` is negative
    in a difference.
    """

    alpha: Fraction
    beta: Fraction
    wanted: NDArray[np.int64]
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    clip: tuple[int, int]
    zero: int

    def attempts(self) -> Iterable[tuple[int, int | None]]:
        """Shift and tie bits to try: plain ones first, from narrow to wide."""
        ratio = max(self.alpha, abs(self.beta))
        size = ratio.numerator.bit_length() - ratio.denominator.bit_length()
        shifts = range(max(0, -size), min(max(0, MULT_BITS - size), 50) + 1)
        yield from ((shift, None) for shift in shifts)
        yield from (
            (shift, max(0, tie))
            for shift in shifts
            if shift
            for tie in (0, shift // 2, shift - 4, shift - 8)
        )

    def solve(self, shift: int, tie_bits: int | None) -> tuple[int, int, int] | None:
        """Multipliers next to the exact ones, and an offset, that give every wanted sum."""
        lift = 0 if tie_bits is None else 1 << tie_bits
        odd = (self.wanted - self.zero) % 2
        floor = (self.wanted << shift) + odd * lift
        ceiling = ((self.wanted + 1) << shift) + (1 - odd) * lift - 1
        least = np.where(self.wanted > self.clip[0], floor, -(1 << 61))
        most = np.where(self.wanted < self.clip[1], ceiling, 1 << 61)
        sign = 1 if self.beta > 0 else -1
        near_a, near_b = round(self.alpha * (1 << shift)), round(self.beta * (1 << shift))
        for step_a, step_b in product((0, 1, -1), repeat=2):
            mult_a = max(0, near_a + step_a)
            mult_b = sign * max(0, sign * near_b + step_b)
            wide = self.a * mult_a + self.b * mult_b
            low, high = int((least - wide).max()), int((most - wide).min())
            if low <= high:
                return mult_a, mult_b, roundest(low, high)
        return None


@dataclass(frozen=True, eq=False)
class _WideSums:
    """The search for an :class:`Adder` of wide inputs.

    ``2 * unit * (exact sum + 1/2) = x + y`` for an ``x`` of ``scaled_a``, one for every raw ``a``,
    and a ``y`` of ``scaled_b``.
    """

    a: ir.Quant
    b: ir.Quant
    y: ir.Quant
    sign: int
    clip: tuple[int, int]
    unit: int
    scaled_a: list[int]
    scaled_b: list[int]
    margins: Margins

    @classmethod
    def of(
        cls, a: ir.Quant, b: ir.Quant, y: ir.Quant, clip: tuple[int, int], sign: int
    ) -> "_WideSums":
        unit = lcm((a.step / y.step).denominator, (b.step / y.step).denominator)
        scaled_a = _multiples(int(2 * unit * a.step / y.step), a)
        scaled_b = [unit + part for part in _multiples(sign * int(2 * unit * b.step / y.step), b)]
        return cls(
            a, b, y, sign, clip, unit, scaled_a, scaled_b, of_sums(scaled_a, scaled_b, 2 * unit)
        )

    def solve(self) -> Adder | None:
        """The adder of the least shift at which multipliers next to the exact ones serve."""
        tie_check = self.margins.tie_check if self.margins.ties else None
        window = self.margins.window(tie_check)
        ratios = self.a.step / self.y.step, self.sign * self.b.step / self.y.step
        shift = tie_check or 0
        while max(map(abs, ratios)) * (1 << shift) < 1 << WIDEST_MULT_BITS:
            near = [floor(ratio * (1 << shift)) for ratio in ratios]
            for mult_a, mult_b in product(*((mult, mult + 1) for mult in near)):
                errors = self._errors(mult_a, mult_b, shift)
                if (offset := fit_offset(errors, window, shift)) is not None:
                    return self._adder(mult_a, mult_b, offset, shift, tie_check)
            shift += 1
        return None

    def _errors(self, mult_a: int, mult_b: int, shift: int) -> list[Fraction]:
        """Hardware's sum before it is rounded, for offset 0, less the exact one, for the ends of
        both ranges: between them the error is no larger, for it is an affine function.
        """
        ends_a = (self.a.dtype.low, self.scaled_a[0]), (self.a.dtype.high, self.scaled_a[-1])
        ends_b = (self.b.dtype.low, self.scaled_b[0]), (self.b.dtype.high, self.scaled_b[-1])
        return [
            Fraction(a * mult_a + b * mult_b, 1 << shift) - Fraction(x + y, 2 * self.unit)
            for (a, x), (b, y) in product(ends_a, ends_b)
        ]

    def _adder(
        self, mult_a: int, mult_b: int, offset: int, shift: int, tie_check: int | None
    ) -> Adder:
        """The adder, with the zero point, which the sums lack, in its offset."""
        return Adder(
            mult_a,
            mult_b,
            offset + (self.y.zero << shift),
            shift,
            None if tie_check is None else shift - tie_check,
            *self.clip,
            self.a.dtype,
            self.b.dtype,
            1 - self.y.zero % 2,
        )

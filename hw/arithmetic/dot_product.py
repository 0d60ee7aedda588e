"""Dot products of narrow integers in soft logic: adders first, no multipliers."""

from dataclasses import dataclass, replace
from enum import Enum
from functools import reduce

import numpy as np
from amaranth import C, Cat, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2
from numpy.typing import NDArray

from ..control.delay import KEEP
from ..sizes import at_least, ceil_div, ends

__all__ = ["DotProduct", "DotProductConfig", "WeightCode"]


class WeightCode(Enum):
    """How the bits of a weight select what is summed.

    ``PLANES``: two's complement. ``TERNARY``: two's complement of -1, 0 and 1, whose bits mean
    "not zero" and "negative". ``SIGN``: one bit, high for -1, low for 1.
    """

    PLANES = "planes"
    TERNARY = "ternary"
    SIGN = "sign"

    def encode(self, weights: NDArray[np.int64], width: int) -> NDArray[np.int64]:
        """The codes of weights of ``width`` bits, of :meth:`bits` bits each."""
        return (
            (weights < 0).astype(np.int64) if self is WeightCode.SIGN else weights & ~(-1 << width)
        )

    def holds(self, weights: NDArray[np.int64]) -> bool:
        """Whether there is a code for all of them; what columns without a channel have, 0, may be
        any.
        """
        return self is WeightCode.PLANES or bool((np.abs(weights) <= 1).all())

    def bits(self, width: int) -> int:
        """Bits of the code of a weight of ``width`` bits."""
        return 1 if self is WeightCode.SIGN else width

    def excess(self, weights: NDArray[np.int64], x: Shape) -> NDArray[np.int64]:
        """By how much each term is more than its product: activations are inverted, not negated.

        Inverted, a signed ``x`` is ``-x - 1``, and an unsigned one of n bits ``2 ** n - 1 - x``.
        """
        if self is WeightCode.PLANES:
            return np.zeros_like(weights)
        return (weights < 0) * (-1 if x.signed else (1 << x.width) - 1)


@dataclass(frozen=True)
class _Sum:
    """A value between ``low`` and ``high``; ``whole``: it is a signal, not an expression;
    ``negative``: it is to be subtracted.
    """

    value: Value
    low: int
    high: int
    whole: bool = False
    negative: bool = False

    @property
    def shape(self) -> Shape:
        return Shape.cast(range(self.low, self.high + 1))

    def plus(self, other: "_Sum", shift: int = 0) -> "_Sum":
        """The sum of this and ``other`` shifted left."""
        low, high = other.low << shift, other.high << shift
        if other.negative:
            value = self.value - (other.value << shift)
            return _Sum(value, self.low - high, self.high - low)
        bits = max(len(self.value), len(other.value))
        if bits <= (2 if self.whole else 1) and not shift:
            value = _ripple(self.value, other.value)
        else:
            value = self.value + (other.value << shift)
        return _Sum(value, self.low + low, self.high + high)


def _ripple(a: Value, b: Value) -> Value:
    """``a + b`` of up to two bits each in gates: a LUT of four inputs a bit, fewer than a chain of
    carries takes.
    """
    is_signed = a.shape().signed or b.shape().signed
    width, carry, total = max(len(a), len(b)), None, []
    bits = [[*each, *([each[-1] if each.shape().signed else C(0)] * 3)] for each in (a, b)]
    for one, two in list(zip(*bits, strict=False))[: width + 1]:
        total.append(one ^ two if carry is None else one ^ two ^ carry)
        carry = one & two if carry is None else (one & two) | (carry & (one ^ two))
    value = Cat(total)
    return value.as_signed() if is_signed else value


@dataclass(frozen=True)
class DotProductConfig:
    """The sum of ``products`` products of ``x`` and ``w``, with at most ``adders`` adders between
    registers.
    """

    products: int
    x: Shape
    w: Shape
    code: WeightCode = WeightCode.PLANES
    adders: int = 1

    def __post_init__(self):
        at_least(1, self, "products", "adders")
        ternary = self.code is WeightCode.TERNARY
        if not self.w.signed or self.w.width < 2 or (ternary and self.w.width > 2):
            raise ValueError(
                f"DotProductConfig: w={self.w!r} with {self.code}, but it must be signed and of 2 "
                "bits or, unless it is ternary, more"
            )

    @property
    def word(self) -> Shape:
        """The codes of all weights, the first in the low bits."""
        return unsigned(self.products * self.code.bits(self.w.width))

    @property
    def p(self) -> Shape:
        """Holds every result."""
        low, high = ends(self.x)
        least, most = ends(self.w)
        corners = [a * b for a in (low, high) for b in (least, most)]
        if self.code is not WeightCode.PLANES:
            corners = [low, high]
        least, most = self.products * min(corners), self.products * max(corners)
        return Shape.cast(range(min(least, -1), most + 1))

    @property
    def planes(self) -> int:
        """Trees of adders: one for each bit of the weights in two's complement."""
        return self.w.width if self.code is WeightCode.PLANES else 1

    @property
    def levels(self) -> int:
        """Adders in sequence: of a tree, and of the sum of trees; at least 1."""
        return max(1, ceil_log2(self.products) + ceil_log2(self.planes))

    @property
    def latency(self) -> int:
        """Cycles from the operands to the result."""
        return ceil_div(self.levels, self.adders)

    def lut(self, gated_adders: bool) -> int:
        """LUTs, roughly: a bit of an adder for each bit of its sum, and gates that are not merged
        into adders. Chains as short as these begin without LUTs that drive the carry.
        """
        adders = self._adders()
        planes = self.planes * sum(number * width for _, number, width in adders)
        joined = (self.planes - 1) * (self.p.width - self.planes // 2)
        gates = self.planes * self.products * self.x.width
        if gated_adders:
            gates = gates // 2 if self.code is WeightCode.TERNARY else 0
        elif self.code is WeightCode.SIGN:
            gates //= 2
        return planes + joined + gates

    @property
    def ff(self) -> int:
        """Flip-flops, roughly: the bits that are registered, also of a value that a level has no
        other for.
        """
        first = ceil_log2(self.products)
        sums = [
            ceil_div(self.products, 1 << level) * width * self.planes
            for level, _, width in self._adders()
        ] + [
            ceil_div(self.planes, together := 1 << level)
            * min(self.p.width, self.x.width + first + together)
            for level in range(1, 1 + ceil_log2(self.planes))
        ]
        return sum(sums[:: -self.adders])

    def _adders(self) -> list[tuple[int, int, int]]:
        """Of each level of a tree: its number, its adders, and the bits of their sums."""
        found, left, width = [], self.products, self.x.width
        for level in range(1, 1 + ceil_log2(self.products)):
            width += 1
            chained = width > 3 or (level == 1 and width == 3)  # cells of two bits each
            found.append((level, left // 2, width + chained * width % 2))
            left = ceil_div(left, 2)
        return found


class DotProduct(wiring.Component):
    """``p = sum of x[k] * w[k] + code.excess(w[k])``, in soft logic.

    A bit plane of the weights masks the activations (SIGN and TERNARY: inverts them too), and a
    tree of adders sums what is left; the sums of the planes are shifted and added. Masks are gates
    of few inputs in front of the first adders; on ECP5 they are merged into the adders' LUTs. Takes
    operands every cycle; latency: ``config.latency``.

    Members
    -------
    x : In(config.x).array(products)
    w : In(config.word), codes
    p : Out(config.p)
    """

    def __init__(self, config: DotProductConfig):
        self.config = config
        super().__init__(
            {
                "x": In(config.x).array(config.products),
                "w": In(config.word),
                "p": Out(config.p),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c, width = self.config, self.config.code.bits(self.config.w.width)
        codes = [self.w[k * width : (k + 1) * width] for k in range(c.products)]
        sums = [
            self._tree(
                m, [self._term(x, code, plane) for x, code in zip(self.x, codes, strict=True)]
            )
            for plane in range(c.planes)
        ]
        if c.planes > 1:
            sums[-1] = replace(sums[-1], negative=True)  # the plane of the sign
        m.d.comb += self.p.eq(self._of_planes(m, sums).value)
        return m

    def _tree(self, m: Module, terms: list[_Sum]) -> _Sum:
        """The sum of the terms of a plane; alone, one of a single term is registered."""
        level = 0
        while len(terms) > 1 or (level == 0 and self.config.planes == 1):
            level += 1
            pairs = [terms[n : n + 2] for n in range(0, len(terms), 2)]
            terms = [self._whole(m, reduce(_Sum.plus, pair), level) for pair in pairs]
        return terms[0]

    def _of_planes(self, m: Module, sums: list[_Sum]) -> _Sum:
        """The sum of the sums of planes, each of twice the weight of the one before it."""
        level, apart = ceil_log2(self.config.products), 1
        while len(sums) > 1:
            level += 1
            pairs = [sums[n : n + 2] for n in range(0, len(sums), 2)]
            sums = [
                self._whole(m, reduce(lambda one, two: one.plus(two, apart), pair), level)
                for pair in pairs
            ]
            apart *= 2
        return sums[0]

    def _term(self, x: Value, code: Value, plane: int) -> _Sum:
        """An activation, masked by a bit plane of a weight."""
        low, high = ends(self.config.x)
        if self.config.code is WeightCode.PLANES:
            return _Sum(Mux(code[plane], x, 0), min(low, 0), high)
        *nonzero, negative = code
        kept = Cat(bit & nonzero[0] for bit in x) if nonzero else x
        value = Cat(bit ^ negative for bit in kept)
        return _Sum(value.as_signed() if self.config.x.signed else value, low, high)

    def _whole(self, m: Module, total: _Sum, level: int) -> _Sum:
        """``total`` in a register, or in a wire with ``keep``, because synthesis would merge adders
        into one sum of many addends.
        """
        registered = (self.config.levels - level) % self.config.adders == 0
        whole = Signal(
            total.shape,
            name=f"sum_{level}",
            attrs={} if registered else KEEP,
            reset_less=True,
        )
        domain = m.d.sync if registered else m.d.comb
        domain += whole.eq(total.value)
        return replace(total, value=whole, whole=True)

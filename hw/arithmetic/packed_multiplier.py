"""Several narrow products of one operand in one multiplier."""

from dataclasses import dataclass

import numpy as np
from amaranth import C, Cat, Module, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from ..sizes import at_least
from ..target.dsp import Multiplier, MultiplierConfig

__all__ = ["PackedConfig", "PackedMultiplier", "add_with_carry", "borrow", "packed_products"]


def _shift(x: Shape, most: int) -> int:
    """Bits that hold every ``x * w`` with ``|w| <= most``, and its negative."""
    largest = 1 << (x.width - 1) if x.signed else (1 << x.width) - 1
    return (largest * most).bit_length() + 1


def packed_products(block: type[Multiplier], x: Shape, most: int) -> int:
    """How many products of one ``x`` with weights within +-``most`` a block gives; at least 1.

    The weights must fit its operand side by side, so far apart that the products do not overlap.
    """
    shift, products = _shift(x, most), 1
    while most * sum(1 << shift * n for n in range(products + 1)) < 1 << block.port >> 1:
        products += 1
    return products


def borrow(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Weights [products, ...] as :class:`PackedMultiplier` takes them.

    They are digits of one number, the first the lowest; a digit with its sign extended over the
    ones above takes 1 from them, so the next one is less by 1 where the one below it is negative.
    """
    digits = weights.copy()
    for n in range(1, len(digits)):
        digits[n] -= digits[n - 1] < 0
    return digits


@dataclass(frozen=True)
class PackedConfig:
    """``products`` products of one ``x`` with weights within +-``most``, stored as ``w``."""

    x: Shape
    w: Shape
    most: int
    products: int

    def __post_init__(self):
        at_least(1, self, "most", "products")
        if not self.w.signed or self.most >= 1 << (self.w.width - 1):
            raise ValueError(
                f"PackedConfig: w={self.w!r}, but it must be signed and hold -{self.most} - 1, "
                "for a weight may be lowered by a borrow"
            )

    @property
    def shift(self) -> int:
        """Distance of the weights in the operand, and of the products in the result, in bits."""
        return _shift(self.x, self.most)

    @property
    def p(self) -> Shape:
        return signed(self.shift)


class PackedMultiplier(wiring.Component):
    """``p[n] + carry[n] = x * weight[n]``, ``latency`` cycles later, new operands every cycle.

    With weights a, b in one operand, ``x * (a + (b << k)) = x * a + ((x * b) << k)``: the lower k
    bits are ``x * a``, and the bits above them are ``x * b``, less 1 where ``x * a`` is negative.
    That 1 is left to the adder that takes the product, as its carry in. ``w`` is
    ``borrow(weight)``, which makes the operand from the weights by wires alone.

    Members
    -------
    x : In(config.x)
    w : In(config.w).array(products)
    p : Out(config.p).array(products)
    carry : Out(1).array(products)
    """

    def __init__(self, config: PackedConfig, block: type[Multiplier], site: str | None = None):
        """``block``: the kind of multiplier; ``site``: its place on the chip."""
        most = packed_products(block, config.x, config.most)
        if config.products > most:
            raise ValueError(
                f"PackedMultiplier: products={config.products}, but a block gives at most {most}"
            )
        self.config = config
        self.latency = block.latency
        self.block = block(MultiplierConfig(config.x, signed(block.port)), site)
        super().__init__(
            {
                "x": In(config.x),
                "w": In(config.w).array(config.products),
                "p": Out(config.p).array(config.products),
                "carry": Out(unsigned(1)).array(config.products),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.block = self.block
        shift, top = self.config.shift, self.config.products - 1
        digits = [Signal(self.config.p, name=f"digit_{n}") for n in range(top)]
        for digit, w in zip(digits, self.w, strict=False):
            m.d.comb += digit.eq(w)
        product = self.block.p[0]
        m.d.comb += [
            self.block.x[0].eq(self.x),
            self.block.w[0].eq(Cat(*digits, self.w[top]).as_signed()),
        ]
        for n in range(self.config.products):
            m.d.comb += [
                self.p[n].eq(product >> (n * shift)),
                self.carry[n].eq(product[n * shift - 1] if n else 0),
            ]
        return m


def add_with_carry(a: Value, b: Value, carry: Value) -> Value:
    """``a + b + carry`` of signed numbers by one carry chain, whose lowest bit makes the carry."""
    one, two = Cat(C(1, 1), a).as_signed(), Cat(carry, b).as_signed()
    return (one + two) >> 1

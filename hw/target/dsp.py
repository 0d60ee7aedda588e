"""A family's multiplier block behind one interface, and its generic twin."""

from dataclasses import dataclass

from amaranth import Module, Shape, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.delay import delay
from ..sizes import at_least, ceil_div

__all__ = ["MultiplierConfig", "Multiplier"]


@dataclass(frozen=True)
class MultiplierConfig:
    """``products`` independent products ``x * w`` in one block of hardware."""

    x: Shape
    w: Shape
    products: int = 1

    def __post_init__(self):
        at_least(1, self, "products")

    @property
    def p(self) -> Shape:
        """Holds every product."""
        width = self.x.width + self.w.width
        return signed(width) if self.x.signed or self.w.signed else unsigned(width)

    def sum(self, addend: Shape) -> Shape:
        """Holds every product plus an addend of that shape."""
        return signed(
            1 + max(self.p.width + (not self.p.signed), addend.width + (not addend.signed))
        )

    def soft_latency(self, adders: int = 1, *, addend: bool = False) -> int:
        """Of :class:`SoftMultiplier`: registers from the operands to the product."""
        return ceil_div(self.soft_levels(addend=addend), adders)

    def soft_levels(self, *, addend: bool = False) -> int:
        """Adders of :class:`SoftMultiplier` one after the other: a row's and those of the tree."""
        return 1 + ceil_log2(self._rows + addend)

    def soft_lut(self, carry_luts: int) -> int:
        """LUTs of :class:`SoftMultiplier`, roughly: a bit of an adder for each bit of each row, and
        of each sum of two, which is wider.
        """
        return (2 * self._rows - 1) * (self.x.width + 3 + carry_luts)

    def soft_ff(self, adders: int = 1) -> int:
        """Flip-flops of :class:`SoftMultiplier`, roughly: the bits of what is registered."""
        levels = range(self.soft_levels(), 0, -adders)
        return sum(
            ceil_div(self._rows, 1 << (level - 1)) * (self.x.width + min(self.w.width, 1 << level))
            for level in levels
        )

    @property
    def _rows(self) -> int:
        return ceil_div(self.w.width, 2)


class Multiplier(wiring.Component):
    """``p[n] = x[n] * w[n]``, ``latency`` cycles later, new operands every cycle.

    This is the generic twin: plain multiplications and registers. Families derive from it and put
    their own block in its place.

    Members
    -------
    x : In(config.x).array(products)
    w : In(config.w).array(products)
    p : Out(config.p).array(products)
    """

    latency = 3
    #: bits of a signed operand into which several weights may be packed (0: none)
    port = 18

    def __init__(self, config: MultiplierConfig, site: str | None = None):
        """``site``: the place of the block on the chip, in the words of place and route."""
        self.config = config
        self.site = site
        super().__init__(
            {
                "x": In(config.x).array(config.products),
                "w": In(config.w).array(config.products),
                "p": Out(config.p).array(config.products),
            }
        )

    @classmethod
    def products(cls, x: Shape, w: Shape) -> int:
        """How many products of such operands one block gives; 0 when the operands are too wide."""
        return 1

    def elaborate(self, platform):
        m = Module()
        for x, w, p in zip(self.x, self.w, self.p, strict=True):
            m.d.comb += p.eq(delay(m, delay(m, x, 1) * delay(m, w, 1), 2))
        return m

"""A family's multiplier block behind one interface, and its generic twin."""

from dataclasses import dataclass

from amaranth import Module, Shape, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.delay import delay
from ..sizes import at_least

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

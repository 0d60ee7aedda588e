"""The multiplier interface, its generic twin, and the one in soft logic."""

from dataclasses import dataclass

from amaranth import Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..delay import delay

__all__ = ["MultiplierConfig", "Multiplier", "SoftMultiplier", "block_of"]


@dataclass(frozen=True)
class MultiplierConfig:
    """``products`` independent products ``x * w`` in one block of hardware."""

    x: Shape
    w: Shape
    products: int = 1

    @property
    def p(self) -> Shape:
        """Holds every product."""
        width = self.x.width + self.w.width
        return signed(width) if self.x.signed or self.w.signed else unsigned(width)

    @property
    def soft_latency(self) -> int:
        """Of :class:`SoftMultiplier`: a register after the rows, and one after each level of the
        tree.
        """
        return 1 + ceil_log2((self.w.width + 1) // 2)

    @property
    def soft_lut(self) -> int:
        """LUTs of :class:`SoftMultiplier`, roughly: an adder and its gates for each bit of each
        row.
        """
        return (self.x.width + 3) * (self.w.width + self.w.width // 2)


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

    def __init__(self, config: MultiplierConfig):
        self.config = config
        super().__init__({
            "x": In(config.x).array(config.products),
            "w": In(config.w).array(config.products),
            "p": Out(config.p).array(config.products),
        })

    @classmethod
    def products(cls, x: Shape, w: Shape) -> int:
        """How many products of such operands one block gives; 0 when the operands are too wide."""
        return 1

    def elaborate(self, platform):
        m = Module()
        for x, w, p in zip(self.x, self.w, self.p, strict=True):
            m.d.comb += p.eq(delay(m, delay(m, x, 1) * delay(m, w, 1), 2))
        return m


class SoftMultiplier(wiring.Component):
    """``p = x * w`` in soft logic: two bits of ``w`` a row, rows added in a tree of registers.

    Members
    -------
    x : In(config.x)
    w : In(config.w)
    p : Out(config.p)
    """

    def __init__(self, config: MultiplierConfig):
        self.config = config
        super().__init__({"x": In(config.x), "w": In(config.w), "p": Out(config.p)})

    @property
    def latency(self) -> int:
        return self.config.soft_latency

    def elaborate(self, platform):
        m = Module()
        x, w = self.x, self.w
        rows = []
        for low in range(0, len(w), 2):
            top = self.config.w.signed and low + 2 >= len(w)
            digit = w[low:low + 2]
            one = Mux(digit[0], x, 0)
            if top and len(digit) == 1:
                row = -one
            elif top:
                row = one - (Mux(digit[1], x, 0) << 1)
            elif len(digit) == 1:
                row = one
            else:
                row = one + (Mux(digit[1], x, 0) << 1)
            rows.append((self._register(m, row), low))
        while len(rows) > 1:
            pairs = [rows[i:i + 2] for i in range(0, len(rows), 2)]
            rows = [(self._register(m, sum((v << (s - pair[0][1]) for v, s in pair[1:]),
                                           pair[0][0])), pair[0][1]) for pair in pairs]
        m.d.comb += self.p.eq(rows[0][0])
        return m

    def _register(self, m, value):
        shape = value.shape()
        held = Signal(Shape(min(shape.width, self.config.p.width), shape.signed), reset_less=True)
        m.d.sync += held.eq(value)
        return held


def block_of(family: str) -> type[Multiplier]:
    """The hard multiplier of a family; the generic twin for ``"generic"``."""
    from .ecp5 import Mult18x18
    from .ice40 import Mac16
    return {"generic": Multiplier, "ecp5": Mult18x18, "ice40": Mac16}[family]

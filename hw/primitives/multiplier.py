"""The multiplier interface, its generic twin, and the one in soft logic."""

from dataclasses import dataclass

from amaranth import Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..cost import CHAIN
from ..delay import KEPT, delay
from ..width import ceil_div

__all__ = ["MultiplierConfig", "Multiplier", "SoftMultiplier"]


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

    @property
    def soft_lut(self) -> int:
        """LUTs of :class:`SoftMultiplier`, roughly: a bit of an adder for each bit of each row, and
        of each sum of two, which is wider.
        """
        return (2 * self._rows - 1) * (self.x.width + 3 + CHAIN)

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


class SoftMultiplier(wiring.Component):
    """``p = x * w``, or ``x * w + addend``, in soft logic.

    Two bits of ``w`` make a row, ``x`` or nothing plus twice ``x`` or nothing, in one adder whose
    LUTs mask its addends; rows, and the addend as one more, are added in a tree, with no more than
    ``adders`` of them one after the other between registers.

    Members
    -------
    x : In(config.x)
    w : In(config.w)
    addend : In(addend), if given
    p : Out(config.p), or wide enough for the sum
    """

    def __init__(self, config: MultiplierConfig, addend: Shape | None = None, adders: int = 1):
        self.config = config
        self.addend_shape = addend
        self.adders = adders
        members = {"x": In(config.x), "w": In(config.w), "p": Out(self.result)}
        super().__init__(members | ({"addend": In(addend)} if addend is not None else {}))

    @property
    def result(self) -> Shape:
        """The shape of ``p``."""
        if self.addend_shape is None:
            return self.config.p
        return self.config.sum(self.addend_shape)

    @property
    def latency(self) -> int:
        return self.config.soft_latency(self.adders, addend=self.addend_shape is not None)

    def elaborate(self, platform):
        m = Module()
        rows = [(self._row(low), low) for low in range(0, len(self.w), 2)]
        if self.addend_shape is not None:
            rows.append((self.addend, 0))
        levels = self.config.soft_levels(addend=self.addend_shape is not None)
        for level in range(1, levels + 1):
            registered = (levels - level) % self.adders == 0
            rows = [(self._whole(m, value, registered), weight) for value, weight in rows]
            if level < levels:
                rows = [self._sum(rows[i : i + 2]) for i in range(0, len(rows), 2)]
        m.d.comb += self.p.eq(rows[0][0])
        return m

    def _row(self, low):
        """``x`` times the digit of ``w`` from its bit ``low`` on."""
        first, *second = (Mux(bit, self.x, 0) for bit in self.w[low : low + 2])
        negative = self.w.shape().signed and low + 2 >= len(self.w)
        if not second:
            return -first if negative else first
        return first - (second[0] << 1) if negative else first + (second[0] << 1)

    @staticmethod
    def _sum(rows):
        """The sum of up to two rows, each with its weight in bits, and the weight of the sum."""
        low = min(weight for _, weight in rows)
        total = sum(
            (value << (weight - low) for value, weight in rows[1:]),
            rows[0][0] << (rows[0][1] - low),
        )
        return total, low

    def _whole(self, m, value, registered):
        """``value``, in a register; or apart from what takes it, for the two not to be made one
        sum of many addends.
        """
        shape = Value.cast(value).shape()
        whole = Signal(
            Shape(min(shape.width, self.result.width), shape.signed),
            name="sum",
            attrs={} if registered else KEPT,
        )
        m.d.comb += whole.eq(value)
        return delay(m, whole, 1) if registered else whole

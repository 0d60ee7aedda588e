"""A multiplier in soft logic: rows of two bits, summed in a tree."""

from dataclasses import dataclass

from amaranth import Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from ..control.delay import KEEP, delay
from ..sizes import at_least, ceil_div
from ..target.dsp import MultiplierConfig

__all__ = ["SoftMultiplier", "SoftMultiplierConfig"]


@dataclass(frozen=True)
class SoftMultiplierConfig:
    """One product ``x * w`` of ``operands``, plus an addend of shape ``addend`` if given, with at
    most ``adders`` adders between registers.
    """

    operands: MultiplierConfig
    addend: Shape | None = None
    adders: int = 1

    def __post_init__(self):
        at_least(1, self, "adders")

    @property
    def result(self) -> Shape:
        """Holds every result."""
        return self.operands.p if self.addend is None else self.operands.sum(self.addend)

    @property
    def levels(self) -> int:
        """Adders in sequence: a row's and those of the tree."""
        return 1 + ceil_log2(self._rows + (self.addend is not None))

    @property
    def latency(self) -> int:
        """Cycles from the operands to the result."""
        return ceil_div(self.levels, self.adders)

    def lut(self, carry_luts: int) -> int:
        """LUTs of the product alone, roughly: a bit of an adder for each bit of each row, and of
        each sum of two rows, which is wider. A row of a single bit is a mask in the sum's adder.
        """
        adders = self.operands.w.width // 2 + self._rows - 1
        return adders * (self.operands.x.width + 3 + carry_luts)

    @property
    def ff(self) -> int:
        """Flip-flops of the product alone, roughly: the bits that are registered."""
        x, w = self.operands.x.width, self.operands.w.width
        return sum(
            ceil_div(self._rows, 1 << (level - 1)) * (x + min(w, 1 << level))
            for level in range(1 + ceil_log2(self._rows), 0, -self.adders)
        )

    @property
    def _rows(self) -> int:
        return ceil_div(self.operands.w.width, 2)


class SoftMultiplier(wiring.Component):
    """``p = x * w``, or ``x * w + addend``, in soft logic.

    Two bits of ``w`` make a row, ``(x or 0) + (2 * x or 0)``, in one adder whose LUTs mask its
    addends. The rows, and the addend as one more row, are added in a tree, with at most
    ``config.adders`` adders between registers. Takes operands every cycle; latency:
    ``config.latency``.

    Members
    -------
    x : In(config.operands.x)
    w : In(config.operands.w)
    addend : In(config.addend), if given
    p : Out(config.result)
    """

    def __init__(self, config: SoftMultiplierConfig):
        self.config = config
        members = {
            "x": In(config.operands.x),
            "w": In(config.operands.w),
            "p": Out(config.result),
        }
        if config.addend is not None:
            members["addend"] = In(config.addend)
        super().__init__(members)

    def elaborate(self, platform):
        m = Module()
        rows = [(self._row(low), low) for low in range(0, len(self.w), 2)]
        if self.config.addend is not None:
            rows.append((self.addend, 0))
        levels = self.config.levels
        for level in range(1, levels + 1):
            registered = (levels - level) % self.config.adders == 0
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
        """``value`` in a register, or in a wire with ``keep``, because synthesis would merge both
        adders into one sum of many addends.
        """
        shape = Value.cast(value).shape()
        whole = Signal(
            Shape(min(shape.width, self.config.result.width), shape.signed),
            name="sum",
            attrs={} if registered else KEEP,
        )
        m.d.comb += whole.eq(value)
        return delay(m, whole, 1) if registered else whole

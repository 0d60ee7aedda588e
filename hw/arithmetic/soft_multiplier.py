"""A multiplier in soft logic: rows of two bits, summed in a tree."""

from amaranth import Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.delay import KEEP, delay
from ..target.dsp import MultiplierConfig

__all__ = ["SoftMultiplier"]


class SoftMultiplier(wiring.Component):
    """``p = x * w``, or ``x * w + addend``, in soft logic.

    Two bits of ``w`` make a row, ``(x or 0) + (2 * x or 0)``, in one adder whose LUTs mask its
    addends. The rows, and the addend as one more row, are added in a tree, with at most ``adders``
    adders between registers. Takes operands every cycle; latency: ``latency``.

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
        """Cycles from the operands to the product."""
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
        """``value`` in a register, or in a wire with ``keep``, because synthesis would merge both
        adders into one sum of many addends.
        """
        shape = Value.cast(value).shape()
        whole = Signal(
            Shape(min(shape.width, self.result.width), shape.signed),
            name="sum",
            attrs={} if registered else KEEP,
        )
        m.d.comb += whole.eq(value)
        return delay(m, whole, 1) if registered else whole

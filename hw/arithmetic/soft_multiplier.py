"""A multiplier in soft logic: rows of two bits, summed in a tree."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from amaranth import Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for, ceil_log2

from ..control.delay import KEEP, delay
from ..sizes import at_least, ceil_div, ends
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
        each sum of two rows, which is wider. A row of a single bit has no adder.
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
    addends; of an odd number of bits the lowest is a row without an adder. The rows, and the addend
    as one more row, are added in a tree, with at most ``config.adders`` adders between registers.
    Every sum has the bits that its range takes: with one more its sign would be in two registers,
    of which place and route can put only one beside the adder. Takes operands every cycle;
    latency: ``config.latency``.

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
        odd = len(self.w) % 2
        rows = [self._row(low, 2) for low in range(odd, len(self.w), 2)]
        if self.config.addend is not None:
            rows.append(_Row(self.addend, 0, ends(self.addend.shape())))
        rows = [self._whole(m, row, 1) for row in rows]
        if odd:  # the adder of a sum masks the lowest row, which takes no adder of its own
            lone = self._row(0, 1)
            rows.insert(0, self._whole(m, lone, 1) if self._registered(1) else lone)
        for level in range(2, self.config.levels + 1):
            rows = [_sum(rows[i : i + 2]) for i in range(0, len(rows), 2)]
            rows = [self._whole(m, row, level) for row in rows]
        m.d.comb += self.p.eq(rows[0].value)
        return m

    def _registered(self, level):
        return (self.config.levels - level) % self.config.adders == 0

    def _row(self, low, bits):
        """``x`` times one or two bits of ``w``, from ``low`` on."""
        digit = Shape(bits, self.w.shape().signed and low + bits == len(self.w))
        first, *second = (Mux(bit, self.x, 0) for bit in self.w[low : low + bits])
        if second:
            high = second[0] << 1
            value = first - high if digit.signed else first + high
        else:
            value = -first if digit.signed else first
        products = [x * w for x in ends(self.x.shape()) for w in ends(digit)]
        return _Row(value, low, (min(0, *products), max(0, *products)))

    def _whole(self, m, row, level):
        """``row`` in a register, or in a wire with ``keep``, because synthesis would merge both
        adders into one sum of many addends.
        """
        is_signed = row.ends[0] < 0
        width = max(bits_for(end, is_signed) for end in row.ends)
        registered = self._registered(level)
        whole = Signal(
            Shape(min(width, self.config.result.width), is_signed),
            name="sum",
            attrs={} if registered else KEEP,
        )
        m.d.comb += whole.eq(row.value)
        return replace(row, value=delay(m, whole, 1) if registered else whole)


@dataclass(frozen=True)
class _Row:
    """``value << low``, where ``value`` is at least and at most ``ends``."""

    value: Value
    low: int
    ends: tuple[int, int]


def _sum(rows: Sequence[_Row]) -> _Row:
    """The sum of up to two rows."""
    low = min(row.low for row in rows)
    first, *second = (row.value << (row.low - low) for row in rows)
    least, most = (sum(row.ends[end] << (row.low - low) for row in rows) for end in (0, 1))
    return _Row(first + second[0] if second else first, low, (least, most))

"""A serial multiplier in soft logic: some bits of one operand a cycle."""

from amaranth import Cat, Module, Mux, Shape, Signal, unsigned
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.delay import delay_flags, duplicate
from ..sizes import ceil_div
from ..target.dsp import MultiplierConfig
from .soft_multiplier import SoftMultiplier, SoftMultiplierConfig

__all__ = ["SerialMultiplier"]


class SerialMultiplier(wiring.Component):
    """``p = x * w + addend`` for an unsigned ``w``, of which ``digit`` bits are used each cycle.

    The least significant digit is first. The sum is shifted down by a digit each cycle, so the
    adder is narrower than the product::

        cycle   0        1           1 + rows             2 + rows              latency
                start ─▶ w's first ─▶ x * digit, first ─▶ its sum ─▶ ... ─────▶ p
                         digit                            x * digit, second

    ``x`` and ``w`` are taken with ``start``, at least :attr:`digits` cycles after the previous one;
    ``addend`` is taken :attr:`addend_latency` cycles after it. ``p`` is valid for one cycle,
    :attr:`latency` cycles after ``start``.

    Members
    -------
    start : In(1)
    x : In(config.x)
    w : In(config.w)
    addend : In(addend)
    p : Out, wide enough for the sum
    """

    def __init__(self, config: MultiplierConfig, addend: Shape, digit: int):
        if config.w.signed:
            raise ValueError("SerialMultiplier: w is signed, but digits are taken as unsigned")
        self.digit = digit
        self.digits = self.digits_of(config.w.width, digit)
        self.row = SoftMultiplierConfig(MultiplierConfig(config.x, unsigned(digit)))
        super().__init__(
            {
                "start": In(1),
                "x": In(config.x),
                "w": In(config.w),
                "addend": In(addend),
                "p": Out(config.sum(addend)),
            }
        )

    @staticmethod
    def digits_of(bits: int, digit: int) -> int:
        """Cycles for a ``w`` of so many bits."""
        return ceil_div(bits, digit)

    @property
    def addend_latency(self) -> int:
        return 1 + self.row.latency

    @property
    def latency(self) -> int:
        return self.digits + self.addend_latency

    def elaborate(self, platform):
        m = Module()
        x = Signal.like(self.x, reset_less=True)
        w = Signal(self.digits * self.digit, reset_less=True)
        m.d.sync += w.eq(Mux(self.start, self.w, w >> self.digit))
        with m.If(self.start):
            m.d.sync += x.eq(self.x)
        m.submodules.multiply = multiply = SoftMultiplier(self.row)
        m.d.comb += [multiply.x.eq(x), multiply.w.eq(w[: self.digit])]

        first = duplicate(m, delay_flags(m, self.start, self.addend_latency - 1))
        total = Signal(self.row.operands.sum(self.addend.shape()), reset_less=True)
        m.d.sync += total.eq(Mux(first, self.addend, total >> self.digit) + multiply.p)
        # digits of the result that were shifted out
        done = Signal((self.digits - 1) * self.digit, reset_less=True)
        everything = Cat(done, total)
        m.d.sync += done.eq(everything >> self.digit)
        m.d.comb += self.p.eq(everything.as_signed())
        return m

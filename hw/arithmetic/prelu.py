"""A stream, and where it is negative its product with another one, element by element."""

from dataclasses import dataclass, field

from amaranth import C, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.utils import bits_for

from ..control.delay import delay
from ..sizes import at_least
from ..stream.fifo import Queue
from ..target.base import Target
from ..target.dsp import MultiplierConfig
from ..target.resources import Resources
from .multiply import centered
from .pipeline import OperandQueues, PairPipeline, PairTiming
from .requantize import Narrower, Rounding
from .soft_multiplier import SoftMultiplier, SoftMultiplierConfig

__all__ = ["PRelu", "PReluConfig"]


@dataclass(frozen=True)
class PReluConfig(PairTiming):
    """``clip(((a - zero_a) * slope * mult[n] + offset[n]) >> shift)``, ``lanes`` channels a beat.

    Where ``a`` is below ``zero_a``, ``slope`` is ``b - zero_b`` and ``n`` is 0; else they are 1.
    """

    lanes: int
    a: Shape
    b: Shape
    out: Shape
    zero_a: int
    zero_b: int
    mult: tuple[int, int]
    offset: tuple[int, int]
    rounding: Rounding
    beats: int
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "lanes", "beats")
        if min(self.mult) < 0:
            raise ValueError(f"PReluConfig: mult={self.mult}; choose 0 or more")

    @property
    def product(self) -> SoftMultiplierConfig:
        """The multiplication of ``a`` by its slope, without their zero points."""
        slope = centered(self.b, self.zero_b)
        wide_enough = Shape(max(slope.width, 1 + slope.signed), slope.signed)  # for 1
        return SoftMultiplierConfig(MultiplierConfig(centered(self.a, self.zero_a), wide_enough))

    @property
    def scaled(self) -> SoftMultiplierConfig:
        """The multiplication by ``mult[n]``, and the addition of ``offset[n]``."""
        operands = MultiplierConfig(self.product.result, unsigned(max(map(bits_for, self.mult))))
        addend = signed(max(bits_for(offset, True) for offset in self.offset))
        return SoftMultiplierConfig(operands, addend)

    @property
    def pipeline(self) -> int:
        """Cycles from operands taken to the result: queues, zero points, slope, two products,
        rounding.
        """
        arithmetic = 2 + self.product.latency + self.scaled.latency + Narrower.latency
        return OperandQueues.latency(self.target) + arithmetic

    def resources(self) -> Resources:
        """An estimate: two multiplications and a rounding for each lane, and queues."""
        carry = self.target.carry_luts
        lut = self.product.lut(carry) + self.scaled.lut(carry)
        ff = self.product.ff + self.scaled.ff + 2 * self.a.width + 2 * self.b.width
        return (
            Resources(60, 40)
            + Resources(lut + 25 + self.b.width, ff + 32) * self.lanes
            + Queue.estimate(self.out.width * self.lanes, self.target, self.queue_depth)
            + OperandQueues.estimate(self.lanes, self.a, self.b, self.target)
        )


class PRelu(PairPipeline):
    """``o = round(a' * slope * mult + offset)`` with ``a' = a - zero_a``, beat by beat.

    Takes a beat a cycle while ``o`` is ready; latency: ``config.latency``.

    Members
    -------
    a : In(beats(lanes, config.a))
    b : In(beats(lanes, config.b))
    o : Out(beats(lanes, config.out))
    """

    def __init__(self, config: PReluConfig):
        self.config = config
        super().__init__(config.lanes, config.a, config.b, config.out)

    def lane(self, m: Module, number: int, a: Value, b: Value) -> Value:
        c = self.config
        operands = c.product.operands
        centered_a = Signal(operands.x, name=f"centered_a_{number}", reset_less=True)
        centered_b = Signal(operands.w, name=f"centered_b_{number}", reset_less=True)
        slope = Signal(operands.w, name=f"slope_{number}", reset_less=True)
        m.submodules[f"product_{number}"] = product = SoftMultiplier(c.product)
        m.submodules[f"scale_{number}"] = scale = SoftMultiplier(c.scaled)
        m.submodules[f"narrow_{number}"] = narrow = Narrower(c.scaled.result, c.out, c.rounding)
        negative = centered_a < 0
        m.d.sync += [
            centered_a.eq(a - c.zero_a),
            centered_b.eq(b - c.zero_b),
            slope.eq(Mux(negative, centered_b, 1)),
        ]
        scaled_negative = delay(m, negative, 1 + c.product.latency)
        m.d.comb += [
            product.x.eq(delay(m, centered_a, 1)),
            product.w.eq(slope),
            scale.x.eq(product.p),
            scale.w.eq(Mux(scaled_negative, *c.mult)),
            scale.addend.eq(Mux(scaled_negative, *(C(n, c.scaled.addend) for n in c.offset))),
            narrow.i.eq(scale.p),
        ]
        return narrow.o

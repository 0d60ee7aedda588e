"""Product of two streams, element by element."""

from dataclasses import dataclass, field

from amaranth import C, Module, Shape, Signal, Value, signed, unsigned
from amaranth.utils import bits_for

from ..sizes import at_least, ends
from ..stream.fifo import Queue
from ..target.base import Target
from ..target.dsp import MultiplierConfig
from ..target.resources import Resources
from .pipeline import OperandQueues, PairPipeline, PairTiming
from .requantize import Narrower, Rounding
from .soft_multiplier import SoftMultiplier, SoftMultiplierConfig

__all__ = ["Multiply", "MultiplyConfig", "centered"]


@dataclass(frozen=True)
class MultiplyConfig(PairTiming):
    """``clip(((a - zero_a) * (b - zero_b) * mult + offset) >> shift)``, ``lanes`` channels a
    beat.
    """

    lanes: int
    a: Shape
    b: Shape
    out: Shape
    zero_a: int
    zero_b: int
    mult: int
    offset: int
    rounding: Rounding
    beats: int
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "lanes", "beats")
        at_least(0, self, "mult")

    @property
    def product(self) -> SoftMultiplierConfig:
        """The multiplication of the operands without their zero points."""
        return SoftMultiplierConfig(
            MultiplierConfig(centered(self.a, self.zero_a), centered(self.b, self.zero_b))
        )

    @property
    def scaled(self) -> SoftMultiplierConfig:
        """The multiplication of the product by ``mult``, and the addition of ``offset``."""
        operands = MultiplierConfig(self.product.result, unsigned(bits_for(self.mult)))
        return SoftMultiplierConfig(operands, signed(bits_for(self.offset, True)))

    @property
    def pipeline(self) -> int:
        """Cycles from operands taken to the result: queues, zero points, products, rounding."""
        arithmetic = 1 + self.product.latency + self.scaled.latency + Narrower.latency
        return OperandQueues.latency(self.target) + arithmetic

    def resources(self) -> Resources:
        """An estimate: two multiplications, one of them by a constant, and a rounding for each
        lane, and queues.
        """
        carry = self.target.carry_luts
        # a constant's zero bits take no adder: half of the rows are left
        lut = self.product.lut(carry) + self.scaled.lut(carry) // 2
        ff = self.product.ff + self.scaled.ff // 2 + self.a.width + self.b.width
        return (
            Resources(60, 40)
            + Resources(lut + 25, ff + 32) * self.lanes
            + Queue.estimate(self.out.width * self.lanes, self.target, self.queue_depth)
            + OperandQueues.estimate(self.lanes, self.a, self.b, self.target)
        )


def centered(shape: Shape, zero: int) -> Shape:
    """The shape of an integer less its zero point."""
    low, high = ends(shape)
    if low - zero >= 0:
        return unsigned(bits_for(high - zero))
    return signed(max(bits_for(low - zero, True), bits_for(high - zero, True)))


class Multiply(PairPipeline):
    """``o = round((a - zero_a) * (b - zero_b) * mult + offset)``, beat by beat.

    Takes a beat a cycle while ``o`` is ready; latency: ``config.latency``.

    Members
    -------
    a : In(beats(lanes, config.a))
    b : In(beats(lanes, config.b))
    o : Out(beats(lanes, config.out))
    """

    def __init__(self, config: MultiplyConfig):
        self.config = config
        super().__init__(config.lanes, config.a, config.b, config.out)

    def lane(self, m: Module, number: int, a: Value, b: Value) -> Value:
        c = self.config
        operands = c.product.operands
        centered_a = Signal(operands.x, name=f"centered_a_{number}", reset_less=True)
        centered_b = Signal(operands.w, name=f"centered_b_{number}", reset_less=True)
        m.submodules[f"product_{number}"] = product = SoftMultiplier(c.product)
        m.submodules[f"scale_{number}"] = scale = SoftMultiplier(c.scaled)
        m.submodules[f"narrow_{number}"] = narrow = Narrower(c.scaled.result, c.out, c.rounding)
        m.d.sync += [centered_a.eq(a - c.zero_a), centered_b.eq(b - c.zero_b)]
        m.d.comb += [
            product.x.eq(centered_a),
            product.w.eq(centered_b),
            scale.x.eq(product.p),
            scale.w.eq(c.mult),
            scale.addend.eq(C(c.offset, c.scaled.addend)),
            narrow.i.eq(scale.p),
        ]
        return narrow.o

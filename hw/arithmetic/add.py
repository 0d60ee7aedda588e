"""Sum or difference of two streams, element by element."""

from dataclasses import dataclass, field

from amaranth import Cat, Module, Shape, Signal, Value, signed, unsigned
from amaranth.utils import bits_for

from ..control.delay import delay
from ..sizes import at_least
from ..stream.fifo import Queue
from ..target.base import Target
from ..target.dsp import MultiplierConfig
from ..target.resources import Resources
from .pipeline import OperandQueues, PairPipeline, PairTiming
from .requantize import Narrower, Rounding
from .soft_multiplier import SoftMultiplier, SoftMultiplierConfig

__all__ = ["AddConfig", "Add"]

#: upper bound of the bits of an operand's multiplier for planning the latency; those of the
#: benchmark networks have 17 to 23, which takes a cycle less
_USUAL_MULT_BITS = 40


@dataclass(frozen=True)
class AddConfig(PairTiming):
    """``clip((a * mult_a + b * mult_b + offset) >> shift)``, ``lanes`` channels a beat.

    A negative ``mult_b`` subtracts.
    """

    lanes: int
    a: Shape
    b: Shape
    out: Shape
    mult_a: int
    mult_b: int
    offset: int
    rounding: Rounding
    beats: int
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "lanes", "beats")
        at_least(0, self, "mult_a")

    @property
    def products(self) -> tuple[MultiplierConfig, MultiplierConfig]:
        """The multiplications of both operands by the magnitude of their multipliers."""
        return (
            MultiplierConfig(self.a, unsigned(bits_for(self.mult_a))),
            MultiplierConfig(self.b, unsigned(bits_for(abs(self.mult_b)))),
        )

    @property
    def pipeline(self) -> int:
        """Cycles from operands taken to the sum: queues, products, two additions, rounding."""
        return self._pipeline(self.target, *self.products)

    @classmethod
    def usual_latency(cls, target: Target) -> int:
        """:attr:`latency` before the constants are known."""
        product = MultiplierConfig(signed(8), unsigned(_USUAL_MULT_BITS))
        return OperandQueues.arrival(target) + cls._pipeline(target, product) + Queue.latency

    @classmethod
    def _pipeline(cls, target: Target, *products: MultiplierConfig) -> int:
        multiply = max(SoftMultiplierConfig(p).latency for p in products)
        return OperandQueues.latency(target) + multiply + 2 + Narrower.latency

    @staticmethod
    def estimate(lanes: int, a: Shape, b: Shape, out: Shape, target: Target) -> Resources:
        """Two constant multiplications and a rounding for each lane, and queues for the sums and
        the operands that wait.
        """
        bits = a.width + b.width
        return (
            Resources(60, 40)
            + Resources(20 * bits, 75 * bits // 4) * lanes
            + Queue.estimate(out.width * lanes, target, 32)
            + OperandQueues.estimate(lanes, a, b, target)
        )


class Add(PairPipeline):
    """``o = round(a * mult_a + b * mult_b + offset)``, beat by beat.

    Takes a beat a cycle while ``o`` is ready; latency: ``config.latency``.

    Members
    -------
    a : In(beats(lanes, config.a))
    b : In(beats(lanes, config.b))
    o : Out(beats(lanes, config.out))
    """

    def __init__(self, config: AddConfig):
        self.config = config
        super().__init__(config.lanes, config.a, config.b, config.out)

    def arithmetic(self, m: Module, words) -> Value:
        c = self.config
        products = c.products
        width = 2 + max(max(p.p.width for p in products), abs(c.offset).bit_length() + 1)
        results = []
        for lane in range(c.lanes):
            terms = []
            for name, word, mult, config in zip(
                "ab", words, (c.mult_a, abs(c.mult_b)), products, strict=True
            ):
                multiply = SoftMultiplier(SoftMultiplierConfig(config))
                m.submodules[f"multiply_{name}_{lane}"] = multiply
                m.d.comb += [multiply.x.eq(word[lane]), multiply.w.eq(mult)]
                terms.append((multiply.p, multiply.config.latency))
            longest = max(latency for _, latency in terms)
            a, b = (delay(m, p, longest - latency) for p, latency in terms)
            both = Signal(signed(width), reset_less=True)
            scaled = Signal(signed(width), reset_less=True)
            m.d.sync += [both.eq(a - b if c.mult_b < 0 else a + b), scaled.eq(both + c.offset)]
            m.submodules[f"narrow_{lane}"] = narrow = Narrower(scaled.shape(), c.out, c.rounding)
            m.d.comb += narrow.i.eq(scaled)
            results.append(narrow.o)
        return Cat(results)

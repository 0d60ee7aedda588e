"""A change of quantization, element by element: one multiplication by a constant and a rounding."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from amaranth import C, Cat, Module, Shape, Value, signed, unsigned
from amaranth.utils import bits_for

from ..sizes import at_least
from ..stream.fifo import Queue
from ..target.base import Target
from ..target.dsp import MultiplierConfig
from ..target.resources import Resources
from .pipeline import PipelineTiming, UnaryPipeline
from .requantize import Narrower, Rounding
from .soft_multiplier import SoftMultiplier, SoftMultiplierConfig

__all__ = ["Rescale", "RescaleConfig", "rescaled"]


@dataclass(frozen=True)
class RescaleConfig(PipelineTiming):
    """``clip((x * mult + offset) >> shift)``, ``lanes`` channels a beat."""

    lanes: int
    element: Shape
    out: Shape
    mult: int
    offset: int
    rounding: Rounding
    beats: int
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "lanes", "beats")
        at_least(0, self, "mult")

    @property
    def multiplier(self) -> SoftMultiplierConfig:
        operands = MultiplierConfig(self.element, unsigned(bits_for(self.mult)))
        return SoftMultiplierConfig(operands, self.addend)

    @property
    def addend(self) -> Shape:
        return signed(bits_for(self.offset, True))

    @property
    def pipeline(self) -> int:
        """Cycles of the arithmetic."""
        return self.multiplier.latency + Narrower.latency

    @property
    def arithmetic(self) -> Resources:
        """An estimate of the lanes: a constant multiplication and a rounding each."""
        product = self.element.width + self.multiplier.operands.w.width
        # a constant's zero bits take no adder: a third of the LUTs are left, half of the registers
        multiply = self.multiplier.lut(self.target.carry_luts)
        return Resources(multiply // 3 + 25, multiply // 2 + product + 32) * self.lanes

    def resources(self) -> Resources:
        """An estimate: the arithmetic and a queue."""
        return (
            Resources(60, 40)
            + self.arithmetic
            + Queue.estimate(self.out.width * self.lanes, self.target, self.queue_depth)
        )


class Rescale(UnaryPipeline):
    """``o = clip((i * mult + offset) >> shift)``, lane by lane.

    Takes a beat a cycle while ``o`` is ready; latency: ``config.latency``.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, out))
    """

    def __init__(self, config: RescaleConfig):
        self.config = config
        super().__init__(config.lanes, config.element, config.out)

    def arithmetic(self, m: Module, words) -> Value:
        return Cat(rescaled(m, self.config, words))


def rescaled(m: Module, c: RescaleConfig, words: Iterable[Value]) -> list[Value]:
    """``clip((word * mult + offset) >> shift)`` of each lane, ``c.pipeline`` cycles later."""
    results = []
    for lane, word in enumerate(words):
        multiply = SoftMultiplier(c.multiplier)
        narrow = Narrower(c.multiplier.result, c.out, c.rounding)
        m.submodules[f"multiply_{lane}"] = multiply
        m.submodules[f"narrow_{lane}"] = narrow
        m.d.comb += [
            multiply.x.eq(word),
            multiply.w.eq(c.mult),
            multiply.addend.eq(C(c.offset, c.addend)),
            narrow.i.eq(multiply.p),
        ]
        results.append(narrow.o)
    return results

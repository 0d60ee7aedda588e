"""The larger or the smaller of two streams, element by element."""

from dataclasses import dataclass, field

from amaranth import Cat, Module, Mux, Shape, Signal, Value

from ..control.delay import delay
from ..sizes import at_least
from ..stream.fifo import Queue
from ..target.base import Target
from ..target.resources import Resources
from .pipeline import OperandQueues, PairPipeline, PairTiming

__all__ = ["Extremum", "ExtremumConfig"]


@dataclass(frozen=True)
class ExtremumConfig(PairTiming):
    """``max(a, b)`` (``min`` unless ``largest``), ``lanes`` channels a beat; all of one ``element``
    type.
    """

    lanes: int
    element: Shape
    largest: bool
    beats: int
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "lanes", "beats")

    @property
    def pipeline(self) -> int:
        """Cycles from operands taken to the result: queues, comparison, choice."""
        return OperandQueues.latency(self.target) + 2

    def resources(self) -> Resources:
        """An estimate: a comparison and a choice for each lane, and queues."""
        bits = self.element.width
        return (
            Resources(60, 40)
            + Resources(3 * bits // 2 + 2, 3 * bits + 1) * self.lanes
            + Queue.estimate(bits * self.lanes, self.target, self.queue_depth)
            + OperandQueues.estimate(self.lanes, self.element, self.element, self.target)
        )


class Extremum(PairPipeline):
    """``o = max(a, b)`` or ``min(a, b)``, beat by beat.

    Takes a beat a cycle while ``o`` is ready; latency: ``config.latency``.

    Members
    -------
    a : In(beats(lanes, config.element))
    b : In(beats(lanes, config.element))
    o : Out(beats(lanes, config.element))
    """

    def __init__(self, config: ExtremumConfig):
        self.config = config
        super().__init__(config.lanes, config.element, config.element, config.element)

    def arithmetic(self, m: Module, words) -> Value:
        c = self.config
        results = []
        for lane in range(c.lanes):
            a, b = (word[lane] for word in words)
            first = Signal(name=f"first_{lane}", reset_less=True)
            chosen = Signal(c.element, name=f"chosen_{lane}", reset_less=True)
            m.d.sync += [
                first.eq(a > b if c.largest else a < b),
                chosen.eq(Mux(first, delay(m, a, 1), delay(m, b, 1))),
            ]
            results.append(chosen)
        return Cat(results)

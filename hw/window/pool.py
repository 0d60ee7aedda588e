"""Pooling: the maximum or the mean of the elements under a window, channel by channel."""

from dataclasses import dataclass

from amaranth import C, Module, Shape
from amaranth.lib import wiring

from ..arithmetic.reduce import Maximum, ReduceConfig, Sum
from ..arithmetic.requantize import Requantize, RequantizeConfig, Timing
from ..sizes import at_least
from .stage import FeedConfig, WindowStage

__all__ = ["PoolConfig", "MaxPool", "AveragePool"]


@dataclass(frozen=True)
class PoolConfig:
    """A pooling window of ``lanes`` channels side by side; ``requantize`` is None for the largest
    element.
    """

    feed: FeedConfig
    lanes: int
    out: Shape
    requantize: RequantizeConfig | None = None

    def __post_init__(self):
        at_least(1, self, "lanes")
        if self.feed.word != self.lanes:
            raise ValueError(
                f"PoolConfig: lanes={self.lanes}, but the feed gives words of {self.feed.word}"
            )

    def cycles(self) -> int:
        """Cycles a frame: ``pixels * ceil(taps / taps a cycle) * ceil(channels / lanes)``."""
        return self.feed.cycles()

    @property
    def reduce(self) -> ReduceConfig:
        """The tree and accumulator of each channel."""
        acc = self.requantize.acc if self.requantize else self.out
        return ReduceConfig(self.feed.width, self.lanes, self.feed.folds, self.feed.element, acc)

    @property
    def latency(self) -> int:
        """Cycles from the last read of a reduction to the beat out."""
        return self.latency_of(
            self.feed, self.reduce, self.requantize.timing if self.requantize else None
        )

    @staticmethod
    def latency_of(feed: FeedConfig, reduce: ReduceConfig, requantize: Timing | None) -> int:
        """:attr:`latency`, of which the constants need not be known."""
        return feed.stage_latency(reduce.latency + (requantize.latency if requantize else 0))


class _Pool(WindowStage):
    """What both pools share: ``lanes`` channels a beat, one result a reduction."""

    def __init__(self, config: PoolConfig):
        self.config = config
        super().__init__(config.feed, lanes=config.lanes, out=config.out, results=1)


class MaxPool(_Pool):
    """``o = max over the window``. The feed's ``fill`` is the least value: padding has no effect.

    Members
    -------
    i : In(beats(lanes, out))
    o : Out(beats(lanes, out))
    """

    def arithmetic(self, m: Module, flow) -> tuple:
        m.submodules.maximum = maximum = Maximum(self.config.reduce)
        wiring.connect(m, flow, maximum.i)
        return maximum.o, C(0), maximum.config.latency


class AveragePool(_Pool):
    """``o = requantize(sum over the window)``; dividing by the count is part of the constants.

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, out))
    """

    def arithmetic(self, m: Module, flow) -> tuple:
        config = self.config.requantize
        m.submodules.sum = total = Sum(self.config.reduce)
        m.submodules.requantize = requantize = Requantize(config)
        wiring.connect(m, flow, total.i)
        wiring.connect(m, total.o, requantize.i)
        return requantize.o, requantize.dropped, total.config.latency + config.latency

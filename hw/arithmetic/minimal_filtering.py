"""Minimal filtering F(2, 3) (S. Winograd, 1980): two outputs of three taps from four products. ::

    m0 = (x0 - x2) * 2 g0                y0 = (m0 + m1 + m2) / 2
    m1 = (x1 + x2) * (g0 + g1 + g2)      y1 = (m1 - m2 - m3) / 2
    m2 = (x2 - x1) * (g0 - g1 + g2)
    m3 = (x1 - x3) * 2 g2

The filters are transformed by the compiler, at twice their usual size, so that everything is an
integer and a result is twice the sum of the products. Each of the four positions is a matrix
product of its own, with its own weights; sums over channels and rows come before the output
transform. All sums are modulo a power of two, so only results have to fit the accumulator.
"""

from dataclasses import dataclass

import numpy as np
from amaranth import C, Cat, Module, Mux, Shape, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from numpy.typing import NDArray

from ..control.delay import delay, delay_flags, duplicate
from ..control.loops import Loops
from ..memory.ram import Ram, RamConfig
from ..sizes import at_least, ends
from ..stream.signature import PushStream
from ..target.base import Target
from ..target.resources import Resources
from .packed_multiplier import add_with_carry

__all__ = [
    "COLUMNS",
    "INPUTS",
    "LEAST_APART",
    "OUTPUTS",
    "POSITIONS",
    "OutputTransform",
    "OutputTransformConfig",
    "add_or_subtract",
    "input_difference",
    "transformed_filters",
    "transformed_results",
]

#: outputs of a tile; positions of its products, and columns of the input that it reads
OUTPUTS, POSITIONS, COLUMNS = 2, 4, 4
#: of each position the two columns of the input, and whether the second one is subtracted
INPUTS = ((0, 2, True), (1, 2, False), (2, 1, True), (1, 3, True))
#: cycles from a read of a sum after which the changed one can be read, from a memory of usual size
LEAST_APART = 6
#: of each output the sign with which each position counts
_SIGNS = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


def input_difference(x: Shape) -> Shape:
    """Holds every transformed input."""
    low, high = ends(x)
    return Shape.cast(range(min(low - high, 2 * low), max(high - low, 2 * high) + 1))


def transformed_filters(weights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Filters [..., 3, channels] of three taps: [4, ..., channels], at twice their size."""
    g0, g1, g2 = (weights[..., tap, :] for tap in range(3))
    return np.stack([2 * g0, g0 + g1 + g2, g0 - g1 + g2, 2 * g2])


def transformed_results(positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the output transform makes of sums [4, ...]: [2, ...], at twice the outputs' size."""
    return np.tensordot(_SIGNS, positions, 1)


def add_or_subtract(a: Value, b: Value, minus: Value) -> Value:
    """``a - b`` where ``minus`` is high, else ``a + b``, by one carry chain."""
    return add_with_carry(_signed(a), _signed(b) ^ minus.as_signed(), minus)


def _signed(value: Value) -> Value:
    return value if value.shape().signed else Cat(value, C(0, 1)).as_signed()


@dataclass(frozen=True)
class OutputTransformConfig:
    """Sums of ``beats`` beats of ``lanes`` elements for each of the four positions of a tile.

    Beats of the same place come at least ``apart`` cycles apart, from one position to the next.
    """

    beats: int
    lanes: int
    acc: Shape
    apart: int
    target: Target

    def __post_init__(self):
        at_least(1, self, "beats", "lanes")
        least = max(LEAST_APART, self.ram.latency + 3)
        if self.apart < least:
            raise ValueError(
                f"OutputTransformConfig: apart={self.apart}, but a changed sum can be read "
                f"again only after {least} cycles"
            )

    @property
    def ram(self) -> RamConfig:
        """The sums of one output."""
        return RamConfig(self.beats, self.lanes * self.acc.width, self.target)

    @property
    def latency(self) -> int:
        """Cycles from a beat of the last position that an output needs to the output's beat."""
        return self.ram.latency + 2

    def resources(self) -> Resources:
        """An estimate of two memories, two adders and what selects their results."""
        word = self.lanes * self.acc.width
        each = Resources(2 * word, word * (self.ram.latency + 1))
        return (self.ram.resources() + each) * OUTPUTS + Resources(word + 20, word + 30)


class OutputTransform(wiring.Component):
    """The outputs of tiles, from the sums of their positions.

    Takes the beats of position 0, then those of position 1, and so on, and gives the beats of a
    tile's first output with those of position 2, of its second one with those of position 3.
    Latency: ``config.latency``.

    Members
    -------
    i : In(PushStream(lanes, acc))
    o : Out(PushStream(lanes, acc))
    """

    def __init__(self, config: OutputTransformConfig):
        self.config = config
        flow = PushStream(config.lanes, config.acc)
        super().__init__({"i": In(flow), "o": Out(flow)})

    def elaborate(self, platform):
        m = Module()
        c = self.config
        loops = Loops(m, self.i.valid, {"beat": c.beats, "position": POSITIONS})
        place, position = loops.count["beat"], loops.count["position"]
        late = c.ram.latency
        came = [delay(m, element, late) for element in self.i.payload]
        sums = [self._summed(m, output, place, position, came) for output in range(OUTPUTS)]
        # an output is complete with the position of its number behind the first two
        done = [self.i.valid & (position == OUTPUTS + output) for output in range(OUTPUTS)]
        m.d.comb += [
            self.o.valid.eq(delay_flags(m, done[0] | done[1], c.latency)),
            self.o.first.eq(1),
            self.o.last.eq(1),
        ]
        for lane in range(c.lanes):
            first = duplicate(m, delay_flags(m, done[0], late))
            result = Signal(c.acc, name=f"output_{lane}", reset_less=True)
            m.d.sync += result.eq(Mux(first, sums[0][lane], sums[1][lane]))
            m.d.comb += self.o.payload[lane].eq(result)
        return m

    def _summed(self, m, output, place, position, came):
        """The sums of an output with the position that came, ``ram.latency + 1`` cycles later."""
        c = self.config
        late = c.ram.latency
        m.submodules[f"sums_{output}"] = ram = Ram(c.ram)
        m.d.comb += ram.address.eq(place)
        begins = duplicate(m, delay_flags(m, position == output, late - 1))
        minus = None
        if (_SIGNS[output] < 0).any():
            minus = duplicate(m, delay_flags(m, position > 1, late - 1))
        sums = []
        for lane, value in enumerate(came):
            before = ram.data.word_select(lane, c.acc.width).as_signed()
            before = Mux(begins, 0, before)
            total = Signal(c.acc, name=f"sum_{output}_{lane}", reset_less=True)
            m.d.sync += total.eq(
                before + value if minus is None else add_or_subtract(before, value, minus)
            )
            m.d.comb += ram.write_data.word_select(lane, c.acc.width).eq(total)
            sums.append(total)
        taking = [n for n in range(POSITIONS) if _SIGNS[output, n]][:-1]
        kept = self.i.valid & (position >= taking[0]) & (position <= taking[-1])
        m.d.comb += [
            ram.write_address.eq(delay(m, place, late + 1)),
            ram.write_enable.eq(delay_flags(m, kept, late + 1)),
        ]
        return sums

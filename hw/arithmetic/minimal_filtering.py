"""Minimal filtering F(2, 3) (S. Winograd, 1980): two outputs of three taps from four products. ::

    m0 = (x0 - x2) * 2 g0                y0 = (m0 + m1 + m2) / 2
    m1 = (x1 + x2) * (g0 + g1 + g2)      y1 = (m1 - m2 - m3) / 2
    m2 = (x2 - x1) * (g0 - g1 + g2)
    m3 = (x1 - x3) * 2 g2

In both directions, F(2 x 2, 3 x 3), the same is done with rows of such positions, filters and
outputs: four outputs of nine taps from sixteen products.

The filters are transformed by the compiler, at twice their usual size in each direction, so that
everything is an integer and a result is a multiple of the sum of the products. Each of the
positions is a matrix product of its own, with its own weights; sums over channels (and over rows,
in one direction) come before the output transform. All sums are modulo a power of two, so only
results have to fit the accumulator.
"""

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from amaranth import Array, C, Cat, Module, Mux, Shape, Signal, Value
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
    "INPUTS",
    "LEAST_APART",
    "MinimalFiltering",
    "OutputTransform",
    "OutputTransformConfig",
    "add_or_subtract",
]

#: cycles from a read of a sum after which the changed one can be read, from a memory of usual size
LEAST_APART = 6
#: in a direction, of each position the two inputs, and whether the second one is subtracted
INPUTS = ((0, 2, True), (1, 2, False), (2, 1, True), (1, 3, True))
#: in a direction, of each output the sign with which each position counts
_SIGNS = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])
#: in a direction, of each position what makes its filter of the taps, at twice its size
_FILTERS = np.array([[2, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 2]])


@dataclass(frozen=True)
class MinimalFiltering:
    """Along the columns (``directions`` 1), or along rows and columns (2).

    Positions and outputs are numbered row by row.
    """

    directions: int

    #: in a direction: taps, inputs of a tile, outputs of a tile
    TAPS = 3
    SIDE = 4
    STEP = 2

    def __post_init__(self):
        if self.directions not in (1, 2):
            raise ValueError(
                f"MinimalFiltering: directions={self.directions}, but there are 1 (along the "
                "columns) and 2 (along the rows too)"
            )

    @property
    def outputs(self) -> int:
        """Outputs of a tile."""
        return int(self.STEP**self.directions)

    @property
    def positions(self) -> int:
        """Positions of a tile: matrix products."""
        return int(self.SIDE**self.directions)

    @property
    def scale(self) -> int:
        """How many times as large as the sums of products the results are."""
        return int(2**self.directions)

    @property
    def gain(self) -> Fraction:
        """Products of the network that a product here stands for."""
        return Fraction(self.STEP * self.TAPS, self.SIDE) ** self.directions

    @property
    def signs(self) -> NDArray[np.int64]:
        """The sign with which each position counts in each output, [outputs, positions]."""
        return _SIGNS if self.directions == 1 else np.kron(_SIGNS, _SIGNS)

    def complete(self) -> list[int]:
        """The position with which each output is complete."""
        return [int(np.flatnonzero(row)[-1]) for row in self.signs]

    def granted(self) -> list[int]:
        """The positions with which room for results is taken: for each output, or, where a tile has
        several rows of them, for the whole tile.
        """
        return self.complete()[: 1 if self.directions == 2 else None]

    def transformed_input(self, x: Shape) -> Shape:
        """Holds every transformed input."""
        for _ in range(self.directions):
            low, high = ends(x)
            x = Shape.cast(range(min(low - high, 2 * low), max(high - low, 2 * high) + 1))
        return x

    def transformed_filters(self, weights: NDArray[np.int64]) -> NDArray[np.int64]:
        """Filters [outputs, rows, columns, channels] at ``scale`` times their size, [positions,
        outputs, reduction].
        """
        found = np.einsum("pc,orci->pori", _FILTERS, weights)
        if self.directions == 2:
            found = np.einsum("qr,pori->qpoi", _FILTERS, found)
        return found.reshape(self.positions, len(weights), -1)

    def transformed_results(self, positions: NDArray[np.int64]) -> NDArray[np.int64]:
        """What the output transform makes of sums [positions, ...]: [outputs, ...]."""
        return np.tensordot(self.signs, positions, 1)


def add_or_subtract(a: Value, b: Value, minus: Value) -> Value:
    """``a - b`` where ``minus`` is high, else ``a + b``, by one carry chain."""
    return add_with_carry(_signed(a), _signed(b) ^ minus.as_signed(), minus)


def _signed(value: Value) -> Value:
    return value if value.shape().signed else Cat(value, C(0, 1)).as_signed()


@dataclass(frozen=True)
class OutputTransformConfig:
    """Sums of ``beats`` beats of ``lanes`` elements for each of the positions of a tile.

    Beats of the same place come at least ``apart`` cycles apart, from one position to the next.
    """

    filtering: MinimalFiltering
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
        """An estimate: for each output a memory and an adder, and what selects among results."""
        word, outputs = self.lanes * self.acc.width, self.filtering.outputs
        each = Resources(2 * word, word * (self.ram.latency + 1))
        chosen = Resources((outputs - 1) * word + 20, word + 30)
        return (self.ram.resources() + each) * outputs + chosen


class OutputTransform(wiring.Component):
    """The outputs of tiles, from the sums of their positions.

    Takes the beats of position 0, then those of position 1, and so on, and gives the beats of each
    output with those of the position that completes it. Latency: ``config.latency``.

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
        loops = Loops(m, self.i.valid, {"beat": c.beats, "position": c.filtering.positions})
        place, position = loops.count["beat"], loops.count["position"]
        late = c.ram.latency
        came = [delay(m, element, late) for element in self.i.payload]
        sums = [
            self._summed(m, output, place, position, came) for output in range(c.filtering.outputs)
        ]
        done = self.i.valid & position.matches(*c.filtering.complete())
        m.d.comb += [
            self.o.valid.eq(delay_flags(m, done, c.latency)),
            self.o.first.eq(1),
            self.o.last.eq(1),
        ]
        # the positions that complete outputs are 2 and 3 in each direction, so the output's number
        # is the low bit of each direction
        output = delay_flags(m, position[::2], late)
        for lane in range(c.lanes):
            which = duplicate(m, output)
            result = Signal(c.acc, name=f"output_{lane}", reset_less=True)
            m.d.sync += result.eq(Array(each[lane] for each in sums)[which])
            m.d.comb += self.o.payload[lane].eq(result)
        return m

    def _summed(self, m, output, place, position, came):
        """The sums of an output with the position that came, ``ram.latency + 1`` cycles later."""
        c = self.config
        late, signs = c.ram.latency, c.filtering.signs[output]
        taken = np.flatnonzero(signs).tolist()
        m.submodules[f"sums_{output}"] = ram = Ram(c.ram)
        m.d.comb += ram.address.eq(place)
        begins = duplicate(m, delay_flags(m, position == taken[0], late - 1))
        minus = None
        if (signs < 0).any():
            subtracted = position.matches(*np.flatnonzero(signs < 0).tolist())
            minus = duplicate(m, delay_flags(m, subtracted, late - 1))
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
        kept = self.i.valid & position.matches(*taken[:-1])
        m.d.comb += [
            ram.write_address.eq(delay(m, place, late + 1)),
            ram.write_enable.eq(delay_flags(m, kept, late + 1)),
        ]
        return sums

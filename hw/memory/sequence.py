"""Constants that repeat, one for each event."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from amaranth import C, Module, Mux, Value
from numpy.typing import NDArray

from ..control.loops import Loops
from ..sizes import divisors
from ..target.base import Target
from ..target.resources import Resources
from .rom import Rom
from .tiles import estimate

__all__ = ["Sequence", "sequence"]

#: runs of equal constants that are found by comparing a counter with their ends
_RUNS = 4


@dataclass(frozen=True)
class Sequence:
    """``values`` over and over: one period. They are in a :class:`.Rom`, or chosen by comparing a
    counter with the ends of runs of equal values.
    """

    values: tuple[int, ...]
    in_rom: bool = False

    @classmethod
    def of(cls, values: NDArray[np.integer]) -> "Sequence":
        """``values`` in their shortest period: in a ROM unless they are a few runs."""
        period = next(
            p for p in divisors(len(values)) if (values.reshape(-1, p) == values[:p]).all()
        )
        once = values[:period]
        return cls(tuple(once.tolist()), np.count_nonzero(np.diff(once)) >= _RUNS)

    def modulo(self, n: int) -> "Sequence":
        """The values modulo ``n``."""
        return Sequence(tuple(value % n for value in self.values), self.in_rom)

    @cached_property
    def runs(self) -> list[tuple[int, int]]:
        """The end and the value of each run, in order."""
        values = np.array(self.values)
        ends = [*(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
        return [(end, self.values[end - 1]) for end in ends]

    @property
    def width(self) -> int:
        """Bits of a value."""
        return max(1, max(self.values).bit_length())

    @property
    def latency(self) -> int:
        """Cycles from an event to its value."""
        return Rom.latency if self.in_rom else 0

    def resources(self, target: Target) -> Resources:
        """An estimate of the counter, and of the choice or the ROM."""
        bits = (len(self.values) - 1).bit_length()
        counter = Resources(bits, bits + 2)
        if not self.in_rom:
            return counter + Resources((bits // 2 + self.width) * (len(self.runs) - 1))
        return counter + estimate(len(self.values), self.width, target, Rom.latency, True)


def sequence(m: Module, name: str, event: Value, config: Sequence, target: Target) -> Value:
    """The value of the event in a cycle with ``event``, ``config.latency`` cycles later."""
    count = Loops(m, event, {name: len(config.values)}).count[name]
    if config.in_rom:
        m.submodules[f"{name}_rom"] = rom = Rom(config.values, config.width, target)
        m.d.comb += rom.address.eq(count)
        return rom.data
    *before, (_, last) = config.runs
    value: Value = C(last, config.width)
    for end, chosen in reversed(before):
        value = Mux(count < end, C(chosen, config.width), value)
    return value

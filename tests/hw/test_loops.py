"""Nested counters step together, and know where they are without looking at each other."""

import random
from itertools import product

import pytest
from amaranth import Elaboratable, Module, Signal
from gatewright.hw.control.loops import Loops

from .bench import simulate

NESTS = [(1,), (2,), (5,), (1, 3), (2, 3), (3, 2), (2, 2, 2), (3, 1, 4), (1, 2, 1, 3), (4, 2, 1, 3)]


class Nest(Elaboratable):
    """Each loop's four outputs as signals; the innermost loop first."""

    def __init__(self, limits):
        self.limits, self.go = limits, Signal()
        self.found = [[Signal(8) for _ in range(4)] for _ in limits]

    def elaborate(self, platform):
        m = Module()
        loops = Loops(m, self.go, {f"loop{n}": limit for n, limit in enumerate(self.limits)})
        for n, signals in enumerate(self.found):
            for signal, what in zip(
                signals, (loops.count, loops.last, loops.nearly, loops.ends), strict=True
            ):
                m.d.comb += signal.eq(what[f"loop{n}"])
        return m


@pytest.mark.parametrize("often", [1.0, 0.4])
@pytest.mark.parametrize("limits", NESTS)
def test_a_nest_walks_as_nested_loops_do(limits, often):
    dut, rng = Nest(limits), random.Random(repr(limits))
    walk = [counts[::-1] for counts in product(*(range(limit) for limit in reversed(limits)))]

    async def bench(ctx):
        step = 0
        while step < 3 * len(walk):
            counts = walk[step % len(walk)]
            for n, (count, limit) in enumerate(zip(counts, limits, strict=True)):
                last = [c == most - 1 for c, most in zip(counts, limits, strict=True)]
                found = [ctx.get(signal) for signal in dut.found[n]]
                assert found == [
                    count,
                    last[n],
                    limit == 1 or count == limit - 2,
                    all(last[: n + 1]),
                ]
            go = rng.random() < often
            ctx.set(dut.go, go)
            await ctx.tick()
            step += go

    simulate(dut, bench)

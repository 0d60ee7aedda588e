"""Counts tell whether there is any, whatever goes up and down at once."""

import random
from math import ceil

import pytest
from amaranth import Elaboratable, Module, Signal
from gatewright.hw.control.credits import counter_nonzero, credit_available

from .bench import simulate


class Counts(Elaboratable):
    """``some`` beside its counter's two wires."""

    def __init__(self, most, first):
        self.most, self.first = most, first
        self.more, self.less, self.any = Signal(), Signal(), Signal()

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.any.eq(
            counter_nonzero(m, "count", self.more, self.less, self.most, self.first)
        )
        return m


@pytest.mark.parametrize(("most", "first"), [(1, 0), (1, 1), (2, 1), (7, 0), (8, 8), (9, 4)])
def test_some_counts_between_none_and_the_most(most, first):
    dut, rng, count = Counts(most, first), random.Random(most * 10 + first), first

    async def bench(ctx):
        nonlocal count
        for _ in range(400):
            assert ctx.get(dut.any) == (count > 0)
            less = count > 0 and rng.random() < 0.5
            more = count - less < most and rng.random() < 0.5
            ctx.set(dut.less, less)
            ctx.set(dut.more, more)
            await ctx.tick()
            count += more - less

    simulate(dut, bench)


class Shares(Elaboratable):
    """``room`` for shares that are taken whole and come back one by one."""

    def __init__(self, size, share, apart, late):
        self.size, self.share, self.apart, self.late = size, share, apart, late
        self.taken, self.returned, self.free = Signal(), Signal(), Signal()

    def elaborate(self, platform):
        m = Module()
        m.d.comb += self.free.eq(
            credit_available(
                m,
                self.size,
                self.share,
                self.returned,
                self.taken,
                apart=self.apart,
                late=self.late,
            )
        )
        return m


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.parametrize("apart", [1, 2, 3])
@pytest.mark.parametrize(("size", "share"), [(16, 1), (16, 5), (24, 8), (48, 7)])
def test_room_is_never_given_twice_and_all_of_it_is_given(size, share, apart, late):
    """A share ``apart`` cycles after the other; then nobody gives any back."""
    dut, rng, used, pause = Shares(size, share, apart, late), random.Random(size + share), 0, 0

    async def bench(ctx):
        nonlocal used, pause
        for cycle in range(600):
            taken = ctx.get(dut.free) and pause == 0
            returned = cycle < 500 and used > 0 and rng.random() < 0.7
            ctx.set(dut.taken, taken)
            ctx.set(dut.returned, returned)
            await ctx.tick()
            used += taken * share - returned
            assert used <= size
            pause = apart - 1 if taken else max(0, pause - 1)
        assert used > size - share * ceil((2 + late) / apart)

    simulate(dut, bench)

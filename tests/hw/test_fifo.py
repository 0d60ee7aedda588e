"""Queues keep order, hold what they promise, and pass a beat a cycle."""

import pytest
from amaranth import signed
from gatewright.hw import Fifo
from numpy.testing import assert_array_equal

from .bench import STALLS, port, random_elements, run, simulate


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("depth", [1, 2, 3, 16, 50])
def test_keeps_the_order(depth, stall):
    beats = random_elements(signed(8), (100, 3))
    seen = run(Fifo(3, signed(8), depth), beats, len(beats), stall=stall)
    assert_array_equal(seen.values, beats)
    if not stall and depth > 2:
        late = seen.cycles[50:]
        assert late == list(range(late[0], late[0] + len(late)))


@pytest.mark.parametrize("depth", [1, 2, 5, 16])
def test_holds_its_depth_and_two_while_nobody_takes(depth):
    dut = Fifo(1, signed(8), depth)

    async def bench(ctx):
        ctx.set(port(dut.i).valid, 1)
        taken = 0
        for _ in range(depth + 10):
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken += ready
        assert taken == depth + 2

    simulate(dut, bench)

"""Queues keep order, hold what they promise, and pass a beat a cycle."""

import pytest
from amaranth import signed
from gatewright.hw import Fifo, RegisterSlice
from numpy.testing import assert_array_equal

from .bench import STALLS, port, random_elements, run, simulate


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("depth", [1, 2, 3, 16, 50])
def test_keeps_the_order(depth, stall):
    beats = random_elements(signed(8), (100, 3))
    seen = run(Fifo(3, signed(8), depth), beats, len(beats), stall=stall)
    assert_array_equal(seen.values, beats)
    if not stall:
        late = seen.cycles[50:]
        assert late == list(range(late[0], late[0] + len(late)))


@pytest.mark.parametrize("depth", [1, 2, 5, 16, 40])
def test_holds_at_least_its_depth_while_nobody_takes(depth):
    assert depth <= beats_taken(Fifo(1, signed(8), depth), depth + 50) < depth + 32


def beats_taken(dut, cycles):
    """Beats that a queue accepts while none leaves."""
    taken = 0

    async def bench(ctx):
        nonlocal taken
        ctx.set(port(dut.i).valid, 1)
        for _ in range(cycles):
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken += ready

    simulate(dut, bench)
    return taken


@pytest.mark.parametrize("stall", STALLS)
def test_a_register_slice_keeps_the_order_and_passes_a_beat_a_cycle(stall):
    beats = random_elements(signed(8), (100, 3))
    seen = run(RegisterSlice(3, signed(8)), beats, len(beats), stall=stall)
    assert_array_equal(seen.values, beats)
    if not stall:
        assert seen.cycles == list(range(seen.cycles[0], seen.cycles[0] + len(beats)))


def test_a_register_slice_holds_two():
    assert beats_taken(RegisterSlice(1, signed(8)), 10) == 2

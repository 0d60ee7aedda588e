"""A state gives each step of a frame a step later, and a number first."""

import numpy as np
import pytest
from amaranth import ResetInserter, Signal, signed, unsigned
from amaranth.sim import Simulator
from gatewright.hw import GENERIC, State, StateConfig
from numpy.testing import assert_array_equal

from .bench import STALLS, beats_of, exchange, pixels_of, port, random_elements

FRAMES = 3


def rtl(c, channels, pixels, stall=0.0):
    dut = State(c)
    count = FRAMES * c.steps * c.beats
    sources = [(port(dut.i), beats_of(pixels, c.lanes))]
    # a frame's first step comes before anything of the frame goes in
    (seen,), _ = exchange(dut, sources, [(port(dut.o), count)], stall=stall, surplus=True)
    return pixels_of(seen.values, channels), seen.cycles


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize(
    ("channels", "lanes", "steps", "pace"),
    [(3, 1, 4, 1), (4, 4, 2, 1), (5, 2, 3, 11), (1, 1, 1, 5), (40, 1, 2, 60), (2, 2, 5, 30)],
)
def test_every_step_comes_back_a_step_later(channels, lanes, steps, pace, stall):
    c = StateConfig(lanes, signed(6), -(-channels // lanes), steps, (-7,), pace, GENERIC)
    pixels = random_elements(c.element, (FRAMES * steps, channels))
    found, cycles = rtl(c, channels, pixels, stall)
    frames = pixels.reshape(FRAMES, steps, channels)
    wanted = np.full_like(frames, -7)
    wanted[:, 1:] = frames[:, :-1]
    assert_array_equal(found, wanted.reshape(-1, channels))
    begins = np.array(cycles)[:: c.beats]
    assert (np.diff(begins) >= pace).all()
    if not stall and pace > c.beats + c.latency:
        assert set(np.diff(begins).tolist()) <= {pace}
        assert c.cycles() == steps * pace


@pytest.mark.parametrize("stall", STALLS)
def test_a_stream_gives_the_first_step(stall):
    c = StateConfig(2, signed(6), 2, 3, None, 9, GENERIC)
    dut, size = State(c), 4
    pixels = random_elements(c.element, (FRAMES * c.steps, size))
    first = random_elements(c.element, (FRAMES, size))
    sources = [(port(dut.i), beats_of(pixels, 2)), (port(dut.first), beats_of(first, 2))]
    count = FRAMES * c.steps * c.beats
    (seen,), _ = exchange(dut, sources, [(port(dut.o), count)], stall=stall, surplus=True)
    wanted = pixels.reshape(FRAMES, c.steps, size)
    wanted = np.concatenate([first[:, None], wanted[:, :-1]], axis=1)
    assert_array_equal(pixels_of(seen.values, size), wanted.reshape(-1, size))
    assert (np.diff(seen.cycles[:: c.beats]) >= c.pace).all()


def test_the_first_step_of_unsigned_integers():
    c = StateConfig(1, unsigned(4), 2, 2, (15,), 1, GENERIC)
    found, _ = rtl(c, 2, np.zeros((FRAMES * 2, 2), np.int64))
    assert found.reshape(FRAMES, 2, 2)[:, 0].tolist() == [[15, 15]] * FRAMES


@pytest.mark.parametrize("first", [(3,), (-4, 1, 2, 0, 5, 0)])
def test_a_reset_brings_the_initial_frame_back(first):
    """Of a state between frames, which then gives frame after frame."""
    c = StateConfig(2, signed(4), 3, None, first, 1, GENERIC)
    dut, initial = State(c), [*(first * 6)[:6]]
    frames = random_elements(c.element, (2, 6)).tolist()

    async def sequence(ctx):
        seen, given = [], beats_of(np.array(frames).reshape(-1, 2), 2).tolist()
        for _ in range(80):
            ctx.set(dut.i.valid, bool(given))
            if given:
                ctx.set(dut.i.payload.as_value(), _packed(given[0]))
            taken = ctx.get(dut.i.ready)
            *_, valid, beat = await ctx.tick().sample(dut.o.valid, dut.o.payload)
            seen += [int(element) for element in beat] if valid else []
            given = given[1:] if taken else given
        return seen

    async def bench(ctx):
        ctx.set(dut.o.ready, 1)
        for _ in range(2):
            assert await sequence(ctx) == [*initial, *frames[0], *frames[1]]
            ctx.set(reset, 1)
            await ctx.tick().repeat(20)
            ctx.set(reset, 0)

    reset = Signal()
    simulator = Simulator(ResetInserter(reset)(dut))
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()


def _packed(beat):
    return sum((int(element) & 15) << (4 * n) for n, element in enumerate(beat))


def test_a_state_has_steps():
    with pytest.raises(ValueError, match="steps"):
        StateConfig(1, signed(4), 2, 0, (0,), 1, GENERIC)

"""Loops: hardware of one step that reads its own results of the step before."""

from dataclasses import replace

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.plan import pace
from gatewright.compiler.plan.schedule import latency
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from ..hw.bench import STALLS
from ..plan.networks import Builder, fold, measure, random_folding

STEPS, SIZE = 3, 2


def simple(seed=1, steps=STEPS, size=SIZE):
    """A state of a sum of two products."""
    b = Builder(steps, 1, 3, seed=seed)
    state = b.state(steps, size)
    b.close(state, b.add(b.conv(b.input, size), b.conv(state, size)))
    return b


def gated(seed=2):
    """A cell and a state, as in an LSTM, with a residual path around both."""
    b = Builder(STEPS, 1, SIZE, seed=seed)
    cell, state = b.state(STEPS, SIZE), b.state(STEPS, SIZE)
    given, keep, out = (b.add(b.conv(b.input, SIZE), b.conv(state, SIZE)) for _ in range(3))
    squash, times = ir.functions.Sigmoid(), ir.ops.Mul
    kept = b.elementwise(times, b.unary(keep, squash), cell)
    after = b.close(cell, b.add(b.unary(given, ir.functions.Tanh()), kept))
    b.add(b.close(state, b.elementwise(times, b.unary(out, squash), after)), b.input)
    return b


def nested():
    """Two loops, one behind the other."""
    b = simple()
    first = b.ops[-1].output
    state = b.state(STEPS, SIZE)
    b.close(state, b.elementwise(ir.ops.Sub, first, b.conv(state, SIZE)))
    return b


def step_a_frame(seed=3):
    """A cell and a state of one step, kept between frames."""
    b = Builder(1, 1, 5, seed=seed)
    cell, state = b.kept(1, 1, SIZE), b.kept(1, 1, SIZE)
    gate = b.add(b.conv(b.input, SIZE), b.conv(state, SIZE))
    after = b.close(cell, b.add(gate, cell))
    b.close(state, b.elementwise(ir.ops.Mul, gate, after))
    return b


def causal(layers=2):
    """Convolutions over the last pixels, each of which keeps those before the frame's."""
    b = Builder(1, 3, 2, seed=4)
    x = b.input
    for n in range(layers):
        past = b.kept(1, 4, 2, initial=np.arange(8).reshape(1, 4, 2) / 8 - n)
        whole = b.gather(
            b.concat(b.gather(past, (1, 1, 8), range(8)), b.gather(x, (1, 1, 6), range(6))),
            (1, 7, 2),
            range(14),
        )
        b.close(past, b.gather(whole, (1, 4, 2), range(6, 14)))
        x = b.conv(whole, 2, (1, 5))
    return b


def map_kept():
    """A map that decays, and its difference to the frame before's input."""
    b = Builder(3, 4, 2, seed=5)
    state, before = b.kept(3, 4, 2), b.kept(3, 4, 2, initial=0)
    after = b.close(state, b.add(b.conv(b.input, 2), b.conv(state, 2, (3, 3), pads=(1, 1, 1, 1))))
    b.close(before, b.input)
    b.add(b.conv(after, 2), before)
    return b


def continued():
    """A loop of steps within a frame that goes on with the last state of the frame before."""
    b = Builder(STEPS, 1, 3, seed=8)
    before = b.kept(1, 1, SIZE)
    state = b.state(STEPS, SIZE, first=before)
    rows = b.close(state, b.add(b.conv(b.input, SIZE), b.conv(state, SIZE)))
    last = b.gather(rows, (1, 1, SIZE), SIZE * (STEPS - 1) + np.arange(SIZE))
    b.ops = [replace(op, inputs=(last,)) if op.output == before else op for op in b.ops]
    b.conv(rows, 2)
    return b


def steps_in_frames():
    """A loop of steps within a frame, whose states are added to those of the frame before."""
    b = simple(steps=2)
    states = b.ops[-1].output
    kept = b.kept(2, 1, SIZE)
    b.close(kept, b.add(states, b.conv(kept, SIZE)))
    return b


def given():
    """A loop that begins with an input of the network."""
    b = Builder(STEPS, 1, 3, seed=6)
    b.add_input("z", 1, 1, SIZE)
    state = b.state(STEPS, SIZE, first="z")
    b.close(state, b.add(b.conv(b.input, SIZE), b.conv(state, SIZE)))
    return b


def handed_over():
    """A loop that begins with the last state of another one, over the same rows, and whose cell
    begins with numbers.
    """
    b = Builder(STEPS, 1, 3, seed=7)
    state = b.state(STEPS, SIZE)
    b.close(state, b.add(b.conv(b.input, SIZE), b.conv(state, SIZE)))
    last = b.gather(b.ops[-1].output, (1, 1, SIZE), SIZE * (STEPS - 1) + np.arange(SIZE))
    state, cell = b.state(STEPS, SIZE, first=last), b.state(STEPS, SIZE, [0.5, -0.25])
    gate = b.add(b.conv(b.input, SIZE), b.conv(state, SIZE))
    b.close(state, b.elementwise(ir.ops.Mul, gate, b.close(cell, b.add(gate, cell))))
    return b


NETWORKS = {
    "simple": simple,
    "gated": gated,
    "two loops": nested,
    "given": given,
    "handed over": handed_over,
}
KEPT = {
    "a step a frame": step_a_frame,
    "causal": causal,
    "a map kept": map_kept,
    "steps in frames": steps_in_frames,
    "continued": continued,
}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_a_loop_computes_what_golden_does_at_its_interval(name, stall):
    builder = NETWORKS[name]()
    plan, frames = fold(builder.graph()), builder.frames(3)
    seen = measure(plan, frames, stall=stall)
    assert_array_equal(seen.values, golden.run(plan.graph, frames)[plan.graph.outputs[0].value])
    if not stall:
        assert seen.intervals[1:] == [plan.interval]
        assert seen.latency <= latency(plan) <= seen.latency + 12


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", KEPT)
def test_a_state_is_kept_from_frame_to_frame_at_the_interval(name, stall):
    builder = KEPT[name]()
    plan, frames = fold(builder.graph()), builder.frames(4)
    seen = measure(plan, frames, stall=stall)
    assert_array_equal(seen.values, golden.run(plan.graph, frames)[plan.graph.outputs[0].value])
    if not stall:
        assert seen.intervals[-1] == plan.interval
        assert seen.latency <= latency(plan)


@pytest.mark.parametrize("seed", range(6))
def test_a_loop_under_any_folding(seed):
    builder = simple(seed, steps=3)
    plan = random_folding(builder.graph(), np.random.default_rng(seed))
    frames = builder.frames(3)
    seen = measure(plan, frames)
    assert_array_equal(seen.values, golden.run(plan.graph, frames)[plan.graph.outputs[0].value])
    assert seen.intervals[1:] == [plan.interval]


@pytest.mark.parametrize("state_first", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_concat_in_a_loop_between_frames_under_any_folding(seed, state_first):
    """Streams of other widths are narrowed beat by beat, and the state waits for its turn."""
    builder = Builder(1, 1, 8, seed=2)
    state = builder.kept(1, 1, 8)
    both = (state, builder.input) if state_first else (builder.input, state)
    builder.close(state, builder.conv(builder.concat(*both), 8))
    plan = random_folding(builder.graph(), np.random.default_rng(seed))
    frames = builder.frames(4)
    seen = measure(plan, frames)
    assert_array_equal(seen.values, golden.run(plan.graph, frames)[plan.graph.outputs[0].value])
    assert seen.intervals[1:] == [plan.interval] * 2


def test_the_pace_is_that_of_the_loop(monkeypatch):
    """A turn takes at most a few cycles less than the pace, which is the plan's alone."""
    plan = fold(simple(steps=2).graph())
    (turn,) = {d.pace for d in plan.designs.values() if d.delaying}
    monkeypatch.setattr(pace, "turn", lambda *_: 1)
    intervals = []
    for steps in (2, 3):
        builder = simple(steps=steps)
        intervals.append(measure(fold(builder.graph()), builder.frames(3)).intervals[1])
    # the last step of a frame waits for no other: the next frame's first is there
    assert turn - 8 <= intervals[1] - intervals[0] <= turn


def test_a_faster_loop_has_wider_stages():
    graph = simple(size=8).graph()
    wide = {op.output: (2, 8) for op in graph if isinstance(op, ir.Conv)}
    assert fold(graph, wide).interval < fold(graph).interval

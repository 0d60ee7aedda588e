"""Loops: hardware of one step that reads its own results of the step before."""

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


NETWORKS = {"simple": simple, "gated": gated, "two loops": nested}


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


@pytest.mark.parametrize("seed", range(6))
def test_a_loop_under_any_folding(seed):
    builder = simple(seed, steps=3)
    plan = random_folding(builder.graph(), np.random.default_rng(seed))
    frames = builder.frames(3)
    seen = measure(plan, frames)
    assert_array_equal(seen.values, golden.run(plan.graph, frames)[plan.graph.outputs[0].value])
    assert seen.intervals[1:] == [plan.interval]


def test_the_pace_is_that_of_the_loop(monkeypatch):
    """A turn takes at most a few cycles less than the pace, which is the plan's alone."""
    builder = simple(steps=2)
    (turn,) = {d.pace for d in fold(builder.graph()).designs.values() if d.delaying}
    monkeypatch.setattr(pace, "_turn", lambda *_: 1)
    free = measure(fold(builder.graph()), builder.frames(3))
    # of two steps a frame only one waits for the other: the next frame's first is there
    assert turn - 8 <= free.intervals[1] - SIZE <= turn


def test_a_faster_loop_has_wider_stages():
    graph = simple(size=8).graph()
    wide = {op.output: (2, 8) for op in graph if isinstance(op, ir.Conv)}
    assert fold(graph, wide).interval < fold(graph).interval

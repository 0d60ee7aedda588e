"""Loops get the foldings that their turns are worth."""

from dataclasses import replace

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.plan import Goal, make_dataflow
from gatewright.compiler.plan.candidates import stage_candidates
from gatewright.compiler.plan.dataflow import Dataflow, Plan
from gatewright.compiler.plan.turns import TurnCandidates, by_turns
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from .networks import GENERIC_DEVICE, LFE5U_25F, Builder, fold, measure, random_folding

LARGE = replace(LFE5U_25F, name="large", lut=80_000, ff=80_000, dsp=150, bram=200)

STEPS, SIZE = 4, 6


def gated(size=SIZE, steps=STEPS):
    """A state that is kept as far as a gate says, behind a convolution and before another one."""
    b = Builder(steps, 1, 3, seed=4)
    x = b.conv(b.input, 5)
    state = b.state(steps, size)
    gate, new = (b.add(b.conv(x, size), b.conv(state, size)) for _ in range(2))
    gate = b.unary(gate, ir.functions.Sigmoid())
    change = b.elementwise(ir.ops.Mul, gate, b.elementwise(ir.ops.Sub, new, state))
    b.conv(b.close(state, b.add(state, change)), 4)
    return b


def gru(size, steps=3):
    """The gates of a GRU, whose state four stages take."""
    b = Builder(steps, 1, 5, seed=4)
    state = b.state(steps, size)
    update, reset, new = (b.conv(b.input, size) for _ in range(3))
    reset, update = (
        b.unary(b.add(x, b.conv(state, size)), ir.functions.Sigmoid()) for x in (reset, update)
    )
    kept = b.elementwise(ir.ops.Mul, reset, b.conv(state, size))
    new = b.unary(b.add(new, kept), ir.functions.Tanh())
    change = b.elementwise(ir.ops.Mul, update, b.elementwise(ir.ops.Sub, state, new))
    b.conv(b.close(state, b.add(new, change)), 4)
    return b


def stages_of(graph, device):
    every = stage_candidates(graph, device)
    plan = Plan("board", tuple(stage.smallest for stage in every), {})
    return by_turns(every, Dataflow(graph, plan, device))


def test_a_stage_in_a_loop_takes_the_cycles_of_the_loop():
    graph = gated().graph()
    stages = stages_of(graph, LARGE)
    (loop,) = (group for group in ir.loops.groups(graph) if ir.loops.is_loop(group))
    inside = {op.output for op in loop}
    found = [stage for stage in stages if isinstance(stage, TurnCandidates)]
    assert {stage.ops[0].output for stage in found} == inside
    for stage in found:
        assert (stage.cycles == found[0].cycles).all()
        assert (np.diff(stage.cycles) > 0).all()
        assert not stage.within(int(stage.cycles[0]) - 1)


def test_the_cycles_are_those_of_the_plan():
    """But for queues, which depend on the whole plan."""
    graph = gated().graph()
    loop = next(s for s in stages_of(graph, LARGE) if isinstance(s, TurnCandidates))
    for interval in (loop.cycles[0], loop.cycles[len(loop.cycles) // 2]):
        network = make_dataflow(graph, LARGE, "board", Goal("fps", int(interval)))
        assert network.interval <= interval
        assert network.interval >= interval - 4 * STEPS


@pytest.mark.parametrize("seed", range(20))
def test_no_random_folding_has_shorter_turns(seed):
    graph = gated().graph()
    fastest = make_dataflow(graph, LARGE, "board", Goal("fps"))
    folding = random_folding(graph, np.random.default_rng(seed))
    assert fastest.interval <= folding.interval


def test_a_loop_over_frames_of_one_pixel_is_chosen_by_turns():
    b = Builder(1, 1, 5, seed=3)
    state = b.kept(1, 1, SIZE)
    b.close(state, b.unary(b.add(b.conv(b.input, SIZE), b.conv(state, SIZE))))
    b.conv(state, 2)
    graph = b.graph()
    loop = next(s for s in stages_of(graph, LARGE) if isinstance(s, TurnCandidates))
    network = make_dataflow(graph, LARGE, "board", Goal("fps"))
    assert network.interval in loop.cycles


def test_what_is_outside_a_loop_is_no_wider_than_the_loop_needs():
    graph = gated().graph()
    network = make_dataflow(graph, LARGE, "board", Goal("fps"))
    first, *_, last = network.plan.stages
    assert {first.simd * first.pe, last.simd * last.pe} == {1}


def test_a_longer_turn_takes_fewer_multipliers():
    graph = gated(16).graph()
    goals = [Goal("fps"), Goal("fps", 800), Goal("fps", 1500)]
    fast, middle, slow = (make_dataflow(graph, LARGE, "board", goal) for goal in goals)
    assert fast.interval < middle.interval <= 800 < slow.interval <= 1500
    assert fast.multipliers > middle.multipliers > slow.multipliers


@pytest.mark.parametrize("stall", [0.0, 0.4])
@pytest.mark.parametrize("goal", [Goal("fps"), Goal("area")], ids=lambda goal: goal.kind)
def test_the_hardware_keeps_the_planned_interval(goal, stall):
    builder = gated()
    network, frames = make_dataflow(builder.graph(), GENERIC_DEVICE, "b", goal), builder.frames(4)
    seen = measure(network, frames, stall=stall)
    graph = network.graph
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])
    if not stall:
        assert seen.intervals[1:] == [network.interval] * len(seen.intervals[1:])


@pytest.mark.parametrize("seed", range(3))
def test_a_loop_of_stages_of_any_widths_keeps_its_interval(seed):
    """Narrower streams slow down what gives them, and not what is outside the loop."""
    builder = gru(8, steps=2)
    network = random_folding(builder.graph(), np.random.default_rng(seed))
    seen = measure(network, builder.frames(3))
    assert seen.intervals[1:] == [network.interval] * len(seen.intervals[1:])


def test_a_stream_out_of_a_loop_does_not_slow_it_down():
    graph = gru(12).graph()
    wide = fold(
        graph,
        {
            op.output: (12, 12) if isinstance(op, ir.Conv) else (1, 6)
            for op in graph.ops[:-1]
            if graph.shape(op.output).channels == 12 and op.inputs[0] != "x"
        },
    )
    (queue,) = {
        edge.depth // edge.beats
        for edge in wide.edges
        if edge.value == graph.ops[-1].inputs[0] and edge.sink == wide.plan.stages[-1].name
    }
    assert queue == 1
    pace = {design.pace for design in wide.designs.values() if design.delaying}
    without = wide.replanned(
        queues={at: n for at, n in wide.plan.queues.items() if at[0] != wide.plan.stages[-1].name}
    )
    assert max(pace) < max(d.pace for d in without.designs.values() if d.delaying)

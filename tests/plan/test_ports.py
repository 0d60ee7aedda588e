"""Networks of several inputs and outputs under a plan: values, queues, cycles, cost."""

from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from gatewright.compiler.errors import PlanError
from gatewright.compiler.plan import Goal, check_queues, latency
from gatewright.compiler.plan.dataflow import Dataflow
from gatewright.compiler.plan.search import make_dataflow
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from ..hw.bench import STALLS
from .networks import LFE5U_25F, Builder, fold, measure, random_folding


def two_and_three():
    """Inputs of different maps; two of the three outputs are read inside the network too."""
    builder = Builder(6, 6, 2, seed=1)
    small = builder.add_input("small", 3, 3, 3)
    pooled = builder.max_pool(builder.input)
    joined = builder.concat(pooled, small)
    last = builder.conv(joined, 2, (3, 3), pads=(1, 1, 1, 1))
    return builder, builder.graph(last, pooled, joined)


def crossed():
    """Each input waits at one join for the other: without queues they deadlock."""
    builder = Builder(5, 20, 1, seed=2)
    other = builder.add_input("other", 5, 20, 1)
    window = {"kernel": (5, 3), "pads": (2, 1, 2, 1)}
    one = builder.add(builder.conv(builder.input, 1, **window), other)
    two = builder.add(builder.input, builder.conv(other, 1, **window))
    return builder, builder.graph(one, two)


def apart():
    """Two networks that have nothing to do with each other, of different intervals."""
    builder = Builder(4, 4, 2, seed=3)
    other = builder.add_input("other", 3, 5, 1)
    return builder, builder.graph(builder.conv(builder.input, 4), builder.unary(other))


def passed_through():
    """One value under two names, an input that leaves as it is, and one that is looked up first."""
    builder = Builder(4, 3, 2, seed=4)
    looked_up = builder.unary(builder.input)
    flat = builder.reshape(builder.input, 1, 1)
    return builder, builder.graph(looked_up, looked_up, flat)


def residual():
    """The sum, and from within both paths to it the short one and the long one's middle."""
    builder = Builder(4, 4, 2, seed=5)
    short = builder.unary(builder.input)
    middle = builder.conv(short, 2, (3, 3), pads=(1, 1, 1, 1))
    long = builder.conv(middle, 2, (3, 3), pads=(1, 1, 1, 1))
    return builder, builder.graph(builder.add(long, short), short, middle)


NETWORKS = {
    each.__name__: each for each in (two_and_three, crossed, apart, passed_through, residual)
}
networks = pytest.mark.parametrize("name", NETWORKS)


def check(network, frames, **how):
    """The accelerator equals golden on every output; what was measured."""
    seen = measure(network, frames, **how)
    wanted = golden.run(network.graph, frames)
    for port in network.graph.outputs:
        assert_array_equal(seen.outputs[port.name], wanted[port.value], port.name)
    return seen


@networks
@pytest.mark.parametrize("stall", STALLS)
def test_every_output_equals_golden(name, stall):
    builder, graph = NETWORKS[name]()
    check(fold(graph), builder.frames(3), stall=stall)


@networks
@pytest.mark.parametrize("seed", range(2))
def test_under_random_foldings(name, seed):
    builder, graph = NETWORKS[name]()
    rng = np.random.default_rng(seed)
    stall = float(rng.choice([0.0, 0.3, 0.7]))
    check(random_folding(graph, rng, most=150), builder.frames(3, seed), stall=stall, seed=seed)


@networks
def test_frames_follow_each_other_in_the_planned_interval(name):
    builder, graph = NETWORKS[name]()
    network = fold(graph)
    frames = 3 + ceil(2 * latency(network) / network.interval)
    assert check(network, builder.frames(frames)).intervals[-1] == network.interval


@networks
def test_the_latency_is_that_of_the_last_output(name):
    builder, graph = NETWORKS[name]()
    network = fold(graph)
    assert latency(network) == pytest.approx(check(network, builder.frames(1)).latency, rel=0.2)


@networks
@pytest.mark.parametrize("goal", ["balanced", "latency", "fps", "area"])
def test_the_search_plans_them(name, goal):
    _, graph = NETWORKS[name]()
    network = make_dataflow(graph, LFE5U_25F, "ulx3s-25f", Goal(goal))
    check_queues(network)
    assert set(network.plan.lanes_in) == {port.name for port in graph.inputs}
    assert [port.name for port in network.outputs] == [port.name for port in graph.outputs]


def test_inputs_that_wait_for_each_other_get_queues_and_would_deadlock_without():
    builder, graph = crossed()
    network = fold(graph)
    assert len(network.plan.queues) == 2
    bare = Dataflow(graph, replace(network.plan, queues={}), network.device)
    with pytest.raises(PlanError, match="or the paths that meet there may deadlock"):
        check_queues(bare)
    with pytest.raises(AssertionError, match="no beat moved"):
        measure(bare, builder.frames(2))


def test_inputs_that_meet_once_need_no_queue():
    builder = Builder(6, 6, 2, seed=6)
    other = builder.add_input("other", 6, 6, 2)
    x = builder.conv(builder.input, 2, (3, 3), pads=(1, 1, 1, 1))
    graph = builder.graph(builder.add(x, other))
    network = fold(graph)
    assert not network.plan.queues
    check(network, builder.frames(3), stall=0.4)


def test_an_output_may_have_a_queue():
    builder, graph = residual()
    network = fold(graph)
    plan = replace(network.plan, output_queues={"y1": 16})
    queued = Dataflow(graph, plan, network.device)
    assert queued.resources.lut > network.resources.lut
    check(queued, builder.frames(3), stall=0.4)
    with pytest.raises(PlanError, match=r"before the output z, .*; its outputs are y0, y1, y2"):
        Dataflow(graph, replace(plan, output_queues={"z": 1}), network.device)


def test_the_link_holds_a_frame_of_every_port():
    _, graph = two_and_three()
    network = fold(graph, device=LFE5U_25F)
    assert [port.beats for port in network.inputs] == [6 * 6 * 2, 3 * 3 * 3]
    assert [port.beats for port in network.outputs] == [3 * 3 * 2, 3 * 3 * 2, 3 * 3 * 5]
    more = network.budgeted.lut - network.resources.lut
    assert more > 5 * 8
    builder = Builder(4, 4, 2)
    builder.unary(builder.input)
    lone = fold(builder.graph(), device=LFE5U_25F)
    assert lone.budgeted == lone.resources


def test_lanes_are_given_by_input():
    _, graph = two_and_three()
    network = fold(graph, lanes_in={"x": 2, "small": 3})
    assert [port.lanes for port in network.inputs] == [2, 3]
    with pytest.raises(PlanError, match="input small: 4 elements a beat, but it has 3 channels"):
        fold(graph, lanes_in={"small": 4})
    with pytest.raises(
        PlanError, match=r"the plan has an input large, .*; its inputs are x, small"
    ):
        fold(graph, lanes_in={"large": 4})

"""The search keeps the budgets, and no random folding that keeps them is faster."""

from dataclasses import replace

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import FitError, PlanError
from gatewright.compiler.plan import Goal, Network, Plan, lacking, make_plan
from gatewright.compiler.plan.explore import assign_blocks
from gatewright.compiler.plan.fifo import with_queues
from gatewright.compiler.plan.stages import StagePlan, design, foldings

from .networks import ECP5, Builder

TINY = replace(ECP5, name="tiny", lut=9000, ff=9000, dsp=6, bram=12)


def chain(b):
    x = b.conv(b.input, 8, (3, 3), pads=(1, 1, 1, 1))
    x = b.conv(b.max_pool(x), 12, (3, 3), pads=(1, 1, 1, 1))
    return b.dense(b.average_pool(x, (4, 4)), 10)


def residual(b):
    x = b.conv(b.input, 6)
    y = b.conv(b.depthwise(x, pads=(1, 1, 1, 1)), 6)
    return b.dense(b.max_pool(b.add(x, y), (4, 4)), 5)


NETWORKS = {function.__name__: function for function in (chain, residual)}


def graph_of(name):
    builder = Builder(8, 8, 3, seed=6)
    NETWORKS[name](builder)
    return builder.graph()


def planned(graph, device, goal):
    return Network(graph, make_plan(graph, device, "board", goal), device)


def fits(network):
    return not lacking(network.resources, network.device)


@pytest.mark.parametrize("kind", ["balanced", "latency", "area"])
@pytest.mark.parametrize("device", [ECP5, TINY], ids=lambda device: device.name)
@pytest.mark.parametrize("name", NETWORKS)
def test_keeps_the_budgets(name, device, kind):
    network = planned(graph_of(name), device, Goal(kind))
    assert fits(network)
    blocks = [network.designs[stage.name].blocks(stage.hard) for stage in network.plan.stages]
    assert sum(blocks) == network.resources.dsp <= device.dsp


@pytest.mark.parametrize("device", [ECP5, TINY], ids=lambda device: device.name)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_random_folding_that_fits_is_faster(name, device):
    """Foldings drawn uniformly from those of at most the device's multipliers."""
    graph = graph_of(name)
    found = planned(graph, device, Goal("latency"))
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(100):
        other = random_plan(graph, device, rng)
        if fits(other):
            compared += 1
            assert other.interval >= found.interval, other.plan
    assert compared >= 5


def random_plan(graph, device, rng):
    designs = []
    for n, op in enumerate(graph):
        if isinstance(op, ir.Reshape):
            continue
        ways = [way for way in foldings(op, graph) if way[0] * way[1] <= device.multipliers]
        while True:
            simd, pe = ways[rng.integers(len(ways))]
            stage = StagePlan(
                f"s{n}", (op.output,), simd, pe, 0, "block" if rng.random() < 0.5 else "logic"
            )
            try:
                shape = design(op, graph, stage, device)
                break
            except PlanError:
                continue
        stage = replace(stage, hard=shape.multipliers)
        designs.append(design(op, graph, stage, device))
    plan = Plan("board", assign_blocks(designs, device), {}, graph.shape("x").channels)
    return Network(graph, with_queues(graph, plan, Network(graph, plan, device)), device)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_larger_device_is_not_slower(name):
    graph = graph_of(name)
    assert (
        planned(graph, ECP5, Goal("latency")).interval
        <= planned(graph, TINY, Goal("latency")).interval
    )


@pytest.mark.parametrize("interval", [1000, 5000, 20000])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_goal_in_frames_is_met_with_the_least(name, interval):
    graph = graph_of(name)
    enough = planned(graph, ECP5, Goal("fps", interval))
    fastest = planned(graph, ECP5, Goal("latency"))
    assert enough.interval <= interval
    assert enough.multipliers <= fastest.multipliers
    assert enough.resources.lut <= fastest.resources.lut


def test_narrow_weights_make_a_faster_plan_of_the_same_blocks():
    def narrow(b):
        x = b.conv(b.input, 8, (3, 3), pads=(1, 1, 1, 1), weight_bits=5)
        b.conv(x, 8, (3, 3), pads=(1, 1, 1, 1), weight_bits=5)
        return b.graph()

    wide = planned(graph_of("chain"), TINY, Goal())
    assert wide.multipliers <= TINY.dsp
    graph = narrow(Builder(8, 8, 4, seed=6))
    network = planned(graph, TINY, Goal())
    assert TINY.dsp < network.multipliers <= 2 * TINY.dsp
    assert network.resources.dsp <= TINY.dsp
    assert all(stage.hard == stage.simd * stage.pe for stage in network.plan.stages)
    assert network.device_multipliers == 2 * TINY.dsp


def test_blocks_are_granted_whole():
    """Of 6 blocks the larger stage takes 4 for its 8 products, the smaller one what is left."""
    builder = Builder(8, 8, 4, seed=6)
    x = builder.conv(builder.input, 8, (3, 3), weight_bits=5)
    builder.conv(x, 4, (3, 3), weight_bits=5)
    graph = builder.graph()
    shapes = [
        design(op, graph, StagePlan(op.name, (op.output,), simd, pe, simd * pe), TINY)
        for op, (simd, pe) in zip(graph, [(3, 2), (2, 4)], strict=True)
    ]
    assert [stage.hard for stage in assign_blocks(shapes, TINY)] == [4, 8]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smallest_plan_has_the_fewest_multipliers(name):
    graph = graph_of(name)
    smallest = planned(graph, ECP5, Goal("area"))
    assert smallest.multipliers <= planned(graph, ECP5, Goal("fps", 20000)).multipliers


def test_what_does_not_fit_is_told_with_its_numbers():
    graph = graph_of("chain")
    with pytest.raises(FitError) as error:
        make_plan(graph, replace(TINY, lut=1000), "board")
    assert str(error.value).startswith("the network does not fit tiny: at its smallest it needs ")
    assert " LUTs of 150" in str(error.value)

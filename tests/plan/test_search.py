"""The search keeps the budgets, and no folding that keeps them is better for the goal."""

from dataclasses import replace
from itertools import product
from math import ceil

import numpy as np
import pytest
from amaranth import signed
from gatewright import boards
from gatewright.compiler import ir
from gatewright.compiler.errors import FitError, PlanError
from gatewright.compiler.plan import (
    Dataflow,
    Goal,
    Plan,
    Resources,
    latency,
    make_dataflow,
    search,
    shortfall,
)
from gatewright.compiler.plan.candidates import CandidatePool, stage_candidates
from gatewright.compiler.plan.fifo import with_queues
from gatewright.compiler.plan.folding_solver import Budget, FoldingSolver
from gatewright.compiler.plan.latency_optimizer import LatencyOptimizer
from gatewright.compiler.plan.resources import cells, link
from gatewright.compiler.plan.schedule import Schedule, durations
from gatewright.compiler.plan.search import _Search, assign_blocks, least_interval, occupancy
from gatewright.compiler.stages import Products
from gatewright.compiler.stages.window_matmul import WindowMatmulDesign
from gatewright.hw import MultiplierConfig, SoftMultiplierConfig
from gatewright.sim import golden

from .networks import (
    GENERIC_DEVICE,
    ICE40UP5K,
    LFE5U_25F,
    Builder,
    design,
    foldings,
    measure,
    stage_plan,
)

TINY = replace(LFE5U_25F, name="tiny", lut=12000, ff=12000, dsp=6, bram=12)


def chain(b):
    x = b.conv(b.input, 8, (3, 3), pads=(1, 1, 1, 1))
    x = b.conv(b.max_pool(x), 12, (3, 3), pads=(1, 1, 1, 1))
    return b.dense(b.average_pool(x, (4, 4)), 10)


def residual(b):
    x = b.conv(b.input, 6)
    y = b.conv(b.depthwise(x, pads=(1, 1, 1, 1)), 6)
    return b.dense(b.max_pool(b.add(x, y), (4, 4)), 5)


NETWORKS = {function.__name__: function for function in (chain, residual)}
METRICS = {
    "balanced": lambda one: one.interval,
    "fps": lambda one: one.interval,
    "latency": latency,
}


def graph_of(name):
    builder = Builder(8, 8, 3, seed=6)
    NETWORKS[name](builder)
    return builder.graph()


def planned(graph, device, goal):
    return make_dataflow(graph, device, "board", goal)


def fits(network):
    return not shortfall(network.resources, network.device)


def has_air(network, spare=0):
    """Whether as much logic is free as a plan with soft multipliers leaves where it can, and
    ``spare`` LUTs.
    """
    device = network.device
    share = int(device.target.soft_logic_share * device.lut)
    return network.resources.lut <= share - link(device).lut - spare


@pytest.mark.parametrize("kind", ["balanced", "latency", "fps", "area"])
@pytest.mark.parametrize("device", [LFE5U_25F, TINY], ids=lambda device: device.name)
@pytest.mark.parametrize("name", NETWORKS)
def test_keeps_the_budgets(name, device, kind):
    network = planned(graph_of(name), device, Goal(kind))
    assert fits(network)
    blocks = [
        network.designs[stage.name].blocks(stage.dsp_multipliers) for stage in network.plan.stages
    ]
    assert sum(blocks) == network.resources.dsp <= device.dsp


@pytest.mark.parametrize("device", [LFE5U_25F, TINY], ids=lambda device: device.name)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_random_folding_that_fits_is_faster(name, device):
    """Foldings drawn uniformly from those of at most the device's multipliers."""
    graph = graph_of(name)
    found = planned(graph, device, Goal("fps"))
    rng = np.random.default_rng(0)
    compared = 0
    for _ in range(300):
        other = random_plan(graph, device, rng)
        if fits(other) and (has_air(other) or not has_air(found)):
            compared += 1
            assert other.interval >= found.interval, other.plan
    assert compared >= 5


def random_plan(graph, device, rng):
    designs = []
    most = int(rng.integers(1, device.multipliers + 1))
    for n, op in enumerate(graph):
        if isinstance(op, ir.Reshape):
            continue
        ways = [way for way in foldings(op, graph) if way[0] * way[1] <= most]
        while True:
            simd, pe = ways[rng.integers(len(ways))]
            stage = stage_plan(
                f"s{n}", op, simd, pe, 0, "block_ram" if rng.random() < 0.5 else "logic"
            )
            try:
                shape = design(op, graph, stage, device)
                break
            except PlanError:
                continue
        stage = replace(stage, dsp_multipliers=shape.multipliers)
        designs.append(design(op, graph, stage, device))
    plan = Plan("board", assign_blocks(designs, device), {}, {"x": graph.shape("x").channels})
    return with_queues(Dataflow(graph, plan, device))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_larger_device_is_not_slower(name):
    graph = graph_of(name)
    assert (
        planned(graph, LFE5U_25F, Goal("fps")).interval
        <= planned(graph, TINY, Goal("fps")).interval
    )


def scarce():
    """A network whose weights and rows fill the block RAMs of a small chip."""
    builder = Builder(16, 16, 8, seed=6)
    x = builder.conv(builder.input, 32, (3, 3), pads=(1, 1, 1, 1))
    x = builder.conv(x, 32, (3, 3), stride=(2, 2), pads=(0, 0, 1, 1))
    builder.dense(builder.conv(x, 64, (3, 3)), 10)
    return builder.graph()


def less_and_less_block_ram(graph, device):
    """Plans for devices of ever less of it, while there are any."""
    while True:
        try:
            network = planned(graph, device, Goal())
        except FitError:
            return
        yield network
        least = network.resources.bram + link(device).bram
        device = replace(device, bram=least - 1)


def saves(network):
    return any(stage.minimal_rows for stage in network.plan.stages)


@pytest.mark.parametrize("kind", ["balanced", "fps", "latency"])
def test_block_ram_is_saved_where_that_makes_a_plan_faster(kind):
    """And not where there is enough of it."""
    graph, goal, measured, faster = scarce(), Goal(kind), METRICS[kind], []
    for bram in (100, 31, 29):
        device = replace(LFE5U_25F, bram=bram)
        found = planned(graph, device, goal)
        assert fits(found)
        searches = [
            _Search(CandidatePool(graph), device, "board", lean, ways=goal.ways)
            for lean in (False, True)
        ]
        plain, lean = (
            next(filter(None, (each.better(None, b, goal) for b in each.budgets(goal))))
            for each in searches
        )
        assert measured(found) <= measured(lean) * (1.25 if kind == "latency" else 1)
        assert measured(found) <= measured(plain)
        assert saves(found) == (measured(found) < measured(plain))
        faster.append(saves(found))
    assert not faster[0]
    assert any(faster)


@pytest.mark.parametrize("kind", ["fps", "latency"])
def test_a_plan_in_all_of_the_logic_is_taken_where_one_that_saves_block_ram_is_slower(kind):
    """Of which some fits in the share of the logic for soft multipliers."""
    builder = Builder(8, 8, 4, seed=0)
    x = builder.conv(builder.input, 16, (3, 3), pads=(1, 1, 1, 1), weight_bits=2)
    builder.dense(builder.conv(x, 16, (3, 3), weight_bits=3), 4)
    graph, goal, measured = builder.graph(), Goal(kind), METRICS[kind]
    for lut in range(3600, 4800, 100):
        device = replace(LFE5U_25F, lut=lut, ff=24288, dsp=0, bram=4)
        plain = _Search(CandidatePool(graph), device, "board", ways=goal.ways)
        found = (plain.better(None, budget, goal) for budget in plain.budgets(goal))
        first = next(filter(None, found), None)
        if first is not None:
            assert measured(planned(graph, device, goal)) <= measured(first)


def test_block_ram_is_saved_where_an_interval_is_kept_only_so():
    """The smallest plan fits without, and is slower."""
    device = replace(LFE5U_25F, bram=24)
    found = planned(scarce(), device, Goal("fps", 36864))
    assert fits(found)
    assert saves(found)
    assert found.interval <= 36864


def test_saved_block_rams_are_full_of_weights():
    found = list(less_and_less_block_ram(scarce(), LFE5U_25F))
    assert all(map(fits, found))
    assert saves(found[-1])
    arrays = [
        shape.array
        for shape in found[-1].designs.values()
        if isinstance(shape, WindowMatmulDesign) and shape.array.in_memory
    ]
    filled = sum(array.memory_bits for array in arrays)
    assert filled > 0.9 * LFE5U_25F.target.block_ram_bits * sum(
        array.resources().bram for array in arrays
    )


def test_the_link_has_block_rams_where_its_queues_need_them():
    found = list(less_and_less_block_ram(graph_of("chain"), ICE40UP5K))
    assert len(found) > 1
    assert link(ICE40UP5K).bram > 0
    assert all(network.linked.bram <= network.device.bram for network in found)


@pytest.mark.parametrize("interval", [1000, 5000, 20000])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_goal_in_frames_is_met_with_the_least(name, interval):
    graph = graph_of(name)
    enough = planned(graph, LFE5U_25F, Goal("fps", interval))
    fastest = planned(graph, LFE5U_25F, Goal("fps"))
    assert enough.interval <= interval
    assert enough.multipliers <= fastest.multipliers
    assert enough.resources.lut <= fastest.resources.lut


@pytest.mark.parametrize("name", NETWORKS)
def test_the_smallest_plan_has_the_fewest_multipliers(name):
    graph = graph_of(name)
    smallest = planned(graph, LFE5U_25F, Goal("area"))
    assert smallest.multipliers <= planned(graph, LFE5U_25F, Goal("fps", 20000)).multipliers


def test_what_does_not_fit_is_told_with_its_numbers():
    graph = graph_of("chain")
    with pytest.raises(FitError) as error:
        make_dataflow(graph, replace(TINY, lut=1000), "board")
    assert str(error.value).startswith("the network does not fit tiny: at its smallest it needs ")
    assert " LUTs of 150" in str(error.value)


@pytest.mark.parametrize("name", NETWORKS)
def test_no_plan_is_below_the_bound_of_occupancy(name):
    graph = graph_of(name)
    device = replace(LFE5U_25F, lut=12000, bram=30)
    smallest = planned(graph, device, Goal("area")).resources
    bound = occupancy(graph, device)
    room = device.lut * device.target.logic_share - cells(link(device), device)
    taken = cells(smallest, device) / room, smallest.bram / (device.bram - link(device).bram)
    assert 0 < bound.share <= max(taken)
    assert bound.least.bram <= smallest.bram
    assert cells(bound.least, device) <= cells(smallest, device)


def test_what_is_too_large_by_far_is_refused_without_a_search(monkeypatch):
    monkeypatch.setattr(search, "_Search", None)
    with pytest.raises(FitError, match="at its smallest it needs at least") as error:
        make_dataflow(graph_of("chain"), replace(TINY, lut=1000), "board")
    (name, needed, available), *_ = error.value.lacking
    assert (name, available) == ("LUTs", 150)
    assert needed > 150


@pytest.mark.parametrize(
    ("bram", "advice"), [(20, "use a smaller network"), (40, "or weights of 2 bits")]
)
def test_weights_that_no_block_ram_holds_are_said_with_their_bits(bram, advice, monkeypatch):
    monkeypatch.setattr(search, "_Search", None)
    builder = Builder(4, 4, 64, seed=6)
    builder.conv(builder.conv(builder.input, 256, (3, 3)), 512)
    graph = builder.graph()
    number = 64 * 256 * 9 + 256 * 512
    device = replace(LFE5U_25F, name="small", lut=6000, bram=bram)
    with pytest.raises(FitError) as error:
        make_dataflow(graph, device, "board")
    message = str(error.value)
    assert "; its 279 k weights take 2.23 Mbit, the chip's block RAMs hold " in message
    assert message.endswith(advice)
    lacking = {name: (needed, there) for name, needed, there in error.value.lacking}
    assert lacking["bits for weights"] == (8 * number, 18432 * bram)
    needed, _ = lacking["block RAMs"]
    assert needed >= ceil((8 * number - 16 * 6000) / 18432)


# Against all foldings there are, on networks so small that they can be listed.

FEW = replace(LFE5U_25F, name="few", dsp=7)


def pair(b):
    return b.conv(b.conv(b.input, 4, (3, 3), pads=(1, 1, 1, 1)), 5)


def classifier(b):
    return b.dense(b.max_pool(b.conv(b.input, 3, (2, 2))), 4)


SMALL = {function.__name__: function for function in (pair, classifier)}


def small(name):
    builder = Builder(5, 5, 3, seed=2)
    SMALL[name](builder)
    return builder.graph()


def every_network(graph, device, most):
    """All foldings of at most ``most`` multipliers together."""
    ops = [op for op in graph if not isinstance(op, ir.Reshape)]
    ways = [
        list(_ways(op, most)) if isinstance(op, ir.Conv) else [(1, pe, False, 0) for pe in (1, 3)]
        for op in ops
    ]
    for folds in product(*ways):
        if sum(hard for *_, hard in folds) <= most:
            stages = tuple(
                stage_plan(f"s{n}", op, simd, pe, hard, fast_inner_product=fast)
                for n, (op, (simd, pe, fast, hard)) in enumerate(zip(ops, folds, strict=True))
            )
            designs = [
                design(op, graph, stage, device) for op, stage in zip(ops, stages, strict=True)
            ]
            stages = assign_blocks(designs, device)
            for lanes_in in (1, 3):
                yield Dataflow(graph, Plan("board", stages, {}, {"x": lanes_in}), device)


def _ways(op, most):
    """(simd, pe, whether with the fast inner product, multipliers) of a layer's foldings."""
    for simd, pe in product(range(1, op.reduction + 1), range(1, op.channels + 1)):
        fast = ceil(simd / 2) * (pe + 1)
        if simd * pe <= most:
            yield simd, pe, False, simd * pe
        if fast <= most and fast < simd * pe:
            yield simd, pe, True, fast


@pytest.mark.parametrize("name", SMALL)
def test_no_folding_without_soft_multipliers_is_faster(name):
    graph = small(name)
    found = planned(graph, FEW, Goal())
    best = min((n.interval, n.multipliers) for n in every_network(graph, FEW, FEW.dsp))
    assert (found.interval, found.multipliers) == best
    assert found.plan.bound_interval == found.interval


@pytest.mark.parametrize("name", SMALL)
def test_no_folding_is_much_sooner_done(name):
    """With logic for a few multipliers beyond the blocks. What converters and slices will take is
    guessed from another plan, by some LUTs too much.
    """
    graph = small(name)
    more = 3
    operands = MultiplierConfig(signed(8), signed(8))
    soft = SoftMultiplierConfig(operands).lut(FEW.target.carry_luts)
    logic = planned(graph, FEW, Goal()).resources.lut + more * soft + link(FEW).lut
    device = replace(FEW, lut=int(logic / FEW.target.soft_logic_share))
    fastest, found = (planned(graph, device, Goal(kind)) for kind in ("fps", "latency"))
    others = [
        n
        for n in every_network(graph, device, device.dsp + more)
        if has_air(n, spare=60) and n.interval <= 1.2 * fastest.interval
    ]
    best = min(latency(n) for n in others)
    assert found.plan.bound_latency <= min(best, latency(found))
    assert latency(found) <= 1.02 * best


@pytest.mark.parametrize("kind", ["balanced", "fps", "latency"])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_bound_is_not_above_the_plan(name, kind):
    """And not far below: by one of a small network's intervals, which are half as long again."""
    network = planned(graph_of(name), LFE5U_25F, Goal(kind))
    if kind == "latency":
        assert 0.75 * latency(network) <= network.plan.bound_latency <= latency(network)
    else:
        assert 0.65 * network.interval <= network.plan.bound_interval <= network.interval


@pytest.mark.parametrize("name", NETWORKS)
def test_the_plan_for_latency_is_sooner_done_than_the_fastest(name):
    graph = graph_of(name)
    fastest = planned(graph, LFE5U_25F, Goal("fps"))
    soonest = planned(graph, LFE5U_25F, Goal("latency"))
    assert latency(soonest) < latency(fastest)
    assert soonest.interval <= 1.5 * fastest.interval


@pytest.mark.parametrize("free", [1.0, 1.05, 1.15, 1.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_goal_for_speed_is_slower_than_none(name, free):
    """Though plans with soft multipliers leave more of the logic free, which one without has hardly
    ``free`` times.
    """
    graph = graph_of(name)
    usual = planned(graph, LFE5U_25F, Goal())
    logic = cells(usual.resources, LFE5U_25F) + cells(link(LFE5U_25F), LFE5U_25F)
    device = replace(LFE5U_25F, lut=ceil(free * logic / LFE5U_25F.target.logic_share) + 1)
    default, fastest, soonest = (
        planned(graph, device, Goal(kind)) for kind in ("balanced", "fps", "latency")
    )
    assert default.interval == usual.interval
    assert fastest.plan.bound_interval <= fastest.interval <= default.interval
    assert (soonest.plan.bound_latency or 0) <= latency(soonest) <= latency(default)


def test_a_stage_without_multipliers_may_be_the_slowest_where_none_else_suits():
    """By its width of 3 of 5 elements, which takes the whole interval."""
    builder = Builder(4, 5, 5, seed=1)
    builder.max_pool(builder.input, (1, 1))
    (stage,) = stage_candidates(builder.graph(), LFE5U_25F)
    assert max(o.cycles for o in stage.within(40)) < 40
    assert max(o.cycles for o in stage.by_speed(40)) == 40


@pytest.mark.parametrize("kind", ["balanced", "latency", "fps"])
def test_the_same_plan_is_found_again(kind):
    graph = graph_of("residual")
    assert planned(graph, LFE5U_25F, Goal(kind)).plan == planned(graph, LFE5U_25F, Goal(kind)).plan


def test_without_a_goal_no_multiplier_is_soft():
    network = planned(graph_of("chain"), TINY, Goal())
    assert (
        network.multipliers
        == sum(stage.dsp_multipliers for stage in network.plan.stages)
        <= TINY.dsp
    )


def test_more_layers_than_blocks_have_no_more_soft_multipliers_than_they_need():
    network = planned(graph_of("residual"), replace(TINY, dsp=2), Goal())
    convolutions = sum(isinstance(op, ir.Conv) for op in network.graph)
    assert network.multipliers == convolutions
    assert sum(stage.dsp_multipliers for stage in network.plan.stages) == 2


# Where the budget couples the stages.


def solver_of(graph, device):
    every = stage_candidates(graph, device)
    plan = Plan("board", tuple(stage.smallest for stage in every), {})
    return FoldingSolver(every, Dataflow(graph, plan, device))


@pytest.mark.parametrize("blocks", [16, 28])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_search_knows_the_latency_of_a_choice(name, blocks):
    """That of the network it becomes, streams and widths included, but for the last stream and
    what forks cost.
    """
    graph = graph_of(name)
    solver = solver_of(graph, LFE5U_25F)
    optimizer = LatencyOptimizer(solver, Budget(10**6, 10**6, blocks, 10**3, 0), 4000)
    chosen = next(optimizer.choices(optimizer.budget))
    stages = assign_blocks([candidate.design for candidate in chosen], LFE5U_25F)
    (lanes,) = solver.lanes_in(chosen, optimizer.slowest, eager=True)
    network = Dataflow(graph, Plan("board", stages, {}, {"x": lanes}), LFE5U_25F)
    assert any(edge.converts for edge in network.edges)
    schedule = Schedule(network)
    timings, late = durations(network, schedule)
    found = schedule.run(timings, [lanes], late).last
    assert optimizer.latency(chosen) == found - network.edges[-1].latency


@pytest.mark.parametrize("short", ["cells", "blocks"])
def test_the_choice_is_the_least_of_all_that_keep_the_budget(short):
    """Cut to the middle of what the first choice and the leanest take."""
    graph = small("pair")
    solver = solver_of(graph, LFE5U_25F)
    budget = Budget(10**6, 10**6, 28, 10**3, None)
    for interval in solver.intervals()[::-1]:
        first = solver.choose(interval, budget)
        lists = [stage.within(interval) for stage in solver.stages]
        most = sum(o.cells for o in first)
        least = sum(min(o.cells for o in candidates) for candidates in lists)
        if least < most:
            break
    assert least < most, "no case is tight"
    budget = replace(budget, cells=(least + most) // 2)
    if short == "blocks":
        soft = max(stage.soft(way)[0] for stage in solver.stages for way in Products)
        budget = replace(budget, blocks=sum(o.multipliers for o in first) - 1, cells=most + soft)
    suits = [
        choice
        for choice in product(*lists)
        if solver.keeps(choice, budget)
        and all(
            solver.converting(
                stream,
                solver.lanes_from(stream, choice[source]),
                solver.lanes_at(stream, choice[sink]),
            )
            <= interval
            for stream, (source, sink, _) in enumerate(solver.streams)
            if source is not None
        )
    ]
    found = solver.choose(interval, budget)
    assert suits, "the case is too tight"
    assert solver.keeps(found, budget)

    def size(choice):
        cells, ff, _ = solver.need(choice, budget.blocks)
        return sum(o.soft_size - o.logic for o in choice) + cells + ff / 4

    assert size(found) <= 1.001 * min(map(size, suits))


# Any folding.


def odd(b):
    """Two layers whose best foldings divide neither the reduction nor the channels."""
    x = b.conv(b.input, 10, (3, 3), pads=(1, 1, 1, 1))
    return b.conv(x, 10, (3, 3), pads=(1, 1, 1, 1))


@pytest.mark.parametrize("dsp", [16, 28])
def test_a_folding_that_divides_nothing_is_found_and_runs_as_planned(dsp):
    builder = Builder(6, 6, 5, seed=3)
    odd(builder)
    graph = builder.graph()
    fast = planned(graph, replace(LFE5U_25F, dsp=dsp), Goal(minimal_filtering=False))
    network = Dataflow(graph, fast.plan, GENERIC_DEVICE)
    arrays = [d for d in network.designs.values() if isinstance(d, WindowMatmulDesign)]
    assert any(not d.feed.direct for d in arrays), "no reuse buffer is used"
    frames = builder.frames(4)
    measured = measure(network, frames)
    wanted = golden.run(graph, frames)[graph.outputs[0].value]
    np.testing.assert_array_equal(measured.values, wanted)
    assert measured.intervals[-1] == network.interval == fast.interval
    assert latency(network) == pytest.approx(measured.latency, rel=0.02)


def test_narrow_weights_make_a_faster_plan_of_the_same_blocks():
    def narrow(b):
        x = b.conv(b.input, 8, (3, 3), pads=(1, 1, 1, 1), weight_bits=5)
        b.conv(x, 8, (3, 3), pads=(1, 1, 1, 1), weight_bits=5)
        return b.graph()

    wide = planned(graph_of("chain"), TINY, Goal(minimal_filtering=False))
    assert wide.multipliers <= TINY.dsp
    graph = narrow(Builder(8, 8, 4, seed=6))
    network = planned(graph, TINY, Goal(minimal_filtering=False))
    assert TINY.dsp < network.multipliers <= 2 * TINY.dsp
    assert network.resources.dsp <= TINY.dsp
    assert all(stage.dsp_multipliers == stage.simd * stage.pe for stage in network.plan.stages)
    assert network.device_multipliers == 2 * TINY.dsp


def test_the_fast_inner_product_makes_a_faster_plan_of_the_same_blocks():
    network = planned(graph_of("chain"), LFE5U_25F, Goal(minimal_filtering=False))
    assert network.resources.dsp == network.multipliers <= LFE5U_25F.dsp
    assert network.products_per_cycle > LFE5U_25F.dsp
    assert any(stage.fast_inner_product for stage in network.plan.stages)
    assert network.device_multipliers == 2 * LFE5U_25F.dsp
    network.check_multipliers()


@pytest.mark.parametrize("bits", [2, 4])
def test_adder_trees_make_a_faster_plan_of_narrow_layers(bits):
    """Where soft logic may multiply; simulated, it takes the planned cycles and the same values."""
    builder = Builder(6, 6, 8, seed=6, dtype=ir.Int(bits, False))
    x = builder.conv(builder.input, 10, (3, 3), pads=(1, 1, 1, 1), weight_bits=bits)
    builder.conv(x, 12, (3, 3), pads=(1, 1, 1, 1), weight_bits=bits)
    graph = builder.graph()
    device = replace(LFE5U_25F, dsp=4)
    plans = [planned(graph, device, Goal(kind)) for kind in ("balanced", "fps")]
    assert [any(s.adder_trees for s in network.plan.stages) for network in plans] == [False, True]
    assert plans[1].interval < plans[0].interval
    network = Dataflow(graph, plans[1].plan, GENERIC_DEVICE)
    frames = builder.frames(4)
    measured = measure(network, frames)
    wanted = golden.run(graph, frames)[graph.outputs[0].value]
    np.testing.assert_array_equal(measured.values, wanted)
    assert measured.intervals[-1] == network.interval == plans[1].interval


def test_the_least_interval_that_check_tells_is_the_plan_s():
    """With the fast inner product, as plans have by default."""
    builder = Builder(8, 8, 8, seed=1)
    x = builder.conv(builder.input, 16, (3, 3), pads=(1, 1, 1, 1))
    builder.conv(x, 16, (3, 3), pads=(1, 1, 1, 1))
    graph = builder.graph()
    planned_interval = planned(graph, LFE5U_25F, Goal()).interval
    assert least_interval(graph, LFE5U_25F, "board") == planned_interval


def test_soft_logic_has_trees_where_they_are_smaller():
    """Of two ways to keep an interval without DSP blocks."""
    builder = Builder(6, 6, 8)
    x = builder.conv(builder.input, 10, (3, 3), pads=(1, 1, 1, 1))
    builder.conv(x, 12, (3, 3), pads=(1, 1, 1, 1))
    network = planned(builder.graph(), replace(LFE5U_25F, dsp=0), Goal("fps", 1300))
    assert network.interval <= 1300
    assert any(stage.adder_trees for stage in network.plan.stages)


def test_narrow_weights_share_blocks_instead_where_that_gives_as_much():
    """Six columns of narrow weights share blocks in pairs; wide ones use the fast inner product."""

    def layer(bits):
        builder = Builder(8, 8, 2)
        builder.conv(builder.input, 6, (3, 3), pads=(1, 1, 1, 1), weight_bits=bits)
        return builder.graph()

    narrow, wide = (planned(layer(bits), replace(LFE5U_25F, dsp=6), Goal()) for bits in (5, 8))
    assert [stage.fast_inner_product for stage in narrow.plan.stages] == [False]
    assert [stage.fast_inner_product for stage in wide.plan.stages] == [True]
    assert narrow.interval < wide.interval


def test_minimal_filtering_makes_a_faster_plan_of_the_same_blocks():
    builder = Builder(8, 8, 16)
    builder.conv(builder.input, 16, (3, 3), pads=(1, 1, 1, 1))
    graph = builder.graph()
    filtered, without = (
        make_dataflow(graph, LFE5U_25F, "board", Goal(minimal_filtering=way))
        for way in (True, False)
    )
    assert 9 * filtered.interval <= 5 * without.interval
    assert [stage.minimal_filtering for stage in filtered.plan.stages] == [2]
    assert [stage.minimal_filtering for stage in without.plan.stages] == [0]
    plain = make_dataflow(graph, LFE5U_25F, "board", Goal("fps", fast_inner_product=False))
    assert not any(stage.fast_inner_product for stage in plain.plan.stages)


@pytest.mark.parametrize("device", [LFE5U_25F, ICE40UP5K], ids=lambda device: device.name)
def test_no_depthwise_layer_uses_the_fast_inner_product(device):
    builder = Builder(8, 8, 6)
    builder.depthwise(builder.input)
    network = planned(builder.graph(), device, Goal())
    assert not any(stage.fast_inner_product for stage in network.plan.stages)


def test_blocks_that_give_two_products_alone_are_not_used_for_one():
    network = planned(graph_of("chain"), ICE40UP5K, Goal())
    assert not any(stage.fast_inner_product for stage in network.plan.stages)


def test_blocks_are_granted_whole():
    """Of 6 blocks the larger stage takes 4 for its 8 products, the smaller one what is left."""
    builder = Builder(8, 8, 4, seed=6)
    x = builder.conv(builder.input, 8, (3, 3), weight_bits=5)
    builder.conv(x, 4, (3, 3), weight_bits=5)
    graph = builder.graph()
    shapes = [
        design(op, graph, stage_plan(op.name, op, simd, pe, simd * pe), TINY)
        for op, (simd, pe) in zip(graph, [(3, 2), (2, 4)], strict=True)
    ]
    assert [stage.dsp_multipliers for stage in assign_blocks(shapes, TINY)] == [4, 8]


def test_a_frame_is_buffered_while_block_ram_is_left_for_it():
    builder = Builder(64, 64, 3, seed=6)
    chain(builder)
    network = planned(builder.graph(), LFE5U_25F, Goal())
    whole = network.linked.bram
    assert network.buffered
    assert whole > network.resources.bram
    for there, buffered in ((whole, False), (ceil(whole / 0.985), True)):
        device = Dataflow(network.graph, network.plan, replace(LFE5U_25F, bram=there))
        assert device.buffered == buffered
        assert device.linked.bram == (whole if buffered else network.resources.bram)


@pytest.mark.parametrize("name", ["lut", "ff"])
def test_a_plan_keeps_to_what_there_is_of_each_resource(name):
    """With less than the fastest plan takes, and more than the smallest one."""
    graph = small("pair")
    fastest, smallest = (planned(graph, LFE5U_25F, Goal(kind)) for kind in ("fps", "area"))
    most, least = (getattr(plan.budgeted, name) for plan in (fastest, smallest))
    assert least < most
    target = LFE5U_25F.target
    share = {"lut": target.soft_logic_share, "ff": target.register_share}[name]
    limit = (least + 3 * most) // 4
    there = ceil((limit + link(LFE5U_25F).lut * (name == "lut")) / share)
    device = replace(LFE5U_25F, **{name: there})
    found = planned(graph, device, Goal("fps"))
    assert getattr(found.budgeted, name) <= limit + 1
    assert found.interval >= fastest.interval


@pytest.mark.parametrize("name", ["cells", "ff", "bram"])
def test_queues_and_converters_count_in_each_resource(name):
    """A plan that takes one more than the budget, these included, is none."""
    graph = graph_of("residual")
    search = _Search(CandidatePool(graph), ICE40UP5K, "board", ways=Goal().ways)
    network = search.smallest()
    need, outside = network.budgeted, network.outside_stages
    assert min(outside.lut, outside.ff) > 0
    assert need.bram > 0
    exact = Budget(cells(need, ICE40UP5K), need.ff, ICE40UP5K.dsp, need.bram)
    assert search._within(network, exact)
    assert not search._within(network, replace(exact, **{name: getattr(exact, name) - 1}))


def test_each_stage_has_dsp_sites_of_its_own():
    """Side by side, in the order of the flow."""
    network = planned(graph_of("chain"), boards.get("ulx3s-25f").device, Goal())
    free, stages = 0, [stage for stage in network.plan.stages if stage.dsp_multipliers]
    assert len(stages) > 1
    for stage in stages:
        assert stage.site == free
        free += network.designs[stage.name].blocks(stage.dsp_multipliers)


@pytest.mark.parametrize("device", [LFE5U_25F, ICE40UP5K], ids=lambda device: device.name)
def test_a_budget_is_what_the_link_leaves_of_the_device(device):
    budget = _Search(CandidatePool(small("pair")), device, "board", ways=Goal().ways)._budget(0.5)
    taken = link(device)
    assert budget.cells == int(device.lut * 0.5) - cells(taken, device)
    assert budget.ff == int(device.ff * device.target.register_share)
    assert (budget.blocks, budget.bram) == (device.dsp, device.bram - taken.bram)


@pytest.mark.parametrize("name", ["cells", "ff", "bram"])
def test_a_budget_limits_each_resource(name):
    budget = Budget(10, 10, blocks=1, bram=10)
    exact = {"cells": 10, "ff": 10, "bram": 10}
    assert budget.holds(**exact)
    assert not budget.holds(**exact | {name: 11})
    assert not budget.less(**{"cells": 0, "ff": 0, "bram": 0, name: 1}).holds(**exact)


@pytest.mark.parametrize(
    ("need", "name"),
    [
        (Resources(lut=10**6), "LUTs"),
        (Resources(ff=10**6), "flip-flops"),
        (Resources(dsp=10**3), "DSP blocks"),
        (Resources(bram=10**3), "block RAMs"),
    ],
)
def test_every_resource_is_held_against_the_device(need, name):
    ((what, needed, available),) = shortfall(need, LFE5U_25F)
    assert what == name
    assert needed > available
    assert shortfall(Resources(1, 1, 1, 1), LFE5U_25F) == []

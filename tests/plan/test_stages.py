"""Each stage's design: what is legal, what it costs, and how many cycles it takes."""

import json
from contextlib import suppress
from dataclasses import replace
from itertools import product
from math import ceil

import numpy as np
import pytest
from amaranth.back import rtlil
from gatewright import hw
from gatewright.boards.flow.ecp5 import ECP5_FLOW
from gatewright.boards.flow.synthesis import synthesize
from gatewright.compiler import ir
from gatewright.compiler.errors import PlanError
from gatewright.compiler.lower import accelerator
from gatewright.compiler.plan import Dataflow, Plan, StagePlan
from gatewright.compiler.stages import KINDS, kind_named, rounding
from gatewright.compiler.stages.pool import pool_window
from gatewright.hw import WeightCode
from gatewright.sim import golden

from .networks import (
    GENERIC_DEVICE,
    ICE40UP5K,
    LFE5U_25F,
    Builder,
    design,
    fold,
    foldings,
    stage_plan,
)


def conv(channels=4, columns=6, kernel=(3, 3), *, height=6, width=6, dtype=None, **more):
    builder = Builder(height, width, channels, dtype=dtype)
    builder.conv(builder.input, columns, kernel, pads=(1, 1, 1, 1), **more)
    return builder.graph()


def designed(graph, simd, pe, device=GENERIC_DEVICE, **more):
    (op,) = graph
    return design(op, graph, stage_plan("stage", op, simd, pe, **more), device)


# What is refused, and how.


OTHER_THAN_DEFAULT = {
    "simd": 3,
    "pe": 2,
    "dsp_multipliers": 1,
    "weights": "packed_rows",
    "minimal_rows": True,
    "fast_inner_product": True,
    "minimal_filtering": 1,
    "adder_trees": True,
    "site": 0,
}


@pytest.mark.parametrize("field", OTHER_THAN_DEFAULT)
@pytest.mark.parametrize("kind", KINDS)
def test_a_field_is_used_by_the_kind_of_stage_or_refused(kind, field):
    builder = Builder(6, 6, 4)
    x = builder.unary(builder.max_pool(builder.conv(builder.input, 4)), ir.functions.Sigmoid())
    x = builder.gather(x, builder.shape(x).array, np.arange(builder.shape(x).size)[::-1])
    scores = builder.argmax(builder.concat(x, builder.add(x, x)))
    product = builder.matmul(builder.reshape(x, 9, 1), builder.reshape(x, 4, 1))
    later = builder.delay(builder.reshape(x, 9, 1))
    network = fold(builder.graph(scores, product, later))
    stage = next((stage for stage in network.plan.stages if stage.kind == kind), None)
    assert stage is not None, f"a stage of kind {kind} is missing in this network"
    ops = network.designs[stage.name].ops
    changed = replace(stage, **{field: OTHER_THAN_DEFAULT[field]})
    if field in KINDS[kind].fields:
        assert kind_named(changed, ops) is KINDS[kind]
        return
    stages = tuple(changed if each is stage else each for each in network.plan.stages)
    value = json.dumps(OTHER_THAN_DEFAULT[field])
    with pytest.raises(PlanError, match=f"{field} is {value}, but a stage of kind {kind} has no"):
        Dataflow(network.graph, replace(network.plan, stages=stages), network.device)


@pytest.mark.parametrize(
    ("simd", "pe", "message"),
    [
        (0, 1, "conv0: simd=0, but the layer sums 36 products; choose 1 to 36"),
        (37, 1, "conv0: simd=37, but the layer sums 36 products; choose 1 to 36"),
        (1, 0, "conv0: pe=0, but the layer has 6 output channels; choose 1 to 6"),
        (1, 7, "conv0: pe=7, but the layer has 6 output channels; choose 1 to 6"),
    ],
)
def test_a_convolution_says_what_it_accepts(simd, pe, message):
    with pytest.raises(PlanError) as error:
        designed(conv(), simd, pe)
    assert str(error.value) == message


def test_a_depthwise_convolution_says_what_it_accepts():
    with pytest.raises(
        PlanError, match=r"simd=10, but the layer sums 9 products \(it is depthwise\)"
    ):
        designed(conv(4, 4, groups=4), 10, 1)
    with pytest.raises(PlanError, match="pe=5, but the layer has 4 output channels; choose 1 to 4"):
        designed(conv(4, 4, groups=4), 1, 5)


def test_a_grouped_convolution_says_what_it_accepts():
    with pytest.raises(PlanError, match="pe=4, but the layer has 3 output channels in a group"):
        designed(conv(4, 6, groups=2), 1, 4)


def test_a_pool_says_what_it_accepts():
    builder = Builder(6, 6, 4)
    builder.max_pool(builder.input, (3, 2), (1, 1))
    graph = builder.graph()
    with pytest.raises(PlanError) as error:
        designed(graph, 4, 1)
    assert str(error.value) == (
        "maxpool0: simd=4, but a pool reads whole rows or columns of its window "
        "at once; choose one of [1, 2, 3, 6]"
    )
    with pytest.raises(PlanError, match="simd=7, but the window has 6 taps; choose 1 to 6"):
        designed(graph, 7, 1)
    with pytest.raises(PlanError, match="pe=5, but the map has 4 channels; choose 1 to 4"):
        designed(graph, 1, 5)


def test_a_concatenation_says_what_it_accepts():
    builder = Builder(3, 3, 4)
    builder.concat(builder.input, builder.unary(builder.input))
    graph = builder.graph()
    op = graph.ops[-1]
    with pytest.raises(PlanError) as error:
        design(op, graph, stage_plan("stage", op, 1, 3), GENERIC_DEVICE)
    assert str(error.value) == (
        f"{op.name}: pe=3, but the inputs have [4, 4] channels; choose a number "
        "that divides all but the last"
    )


def test_argmax_takes_an_element_a_cycle():
    builder = Builder(1, 1, 4)
    builder.argmax(builder.input)
    with pytest.raises(PlanError, match="pe=2, but the largest is found one element a cycle"):
        designed(builder.graph(), 1, 2)
    assert designed(builder.graph(), 1, 1).cycles() == 4


# The cost contract.


@pytest.mark.parametrize("channels", [3, 4])
def test_a_convolution_takes_the_cycles_of_the_contract(channels):
    """``pixels * ceil(R / simd) * ceil(Cout / pe)``, for every folding, divisible or not."""
    graph = conv(channels, 5)
    reduction = 9 * channels
    for simd, pe in product(range(1, reduction + 1), range(1, 6)):
        wanted = 36 * ceil(reduction / simd) * ceil(5 / pe)
        shape = designed(graph, simd, pe)
        assert shape.cycles() == max(wanted, shape.feed.window.beats_in())
        assert shape.multipliers == simd * pe
        assert shape.ports.outputs[0].lanes * shape.array.groups == pe


def test_a_dense_layer_takes_the_cycles_of_the_contract():
    builder = Builder(2, 2, 5)
    builder.dense(builder.input, 7)
    graph = builder.graph()
    op = graph.ops[-1]
    for simd, pe in product(range(1, 21), range(1, 8)):
        shape = design(op, graph, stage_plan("stage", op, simd, pe), GENERIC_DEVICE)
        assert shape.cycles() == ceil(20 / simd) * ceil(7 / pe)


def test_a_depthwise_convolution_takes_the_cycles_of_the_contract():
    graph = conv(5, 5, groups=5)
    for simd, pe in product(range(1, 10), range(1, 6)):
        shape = designed(graph, simd, pe)
        assert shape.cycles() == max(
            36 * ceil(9 / simd) * ceil(5 / pe), shape.feed.window.beats_in()
        )


def test_a_grouped_convolution_takes_the_cycles_of_the_contract():
    graph = conv(4, 6, groups=2)
    for simd, pe in [*product(range(1, 19), (1, 3)), *product(range(1, 18), (2,))]:
        shape = designed(graph, simd, pe)
        assert shape.cycles() == max(
            36 * 2 * ceil(18 / simd) * ceil(3 / pe), shape.feed.window.beats_in()
        )


@pytest.mark.parametrize(("columns", "pe"), [(7, 4), (5, 3), (5, 2)])
def test_a_grouped_convolution_with_few_folds_is_legal_or_refused(columns, pe):
    graph = conv(2, 2 * columns, (1, 1), groups=2)
    with suppress(PlanError):
        designed(graph, 1, pe)


@pytest.mark.parametrize(
    ("kernel", "stride"), [((2, 2), (2, 2)), ((3, 3), (1, 1)), ((3, 1), (2, 1))]
)
def test_a_pool_takes_the_cycles_of_the_contract(kernel, stride):
    builder = Builder(6, 6, 5)
    builder.max_pool(builder.input, kernel, stride)
    graph = builder.graph()
    (op,) = graph
    pixels, taps = graph.shape(op.output).pixels, kernel[0] * kernel[1]
    for simd, pe in foldings(op, graph):
        shape = designed(graph, simd, pe)
        assert shape.cycles() == max(pixels * ceil(taps / simd) * ceil(5 / pe), 36 * ceil(5 / pe))


@pytest.mark.parametrize("device", [LFE5U_25F, ICE40UP5K], ids=lambda device: device.name)
def test_every_folding_worth_trying_is_legal_and_costs_something(device):
    builder = Builder(6, 6, 4)
    x = builder.conv(builder.input, 6, (3, 3), pads=(1, 1, 1, 1))
    y = builder.depthwise(x, pads=(1, 1, 1, 1))
    z = builder.concat(builder.add(x, y), builder.unary(x))
    builder.argmax(builder.dense(builder.average_pool(builder.max_pool(z)), 5))
    graph = builder.graph()
    for op in graph:
        if isinstance(op, ir.Reshape):
            continue
        tried = []
        for simd, pe in foldings(op, graph):
            if isinstance(op, ir.ArgMax) and pe > 1:
                continue
            shape = design(op, graph, stage_plan("stage", op, simd, pe), device)
            cost = shape.resources(device)
            assert shape.cycles() > 0
            assert cost.lut > 0
            assert cost.ff > 0
            tried.append((simd, pe))
        assert tried


@pytest.mark.parametrize("channels", [3, 4])
def test_results_leave_as_slowly_as_throughput_and_latency_allow(channels):
    graph = conv(channels, 5)
    for simd, pe in product(range(1, 9 * channels + 1), range(1, 6)):
        shape = designed(graph, simd, pe)
        array = shape.array
        assert array.groups * array.initiation_interval <= max(shape.feed.folds, 1)
        assert array.drain_cycles <= shape.cycles() / 8 or array.initiation_interval == 1
        assert array.initiation_interval == 16 or (
            array.groups * (array.initiation_interval + 1) > shape.feed.folds
            or (array.groups - 1) * (array.initiation_interval + 1) > shape.cycles() / 8
        )


def test_a_single_pixels_results_do_not_wait_for_each_other():
    builder = Builder(1, 1, 60)
    builder.dense(builder.input, 10)
    graph = builder.graph()
    op = graph.ops[-1]
    shape = design(op, graph, stage_plan("stage", op, 1, 10), GENERIC_DEVICE)
    assert shape.array.groups == 10
    assert shape.array.drain_cycles <= shape.cycles() / 8 or shape.array.initiation_interval == 1


@pytest.mark.parametrize("device", [LFE5U_25F, ICE40UP5K], ids=lambda device: device.name)
def test_rare_results_take_less_logic(device):
    rare, often = (designed(conv(), simd, 2, device, dsp_multipliers=2) for simd in (1, 18))
    requantizers = [
        hw.RequantizeConfig.estimate(1, 20, 6, shape.array.initiation_interval, device.target)
        for shape in (rare, often)
    ]
    assert 2 * requantizers[0].lut < requantizers[1].lut


@pytest.mark.parametrize(
    ("scale", "fill"),
    [(0.061056941747665405, 3.4497172832489014), (0.003803647356107831, -0.03613464906811714)],
)
def test_a_border_is_rounded_exactly(scale, fill):
    builder = Builder(2, 2, 1)
    output = builder.pad(builder.input, fill=fill)
    graph = builder.graph()
    quant = ir.Quant(ir.Int(8, True), scale, 0)
    values = [ir.Value(name, graph.shape(name), quant) for name in ("x", output)]
    graph = graph.replace(graph.ops, values)
    wanted = golden.run(graph, np.zeros((1, 2, 2, 1), np.int64))[output][0, 0, 0, 0]
    assert pool_window(graph.ops[0], graph)[1] == wanted


# Narrow weights.


@pytest.mark.parametrize(
    ("bits", "simd", "pe", "lanes", "blocks"),
    [
        (8, 3, 6, 1, 18),
        (6, 3, 6, 1, 18),
        (5, 3, 6, 2, 9),
        (5, 3, 4, 2, 6),
        (5, 3, 5, 1, 15),  # no two columns leave together
        (5, 36, 3, 3, 72),  # one fold: all three leave together, one has blocks of its own
        (2, 3, 6, 2, 9),
    ],
)
def test_narrow_weights_share_dsp_blocks(bits, simd, pe, lanes, blocks):
    shape = designed(conv(weight_bits=bits), simd, pe, LFE5U_25F, dsp_multipliers=simd * pe)
    assert shape.ports.outputs[0].lanes == lanes
    assert shape.blocks(simd * pe) == shape.resources(LFE5U_25F).dsp == blocks
    assert shape.products_per_block == (2 if blocks < simd * pe else 1)


def test_only_dsp_blocks_are_worth_wider_beats():
    assert (
        designed(conv(weight_bits=5), 3, 6, LFE5U_25F, dsp_multipliers=0).ports.outputs[0].lanes
        == 1
    )
    assert (
        designed(conv(weight_bits=5), 3, 6, ICE40UP5K, dsp_multipliers=18).ports.outputs[0].lanes
        == 1
    )


def test_a_depthwise_convolution_shares_no_activation():
    shape = designed(conv(4, 4, groups=4, weight_bits=5), 9, 4, LFE5U_25F, dsp_multipliers=36)
    assert shape.resources(LFE5U_25F).dsp == 36


def test_the_least_weight_of_a_type_makes_room_for_a_borrow():
    """-8 to 7 are 4 bits, but -8 less 1 takes a fifth."""
    (op,) = graph = conv(weight_bits=4)
    op.weight[:] = np.clip(op.weight, -7, 7)
    op.weight[0] = -8
    graph = graph.replace([op])
    shape = designed(graph, 3, 6, LFE5U_25F, dsp_multipliers=18)
    assert (shape.array.w.width, shape.resources(LFE5U_25F).dsp) == (5, 9)
    assert designed(graph, 3, 6, LFE5U_25F, dsp_multipliers=0).array.w.width == 4


def test_a_stage_takes_the_sites_of_its_blocks():
    device = replace(LFE5U_25F, dsp_sites=tuple(f"site{n}" for n in range(LFE5U_25F.dsp)))
    shape = designed(conv(weight_bits=5), 3, 6, device, dsp_multipliers=17, site=10)
    assert shape.array.sites == device.dsp_sites[10:19]
    with pytest.raises(PlanError, match="9 DSP blocks from site 20 on, but LFE5U-25F has 28"):
        designed(conv(weight_bits=5), 3, 6, device, dsp_multipliers=17, site=20)


# The fast inner product.


def fast(graph, simd, pe, device=LFE5U_25F, **more):
    return designed(graph, simd, pe, device, fast_inner_product=True, **more)


@pytest.mark.parametrize(
    ("simd", "pe", "multipliers"), [(2, 2, 3), (36, 6, 126), (9, 6, 35), (7, 2, 12)]
)
def test_the_fast_inner_product_halves_the_multipliers(simd, pe, multipliers):
    shape = fast(conv(), simd, pe, dsp_multipliers=multipliers)
    assert shape.multipliers == multipliers == ceil(simd / 2) * (pe + 1)
    assert shape.resources(LFE5U_25F).dsp == shape.blocks(multipliers) == multipliers
    assert (shape.products_per_block, shape.products_per_cycle) == (2, simd * pe)
    assert shape.cycles() == designed(conv(), simd, pe).cycles()


# Minimal filtering.


def filtered(graph, simd, pe, device=LFE5U_25F, **more):
    more = {"minimal_filtering": 1, **more}
    return designed(graph, simd, pe, device, **more)


def test_minimal_filtering_in_both_directions_gives_more_than_twice_the_products():
    graph = conv(16, 6, width=6)
    plain = designed(graph, 2, 3)
    shape = filtered(graph, 2, 3, minimal_filtering=2, dsp_multipliers=6)
    assert 9 * shape.cycles() == 4 * plain.cycles()
    assert (shape.multipliers, shape.products_per_cycle) == (6, 14)  # 13.5
    both = filtered(graph, 2, 3, minimal_filtering=2, dsp_multipliers=4, fast_inner_product=True)
    assert (both.multipliers, both.products_per_cycle, both.products_per_block) == (4, 14, 4.5)
    assert both.cycles() == shape.cycles()


def test_minimal_filtering_gives_half_as_many_products_more():
    graph = conv(4, 6)
    plain, shape = designed(graph, 4, 3), filtered(graph, 4, 3, dsp_multipliers=12)
    assert 3 * shape.cycles() == 2 * plain.cycles()
    assert (shape.multipliers, shape.products_per_cycle) == (12, 18)
    both = filtered(graph, 4, 3, dsp_multipliers=8, fast_inner_product=True)
    assert (both.multipliers, both.products_per_cycle, both.products_per_block) == (8, 18, 3)
    assert both.cycles() == shape.cycles()


def test_the_filters_of_minimal_filtering_are_those_of_the_layer():
    """With each input at a time and no others, a position's product is what the identity says."""
    rng = np.random.default_rng(2)
    taps, x = rng.integers(-128, 128, (5, 3, 4)), rng.integers(-128, 128, (4, 4))
    filtering = hw.MinimalFiltering(1)
    filters = filtering.transformed_filters(taps.reshape(1, 5, 3, 4)).reshape(4, 5, 4)
    inputs = np.stack([x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]])
    sums = (filters * inputs[:, None]).sum(2)
    one, other = filtering.transformed_results(sums)
    np.testing.assert_array_equal(one, 2 * (taps * x[:3]).sum((1, 2)))
    np.testing.assert_array_equal(other, 2 * (taps * x[1:]).sum((1, 2)))


def test_the_square_filters_of_minimal_filtering_are_those_of_the_layer():
    rng = np.random.default_rng(2)
    taps, x = rng.integers(-128, 128, (5, 3, 3, 2)), rng.integers(-128, 128, (4, 4, 2))
    filtering = hw.MinimalFiltering(2)
    one = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
    inputs = np.einsum("pr,qc,rci->pqi", one, one, x).reshape(16, 1, 2)
    results = filtering.transformed_results((filtering.transformed_filters(taps) * inputs).sum(2))
    for number, (row, column) in enumerate(np.ndindex(2, 2)):
        window = x[row : row + 3, column : column + 3]
        np.testing.assert_array_equal(results[number], 4 * (taps * window).sum((1, 2, 3)))


@pytest.mark.parametrize(
    ("simd", "directions", "pair"),
    [(2, 1, False), (3, 1, False), (3, 1, True), (1, 2, False), (2, 2, False), (2, 2, True)],
)
@pytest.mark.parametrize("dtype", [ir.Int(8, True), ir.Int(8, False), ir.Int(3, True)], ids=str)
def test_results_of_minimal_filtering_fit_the_accumulator(simd, directions, pair, dtype):
    """Results may be the greatest or the least for all pixels of a tile."""
    graph = conv(12, 6, width=6, dtype=dtype)
    shape = filtered(graph, simd, 3, minimal_filtering=directions, fast_inner_product=pair)
    (op,) = graph
    weight = op.weight.astype(np.int64).reshape(op.channels, -1)
    times = 2**directions
    ends = np.sort(np.stack([weight * dtype.low, weight * dtype.high]), 0).sum(2) * times
    found = shape.constants().requantize
    exact = rounding.proven(op, graph)
    channels = shape._channels() * times
    low, high = -(1 << (shape.array.acc.width - 1)), (1 << (shape.array.acc.width - 1)) - 1
    for mult, offset, channel in zip(found.mult, found.offset, channels, strict=True):
        more, rest = divmod(times * exact.offset[channel] - offset, mult)
        assert not rest
        assert low <= ends[0, channel] + more
        assert ends[1, channel] + more <= high


@pytest.mark.parametrize(
    ("graph", "simd", "pe", "more", "message"),
    [
        (conv(4, 4, groups=2), 2, 2, {}, "the layer has groups; set it to 0"),
        (conv(4, 4, groups=4), 3, 2, {}, "the layer has groups; set it to 0"),
        (conv(width=5), 4, 3, {}, "its output has 5 columns, an odd number; set it to 0"),
        (conv(), 5, 3, {}, "with simd=5; choose one of 1, 2, 3, 4, 6, 12"),
        (conv(), 3, 3, {"minimal_filtering": 2}, "with simd=3; choose one of 1, 2, 4"),
        (conv(height=5), 2, 1, {"minimal_filtering": 2}, "its output has 5 rows, an odd number"),
        (conv(), 2, 1, {"minimal_filtering": 3}, "but it must be 0 .* 1 .* or 2"),
        (conv(), 12, 6, {}, "a position takes 1 cycles, fewer than 6"),
        (
            conv(),
            4,
            3,
            {"adder_trees": True},
            "adder_trees is true; set it to false, or the other to 0",
        ),
    ],
)
def test_minimal_filtering_that_does_not_work_is_refused(graph, simd, pe, more, message):
    with pytest.raises(PlanError, match=f"conv0: minimal_filtering is [123].*{message}"):
        filtered(graph, simd, pe, **more)


def check_offsets(found, plain, excess):
    """The offsets of ``found`` take away what its results are more than those of ``plain``."""
    for mult, offset, plain_offset, more in zip(
        found.mult, found.offset, plain.offset, excess.tolist(), strict=True
    ):
        assert offset + mult * more == plain_offset


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [ir.Int(8, True), ir.Int(8, False), ir.Int(3, True)], ids=str)
@pytest.mark.parametrize(("simd", "pe"), [(2, 3), (3, 3), (6, 2), (18, 3)])
def test_results_of_the_fast_inner_product_fit_the_accumulator(simd, pe, dtype, groups):
    """For every channel the largest and the least sum of products, and its pairs of weights; its
    offset takes these away.
    """
    builder = Builder(6, 6, 4, dtype=dtype)
    builder.conv(builder.input, 6, (3, 3), groups=groups)
    graph = builder.graph()
    shape, plain = fast(graph, simd, pe), designed(graph, simd, pe)
    constants, without = shape.constants(), plain.constants()
    assert constants.requantize.mult == without.requantize.mult
    assert np.array_equal(constants.weights, without.weights)
    pairs = constants.weights.copy()
    if simd % 2:
        pairs = np.pad(pairs, ((0, 0), (0, 1), (0, 0)))
    products = pairs[:, 0::2] * pairs[:, 1::2]
    excess = products.sum(1).reshape(pe, -1, shape.array.folds).sum(2).T.reshape(-1)
    acc, weights = shape.array.acc, constants.weights.reshape(pe, simd, -1, shape.array.folds)
    low = np.minimum(weights * dtype.low, weights * dtype.high).sum((1, 3)).T.reshape(-1)
    high = np.maximum(weights * dtype.low, weights * dtype.high).sum((1, 3)).T.reshape(-1)
    half = 1 << (acc.width - 1)
    assert -half <= (low + excess).min()
    assert (high + excess).max() < half
    assert acc.width <= plain.array.acc.width + 5
    check_offsets(constants.requantize, without.requantize, excess)


@pytest.mark.parametrize(
    ("graph", "simd", "pe", "device", "message"),
    [
        (
            conv(4, 4, groups=4),
            9,
            4,
            LFE5U_25F,
            "conv0: fast_inner_product is true, but the layer is depthwise, so no two of its "
            "columns share activations; set it to false",
        ),
        (
            conv(),
            1,
            6,
            LFE5U_25F,
            "conv0: fast_inner_product is true, but with simd=1, pe=6 it takes 7 multipliers "
            "instead of 6; choose a larger simd and pe, or set it to false",
        ),
        (
            conv(),
            12,
            1,
            LFE5U_25F,
            "conv0: fast_inner_product is true, but with simd=12, pe=1 it takes 12 multipliers "
            "instead of 12; choose a larger simd and pe, or set it to false",
        ),
        (
            conv(weight_bits=5),
            4,
            6,
            LFE5U_25F,
            "conv0: fast_inner_product is true, but with simd=4, pe=6 it takes 14 DSP blocks "
            "instead of 12, each of which gives up to 2 products; set it to false",
        ),
        (
            conv(),
            4,
            6,
            ICE40UP5K,
            "conv0: fast_inner_product is true, but with simd=4, pe=6 it takes 14 DSP blocks "
            "instead of 12, each of which gives up to 2 products; set it to false",
        ),
    ],
)
def test_a_fast_inner_product_without_gain_is_refused(graph, simd, pe, device, message):
    with pytest.raises(PlanError) as error:
        fast(graph, simd, pe, device, dsp_multipliers=4)
    assert str(error.value) == message


def trees(graph, simd, pe, device=LFE5U_25F, **more):
    return designed(graph, simd, pe, device, adder_trees=True, **more)


@pytest.mark.parametrize(
    ("graph", "more", "message"),
    [
        (
            conv(4, 4, groups=4),
            {},
            "conv0: adder_trees is true, but the layer is depthwise, so no two of its columns "
            "share activations; set it to false",
        ),
        (
            conv(),
            {"dsp_multipliers": 3},
            "conv0: adder_trees is true, but so is fast_inner_product, or dsp_multipliers is not "
            "0; set adder_trees to false, or these to false and 0",
        ),
        (
            conv(),
            {"fast_inner_product": True},
            "conv0: adder_trees is true, but so is fast_inner_product, or dsp_multipliers is not "
            "0; set adder_trees to false, or these to false and 0",
        ),
    ],
)
def test_adder_trees_that_can_not_be_are_refused(graph, more, message):
    with pytest.raises(PlanError) as error:
        trees(graph, 4, 4, **more)
    assert str(error.value) == message


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("dtype", [ir.Int(8, True), ir.Int(4, False), ir.Int(1, False)], ids=str)
@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize(("simd", "pe"), [(5, 3), (18, 3)])
def test_results_of_adder_trees_fit_the_accumulator(simd, pe, bits, dtype, groups):
    """For every channel the largest and the least sum, and what inverted activations add; its
    offset takes that away.
    """
    builder = Builder(6, 6, 4, dtype=dtype)
    builder.conv(builder.input, 6, (3, 3), groups=groups, weight_bits=bits)
    graph = builder.graph()
    shape, plain = trees(graph, simd, pe), designed(graph, simd, pe)
    constants, without = shape.constants(), plain.constants()
    assert np.array_equal(constants.weights, without.weights)
    weights = constants.weights.reshape(pe, simd, -1, shape.array.folds)
    inverted = (-1 if dtype.signed else dtype.high) * (bits == 2)
    terms = [weights * end + inverted * (weights < 0) for end in (dtype.low, dtype.high)]
    half = 1 << (shape.array.acc.width - 1)
    assert -half <= np.minimum(*terms).sum((1, 3)).min()
    assert np.maximum(*terms).sum((1, 3)).max() < half
    excess = inverted * (weights < 0).sum((1, 3)).T.reshape(-1)
    check_offsets(constants.requantize, without.requantize, excess)


def test_weights_of_signs_alone_take_a_bit():
    """But not where the folding fills a word of them with zeros."""
    builder = Builder(6, 6, 4)
    builder.conv(builder.input, 6, (1, 1), weight_bits=2)
    graph = builder.graph()
    (op,) = graph
    graph = replace(graph, ops=(replace(op, weight=np.where(op.weight < 0, -1, 1)),))
    codes = [trees(graph, simd, 3).array.tree for simd in (4, 2, 3)]
    assert codes == [WeightCode.SIGN, WeightCode.SIGN, WeightCode.TERNARY]
    assert trees(conv(weight_bits=2), 4, 3).array.tree is WeightCode.TERNARY
    assert trees(conv(weight_bits=3), 4, 3).array.tree is WeightCode.PLANES


def test_sums_that_are_too_wide_for_the_blocks_are_refused():
    builder = Builder(6, 6, 4, dtype=ir.Int(16, True))
    builder.conv(builder.input, 6, (3, 3))
    message = "multiplies sums of 17 bits, which are too wide for the DSP blocks of ice40"
    with pytest.raises(PlanError, match=message):
        fast(builder.graph(), 4, 6, ICE40UP5K, dsp_multipliers=4)
    assert fast(builder.graph(), 4, 6, ICE40UP5K).multipliers == 14


def test_narrow_weights_in_soft_logic_may_use_the_fast_inner_product():
    shape = fast(conv(weight_bits=5), 4, 6)
    assert (shape.multipliers, shape.array.lanes, shape.products_per_cycle) == (14, 1, 24)


def check_estimate(network, folder):
    """What synthesis counts is about what the plan does."""
    (il := folder / "accelerator.il").write_text(
        rtlil.convert(accelerator(network), name="accelerator", emit_src=False)
    )
    counts = synthesize([il], ECP5_FLOW.synthesis, folder / "out", "accelerator")
    need = network.resources
    assert (counts["dsp"], counts["bram"]) == (need.dsp, need.bram)
    assert 0.8 < counts["lut"] / need.lut < 1.25
    assert 0.8 < counts["ff"] / need.ff < 1.25


@pytest.mark.parametrize(("simd", "pe", "dsp_multipliers"), [(9, 6, 35), (6, 3, 4)])
def test_the_estimate_of_a_fast_inner_product(simd, pe, dsp_multipliers, tmp_path):
    builder = Builder(8, 8, 8)
    output = builder.conv(builder.input, 12, (3, 3), pads=(1, 1, 1, 1))
    more = {"dsp_multipliers": dsp_multipliers, "fast_inner_product": True}
    network = fold(
        builder.graph(), {output: (simd, pe)}, LFE5U_25F, lanes_in=4, weights="block_ram", **more
    )
    check_estimate(network, tmp_path)


@pytest.mark.parametrize(
    ("simd", "pe", "directions"), [(4, 6, 1), (24, 2, 1), (2, 6, 2), (4, 3, 2)]
)
@pytest.mark.parametrize("pair", [False, True])
def test_the_estimate_of_minimal_filtering(simd, pe, directions, pair, tmp_path):
    builder = Builder(8, 8, 8)
    output = builder.conv(builder.input, 12, (3, 3), pads=(1, 1, 1, 1))
    more = {"dsp_multipliers": 99, "fast_inner_product": pair, "minimal_filtering": directions}
    network = fold(
        builder.graph(), {output: (simd, pe)}, LFE5U_25F, lanes_in=4, weights="block_ram", **more
    )
    check_estimate(network, tmp_path)


@pytest.mark.parametrize(("channels", "kernel", "pe"), [(1, 5, 2), (4, 3, 4)])
@pytest.mark.parametrize("trees", [False, True])
def test_the_estimate_of_constant_weights(channels, kernel, pe, trees, tmp_path):
    """A layer that computes a pixel a cycle has a single word of weights in each place."""
    builder = Builder(12, 12, channels)
    output = builder.conv(builder.input, pe, (kernel, kernel), pads=(kernel // 2,) * 4)
    folding = {output: (channels * kernel**2, pe)}
    network = fold(builder.graph(), folding, LFE5U_25F, lanes_in=channels, adder_trees=trees)
    check_estimate(network, tmp_path)


# Plans of a whole network.


def test_a_plan_must_cover_the_network():
    graph = conv()
    output = graph.ops[0].output
    with pytest.raises(PlanError) as error:
        Dataflow(
            graph, Plan("test", (StagePlan("a", "window_matmul", ("other",)),), {}), GENERIC_DEVICE
        )
    assert str(error.value) == (
        f"the plan is not of this network: no stage computes {output}, the "
        "network has no other; compile without --plan to make a new one"
    )
    with pytest.raises(PlanError, match="two stages of the plan have one name"):
        Dataflow(
            graph,
            Plan("test", (StagePlan("a", "window_matmul", (output,)),) * 2, {}),
            GENERIC_DEVICE,
        )


def test_a_plan_must_fit_the_borders():
    stage = StagePlan("a", "window_matmul", ("conv0_out",))
    with pytest.raises(
        PlanError, match="input x: 5 elements a beat, but it has 4 channels; choose 1 to 4"
    ):
        Dataflow(conv(), Plan("test", (stage,), {}, {"x": 5}), GENERIC_DEVICE)
    with pytest.raises(
        PlanError, match="a queue stands before input 1 of stage a, which the network"
    ):
        Dataflow(conv(), Plan("test", (stage,), {("a", 1): 3}), GENERIC_DEVICE)


def test_a_kind_that_is_not_known_is_refused():
    with pytest.raises(PlanError) as error:
        Dataflow(
            conv(), Plan("test", (StagePlan("a", "abacus", ("conv0_out",)),), {}), GENERIC_DEVICE
        )
    assert str(error.value) == (
        f"stage a: no kind of stage is named 'abacus'; choose one of {', '.join(KINDS)}"
    )


def test_a_kind_that_runs_other_operators_is_refused():
    with pytest.raises(
        PlanError,
        match=r"stage a: a stage of kind lookup can not run conv0 \(Conv\); choose another",
    ):
        Dataflow(
            conv(), Plan("test", (StagePlan("a", "lookup", ("conv0_out",)),), {}), GENERIC_DEVICE
        )


def test_a_stage_of_two_operators_is_refused_by_a_kind_that_runs_one():
    builder = Builder(3, 3, 2)
    first = builder.unary(builder.input)
    second = builder.unary(first)
    both = StagePlan("both", "lookup", (first, second))
    with pytest.raises(PlanError) as error:
        Dataflow(builder.graph(), Plan("test", (both,), {}), GENERIC_DEVICE)
    assert str(error.value) == (
        "stage both: a stage of kind lookup can not run unary0 (Unary), unary1 (Unary); choose "
        "another kind, or give each operator a stage of its own"
    )


def test_the_interval_is_the_slowest_of_stages_converters_and_borders():
    graph = conv(4, 6)
    output = graph.ops[0].output
    for simd, pe, lanes_in in product((1, 12, 36), (1, 3, 6), (1, 2, 4)):
        network = fold(graph, {output: (simd, pe)}, lanes_in=lanes_in)
        shape = network.designs["s00_conv"]
        lanes = shape.ports.inputs[0].lanes
        converts = 36 * ceil(4 / np.gcd(lanes_in, lanes))
        assert network.interval == max(
            shape.cycles(),
            *(port.beats for port in (*network.inputs, *network.outputs)),
            converts if lanes_in != lanes else 0,
        )


def test_a_converter_may_be_the_slowest():
    """Of two and of three lanes: it passes one channel a cycle, slower than both of its ends."""
    builder = Builder(6, 6, 6)
    output = builder.conv(builder.input, 6)
    network = fold(builder.graph(), {output: (3, 6)}, lanes_in=2)
    assert network.designs["s00_conv"].cycles() == 36 * 2
    assert max(port.beats for port in (*network.inputs, *network.outputs)) == 36 * 3
    assert network.interval == 36 * 6


def test_dense_layers_cost_the_block_rams_that_they_take(tmp_path):
    """Their vectors are read again for each pass, so few of them wait: in logic, where they are
    small.
    """
    builder = Builder(1, 1, 64)
    x = builder.conv(builder.conv(builder.input, 128), 64)
    network = fold(
        builder.graph(),
        {"conv0_out": (8, 4), x: (16, 2)},
        LFE5U_25F,
        lanes_in=8,
        weights="block_ram",
        dsp_multipliers=0,
    )
    (il := tmp_path / "accelerator.il").write_text(
        rtlil.convert(accelerator(network), name="accelerator", emit_src=False)
    )
    counts = synthesize([il], ECP5_FLOW.synthesis, tmp_path / "out", "accelerator")
    assert counts["bram"] == network.resources.bram


def test_two_stages_may_not_share_a_dsp_site():
    builder = Builder(4, 4, 4, seed=2)
    first = builder.conv(builder.input, 4)
    second = builder.conv(first, 4)
    stages = tuple(
        StagePlan(name, "window_matmul", (output,), 2, 2, 4, site=site)
        for name, output, site in (("a", first, 3), ("b", second, 6))
    )
    device = replace(LFE5U_25F, dsp_sites=tuple(f"site{n}" for n in range(LFE5U_25F.dsp)))
    with pytest.raises(PlanError, match=r"stage b: .* site 6 is taken by stage a"):
        Dataflow(builder.graph(), Plan("test", stages, {}), device)
    apart = (stages[0], replace(stages[1], site=7))
    assert Dataflow(builder.graph(), Plan("test", apart, {}), device)

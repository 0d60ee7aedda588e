"""Pools: the largest, or the exact mean, of every window, channel by channel."""

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.compiler import ir
from gatewright.compiler.plan.schedule import latency
from gatewright.hw import ECP5, GlobalPool, GlobalPoolConfig
from gatewright.hw.arithmetic.reduce import Maximum, ReduceConfig, Sum
from gatewright.hw.target import GENERIC
from gatewright.hw.target.ecp5 import LFE5U_25F
from gatewright.hw.target.ice40 import ICE40UP5K
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from ..plan.networks import GENERIC_DEVICE, Builder, fold, measure
from .bench import STALLS, flow, random_elements, simulate, synthesized

SHAPES = {
    "one tap": ReduceConfig(1, 1, 1, signed(8), signed(12)),
    "one tap, folds": ReduceConfig(1, 3, 9, signed(8), signed(12)),
    "a row of taps": ReduceConfig(3, 2, 3, signed(8), signed(12)),
    "all taps": ReduceConfig(9, 1, 1, signed(8), signed(12)),
    "an odd tree": ReduceConfig(5, 2, 2, signed(8), signed(12)),
    "unsigned": ReduceConfig(4, 2, 4, unsigned(8), unsigned(12)),
    "unsigned to signed": ReduceConfig(2, 1, 2, unsigned(8), signed(12)),
}


@pytest.mark.parametrize("gap", STALLS)
@pytest.mark.parametrize(("part", "function"), [(Maximum, np.max), (Sum, np.sum)])
@pytest.mark.parametrize("name", SHAPES)
def test_reduces_each_channel(name, part, function, gap):
    c = SHAPES[name]
    words = random_elements(c.element, (12, c.folds, c.taps, c.lanes))
    dut = part(c)
    out, ends, _ = flow(dut, words.reshape(12, c.folds, -1), gap=gap)
    assert_array_equal([elements for _, elements in out], function(words, axis=(1, 2)))
    assert [cycle for cycle, _ in out] == [end + c.latency for end in ends]


def check(graph, builder, folds, stall=0.0, frames=3):
    """The accelerator of one pool equals golden, and takes the cycles of the formula."""
    (op,) = graph
    network = fold(graph, {op.output: folds})
    x = builder.frames(frames)
    seen = measure(network, x, stall=stall)
    assert_array_equal(seen.values, golden.run(graph, x)[op.output])
    if not stall:
        assert seen.intervals[1:] == [network.interval] * (frames - 2)


WINDOWS = {
    "halves": {"kernel": (2, 2)},
    "overlaps": {"kernel": (3, 3), "stride": (2, 2), "pads": (1, 1, 1, 1)},
    "padded on one corner": {"kernel": (2, 2), "stride": (1, 1), "pads": (0, 0, 1, 1)},
    "a row": {"kernel": (1, 3), "stride": (1, 1), "pads": (0, 1, 0, 1)},
    "the whole map": {"kernel": (5, 6)},
    "rows left over": {"kernel": (2, 2), "stride": (3, 3)},
}


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("pe", [1, 3, 5])
@pytest.mark.parametrize("dtype", [ir.Int(8, True), ir.Int(8, False), ir.Int(4, True)], ids=str)
@pytest.mark.parametrize("name", ["halves", "overlaps"])
def test_max_pool(name, dtype, pe, stall):
    builder = Builder(5, 6, 5, seed=1, dtype=dtype)
    builder.max_pool(builder.input, **WINDOWS[name])
    check(builder.graph(), builder, (2 if name == "halves" else 9, pe), stall)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("count_padding", [False, True])
@pytest.mark.parametrize("name", WINDOWS)
def test_average_pool(name, count_padding, stall):
    builder = Builder(5, 6, 3, seed=2)
    builder.average_pool(builder.input, count_padding=count_padding, **WINDOWS[name])
    taps = 1 if name == "the whole map" else WINDOWS[name]["kernel"][0]
    check(builder.graph(), builder, (taps, 2), stall)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("target", [GENERIC_DEVICE, ICE40UP5K], ids=lambda device: device.name)
@pytest.mark.parametrize(("channels", "pe"), [(1, 1), (5, 5), (5, 2), (12, 2), (12, 1), (70, 1)])
@pytest.mark.parametrize("kind", ["average_pool", "max_pool"])
def test_a_pool_over_a_whole_map(kind, channels, pe, target, stall):
    """With totals in registers and in both kinds of memory; a frame follows the other at once."""
    builder = Builder(2, 3, channels, seed=channels)
    output = getattr(builder, kind)(builder.input, (2, 3))
    graph, x = builder.graph(), builder.frames(4)
    network = fold(graph, {output: (1, pe)}, target, lanes_in=pe)
    seen = measure(network, x, stall=stall)
    assert_array_equal(seen.values, golden.run(graph, x)[output])
    words = -(-channels // pe)
    assert network.interval == 6 * words
    if not stall:
        assert seen.intervals[1:] == [network.interval] * 2
        assert seen.latency == latency(network)


def test_a_pool_over_a_whole_map_stops_at_the_last_pixel_alone():
    """While nothing is taken, 16 results in the queue and the pixels before the next one."""
    config = GlobalPoolConfig(1, 1, 10, signed(8), signed(8), target=GENERIC)
    dut, taken = GlobalPool(config), []

    async def bench(ctx):
        ctx.set(dut.i.valid, 1)
        for _ in range(400):
            _, _, ready = await ctx.tick().sample(dut.i.ready)
            taken.append(ready)

    simulate(dut, bench)
    assert sum(taken) == 10 * (16 + 1) + 9


@pytest.mark.parametrize("kind", ["average_pool", "max_pool"])
@pytest.mark.parametrize(("channels", "pe"), [(64, 1), (64, 8), (6, 3)])
def test_the_estimate_of_a_pool_over_a_whole_map(kind, channels, pe, tmp_path):
    builder = Builder(4, 4, channels)
    output = getattr(builder, kind)(builder.input, (4, 4))
    network = fold(builder.graph(), {output: (1, pe)}, LFE5U_25F, lanes_in=pe)
    (design,) = network.designs.values()
    counts, around = synthesized(design.build(design.constants()), ECP5, tmp_path)
    need = design.resources(LFE5U_25F)
    assert (counts["bram"], counts["dsp"]) == (need.bram, need.dsp) == (0, 0)
    assert 0.7 < need.lut / counts["lut"] < 1.5
    assert 0.7 < need.ff / (counts["ff"] - around) < 1.5


@pytest.mark.parametrize("simd", [1, 2, 3, 6])
def test_max_pool_reads_rows_columns_or_all_at_once(simd):
    builder = Builder(5, 6, 2)
    builder.max_pool(builder.input, (2, 3), (1, 2), dilation=(2, 1))
    check(builder.graph(), builder, (simd, 2))


def test_padding_never_wins():
    builder = Builder(2, 2, 1)
    output = builder.max_pool(builder.input, (3, 3), (1, 1), pads=(1, 1, 1, 1))
    least = np.full((1, 2, 2, 1), -128)
    assert_array_equal(measure(fold(builder.graph(), {output: (3, 1)}), least).values, least)


def test_a_corner_divides_by_the_taps_inside_the_map():
    """9, 6 or 4 taps count, and a constant map stays constant."""
    builder = Builder(4, 4, 2)
    output = builder.average_pool(builder.input, (3, 3), (1, 1), pads=(1, 1, 1, 1))
    graph = builder.graph()
    op = graph.ops[0]
    quant = builder.values["x"].quant
    same = graph.replace([op], [ir.Value(output, graph.shape(output), quant)])
    x = np.full((1, 4, 4, 2), 77)
    assert_array_equal(measure(fold(same, {output: (1, 2)}), x).values, x)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("fill", [0.0, -0.31, 100.0])
def test_a_border(fill, stall):
    """Followed by a layer that waits for the map: a border alone may leave before it."""
    builder = Builder(3, 4, 3, seed=3)
    padded = builder.pad(builder.input, (1, 2, 0, 1), fill)
    pooled = builder.max_pool(padded, (2, 2), (1, 1))
    graph, x = builder.graph(), builder.frames(3)
    seen = measure(fold(graph, {padded: (1, 2), pooled: (2, 3)}), x, stall=stall)
    assert_array_equal(seen.values, golden.run(graph, x)[pooled])


def test_a_border_does_not_leave_before_its_frame():
    builder = Builder(2, 2, 1)
    padded = builder.pad(builder.input)
    frames = builder.frames(1)
    assert_array_equal(
        measure(fold(builder.graph()), frames).values, golden.run(builder.graph(), frames)[padded]
    )

"""The latency that is promised is the one that is measured."""

import numpy as np
import pytest
from amaranth import signed
from gatewright.compiler.plan import idle_frame, latency, schedule
from gatewright.compiler.stages import StageTiming, WindowNeeds
from gatewright.hw import WindowConfig
from gatewright.hw.target import GENERIC
from numpy.testing import assert_array_equal

from .networks import Builder, fold, measure


def convolutions(b):
    x = b.conv(b.input, 4, (3, 3), pads=(1, 1, 1, 1))
    return b.conv(b.max_pool(x), 5, (3, 3))


def classifier(b):
    x = b.conv(b.input, 4, (3, 3), stride=(2, 2), pads=(1, 1, 1, 1))
    return b.argmax(b.dense(b.average_pool(x), 6))


def residual(b):
    x = b.conv(b.input, 3)
    return b.add(b.depthwise(x, pads=(1, 1, 1, 1)), x)


def mirrored(b):
    x = b.conv(b.input, 4)
    order = np.arange(b.shape(x).size).reshape(b.shape(x).array)[:, ::-1].transpose(1, 0, 2)
    return b.max_pool(b.gather(x, order.shape, order))


def attention(b):
    """Four products of [16, 3] and [3, 5]."""
    left = b.reshape(b.conv(b.input, 3), 64, 1)
    right = b.reshape(b.conv(b.max_pool(b.input), 5, (1, 2)), 12, 1)
    return b.matmul(left, right, products=4)


NETWORKS = {f.__name__: f for f in (convolutions, classifier, residual, mirrored, attention)}


@pytest.mark.parametrize("minimal_rows", [False, True])
@pytest.mark.parametrize("pe", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_within_a_fiftieth_of_the_simulation(name, pe, minimal_rows):
    builder = Builder(8, 8, 3, seed=5)
    NETWORKS[name](builder)
    graph = builder.graph()
    folds = {op.output: (op.weight.shape[3], pe) for op in graph if hasattr(op, "weight")}
    network = fold(
        graph,
        folds,
        dsp_multipliers=99,
        minimal_rows=minimal_rows,
        weights="packed_rows" if minimal_rows else "logic",
    )
    measured = measure(network, builder.frames(1)).latency
    assert latency(network) == pytest.approx(measured, rel=0.02)


@pytest.mark.parametrize("pe", [1, 2, 4])
def test_the_slowest_reader_of_a_value_delays_the_others(pe):
    """One that needs the whole map before it begins."""
    builder = Builder(8, 8, 3, seed=5)
    x = builder.conv(builder.input, 4)
    slow = builder.max_pool(x, (1, 1))
    order = np.arange(8 * 8 * 4).reshape(8, 8, 4)[::-1, ::-1]
    turned = builder.gather(x, order.shape, order)
    late = builder.conv(turned, 3)
    folds = {x: (3, 4), slow: (1, pe), turned: (4, 4), late: (4, 1)}
    network = fold(builder.graph(slow, late), folds, lanes_in=3)
    measured = measure(network, builder.frames(1)).latency
    assert latency(network) == pytest.approx(measured, rel=0.02)


def test_a_border_has_a_latency():
    builder = Builder(4, 4, 1)
    padded = builder.pad(builder.input)
    builder.max_pool(padded, (3, 3), (1, 1))
    network = fold(builder.graph())
    assert latency(network) == pytest.approx(measure(network, builder.frames(1)).latency, rel=0.2)


def pixel_by_pixel(needs, timing, arrivals):
    """When each pixel is written and read for, told one after the other."""
    written, finish, free = [], [], [0.0] * int(min(timing.room, len(arrivals)))
    for row, released in zip(needs.needed, needs.released, strict=True):
        for need in row:
            need = min(len(arrivals), -(-int(need) // timing.unit) * timing.unit)
            while len(written) < need:
                n = len(written)
                before = max(written[-1] if written else 0.0, free[n // needs.width])
                written.append(max(arrivals[n] - timing.writing, before) + timing.writing)
            before = max(finish[-1] if finish else 0.0, written[need - 1] + timing.arrival)
            finish.append(before + timing.pixel)
        free += [finish[-1]] * released
    return written, finish


@pytest.mark.parametrize("seed", range(40))
def test_a_running_maximum_is_the_same_as_one_pixel_after_the_other(seed):
    rng = np.random.default_rng(seed)
    height, width, stride = rng.integers(3, 9), rng.integers(1, 9), int(rng.integers(1, 3))
    window = WindowConfig(
        int(height),
        int(width),
        2,
        signed(8),
        1,
        (3, 1),
        (stride, 1),
        (1, 1),
        tuple(int(n) for n in rng.integers(0, 2, 4)),
        0,
        passes=int(rng.integers(1, 3)),
        target=GENERIC,
    )
    needs = WindowNeeds(window.looks_at(), window.releases(), window.width)
    minimal_rows = (
        max(
            window._needed_rows(row) - max(window._first_row(row), 0)
            for row in range(window.height_out)
        )
        + stride
    )
    for room in (np.inf, window.rows, minimal_rows):
        timing = StageTiming(
            int(rng.integers(1, 20)), 5, int(rng.integers(1, 4)), 2, room, window.unit
        )
        arrivals = np.cumsum(rng.integers(1, 12, height * width)).astype(float)
        written, finish = schedule._written(needs, timing, [arrivals])
        wanted, ends = pixel_by_pixel(needs, timing, arrivals)
        assert_array_equal(written[: len(wanted)], wanted)
        assert_array_equal(finish, ends)


EXACT = {
    "pointwise": lambda b: b.conv(b.input, 4),
    "three by three": lambda b: b.conv(b.input, 4, (3, 3), pads=(1, 1, 1, 1)),
    "two layers": lambda b: b.conv(b.conv(b.input, 4, (3, 3)), 2),
    "table": lambda b: b.unary(b.input),
}


@pytest.mark.parametrize("name", EXACT)
def test_a_latency_is_exact_to_the_cycle(name):
    """That of short chains: every constant of the schedule counts."""
    builder = Builder(6, 6, 3, seed=3)
    EXACT[name](builder)
    graph = builder.graph()
    folds = {op.output: (3, 2) for op in graph if hasattr(op, "weight")}
    network = fold(graph, folds, dsp_multipliers=99)
    assert measure(network, builder.frames(1)).latency == latency(network)


def residual(builder):
    """A block whose branches meet, a pool over the map and a dense layer."""
    x = builder.conv(builder.input, 4, (3, 3), pads=(1, 1, 1, 1))
    y = builder.conv(x, 4, (3, 3), pads=(1, 1, 1, 1))
    return builder.conv(builder.max_pool(builder.add(x, y), (6, 6), (6, 6)), 3)


@pytest.mark.parametrize("rows", [False, True], ids=["spare rows", "minimal rows"])
@pytest.mark.parametrize("name", [*EXACT, "residual"])
def test_the_parts_add_up_to_the_latency(name, rows):
    """Those of each stage in the order of the flow, from the input on."""
    builder = Builder(6, 6, 3, seed=3)
    (EXACT | {"residual": residual})[name](builder)
    network = fold(builder.graph(), minimal_rows=rows)
    parts = idle_frame(network).parts()
    assert sum(part.cycles for part in parts) == latency(network)
    assert parts[0].stage is None
    stages = [part.stage for part in parts if part.stage is not None]
    assert stages == sorted(set(stages))
    assert stages[-1] == len(network.plan.stages) - 1
    assert all(part.cycles > 0 for part in parts)


def test_the_slowest_stage_computes_most_of_the_latency():
    builder = Builder(8, 8, 4, seed=3)
    slow = builder.conv(builder.input, 4, (3, 3), pads=(1, 1, 1, 1))
    builder.conv(slow, 4)
    network = fold(builder.graph(), {slow: (1, 1)})
    first, *_ = [part for part in idle_frame(network).parts() if part.stage == 0]
    assert first.computing == pytest.approx(network.interval, rel=0.2)

"""A stage's latency is the one that the component has, for every kind; those of two activations are
all measured in ``test_elementwise``.
"""

import pytest
from gatewright.compiler import ir
from gatewright.compiler.stages import KINDS, kind_of

from ..hw.bench import beats_of, exchange, port
from ..plan.networks import GENERIC_DEVICE, ICE40UP5K, LFE5U_25F, Builder, design, stage_plan


def dense(b):
    return b.dense(b.input, 6)


def depthwise(b):
    return b.depthwise(b.input, (2, 2))


def convolution(b):
    return b.conv(b.input, 6, (2, 2))


def max_pool(b):
    return b.max_pool(b.input, (3, 3), pads=(0, 0, 1, 1))


def average_pool(b):
    return b.average_pool(b.input, (3, 3), pads=(0, 0, 1, 1))


def global_max_pool(b):
    return b.max_pool(b.input)


def global_average_pool(b):
    return b.average_pool(b.input)


def pad(b):
    return b.pad(b.reshape(b.input, 1, 1), (0, 0, 0, 0))


def add(b):
    return b.add(b.input, b.input)


def matmul(b):
    return b.matmul(b.reshape(b.input, 1, 1), b.reshape(b.dense(b.input, 60), 12, 1))


def unary(b):
    return b.unary(b.input)


def concat(b):
    return b.concat(b.input, b.input)


def gather(b):
    return b.gather(b.input, (1, 1, 4), [3, 5, 2, 11])


def pixel(b):
    return b.gather(b.input, (1, 1, 3), [10, 9, 11])


def argmax(b):
    return b.argmax(b.input)


#: networks that end in an operator of one pixel of output (any number for kinds without a line
#: buffer), and foldings of that operator
CASES = {
    dense: [
        (1, 1, {}),
        (1, 3, {}),
        (2, 6, {}),
        (3, 2, {"weights": "block_ram"}),
        (3, 2, {"weights": "packed_rows"}),
        (12, 3, {}),
        (12, 3, {"dsp_multipliers": 99}),
        (5, 2, {"dsp_multipliers": 3}),
        (5, 2, {"fast_inner_product": True}),
        (12, 3, {"fast_inner_product": True, "dsp_multipliers": 99}),
        (3, 3, {"fast_inner_product": True, "dsp_multipliers": 3, "weights": "block_ram"}),
        (5, 2, {"adder_trees": True}),
        (12, 3, {"adder_trees": True}),
        (3, 3, {"adder_trees": True, "weights": "block_ram"}),
    ],
    convolution: [
        (1, 1, {}),
        (12, 2, {}),
        (7, 2, {"minimal_rows": True}),
        (7, 2, {"fast_inner_product": True}),
        (7, 2, {"adder_trees": True}),
    ],
    depthwise: [(1, 1, {}), (2, 3, {}), (3, 1, {}), (4, 3, {})],
    max_pool: [(1, 1, {}), (3, 3, {}), (9, 1, {})],
    average_pool: [(1, 1, {}), (3, 3, {}), (9, 1, {})],
    global_max_pool: [(1, 1, {}), (1, 3, {})],
    global_average_pool: [(1, 1, {}), (1, 3, {})],
    pad: [(1, 1, {}), (1, 5, {})],
    add: [(1, 1, {}), (1, 2, {})],
    matmul: [(1, 1, {}), (1, 2, {}), (1, 5, {})],
    unary: [(1, 1, {}), (1, 2, {})],
    concat: [(1, 1, {}), (1, 3, {})],
    gather: [(1, 1, {})],
    pixel: [(3, 3, {})],
    argmax: [(1, 1, {})],
}


def measured(design, builder):
    """Cycles from the last beat in to the last beat out of a stage that is otherwise idle; and the
    component's latency.
    """
    graph, frames = design.graph, builder.trial
    dut = design.build(design.constants())

    def end(named):
        stream = getattr(dut, named.member)
        return port(stream if named.index is None else stream[named.index])

    sources = [(end(p), beats_of(frames[p.value][:1], p.lanes)) for p in design.ports.inputs]
    (out,) = design.ports.outputs
    shape = graph.shape(out.value)
    count = shape.pixels * -(-shape.channels // out.lanes)
    (seen,), went = exchange(dut, sources, [(end(out), count)])
    return seen.cycles[-1] - max(cycles[-1] for cycles in went), dut.config.latency


CASE = [
    pytest.param(build, *case, id=f"{build.__name__}-{'-'.join(map(str, case))}")
    for build, cases in CASES.items()
    for case in cases
]


@pytest.mark.parametrize(("build", "simd", "pe", "more"), CASE)
def test_the_latency_is_that_of_the_component(build, simd, pe, more):
    """Measured: exactly that of the component. Planned: up to two levels of a multiplier, for the
    constants are not known yet. A reuse buffer reads a window whole before it is used; how
    much of that overlaps with its sending depends on the fold.
    """
    builder = Builder(2, 2, 3, seed=7)
    build(builder)
    graph = builder.graph()
    op = graph.ops[-1]
    found = design(op, graph, stage_plan("stage", op, simd, pe, **more), GENERIC_DEVICE)
    timing, (cycles, component) = found.timing, measured(found, builder)
    assert abs(timing.latency - component) <= 2
    # a selection sends the first elements of a pixel while the last one arrives
    if found.buffering.lines is None or isinstance(op, ir.Gather):
        assert cycles == component
        return
    feed = getattr(found, "feed", None)
    if feed is None:
        assert cycles == timing.arrival - 1 + timing.pixel + component
        return
    early = 1 if feed.window.by_pixel else 2
    planned = timing.arrival - early + timing.pixel + component
    assert planned - (0 if feed.direct else feed.window.latency + 5) <= cycles <= planned


@pytest.mark.parametrize(
    "device", [GENERIC_DEVICE, LFE5U_25F, ICE40UP5K], ids=lambda device: device.name
)
def test_an_addition_is_as_late_as_its_family_queues_operands(device):
    builder = Builder(2, 2, 3, seed=7)
    add(builder)
    (op,) = graph = builder.graph()
    found = design(op, graph, stage_plan("stage", op), device)
    cycles, component = measured(found, builder)
    assert cycles == component
    assert abs(found.latency - component) <= 2


def test_every_kind_is_measured():
    seen = set()
    for build in CASES:
        builder = Builder(2, 2, 3, seed=7)
        build(builder)
        seen.add(kind_of((builder.graph().ops[-1],)).name)
    # a state's first pixel comes before any goes in: test_state measures the turns of its loop
    missing = set(KINDS) - {"state"} - seen
    assert not missing, f"tests/stages/test_latency.py: CASES has none of {missing}"

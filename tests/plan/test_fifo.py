"""Where paths part and meet the planned queues prevent deadlock and slowdown."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth import Elaboratable, Module, Signal
from amaranth.lib.wiring import In
from gatewright.compiler import ir
from gatewright.compiler.errors import PlanError
from gatewright.compiler.plan import Dataflow, check_queues
from gatewright.compiler.plan.fifo import _SLACK
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from ..hw.bench import STALLS
from .networks import Builder, fold, measure

SAME = {"pads": (1, 1, 1, 1)}


def short_cut(b):
    """The input beside two convolutions."""
    return b.add(b.conv(b.conv(b.input, 3, (3, 3), **SAME), 3, (3, 3), **SAME), b.input)


def two_blocks(b):
    """One residual block behind the other."""
    x = b.conv(b.input, 3)
    y = b.add(b.conv(x, 3, (3, 3), **SAME), x)
    return b.add(y, b.conv(y, 3, (3, 3), **SAME))


def four_blocks(b):
    """The queue of the last one is as long as if it were alone."""
    x = b.input
    for _ in range(4):
        x = b.add(b.conv(b.conv(x, 3, (3, 3), **SAME), 3), x)
    return x


def nested(b):
    """A block inside a block."""
    inner = b.add(b.conv(b.input, 3, (3, 3), **SAME), b.input)
    return b.add(b.conv(inner, 3, (3, 3), **SAME), b.input)


def strided(b):
    """Both paths halve the map, one by a pool."""
    x = b.conv(b.input, 3, (3, 3), stride=(2, 2), **SAME)
    return b.add(b.conv(x, 3, (3, 3), **SAME), b.max_pool(b.input, (3, 3), (2, 2), **SAME))


def inception(b):
    """Branches of kernels 1, 3 and 5, and the input, side by side."""
    return b.concat(
        b.conv(b.input, 2),
        b.conv(b.input, 2, (3, 3), **SAME),
        b.conv(b.input, 2, (5, 5), pads=(2, 2, 2, 2)),
        b.input,
    )


def whole_map(b):
    """One path waits for the last row of the map before it gives its first."""
    y = b.conv(b.conv(b.input, 3, (11, 1), pads=(5, 0, 5, 0)), 3)
    return b.concat(y, b.input)


def doubled(b):
    """Both ends of an addition are one value."""
    x = b.unary(b.input)
    return b.add(x, x)


def labels(b, x):
    return np.arange(b.shape(x).size).reshape(b.shape(x).array)


def turned(b):
    """The map beside itself, last pixel first."""
    x = b.unary(b.input)
    return b.add(x, b.gather(x, b.shape(x).array, labels(b, x)[::-1, ::-1]))


def halves(b):
    """The first rows beside the last ones, which come much later."""
    x = b.unary(b.input)
    first, last = (b.gather(x, (3, 5, 3), part) for part in np.split(labels(b, x), 2))
    return b.concat(last, first, last)


def shrunk(b):
    """A map that was repeated, then pooled, beside itself."""
    x = b.unary(b.input)
    large = labels(b, x).repeat(2, axis=0).repeat(2, axis=1)
    return b.add(b.max_pool(b.gather(x, large.shape, large)), x)


def parts(b):
    """Channels taken apart, convolved, and put together again in another order."""
    x = b.conv(b.input, 6)
    left, right = (b.gather(x, (6, 5, 3), part) for part in np.split(labels(b, x), 2, axis=2))
    y = b.concat(left, b.conv(right, 3, (3, 3), **SAME))
    return b.gather(y, (6, 5, 6), labels(b, y)[..., [0, 3, 1, 4, 2, 5]])


def excited(b):
    """Squeeze and excite: a factor a channel, made of the whole map."""
    x = b.conv(b.input, 3, (3, 3), **SAME)
    shape = b.shape(x)
    pooled = b.average_pool(x, (shape.height, shape.width), (1, 1))
    gate = b.unary(b.dense(b.dense(pooled, 2), 3), ir.functions.Sigmoid())
    spread = b.gather(gate, shape.array, np.tile(np.arange(3), shape.pixels))
    return b.elementwise(ir.ops.Mul, x, spread)


def attention(b):
    """Products of rows with all rows, and of these with all rows again."""
    rows = b.reshape(b.conv(b.input, 3), 30, 1)
    turned = b.gather(rows, (3, 1, 30), np.arange(90).reshape(30, 3).T)
    scores = b.unary(b.matmul(rows, turned), ir.functions.Sigmoid())
    return b.matmul(scores, b.reshape(b.conv(b.input, 3), 30, 1))


def unrolled(b):
    """Steps that each wait for a whole map of the step before, with their parts of the input."""
    x = b.unary(b.input)
    first, *others = (b.gather(x, (1, 5, 3), part) for part in np.split(labels(b, x), 6))
    state = first
    for part in others:
        back = b.gather(state, (1, 5, 3), labels(b, state)[:, ::-1])
        gate = b.gather(back, (1, 5, 3), labels(b, back)[:, ::-1])
        state = b.add(b.add(gate, b.elementwise(ir.ops.Mul, back, state)), part)
    return state


def gates(b):
    """Squeeze and excite twice, with a short cut around both."""
    x = y = b.conv(b.input, 3)
    for _ in range(2):
        shape = b.shape(y)
        pooled = b.average_pool(y, (shape.height, shape.width), (1, 1))
        spread = b.gather(b.dense(pooled, 3), shape.array, np.tile(np.arange(3), shape.pixels))
        y = b.add(b.elementwise(ir.ops.Mul, y, spread), b.conv(y, 3, (3, 3), **SAME))
    return b.add(y, x)


#: those whose queues hold frames
IN_FRAMES = (unrolled, gates)
NETWORKS = {
    function.__name__: function
    for function in (
        *IN_FRAMES,
        short_cut,
        two_blocks,
        four_blocks,
        nested,
        strided,
        inception,
        whole_map,
        doubled,
        turned,
        halves,
        shrunk,
        parts,
        excited,
        attention,
    )
}


def built(name, queues=True):
    builder = Builder(6, 5, 3, seed=4)
    output = NETWORKS[name](builder)
    graph = builder.graph(output)
    folds = {op.output: (op.weight.shape[3], op.channels) for op in graph if hasattr(op, "weight")}
    return builder, fold(graph, folds, dsp_multipliers=99, queues=queues)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_deadlock_and_no_slowdown(name, stall):
    builder, network = built(name)
    frames = builder.frames(4)
    seen = measure(network, frames, stall=stall)
    graph = network.graph
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])
    if not stall:
        assert seen.intervals[1:] == [network.interval] * 2


def turns(b):
    """The slowest stage on the second path, of the same length."""
    return b.reshape(b.input, 1, 1), b.reshape(b.conv(b.input, 3), 1, 1)


def turns_the_other_way(b):
    first, second = turns(b)
    return second, first


def turns_after_a_frame(b):
    """The slowest stage on a path that is longer by frames."""
    x = b.gather(b.input, b.shape(b.input).array, labels(b, b.input)[::-1, ::-1])
    for _ in range(2):
        x = b.gather(b.unary(x), b.shape(x).array, labels(b, x)[::-1, ::-1])
    return b.reshape(b.input, 1, 1), b.reshape(b.conv(x, 3), 1, 1)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("paths", [turns, turns_the_other_way, turns_after_a_frame])
def test_frames_in_turn(paths, stall):
    """The stages before a join go on while it takes the frame of another input."""
    builder = Builder(6, 5, 3, seed=4)
    graph = builder.graph(builder.concat(*paths(builder)))
    network = fold(graph)
    (slow,) = (op.output for op in graph if isinstance(op, ir.Conv))
    assert network.interval == network.designs[network.stage_of[slow].name].cycles() > 2 * 90
    frames = builder.frames(5)
    seen = measure(network, frames, stall=stall)
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])
    if not stall:
        assert seen.intervals[1:] == [network.interval] * 3


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("height", [5, 17])
def test_beats_of_a_pixel_in_turn(height, stall):
    """Arrays that compute a pixel beat by beat go on while the join takes the other one."""
    builder = Builder(height, 1, 3, seed=3)
    second = builder.add_input("z", height, 1, 3)
    both = (builder.conv(x, 64) for x in (builder.input, second))
    graph = builder.graph(builder.concat(*both))
    network = fold(graph)
    assert network.interval == height * 64 * 3
    frames = builder.frames(4)
    seen = measure(network, frames, stall=stall)
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])
    if not stall:
        assert seen.intervals[1:] == [network.interval] * 2


@pytest.mark.parametrize("network", IN_FRAMES)
def test_queues_that_hold_frames_do_not_grow_with_each_join(network):
    """The time that a pixel waits grows by a step's, and not by a factor."""
    built_network = built(network.__name__)[1]
    graph, queues = built_network.graph, built_network.plan.queues
    frames = {
        at: depth / graph.shape(built_network.edges_into[at[0]][at[1]].value).pixels
        for at, depth in queues.items()
    }
    joins = {at[0] for at in frames if frames[at] >= 1}
    assert all((name, index) in frames for name in joins for index in (0, 1))
    assert 2 < max(frames.values()) < 3 * len(joins)


@pytest.mark.parametrize("name", ["short_cut", "inception", "whole_map"])
def test_without_queues_they_would_stand_still(name):
    """So that the test above is known to test something."""
    builder, network = built(name, queues=False)
    with pytest.raises(AssertionError, match="no beat moved"):
        measure(network, builder.frames(2))


@pytest.mark.parametrize("name", NETWORKS)
def test_a_queue_that_is_too_short_is_refused(name):
    _, network = built(name)
    check_queues(network)
    for at, depth in network.plan.queues.items():
        for held in (0, depth - 1):
            message = f"of stage {at[0]} holds {held} pixels, but {depth} are"
            with pytest.raises(PlanError, match=message):
                check_queues(with_queue(network, at, held))


def test_a_longer_queue_may_want_longer_ones_beyond():
    _, network = built("nested")
    inner, outer = network.plan.queues
    longer = with_queue(network, inner, network.plan.queues[inner] + 40)
    with pytest.raises(PlanError, match=f"of stage {outer[0]} holds"):
        check_queues(longer)
    check_queues(with_queue(longer, outer, network.plan.queues[outer] + 40))


def with_queue(network, at, depth):
    plan = replace(network.plan, queues=network.plan.queues | {at: depth})
    return Dataflow(network.graph, plan, network.device)


def test_a_chain_has_no_queues():
    builder = Builder(6, 6, 3)
    builder.conv(builder.conv(builder.input, 3, (3, 3)), 2, (3, 3))
    assert fold(builder.graph()).plan.queues == {}


def test_a_queue_is_as_long_as_its_own_paths_want():
    """However many blocks stand before; planned in a time that does not double with each."""
    builder = Builder(6, 5, 3)
    x = builder.input
    for _ in range(30):
        x = builder.add(builder.conv(builder.conv(x, 3, (3, 3), **SAME), 3), x)
    queues = fold(builder.graph(), dsp_multipliers=99).plan.queues
    assert len(queues) == 30
    assert len(set(queues.values())) == 1


def test_a_queue_behind_a_join_of_two_inputs_is_as_long_as_behind_one():
    """All paths from the host to the last join pass the first, which alone must be supplied."""

    def last_queue(joined):
        builder = Builder(6, 5, 3)
        x = builder.conv(builder.input, 3)
        if joined:
            other = builder.conv(builder.add_input("other", 6, 5, 3), 3, (3, 3), **SAME)
            x = builder.add(x, other)
        builder.add(builder.conv(builder.conv(x, 3, (3, 3), **SAME), 3), x)
        network = fold(builder.graph(), dsp_multipliers=99)
        name = network.plan.stages[-1].name
        return [depth for (stage, _), depth in network.plan.queues.items() if stage == name]

    assert last_queue(joined=True) == last_queue(joined=False)


def test_no_slowdown_where_a_path_holds_several_frames():
    builder = Builder(1, 1, 4)
    x = builder.conv(builder.input, 4)
    y = builder.conv(builder.conv(x, 4), 4)
    builder.add(y, x)
    graph = builder.graph()
    folds = {op.output: (1, 2) for op in graph if hasattr(op, "weight")}
    network = fold(graph, folds, dsp_multipliers=99)
    assert sum(measure(network, builder.frames(9)).intervals[-4:]) == 4 * network.interval


def test_a_skip_queue_holds_what_the_line_buffers_of_the_other_path_hold():
    builder = Builder(6, 5, 3)
    first = builder.conv(builder.input, 3, (3, 3), **SAME)
    second = builder.conv(first, 3, (5, 5), pads=(2, 2, 2, 2))
    builder.add(second, builder.input)
    network = fold(builder.graph(), dsp_multipliers=99)
    stored = sum(
        network.designs[stage.name].feed.window.capacity for stage in network.plan.stages[:2]
    )
    ((_, depth),) = network.plan.queues.items()
    assert stored <= depth < 2 * stored


@pytest.mark.parametrize("before", [0, 1])
def test_a_queue_is_as_long_as_the_other_path_holds_more(before):
    """At most what the stages and streams of the longer path hold, less what those of the shorter
    path hold at least: a stage counts neither for more nor for less.
    """
    builder = Builder(9, 7, 3)
    x = short = builder.conv(builder.input, 3)
    for _ in range(before):
        short = builder.conv(short, 3, (3, 3), **SAME)
    long = builder.conv(x, 3, (5, 5), pads=(2, 2, 2, 2))
    long = builder.conv(long, 3, (5, 5), pads=(2, 2, 2, 2))
    builder.add(short, long)
    network = fold(builder.graph(), dsp_multipliers=99)
    held = [network.designs[stage.name].buffering for stage in network.plan.stages[1:-1]]
    shorter, longer = held[:before], held[before:]
    slack = _SLACK * (len(longer) + (len(longer) + 1))  # of each stage and each stream
    depth = sum(stage.most for stage in longer) + slack - sum(stage.least for stage in shorter)
    assert list(network.plan.queues.values()) == [depth]


@pytest.mark.parametrize("folds", [(3, 4), (1, 4), (3, 1)])
def test_an_output_that_is_blocked_for_long_loses_nothing(folds):
    """The queue of a stage has room for all results that its credits allow."""
    builder = Builder(8, 8, 3, seed=2)
    output = builder.conv(builder.input, 4)
    graph, frames = builder.graph(), builder.frames(2)
    network = fold(graph, {output: folds}, dsp_multipliers=99)
    seen = measure(network, frames, around=lambda dut: Blocked(dut, 400))
    assert_array_equal(seen.values, golden.run(graph, frames)[output])


class Blocked(Elaboratable):
    """An accelerator whose output is not taken for some ``cycles``."""

    def __init__(self, inner, cycles):
        self.inner, self.cycles = inner, cycles
        for name in inner.signature.members:
            setattr(self, name, Signal.like(getattr(inner, name)))

    def elaborate(self, platform):
        m = Module()
        m.submodules.inner = inner = self.inner
        blocked = Signal(range(self.cycles + 1), init=self.cycles)
        with m.If(blocked):
            m.d.sync += blocked.eq(blocked - 1)
        for name, member in inner.signature.members.items():
            ours, theirs = getattr(self, name), getattr(inner, name)
            m.d.comb += theirs.eq(ours) if member.flow == In else ours.eq(theirs)
        with m.If(blocked):
            m.d.comb += [inner.m_axis_tready.eq(0), self.m_axis_tvalid.eq(0)]
        return m

"""Every kind of stage takes exactly the planned cycles a frame, however it is folded."""

import random
from functools import cache
from itertools import product

import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import PlanError

from .intervals import frame_ends
from .networks import Builder, fold

#: frames that pass until all queues are full, and frames that are measured
_BEFORE, _MEASURED = 12, 8
_FRAMES = _BEFORE + _MEASURED + 1

#: parts that the foldings are simulated in, each by a simulator of its own: one a core in CI
_PARTS = 2

_WINDOWED = ir.Conv | ir.MaxPool | ir.AveragePool


def small(height, width, channels):
    """A map of narrow values: cycles do not depend on the width, elaboration time does."""
    return Builder(height, width, channels, seed=1, dtype=ir.Int(2, True))


def conv(height, width, channels, columns, kernel, **more):
    b = small(height, width, channels)
    b.conv(b.input, columns, kernel, weight_bits=2, **more)
    return b


def depthwise(height, width, channels, kernel, **more):
    return conv(height, width, channels, channels, kernel, groups=channels, **more)


def max_pool(height, width, channels, kernel, stride, **more):
    b = small(height, width, channels)
    b.max_pool(b.input, kernel, stride, **more)
    return b


def average_pool(height, width, channels, kernel, stride, **more):
    b = small(height, width, channels)
    b.average_pool(b.input, kernel, stride, **more)
    return b


def pad():
    b = small(3, 3, 2)
    b.pad(b.input)
    return b


def add():
    b = small(3, 3, 2)
    b.add(b.unary(b.input, ir.Identity()), b.input)
    return b


def concat():
    b = small(3, 3, 2)
    b.concat(b.input, b.unary(b.input, ir.Identity()))
    return b


def unary():
    b = small(3, 3, 2)
    b.unary(b.input, ir.functions.Tanh())
    return b


def dense():
    b = small(1, 1, 4)
    b.dense(b.input, 3)
    return b


def matmul():
    b = small(4, 1, 2)
    b.matmul(b.input, b.input, products=2)
    return b


def argmax():
    b = small(1, 1, 5)
    b.argmax(b.input)
    return b


#: small networks, each of one kind of stage and what it needs; every folding is simulated
SMALL = {
    "convolution": lambda: conv(3, 4, 1, 2, (2, 3), pads=(0, 1, 1, 1)),
    "convolution of several channels": lambda: conv(3, 3, 3, 1, (2, 2)),
    "strided convolution": lambda: conv(5, 5, 1, 1, (3, 2), stride=(2, 2), pads=(1, 1, 1, 1)),
    "dilated convolution": lambda: conv(5, 5, 1, 1, (2, 3), dilation=(2, 1)),
    "1-D convolution": lambda: conv(1, 8, 2, 1, (1, 3), pads=(0, 1, 0, 1)),
    "pointwise convolution": lambda: conv(3, 3, 3, 2, (1, 1)),
    "grouped convolution": lambda: conv(4, 4, 4, 4, (1, 2), groups=2),
    "depthwise convolution": lambda: depthwise(4, 4, 2, (3, 3), pads=(1, 1, 1, 1)),
    "strided depthwise convolution": lambda: depthwise(5, 4, 2, (2, 2), stride=(2, 1)),
    "dense layer": dense,
    "max pool": lambda: max_pool(4, 4, 2, (2, 2), (2, 2)),
    "overlapping max pool": lambda: max_pool(4, 4, 1, (3, 3), (1, 1), pads=(1, 1, 1, 1)),
    "average pool": lambda: average_pool(4, 4, 2, (2, 2), (2, 2)),
    "global average pool": lambda: average_pool(3, 3, 1, (3, 3), (3, 3)),
    "pad": pad,
    "add": add,
    "concat": concat,
    "product of two activations": matmul,
    "unary function": unary,
    "argmax": argmax,
}

#: larger networks, of which a few foldings are simulated: these, and as many drawn at random
LARGER = {
    "convolution": (
        lambda: conv(7, 9, 4, 6, (3, 3), pads=(1, 1, 1, 1)),
        [(18, 3), (12, 2)],
    ),
    "3x3 depthwise convolution": (
        lambda: depthwise(8, 8, 7, (3, 3), pads=(1, 1, 1, 1)),
        [(5, 1), (8, 2)],
    ),
    "5x5 depthwise convolution": (
        lambda: depthwise(8, 8, 3, (5, 5), pads=(2, 2, 2, 2)),
        [(13, 1), (9, 3)],
    ),
}


def legal_foldings(b):
    """Every (simd, pe) that the last operator may have."""
    graph, op = b.graph(), b.ops[-1]
    shape = graph.shape(op.inputs[0])
    taps = op.window.taps * shape.channels if isinstance(op, _WINDOWED) else 1
    channels = max(shape.channels, graph.shape(op.output).channels)
    for simd, pe in product(range(1, taps + 1), range(1, channels + 1)):
        try:
            folded(b, simd, pe, queues=False)
        except PlanError:
            continue
        yield simd, pe


def folded(b, simd, pe, *, queues=True):
    """The network with the last operator folded so, and the input and all others as fast as can be,
    so that it is the slowest.
    """
    graph = b.graph()
    *others, op = b.ops
    folds = {other.output: (1, graph.shape(other.output).channels) for other in others}
    return fold(
        graph,
        {**folds, op.output: (simd, pe)},
        lanes_in=graph.shape(graph.inputs[0].value).channels,
        queues=queues,
        dsp_multipliers=100,
        minimal_rows=isinstance(op, _WINDOWED) and (simd + pe) % 2 == 0,
    )


@cache
def small_cases():
    """(name, builder, simd, pe), the kinds mixed so that any part of them takes as long."""
    found = [(name, build(), *f) for name, build in SMALL.items() for f in legal_foldings(build())]
    random.Random(1).shuffle(found)
    return found


def larger_cases():
    rng = random.Random(2)
    for name, (build, named) in LARGER.items():
        b = build()
        few = [
            f
            for f in legal_foldings(b)
            if f[0] * f[1] <= 24 and folded(b, *f, queues=False).interval < 900
        ]
        yield from ((name, b, *f) for f in [*named, *rng.sample(few, len(named))])


def check(networks, folder):
    """Simulates the networks, each under a name."""
    cycles = 2 * _FRAMES * max(network.interval for network in networks.values()) + 1000
    wrong = []
    found = frame_ends([*networks.values()], _FRAMES, cycles, folder)
    for (what, network), ends in zip(networks.items(), found, strict=True):
        assert len(ends) == _FRAMES, f"{what}: {len(ends)} frames in {cycles} cycles"
        measured = (ends[-1] - ends[_BEFORE]) / _MEASURED
        if measured != network.interval:
            wrong.append(f"{what}: planned {network.interval} cycles a frame, simulated {measured}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("part", range(_PARTS))
def test_foldings_take_the_planned_interval(part, tmp_path):
    cases = [*small_cases(), *larger_cases()][part::_PARTS]
    check(
        {f"{name}, simd={simd}, pe={pe}": folded(b, simd, pe) for name, b, simd, pe in cases},
        tmp_path,
    )


def turns(height, lanes, pe):
    """Streams of ``lanes`` elements a beat, which a stage takes in turn, ``pe`` a beat."""
    b = small(height, 1, 12)
    paths = [b.unary(b.input, ir.Identity()) for _ in lanes]
    y = b.concat(*paths)
    made_alike = [op.output for op in b.ops[len(paths) : -1]]
    widths = zip([*paths, *made_alike, y], [*lanes, *lanes[1:], pe], strict=True)
    return fold(b.graph(), {x: (1, n) for x, n in widths}, lanes_in=12)


def test_streams_of_any_width_are_taken_in_turn_without_waiting(tmp_path):
    """Two streams that need all of an interval each, and are taken at twice their width."""
    widths = [((1, 1), 2), ((2, 1), 2), ((3, 1, 2), 2), ((4, 6), 4), ((4, 6), 12)]
    cases = list(product((1, 5), widths))
    check(
        {f"{lanes} to {pe}, {h} pixels": turns(h, lanes, pe) for h, (lanes, pe) in cases}, tmp_path
    )


def test_the_walk_has_every_kind_of_operator():
    walked = {type(op) for build in SMALL.values() for op in build().ops}
    assert walked == {
        ir.Conv,
        ir.MaxPool,
        ir.AveragePool,
        ir.Pad,
        ir.Add,
        ir.Unary,
        ir.Concat,
        ir.Reshape,
        ir.ops.MatMul,
        ir.ArgMax,
    }

"""Any network under any legal folding computes, in hardware, what the golden model does."""

from dataclasses import replace

import numpy as np
import pytest
from amaranth import Elaboratable, Module, ResetInserter, Signal
from amaranth.lib.wiring import Out
from gatewright.compiler import ir
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from .hw.bench import STALLS
from .operators import operators
from .plan.networks import FUNCTIONS, Builder, fold, measure, random_folding

FRAMES = 3
BINARY = [kind for kind in operators(ir.Elementwise) if kind.arity == 2]


def check(network, frames, *, stall=0.0, seed=0):
    """The accelerator equals golden; the message names the folding."""
    graph = network.graph
    seen = measure(network, frames, stall=stall, seed=seed)
    wanted = golden.run(graph, frames)[graph.outputs[0].value]
    assert_array_equal(seen.values, wanted, f"{ir.to_text(graph)}{network.plan}")
    return seen


def random_network(rng, widths=None, function=None):
    """A builder that has appended one to four operators of any kind, ``function`` if it is given,
    and at times a head.

    ``widths``: bits of activations and weights to choose from.
    """
    builder = Builder(
        int(rng.integers(2, 6)),
        int(rng.integers(1, 6)),
        int(rng.integers(1, 6)),
        seed=int(rng.integers(1 << 30)),
        simple=False,
        widths=widths,
    )
    x = builder.input
    for _ in range(int(rng.integers(1, 4))):
        x = random_layer(builder, x, rng)
    if function is not None:
        x = builder.unary(x, function)
    head = rng.integers(4)
    if head == 0:
        x = builder.dense(x, int(rng.integers(1, 6)))
    if head == 1:
        x = builder.argmax(x)
    return builder


def usual_network(seed):
    """A random network of 8 bits; 60 of them hold the first 60 functions."""
    rng = np.random.default_rng(seed)
    return random_network(rng, function=FUNCTIONS[seed % len(FUNCTIONS)]), rng


def network_of_any_widths(seed):
    """Every activation has 1 to 16 bits of its own, every convolution weights of 2 to 16; 60 of
    them hold the last 60 functions.
    """
    rng = np.random.default_rng([16, seed])
    function = FUNCTIONS[-1 - seed % len(FUNCTIONS)]
    return random_network(rng, widths=range(1, 17), function=function), rng


def random_window(shape, rng):
    """A kernel, stride, dilation and pads that fit ``shape``; every window sees some of the map."""
    while True:
        kernel, stride, dilation = (
            tuple(int(n) for n in rng.integers(1, most + 1, 2)) for most in (3, 2, 2)
        )
        pads = tuple(int(n) for n in rng.integers(0, 2, 4) * [k > 1 for k in kernel * 2])
        window = ir.Window(kernel, stride, dilation, pads)
        if min(window.output(shape, 1).array) >= 1:
            return {"kernel": kernel, "stride": stride, "dilation": dilation, "pads": pads}


def random_layer(builder, x, rng):
    shape = builder.shape(x)
    window = random_window(shape, rng)
    plain = {name: window[name] for name in ("kernel", "stride", "pads")}
    channels = int(rng.integers(1, 7))

    def conv():
        most = 8 if builder.widths is None else max(builder.widths)
        return builder.conv(x, channels, weight_bits=int(rng.integers(2, most + 1)), **window)

    def grouped():
        groups = int(rng.choice([g for g in (1, 2, 3) if shape.channels % g == 0]))
        return builder.conv(x, groups * int(rng.integers(1, 4)), groups=groups, **window)

    def residual():
        other = builder.conv(x, shape.channels, (3, 3), pads=(1, 1, 1, 1))
        return builder.elementwise(rng.choice(BINARY), other, x)

    def branches():
        return builder.concat(builder.conv(x, channels), builder.unary(x), x)

    def average():
        return builder.average_pool(x, count_padding=bool(rng.integers(2)), **plain)

    def border():
        pads = tuple(int(n) for n in rng.integers(0, 3, 4))
        # a layer that waits for the map: rows of border alone leave before their frame comes
        return builder.max_pool(builder.pad(x, pads, float(rng.normal())), (pads[0] + 1, 1), (1, 1))

    def product():
        inner = int(rng.integers(1, 5))
        left = builder.reshape(builder.conv(x, inner), shape.pixels, 1)
        return builder.matmul(left, builder.reshape(builder.dense(x, inner * channels), inner, 1))

    def flat():
        return builder.unary(builder.reshape(x, 1, shape.height))

    def arranged():
        labels = np.arange(shape.size).reshape(shape.array)
        several = labels.repeat(2, axis=int(rng.integers(3)))
        padded = np.pad(labels, rng.integers(0, 2, (3, 2)).tolist(), constant_values=-1)
        ways = [
            labels.transpose(rng.permutation(3)),
            labels[:: rng.choice([-1, 1]), :: rng.choice([-1, 1, 2])],
            several,
            padded,
            rng.choice(labels.reshape(-1), (2, 2, 3)),
        ]
        order = ways[rng.integers(len(ways))]
        return builder.gather(x, order.shape, order, float(rng.normal()))

    layers = [
        arranged,
        conv,
        conv,
        grouped,
        lambda: builder.depthwise(x, **window),
        residual,
        branches,
        average,
        lambda: builder.max_pool(x, **window),
        border,
        product,
        flat,
        lambda: builder.unary(x),
        lambda: builder.elementwise(rng.choice(BINARY), x, x),
    ]
    return layers[rng.integers(len(layers))]()


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_under_random_foldings(seed):
    builder, rng = usual_network(seed)
    network = random_folding(builder.graph(), rng, most=150)
    check(
        network, builder.frames(FRAMES, seed), stall=float(rng.choice([0.0, 0.2, 0.6])), seed=seed
    )


@pytest.mark.parametrize("seed", range(60))
def test_random_networks_of_random_widths_under_random_foldings(seed):
    builder, rng = network_of_any_widths(seed)
    network = random_folding(builder.graph(), rng, most=100)
    stall = float(rng.choice([0.0, 0.0, 0.5]))
    seen = check(network, builder.frames(FRAMES, seed), stall=stall, seed=seed)
    if not stall:
        assert seen.intervals[1:] == [network.interval]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("out", [4, 16])
@pytest.mark.parametrize("bits", [11, 16])
@pytest.mark.parametrize(
    "function", [ir.Identity(), ir.functions.Tanh(), ir.functions.HardSwish()], ids=str
)
def test_a_function_of_a_wide_integer(function, bits, out, stall):
    builder = image(4, 8, 8, dtype=ir.Int(bits, True), widths=[out])
    output = builder.unary(builder.input, function)
    network = fold(builder.graph(), {output: (1, 2)}, lanes_in=2)
    (design,) = network.designs.values()
    table = design.stage.pe * out << bits
    assert design.memory_bits < (table >> 3 if bits == 16 else table), "as large as a table"
    seen = check(network, builder.frames(3), stall=stall)
    if not stall:
        assert seen.intervals[1:] == [network.interval]


# One operator at a time, under named foldings.


def image(channels=4, height=4, width=4, **more):
    return Builder(height, width, channels, **more)


CONVOLUTIONS = {
    "dense": lambda b: b.conv(b.input, 6, (3, 3), pads=(1, 1, 1, 1)),
    "pointwise": lambda b: b.conv(b.input, 6),
    "dilated": lambda b: b.conv(b.input, 6, (3, 3), dilation=(2, 1), pads=(2, 1, 2, 1)),
    "strided": lambda b: b.conv(b.input, 6, (3, 3), stride=(2, 2), pads=(0, 0, 1, 1)),
    "grouped": lambda b: b.conv(b.input, 12, (3, 3), groups=2, pads=(1, 1, 1, 1)),
    "narrow": lambda b: b.conv(b.input, 6, (3, 3), pads=(1, 1, 1, 1), weight_bits=5),
    "narrow, grouped": lambda b: b.conv(b.input, 12, (3, 3), groups=2, weight_bits=5),
}


@pytest.mark.parametrize(("simd", "pe"), [(2, 5), (3, 4), (4, 6), (5, 3), (7, 2), (12, 1), (36, 2)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_a_convolution_under_any_folding_takes_its_cycles(name, simd, pe):
    builder = image()
    output = CONVOLUTIONS[name](builder)
    graph = builder.graph()
    (op,) = graph
    network = fold(graph, {output: (min(simd, op.reduction), pe)}, dsp_multipliers=99)
    seen = check(network, builder.frames(3))
    assert seen.intervals[1:] == [network.interval]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize(
    ("simd", "pe", "initiation_interval"),
    [(18, 1, 2), (9, 2, 2), (6, 2, 3), (9, 1, 4), (3, 3, 4), (3, 1, 12)],
)
def test_requantizing_that_takes_all_its_time_holds_nothing_up(
    simd, pe, initiation_interval, stall
):
    """Results follow one another just as fast as the multiplier's digits pass."""
    builder = image(4, 8, 8)
    output = builder.conv(builder.input, 6, (3, 3))
    network = fold(builder.graph(), {output: (simd, pe)}, dsp_multipliers=99)
    (design,) = network.designs.values()
    assert design.array.initiation_interval == initiation_interval
    assert design.array.groups * initiation_interval == design.feed.folds
    seen = check(network, builder.frames(3), stall=stall)
    if not stall:
        assert seen.intervals[1:] == [network.interval]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize(("kernel", "simd"), [((2, 2), 2), ((3, 3), 3), ((3, 3), 1), ((5, 5), 1)])
def test_an_average_takes_all_its_time_and_holds_nothing_up(kernel, simd, stall):
    builder = image(3, 5, 5)
    output = builder.average_pool(builder.input, kernel, (1, 1))
    network = fold(builder.graph(), {output: (simd, 3)}, dsp_multipliers=99)
    (design,) = network.designs.values()
    assert design.initiation_interval == min(design.feed.folds, 16)
    seen = check(network, builder.frames(3), stall=stall)
    if not stall:
        assert seen.intervals[1:] == [network.interval]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize(
    ("simd", "pe"), [(1, 1), (1, 4), (2, 5), (3, 2), (3, 3), (4, 2), (9, 1), (9, 5)]
)
def test_a_depthwise_convolution_under_any_folding(simd, pe, stall):
    builder = image(5)
    output = builder.depthwise(builder.input, pads=(1, 1, 1, 1))
    network = fold(builder.graph(), {output: (simd, pe)}, dsp_multipliers=99)
    seen = check(network, builder.frames(3), stall=stall)
    if not stall:
        assert seen.intervals[1:] == [network.interval]


@pytest.mark.parametrize("bits", [5, 8])
@pytest.mark.parametrize("weights", ["block_ram", "logic"])
@pytest.mark.parametrize("dsp_multipliers", [0, 3, 99])
def test_the_kind_of_multiplier_and_memory_changes_no_bit(dsp_multipliers, weights, bits):
    builder = image(3)
    output = builder.conv(builder.input, 4, (3, 3), weight_bits=bits)
    network = fold(
        builder.graph(), {output: (3, 4)}, dsp_multipliers=dsp_multipliers, weights=weights
    )
    check(network, builder.frames(2))


@pytest.mark.parametrize("lanes_in", range(1, 6))
def test_the_host_may_send_any_number_of_lanes(lanes_in):
    builder = image(5, 3, 3)
    output = builder.conv(builder.input, 3)
    check(
        fold(builder.graph(), {output: (5, 3)}, lanes_in=lanes_in, dsp_multipliers=99),
        builder.frames(2),
        stall=0.3,
    )


@pytest.mark.parametrize(
    ("pe", "following"), [(1, 1), (2, 3), (4, 4), (6, 5), (3, 12), (4, 12), (5, 7)]
)
def test_a_reshape_costs_no_stage_and_mixes_no_pixels(pe, following):
    builder = image(3, 2, 3)
    first = builder.conv(builder.input, 6)
    output = builder.unary(builder.reshape(first, 1, 3))
    check(
        fold(builder.graph(), {first: (3, pe), output: (1, following)}, dsp_multipliers=99),
        builder.frames(2),
        stall=0.3,
    )


def test_extreme_inputs_and_weights_do_not_overflow():
    builder = image(8, 3, 3, dtype=ir.Int(8, True))
    output = builder.conv(builder.input, 2, (3, 3))
    (op,) = builder.graph()
    sharp = replace(op, weight=np.full(op.weight.shape, -128, np.int8))
    graph = builder.graph().replace([sharp])
    frames = np.stack([np.full((3, 3, 8), value) for value in (-128, 127, 0)])
    check(fold(graph, {output: (9, 2)}, dsp_multipliers=99), frames)


@pytest.mark.parametrize(
    "element", [ir.Int(8, False), ir.Int(4, True), ir.Int(1, False), ir.Int(12, True)], ids=str
)
def test_no_width_is_special(element):
    builder = image(3, 3, 3, dtype=element)
    output = builder.conv(builder.input, 4, (2, 2))
    check(fold(builder.graph(), {output: (6, 2)}, dsp_multipliers=99), builder.frames(2), stall=0.3)


class Interrupted(Elaboratable):
    """An accelerator that has been at work for ``cycles`` and then been reset for one."""

    def __init__(self, inner, cycles):
        self.inner, self.cycles = inner, cycles
        for name in inner.signature.members:
            setattr(self, name, Signal.like(getattr(inner, name)))

    def elaborate(self, platform):
        m, inner, reset = Module(), self.inner, Signal()
        m.submodules.inner = ResetInserter(reset)(inner)
        count, own = Signal(range(self.cycles + 2)), Signal()
        m.d.comb += [own.eq(count <= self.cycles), reset.eq(count == self.cycles)]
        with m.If(own):
            m.d.sync += count.eq(count + 1)
            m.d.comb += [
                inner.s_axis_tvalid.eq(1),
                inner.s_axis_tdata.eq(count),
                inner.m_axis_tready.eq(count[0]),
            ]
        with m.Else():
            for name, member in inner.signature.members.items():
                a, b = getattr(self, name), getattr(inner, name)
                m.d.comb += a.eq(b) if member.flow is Out else b.eq(a)
        return m


@pytest.mark.parametrize("cycles", range(100, 1300, 149))
def test_a_reset_of_one_cycle_forgets_all_that_is_on_its_way(cycles):
    builder = image(5, 4, 3, seed=3)
    x = builder.conv(builder.input, 4, (3, 3), pads=(1, 1, 1, 1))
    builder.dense(builder.add(builder.depthwise(x, pads=(1, 1, 1, 1)), x), 5)
    graph, frames = builder.graph(), builder.frames(2)
    network = fold(graph, {op.output: (3, 2) for op in graph if isinstance(op, ir.Conv)})
    seen = measure(network, frames, around=lambda dut: Interrupted(dut, cycles))
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])

"""A network under a legal folding computes, in hardware, what the golden model does.

Networks of any operators, widths and foldings are in ``tests/fuzz/test_graphs.py``.
"""

import re
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from amaranth import Elaboratable, Module, ResetInserter, Signal
from amaranth.lib.wiring import Out
from gatewright import boards
from gatewright.compiler import ir, tools
from gatewright.compiler.emit import emit
from gatewright.compiler.errors import PlanError
from gatewright.compiler.lower import accelerator
from gatewright.compiler.plan import latency
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from .hw.bench import STALLS
from .plan.networks import Builder, fold, measure


def check(network, frames, *, stall=0.0, seed=0):
    """The accelerator equals golden; the message names the folding."""
    graph = network.graph
    seen = measure(network, frames, stall=stall, seed=seed)
    wanted = golden.run(graph, frames)[graph.outputs[0].value]
    assert_array_equal(seen.values, wanted, f"{ir.to_text(graph)}{network.plan}")
    return seen


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


@pytest.mark.parametrize(("board", "synth"), [("ulx3s-12f", "ecp5"), ("icebreaker", "ice40")])
def test_the_verilog_can_be_a_part_of_other_verilog(board, synth, tmp_path):
    """yosys reads no module of it twice: it fails where such a one is flattened already."""
    builder = image(2)
    output = builder.conv(builder.input, 2)
    device = boards.get(board).device
    network = fold(builder.graph(), {output: (2, 2)}, device, dsp_multipliers=4)
    emit(accelerator(network), tmp_path)
    ports = re.search(r"module accelerator\((.*)\);", (tmp_path / "accelerator.v").read_text())
    (tmp_path / "top.v").write_text(f"module top; accelerator part({ports[1]}); endmodule")
    read = "read_verilog -defer top.v; read_verilog accelerator.v"
    tools.find("yosys").run(
        ["-p", f"{read}; synth_{synth} -top top -run begin:flatten"],
        cwd=tmp_path,
        log=tmp_path / "log",
    )
    assert "Reprocessing" not in (tmp_path / "log").read_text()


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
@pytest.mark.parametrize(("kernel", "simd"), [((2, 2), 2), ((3, 3), 3), ((3, 3), 1), ((5, 4), 1)])
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


FAST = {
    "dense": (image, lambda b: b.conv(b.input, 6, (3, 3), pads=(1, 1, 1, 1))),
    "pointwise": (lambda: image(7), lambda b: b.conv(b.input, 6)),
    "strided": (image, lambda b: b.conv(b.input, 6, (3, 3), stride=(2, 2), pads=(0, 0, 1, 1))),
    "grouped": (image, lambda b: b.conv(b.input, 12, (3, 3), groups=2, pads=(1, 1, 1, 1))),
    "dense layer": (lambda: image(23, 1, 1), lambda b: b.dense(b.input, 7)),
    "unsigned": (
        lambda: image(dtype=ir.Int(8, False)),
        lambda b: b.conv(b.input, 6, (3, 3), pads=(1, 1, 1, 1)),
    ),
    "bits": (lambda: image(dtype=ir.Int(1, False)), lambda b: b.conv(b.input, 6, (3, 3))),
    "wide": (lambda: image(dtype=ir.Int(12, True)), lambda b: b.conv(b.input, 6, (3, 3))),
    "narrow weights": (image, lambda b: b.conv(b.input, 6, (3, 3), weight_bits=3)),
    "wide results": (lambda: image(widths=[16]), lambda b: b.conv(b.input, 6, (3, 3))),
}


@pytest.mark.parametrize(
    ("simd", "pe", "stall", "more"),
    [
        (2, 2, 0.0, {}),
        (3, 6, 0.5, {"dsp_multipliers": 2, "weights": "block_ram"}),
        (4, 3, 0.0, {"dsp_multipliers": 99, "weights": "block_ram"}),
        (5, 2, 0.3, {"dsp_multipliers": 99, "weights": "packed_rows", "minimal_rows": True}),
        (7, 4, 0.0, {"dsp_multipliers": 3}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", FAST)
def test_the_fast_inner_product_takes_the_same_cycles(name, simd, pe, stall, more):
    made, layer = FAST[name]
    builder = made()
    output = layer(builder)
    graph = builder.graph()
    if name in ("bits", "narrow weights"):  # DSP blocks give as many products without it
        more = {**more, "dsp_multipliers": 0}
    network = fold(graph, {output: (simd, pe)}, fast_inner_product=True, **more)
    plain = fold(graph, {output: (simd, pe)}, **{**more, "dsp_multipliers": 0})
    assert network.interval == plain.interval
    seen = check(network, builder.frames(3), stall=stall)
    if not stall:
        assert seen.intervals[1:] == [network.interval]


@pytest.mark.parametrize("element", [ir.Int(8, True), ir.Int(8, False)], ids=str)
@pytest.mark.parametrize("weight", [-128, 127])
def test_extremes_of_the_fast_inner_product_do_not_overflow(weight, element):
    """All pairs of weights are the largest, and results exceed the sums of products by the most."""
    builder = image(8, 3, 3, dtype=element)
    output = builder.conv(builder.input, 2, (3, 3))
    (op,) = builder.graph()
    sharp = replace(op, weight=np.full(op.weight.shape, weight, np.int8))
    graph = builder.graph().replace([sharp])
    frames = np.stack([np.full((3, 3, 8), value) for value in (element.low, element.high, 0)])
    check(fold(graph, {output: (9, 2)}, fast_inner_product=True, dsp_multipliers=99), frames)


#: filters of three taps in a row: height, width and channels of the input, output channels, rows
#: of the filter, pads, vertical stride
FILTERED = {
    "square": (4, 6, 4, 5, 3, (1, 1, 1, 1), 1),
    "row": (1, 8, 6, 8, 1, (0, 1, 0, 1), 1),
    "no pads": (3, 6, 4, 4, 2, (0, 0, 0, 0), 1),
    "stride": (5, 4, 4, 6, 3, (1, 2, 1, 0), 2),
    "one tile": (2, 2, 4, 6, 3, (1, 1, 1, 1), 1),
}


def filtered(graph, channels, rows, pe, **more):
    """The layer with the largest simd that is legal; None where a pair takes more rows and columns
    than there are.
    """
    for simd in sorted({1, channels // 2, channels}, reverse=True):
        with suppress(PlanError):
            return fold(graph, {graph.outputs[0].value: (simd * rows, pe)}, **more)
    assert "fast_inner_product" in more
    return None


@pytest.mark.parametrize(
    ("rows", "pe", "stall", "more"),
    [
        (False, 2, 0.0, {}),
        (True, 3, 0.4, {"weights": "block_ram"}),
        (False, 3, 0.0, {"dsp_multipliers": 99, "fast_inner_product": True}),
        (True, 2, 0.3, {"fast_inner_product": True, "weights": "packed_rows"}),
        (False, 4, 0.0, {"dsp_multipliers": 3, "minimal_rows": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", FILTERED)
@pytest.mark.parametrize("dtype", [ir.Int(8, True), ir.Int(8, False)], ids=str)
def test_minimal_filtering_takes_two_thirds_of_the_cycles(name, rows, pe, stall, more, dtype):
    """Of what the same array takes without, unless the input takes longer; the rows of the filter
    are read one by one or at once.
    """
    height, width, channels, out, kernel, pads, stride = FILTERED[name]
    pe = min(pe, out)
    builder = image(channels, height, width, dtype=dtype)
    output = builder.conv(builder.input, out, (kernel, 3), pads=pads, stride=(stride, 1))
    graph = builder.graph()
    network = filtered(graph, channels, kernel if rows else 1, pe, minimal_filtering=1, **more)
    if network is None:
        return
    (shape,) = network.designs.values()
    simd = shape.stage.simd
    reductions = graph.shape(output).pixels * -(-out // pe)
    products = kernel * channels * 3 // simd
    beats = height * width * channels // shape.feed.window.chunk
    assert shape.cycles() == max(2 * reductions * products // 3, beats)
    seen = check(network, builder.frames(3), stall=stall)
    if not stall:
        assert seen.intervals[1:] == [network.interval]
        assert abs(seen.latency - latency(network)) <= 12


#: height, width, channels, output channels, pads
SQUARES = {
    "borders": (6, 8, 4, 5, (1, 1, 1, 1)),
    "no borders": (6, 6, 6, 3, (0, 0, 0, 0)),
    "one tile": (2, 2, 8, 6, (1, 1, 1, 1)),
    "one column of tiles": (8, 2, 8, 4, (1, 1, 1, 1)),
    "one row of tiles": (2, 10, 6, 2, (1, 1, 1, 1)),
    "uneven borders": (5, 7, 8, 4, (2, 0, 1, 3)),
}


@pytest.mark.parametrize(
    ("pe", "stall", "more"),
    [
        (2, 0.0, {}),
        (3, 0.4, {"weights": "block_ram"}),
        (3, 0.0, {"dsp_multipliers": 99, "fast_inner_product": True}),
        (2, 0.3, {"fast_inner_product": True, "weights": "packed_rows"}),
        (4, 0.0, {"dsp_multipliers": 3, "minimal_rows": True}),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", SQUARES)
@pytest.mark.parametrize("dtype", [ir.Int(8, True), ir.Int(8, False)], ids=str)
def test_minimal_filtering_in_both_directions_takes_four_ninths(name, pe, stall, more, dtype):
    """Of the cycles of the same array without, unless the input takes longer."""
    height, width, channels, out, pads = SQUARES[name]
    pe = min(pe, out)
    builder = image(channels, height, width, dtype=dtype)
    output = builder.conv(builder.input, out, (3, 3), pads=pads)
    graph = builder.graph()
    network = filtered(graph, channels, 1, pe, minimal_filtering=2, **more)
    if network is None:
        return
    (shape,) = network.designs.values()
    simd = shape.stage.simd
    reductions = graph.shape(output).pixels * -(-out // pe)
    beats = height * width * channels // shape.feed.window.chunk
    assert shape.cycles() == max(4 * reductions * channels // simd, beats)
    seen = check(network, builder.frames(3), stall=stall)
    if not stall:
        assert seen.intervals[1:] == [network.interval]
        assert abs(seen.latency - latency(network)) <= 12


@pytest.mark.parametrize("directions", [1, 2])
@pytest.mark.parametrize("fast", [False, True])
@pytest.mark.parametrize("element", [ir.Int(8, True), ir.Int(8, False)], ids=str)
@pytest.mark.parametrize("weight", [-128, 127])
def test_extremes_of_minimal_filtering_do_not_overflow(weight, element, fast, directions):
    builder = image(16, 4, 4, dtype=element)
    output = builder.conv(builder.input, 2, (3, 3))
    (op,) = builder.graph()
    rng = np.random.default_rng(1)
    for weights in (np.full(op.weight.shape, weight), weight * rng.integers(0, 2, op.weight.shape)):
        graph = builder.graph().replace([replace(op, weight=weights.astype(np.int8))])
        values = rng.choice([element.low, element.high], (2, 4, 4, 16))
        frames = np.stack([*(np.full((4, 4, 16), v) for v in (element.low, element.high)), *values])
        more = {"fast_inner_product": fast, "dsp_multipliers": 99}
        network = fold(graph, {output: (2, 2)}, minimal_filtering=directions, **more)
        check(network, frames)


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

"""Quantized graphs share scales where they must, stay near the float graph, and are provable."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import QuantizeError
from gatewright.compiler.ir import expressions
from gatewright.compiler.ir.verify import verify
from gatewright.compiler.quantize import (
    Rounding,
    evaluate,
    for_add,
    for_average_pool,
    for_conv,
    model_input,
    quantize,
)
from gatewright.compiler.quantize.policy import Policy
from gatewright.compiler.quantize.scheme import affine, shared
from gatewright.sim import golden
from numpy.testing import assert_array_equal

RNG = np.random.default_rng(11)
RELU = ir.Clamp(0)


def network(shapes, *ops, tail=()):
    values = {name: ir.Value(name, ir.Shape(*shape)) for name, shape in shapes.items()}
    first, last = next(iter(values.values())), values[ops[-1].output]
    return ir.Graph(
        "net",
        (ir.InputPort("x", first.shape.array, "float32", first.name, np.arange(first.shape.size)),),
        (
            ir.OutputPort(
                "y", last.shape.array, "float32", last.name, np.arange(last.shape.size), tail
            ),
        ),
        ops,
        values,
    )


def conv(name, source, target, into, out, kernel=1, clamp=RELU, groups=1):
    weight = RNG.normal(size=(out, kernel, kernel, into // groups)).astype(np.float32)
    pad = kernel // 2
    return ir.Conv(
        name,
        (source,),
        target,
        weight,
        None,
        RNG.normal(size=out).astype(np.float32),
        None,
        window=ir.Window((kernel, kernel), pads=(pad, pad, pad, pad)),
        groups=groups,
        clamp=clamp,
    )


def small():
    """Every operator that a network has between two convolutions."""
    return network(
        {
            "x": (6, 6, 3),
            "a": (6, 6, 8),
            "p": (3, 3, 8),
            "b": (3, 3, 8),
            "s": (3, 3, 8),
            "t": (3, 3, 8),
            "d": (3, 3, 8),
            "c": (3, 3, 24),
            "g": (1, 1, 24),
            "r": (1, 1, 24),
            "y": (1, 1, 5),
        },
        conv("first", "x", "a", 3, 8, 3),
        ir.MaxPool("pool", ("a",), "p", ir.Window((2, 2), (2, 2))),
        conv("depthwise", "p", "b", 8, 8, 3, groups=8, clamp=ir.Clamp(0, 6)),
        ir.Add("sum", ("p", "b"), "s"),
        ir.Unary("gate", ("s",), "t", ir.functions.Sigmoid()),
        conv("point", "t", "d", 8, 8, clamp=ir.Clamp()),
        ir.Concat("concat", ("s", "t", "d"), "c"),
        ir.AveragePool("average", ("c",), "g", ir.Window((3, 3))),
        ir.Reshape("flat", ("g",), "r"),
        conv("dense", "r", "y", 24, 5, clamp=ir.Clamp()),
        tail=(ir.Softmax(),),
    )


def inputs(graph, n=40):
    return RNG.normal(size=(n, *graph.inputs[0].shape)).astype(np.float32)


def signal_to_noise(wanted, found):
    return 10 * np.log10(np.square(wanted).mean() / np.square(wanted - found).mean())


def test_a_quantized_graph_is_legal():
    graph = small()
    found = quantize(graph, inputs(graph))
    assert found.quantized
    verify(found, after="quantize")


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
@pytest.mark.parametrize("bias_correction", [True, False])
def test_every_value_stays_near_the_float_network(method, bias_correction):
    graph = small()
    x = inputs(graph)
    found = quantize(graph, x, method, bias_correction)
    exact = evaluate(graph, model_input(graph, x))
    for name, value in golden.run(found, golden.host_input(found, x)).items():
        assert signal_to_noise(exact[name], found.quant(name).dequantize(value)) > 18, name


def test_outputs_leave_as_floats_through_the_host_tail():
    graph = small()
    x = inputs(graph)
    found = quantize(graph, x)
    y = golden.host_output(found, golden.run(found, golden.host_input(found, x)))["y"]
    assert y.dtype == np.float32
    np.testing.assert_allclose(y.sum(axis=-1), 1, rtol=1e-5)


def test_values_that_pass_unchanged_share_their_scale():
    graph = small()
    assert {frozenset("ap"), frozenset("stdc"), frozenset("gr")} <= set(shared(graph))
    found = quantize(graph, inputs(graph))
    for group in ("ap", "stdc", "gr"):
        assert len({found.quant(name) for name in group}) == 1


def test_bounded_functions_keep_their_whole_image():
    for function, wanted in (
        (ir.functions.Sigmoid(), ir.Quant(ir.Int(8, True), 1 / 256, -128)),
        (ir.functions.Tanh(), ir.Quant(ir.Int(8, True), 1 / 128, 0)),
    ):
        graph = network({"x": (1, 1, 4), "y": (1, 1, 4)}, ir.Unary("f", ("x",), "y", function))
        assert quantize(graph, inputs(graph)).quant("y") == wanted


def test_an_index_is_a_plain_integer():
    graph = network({"x": (1, 1, 10), "y": (1, 1, 1)}, ir.ArgMax("best", ("x",), "y"))
    graph = replace(graph, outputs=(replace(graph.outputs[0], dtype="int64"),))
    found = quantize(graph, x := inputs(graph))
    y = golden.host_output(found, golden.run(found, golden.host_input(found, x)))["y"]
    assert found.quant("y") == ir.Quant(ir.Int(4, False), 1.0, 0)
    assert y.dtype == np.int64


def test_integer_inputs_enter_as_they_are():
    graph = network({"x": (1, 1, 4), "y": (1, 1, 2)}, conv("c", "x", "y", 4, 2))
    graph = replace(graph, inputs=(replace(graph.inputs[0], dtype="uint8"),))
    x = RNG.integers(0, 256, (9, 1, 1, 4)).astype(np.uint8)
    found = quantize(graph, x)
    assert found.quant("x") == ir.Quant(ir.Int(8, False), 1.0, 0)
    (raw,) = golden.host_input(found, x).values()
    np.testing.assert_array_equal(raw, x)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 6), (-1, 1), (-3, 0.2), (0.5, 2), (-2, -1), (0, 0), (-1e-3, 1e4)]
)
def test_zero_is_exactly_a_level_and_the_range_is_covered(low, high):
    found = affine(low, high, ir.Int(8, True))
    assert found.quantize(np.zeros(1))[0] == found.zero
    assert float(np.float32(found.scale)) == found.scale
    assert (found.dtype.low - found.zero - 0.51) * found.scale <= low
    assert high <= (found.dtype.high - found.zero + 0.51) * found.scale


def test_multipliers_are_short_and_weights_keep_their_scale():
    graph = small()
    found = quantize(graph, inputs(graph))
    for op in found:
        if isinstance(op, ir.Conv):
            assert for_conv(found, op).mult_bits <= 14
            plain = np.abs(graph.producer(op.output).weight).reshape(op.channels, -1).max(1) / 127
            np.testing.assert_array_less(op.weight_scale, plain * 1.05)
            np.testing.assert_array_less(plain, op.weight_scale * 1.000001)


@pytest.mark.parametrize("bits", range(2, 17))
def test_weights_are_symmetric_and_as_narrow_as_asked(bits):
    graph = small()
    x = inputs(graph)
    found = quantize(graph, x, policy=Policy(weight_bits=bits), rounding=Rounding.NEAREST)
    verify(found, after="quantize")
    high = (1 << (bits - 1)) - 1
    for op in (op for op in found if isinstance(op, ir.Conv)):
        assert op.weight.dtype == ir.Int(bits, True).numpy
        largest = np.abs(op.weight.astype(int)).reshape(op.channels, -1).max(1)
        # scales grow by less than a twentieth for a short multiplier: nothing for narrow weights
        assert (largest <= high).all()
        assert (largest >= (high if bits <= 8 else 0.95 * high)).all()
        for_conv(found, op)


@pytest.mark.parametrize("bits", range(1, 17))
def test_activations_are_as_wide_as_asked_and_provable(bits):
    graph = small()
    found = quantize(graph, inputs(graph), policy=Policy(activation_bits=bits))
    verify(found, after="quantize")
    assert {value.quant.dtype for value in found.values.values()} == {ir.Int(bits, True)}
    for op in found:
        if isinstance(op, ir.Conv):
            for_conv(found, op)
        if isinstance(op, ir.AveragePool):
            for_average_pool(found, op)
        if isinstance(op, ir.Add):
            for_add(found, op)


@pytest.mark.parametrize("bits", [11, 13, 16])
def test_wide_activations_have_short_multipliers(bits):
    graph = small()
    found = quantize(graph, inputs(graph), policy=Policy(activation_bits=bits, weight_bits=bits))
    for op in found:
        if isinstance(op, ir.Conv):
            assert max((m & -m) and m // (m & -m) for m in for_conv(found, op).mult) <= 1 << 12
        if isinstance(op, ir.Add):
            assert for_add(found, op).mult_a.bit_count() == 1


def test_each_activation_bit_is_worth_six_decibels():
    graph = small()
    x = inputs(graph)
    exact = evaluate(graph, model_input(graph, x))["y"]

    def quality(bits):
        found = quantize(graph, x, policy=Policy(bits, 16), bias_correction=False)
        y = golden.run(found, golden.host_input(found, x))["y"]
        return signal_to_noise(exact, found.quant("y").dequantize(y))

    found = [quality(bits) for bits in (6, 8, 10, 12, 14, 16)]
    assert found == sorted(found)
    assert found[-1] > found[0] + 45


def test_a_policy_chooses_tensor_by_tensor():
    graph = small()
    policy = Policy(8, 8, activations={"a": 5, "y": 12}, weights={"depthwise": 3})
    found = quantize(graph, inputs(graph), policy=policy)
    bits = {name: value.quant.dtype.bits for name, value in found.values.items()}
    assert (bits["x"], bits["y"]) == (8, 12)
    # a value that only selects has the width of what it selects from, the wider one
    assert bits["a"] == max(bits[name] for name in bits if name in ("a", "p"))
    depthwise = next(op for op in found if op.name == "depthwise")
    assert np.abs(depthwise.weight).max() == 3
    for op in found:
        if isinstance(op, ir.Conv):
            for_conv(found, op)


@pytest.mark.parametrize("bits", [0, 17, -1])
def test_activations_of_no_or_too_many_bits_are_refused(bits):
    with pytest.raises(QuantizeError) as error:
        Policy(activation_bits=bits)
    assert str(error.value) == (
        f"activation_bits={bits}: activations have 1 to 16 bits; choose one of those"
    )


def test_narrow_weights_cost_little_by_little():
    """Each bit is worth some decibels at the output of a network."""
    graph = network(
        {"x": (4, 4, 16), "y": (4, 4, 24)}, conv("c", "x", "y", 16, 24, 3, clamp=ir.Clamp())
    )
    x = inputs(graph)
    exact = evaluate(graph, x)["y"]

    def quality(bits):
        found = quantize(graph, x, policy=Policy(weight_bits=bits))
        y = golden.run(found, golden.host_input(found, x))["y"]
        return signal_to_noise(exact, found.quant("y").dequantize(y))

    found = [quality(bits) for bits in (3, 4, 5, 6)]
    assert found == sorted(found)
    assert found[0] > 9
    assert found[2] > 22


def test_narrow_weights_clip_a_channels_only_outlier():
    op = conv("c", "x", "y", 64, 2, clamp=ir.Clamp())
    op.weight[:] = np.resize([0.1, -0.1], op.weight.shape)
    op.weight[0, 0, 0, 0] = 0.35
    graph = network({"x": (1, 1, 64), "y": (1, 1, 2)}, op)
    (layer,) = quantize(graph, inputs(graph), policy=Policy(weight_bits=3))
    assert layer.weight_scale[0] * 3 == pytest.approx(0.3, rel=0.04)
    assert layer.weight_scale[1] * 3 == pytest.approx(0.1, rel=0.04)


@pytest.mark.parametrize("bits", [1, 17, 0, -3])
def test_weights_of_no_or_too_many_bits_are_refused(bits):
    with pytest.raises(QuantizeError) as error:
        Policy(weight_bits=bits)
    assert str(error.value) == (
        f"weight_bits={bits}: weights have 2 to 16 bits; choose one of those"
    )


def test_bias_correction_restores_the_mean_of_every_channel():
    graph = network(
        {"x": (4, 4, 6), "y": (4, 4, 16)}, conv("c", "x", "y", 6, 16, 3, clamp=ir.Clamp())
    )
    x = np.abs(inputs(graph, 200)) * 3
    exact = evaluate(graph, x)["y"].mean(axis=(0, 1, 2))

    def shift(bias_correction):
        found = quantize(graph, x, "minmax", bias_correction)
        y = golden.run(found, golden.host_input(found, x))["y"]
        return np.abs(found.quant("y").dequantize(y).mean(axis=(0, 1, 2)) - exact).mean()

    assert shift(True) < shift(False) / 2


def test_a_dead_channel_becomes_its_bias():
    op = conv("c", "x", "y", 4, 3, clamp=ir.Clamp())
    op.weight[1] = 0
    graph = network({"x": (1, 1, 4), "y": (1, 1, 3)}, op)
    found = quantize(graph, x := inputs(graph))
    (layer,) = found
    y = found.quant("y")
    value = golden.run(found, golden.host_input(found, x))["y"][..., 1]
    assert set(np.unique(value)) == {round(Fraction(float(op.bias[1])) / y.step) + y.zero}
    assert layer.weight_scale[1] > 0


def test_a_network_of_zeros_is_still_quantized():
    op = conv("c", "x", "y", 4, 3)
    op.weight[:] = 0
    op.bias[:] = 0
    graph = network({"x": (1, 1, 4), "y": (1, 1, 3)}, op)
    found = quantize(graph, np.zeros((2, 1, 1, 4)))
    for_conv(found, found.ops[0])
    assert (golden.run(found, np.zeros((1, 1, 1, 4), int))["y"] == found.quant("y").zero).all()


def compared():
    """Whether a number, less 3, is 0."""
    one = (1, 1, 1)
    step = expressions.Step
    steps = (step(expressions.Affine(1.0, -3.0), (0,)), step(ir.functions.Equal(0.0), (1,)))
    op = ir.Unary("equal", ("x",), "y", expressions.Expression(steps))
    return network({"x": one, "y": one}, op)


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 1, 8), (0, 255, 8), (-3, 9, 8), (0, 5, 3), (-200, 1000, 16)]
)
def test_a_value_that_is_always_whole_is_exact(low, high, bits):
    x = np.arange(low, high + 1, dtype=np.float32).reshape(-1, 1, 1, 1)
    quant = quantize(compared(), x, policy=Policy(bits)).quant("x")
    assert_array_equal(quant.dequantize(quant.quantize(x)), x)
    assert np.log2(quant.scale).is_integer()


def test_a_value_of_more_whole_numbers_than_levels_is_rounded():
    x = np.arange(0, 1000, dtype=np.float32).reshape(-1, 1, 1, 1)
    assert quantize(compared(), x).quant("x").scale > 2

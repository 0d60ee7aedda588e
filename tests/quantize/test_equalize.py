"""Cross-layer equalization: the same float network, with less noise when it is quantized."""

from dataclasses import replace

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.quantize import Policy, equalized, evaluate, model_input, quantize
from gatewright.sim import golden
from numpy.testing import assert_allclose, assert_array_equal

from ..operators import functions
from .test_rounding import conv, network

RELU = ir.Clamp(0)
SQUARE = ir.Window((3, 3), pads=(1, 1, 1, 1))
PAIR = ir.Window((2, 2), (2, 2))


def uneven(rng, shape, channels):
    """Weights whose output channels differ by factors of up to 64."""
    return rng.normal(size=shape) * np.exp2(rng.integers(-3, 4, channels))[:, None, None, None]


def chain(rng, clamp=RELU, function=None):
    """Convolution, function, padding, pools, depthwise and grouped convolutions, a dense layer."""
    shapes = {"x": (8, 8, 4), "a": (8, 8, 8), "f": (8, 8, 8), "p": (8, 8, 8), "d": (8, 8, 8)}
    shapes |= {"m": (4, 4, 8), "g": (4, 4, 8), "v": (2, 2, 8), "r": (1, 1, 32), "y": (1, 1, 5)}
    return network(
        shapes,
        conv("first", "x", "a", uneven(rng, (8, 3, 3, 4), 8), SQUARE, clamp=clamp),
        ir.Unary("function", ("a",), "f", function or ir.functions.LeakyRelu(0.125)),
        ir.Pad("pad", ("f",), "p", (0, 0, 0, 0)),
        conv("depthwise", "p", "d", uneven(rng, (8, 3, 3, 1), 8), SQUARE, groups=8, clamp=clamp),
        ir.MaxPool("max", ("d",), "m", PAIR),
        conv("grouped", "m", "g", uneven(rng, (8, 1, 1, 4), 8), groups=2, clamp=clamp),
        ir.AveragePool("average", ("g",), "v", PAIR),
        ir.Reshape("flat", ("v",), "r"),
        conv("last", "r", "y", rng.normal(size=(5, 1, 1, 32))),
    )


def inputs(rng, graph, frames=48):
    return rng.normal(size=(frames, *graph.inputs[0].shape)).astype(np.float32)


def noise(graph, x, wanted, policy):
    made = quantize(graph, x, policy=policy)
    y = made.quant("y").dequantize(golden.run(made, golden.host_input(made, x))["y"])
    return np.square(y - wanted).mean()


@pytest.mark.parametrize("bits", [8, 4])
def test_the_network_is_the_same_and_its_noise_less(bits):
    rng = np.random.default_rng(3)
    graph = chain(rng)
    x, policy = inputs(rng, graph), Policy(bits, 8)
    found = equalized(graph, x, policy=policy)
    assert {"a", "f", "p", "d", "m", "g", "v", "r"} >= set(found.factors) >= {"a", "f", "p"}
    before, after = (evaluate(each, model_input(each, x)) for each in (graph, found.graph))
    for name, value in before.items():
        factor = found.factors.get(name, np.ones(1, np.float32))
        assert_array_equal(factor, np.exp2(np.rint(np.log2(factor))))
        assert_allclose(after[name] * factor, value, rtol=1e-4, atol=1e-4 * np.abs(value).max())
    wanted = before["y"]
    assert noise(found.graph, x, wanted, policy) < 0.8 * noise(graph, x, wanted, policy)


def test_operators_of_one_name_are_not_mistaken_for_each_other():
    """A file may name them alike, and what one node becomes shares its name."""
    rng = np.random.default_rng(3)
    graph = chain(rng)
    alike = graph.replace(replace(op, name="node") for op in graph)
    x, policy = inputs(rng, graph), Policy(5, 8)
    made = [
        quantize(equalized(each, x, policy=policy).graph, x, policy=policy, method="layer")
        for each in (graph, alike)
    ]
    for op, other in zip(*made, strict=True):
        if isinstance(op, ir.Conv):
            assert_array_equal(op.weight, other.weight)
            assert_array_equal(op.bias, other.bias)
        assert made[0].quant(op.output) == made[1].quant(other.output)


def kept(graph, x):
    return not equalized(graph, x).factors


def test_only_what_commutes_with_a_factor_lies_between():
    rng = np.random.default_rng(4)
    x = inputs(rng, chain(rng))
    assert not kept(chain(rng), x)
    assert kept(chain(rng, clamp=ir.Clamp(0, 6), function=ir.functions.Tanh()), x)
    graph = chain(rng, clamp=ir.Clamp(0, 6))
    assert equalized(graph, x).factors.keys() <= {"v", "r"}
    filled = (replace(op, fill=1.0) if isinstance(op, ir.Pad) else op for op in graph)
    assert kept(graph.replace(filled), x)


def test_an_output_and_what_a_sum_reads_stay():
    rng = np.random.default_rng(5)
    graph = network(
        {"x": (4, 4, 6), "a": (4, 4, 6), "b": (4, 4, 6), "y": (4, 4, 6)},
        conv("first", "x", "a", uneven(rng, (6, 1, 1, 6), 6), clamp=RELU),
        conv("second", "a", "b", uneven(rng, (6, 1, 1, 6), 6)),
        ir.Add("sum", ("a", "b"), "y"),
    )
    assert kept(graph, inputs(rng, graph))
    (port,) = graph.outputs
    chained = graph.replace(graph.ops[:2])
    assert not kept(chained, inputs(rng, graph))
    assert kept(replace(chained, outputs=(replace(port, value="a"),)), inputs(rng, graph))


def test_even_channels_stay():
    rng = np.random.default_rng(6)
    graph = network(
        {"x": (6, 6, 4), "a": (6, 6, 4), "y": (6, 6, 4)},
        conv("first", "x", "a", np.eye(4)[:, None, None, :]),
        conv("second", "a", "y", np.eye(4)[:, None, None, :]),
    )
    assert kept(graph, inputs(rng, graph))


@pytest.mark.parametrize("function", functions(), ids=lambda one: type(one).__name__)
def test_homogeneous_functions_pass_a_factor_on(function):
    x = np.linspace(-40, 40, 161)
    with np.errstate(all="ignore"):
        passes = np.array_equal(function(8 * x), 8 * function(x), equal_nan=True)
    assert passes == function.homogeneous

"""Normalizations and Softmax inside the network, in floats, quantized, and in hardware."""

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.quantize import quantize
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import helper
from onnx.reference import ReferenceEvaluator

from ..plan.networks import fold, measure

N = helper.make_node


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


MAP, TOKENS = [1, 6, 4, 5], [1, 6, 8]
#: node, input shape, initializers
CASES = {
    "layer": (
        N("LayerNormalization", ["x", "s", "b"], ["y"], name="n"),
        TOKENS,
        {"s": floats(8), "b": floats(8, seed=4)},
    ),
    "layer without a bias": (
        N("LayerNormalization", ["x", "s"], ["y"], name="n", epsilon=0.1),
        TOKENS,
        {"s": floats(8)},
    ),
    "layer over two axes": (
        N("LayerNormalization", ["x", "s", "b"], ["y"], name="n", axis=1),
        TOKENS,
        {"s": floats(6, 8), "b": floats(6, 8, seed=4)},
    ),
    "layer of a map": (
        N("LayerNormalization", ["x", "s"], ["y"], name="n", axis=-2),
        MAP,
        {"s": floats(4, 5)},
    ),
    "root mean square": (
        N("RMSNormalization", ["x", "s"], ["y"], name="n"),
        TOKENS,
        {"s": floats(8)},
    ),
    "instance": (
        N("InstanceNormalization", ["x", "s", "b"], ["y"], name="n"),
        MAP,
        {"s": floats(6), "b": floats(6, seed=4)},
    ),
    "group": (
        N("GroupNormalization", ["x", "s", "b"], ["y"], name="n", num_groups=3),
        MAP,
        {"s": floats(6), "b": floats(6, seed=4)},
    ),
    "mean and variance": (N("MeanVarianceNormalization", ["x"], ["y"], name="n"), MAP, {}),
    "norm": (N("LpNormalization", ["x"], ["y"], name="n", axis=1), MAP, {}),
    "softmax": (N("Softmax", ["x"], ["y"], name="n", axis=-1), TOKENS, {}),
    "softmax of channels": (N("Softmax", ["x"], ["y"], name="n", axis=1), MAP, {}),
    "logarithm": (N("LogSoftmax", ["x"], ["y"], name="n", axis=-1), TOKENS, {}),
}
EVERY = pytest.mark.parametrize(("node", "shape", "extra"), CASES.values(), ids=CASES)


def inside(model, node, shape, extra, opset=23):
    """The node before another, so that it is inside the network."""
    node = onnx.NodeProto.FromString(node.SerializeToString())
    node.output[0] = "q"
    return model([node, N("Neg", ["q"], ["y"])], shape, opset=opset, **extra)


@EVERY
def test_a_float_network(model, run, node, shape, extra):
    path = inside(model, node, shape, extra)
    x = floats(3, *shape[1:], seed=5)
    reference = ReferenceEvaluator(onnx.load(path))
    wanted = [reference.run(None, {"x": sample[None]})[0][0] for sample in x]
    np.testing.assert_allclose(run(load(path), x)[0], wanted, rtol=1e-4, atol=1e-4)


@EVERY
def test_a_quantized_network_is_close(model, run, tmp_path, node, shape, extra):
    """Within 30 dB, where 8 bits around the root would leave less than 10."""
    graph = load(inside(model, node, shape, extra))
    x = floats(64, *shape[1:], seed=5)
    wanted = run(graph, x)[0]
    integer = quantize(graph, x)
    found = golden.host_output(integer, golden.run(integer, golden.host_input(integer, x)))["y"]
    assert np.square(found - wanted).mean() < np.square(wanted).mean() / 1000
    write_qdq(integer, tmp_path / "model.int8.onnx")
    again = load(tmp_path / "model.int8.onnx")
    assert_array_equal(
        found, golden.host_output(again, golden.run(again, golden.host_input(again, x)))["y"]
    )


@pytest.mark.parametrize("case", ["layer", "softmax"])
def test_the_hardware_normalizes(model, case):
    node, _, extra = CASES[case]
    extra = {name: value[:5] for name, value in extra.items()}
    graph = load(inside(model, node, [1, 3, 5], extra))
    x = floats(20, 3, 5, seed=5)
    integer = quantize(graph, x)
    inputs = golden.host_input(integer, x[:3])
    (frames,) = inputs.values()
    wanted = golden.run(integer, inputs)[integer.outputs[0].value]
    assert_array_equal(measure(fold(integer), frames, stall=0.3).values, wanted)


def test_local_response(model, agrees):
    for size in (1, 3, 5, 9):
        node = N("LRN", ["x"], ["y"], size=size, alpha=0.5, beta=0.6, bias=1.5)
        agrees(model([node], ["N", 6, 4, 5]))


def test_shares_of_a_sum(model, agrees):
    agrees(model([N("LpNormalization", ["x"], ["y"], axis=2, p=1)], ["N", 6, 4, 5]))


def test_a_scale_for_each_group(model, agrees):
    node = N("GroupNormalization", ["x", "s", "b"], ["y"], num_groups=3)
    agrees(model([node], ["N", 6, 4, 5], opset=18, s=floats(3), b=floats(3, seed=4)))


def test_the_mean_is_an_output_too(model, run):
    node = N("LayerNormalization", ["x", "s"], ["q", "y", "r"])
    path = model([node], TOKENS, s=floats(8))
    x = floats(3, *TOKENS[1:])
    np.testing.assert_allclose(
        run(load(path), x)[0], x.mean(axis=2, keepdims=True), rtol=1e-5, atol=1e-6
    )


def test_softmax_stays_the_host_s_where_only_the_host_reads_it(model):
    last = [N("Softmax", ["x"], ["s"], axis=1), N("Transpose", ["s"], ["y"], perm=[0, 2, 3, 1])]
    nodes = [N("Relu", ["x0"], ["x"]), *last]
    nodes[0].input[0], nodes[0].output[0], last[0].input[0] = "x", "r", "r"
    graph = load(model(nodes, [1, 6, 2, 2]))
    assert any(isinstance(step, ir.Softmax) for step in graph.outputs[0].tail)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        (N("GroupNormalization", ["x", "s", "s"], ["y"], num_groups=4), "has 4 groups"),
        (N("LpNormalization", ["x"], ["y"], p=3), "has p=3; accepted: 1 or 2"),
        (N("MeanVarianceNormalization", ["x"], ["y"]), "reduces over the batch"),
        (N("LayerNormalization", ["x", "s"], ["y"], axis=0), "reduces over the batch"),
    ],
)
def test_what_does_not_fit_is_refused(model, node, message):
    path = model([node], ["N", 6, 4, 5], opset=21, s=floats(6))
    with pytest.raises(ModelError, match=message):
        load(path)

"""ConvTranspose becomes one convolution at the input's resolution, in floats and in integers."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper

from ..plan.networks import fold, measure
from .conftest import reference_runtime

N = helper.make_node

#: weight [inputs, outputs / group, *kernel], map, attributes
CASES = {
    "plain": ((3, 2, 3, 3), (4, 5), {}),
    "kernel of the stride's size": ((3, 2, 2, 2), (4, 5), {"strides": [2, 2]}),
    "generator": ((3, 2, 4, 4), (4, 5), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "decoder": (
        (3, 2, 3, 3),
        (4, 5),
        {"strides": [2, 2], "pads": [1, 1, 1, 1], "output_padding": [1, 1]},
    ),
    "super-resolution": (
        (2, 1, 9, 9),
        (4, 5),
        {"strides": [2, 2], "pads": [4, 4, 4, 4], "output_padding": [1, 1]},
    ),
    "stride beyond the kernel": ((2, 2, 2, 1), (3, 4), {"strides": [3, 2]}),
    "dilated": ((2, 2, 3, 2), (3, 4), {"strides": [2, 3], "dilations": [2, 2]}),
    "padding beyond the window": ((2, 2, 3, 3), (5, 5), {"pads": [2, 2, 2, 2]}),
    "padding on one side": ((2, 2, 3, 3), (4, 4), {"strides": [2, 1], "pads": [0, 2, 1, 0]}),
    "groups": ((4, 3, 3, 3), (4, 3), {"strides": [2, 2], "group": 2}),
    "depthwise": ((3, 1, 4, 4), (4, 3), {"strides": [2, 2], "pads": [1, 1, 1, 1], "group": 3}),
    "same upper": ((2, 2, 4, 3), (3, 4), {"strides": [3, 2], "auto_pad": "SAME_UPPER"}),
    "same lower": ((2, 2, 4, 3), (3, 4), {"strides": [3, 2], "auto_pad": "SAME_LOWER"}),
    "same of a small kernel": ((2, 2, 1, 2), (3, 4), {"strides": [3, 3], "auto_pad": "SAME_UPPER"}),
    "valid": ((2, 2, 4, 3), (3, 4), {"strides": [3, 2], "auto_pad": "VALID"}),
    "output shape": ((2, 2, 4, 3), (3, 4), {"strides": [2, 2], "output_shape": [5, 8]}),
    "larger output shape": ((2, 2, 4, 3), (3, 4), {"strides": [2, 2], "output_shape": [9, 10]}),
    "one dimension": ((2, 3, 4), (6,), {"strides": [2], "pads": [1, 1]}),
    "one dimension, groups": ((4, 2, 5), (6,), {"strides": [3], "group": 2, "dilations": [2]}),
}


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


@pytest.mark.parametrize(("weight", "extent", "attributes"), CASES.values(), ids=CASES)
def test_one_convolution_computes_all_phases(model, agrees, weight, extent, attributes):
    path = model(
        [N("ConvTranspose", ["x", "w", "b"], ["y"], **attributes)],
        ["N", weight[0], *extent],
        w=floats(*weight),
        b=floats(weight[1] * attributes.get("group", 1)),
    )
    (op,) = agrees(path)
    strides = np.prod(attributes.get("strides", [1]))
    assert op.window.stride == (1, 1)
    assert op.channels == weight[1] * attributes.get("group", 1) * strides


def test_a_phase_holds_only_its_own_taps(model):
    path = model(
        [N("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1])],
        [1, 1, 4, 4],
        w=np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4),
    )
    (op,) = load(path)
    assert op.window == ir.Window((2, 2), pads=(1, 1, 1, 1))
    assert_array_equal(op.weight[0, :, :, 0], [[10, 8], [2, 0]])
    assert_array_equal(op.weight[3, :, :, 0], [[15, 13], [7, 5]])


def test_batch_normalization_and_relu_are_fused(model, agrees):
    nodes = [
        N("ConvTranspose", ["x", "w"], ["c"], strides=[2, 2], pads=[1, 1, 1, 1]),
        N("BatchNormalization", ["c", "s", "o", "o", "v"], ["n"]),
        N("Relu", ["n"], ["y"]),
    ]
    path = model(
        nodes,
        [2, 3, 4, 4],
        w=floats(3, 2, 4, 4),
        s=floats(2),
        o=floats(2, seed=5),
        v=np.float32([0.5, 2]),
    )
    (op,) = agrees(path)
    assert op.clamp == ir.Clamp(0.0)


def quantized(model, weight, extent, attributes, rng):
    """A ConvTranspose between pairs, whose scales are powers of two: ONNX Runtime is exact."""
    group = attributes.get("group", 1)
    channels = weight[1] * group
    scales = np.float32(2.0) ** -rng.integers(4, 8, weight[1]).astype(np.float32)
    steps = np.float32(2.0**-4) * np.tile(scales, group)
    nodes = [
        N("DequantizeLinear", ["x", "s0", "z0"], ["xr"]),
        N("DequantizeLinear", ["w", "ws", "wz"], ["wr"], axis=1),
        N("DequantizeLinear", ["b", "bs"], ["br"], axis=0),
        N("ConvTranspose", ["xr", "wr", "br"], ["c"], **attributes),
        N("QuantizeLinear", ["c", "s1", "z1"], ["y"]),
    ]
    return model(
        nodes,
        [1, weight[0], *extent],
        dtype=TensorProto.INT8,
        w=rng.integers(-127, 128, weight).astype(np.int8),
        ws=scales,
        wz=np.zeros(weight[1], np.int8),
        b=rng.integers(-2000, 2000, channels).astype(np.int32),
        bs=steps,
        s0=np.float32(2.0**-4),
        z0=np.int8(3),
        s1=np.float32(2.0**-1),
        z1=np.int8(-4),
    )


@pytest.mark.parametrize(("weight", "extent", "attributes"), CASES.values(), ids=CASES)
def test_integers_stay_integers(model, rng, tmp_path, weight, extent, attributes):
    path = quantized(model, weight, extent, attributes, rng)
    graph = load(path)
    (op,) = graph
    assert op.weight.dtype == np.int8
    assert op.bias.dtype == np.int32
    x = rng.integers(-128, 128, (3, weight[0], *extent)).astype(np.int8)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    assert_array_equal(found, reference_runtime(path, x)[0].reshape(found.shape))
    write_qdq(graph, tmp_path / "model.int8.onnx")
    assert_array_equal(found, reference_runtime(tmp_path / "model.int8.onnx", x)[0])


def test_the_hardware_computes_all_phases(model, rng):
    weight, extent, attributes = CASES["decoder"]
    graph = load(quantized(model, weight, extent, attributes, rng))
    x = rng.integers(-128, 128, (3, weight[0], *extent)).astype(np.int8)
    wanted = golden.run(graph, golden.host_input(graph, x))
    (frames,) = golden.host_input(graph, x).values()
    seen = measure(fold(graph), frames, stall=0.3)
    assert_array_equal(seen.values, wanted[graph.outputs[0].value])


WRONG = {
    "input channels": ((4, 2, 3, 3), {}, r"has 4 input channels in 1 groups, but the input has 3"),
    "groups": ((3, 2, 3, 3), {"group": 2}, "3 input channels in 2 groups"),
    "axes": ((3, 2, 3), {}, r"shape \[3, 2, 3\], but the input has 4 axes"),
    "kernel_shape": ((3, 2, 3, 3), {"kernel_shape": [2, 2]}, r"kernel_shape is \[2, 2\]"),
    "too much cut": ((3, 2, 3, 3), {"pads": [4, 4, 4, 4]}, r"output has the shape \[-2, -2\]"),
    "both": (
        (3, 2, 3, 3),
        {"pads": [1, 1, 1, 1], "auto_pad": "SAME_UPPER"},
        "accepted: one of them",
    ),
    "mode": ((3, 2, 3, 3), {"auto_pad": "WRAP"}, "auto_pad is 'WRAP'"),
    "strides": ((3, 2, 3, 3), {"strides": [0, 1]}, r"strides \[0, 1\]"),
}


@pytest.mark.parametrize(("weight", "attributes", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(model, weight, attributes, message):
    path = model(
        [N("ConvTranspose", ["x", "w"], ["y"], name="up", **attributes)],
        [1, 3, 4, 4],
        w=floats(*weight),
    )
    with pytest.raises(ModelError, match=rf"^up \(ConvTranspose\): .*{message}"):
        load(path)


def test_scales_along_the_inputs_are_refused(model):
    nodes = [
        N("DequantizeLinear", ["w", "ws"], ["wr"], axis=0),
        N("ConvTranspose", ["x", "wr"], ["y"], name="up"),
    ]
    path = model(nodes, [1, 2, 4, 4], w=np.ones((2, 3, 2, 2), np.int8), ws=np.float32([0.1, 0.2]))
    with pytest.raises(ModelError, match=r"up .*differ within an output channel"):
        load(path)

"""Resize and Upsample that interpolate, in floats and in integers."""

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from ..plan.networks import fold, measure
from .conftest import reference_runtime

N = helper.make_node

TRANSFORMATIONS = ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric"]
FACTORS = [(2, 2), (3, 1), (4, 2), (1.5, 2), (0.5, 0.5), (2.5, 0.5), (1, 1)]


def scaled(*factors, **attributes):
    node = N("Resize", ["x", "", "scales"], ["y"], name="n", **attributes)
    return node, {"scales": np.array([1, 1, *factors], np.float32)}


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("factors", FACTORS)
@pytest.mark.parametrize("mode", ["linear", "cubic"])
def test_factors(model, agrees, transformation, factors, mode):
    node, extra = scaled(*factors, mode=mode, coordinate_transformation_mode=transformation)
    node.input[0] = "r"
    agrees(model([N("Relu", ["x"], ["r"]), node], [2, 3, 4, 6], **extra))


@pytest.mark.parametrize("transformation", TRANSFORMATIONS)
@pytest.mark.parametrize("size", [(8, 8), (7, 12), (11, 3), (1, 1), (4, 11)])
def test_sizes(model, agrees, transformation, size):
    nodes = [
        N("Relu", ["x"], ["r"]),
        N(
            "Resize",
            ["r", "", "", "sizes"],
            ["y"],
            mode="linear",
            coordinate_transformation_mode=transformation,
        ),
    ]
    agrees(model(nodes, [1, 3, 4, 6], sizes=np.array([1, 3, *size])))


@pytest.mark.parametrize("shape", [[2, 3, 1, 1], [2, 3, 1, 5]])
def test_one_row_is_repeated(model, agrees, shape):
    node, extra = scaled(3, 2, mode="linear")
    node.input[0] = "r"
    agrees(model([N("Relu", ["x"], ["r"]), node], shape, **extra))


def test_cubic_weights_without_the_outside(model, agrees):
    node, extra = scaled(2, 2, mode="cubic", exclude_outside=1, cubic_coeff_a=-0.5)
    agrees(model([node], [1, 3, 5, 6], **extra))


def test_one_dimension(model, agrees):
    node, extra = scaled(2, mode="linear")
    (gather, conv) = agrees(model([node], ["N", 3, 9], **extra))
    assert isinstance(gather, ir.Gather)
    assert conv.window.kernel == (3, 1)


def test_channels_last(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        N("Resize", ["t", "", "scales"], ["y"], mode="linear"),
    ]
    weight = np.random.default_rng(2).normal(0, 0.5, (3, 3, 1, 1)).astype(np.float32)
    graph = agrees(model(nodes, [1, 3, 5, 4], w=weight, scales=np.array([1, 2, 2, 1], np.float32)))
    assert [type(op) for op in graph] == [ir.Conv, ir.Gather, ir.Conv]


def test_channels_too(model, run):
    """ONNX Runtime resizes no three axes; ONNX's reference does."""
    nodes = [
        N("Relu", ["x"], ["r"]),
        N("Resize", ["r", "", "scales"], ["y"], mode="linear"),
    ]
    path = model(nodes, [1, 4, 3, 4], opset=18, scales=np.array([1, 0.5, 2, 2], np.float32))
    x = np.random.default_rng(2).normal(0, 1, (2, 4, 3, 4)).astype(np.float32)
    reference = ReferenceEvaluator(onnx.load(path))
    wanted = [reference.run(None, {"x": sample[None]})[0][0] for sample in x]
    np.testing.assert_allclose(run(load(path), x)[0], wanted, rtol=1e-5, atol=1e-5)


def test_upsample(model, agrees):
    nodes = [N("Relu", ["x"], ["r"]), N("Upsample", ["r", "scales"], ["y"], mode="linear")]
    agrees(model(nodes, [1, 3, 4, 5], opset=9, scales=np.array([1, 1, 2, 2], np.float32)))


def test_one_convolution_computes_all_phases(model):
    node, extra = scaled(2, 2, mode="linear")
    _, conv = load(model([node], [1, 3, 4, 5], **extra))
    assert conv.groups == 3
    assert conv.channels == 12
    assert conv.window == ir.Window((3, 3))
    assert_array_equal(conv.weight[0, :, :, 0] * 16, [[1, 3, 0], [3, 9, 0], [0, 0, 0]])


def quantized(model, *factors, **attributes):
    node, extra = scaled(*factors, mode="linear", **attributes)
    node.input[0], node.output[0] = "r", "c"
    nodes = [
        N("DequantizeLinear", ["x", "s", "z"], ["r"]),
        node,
        N("QuantizeLinear", ["c", "t", "z"], ["y"]),
    ]
    return model(
        nodes,
        [1, 3, 4, 5],
        dtype=TensorProto.INT8,
        s=np.float32(2.0**-4),
        t=np.float32(2.0**-5),
        z=np.int8(3),
        **extra,
    )


@pytest.mark.parametrize("transformation", ["half_pixel", "asymmetric"])
@pytest.mark.parametrize("factors", [(2, 2), (4, 2), (8, 1), (0.5, 0.5)])
def test_dyadic_weights_are_exact(model, rng, tmp_path, transformation, factors):
    path = quantized(model, *factors, coordinate_transformation_mode=transformation)
    graph = load(path)
    x = rng.integers(-128, 128, (4, 3, 4, 5)).astype(np.int8)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    assert_array_equal(found, reference_runtime(path, x)[0])
    write_qdq(graph, tmp_path / "model.int8.onnx")
    assert_array_equal(found, reference_runtime(tmp_path / "model.int8.onnx", x)[0])


def test_other_weights_are_integers_of_one_scale(model, agrees):
    graph = agrees(quantized(model, 3, 3))
    assert graph.ops[-1].weight.dtype == np.int16
    assert_array_equal(graph.ops[-1].weight_scale, np.full(27, np.float32(1 / 9)))


@pytest.mark.parametrize(
    ("mode", "size"), [("linear", (29, 46)), ("linear", (59, 46)), ("cubic", (16, 5))]
)
def test_weights_of_large_denominators(model, rng, mode, size):
    """As those of a map that grows with its corners aligned."""
    node = N(
        "Resize",
        ["r", "", "", "size"],
        ["c"],
        mode=mode,
        coordinate_transformation_mode="half_pixel" if mode == "cubic" else "align_corners",
    )
    nodes = [
        N("DequantizeLinear", ["x", "s", "z"], ["r"]),
        node,
        N("QuantizeLinear", ["c", "t", "z"], ["y"]),
    ]
    path = model(
        nodes,
        [1, 2, 4, 5],
        dtype=TensorProto.INT8,
        s=np.float32(2.0**-4),
        t=np.float32(0.0637),  # no sum is close to a tie
        z=np.int8(3),
        size=np.array([1, 2, *size]),
    )
    graph = load(path)
    x = rng.integers(-128, 128, (8, 2, 4, 5)).astype(np.int8)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    wanted = reference_runtime(path, x)[0]
    assert np.abs(found.astype(int) - wanted).max() <= 1
    assert (found != wanted).mean() < 0.001


def test_weights_without_a_common_denominator_are_refused(model):
    path = quantized(model, 1.5, 1.4, coordinate_transformation_mode="align_corners")
    assert load(path).quantized
    with pytest.raises(ModelError, match=r"^n \(Resize\): its weights have no common denominator"):
        load(quantized(model, 17.3, 19.1, coordinate_transformation_mode="half_pixel"))


@pytest.mark.parametrize("transformation", ["half_pixel", "align_corners"])
def test_the_hardware_interpolates(model, rng, transformation):
    graph = load(quantized(model, 2, 2, coordinate_transformation_mode=transformation))
    x = rng.integers(-128, 128, (3, 3, 4, 5)).astype(np.int8)
    (frames,) = golden.host_input(graph, x).values()
    wanted = golden.run(graph, {graph.inputs[0].name: frames})
    seen = measure(fold(graph), frames, stall=0.3)
    assert_array_equal(seen.values, wanted[graph.outputs[0].value])


WRONG = {
    "corners": (
        scaled(2, 2, mode="linear", coordinate_transformation_mode="align_corners"),
        [1, 1, 0.6, 2],
        "aligns the corners of 2.4 elements",
    ),
    "batch": (scaled(2, 2, mode="linear"), [2, 1, 2, 2], "the batch as it is"),
    "smoothing": (scaled(0.5, 0.5, mode="linear", antialias=1), [1, 1, 0.5, 0.5], "antialias=1"),
    "mode": (scaled(2, 2, mode="spline"), [1, 1, 2, 2], "its mode is spline"),
}


@pytest.mark.parametrize(("case", "factors", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(model, case, factors, message):
    path = model([case[0]], [1, 3, 4, 4], opset=18, scales=np.array(factors, np.float32))
    with pytest.raises(ModelError, match=rf"^n \(Resize\): .*{message}"):
        load(path)

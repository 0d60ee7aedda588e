"""Reductions over any axes but the batch, in floats and in integers."""

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

KINDS = ["ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL1"]
POWERS = ["ReduceL2", "ReduceSumSquare", "ReduceLogSumExp"]
#: input shape, axes
AXES = {
    "rows and columns": ([2, 3, 5, 4], [2, 3]),
    "rows": ([2, 3, 5, 4], [-2]),
    "columns": ([2, 3, 5, 4], [3]),
    "channels": ([2, 3, 5, 4], [1]),
    "everything": ([2, 3, 5, 4], [1, 2, 3]),
    "channels and rows": ([2, 3, 5, 4], [1, 2]),
    "channels and columns": ([2, 3, 5, 4], [1, 3]),
    "a vector": ([2, 7], [1]),
    "tokens": ([2, 6, 5], [1]),
    "features": ([2, 6, 5], [-1]),
}


def reduction(kind, axes, opset, keepdims):
    """The node and its initializers: axes are an attribute before opset 18, of a sum before 13."""
    if opset >= (13 if kind == "ReduceSum" else 18):
        return N(kind, ["x", "a"], ["y"], name="n", keepdims=keepdims), {"a": np.array(axes)}
    return N(kind, ["x"], ["y"], name="n", axes=axes, keepdims=keepdims), {}


@pytest.mark.parametrize(("shape", "axes"), AXES.values(), ids=AXES)
@pytest.mark.parametrize("kind", [*KINDS, *POWERS])
@pytest.mark.parametrize("opset", [12, 18])
def test_any_axes_of_a_float_network(model, agrees, kind, shape, axes, opset):
    node, extra = reduction(kind, axes, opset, keepdims=opset > 12)
    agrees(model([node], shape, opset=opset, **extra))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axes", [[1], [1, 2], [1, 3]], ids=str)
def test_channels_of_a_map_that_was_computed(model, agrees, kind, axes):
    """Also with rows or columns, for which the map is gathered."""
    first = N("Conv", ["x", "w"], ["c"])
    node, extra = reduction(kind, axes, 18, keepdims=1)
    node.input[0] = "c"
    weight = np.random.default_rng(3).normal(0, 0.5, (6, 3, 2, 2)).astype(np.float32)
    agrees(model([first, node], ["N", 3, 5, 4], opset=18, w=weight, **extra))


@pytest.mark.parametrize("axes", [[2], [3], [2, 3]], ids=str)
def test_rows_and_columns_of_a_map_of_one_channel(model, agrees, axes):
    node, extra = reduction("ReduceSum", axes, 18, keepdims=1)
    node.input[0] = "r"
    agrees(model([N("Relu", ["x"], ["r"]), node], ["N", 1, 5, 4], opset=18, **extra))


@pytest.mark.parametrize("kind", KINDS)
def test_groups_of_channels_are_reduced_first(model, agrees, kind):
    """The map then is reduced as it comes, without being gathered."""
    node, extra = reduction(kind, [2], 18, keepdims=1)
    node.input[0] = "s"
    nodes = [N("Conv", ["x", "w"], ["c"]), N("Reshape", ["c", "groups"], ["s"]), node]
    weight = np.random.default_rng(3).normal(0, 0.5, (6, 3, 2, 2)).astype(np.float32)
    groups = np.array([0, 2, -1])
    graph = agrees(model(nodes, ["N", 3, 5, 4], opset=18, w=weight, groups=groups, **extra))
    assert not any(isinstance(op, ir.Gather) for op in graph)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_no_axes_are_all_of_them_in_a_batch_of_one(model, agrees, kind, keepdims):
    agrees(model([N(kind, ["x"], ["y"], keepdims=keepdims)], [1, 3, 5, 4], opset=18))


@pytest.mark.parametrize("kind", [*KINDS, *POWERS])
def test_no_axes_may_also_be_none(model, agrees, kind):
    nodes = [N("Relu", ["x"], ["r"]), N(kind, ["r"], ["y"], noop_with_empty_axes=1)]
    agrees(model(nodes, ["N", 3, 5, 4], opset=18))


@pytest.mark.parametrize("kind", KINDS)
def test_one_element_is_its_own_sum_and_extremum(model, agrees, kind):
    node, extra = reduction(kind, [2, 3], 18, keepdims=1)
    node.input[0] = "r"
    graph = agrees(model([N("Relu", ["x"], ["r"]), node], ["N", 3, 1, 1], opset=18, **extra))
    assert all(isinstance(op, ir.Unary) for op in graph)


@pytest.mark.parametrize("axes", [None, [0], [0, 1]])
@pytest.mark.parametrize("batch", [2, "N"])
def test_the_batch_is_not_reduced(model, axes, batch):
    extra = {} if axes is None else {"axes": axes}
    path = model([N("ReduceMean", ["x"], ["y"], name="n", **extra)], [batch, 3, 5, 4])
    with pytest.raises(ModelError, match=r"^n \(ReduceMean\): reduces over the batch; accepted:"):
        load(path)


def test_an_axis_is_reduced_once(model):
    path = model([N("ReduceMean", ["x"], ["y"], name="n", axes=[1, -3])], [1, 3, 5, 4])
    with pytest.raises(ModelError, match=r"^n \(ReduceMean\): reduces the axes \[1, 1\]"):
        load(path)


def quantized(model, kind, shape, axes, dtype=np.int8, zero=5):
    """A reduction between pairs, whose scales are powers of two: ONNX Runtime is exact."""
    node, extra = reduction(kind, axes, 18, keepdims=1)
    node.input[0], node.output[0] = "r", "m"
    same = kind in ("ReduceMax", "ReduceMin")
    nodes = [
        N("DequantizeLinear", ["x", "s0", "z0"], ["r"]),
        node,
        N("QuantizeLinear", ["m", "s1", "z0"], ["y"]),
    ]
    return model(
        nodes,
        shape,
        opset=18,
        dtype=TensorProto.INT8 if dtype == np.int8 else TensorProto.UINT8,
        s0=np.float32(2.0**-4),
        s1=np.float32(2.0 ** (-4 if same else -3)),
        z0=dtype(zero),
        **extra,
    )


@pytest.mark.parametrize(("shape", "axes"), AXES.values(), ids=AXES)
@pytest.mark.parametrize("kind", [*KINDS, "ReduceSumSquare"])
@pytest.mark.parametrize(("dtype", "zero"), [(np.int8, 5), (np.int8, -128), (np.uint8, 100)])
def test_integers_are_exact(model, rng, tmp_path, kind, shape, axes, dtype, zero):
    path = quantized(model, kind, shape, axes, dtype, zero)
    graph = load(path)
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    x = rng.integers(low, high, (4, *shape[1:]), endpoint=True).astype(dtype)
    x[0], x[1] = low, high
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    count = np.prod([shape[axis] for axis in axes])
    if kind != "ReduceMean" or count & (count - 1) == 0:
        assert_array_equal(found, reference_runtime(path, x)[0])
    write_qdq(graph, tmp_path / "model.int8.onnx")
    again = load(tmp_path / "model.int8.onnx")
    assert_array_equal(
        found, golden.host_output(again, golden.run(again, golden.host_input(again, x)))["y"]
    )


def test_a_mean_is_divided_exactly(model, rng):
    """Of 15 elements: the sum divided as a fraction, ties to even."""
    graph = load(quantized(model, "ReduceMean", [1, 15, 4, 5], [1]))
    x = rng.integers(-128, 128, (40, 15, 4, 5)).astype(np.int8)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    twice = (x.astype(int) - 5).sum(axis=1, keepdims=True)  # scale 1/16 to 1/8: sum / (15 * 2)
    assert_array_equal(found, np.rint(twice / 30).astype(int) + 5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_hardware_reduces_channels(model, rng, kind):
    graph = load(quantized(model, kind, [1, 6, 3, 4], [1]))
    x = rng.integers(-128, 128, (3, 6, 3, 4)).astype(np.int8)
    (frames,) = golden.host_input(graph, x).values()
    wanted = golden.run(graph, {graph.inputs[0].name: frames})
    assert_array_equal(
        measure(fold(graph), frames, stall=0.3).values, wanted[graph.outputs[0].value]
    )


def test_the_smallest_is_found_in_the_input_s_own_integers(model):
    graph = load(quantized(model, "ReduceMin", [1, 6, 3, 4], [1]))
    (quant,) = {graph.quant(name) for name in graph.values} - {ir.Quant(INT8, 2.0**-4, 5)}
    assert quant == ir.Quant(INT8, 2.0**-4, -6)


INT8 = ir.Int(8, True)


@pytest.mark.parametrize("count", [0, 1])
def test_a_dilated_average(model, agrees, tmp_path, count):
    window = {"kernel_shape": [2, 3], "dilations": [2, 1], "pads": [1, 1, 0, 1]}
    node = N("AveragePool", ["x"], ["y"], count_include_pad=count, **window)
    agrees(model([node], [2, 3, 6, 7], opset=19))


def test_the_logarithm_of_a_sum(model, agrees):
    nodes = [N("Exp", ["x"], ["e"]), N("ReduceLogSum", ["e"], ["y"], axes=[2, 3])]
    agrees(model(nodes, [2, 3, 5, 4], opset=13))


NORMS = {
    "usual": {"kernel_shape": [2, 2]},
    "ones": {"kernel_shape": [3, 2], "p": 1, "strides": [2, 1]},
    "padded": {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]},
    "fourth powers": {"kernel_shape": [2, 2], "p": 4},
    "same": {"kernel_shape": [3, 3], "auto_pad": "SAME_UPPER", "strides": [2, 2]},
    "dilated": {"kernel_shape": [2, 2], "dilations": [2, 2]},
}


@pytest.mark.parametrize("attributes", NORMS.values(), ids=NORMS)
def test_norms_under_a_window(model, agrees, attributes):
    agrees(model([N("LpPool", ["x"], ["y"], **attributes)], [2, 3, 6, 7], opset=18))


@pytest.mark.parametrize("p", [1, 2])
def test_the_norm_of_a_map(model, agrees, p):
    agrees(model([N("GlobalLpPool", ["x"], ["y"], p=p)], [2, 3, 6, 7]))


def test_other_norms_are_refused(model):
    path = model([N("GlobalLpPool", ["x"], ["y"], name="n", p=3)], [2, 3, 6, 7])
    with pytest.raises(
        ModelError, match=r"^n \(GlobalLpPool\): has p=3; accepted: 1, or an even number"
    ):
        load(path)


@pytest.mark.parametrize("axes", [[2], [2, 3]], ids=str)
def test_the_largest_of_an_input_of_integers(model, rng, axes):
    """Its result is as quantized as the input, and the next node reads it so."""
    node, extra = reduction("ReduceMax", axes, 18, keepdims=1)
    node.input[0], node.output[0] = "x", "m"
    nodes = [
        node,
        N("DequantizeLinear", ["m", "s", "z"], ["r"]),
        N("Relu", ["r"], ["positive"]),
        N("QuantizeLinear", ["positive", "s", "z"], ["y"]),
    ]
    more = {"s": np.float32(2.0**-4), "z": np.int8(5), **extra}
    path = model(nodes, [9, 3, 5, 4], opset=18, dtype=TensorProto.INT8, **more)
    graph, x = load(path), rng.integers(-128, 128, (9, 3, 5, 4)).astype(np.int8)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    assert_array_equal(found, reference_runtime(path, x)[0])

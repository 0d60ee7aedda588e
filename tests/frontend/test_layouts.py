"""Layouts: whatever the exporter does to the axes, the stream is rows, columns, channels."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.frontend import load
from onnx import helper

N = helper.make_node


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def test_channels_first_input_streams_channels_last(model):
    graph = load(model([N("Conv", ["x", "w"], ["y"])], [1, 3, 4, 5], w=floats(2, 3, 1, 1)))
    labels = np.arange(60).reshape(3, 4, 5).transpose(1, 2, 0)
    np.testing.assert_array_equal(graph.inputs[0].order, labels.reshape(-1))


def test_transposes_at_the_border_vanish(model, agrees):
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        N("Conv", ["t", "w"], ["c"]),
        N("Transpose", ["c"], ["y"], perm=[0, 2, 3, 1]),
    ]
    graph = agrees(model(nodes, ["batch", 5, 4, 3], w=floats(2, 3, 2, 2)))
    assert len(graph.ops) == 1
    np.testing.assert_array_equal(graph.inputs[0].order, np.arange(60))
    np.testing.assert_array_equal(graph.outputs[0].order, np.arange(graph.shape("c").size))


def test_keras_flatten_after_transpose(model, agrees):
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        N("Conv", ["t", "w"], ["c"]),
        N("Transpose", ["c"], ["h"], perm=[0, 2, 3, 1]),
        N("Reshape", ["h", "s"], ["f"]),
        N("MatMul", ["f", "g"], ["m"]),
        N("Add", ["m", "b"], ["y"]),
    ]
    agrees(
        model(
            nodes,
            ["batch", 5, 4, 3],
            w=floats(2, 3, 2, 2),
            s=np.array([-1, 24]),
            g=floats(24, 3),
            b=floats(3),
        )
    )


def test_flat_input_becomes_a_map(model, agrees):
    nodes = [N("Reshape", ["x", "s"], ["r"]), N("Conv", ["r", "w"], ["y"], strides=[2, 2])]
    graph = agrees(model(nodes, [1, 60], s=np.array([-1, 1, 10, 6]), w=floats(4, 1, 3, 3)))
    assert graph.shape("x") == ir.Shape(10, 6, 1)


def test_elementwise_operators_before_the_layout_is_known(model, agrees):
    nodes = [
        N("Sub", ["x", "mean"], ["a"]),
        N("Div", ["a", "std"], ["b"]),
        N("Transpose", ["b"], ["t"], perm=[0, 3, 1, 2]),
        N("Conv", ["t", "w"], ["y"]),
    ]
    graph = agrees(
        model(nodes, [1, 5, 4, 3], mean=floats(3), std=np.abs(floats(3)) + 1, w=floats(2, 3, 2, 2))
    )
    assert [op.output for op in graph] == ["y"]  # both are in its weights and bias


def test_reshape_target_computed_from_the_shape(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Shape", ["c"], ["s"]),
        N("Gather", ["s", "zero"], ["n"]),
        N("Unsqueeze", ["n", "axis"], ["u"]),
        N("Concat", ["u", "minus"], ["t"], axis=0),
        N("Reshape", ["c", "t"], ["f"]),
        N("Gemm", ["f", "g"], ["y"]),
    ]
    path = model(
        nodes,
        ["N", 3, 4, 4],
        opset=13,
        w=floats(2, 3, 1, 1),
        zero=np.array(0),
        axis=np.array([0]),
        minus=np.array([-1]),
        g=floats(32, 5),
    )
    agrees(path)


@pytest.mark.parametrize("opset", [11, 13])
def test_squeeze_and_unsqueeze(model, agrees, opset):
    if opset < 13:
        nodes = [
            N("GlobalAveragePool", ["x"], ["g"]),
            N("Squeeze", ["g"], ["s"], axes=[2, 3]),
            N("Unsqueeze", ["s"], ["y"], axes=[2]),
        ]
        extra = {}
    else:
        nodes = [
            N("GlobalAveragePool", ["x"], ["g"]),
            N("Squeeze", ["g", "a"], ["s"]),
            N("Unsqueeze", ["s", "b"], ["y"]),
        ]
        extra = {"a": np.array([2, 3]), "b": np.array([2])}
    assert len(agrees(model(nodes, ["N", 3, 4, 4], opset=opset, **extra)).ops) == 1


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_at_the_output(model, agrees, mode):
    nodes = [N("Conv", ["x", "w"], ["c"]), N("DepthToSpace", ["c"], ["y"], blocksize=2, mode=mode)]
    assert len(agrees(model(nodes, [1, 3, 4, 4], w=floats(12, 3, 1, 1))).ops) == 1


def test_sequence_model_of_keras(model, agrees):
    """Conv1D: [batch, steps, channels], with an axis added for a two-dimensional Conv."""
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        N("Unsqueeze", ["t", "a"], ["u"]),
        N("Conv", ["u", "w"], ["c"]),
        N("Squeeze", ["c", "a"], ["s"]),
        N("Transpose", ["s"], ["h"], perm=[0, 2, 1]),
        N("MatMul", ["h", "g"], ["y"]),
    ]
    agrees(
        model(nodes, ["N", 12, 3], opset=13, a=np.array([2]), w=floats(4, 3, 1, 3), g=floats(4, 2))
    )


def test_fixed_batch_with_reshape_to_it(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Reshape", ["c", "s"], ["f"]),
        N("Gemm", ["f", "g"], ["y"]),
    ]
    graph = agrees(
        model(nodes, [4, 3, 4, 4], w=floats(2, 3, 1, 1), s=np.array([4, 32]), g=floats(32, 5))
    )
    assert graph.inputs[0].batch == 4


def test_dense_layer_on_merged_batch_and_steps(model, agrees):
    nodes = [
        N("Reshape", ["x", "s"], ["r"]),
        N("Gemm", ["r", "g"], ["m"]),
        N("Reshape", ["m", "t"], ["y"]),
    ]
    agrees(model(nodes, [1, 6, 4], s=np.array([-1, 4]), g=floats(4, 5), t=np.array([1, 6, 5])))


def test_a_permutation_inside_the_network_is_gathered(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Transpose", ["c"], ["t"], perm=[0, 1, 3, 2]),
        N("Conv", ["t", "v"], ["y"], name="second"),
    ]
    path = model(nodes, [1, 3, 5, 4], w=floats(2, 3, 1, 1), v=floats(2, 2, 1, 1))
    assert [type(op) for op in agrees(path)] == [ir.Conv, ir.Gather, ir.Conv]

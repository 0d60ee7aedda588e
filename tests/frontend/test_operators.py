"""Every float operator, in small random networks, against ONNX Runtime."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import elementwise, load
from gatewright.compiler.passes.argmax_in_hardware import argmax_in_hardware
from onnx import TensorProto, helper, numpy_helper

N = helper.make_node


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def kinds(graph):
    return [type(op) for op in graph]


CONVS = {
    "plain": ((6, 3, 3, 3), {}),
    "strided and padded": ((6, 3, 3, 3), {"strides": [2, 1], "pads": [1, 0, 2, 1]}),
    "dilated": ((4, 3, 3, 2), {"dilations": [2, 3]}),
    "same upper": ((4, 3, 3, 3), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same lower": ((4, 3, 2, 4), {"auto_pad": "SAME_LOWER"}),
    "valid": ((4, 3, 2, 2), {"auto_pad": "VALID"}),
    "groups": ((6, 1, 3, 3), {"group": 3}),
}


@pytest.mark.parametrize(("weight", "attributes"), CONVS.values(), ids=CONVS)
def test_conv(model, agrees, weight, attributes):
    path = model(
        [N("Conv", ["x", "w", "b"], ["y"], **attributes)],
        ["N", 3, 9, 8],
        w=floats(*weight),
        b=floats(weight[0]),
    )
    assert kinds(agrees(path)) == [ir.Conv]


def test_conv_of_one_dimension_slides_over_rows(model, agrees):
    path = model(
        [N("Conv", ["x", "w"], ["y"], pads=[2, 1], strides=[2])], [1, 5, 20], w=floats(4, 5, 3)
    )
    (op,) = agrees(path)
    assert op.window == ir.Window((3, 1), (2, 1), (1, 1), (2, 0, 1, 0))


@pytest.mark.parametrize("batch", [1, 3, "N"])
def test_flattened_map_feeds_a_dense_layer(model, agrees, batch):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Flatten", ["c"], ["f"]),
        N("Gemm", ["f", "g", "b"], ["y"], alpha=0.5, beta=2.0, transB=1),
    ]
    path = model(nodes, [batch, 2, 5, 4], w=floats(3, 2, 2, 2), g=floats(7, 36), b=floats(7))
    graph = agrees(path)
    assert kinds(graph) == [ir.Conv, ir.Reshape, ir.Conv]
    assert graph.inputs[0].batch == batch


def test_dense_layer_per_pixel(model, agrees):
    path = model(
        [N("MatMul", ["x", "w"], ["m"]), N("Add", ["m", "b"], ["y"])],
        [1, 6, 4],
        w=floats(4, 5),
        b=floats(5),
    )
    graph = agrees(path)
    assert kinds(graph) == [ir.Conv]
    assert graph.shape("y") == ir.Shape(6, 1, 5)


def test_batch_normalization_folds_into_conv(model, agrees):
    nodes = [
        N("Conv", ["x", "w", "b"], ["c"]),
        N("BatchNormalization", ["c", "s", "o", "m", "v"], ["n"]),
        N("Relu", ["n"], ["y"]),
    ]
    path = model(
        nodes,
        [1, 3, 6, 6],
        w=floats(4, 3, 3, 3),
        b=floats(4),
        s=floats(4),
        o=floats(4, seed=5),
        m=floats(4, seed=6),
        v=np.abs(floats(4)) + 0.1,
    )
    (op,) = agrees(path)
    assert op.clamp == ir.Clamp(0.0)


def test_batch_normalization_alone_is_depthwise(model, agrees):
    nodes = [N("BatchNormalization", ["x", "s", "o", "m", "v"], ["y"])]
    path = model(
        nodes,
        [1, 4, 3, 3],
        s=floats(4),
        o=floats(4, seed=5),
        m=floats(4, seed=6),
        v=np.abs(floats(4)) + 0.1,
    )
    (op,) = agrees(path)
    assert op.depthwise


def test_batch_normalization_stays_when_the_conv_has_other_readers(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("BatchNormalization", ["c", "s", "o", "m", "v"], ["n"]),
        N("Add", ["c", "n"], ["y"]),
    ]
    path = model(
        nodes,
        [1, 3, 6, 6],
        w=floats(4, 3, 3, 3),
        s=floats(4),
        o=floats(4, seed=5),
        m=floats(4, seed=6),
        v=np.abs(floats(4)) + 0.1,
    )
    assert kinds(agrees(path)) == [ir.Conv, ir.Conv, ir.Add]


@pytest.mark.parametrize(
    ("kind", "shape"), [("Add", (4, 1, 1)), ("Sub", ()), ("Mul", (1, 4, 1, 1)), ("Div", (1,))]
)
def test_constants_fold_into_the_conv(model, agrees, kind, shape):
    nodes = [N("Conv", ["x", "w"], ["c"]), N(kind, ["c", "k"], ["y"])]
    path = model(nodes, [1, 3, 5, 5], w=floats(4, 3, 3, 3), k=np.asarray(floats(*shape) + 2))
    assert kinds(agrees(path)) == [ir.Conv]


def test_constant_minus_tensor(model, agrees):
    path = model([N("Sub", ["k", "x"], ["y"])], [1, 3, 5, 5], k=floats(3, 1, 1))
    assert kinds(agrees(path)) == [ir.Conv]


#: a pool whose output has the shape of its input
SAME_SIZE = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}


@pytest.mark.parametrize("kind", elementwise.OPERATORS)
def test_two_activations(model, agrees, kind):
    nodes = [
        N("Conv", ["x", "w"], ["a"]),
        N("Sigmoid", ["a"], ["b"]),
        N("MaxPool", ["a"], ["c"], **SAME_SIZE),
        N(kind, ["b", "c"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 3, 5, 5], w=floats(4, 3, 3, 3)))
    assert kinds(graph) == [ir.Conv, ir.Unary, ir.MaxPool, elementwise.OPERATORS[kind]]


@pytest.mark.parametrize("operands", [["x"], ["a", "b"], ["a", "k", "x", "b"]], ids=str)
@pytest.mark.parametrize("kind", ["Sum", "Mean"])
def test_sum_and_mean_of_activations_and_constants(model, agrees, kind, operands):
    nodes = [
        N("Sigmoid", ["x"], ["a"]),
        N("Tanh", ["x"], ["b"]),
        N(kind, operands, ["s"]),
        N("Relu", ["s"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 3, 5, 5], k=floats(3, 1, 1)))
    assert kinds(graph).count(ir.Add) <= max(0, len(operands) - 1)


def compared(*last):
    """Two activations, whether the first is above the second and above 0, and what follows."""
    return [
        N("Sigmoid", ["x"], ["a"]),
        N("Tanh", ["x"], ["b"]),
        N("Greater", ["a", "b"], ["c"]),
        N("Greater", ["x", "zero"], ["d"]),
        *last,
    ]


@pytest.mark.parametrize("kind", ["And", "Or", "Xor"])
def test_logic_of_comparisons(model, agrees, kind):
    nodes = compared(N(kind, ["c", "d"], ["e"]), N("Cast", ["e"], ["y"], to=TensorProto.FLOAT))
    agrees(model(nodes, [1, 3, 5, 5], zero=np.float32(0)), low=-3, high=3)


@pytest.mark.parametrize("branches", [["a", "b"], ["a", "k"], ["k", "b"], ["k", "zero"]], ids=str)
def test_choice_by_a_comparison(model, agrees, branches):
    nodes = compared(N("Where", ["c", *branches], ["y"]))
    agrees(model(nodes, [1, 3, 5, 5], zero=np.float32(0), k=floats(3, 1, 1)), low=-3, high=3)


@pytest.mark.parametrize("kind", ["Max", "Min"])
def test_extremum_of_three_activations_and_numbers(model, agrees, kind):
    nodes = [
        N("MaxPool", ["x"], ["a"], **SAME_SIZE),
        N("AveragePool", ["x"], ["b"], **SAME_SIZE),
        N(kind, ["a", "one", "x", "b", "two"], ["y"]),
    ]
    numbers = {"one": np.float32(0.3), "two": np.array([0.4], np.float32)}
    graph = agrees(model(nodes, [1, 3, 5, 5], **numbers))
    assert kinds(graph)[-3:] == [elementwise.OPERATORS[kind]] * 2 + [ir.Unary]
    limit = {
        "Max": ir.Clamp(low=float(np.float32(0.4))),
        "Min": ir.Clamp(high=float(np.float32(0.3))),
    }
    assert graph.ops[-1].clamp == limit[kind]


UNARY = {
    "Relu": {},
    "LeakyRelu": {"alpha": 0.2},
    "Sigmoid": {},
    "Tanh": {},
    "HardSigmoid": {"alpha": 0.3, "beta": 0.4},
    "HardSwish": {},
}


@pytest.mark.parametrize(("kind", "attributes"), UNARY.items(), ids=UNARY)
def test_activation_function(model, agrees, kind, attributes):
    graph = agrees(model([N(kind, ["x"], ["y"], **attributes)], [1, 2, 3, 4]), low=-5, high=5)
    assert kinds(graph) == [ir.Unary]


def test_hard_swish_written_with_hard_sigmoid(model, agrees):
    nodes = [N("HardSigmoid", ["x"], ["h"], alpha=1 / 6, beta=0.5), N("Mul", ["x", "h"], ["y"])]
    graph = agrees(model(nodes, [1, 2, 3, 4]), low=-5, high=5)
    assert [op.function for op in graph] == [ir.functions.HardSwish()]


@pytest.mark.parametrize("opset", [10, 17])
def test_clip_fuses_into_the_operator_before_it(model, agrees, opset):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Clip", ["c"], ["y"], min=0.0, max=0.5)
        if opset < 11
        else N("Clip", ["c", "lo", "hi"], ["y"]),
    ]
    bounds = {} if opset < 11 else {"lo": np.float32(0), "hi": np.float32(0.5)}
    (op,) = agrees(model(nodes, [1, 3, 5, 5], opset=opset, w=floats(4, 3, 3, 3), **bounds))
    assert op.clamp == ir.Clamp(0.0, 0.5)


def test_relu_after_pool_moves_up_into_the_conv(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("MaxPool", ["c"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        N("Relu", ["p"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 3, 6, 6], w=floats(4, 3, 3, 3)))
    assert kinds(graph) == [ir.Conv, ir.MaxPool]
    assert graph.ops[0].clamp == ir.Clamp(0.0)


def test_relu_stays_when_the_conv_has_other_readers(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Relu", ["c"], ["r"]),
        N("MaxPool", ["c"], ["p"], **SAME_SIZE),
        N("Add", ["p", "r"], ["y"]),
    ]
    assert kinds(agrees(model(nodes, [1, 3, 6, 6], w=floats(4, 3, 3, 3)))) == [
        ir.Conv,
        ir.Unary,
        ir.MaxPool,
        ir.Add,
    ]


POOLS = {
    "max": ("MaxPool", {"kernel_shape": [2, 3], "strides": [2, 1]}),
    "max padded": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}),
    "max ceil": ("MaxPool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    "max dilated": ("MaxPool", {"kernel_shape": [2, 2], "dilations": [2, 2]}),
    "max same": ("MaxPool", {"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}),
    "average": ("AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2]}),
    "average padded": ("AveragePool", {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "average counting": (
        "AveragePool",
        {"kernel_shape": [3, 3], "pads": [1, 0, 1, 1], "count_include_pad": 1},
    ),
    "average ceil": ("AveragePool", {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}),
    "global average": ("GlobalAveragePool", {}),
    "global max": ("GlobalMaxPool", {}),
}


@pytest.mark.parametrize(("kind", "attributes"), POOLS.values(), ids=POOLS)
def test_pool(model, agrees, kind, attributes):
    agrees(model([N(kind, ["x"], ["y"], **attributes)], [1, 3, 7, 9]))


@pytest.mark.parametrize("opset", [11, 18])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2], [2], [3]])
def test_reduce_mean(model, agrees, opset, axes):
    node = (
        N("ReduceMean", ["x"], ["y"], axes=axes, keepdims=0)
        if opset < 18
        else N("ReduceMean", ["x", "a"], ["y"], keepdims=0)
    )
    extra = {} if opset < 18 else {"a": np.array(axes)}
    assert kinds(agrees(model([node], [1, 3, 7, 9], opset=opset, **extra))) == [ir.AveragePool]


def test_reduce_mean_of_channels_last(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Transpose", ["c"], ["t"], perm=[0, 2, 3, 1]),
        N("ReduceMean", ["t"], ["y"], axes=[1, 2], keepdims=0),
    ]
    agrees(model(nodes, [1, 3, 7, 9], opset=13, w=floats(4, 3, 3, 3)))


@pytest.mark.parametrize("opset", [7, 17])
def test_zero_pad_folds_into_the_conv(model, agrees, opset):
    pads = [0, 0, 1, 2, 0, 0, 0, 1]
    pad = N("Pad", ["x"], ["p"], pads=pads) if opset < 11 else N("Pad", ["x", "pads"], ["p"])
    extra = {} if opset < 11 else {"pads": np.array(pads)}
    path = model(
        [pad, N("Conv", ["p", "w"], ["y"])],
        [1, 3, 5, 5],
        opset=opset,
        w=floats(4, 3, 3, 3),
        **extra,
    )
    (op,) = agrees(path)
    assert op.window.pads == (1, 2, 0, 1)


def test_zero_pad_folds_into_average_pool(model, agrees):
    nodes = [N("Pad", ["x", "pads"], ["p"]), N("AveragePool", ["p"], ["y"], kernel_shape=[3, 3])]
    (op,) = agrees(model(nodes, [1, 3, 5, 5], pads=np.array([0, 0, 1, 1, 0, 0, 1, 1])))
    assert op.count_padding


def test_pad_with_another_number_stays(model, agrees):
    nodes = [N("Pad", ["x", "pads", "fill"], ["p"]), N("Conv", ["p", "w"], ["y"])]
    path = model(
        nodes,
        [1, 3, 5, 5],
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        fill=np.float32(0.7),
        w=floats(4, 3, 3, 3),
    )
    assert kinds(agrees(path)) == [ir.Pad, ir.Conv]


LOWEST = float(np.finfo(np.float32).min)


@pytest.mark.parametrize("fill", [-np.inf, LOWEST])
@pytest.mark.parametrize("reader", ["MaxPool", "padded MaxPool", "ReduceMax"])
def test_padding_that_never_wins_is_the_pool_s(model, agrees, reader, fill):
    readers = {
        "MaxPool": N("MaxPool", ["p"], ["y"], kernel_shape=[3, 3], strides=[2, 2]),
        "padded MaxPool": N("MaxPool", ["p"], ["y"], kernel_shape=[3, 3], pads=[1, 0, 0, 1]),
        "ReduceMax": N("ReduceMax", ["p"], ["y"], axes=[2, 3]),
    }
    path = model(
        [N("Conv", ["x", "w"], ["c"]), N("Pad", ["c", "pads", "fill"], ["p"]), readers[reader]],
        [1, 3, 6, 7],
        w=floats(4, 3, 3, 3),
        pads=np.array([0, 0, 1, 0, 0, 0, 1, 1]),
        fill=np.float32(fill),
    )
    graph = agrees(path)
    assert kinds(graph) == [ir.Conv, ir.MaxPool]
    assert graph.ops[1].window.pads == ((2, 0, 1, 2) if "padded" in reader else (1, 0, 1, 1))


def test_concat_over_channels(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["a"]),
        N("Conv", ["x", "v"], ["b"]),
        N("Concat", ["a", "b", "x"], ["c"], axis=1),
        N("Conv", ["c", "u"], ["y"]),
    ]
    path = model(
        nodes, [1, 3, 5, 5], w=floats(4, 3, 1, 1), v=floats(2, 3, 1, 1), u=floats(5, 9, 3, 3)
    )
    assert kinds(agrees(path)) == [ir.Conv, ir.Conv, ir.Concat, ir.Conv]


def test_concat_of_large_maps_is_bounded_by_its_channels_not_by_its_elements(model):
    nodes = [
        N("Relu", ["x"], ["a"]),
        N("Concat", ["a", "x"], ["y"], axis=1),
    ]
    (out,) = load(model(nodes, [1, 40, 64, 64])).outputs
    assert out.shape == (80, 64, 64)


def test_concat_of_flattened_maps_feeds_a_dense_layer(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["a"]),
        N("MaxPool", ["a"], ["b"], kernel_shape=[2, 2]),
        N("Flatten", ["a"], ["fa"]),
        N("Flatten", ["b"], ["fb"]),
        N("Concat", ["fa", "fb"], ["c"], axis=1),
        N("MatMul", ["c", "g"], ["y"]),
    ]
    agrees(model(nodes, [1, 3, 5, 5], w=floats(4, 3, 2, 2), g=floats(4 * 16 + 4 * 9, 6)))


def test_residual_block(model, agrees):
    nodes = [
        N("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        N("Relu", ["a"], ["r"]),
        N("Conv", ["r", "v"], ["b"], pads=[1, 1, 1, 1]),
        N("Add", ["b", "r"], ["s"]),
        N("Relu", ["s"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 3, 6, 6], w=floats(4, 3, 3, 3), v=floats(4, 4, 3, 3)))
    assert kinds(graph) == [ir.Conv, ir.Conv, ir.Add]
    assert graph.ops[2].clamp == ir.Clamp(0.0)


OVER_CLASSES = {"Softmax": ir.Softmax, "LogSoftmax": ir.LogSoftmax, "Hardmax": ir.Hardmax}


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("kind", OVER_CLASSES)
def test_functions_of_all_classes_are_the_host_s(model, agrees, kind, opset):
    nodes = [
        N("Flatten", ["x"], ["f"]),
        N("MatMul", ["f", "w"], ["m"]),
        N(kind, ["m"], ["s"]),
        N("Identity", ["s"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 2, 3, 3], opset=opset, w=floats(18, 5)))
    assert graph.outputs[0].tail == (OVER_CLASSES[kind](-1),)


@pytest.mark.parametrize("kind", OVER_CLASSES)
def test_functions_of_all_classes_over_channels_of_a_map(model, agrees, kind):
    nodes = [N("Conv", ["x", "w"], ["c"]), N(kind, ["c"], ["y"], axis=1)]
    graph = agrees(model(nodes, [1, 2, 3, 4], w=floats(5, 2, 1, 1)))
    assert graph.outputs[0].tail == (OVER_CLASSES[kind](-3),)


def test_the_first_of_equals_is_1_in_hardmax(model, agrees):
    nodes = [N("Clip", ["x", "low", "high"], ["c"]), N("Hardmax", ["c"], ["y"], axis=1)]
    agrees(model(nodes, ["N", 9], low=np.float32(-0.1), high=np.float32(0.1)), frames=20)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("last", [0, 1])
@pytest.mark.parametrize("kind", ["ArgMax", "ArgMin"])
def test_argmax_is_the_host_s(model, agrees, kind, last, keepdims):
    nodes = [
        N("Flatten", ["x"], ["f"]),
        N("MatMul", ["f", "w"], ["m"]),
        N("Clip", ["m", "low", "high"], ["c"]),
        N(kind, ["c"], ["y"], axis=1, keepdims=keepdims, select_last_index=last),
    ]
    ends = {"low": np.float32(-0.2), "high": np.float32(0.2)}
    graph = agrees(model(nodes, [1, 2, 3, 3], out_dtype=7, w=floats(18, 9), **ends), frames=20)
    step = ir.HostArgMax(-1, bool(keepdims), kind == "ArgMin", bool(last))
    assert graph.outputs[0].tail == (step,)


@pytest.mark.parametrize("wrong", [{"lowest": True}, {"last": True}])
def test_the_hardware_finds_only_the_first_largest(model, wrong):
    kind = "ArgMin" if "lowest" in wrong else "ArgMax"
    nodes = [N(kind, ["m"], ["y"], axis=1, select_last_index=int("last" in wrong))]
    nodes.insert(0, N("MatMul", ["x", "w"], ["m"]))
    graph = load(model(nodes, [1, 6], out_dtype=7, w=floats(6, 5)))
    with pytest.raises(ModelError, match=r"^y: .*of the lowest score, or of the last of equals"):
        argmax_in_hardware(graph)


AFTER_ARGMAX = {
    "nothing": ([], [1, 4, 5]),
    "a cast": ([N("Cast", ["a"], ["y"], to=TensorProto.FLOAT)], [1, 4, 5]),
    "a squeeze": ([N("Squeeze", ["a", "first"], ["y"])], [4, 5]),
    "a transpose": ([N("Transpose", ["a"], ["y"], perm=[0, 2, 1])], [1, 5, 4]),
    "a reshape": ([N("Flatten", ["a"], ["y"])], [1, 20]),
    "both": ([N("Transpose", ["a"], ["t"], perm=[0, 2, 1]), N("Flatten", ["t"], ["y"])], [1, 20]),
}


@pytest.mark.parametrize("after", AFTER_ARGMAX)
@pytest.mark.parametrize("softmax", [False, True], ids=["scores", "shares"])
def test_a_map_of_classes(model, agrees, run, after, softmax):
    nodes, shape = AFTER_ARGMAX[after]
    scores = "s" if softmax else "c"
    path = model(
        [
            N("Conv", ["x", "w"], ["c"]),
            *[N("Softmax", ["c"], ["s"], axis=1)] * softmax,
            N("ArgMax", [scores], ["a" if nodes else "y"], axis=1, keepdims=0),
            *nodes,
        ],
        [1, 3, 6, 7],
        out_dtype=TensorProto.FLOAT if after == "a cast" else TensorProto.INT64,
        w=floats(6, 3, 3, 3),
        first=np.array([0]),
    )
    graph = agrees(path, frames=3)
    assert graph.outputs[0].shape == tuple(shape[1:] if shape[0] == 1 else shape)


@pytest.mark.parametrize("keepdims", [0, 1])
@pytest.mark.parametrize("axis", [1, 2, 3, -1])
def test_the_largest_along_any_axis_of_a_map(model, agrees, axis, keepdims):
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("ArgMax", ["c"], ["y"], axis=axis, keepdims=keepdims),
    ]
    agrees(model(nodes, [2, 3, 6, 7], out_dtype=TensorProto.INT64, w=floats(6, 3, 3, 3)))


def test_constant_nodes_and_dead_nodes(model, agrees):
    weight = numpy_helper.from_array(floats(4, 3, 1, 1))
    nodes = [
        N("Constant", [], ["w"], value=weight),
        N("Sin", ["x"], ["dead"]),
        N("Conv", ["x", "w"], ["y"]),
    ]
    assert kinds(agrees(model(nodes, [1, 3, 2, 2]))) == [ir.Conv]


def test_value_names_are_the_tensors_of_the_file(model):
    nodes = [
        N("Conv", ["x", "w"], ["c"], name="first"),
        N("Relu", ["c"], ["r"]),
        N("MaxPool", ["r"], ["y"], kernel_shape=[2, 2]),
    ]
    graph = load(model(nodes, [1, 3, 4, 4], w=floats(4, 3, 1, 1)))
    assert [op.output for op in graph] == ["r", "y"]
    assert graph.ops[0].name == "first"


def test_the_epsilon_of_batch_normalization_counts(model, agrees):
    """Variances as small as epsilon: without it the output is nearly half as large again."""
    node = N("BatchNormalization", ["x", "s", "b", "m", "v"], ["y"], epsilon=1e-2)
    one = np.ones(3, np.float32)
    agrees(model([node], [1, 3, 4, 4], s=one, b=0 * one, m=0 * one, v=0.01 * one))


@pytest.mark.parametrize("size", [4, 5])
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_ceil_mode_makes_no_window_that_starts_in_the_end_padding(kind, size, model, agrees):
    """Padding 1, kernel 2, stride 3: the third window of a map of 4 would start behind the padding,
    of 5 in its first column.
    """
    node = N(
        kind, ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1
    )
    agrees(model([node], [1, 2, size, size], opset=22))


MAPS = {
    "a map": ((4, 5, 6), [1, 4, 5, 6]),
    "rows": ((5, 1), [1, 4, 5, 6]),
    "a map for a batch": ((1, 4, 5, 6), [2, 4, 5, 6]),
    "positions": ((7, 4), ["N", 7, 4]),
}


@pytest.mark.parametrize(("size", "shape"), MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
def test_a_constant_may_differ_from_pixel_to_pixel(model, agrees, kind, size, shape):
    nodes = [N("Relu", ["x"], ["r"]), N(kind, ["r", "k"], ["s"]), N("Sigmoid", ["s"], ["y"])]
    graph = agrees(model(nodes, shape, k=floats(*size) + np.float32(3)))
    (conv,) = (op for op in graph if isinstance(op, ir.Conv))
    assert conv.groups == np.prod(shape[1:])


SLOPES = {"up to 1": [0.1, 1.0, -0.5], "beyond 1": [0.1, 1.5, -0.5], "one": [0.25] * 3}


@pytest.mark.parametrize("slopes", SLOPES.values(), ids=SLOPES)
@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1, 1)])
def test_slopes_of_each_channel(model, agrees, slopes, shape):
    slope = np.float32(slopes).reshape(shape)
    nodes = [N("Conv", ["x", "w"], ["c"]), N("PRelu", ["c", "s"], ["y"])]
    graph = agrees(model(nodes, ["N", 3, 5, 4], w=floats(3, 3, 2, 2), s=slope))
    last = {"up to 1": ir.ops.Max, "beyond 1": ir.Add, "one": ir.Unary}
    (name,) = (name for name, found in SLOPES.items() if found is slopes)
    assert isinstance(graph.ops[-1], last[name])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("kind", elementwise.OPERATORS)
@pytest.mark.parametrize("pool", ["channel", "pixel", "row"])
def test_operands_are_repeated_where_they_have_fewer_elements(model, agrees, pool, kind, reverse):
    """As in squeeze and excite, in gates a pixel, and in masks."""
    axes = {"channel": [2, 3], "pixel": [1], "row": [1, 3]}[pool]
    operands = ["s", "r"] if reverse else ["r", "s"]
    nodes = [
        N("Relu", ["x"], ["r"]),
        N("ReduceMean", ["r"], ["m"], axes=axes),
        N("Sigmoid", ["m"], ["s"]),
        N(kind, operands, ["y"]),
    ]
    graph = agrees(model(nodes, [1, 3, 4, 5]))
    assert kinds(graph)[-2:] == [ir.Gather, elementwise.OPERATORS[kind]]


def test_both_operands_are_repeated(model, agrees):
    nodes = [
        N("ReduceMean", ["x"], ["a"], axes=[2]),
        N("ReduceMean", ["x"], ["b"], axes=[3]),
        N("Mul", ["a", "b"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 3, 4, 5]))
    assert graph.shape(graph.ops[-1].output) == ir.Shape(4, 5, 3)


def test_inputs_of_the_network_are_repeated(tmp_path, agrees):
    shapes = {"x": [1, 3, 4, 5], "g": [1, 3, 1, 1]}
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes.items()]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3, 4, 5])
    nodes = [N("Mul", ["x", "g"], ["m"]), N("Relu", ["m"], ["y"])]
    proto = helper.make_model(
        helper.make_graph(nodes, "net", inputs, [output]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    graph = load(tmp_path / "m.onnx")
    assert kinds(graph) == [ir.Gather, ir.ops.Mul]
    assert [graph.shape(port.value) for port in graph.inputs] == [
        ir.Shape(4, 5, 3),
        ir.Shape(1, 1, 3),
    ]


@pytest.mark.parametrize(
    ("shape", "turn"), [([1, 4, 6], [0, 2, 1]), ([1, 2, 5, 3], [0, 1, 3, 2])], ids=str
)
def test_product_of_two_activations(model, agrees, shape, turn):
    """The scores of attention, for each head, and what they weigh."""
    nodes = [
        N("Relu", ["x"], ["q"]),
        N("Tanh", ["x"], ["k"]),
        N("Transpose", ["k"], ["t"], perm=turn),
        N("MatMul", ["q", "t"], ["s"]),
        N("Sigmoid", ["s"], ["p"]),
        N("MatMul", ["p", "x"], ["y"]),
    ]
    graph = agrees(model(nodes, shape))
    assert kinds(graph).count(ir.ops.MatMul) == 2


def test_product_of_activations_that_are_repeated(model, agrees):
    nodes = [
        N("ReduceMean", ["x"], ["m"], axes=[1]),
        N("Transpose", ["m"], ["t"], perm=[0, 1, 3, 2]),
        N("MatMul", ["x", "t"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 3, 4, 5]))
    assert graph.ops[-1].products == 3


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("last", ["Softmax", "ReduceMean"])
def test_axes_of_a_tensor_without_a_batch_axis(model, agrees, last, batch):
    """Exporters merge the batch into the rows before a dense layer."""
    attributes = {"axes": [1]} if last == "ReduceMean" else {"axis": 1}
    nodes = [
        N("Reshape", ["x", "rows"], ["r"]),
        N("MatMul", ["r", "w"], ["m"]),
        N(last, ["m"], ["s"], **attributes),
        N("Reshape", ["s", "apart"], ["y"]),
    ]
    shapes = {"rows": np.array([-1, 4]), "apart": np.array([batch, 3, -1])}
    agrees(model(nodes, [batch, 3, 4], w=floats(4, 5), **shapes))

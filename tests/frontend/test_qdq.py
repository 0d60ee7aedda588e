"""Quantized networks: QuantizeLinear and DequantizeLinear become the types of values."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from gatewright.compiler.frontend.element_types import array_of
from onnx import TensorProto, helper

N = helper.make_node
INT8, UINT8 = ir.Int(8, True), ir.Int(8, False)


def scale(value):
    return float(np.float32(value))


def weights(*shape, dtype=np.int8, seed=3):
    low, high = (-127, 128) if dtype == np.int8 else (0, 256)
    return np.random.default_rng(seed).integers(low, high, shape).astype(dtype)


def q(x, y, n):
    return N("QuantizeLinear", [x, f"s{n}", f"z{n}"], [y])


def dq(x, y, n):
    return N("DequantizeLinear", [x, f"s{n}", f"z{n}"], [y])


def quants(**steps):
    """Initializers s0, z0 ... from ``_0=(scale, zero)``."""
    table = {}
    for name, (step, zero) in steps.items():
        table |= {"s" + name[1:]: np.float32(step), "z" + name[1:]: zero}
    return table


WEIGHT = {"ws": np.float32([0.01, 0.02, 0.03, 0.04]), "wz": np.zeros(4, np.int8)}
TWO = quants(_0=(0.02, np.int8(-3)), _1=(0.05, np.int8(5)))
W = N("DequantizeLinear", ["w", "ws", "wz"], ["wr"], axis=0)


def test_conv_with_relu_takes_the_name_of_the_quantized_tensor(model, agrees):
    bias = weights(4).astype(np.int32) * 10
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        W,
        N("DequantizeLinear", ["b", "bs"], ["br"], axis=0),
        N("Conv", ["xr", "wr", "br"], ["c"]),
        N("Relu", ["c"], ["r"]),
        q("r", "rq", 1),
        dq("rq", "y", 1),
    ]
    graph = agrees(
        model(
            nodes,
            [1, 3, 5, 5],
            w=weights(4, 3, 3, 3),
            b=bias,
            bs=np.float32(0.02) * WEIGHT["ws"],
            **WEIGHT,
            **TWO,
        )
    )
    (op,) = graph
    assert (op.inputs, op.output) == (("xq",), "rq")
    assert op.clamp == ir.Clamp(0.0)
    assert graph.quant("xq") == ir.Quant(INT8, scale(0.02), -3)
    assert graph.quant("rq") == ir.Quant(INT8, scale(0.05), 5)
    assert graph.outputs[0].tail == (ir.Dequantize(graph.quant("rq")),)
    np.testing.assert_array_equal(op.bias, bias)
    np.testing.assert_array_equal(op.weight_scale, WEIGHT["ws"])


def test_unsigned_weights_lose_their_zero_point(model, agrees):
    w = weights(4, 3, 1, 1, dtype=np.uint8)
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        dq("w", "wr", 2),
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "y", 1),
    ]
    path = model(
        nodes,
        [1, 3, 5, 5],
        out_dtype=TensorProto.UINT8,
        w=w,
        **quants(_0=(0.02, np.uint8(30)), _1=(0.5, np.uint8(128)), _2=(0.02, np.uint8(7))),
    )
    (op,) = agrees(path)
    assert op.weight.dtype == np.int16
    np.testing.assert_array_equal(op.weight.transpose(0, 3, 1, 2), w.astype(int) - 7)


def test_integer_input_keeps_its_type(model, agrees):
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        dq("t", "xr", 0),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "y", 1),
    ]
    graph = agrees(
        model(nodes, ["N", 5, 5, 3], dtype=TensorProto.INT8, w=weights(4, 3, 3, 3), **WEIGHT, **TWO)
    )
    assert graph.inputs[0].dtype == "int8"
    assert graph.quant(graph.inputs[0].value) == ir.Quant(INT8, scale(0.02), -3)


def test_dense_layer_with_an_added_integer_bias(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        dq("w", "wr", 2),
        N("DequantizeLinear", ["b", "bs"], ["br"]),
        N("MatMul", ["xr", "wr"], ["m"]),
        N("Add", ["m", "br"], ["a"]),
        q("a", "y", 1),
    ]
    path = model(
        nodes,
        ["N", 12],
        out_dtype=TensorProto.INT8,
        w=weights(12, 4),
        b=np.int32([5, -600, 7, 80]),
        bs=np.float32(0.0002),
        **TWO,
        **quants(_2=(0.01, np.int8(0))),
    )
    (op,) = agrees(path)
    np.testing.assert_array_equal(op.bias, [5, -600, 7, 80])
    np.testing.assert_array_equal(op.bias_scale, np.full(4, np.float32(0.0002)))


def test_pool_between_the_pairs_keeps_the_type(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("MaxPool", ["xr"], ["p"], kernel_shape=[2, 2]),
        q("p", "pq", 0),
        dq("pq", "pr", 0),
        N("AveragePool", ["pr"], ["a"], kernel_shape=[2, 2]),
        q("a", "aq", 1),
        dq("aq", "y", 1),
    ]
    graph = agrees(model(nodes, [1, 3, 5, 5], **TWO))
    assert [op.output for op in graph] == ["pq", "aq"]
    assert graph.quant("pq") == graph.quant("xq")


def test_pool_that_changes_the_scale_is_followed_by_a_requantizer(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("MaxPool", ["xr"], ["p"], kernel_shape=[2, 2]),
        q("p", "pq", 1),
        dq("pq", "y", 1),
    ]
    graph = agrees(model(nodes, [1, 3, 5, 5], **TWO))
    assert [type(op) for op in graph] == [ir.MaxPool, ir.Unary]
    assert graph.ops[1].output == "pq"


def test_pool_and_relu_before_the_rounding(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        N("MaxPool", ["c"], ["p"], kernel_shape=[2, 2]),
        N("Relu", ["p"], ["r"]),
        q("r", "rq", 1),
        dq("rq", "y", 1),
    ]
    graph = agrees(model(nodes, [1, 3, 5, 5], w=weights(4, 3, 3, 3), **WEIGHT, **TWO))
    assert [type(op) for op in graph] == [ir.Conv, ir.MaxPool]
    assert graph.quant("c") == graph.quant("rq")


def test_concat_of_two_scales_is_requantized(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("Sigmoid", ["xr"], ["s"]),
        q("s", "sq", 1),
        dq("sq", "sr", 1),
        N("Concat", ["xr", "sr"], ["c"], axis=1),
        q("c", "cq", 2),
        dq("cq", "y", 2),
    ]
    graph = agrees(model(nodes, [1, 3, 5, 5], **TWO, **quants(_2=(0.03, np.int8(1)))))
    assert [type(op) for op in graph] == [ir.Unary, ir.Unary, ir.Unary, ir.Concat]
    assert graph.quant("cq") == ir.Quant(INT8, scale(0.03), 1)


def test_second_rounding_to_the_same_type_is_nothing(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("Relu", ["xr"], ["r"]),
        q("r", "rq", 0),
        dq("rq", "rr", 0),
        q("rr", "again", 0),
        dq("again", "y", 0),
    ]
    assert len(agrees(model(nodes, [1, 3, 5, 5], **TWO)).ops) == 1


def test_second_rounding_to_another_type_is_a_requantizer(model, agrees):
    nodes = [q("x", "xq", 0), dq("xq", "xr", 0), q("xr", "again", 1), dq("again", "y", 1)]
    (op,) = agrees(model(nodes, [1, 3, 5, 5], **TWO))
    assert (type(op), op.function, op.output) == (ir.Unary, ir.Identity(), "again")


def test_add_with_two_readers(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 1),
        dq("cq", "cr", 1),
        N("Sigmoid", ["cr"], ["s"]),
        q("s", "sq", 2),
        dq("sq", "sr", 2),
        N("Add", ["cr", "sr"], ["a"]),
        N("Relu", ["a"], ["r"]),
        q("r", "rq", 1),
        dq("rq", "y", 1),
    ]
    graph = agrees(
        model(
            nodes,
            [1, 3, 5, 5],
            w=weights(4, 3, 1, 1),
            **WEIGHT,
            **TWO,
            **quants(_2=(1 / 256, np.int8(-128))),
        )
    )
    assert [op.output for op in graph] == ["cq", "sq", "rq"]


def test_constants_of_elementwise_operators_become_exact_scales(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("Mul", ["xr", "k"], ["m"]),
        q("m", "mq", 1),
        dq("mq", "mr", 1),
        N("Add", ["mr", "k"], ["a"]),
        q("a", "aq", 1),
        dq("aq", "y", 1),
    ]
    graph = agrees(model(nodes, [1, 3, 5, 5], k=np.float32([[[1.3]], [[-0.4]], [[0.7]]]), **TWO))
    first = graph.ops[0]
    np.testing.assert_array_equal(first.weight.reshape(-1), [1, -1, 1])
    np.testing.assert_array_equal(first.weight_scale, np.float32([1.3, 0.4, 0.7]))


def test_softmax_between_the_pairs_is_the_tail(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        dq("w", "wr", 2),
        N("MatMul", ["xr", "wr"], ["m"]),
        q("m", "mq", 1),
        dq("mq", "mr", 1),
        N("Softmax", ["mr"], ["s"]),
        q("s", "sq", 3),
        dq("sq", "y", 3),
    ]
    graph = agrees(
        model(
            nodes,
            ["N", 6],
            w=weights(6, 4),
            **TWO,
            **quants(_2=(0.01, np.int8(0)), _3=(1 / 256, np.int8(-128))),
        )
    )
    assert [type(step) for step in graph.outputs[0].tail] == [
        ir.Dequantize,
        ir.Softmax,
        ir.Quantize,
        ir.Dequantize,
    ]


def test_float_weights_are_rounded_by_their_own_quantize(model, agrees):
    w = np.random.default_rng(0).normal(0, 0.3, (4, 3, 3, 3)).astype(np.float32)
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0),
        N("DequantizeLinear", ["wq", "ws", "wz"], ["wr"], axis=0),
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 1),
        dq("cq", "y", 1),
    ]
    (op,) = agrees(model(nodes, [1, 3, 5, 5], w=w, **WEIGHT, **TWO))
    assert op.weight.dtype == np.int8


def test_weights_alone_quantized_is_a_float_network(model, agrees):
    graph = agrees(
        model([W, N("Conv", ["x", "wr"], ["y"])], [1, 3, 5, 5], w=weights(4, 3, 3, 3), **WEIGHT)
    )
    assert not graph.quantized


REJECTED = {
    "output not quantized": (
        [
            q("x", "xq", 0),
            dq("xq", "xr", 0),
            W,
            N("Conv", ["xr", "wr"], ["c"], name="conv"),
            N("Sigmoid", ["c"], ["s"]),
            q("s", "sq", 1),
            dq("sq", "y", 1),
        ],
        "conv: its output c is not quantized although the network is; accepted: QuantizeLinear and",
    ),
    "float weights": (
        [
            q("x", "xq", 0),
            dq("xq", "xr", 0),
            N("Conv", ["xr", "f"], ["c"], name="conv"),
            q("c", "cq", 1),
            dq("cq", "y", 1),
        ],
        "conv: its weights are float32 although the network is quantized; accepted: integer",
    ),
    "two scales for one tensor": (
        [
            q("x", "xq", 0),
            dq("xq", "xr", 0),
            N("Sigmoid", ["xr"], ["s"]),
            q("s", "a", 0),
            dq("a", "ar", 0),
            N("QuantizeLinear", ["s", "s1", "z1"], ["b"], name="other"),
            dq("b", "br", 1),
            N("Add", ["ar", "br"], ["c"]),
            q("c", "cq", 1),
            dq("cq", "y", 1),
        ],
        "other (QuantizeLinear): rounds a to i8 * 0.05 @ 5, but another QuantizeLinear rounds",
    ),
    "read before it is rounded": (
        [
            q("x", "xq", 0),
            dq("xq", "xr", 0),
            N("Sigmoid", ["xr"], ["s"]),
            q("s", "a", 0),
            dq("a", "ar", 0),
            N("Tanh", ["s"], ["t"], name="early"),
            q("t", "b", 1),
            dq("b", "br", 1),
            N("Add", ["ar", "br"], ["c"]),
            q("c", "cq", 1),
            dq("cq", "y", 1),
        ],
        "early: reads s before QuantizeLinear rounds it; accepted: readers after DequantizeLinear",
    ),
    "read with another scale": (
        [
            q("x", "xq", 0),
            N("DequantizeLinear", ["xq", "s1", "z1"], ["xr"], name="odd"),
            N("Relu", ["xr"], ["r"]),
            q("r", "rq", 1),
            dq("rq", "y", 1),
        ],
        "odd (DequantizeLinear): reads integers as i8 * 0.05 @ 5, but they were rounded as",
    ),
    "one scale a channel": (
        [
            N("QuantizeLinear", ["x", "ws", "wz"], ["xq"], axis=1, name="many"),
            N("DequantizeLinear", ["xq", "ws", "wz"], ["y"], axis=1),
        ],
        "many (QuantizeLinear): has 4 scales for an activation; accepted: one; quantize",
    ),
}


@pytest.mark.parametrize(("nodes", "message"), REJECTED.values(), ids=REJECTED)
def test_quantized_network_is_rejected(model, nodes, message):
    path = model(
        nodes,
        [1, 4, 5, 5],
        w=weights(4, 4, 1, 1),
        f=np.ones((4, 4, 1, 1), np.float32),
        **WEIGHT,
        **TWO,
    )
    with pytest.raises(ModelError) as caught:
        load(path)
    assert message in str(caught.value)


# Clip on the integers (QCDQ).


def clip(x, y, low, high):
    return N("Clip", [x, low, high], [y])


def clipped(model, nodes, shape=(1, 3, 5, 5), opset=17, **more):
    constants = {"w": weights(4, 3, 3, 3)} | WEIGHT | TWO
    return model(
        nodes,
        list(shape),
        opset=opset,
        **(constants | {"lo": np.int8(-8), "hi": np.int8(7), "b": np.int8(-7)} | more),
    )


def test_a_clip_on_the_integers_gives_the_value_its_type(model, agrees):
    nodes = [
        q("x", "xq", 0),
        clip("xq", "xc", "lo", "hi"),
        dq("xc", "xr", 0),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        N("Relu", ["c"], ["r"]),
        q("r", "rq", 1),
        clip("rq", "rc", "lo", "hi"),
        dq("rc", "y", 1),
    ]
    graph = agrees(clipped(model, nodes))
    (op,) = graph
    assert (op.inputs, op.output, op.clamp) == (("xc",), "rc", ir.Clamp(0.0))
    assert graph.quant("xc") == ir.Quant(ir.Int(4, True), scale(0.02), -3)
    assert graph.quant("rc") == ir.Quant(ir.Int(4, True), scale(0.05), 5)
    assert graph.outputs[0].tail == (ir.Dequantize(graph.quant("rc")),)


def test_a_clip_narrower_than_its_type_is_a_clamp_of_the_operator_before(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 1),
        clip("cq", "cc", "b", "hi"),
        dq("cc", "y", 1),
    ]
    graph = agrees(clipped(model, nodes))
    (op,) = graph
    assert graph.quant(op.output) == ir.Quant(ir.Int(4, True), scale(0.05), 5)
    assert op.clamp == ir.Clamp(-12 * scale(0.05))
    assert op.output == "cc"


def test_a_narrower_clip_of_the_input_is_a_stage_of_its_own(model, agrees):
    nodes = [
        q("x", "xq", 0),
        clip("xq", "xc", "b", "hi"),
        dq("xc", "xr", 0),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 1),
        dq("cq", "y", 1),
    ]
    graph = agrees(clipped(model, nodes))
    unary, _ = graph
    assert isinstance(unary, ir.Unary)
    assert graph.quant("xq").dtype == graph.quant("xc").dtype == ir.Int(4, True)


def test_a_zero_point_outside_the_clip_stays_in_the_type(model, agrees):
    nodes = [
        q("x", "xq", 2),
        clip("xq", "xc", "lo", "hi"),
        dq("xc", "xr", 2),
        W,
        N("Conv", ["xr", "wr"], ["c"], pads=[1, 1, 1, 1]),
        q("c", "cq", 1),
        dq("cq", "y", 1),
    ]
    graph = agrees(clipped(model, nodes, **quants(_2=(0.02, np.int8(-20)))))
    assert graph.quant("xc") == ir.Quant(ir.Int(6, True), scale(0.02), -20)


def test_casts_around_a_clip_change_nothing(model, agrees):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 2),
        N("Cast", ["cq"], ["ci"], to=TensorProto.INT32),
        clip("ci", "cc", "lo", "hi"),
        N("Cast", ["cc"], ["cs"], to=TensorProto.INT16),
        dq("cs", "y", 2),
    ]
    more = quants(_2=(0.002, np.int16(5))) | {"lo": np.int32(-2048), "hi": np.int32(2047)}
    graph = agrees(clipped(model, nodes, opset=21, **more))
    assert graph.quant("cs") == ir.Quant(ir.Int(12, True), scale(0.002), 5)


def test_a_cast_that_wraps_integers_is_rejected(model):
    nodes = [
        q("x", "xq", 2),
        N("Cast", ["xq"], ["xi"], to=TensorProto.INT8),
        clip("xi", "xc", "lo", "hi"),
        dq("xc", "xr", 0),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 1),
        dq("cq", "y", 1),
    ]
    path = clipped(model, nodes, opset=21, **quants(_2=(0.002, np.int16(5))))
    with pytest.raises(ModelError, match="casts between floats and integers"):
        load(path)


def test_integers_that_others_read_too_are_not_clipped(model):
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        clip("xq", "xc", "lo", "hi"),
        dq("xc", "xs", 0),
        N("Add", ["xr", "xs"], ["c"]),
        q("c", "cq", 1),
        dq("cq", "y", 1),
    ]
    with pytest.raises(ModelError, match="computes on the integers of QuantizeLinear"):
        load(clipped(model, nodes))


def test_clipped_weights_are_constants(model, agrees):
    """As Brevitas writes narrow weights."""
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        clip("w", "wc", "b", "hi"),
        N("DequantizeLinear", ["wc", "ws", "wz"], ["wr"], axis=0),
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 1),
        dq("cq", "y", 1),
    ]
    (op,) = agrees(clipped(model, nodes))
    assert (op.weight.min(), op.weight.max()) == (-7, 7)


@pytest.mark.parametrize("kind", ["int4", "uint4", "int16", "uint16", "int2", "uint2"])
def test_types_of_onnx_are_types_of_values(kind, model, agrees):
    zero = array_of(1, ir.Int.named(kind))
    nodes = [
        q("x", "xq", 2),
        dq("xq", "xr", 2),
        N("Transpose", ["w"], ["wt"], perm=[1, 0, 2, 3]),
        N("DequantizeLinear", ["wt", "ws"], ["wr"], axis=0),
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 2),
        dq("cq", "y", 2),
    ]
    w = array_of(np.random.default_rng(0).integers(0, 2, (3, 4, 3, 3)), ir.Int.named(kind))
    graph = agrees(clipped(model, nodes, opset=25, **quants(_2=(0.25, zero)) | {"w": w}))
    (op,) = graph
    assert graph.quant("xq") == graph.quant("cq") == ir.Quant(ir.Int.named(kind), 0.25, 1)
    np.testing.assert_array_equal(op.weight, w.astype(np.int8).transpose(1, 2, 3, 0))

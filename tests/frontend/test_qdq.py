"""Quantized networks: QuantizeLinear and DequantizeLinear become the types of values."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import DataError, ModelError
from gatewright.compiler.frontend import elementwise, load, write_qdq
from gatewright.compiler.frontend.element_types import array_of
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.quantize import quantize
from gatewright.sim import golden
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


@pytest.mark.parametrize("kind", elementwise.OPERATORS)
def test_two_activations_of_different_scales(model, agrees, kind):
    """The operands of Max and Min are first rounded as their result is: rounding is monotone."""
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("Sigmoid", ["xr"], ["s"]),
        q("s", "sq", 2),
        dq("sq", "sr", 2),
        N(kind, ["xr", "sr"], ["a"]),
        q("a", "aq", 1),
        dq("aq", "y", 1),
    ]
    more = quants(_2=(1 / 256, np.int8(-128)))
    graph = agrees(model(nodes, [1, 3, 5, 5], **TWO, **more), frames=8)
    operator = elementwise.OPERATORS[kind]
    between = [ir.Unary, ir.Unary] if operator.selecting else []
    assert [type(op) for op in graph] == [ir.Unary, *between, operator]
    assert graph.ops[-1].output == "aq"


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


# Types of integers: output_dtype, else the zero point's, else uint8; a DequantizeLinear's input's.

QUANTIZED = ["int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2"]
#: the opset that introduced output_dtype
OUTPUT_DTYPE = 21


def quantize_dequantize(kind, typed_by):
    """The two nodes, and the initializers of their zero points.

    ``typed_by``: the names of the two zero points, absent ones "", and "output_dtype" where that
    gives the type.
    """
    first, second, attribute = typed_by
    more = {"output_dtype": getattr(TensorProto, kind.upper())} if attribute else {}
    nodes = [
        N("QuantizeLinear", ["x", "s", first], ["xq"], **more),
        N("DequantizeLinear", ["xq", "s", second], ["xr"]),
        N("MaxPool", ["xr"], ["p"], kernel_shape=[2, 2]),
        N("QuantizeLinear", ["p", "s", first], ["pq"], **more),
        N("DequantizeLinear", ["pq", "s", second], ["y"]),
    ]
    return nodes, {"s": np.float32(0.02), "z": array_of(0, ir.Int.named(kind))}


TYPED_BY = {
    "both zero points": ("z", "z", ""),
    "the first zero point": ("z", "", ""),
    "output_dtype": ("", "", "output_dtype"),
    "output_dtype and the second zero point": ("", "z", "output_dtype"),
    "all": ("z", "z", "output_dtype"),
}


@pytest.mark.parametrize("typed_by", TYPED_BY.values(), ids=TYPED_BY)
@pytest.mark.parametrize("kind", QUANTIZED)
def test_activations_have_the_type_that_the_file_gives(kind, typed_by, model, agrees):
    nodes, constants = quantize_dequantize(kind, typed_by)
    graph = agrees(model(nodes, [1, 3, 4, 4], opset=25, **constants))
    assert {value.quant for value in graph.values.values()} == {
        ir.Quant(ir.Int.named(kind), scale(0.02), 0)
    }


@pytest.mark.parametrize("opset", [10, 13, 19, 21, 23, 24, 25])
@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_activations_have_the_type_that_the_file_gives_in_every_opset(kind, opset, model, agrees):
    ways = [("z", "z", ""), ("z", "", "")] + [("", "", "")] * (kind == "uint8")
    ways += [("", "", "output_dtype")] * (opset >= OUTPUT_DTYPE)
    for number, typed_by in enumerate(ways):
        nodes, constants = quantize_dequantize(kind, typed_by)
        path = model(nodes, [1, 3, 4, 4], opset=opset, name=f"{number}.onnx", **constants)
        assert agrees(path).quant("xq").dtype == ir.Int.named(kind), typed_by


@pytest.mark.parametrize("typed_by", ["zero point", "output_dtype"])
@pytest.mark.parametrize("kind", QUANTIZED)
def test_weights_have_the_type_that_the_file_gives(kind, typed_by, model, agrees):
    """Some weights are out of the range of every type, and saturate."""
    attribute = {"output_dtype": getattr(TensorProto, kind.upper())}
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("QuantizeLinear", ["w", "ws", "wz"], ["wq"], axis=0)
        if typed_by == "zero point"
        else N("QuantizeLinear", ["w", "ws"], ["wq"], axis=0, **attribute),
        N("DequantizeLinear", ["wq", "ws"], ["wr"], axis=0),
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "y", 1),
    ]
    dtype = ir.Int.named(kind)
    w = np.random.default_rng(1).normal(0, dtype.high, (4, 3, 2, 2)).astype(np.float32)
    ws = np.float32([0.25, 0.5, 0.5, 1])
    constants = {"w": w, "ws": ws, "wz": array_of(np.zeros(4, int), dtype)}
    constants |= TWO | {"s1": np.float32(dtype.high / 10)}
    path = model(nodes, [1, 3, 4, 4], opset=25, out_dtype=TensorProto.INT8, **constants)
    (op,) = agrees(path)
    wanted = np.clip(np.rint(w / ws.reshape(-1, 1, 1, 1)), dtype.low, dtype.high)
    np.testing.assert_array_equal(op.weight.transpose(0, 3, 1, 2), wanted)


@pytest.mark.parametrize("kind", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("moved", [False, True], ids=["at once", "behind MaxPool"])
def test_an_integer_input_without_zero_point_has_its_own_type(kind, moved, model, agrees):
    nodes = [
        *[N("MaxPool", ["x"], ["p"], kernel_shape=[2, 2])] * moved,
        N("DequantizeLinear", ["p" if moved else "x", "s0"], ["xr"]),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 1),
        dq("cq", "y", 1),
    ]
    # ONNX Runtime pools integers of 8 bits only.
    dtype = "int8" if moved and kind == "int16" else "uint8" if moved and kind[0] == "u" else kind
    number = getattr(TensorProto, dtype.upper())
    path = model(
        nodes,
        [1, 3, 5, 5],
        opset=21,
        dtype=number,
        out_dtype=TensorProto.FLOAT,
        w=weights(4, 3, 2, 2),
        **WEIGHT,
        **TWO,
    )
    graph = agrees(path)
    (port,) = graph.inputs
    assert graph.quant(port.value) == ir.Quant(ir.Int.named(dtype), scale(0.02), 0)


@pytest.mark.parametrize("kind", ["int8", "int16"])
def test_softmax_rounded_to_output_dtype_on_the_host(kind, model, agrees):
    attribute = {"output_dtype": getattr(TensorProto, kind.upper())}
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("MaxPool", ["xr"], ["p"], kernel_shape=[2, 2]),
        q("p", "pq", 0),
        dq("pq", "pr", 0),
        N("Softmax", ["pr"], ["s"], axis=1),
        N("QuantizeLinear", ["s", "s1"], ["sq"], **attribute),
        N("DequantizeLinear", ["sq", "s1"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 3, 4, 4], opset=21, **TWO))
    quant = ir.Quant(ir.Int.named(kind), scale(0.05), 0)
    assert graph.outputs[0].tail[-2:] == (ir.Quantize(quant), ir.Dequantize(quant))


MISTYPED = {
    "output_dtype and zero point differ": (
        [N("QuantizeLinear", ["x", "s0", "z0"], ["y"], output_dtype=TensorProto.UINT8)],
        "int8",
        "y (QuantizeLinear): output_dtype is uint8, but its zero point is int8; accepted: the same",
    ),
    "a type that is no integer": (
        [N("QuantizeLinear", ["x", "s0"], ["y"], output_dtype=TensorProto.FLOAT8E4M3FN)],
        "int8",
        "y (QuantizeLinear): quantizes to float8e4m3fn; accepted: int8, uint8, int16, uint16, int4",
    ),
    "a type that does not exist": (
        [N("QuantizeLinear", ["x", "s0"], ["y"], output_dtype=99)],
        "int8",
        "y (QuantizeLinear): quantizes to 99; accepted: int8, uint8, int16, uint16, int4",
    ),
    "the input has another type than the zero point": (
        [N("DequantizeLinear", ["x", "s0", "u"], ["y"])],
        "int8",
        "y (DequantizeLinear): reads integers as u8 * 0.02 @ 1, but they are int8; accepted: a",
    ),
    "real numbers": (
        [N("DequantizeLinear", ["x", "s0"], ["y"])],
        "float",
        "y (DequantizeLinear): dequantizes real numbers; accepted: the integers of QuantizeLinear",
    ),
    "in half precision": (
        [N("QuantizeLinear", ["x", "s0", "z0"], ["y"], precision=TensorProto.FLOAT16)],
        "float",
        "y (QuantizeLinear): precision is 10; accepted: 1 (float32), or none; export the network",
    ),
    "to half precision": (
        [N("DequantizeLinear", ["x", "s0", "z0"], ["y"], output_dtype=TensorProto.FLOAT16)],
        "int8",
        "y (DequantizeLinear): output_dtype is 10; accepted: 1 (float32), or none; export the",
    ),
    "in blocks": (
        [N("QuantizeLinear", ["x", "s0", "z0"], ["y"], block_size=2)],
        "float",
        "y (QuantizeLinear): quantizes in blocks; accepted: one scale for an activation",
    ),
    "weights of another type than their zero point": (
        [
            N("DequantizeLinear", ["x", "s0"], ["xr"]),
            N("DequantizeLinear", ["w", "ws", "wu"], ["wr"], axis=0),
            N("Conv", ["xr", "wr"], ["c"]),
            q("c", "y", 1),
        ],
        "int8",
        "wr (DequantizeLinear): w is int8, but its zero point is uint8; accepted: a zero point of",
    ),
    "the output is declared as another type": (
        [
            N("DequantizeLinear", ["x", "s0"], ["xr"]),
            N("MaxPool", ["xr"], ["p"], kernel_shape=[2, 2]),
            N("QuantizeLinear", ["p", "s0"], ["y"]),
        ],
        "int8",
        "y: the output is declared as int8, but the network computes uint8; accepted: the same",
    ),
}


@pytest.mark.parametrize(("nodes", "kind", "message"), MISTYPED.values(), ids=MISTYPED)
def test_types_that_contradict_each_other_are_rejected(nodes, kind, message, model):
    path = model(
        nodes,
        [1, 3, 4, 4],
        opset=25,
        dtype=getattr(TensorProto, kind.upper()),
        u=np.uint8(1),
        w=weights(4, 3, 1, 1),
        wu=np.zeros(4, np.uint8),
        **WEIGHT,
        **TWO,
    )
    with pytest.raises(ModelError) as caught:
        load(path)
    assert message in str(caught.value)


#: networks that are quantized in part, and the values that samples have to give a type
OPEN = {
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
        {"c"},
    ),
    "float weights": (
        [
            q("x", "xq", 0),
            dq("xq", "xr", 0),
            N("Conv", ["xr", "f"], ["c"], name="conv"),
            q("c", "cq", 1),
            dq("cq", "y", 1),
        ],
        set(),
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
        {"s"},
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
        {"s"},
    ),
    "joined with what is not quantized": (
        [
            q("x", "xq", 0),
            dq("xq", "xr", 0),
            N("Sigmoid", ["xr"], ["s"]),
            N("Concat", ["xr", "s"], ["c"], axis=1),
            N("Tanh", ["c"], ["t"]),
            q("t", "b", 1),
            dq("b", "y", 1),
        ],
        {"xq/open", "s", "c"},
    ),
    "a part with another scale": (
        [
            N("Split", ["x"], ["first", "second"], axis=1, num_outputs=2),
            q("first", "a", 0),
            dq("a", "ar", 0),
            q("second", "b", 1),
            dq("b", "br", 1),
            N("Add", ["ar", "br"], ["c"]),
            q("c", "cq", 1),
            dq("cq", "y", 1),
        ],
        {"x"},
    ),
}


@pytest.mark.parametrize(("nodes", "values"), OPEN.values(), ids=OPEN)
def test_a_network_that_is_quantized_in_part(model, rng, ort, nodes, values):
    """What is quantized stays so; samples give the rest its types; nothing is lost but steps."""
    path = model(
        nodes,
        [1, 4, 5, 5],
        opset=18,
        w=weights(4, 4, 1, 1),
        f=np.ones((4, 4, 1, 1), np.float32),
        **WEIGHT,
        **TWO,
    )
    graph = load(path)
    assert graph.open_values == values
    assert not graph.quantized
    x = rng.uniform(-2, 2, (40, 4, 5, 5)).astype(np.float32)
    typed = quantize(graph, x)
    assert all(value.quant in (None, typed.quant(n)) for n, value in graph.values.items())
    found = golden.host_output(typed, golden.run(typed, golden.host_input(typed, x)))["y"]
    wanted = ort(path, x)[0]
    assert np.abs(found - wanted).max() <= 3 * scale(0.05) + 1e-6


REJECTED = {
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


@pytest.mark.parametrize("dtype", [np.int16, np.uint16])
def test_a_clip_that_the_reference_runtime_lacks_is_written_in_another_type(dtype, model, tmp_path):
    """ONNX clips 16-bit integers, ONNX Runtime does not."""
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        W,
        N("Conv", ["xr", "wr"], ["c"]),
        q("c", "cq", 2),
        clip("cq", "cc", "lo", "hi"),
        dq("cc", "y", 2),
    ]
    more = quants(_2=(0.002, dtype(5))) | {"lo": dtype(0), "hi": dtype(2047)}
    path = clipped(model, nodes, opset=21, **more)
    graph = load(path)
    assert graph.quant("cc") == ir.Quant(ir.Int(11, False), scale(0.002), 5)
    assert not graph.verbatim
    with pytest.raises(DataError, match=r"ONNX Runtime .* can not load it"):
        Runtime(path)
    write_qdq(graph, tmp_path / "written.onnx")
    (op,), (again,) = graph, load(tmp_path / "written.onnx")
    assert again.clamp == op.clamp
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 5)).astype(np.float32)
    (seen,) = Runtime(tmp_path / "written.onnx").run(x).values()
    (found,) = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x))).values()
    assert np.abs(seen - found).max() < 1.01 * scale(0.002)


@pytest.mark.parametrize(
    ("kind", "wide"), [(TensorProto.INT4, "int8"), (TensorProto.UINT4, "uint8")]
)
def test_a_clip_that_onnx_lacks_is_rejected(kind, wide, model):
    dtype = ir.Int(4, kind == TensorProto.INT4)
    nodes = [
        q("x", "xq", 2),
        clip("xq", "xc", "z2", "z2"),
        dq("xc", "xr", 2),
        W,
        N("Conv", ["xr", "wr"], ["y"]),
    ]
    path = clipped(model, nodes, opset=21, s2=np.float32(0.5), z2=array_of(np.array(2), dtype))
    with pytest.raises(ModelError, match=f"clips u?int4, which ONNX does not; accepted: {wide}"):
        load(path)


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


def test_scales_a_channel_lie_on_axis_one_unless_told(model, agrees):
    """ONNX' default axis: the output features of a MatMul's weight, here as many as inputs."""
    scales = {"ws": np.float32([0.01, 0.05, 0.002]), "wz": np.zeros(3, np.int8)}
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("DequantizeLinear", ["w", "ws", "wz"], ["wr"]),
        N("MatMul", ["xr", "wr"], ["a"]),
        q("a", "aq", 1),
        dq("aq", "y", 1),
    ]
    graph = agrees(model(nodes, [1, 3], w=weights(3, 3), **scales, **TWO), frames=20)
    (conv,) = (op for op in graph if isinstance(op, ir.Conv))
    assert conv.weight_scale.tolist() == scales["ws"].tolist()


def test_an_unsigned_output_saturates_at_255_and_not_at_127(model, agrees, run):
    unsigned = quants(_0=(0.01, np.uint8(100)), _1=(0.004, np.uint8(20)))
    nodes = [
        q("x", "xq", 0),
        dq("xq", "xr", 0),
        N("Relu", ["xr"], ["r"]),
        q("r", "rq", 1),
        dq("rq", "y", 1),
    ]
    path = model(nodes, [1, 2, 3, 3], **unsigned)
    graph = agrees(path, frames=20)
    x = np.linspace(-1.5, 1.5, 18, dtype=np.float32).reshape(1, 2, 3, 3)
    _, values = run(graph, x)
    assert values[graph.outputs[0].value].max() == 255


@pytest.mark.parametrize("slopes", [[13, -127, 64], [13, -127, 90]], ids=["up to 1", "beyond 1"])
@pytest.mark.parametrize("zero", [-128, 5])
def test_integer_slopes_of_each_channel_are_exact(model, rng, ort, slopes, zero):
    """Scales are powers of two, so ONNX Runtime is exact."""
    nodes = [
        dq("x", "xr", 0),
        N("DequantizeLinear", ["s", "ss"], ["sr"]),
        N("PRelu", ["xr", "sr"], ["p"]),
        q("p", "y", 1),
    ]
    path = model(
        nodes,
        [1, 3, 4, 5],
        dtype=TensorProto.INT8,
        s=np.int8(slopes).reshape(3, 1, 1),
        ss=np.float32(2.0**-6),
        **quants(_0=(2.0**-4, np.int8(zero)), _1=(2.0**-3, np.int8(7))),
    )
    graph = load(path)
    x = rng.integers(-128, 128, (20, 3, 4, 5)).astype(np.int8)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    np.testing.assert_array_equal(found, ort(path, x)[0])


def test_slopes_whose_products_no_type_holds_are_refused(model):
    nodes = [dq("x", "xr", 0), N("PRelu", ["xr", "s"], ["p"], name="n"), q("p", "y", 1)]
    path = model(
        nodes,
        [1, 3, 4, 5],
        dtype=TensorProto.INT8,
        s=np.float32([0.1, 0.2, 0.3]).reshape(3, 1, 1),
        **TWO,
    )
    with pytest.raises(ModelError, match=r"^n \(PRelu\): has different slopes on quantized values"):
        load(path)


def test_an_integer_constant_may_differ_from_pixel_to_pixel(model, rng, ort):
    nodes = [
        dq("x", "xr", 0),
        N("DequantizeLinear", ["k", "ks"], ["kr"]),
        N("Add", ["xr", "kr"], ["a"]),
        q("a", "y", 1),
    ]
    path = model(
        nodes,
        [1, 3, 4, 5],
        dtype=TensorProto.INT8,
        k=weights(3, 4, 5),
        ks=np.float32(2.0**-3),
        **quants(_0=(2.0**-4, np.int8(3)), _1=(2.0**-2, np.int8(7))),
    )
    graph = load(path)
    x = rng.integers(-128, 128, (20, 3, 4, 5)).astype(np.int8)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    np.testing.assert_array_equal(found, ort(path, x)[0])

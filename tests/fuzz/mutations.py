"""Seeded mutations of networks, plans, samples and serial replies."""

import io
import json
import random

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["dialect", "mutate_network", "mutated_bytes", "mutated_json", "network", "samples"]

N = helper.make_node

NASTY_NUMBERS = (
    0,
    1,
    -1,
    2,
    3,
    7,
    99,
    -99,
    255,
    65536,
    1 << 20,
    1 << 31,
    1 << 40,
    1 << 62,
    -(1 << 63),
)
NASTY_FLOATS = (0.0, -1.0, 1e-45, 3e38, 1e300, float("nan"), float("inf"), -float("inf"))
NASTY_NAMES = (
    "",
    "[/bold]",
    "[red]x",
    "\x1b[31mx",
    "a\nb",
    "x" * 3000,
    "<b>&",
    "\u202e",
    "../a",
    "file",
)
OPERATORS = (
    *("Conv", "Gemm", "MatMul", "BatchNormalization", "Relu", "Clip", "Sigmoid", "MaxPool"),
    *(
        "AveragePool",
        "GlobalAveragePool",
        "ReduceMean",
        "Pad",
        "Concat",
        "Add",
        "Mul",
        "Div",
        "Sub",
    ),
    *("Flatten", "Reshape", "Transpose", "Softmax", "ArgMax", "Squeeze", "Unsqueeze", "Gather"),
    *("Slice", "Cast", "Shape", "Expand", "Tile", "Range", "ConstantOfShape", "If", "Loop", "Scan"),
    *(
        "RandomNormal",
        "QuantizeLinear",
        "DequantizeLinear",
        "Identity",
        "Dropout",
        "Split",
        "Einsum",
    ),
    *("PRelu", "LeakyRelu", "HardSigmoid", "DepthToSpace", "SpaceToDepth", "Constant", "Where"),
)


# -- networks --------------------------------------------------------------------------------------


def network(rng: random.Random) -> onnx.ModelProto:
    """One of the small networks below, before any mutation."""
    builds = (_floats, _quantized, _computed, _moved, _recurrent, _attended, _bordered)
    return rng.choice(builds)(np.random.default_rng(rng.randrange(99)))


def _model(nodes, shape, constants, opset=17, outputs=("y",)) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _floats(draw: np.random.Generator) -> onnx.ModelProto:
    """Every kind of layer."""

    def weights(*shape):
        return draw.normal(size=shape).astype(np.float32)

    nodes = [
        N("Pad", ["x", "pads", "zero"], ["p"], name="pad"),
        N("Conv", ["p", "w1", "b1"], ["c1"], name="conv", kernel_shape=[3, 3], strides=[1, 1]),
        N("BatchNormalization", ["c1", "g", "b1", "m", "v"], ["n"], name="bn", epsilon=1e-5),
        N("Relu", ["n"], ["r"], name="relu"),
        N("MaxPool", ["r"], ["m1"], name="pool", kernel_shape=[2, 2], strides=[2, 2]),
        N("Conv", ["m1", "w2"], ["d"], name="depthwise", group=3, pads=[1, 1, 1, 1]),
        N("LeakyRelu", ["d"], ["l"], name="leaky", alpha=0.25),
        N("Add", ["m1", "l"], ["s"], name="add"),
        N("Concat", ["s", "m1"], ["k"], name="concat", axis=1),
        N("AveragePool", ["k"], ["a"], name="mean", kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        N("Clip", ["a", "zero", "six"], ["cl"], name="clip"),
        N("ReduceMean", ["cl"], ["rm"], name="reduce", axes=[2, 3], keepdims=0),
        N("Gemm", ["rm", "w3", "b3"], ["g1"], name="dense", transB=1, alpha=1.0),
        N("Mul", ["g1", "six"], ["y1"], name="mul"),
        N("Softmax", ["y1"], ["y"], name="softmax", axis=1),
    ]
    constants = {
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
        "zero": np.float32(0),
        "six": np.float32(6),
        "w1": weights(3, 2, 3, 3),
        "b1": weights(3),
        "g": weights(3),
        "m": weights(3),
        "v": np.ones(3, np.float32),
        "w2": weights(3, 1, 3, 3),
        "w3": weights(4, 6),
        "b3": weights(4),
    }
    return _model(nodes, (2, 8, 8), constants)


def _quantized(draw: np.random.Generator) -> onnx.ModelProto:
    """A convolution and a dense layer in QDQ format."""
    nodes = [
        N("QuantizeLinear", ["x", "sx", "z"], ["xq"], name="xQ"),
        N("DequantizeLinear", ["xq", "sx", "z"], ["xd"], name="xD"),
        N("DequantizeLinear", ["w1", "s1", "z1"], ["w1d"], name="w1D", axis=0),
        N("Conv", ["xd", "w1d"], ["c"], name="conv", pads=[1, 1, 1, 1], dilations=[1, 1]),
        N("QuantizeLinear", ["c", "sx", "z"], ["cq"], name="cQ"),
        N("DequantizeLinear", ["cq", "sx", "z"], ["cd"], name="cD"),
        N("Flatten", ["cd"], ["f"], name="flat", axis=1),
        N("DequantizeLinear", ["w2", "sx", "z"], ["w2d"], name="w2D"),
        N("MatMul", ["f", "w2d"], ["m"], name="dense"),
        N("QuantizeLinear", ["m", "sx", "z"], ["mq"], name="mQ"),
        N("DequantizeLinear", ["mq", "sx", "z"], ["md"], name="mD"),
        N("ArgMax", ["md"], ["y"], name="argmax", axis=1, keepdims=0),
    ]
    constants = {
        "sx": np.float32(0.125),
        "z": np.int8(0),
        "s1": np.float32([0.5, 0.25]),
        "z1": np.int8([0, 0]),
        "w1": draw.integers(-9, 9, (2, 1, 3, 3)).astype(np.int8),
        "w2": draw.integers(-9, 9, (50, 3)).astype(np.int8),
    }
    model = _model(nodes, (1, 5, 5), constants)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def _computed(draw: np.random.Generator) -> onnx.ModelProto:
    """Constants computed from constants and from shapes, on the way to a reshape and a factor."""
    nodes = [
        N("Shape", ["x"], ["s"], name="shape"),
        N("Gather", ["s", "i0"], ["n"], name="gather", axis=0),
        N("Unsqueeze", ["n", "i0"], ["u"], name="unsqueeze"),
        N("Concat", ["u", "rest"], ["target"], name="target", axis=0),
        N("ConstantOfShape", ["four"], ["zeros"], name="zeros"),
        N("Expand", ["one", "four"], ["ones"], name="ones"),
        N("Add", ["zeros", "ones"], ["f1"], name="sum"),
        N("Range", ["i0", "i4", "i1"], ["r"], name="range"),
        N("Cast", ["r"], ["rf"], name="cast", to=TensorProto.FLOAT),
        N("Mul", ["f1", "rf"], ["f"], name="product"),
        N("Tile", ["f", "i1s"], ["ft"], name="tile"),
        N("Reshape", ["x", "target"], ["v"], name="reshape"),
        N("Mul", ["v", "ft"], ["w"], name="scale"),
        N("Transpose", ["k"], ["kt"], name="turn", perm=[1, 0]),
        N("MatMul", ["w", "kt"], ["y"], name="dense"),
    ]
    constants = {
        "i0": np.int64(0),
        "i1": np.int64(1),
        "i4": np.int64(4),
        "i1s": np.array([1]),
        "rest": np.array([4]),
        "four": np.array([4]),
        "one": np.float32(1),
        "k": draw.normal(size=(3, 4)).astype(np.float32),
    }
    return _model(nodes, (2, 2), constants)


def _moved(draw: np.random.Generator) -> onnx.ModelProto:
    """Elements in other orders, repeated, left out and interpolated."""
    nodes = [
        N("Transpose", ["x"], ["t"], name="turn", perm=[0, 2, 3, 1]),
        N("Slice", ["t", "one", "end", "axis", "one"], ["s"], name="slice"),
        N("Gather", ["s", "back"], ["g"], name="gather", axis=3),
        N("Transpose", ["g"], ["u"], name="return", perm=[0, 3, 1, 2]),
        N("Tile", ["u", "twice"], ["k"], name="tile"),
        N("Split", ["k"], ["a", "b"], name="split", axis=1, num_outputs=2),
        N("Resize", ["a", "", "scales"], ["r"], name="resize", mode="linear",
          coordinate_transformation_mode="asymmetric"),
        N("Conv", ["b", "w"], ["c"], name="conv"),
        N("Expand", ["c", "shape"], ["e"], name="expand"),
        N("Pad", ["e", "pads", "", "axes"], ["p"], name="pad", mode="reflect"),
        N("ConvTranspose", ["p", "w2"], ["v"], name="up", strides=[2, 2], output_padding=[1, 1]),
        N("ReduceMax", ["v", "axes"], ["m"], name="largest", keepdims=0),
        N("ReduceL2", ["r", "axes"], ["l"], name="length", keepdims=0),
        N("Concat", ["m", "l"], ["y"], name="join", axis=1),
    ]  # fmt: skip
    constants = {
        "one": np.array([1]),
        "end": np.array([1 << 62]),
        "axis": np.array([1]),
        "back": np.array([1, 0, -1]),
        "twice": np.array([1, 2, 1, 1]),
        "scales": np.float32([1, 1, 2, 2]),
        "shape": np.array([1, 4, 1, 1]),
        "pads": np.array([1, 1, 1, 1]),
        "axes": np.array([2, 3]),
        "w": draw.normal(size=(4, 3, 1, 1)).astype(np.float32),
        "w2": draw.normal(size=(4, 2, 2, 2)).astype(np.float32),
    }
    return _model(nodes, (2, 4, 4), constants, opset=18)


def _recurrent(draw: np.random.Generator) -> onnx.ModelProto:
    """A recurrent layer over a few steps, its last state, and a dense layer."""
    kind, gates = (("LSTM", 4), ("GRU", 3), ("RNN", 1))[draw.integers(3)]

    def weights(*shape):
        return draw.normal(size=shape).astype(np.float32)

    nodes = [
        N("Transpose", ["x"], ["t"], name="steps", perm=[1, 0, 2]),
        N(kind, ["t", "w", "r", "b"], ["h", "last"], name="recurrent", hidden_size=3),
        N("Squeeze", ["last", "zero"], ["s"], name="squeeze"),
        N("Gemm", ["s", "m"], ["g"], name="dense"),
        N("Sigmoid", ["g"], ["k"], name="gate"),
        N("Mul", ["g", "k"], ["f"], name="swish"),
        N("LayerNormalization", ["f", "l"], ["y"], name="norm", axis=-1),
    ]
    constants = {
        "w": weights(1, gates * 3, 2),
        "r": weights(1, gates * 3, 3),
        "b": weights(1, 2 * gates * 3),
        "zero": np.array([0]),
        "m": weights(3, 4),
        "l": weights(4),
    }
    return _model(nodes, (4, 2), constants)


def _attended(draw: np.random.Generator) -> onnx.ModelProto:
    """Products of activations, functions of several nodes, conditions."""

    def weights(*shape):
        return draw.normal(size=shape).astype(np.float32)

    nodes = [
        N("MatMul", ["x", "wq"], ["q"], name="query"),
        N("MatMul", ["x", "wk"], ["k"], name="key"),
        N("Transpose", ["k"], ["kt"], name="turn", perm=[0, 2, 1]),
        N("MatMul", ["q", "kt"], ["s"], name="scores"),
        N("Mul", ["s", "half"], ["sc"], name="scale"),
        N("Sigmoid", ["sc"], ["p"], name="weights"),
        N("MatMul", ["p", "x"], ["a"], name="values"),
        N("Add", ["a", "x"], ["r"], name="residual"),
        N("Mul", ["r", "half"], ["h"], name="halve"),
        N("Erf", ["h"], ["e"], name="erf"),
        N("Add", ["e", "half"], ["e1"], name="shift"),
        N("Mul", ["r", "e1"], ["g"], name="gelu"),
        N("Greater", ["g", "half"], ["c"], name="compare"),
        N("Where", ["c", "g", "x"], ["w"], name="choose"),
        N("ReduceMean", ["w"], ["y"], name="mean", axes=[1], keepdims=0),
    ]
    constants = {"wq": weights(4, 4), "wk": weights(4, 4), "half": np.float32(0.5)}
    return _model(nodes, (3, 4), constants)


def _bordered(draw: np.random.Generator) -> onnx.ModelProto:
    """A head and a tail that have no hardware around a convolution."""

    def weights(*shape):
        return draw.normal(size=shape).astype(np.float32)

    nodes = [
        N("CumSum", ["x", "axis"], ["h"], name="head"),
        N("Conv", ["h", "w"], ["c"], name="conv"),
        N("Relu", ["c"], ["r"], name="relu"),
        N("Shape", ["r"], ["s"], name="shape"),
        N("Slice", ["s", "zero", "one"], ["n"], name="batch"),
        N("Concat", ["n", "rest"], ["target"], name="target", axis=0),
        N("Reshape", ["r", "target"], ["f"], name="reshape"),
        N("NonZero", ["f"], ["z"], name="tail"),
        N("Cast", ["z"], ["y"], name="cast", to=TensorProto.FLOAT),
    ]
    constants = {
        "axis": np.int64(2),
        "w": weights(3, 2, 2, 2),
        "zero": np.array([0]),
        "one": np.array([1]),
        "rest": np.array([-1]),
    }
    return _model(nodes, (2, 4, 4), constants)


QONNX, MICROSOFT = "qonnx.custom_op.general", "com.microsoft"


def dialect(rng: random.Random) -> onnx.ModelProto:
    """One of the small networks below in another dialect of quantization."""
    build = rng.choice((_qoperator, _sums, _qonnx, _integers, _branches))
    model = build(np.random.default_rng(rng.randrange(99)))
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in (QONNX, MICROSOFT))
    return model


def _qoperator(draw: np.random.Generator) -> onnx.ModelProto:
    pair = ["sx", "z"]
    nodes = [
        N("QuantizeLinear", ["x", *pair], ["xq"], name="enter"),
        N("QLinearConv", ["xq", *pair, "w", *pair, *pair, "b"], ["c"], name="conv", strides=[1, 1]),
        N("QLinearSigmoid", ["c", *pair, *pair], ["s"], name="sigmoid", domain=MICROSOFT),
        N("QLinearAdd", ["c", *pair, "s", *pair, *pair], ["a"], name="add", domain=MICROSOFT),
        N("QLinearConcat", [*pair, "a", *pair, "s", *pair], ["k"], name="join", axis=1,
          domain=MICROSOFT),
        N("QLinearAveragePool", ["k", *pair, *pair], ["p"], name="pool", kernel_shape=[2, 2],
          channels_last=0, domain=MICROSOFT),
        N("Flatten", ["p"], ["f"], name="flat"),
        N("QGemm", ["f", *pair, "m", *pair, "b3", *pair], ["g"], name="gemm", alpha=0.5,
          domain=MICROSOFT),
        N("DequantizeLinear", ["g", *pair], ["y"], name="leave"),
    ]  # fmt: skip
    constants = {
        "sx": np.float32(0.125),
        "z": np.int8(0),
        "w": draw.integers(-9, 9, (2, 1, 2, 2)).astype(np.int8),
        "b": draw.integers(-99, 99, 2).astype(np.int32),
        "m": draw.integers(-9, 9, (16, 3)).astype(np.int8),
        "b3": draw.integers(-99, 99, 3).astype(np.int32),
    }
    return _model(nodes, (1, 4, 4), constants)


def _sums(draw: np.random.Generator) -> onnx.ModelProto:
    nodes = [
        N("DynamicQuantizeLinear", ["x"], ["q", "s", "z"], name="enter"),
        N("Mul", ["s", "sw"], ["both"], name="scales"),
        N("ConvInteger", ["q", "w", "z", "zw"], ["t"], name="conv", pads=[0, 1, 1, 0]),
        N("Cast", ["t"], ["f"], name="cast", to=TensorProto.FLOAT),
        N("Mul", ["f", "both"], ["r"], name="scale"),
        N("Flatten", ["r"], ["v"], name="flat"),
        N("DynamicQuantizeMatMul", ["v", "m", "sw", "zw"], ["y"], name="dense", domain=MICROSOFT),
    ]
    constants = {
        "sw": np.float32(0.125),
        "zw": np.uint8(7),
        "w": draw.integers(0, 99, (2, 1, 2, 2)).astype(np.uint8),
        "m": draw.integers(0, 99, (32, 3)).astype(np.uint8),
    }
    return _model(nodes, (1, 4, 4), constants)


def _qonnx(draw: np.random.Generator) -> onnx.ModelProto:
    ends = ["s", "none", "bits"]
    nodes = [
        N("Quant", ["x", *ends], ["xq"], name="enter", domain=QONNX, signed=1, narrow=0),
        N("Quant", ["w", "each", "none", "bits"], ["wq"], name="weight", domain=QONNX, narrow=1),
        N("Conv", ["xq", "wq"], ["c"], name="conv"),
        N("BipolarQuant", ["c", "s"], ["b"], name="sign", domain=QONNX),
        N("AveragePool", ["b"], ["a"], name="pool", kernel_shape=[2, 2]),
        N("Trunc", ["a", *ends, "few"], ["t"], name="trunc", domain=QONNX, rounding_mode="FLOOR"),
        N("Clip", ["t", "least", "s"], ["k"], name="clip"),
        N("BipolarQuant", ["k", "s"], ["y"], name="leave", domain=QONNX),
    ]
    constants = {
        "s": np.float32(0.5),
        "each": np.float32([0.5, 0.25]).reshape(2, 1, 1, 1),
        "none": np.float32(0),
        "bits": np.float32(4),
        "few": np.float32(2),
        "least": np.float32(-1),
        "w": draw.normal(size=(2, 1, 2, 2)).astype(np.float32),
    }
    return _model(nodes, (1, 4, 4), constants)


def _integers(draw: np.random.Generator) -> onnx.ModelProto:
    nodes = [
        N("Conv", ["x", "w"], ["c"], name="conv"),
        N("Mul", ["c", "k"], ["m"], name="times"),
        N("Add", ["m", "l"], ["s"], name="plus"),
        N("Div", ["s", "d"], ["q"], name="by"),
        N("Floor", ["q"], ["f"], name="floor"),
        N("Clip", ["f", "low", "high"], ["p"], name="clip"),
        N("Cast", ["p"], ["i"], name="cast", to=TensorProto.INT64),
        N("Mul", ["i", "two"], ["i2"], name="double"),
        N("Div", ["i2", "two"], ["i3"], name="halve"),
        N("Cast", ["i3"], ["r"], name="real", to=TensorProto.FLOAT),
        N("Clip", ["r", "low", "high"], ["r2"], name="again"),
        N("Add", ["r2", "p"], ["a"], name="sum", add_bits=8),
        N("Flatten", ["a"], ["v"], name="flat"),
        N("MatMul", ["v", "g"], ["y"], name="dense", weight_bits=8),
    ]
    constants = {
        "w": draw.integers(-9, 9, (2, 1, 2, 2)).astype(np.float32),
        "k": draw.integers(1, 99, (2, 1, 1)).astype(np.float32),
        "l": draw.integers(-999, 999, (2, 1, 1)).astype(np.float32),
        "d": np.float32(64),
        "two": np.int64(2),
        "low": np.float32(0),
        "high": np.float32(255),
        "g": draw.integers(-9, 9, (18, 3)).astype(np.float32),
    }
    return _model(nodes, (1, 4, 4), constants)


def _branches(draw: np.random.Generator) -> onnx.ModelProto:
    def branch(*nodes):
        info = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
        return helper.make_graph(nodes, "branch", [], [info])

    nodes = [
        N("Cast", ["x"], ["h"], name="half", to=TensorProto.FLOAT16),
        N("Conv", ["h", "w"], ["c"], name="conv"),
        N("Shape", ["c"], ["s"], name="shape"),
        N("Gather", ["s", "one"], ["n"], name="gather", axis=0),
        N("Equal", ["n", "one"], ["k"], name="equal"),
        N("If", ["k"], ["y"], name="choose",
          then_branch=branch(N("Squeeze", ["c", "axes"], ["t"])),
          else_branch=branch(N("Relu", ["c"], ["u"]), N("Tanh", ["u"], ["t"]))),
    ]  # fmt: skip
    constants = {
        "w": draw.normal(size=(2, 1, 2, 2)).astype(np.float16),
        "one": np.int64(1),
        "axes": np.int64([1]),
    }
    return _model(nodes, (1, 4, 4), constants)


def mutate_network(model: onnx.ModelProto, rng: random.Random) -> None:
    """One to three changes of what a file may hold."""
    for _ in range(rng.randint(1, 3)):
        rng.choice(NETWORK_MUTATIONS)(model.graph, rng)


def _attribute(graph, rng):
    node = rng.choice(graph.node)
    if not node.attribute:
        node.attribute.add(name=rng.choice(("axis", "pads", "group", "kernel_shape")), i=1, type=2)
    attribute = rng.choice(node.attribute)
    kind = rng.randrange(6)
    if kind == 0:
        node.attribute.remove(attribute)
    elif kind == 1:
        attribute.type = rng.randrange(14)
    elif kind == 2:
        node.attribute.append(attribute)
    elif kind == 3 and attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(NASTY_NUMBERS)
    elif kind == 4 and attribute.ints:
        if rng.random() < 0.5:
            del attribute.ints[-1]
        else:
            attribute.ints.extend([1] * rng.choice((1, 2, 1000)))
    else:
        attribute.i, attribute.f = rng.choice(NASTY_NUMBERS), rng.choice(NASTY_FLOATS[:4])
        if rng.random() < 0.3:
            attribute.f = rng.choice((float("nan"), float("inf")))
        attribute.s = rng.choice((b"", b"BOGUS", b"SAME_LOWER", b"\xff"))


def _operator(graph, rng):
    rng.choice(graph.node).op_type = rng.choice(OPERATORS)


def _operands(graph, rng):
    node = rng.choice(graph.node)
    names = [name for other in graph.node for name in (*other.input, *other.output)] + ["", "ghost"]
    kind = rng.randrange(4)
    if kind == 0 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(names)
    elif kind == 1 and node.input:
        del node.input[-1]
    elif kind == 2:
        node.input.append(rng.choice(names))
    else:
        node.output[rng.randrange(len(node.output))] = rng.choice(names)


def _name(graph, rng):
    old, new = rng.choice(graph.node).output[0], rng.choice(NASTY_NAMES)
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
        if rng.random() < 0.3:
            node.name = new
    for info in graph.output:
        info.name = new if info.name == old else info.name


def _dtype(tensor):
    return helper.tensor_dtype_to_np_dtype(tensor.data_type)


def _tensor(graph, rng):
    tensor = rng.choice(graph.initializer)
    kind = rng.randrange(5)
    if kind == 0 and tensor.dims:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(NASTY_NUMBERS)
    elif kind == 1:
        tensor.data_type = rng.randrange(28)
    elif kind == 2:
        tensor.raw_data = tensor.raw_data[: rng.randrange(len(tensor.raw_data) + 1)]
    elif kind == 3 and tensor.data_type in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT8):
        array = np.zeros([n for n in tensor.dims if 0 <= n < 99], _dtype(tensor))
        nasty = NASTY_FLOATS if array.dtype.kind == "f" else NASTY_NUMBERS
        with np.errstate(all="ignore"):
            value = np.full(array.shape, rng.choice(nasty)).astype(array.dtype)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    else:
        shape = [rng.randrange(4) for _ in range(rng.randrange(5))]
        array = np.ones(shape, rng.choice((np.float32, np.int64, np.int8, np.float64, np.float16)))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def _port(graph, rng):
    info = rng.choice((*graph.input, *graph.output))
    kind = rng.randrange(5)
    shape = info.type.tensor_type.shape
    if kind == 0 and shape.dim:
        rng.choice(shape.dim).dim_value = rng.choice(NASTY_NUMBERS)
    elif kind == 1:
        info.type.tensor_type.elem_type = rng.randrange(28)
    elif kind == 2:
        shape.dim.add(dim_value=rng.choice(NASTY_NUMBERS))
    elif kind == 3 and shape.dim:
        del shape.dim[-1]
    else:
        info.name = rng.choice(NASTY_NAMES)


def _repeat(graph, rng):
    """Nodes that are missing, doubled, or in another order."""
    number = rng.randrange(len(graph.node))
    kind = rng.randrange(3)
    if kind == 0 and len(graph.node) > 1:
        del graph.node[number]
    elif kind == 1:
        graph.node.append(graph.node[number])
    else:
        nodes = list(graph.node)
        rng.shuffle(nodes)
        del graph.node[:]
        graph.node.extend(nodes)


NETWORK_MUTATIONS = (
    *(_attribute, _attribute, _operator, _operands, _operands),
    *(_name, _tensor, _tensor, _port, _repeat),
)


# -- other files -----------------------------------------------------------------------------------


def mutated_bytes(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, removed or added, or the end cut off."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        at = rng.randrange(len(changed)) if changed else 0
        kind = rng.randrange(5)
        if kind < 2 and changed:
            changed[at] = rng.randrange(256)
        elif kind == 2:
            del changed[at : at + rng.choice((1, 4, 64))]
        elif kind == 3:
            changed[at:at] = rng.randbytes(rng.choice((1, 8)))
        elif rng.random() < 0.2:
            del changed[at:]
    return bytes(changed)


def mutated_json(text: str, rng: random.Random) -> bytes:
    """A value replaced, or a key renamed, removed or doubled; or the bytes changed."""
    if rng.random() < 0.25:
        return mutated_bytes(text.encode(), rng)
    content = json.loads(text)
    places = list(_places(content))
    values = (*NASTY_NUMBERS, *NASTY_FLOATS, *NASTY_NAMES, None, True, [], {}, [[]], 10**400)
    for _ in range(rng.randint(1, 2)):
        parent, key = rng.choice(places)
        kind = rng.randrange(4)
        if kind == 0 and isinstance(parent, dict) and key in parent:
            parent[rng.choice((*NASTY_NAMES, "hard"))] = parent.pop(key)
        elif kind == 1 and isinstance(parent, dict):
            parent.pop(key, None)
        elif kind == 2 and isinstance(parent, list):
            parent.append(json.loads(json.dumps(parent[-1])) if parent else 7)
        elif isinstance(parent, dict) or len(parent) > key:
            parent[key] = rng.choice(values)
    encoded = json.dumps(content).encode(rng.choice(("utf-8",) * 9 + ("utf-16",)))
    return encoded


def _places(value):
    """(container, key) of every value inside."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, child in items:
        yield value, key
        if isinstance(child, dict | list):
            yield from _places(child)


def samples(rng: random.Random, shape: tuple[int, ...]) -> bytes:
    """A mutated ``.npz`` or ``.npy`` of arrays ``x`` [3, *shape] and ``y``."""
    draw = np.random.default_rng(rng.randrange(99))
    dtype = rng.choice(
        (np.float32, np.float64, np.uint8, np.float16, np.complex64, "U3", ">f4", bool)
    )
    with np.errstate(all="ignore"):
        x = (20 * draw.normal(size=(3, *shape))).astype(np.complex64).real.astype(dtype)
    if rng.random() < 0.2:
        x = rng.choice(
            (x[:0], x[0], x.T, np.asfortranarray(x), np.full_like(x, np.nan, np.float32))
        )
    file = io.BytesIO()
    if rng.random() < 0.5:
        np.save(file, x)
    else:
        rng.choice((np.savez, np.savez_compressed))(file, x=x, y=np.arange(3))
    data = file.getvalue()
    if rng.random() < 0.4:  # a header that claims another shape
        claim = str(rng.choice(NASTY_NUMBERS)).encode()
        return data.replace(b"(3, ", b"(" + claim + b", ")
    return mutated_bytes(data, rng)

"""Other dialects of quantization compute what ONNX Runtime does, and become the standard file."""

import numpy as np
import onnx
import pytest
from gatewright import boards
from gatewright.compiler import ir
from gatewright.compiler.driver import compile_model
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.dialects import qoperator
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.quantize import quantize
from gatewright.sim import golden
from onnx import TensorProto, helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)

from ..evaluation import evaluate
from .conftest import reference_runtime, steps

N = helper.make_node
MICROSOFT = "com.microsoft"


def outputs(graph, x):
    """What the golden model gives for model inputs ``x``."""
    values = golden.run(graph, golden.host_input(graph, x))
    (found,) = golden.host_output(graph, values).values()
    return found


@pytest.fixture
def standard(rng, tmp_path):
    """Load a model of a dialect, check it against ONNX Runtime, and its standard file too; returns
    the graph of that file.
    """

    def check(path, frames=40, low=-1.0, high=1.0):
        graph = load(path)
        assert graph.quantized
        assert not graph.verbatim
        written = tmp_path / "standard.onnx"
        write_qdq(graph, written)
        again = load(written)
        assert again.verbatim
        (port,) = graph.inputs
        x = rng.uniform(low, high, (frames, *port.shape)).astype(np.float32)
        if port.integer:
            ends = port.integer.low, port.integer.high
            size = (frames, *port.shape)
            x = rng.integers(*ends, size, endpoint=True).astype(port.array_type)
        found = outputs(again, x)
        assert np.ptp(found) > 0
        for file in (path, written):
            wanted = reference_runtime(file, x)[0].reshape(found.shape)
            assert found.dtype == wanted.dtype
            assert steps(again, found, wanted) <= 1
            # a step apart is a rare tie that float32 rounds to the other side
            assert np.isclose(found, wanted, rtol=1e-6, atol=1e-6).mean() > 0.999
        return again

    return check


# -- QOperator -------------------------------------------------------------------------------------


def integers(*shape, dtype=np.int8, seed=3):
    info = np.iinfo(dtype)
    size = np.random.default_rng(seed)
    return size.integers(info.min, info.max, shape, endpoint=True).astype(dtype)


def scales(**pairs):
    """``x=(scale, zero)`` as the initializers sx, zx."""
    table = {}
    for name, (scale, zero) in pairs.items():
        table |= {f"s{name}": np.float32(scale), f"z{name}": zero}
    return table


X, Y = (0.01131, np.uint8(120)), (0.05273, np.uint8(100))
W = (0.003171, np.int8(0))
OF_X, OF_W, OF_Y = ["xq", "sx", "zx"], ["w", "sw", "zw"], ["sy", "zy"]
ENTER = N("QuantizeLinear", ["x", "sx", "zx"], ["xq"])
ROUND = N("QuantizeLinear", ["r", "sy", "zy"], ["yq"])
LEAVE = N("DequantizeLinear", ["yq", "sy", "zy"], ["y"])


def conv(**attributes):
    return N("QLinearConv", [*OF_X, *OF_W, *OF_Y, "b"], ["yq"], **attributes)


def microsoft(op, inputs, **attributes):
    return N(op, inputs, ["yq"], domain=MICROSOFT, **attributes)


BIAS = np.random.default_rng(8).integers(-30000, 30000, 4).astype(np.int32)
PER_CHANNEL = {"sw": np.float32([0.0031, 0.00107, 0.0213, 0.00041]), "zw": np.zeros(4, np.int8)}
KERNEL = {"w": integers(4, 3, 3, 3), "b": BIAS}
MATRIX = integers(6, 4)

#: nodes, shape of the input, initializers
OPERATORS = {
    "QLinearConv": ([conv()], (3, 6, 5), KERNEL | scales(x=X, w=W, y=Y)),
    "QLinearConv with pads and strides": (
        [conv(pads=[1, 0, 1, 1], strides=[2, 1])],
        (3, 6, 5),
        KERNEL | scales(x=X, w=W, y=Y),
    ),
    "QLinearConv per channel": ([conv()], (3, 6, 5), KERNEL | scales(x=X, y=Y) | PER_CHANNEL),
    "QLinearConv of unsigned weights": (
        [conv()],
        (3, 6, 5),
        {"w": integers(4, 3, 3, 3, dtype=np.uint8), "b": BIAS}
        | scales(x=X, w=(0.003, np.uint8(131)), y=Y),
    ),
    "QLinearConv of signed maps": (
        [conv()],
        (3, 6, 5),
        KERNEL | scales(x=(0.01, np.int8(-3)), w=W, y=(0.05, np.int8(7))),
    ),
    "QLinearConv in groups": (
        [conv(group=2)],
        (4, 6, 5),
        {"w": integers(4, 2, 3, 3), "b": BIAS} | scales(x=X, w=W, y=Y),
    ),
    "QLinearConv without bias": (
        [N("QLinearConv", [*OF_X, *OF_W, *OF_Y], ["yq"])],
        (3, 6, 5),
        {"w": KERNEL["w"]} | scales(x=X, w=W, y=Y),
    ),
    "QLinearConv of channels on the last axis": (
        [microsoft("QLinearConv", [*OF_X, *OF_W, *OF_Y, "b"], channels_last=1)],
        (6, 5, 3),
        KERNEL | scales(x=X, w=W, y=Y),
    ),
    "QLinearConv of one dimension": (
        [conv()],
        (3, 9),
        {"w": integers(4, 3, 3), "b": BIAS} | scales(x=X, w=W, y=Y),
    ),
    "QLinearMatMul": (
        [N("QLinearMatMul", [*OF_X, *OF_W, *OF_Y], ["yq"])],
        (6,),
        {"w": MATRIX} | scales(x=X, w=W, y=Y),
    ),
    "QLinearMatMul per column": (
        [N("QLinearMatMul", [*OF_X, *OF_W, *OF_Y], ["yq"])],
        (6,),
        {"w": MATRIX} | scales(x=X, y=Y) | PER_CHANNEL,
    ),
    "QGemm": (
        [microsoft("QGemm", [*OF_X, *OF_W, "b", *OF_Y])],
        (6,),
        {"w": MATRIX, "b": BIAS} | scales(x=X, w=W, y=Y),
    ),
    "QGemm transposed, per channel, times alpha": (
        [microsoft("QGemm", [*OF_X, *OF_W, "b", *OF_Y], transB=1, alpha=0.7)],
        (6,),
        {"w": integers(4, 6), "b": BIAS} | scales(x=X, y=Y) | PER_CHANNEL,
    ),
    "QGemm without bias": (
        [microsoft("QGemm", [*OF_X, *OF_W, "", *OF_Y])],
        (6,),
        {"w": MATRIX} | scales(x=X, w=W, y=Y),
    ),
    "QLinearAdd": (
        [microsoft("QLinearSigmoid", [*OF_X, "su", "zu"]),
         microsoft("QLinearAdd", [*OF_X, "u", "su", "zu", *OF_Y])],
        (3, 4, 4),
        scales(x=X, u=(1 / 256, np.uint8(0)), y=(0.012, np.uint8(90))),
    ),
    "QLinearAdd of a constant": (
        [microsoft("QLinearAdd", [*OF_W, *OF_X, *OF_Y])],
        (4, 3, 3),
        {"w": integers(4, 1, 1, dtype=np.uint8)} | scales(x=X, w=(0.004, np.uint8(0)), y=Y),
    ),
    "QLinearMul by a constant": (
        [microsoft("QLinearMul", [*OF_X, *OF_W, *OF_Y])],
        (4, 3, 3),
        {"w": integers(4, 1, 1, dtype=np.uint8)} | scales(x=X, w=(0.02, np.uint8(9)), y=Y),
    ),
    "QLinearMul of two tensors": (
        [
            microsoft("QLinearSigmoid", [*OF_X, "su", "zu"]),
            microsoft("QLinearMul", [*OF_X, "u", "su", "zu", *OF_Y]),
        ],
        (3, 4, 4),
        scales(x=X, u=(1 / 256, np.uint8(0)), y=(0.0061, np.uint8(90))),
    ),
    "QLinearConcat": (
        [microsoft("QLinearSigmoid", [*OF_X, "su", "zu"]),
         microsoft("QLinearConcat", [*OF_Y, *OF_X, "u", "su", "zu"], axis=1)],
        (3, 4, 4),
        scales(x=X, u=(1 / 256, np.uint8(0)), y=(0.012, np.uint8(90))),
    ),
    "QLinearAveragePool": (
        [microsoft("QLinearAveragePool", [*OF_X, *OF_Y], kernel_shape=[2, 3], pads=[1, 0, 0, 0])],
        (3, 6, 5),
        scales(x=X, y=(0.007, np.uint8(110))),
    ),
    "QLinearAveragePool of channels on the last axis": (
        [microsoft("QLinearAveragePool", [*OF_X, *OF_Y], kernel_shape=[2, 2], channels_last=1)],
        (6, 5, 3),
        scales(x=X, y=(0.007, np.uint8(110))),
    ),
    "QLinearGlobalAveragePool": (
        [microsoft("QLinearGlobalAveragePool", [*OF_X, *OF_Y])],
        (3, 6, 5),
        scales(x=X, y=(0.002, np.uint8(110))),
    ),
    "QLinearGlobalAveragePool of channels on the last axis": (
        [microsoft("QLinearGlobalAveragePool", [*OF_X, *OF_Y], channels_last=1)],
        (6, 5, 3),
        scales(x=X, y=(0.002, np.uint8(110))),
    ),
    "QLinearSigmoid": (
        [microsoft("QLinearSigmoid", [*OF_X, *OF_Y])],
        (3, 4, 4),
        scales(x=(0.05, np.uint8(120)), y=(1 / 256, np.uint8(0))),
    ),
    "QLinearLeakyRelu": (
        [microsoft("QLinearLeakyRelu", [*OF_X, *OF_Y], alpha=0.2)],
        (3, 4, 4),
        scales(x=X, y=(0.006, np.uint8(40))),
    ),
    "QLinearSoftmax": (
        [
            microsoft("QLinearLeakyRelu", [*OF_X, "su", "zu"]),
            microsoft("QLinearSoftmax", ["u", "su", "zu", *OF_Y], axis=-1, opset=13),
        ],
        (9,),
        scales(x=(0.05, np.uint8(120)), u=(0.03, np.uint8(60)), y=(1 / 256, np.uint8(0))),
    ),
    "the largest of integers": (
        [
            N("ReduceMax", ["xq"], ["p"], axes=[2], keepdims=0),
            N("QLinearMatMul", ["p", "sx", "zx", *OF_W, *OF_Y], ["yq"]),
        ],
        (2, 5, 6),
        {"w": MATRIX} | scales(x=X, w=W, y=Y),
    ),
    "integers that only move": (
        [
            N("MaxPool", ["xq"], ["p"], kernel_shape=[2, 2]),
            N("Reshape", ["p", "flat"], ["f"]),
            N("QLinearMatMul", ["f", "sx", "zx", *OF_W, *OF_Y], ["yq"]),
        ],
        (3, 3, 3),
        {"w": integers(12, 4), "flat": np.int64([-1, 12])} | scales(x=X, w=W, y=Y),
    ),
}  # fmt: skip


def renamed(nodes):
    """The nodes with what comes before the last one called ``u``."""
    for node in nodes[:-1]:
        if node.output[0] == "yq":
            node.output[0] = "u"
    return nodes


@pytest.mark.parametrize(("nodes", "shape", "constants"), OPERATORS.values(), ids=OPERATORS)
def test_operator_on_integers(model, standard, nodes, shape, constants):
    path = model([ENTER, *renamed(nodes), LEAVE], ["N", *shape], domains=[MICROSOFT], **constants)
    standard(path)


def test_every_rule_is_tried():
    tried = {
        f"{n.domain}::{n.op_type}".lstrip(":") for nodes, *_ in OPERATORS.values() for n in nodes
    }
    apart = ("QuantizeLinear", "DequantizeLinear", "QLinearWhere")
    others = {f"{MICROSOFT}::{name}" for name in apart}
    assert set(qoperator.RULES) == (tried & set(qoperator.RULES)) | others


def test_a_choice_between_integers(model, rng):
    """Samples give the products with the condition their types."""
    nodes = [
        ENTER,
        N("QLinearSigmoid", [*OF_X, "su", "zu"], ["u"], domain=MICROSOFT),
        N("DequantizeLinear", ["u", "su", "zu"], ["r"]),
        N("Greater", ["r", "half"], ["m"]),
        N("QLinearWhere", ["m", *OF_X, "u", "su", "zu", *OF_Y], ["yq"], domain=MICROSOFT),
        LEAVE,
    ]
    path = model(
        nodes,
        ["N", 3, 4, 4],
        domains=[MICROSOFT],
        half=np.float32(0.52),
        **scales(x=X, u=(1 / 256, np.uint8(0)), y=(0.012, np.uint8(90))),
    )
    x = rng.uniform(-1, 1, (40, 3, 4, 4)).astype(np.float32)
    graph = quantize(load(path), x)
    found, (wanted,) = outputs(graph, x), reference_runtime(path, x)
    assert steps(graph, found, wanted) <= 1


def test_absent_zero_point_is_0_of_the_type_of_the_input(model):
    """ONNX Runtime's definition, though its own kernels do not run such a node."""
    node = N("QLinearSigmoid", [*OF_X, "sy"], ["yq"], domain=MICROSOFT)
    leave = N("DequantizeLinear", ["yq", "sy"], ["y"])
    path = model([ENTER, node, leave], ["N", 3], domains=[MICROSOFT], **scales(x=X, y=Y))
    assert load(path).quant("yq") == ir.Quant(ir.Int(8, False), float(np.float32(Y[0])), 0)


def test_contributed_names_of_the_standard_operators(model, standard):
    """As ONNX Runtime writes 16-bit integers before opset 21."""
    constants = scales(x=(0.0002, np.int16(-9)), y=(0.001, np.uint16(2000)))
    nodes = [
        N("QuantizeLinear", ["x", "sx", "zx"], ["xq"], domain=MICROSOFT),
        N("DequantizeLinear", ["xq", "sx", "zx"], ["xr"], domain=MICROSOFT),
        N("Sigmoid", ["xr"], ["u"]),
        N("QuantizeLinear", ["u", "sy", "zy"], ["yq"], domain=MICROSOFT),
        N("DequantizeLinear", ["yq", "sy", "zy"], ["y"], domain=MICROSOFT),
    ]
    graph = standard(model(nodes, ["N", 3, 2, 2], domains=[MICROSOFT], **constants))
    assert graph.quant("yq").dtype == ir.Int(16, False)


def test_product_without_output_scale_is_an_open_end(model):
    """QGemm then gives floats, whose range samples have to show."""
    node = N("QGemm", [*OF_X, *OF_W, "b"], ["y"], domain=MICROSOFT, name="n")
    constants = {"w": MATRIX, "b": BIAS} | scales(x=X, w=W)
    path = model([ENTER, node], ["N", 6], domains=[MICROSOFT], **constants)
    assert load(path).open_values == {"y"}


class Samples(CalibrationDataReader):
    def __init__(self, x):
        self.rest = iter(x)

    def get_next(self):
        one = next(self.rest, None)
        return None if one is None else {"x": one[None]}


@pytest.fixture
def float_network(model, rng):
    """A residual network as exporters write it."""
    w = {
        name: rng.normal(0, 0.3, shape).astype(np.float32)
        for name, shape in {"w0": (4, 3, 3, 3), "w1": (4, 1, 3, 3), "w2": (5, 4)}.items()
    }
    nodes = [
        N("Conv", ["x", "w0", "b0"], ["c0"], pads=[1, 1, 1, 1]),
        N("Relu", ["c0"], ["r0"]),
        N("Conv", ["r0", "w1"], ["c1"], pads=[1, 1, 1, 1], group=4),
        N("Add", ["c1", "r0"], ["a"]),
        N("MaxPool", ["a"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        N("GlobalAveragePool", ["p"], ["g"]),
        N("Flatten", ["g"], ["f"]),
        N("Gemm", ["f", "w2", "b2"], ["y"], transB=1),
    ]
    biases = {"b0": np.float32([0.1, -0.2, 0.3, 0]), "b2": np.float32([1, 0, -1, 0.5, 0.2])}
    return model(nodes, ["N", 3, 6, 6], name="float.onnx", **w, **biases)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("kind", [QuantType.QInt8, QuantType.QUInt8])
def test_network_of_the_static_quantizer(float_network, standard, rng, tmp_path, per_channel, kind):
    path = tmp_path / "integers.onnx"
    quantize_static(
        float_network,
        path,
        Samples(rng.normal(size=(30, 3, 6, 6)).astype(np.float32)),
        quant_format=QuantFormat.QOperator,
        activation_type=kind,
        weight_type=QuantType.QInt8,
        per_channel=per_channel,
    )
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"QLinearConv", "QLinearAdd", "QGemm"} <= kinds
    standard(path, low=-2, high=2)


def test_compiled_network_is_the_standard_file(model, tmp_path):
    nodes, shape, constants = OPERATORS["QLinearConv"]
    path = model([ENTER, *nodes, LEAVE], ["N", *shape], **constants)
    device = boards.get("ulx3s-12f").device
    compiled = compile_model(path, tmp_path / "out", device, "ulx3s-12f")
    target = tmp_path / "out" / "model.int8.onnx"
    kinds = {node.op_type for node in onnx.load(target).graph.node}
    assert kinds == {"QuantizeLinear", "DequantizeLinear", "Conv"}
    assert compiled.graph.verbatim
    assert not (tmp_path / "out" / "model.float.onnx").exists()


REFUSED = {
    "too few inputs": (
        N("QLinearAdd", [*OF_X, *OF_X], ["yq"], domain=MICROSOFT, name="n"),
        "n (com.microsoft::QLinearAdd): has 6 inputs and 1 outputs, which the operator does not",
    ),
    "an absent scale": (
        N("QLinearSigmoid", ["xq", "", "zx", *OF_Y], ["yq"], domain=MICROSOFT, name="n"),
        "n (com.microsoft::QLinearSigmoid): lacks its input 1; accepted: a node with it",
    ),
    "no zero point anywhere": (
        N("QLinearSigmoid", ["xq", "sx", "", "sy"], ["yq"], domain=MICROSOFT, name="n"),
        "n (com.microsoft::QLinearSigmoid): lacks the zero points of its tensors; accepted: a con",
    ),
    "a part without its scale": (
        N("QLinearConcat", [*OF_Y, *OF_X, "xq"], ["yq"], domain=MICROSOFT, name="n", axis=1),
        "n (com.microsoft::QLinearConcat): has 4 inputs after the output's scale and zero point",
    ),
    "a scale that does not fit": (
        N("QLinearSigmoid", ["xq", "sy", "zx", *OF_Y], ["yq"], domain=MICROSOFT, name="n"),
        "n/x (com.microsoft::QLinearSigmoid): reads integers as",
    ),
    "an attribute of another type": (
        N("QLinearConcat", [*OF_Y, *OF_X], ["yq"], domain=MICROSOFT, name="n", axis="one"),
        "n (com.microsoft::QLinearConcat): attribute axis is 'one'; accepted: a value like 1",
    ),
}


@pytest.mark.parametrize(("node", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused_operator_on_integers(model, node, expected):
    path = model([ENTER, node, LEAVE], ["N", 3, 4, 4], domains=[MICROSOFT], **scales(x=X, y=Y))
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value).startswith(expected)
    assert ";" in str(caught.value)


# -- what exporters leave in a quantized network ---------------------------------------------------

NORM = {
    "gain": np.float32([0.7, -1.3, 0.0, 2.1]),
    "shift": np.float32([0.1, -0.2, 0.3, 0.4]),
    "mean": np.float32([0.01, 0.2, -0.1, 0.05]),
    "var": np.float32([0.5, 1.5, 0.9, 1.1]),
}
REAL_X = N("DequantizeLinear", ["xq", "sx", "zx"], ["xr"])
REAL_W = N("DequantizeLinear", ["w", "sw", "zw"], ["wr"])
BETWEEN = {
    "BatchNormalization": [
        N("Conv", ["xr", "wr"], ["c"]),
        N("BatchNormalization", ["c", "gain", "shift", "mean", "var"], ["r"]),
    ],
    "BatchNormalization and Relu": [
        N("Conv", ["xr", "wr"], ["c"]),
        N("BatchNormalization", ["c", "gain", "shift", "mean", "var"], ["n"]),
        N("Relu", ["n"], ["r"]),
    ],
    "Mul and Add": [
        N("Conv", ["xr", "wr"], ["c"]),
        N("Mul", ["c", "factor"], ["m"]),
        N("Add", ["m", "offset"], ["r"]),
    ],
}


@pytest.mark.parametrize("nodes", BETWEEN.values(), ids=BETWEEN)
def test_factor_and_shift_before_the_one_rounding(model, standard, nodes):
    """Part of the weight's scale and of the bias, so the file is written anew."""
    constants = scales(x=X, w=W, y=Y) | NORM | {"w": KERNEL["w"]}
    constants |= {"factor": np.float32(0.7), "offset": NORM["shift"].reshape(4, 1, 1)}
    graph = standard(
        model([ENTER, REAL_X, REAL_W, *nodes, ROUND, LEAVE], ["N", 3, 5, 4], **constants)
    )
    assert [type(op) for op in graph] == [ir.Conv]


def test_factor_that_leaves_the_scale_a_float32(model, agrees):
    """The file is the standard form then, and copied."""
    nodes = [N("Conv", ["xr", "wr"], ["c"]), N("Mul", ["c", "factor"], ["r"])]
    constants = scales(x=X, w=W, y=Y) | {"w": KERNEL["w"], "factor": np.float32(-0.25)}
    path = model([ENTER, REAL_X, REAL_W, *nodes, ROUND, LEAVE], ["N", 3, 5, 4], **constants)
    graph = agrees(path)
    assert len(graph.ops) == 1
    assert graph.verbatim


@pytest.mark.parametrize("to", ["INT8", "INT16", "INT32"])
def test_cast_to_a_type_that_holds_the_integers(model, agrees, to):
    kind = getattr(TensorProto, to)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    nodes = [
        N("QuantizeLinear", ["x", "sx", "zx"], ["xq"]),
        N("Cast", ["xq"], ["xc"], to=kind),
        N("Cast", ["xc"], ["xb"], to=TensorProto.INT8),
        N("DequantizeLinear", ["xb", "sx", "zx"], ["xr"]),
        REAL_W,
        N("Conv", ["xr", "wr"], ["r"]),
        ROUND,
        LEAVE,
    ]
    assert np.can_cast(np.int8, dtype)
    constants = scales(x=(0.01131, np.int8(-7)), w=W, y=Y) | {"w": KERNEL["w"]}
    agrees(model(nodes, ["N", 3, 5, 4], opset=21, **constants))


IMAGE = {"dtype": TensorProto.UINT8, "out_dtype": TensorProto.FLOAT}


def test_integer_image_cast_to_floats_stays_a_float_network(model, agrees):
    """Its integers enter with scale 1."""
    nodes = [
        N("Cast", ["x"], ["f"], to=TensorProto.FLOAT),
        N("Div", ["f", "k"], ["d"]),
        N("Conv", ["d", "w"], ["y"]),
    ]
    w = np.random.default_rng(2).normal(size=(4, 3, 3, 3)).astype(np.float32)
    graph = agrees(model(nodes, ["N", 3, 5, 4], **IMAGE, w=w, k=np.float32(255)))
    x = np.random.default_rng(4).integers(0, 256, (20, 3, 5, 4)).astype(np.uint8)
    typed = quantize(graph, x)
    assert typed.quant("x") == ir.Quant(ir.Int(8, False), 1.0, 0)
    assert [type(op) for op in typed] == [ir.Conv]


@pytest.mark.parametrize("first", ["Cast", "Transpose"])
def test_integer_image_cast_to_floats_in_a_quantized_network(model, agrees, first):
    before = {
        "Cast": [N("Cast", ["x"], ["f"], to=TensorProto.FLOAT)],
        "Transpose": [
            N("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
            N("MaxPool", ["t"], ["p"], kernel_shape=[2, 2]),
            N("Cast", ["p"], ["f"], to=TensorProto.FLOAT),
        ],
    }[first]
    nodes = [
        *before,
        N("Mul", ["f", "k"], ["d"]),
        N("QuantizeLinear", ["d", "sx", "zx"], ["xq"]),
        REAL_X,
        REAL_W,
        N("Conv", ["xr", "wr"], ["r"]),
        ROUND,
        LEAVE,
    ]
    constants = scales(x=(0.0093, np.uint8(0)), w=W, y=Y) | {"w": KERNEL["w"]}
    shape = {"Cast": [3, 5, 4], "Transpose": [6, 5, 3]}[first]
    graph = agrees(model(nodes, ["N", *shape], **IMAGE, k=np.float32(0.00784), **constants))
    assert graph.quant(graph.inputs[0].value) == ir.Quant(ir.Int(8, False), 1.0, 0)


def test_cast_of_integers_that_stand_for_other_numbers(model):
    nodes = [ENTER, N("Cast", ["xq"], ["f"], to=TensorProto.FLOAT, name="n"), ROUND]
    nodes[1].output[0] = "r"
    path = model([*nodes, LEAVE], ["N", 3], **scales(x=X, y=Y))
    expected = r"n \(Cast\): casts integers to floats that stand for u8 .*; accepted: Dequant"
    with pytest.raises(ModelError, match=expected):
        load(path)


@pytest.mark.parametrize("kind", ["FLOAT16", "DOUBLE"])
def test_other_floats_are_read_as_float32(model, rng, kind):
    """Inputs, weights and outputs of such a type."""
    number = getattr(TensorProto, kind)
    dtype = helper.tensor_dtype_to_np_dtype(number)
    w = rng.normal(size=(4, 6)).astype(dtype)
    fill = helper.make_tensor("fill", number, [1], [0.5])
    nodes = [
        N("MatMul", ["x", "w"], ["c"]),
        N("ConstantOfShape", ["one"], ["k"], value=fill),
        N("Mul", ["c", "k"], ["y"]),
    ]
    path = model(nodes, ["N", 4], dtype=number, w=w, one=np.int64([1]))
    graph = load(path)
    assert {graph.inputs[0].dtype, graph.outputs[0].dtype} == {"float32"}
    x = rng.normal(size=(3, 4)).astype(np.float32)
    found, _ = evaluate(graph, x)
    (wanted,) = Runtime(path).run(x).values()
    assert wanted.dtype == dtype
    np.testing.assert_allclose(found, wanted, atol=0.02 if kind == "FLOAT16" else 1e-5)


def test_half_precision_inside(model, agrees, rng):
    """Between casts; ONNX Runtime rounds every value to float16 there."""
    nodes = [
        N("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        N("Conv", ["h", "w"], ["c"]),
        N("Relu", ["c"], ["r"]),
        N("Cast", ["r"], ["y"], to=TensorProto.FLOAT),
    ]
    w = rng.normal(size=(4, 3, 3, 3)).astype(np.float16)
    path = model(nodes, ["N", 3, 5, 4], out_dtype=TensorProto.FLOAT, w=w)
    agrees(path, tolerance=0.01)


# -- sums of integers ------------------------------------------------------------------------------

CAST = N("Cast", ["t"], ["f"], to=TensorProto.FLOAT)

SUMS = {
    "ConvInteger, Cast, Mul": (
        [
            N("ConvInteger", ["xq", "w", "zx", "zw"], ["t"], pads=[1, 1, 1, 1]),
            CAST,
            N("Mul", ["f", "both"], ["r"]),
        ],
        (3, 4, 5),
        {"w": KERNEL["w"], "both": np.float32(X[0] * W[0])},
    ),
    "ConvInteger, scales one after the other": (
        [
            N("ConvInteger", ["xq", "w", "zx"], ["t"]),
            CAST,
            N("Mul", ["sx", "f"], ["g"]),
            N("Mul", ["g", "each"], ["r"]),
        ],
        (3, 4, 5),
        {"w": KERNEL["w"], "each": PER_CHANNEL["sw"].reshape(4, 1, 1)},
    ),
    "an integer bias": (
        [
            N("ConvInteger", ["xq", "w", "zx", "zw"], ["t0"]),
            N("Add", ["t0", "b"], ["t"]),
            CAST,
            N("Mul", ["f", "both"], ["r"]),
        ],
        (3, 4, 5),
        {"w": KERNEL["w"], "b": BIAS.reshape(1, 4, 1, 1), "both": np.float32(X[0] * W[0])},
    ),
    "MatMulInteger, Cast, Mul, a real bias": (
        [
            N("MatMulInteger", ["xq", "w", "zx", "zw"], ["t"]),
            CAST,
            N("Mul", ["f", "both"], ["m"]),
            N("Add", ["m", "b"], ["r"]),
        ],
        (6,),
        {"w": MATRIX, "both": np.float32(X[0] * W[0]), "b": np.float32([0.5, 0, -1, 2])},
    ),
    "MatMulInteger, DequantizeLinear": (
        [
            N("MatMulInteger", ["xq", "w", "zx", "zw"], ["t"]),
            N("DequantizeLinear", ["t", "both"], ["r"]),
        ],
        (6,),
        {"w": MATRIX, "both": np.float32(X[0] * W[0])},
    ),
    "integers that move before": (
        [
            N("MaxPool", ["xq"], ["p"], kernel_shape=[2, 2]),
            N("Flatten", ["p"], ["v"]),
            N("MatMulInteger", ["v", "w", "zx", "zw"], ["t"]),
            CAST,
            N("Mul", ["f", "both"], ["r"]),
        ],
        (1, 3, 4),
        {"w": MATRIX, "both": np.float32(X[0] * W[0])},
    ),
    "MatMulIntegerToFloat": (
        [N("MatMulIntegerToFloat", ["xq", "w", "sx", "sw", "zx", "zw", "b"], ["r"],
           domain=MICROSOFT)],
        (6,),
        {"w": MATRIX, "b": np.float32([0.5, 0, -1, 2])},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "shape", "constants"), SUMS.values(), ids=SUMS)
def test_sums_of_integers_of_a_known_scale(model, standard, nodes, shape, constants):
    constants = scales(x=X, w=W, y=Y) | constants
    path = model([ENTER, *nodes, ROUND, LEAVE], ["N", *shape], domains=[MICROSOFT], **constants)
    standard(path)


def test_sums_of_an_integer_input(model, standard):
    """Its integers are the real numbers."""
    nodes = [
        N("ConvInteger", ["x", "w"], ["t"]),
        CAST,
        N("Mul", ["f", "sw"], ["r"]),
        ROUND,
        LEAVE,
    ]
    constants = {"w": KERNEL["w"]} | scales(w=W, y=(2.3, np.uint8(128)))
    standard(
        model(
            nodes, ["N", 3, 4, 4], dtype=TensorProto.UINT8, out_dtype=TensorProto.FLOAT, **constants
        )
    )


DYNAMIC = N("DynamicQuantizeLinear", ["x"], ["xq", "d", "z"])
DYNAMIC_USES = {
    "one scale": [
        DYNAMIC,
        N("Mul", ["d", "sw"], ["both"]),
        N("MatMulInteger", ["xq", "w", "z", "zw"], ["t"]),
        CAST,
        N("Mul", ["f", "both"], ["y"]),
    ],
    "the weight's scale first": [
        DYNAMIC,
        N("MatMulInteger", ["xq", "w", "z", "zw"], ["t"]),
        CAST,
        N("Mul", ["f", "sw"], ["g"]),
        N("Mul", ["d", "g"], ["y"]),
    ],
    "DequantizeLinear": [
        DYNAMIC,
        N("DequantizeLinear", ["xq", "d", "z"], ["r"]),
        N("DequantizeLinear", ["w", "sw", "zw"], ["wr"]),
        N("MatMul", ["r", "wr"], ["y"]),
    ],
    "DynamicQuantizeMatMul": [
        N("DynamicQuantizeMatMul", ["x", "w", "sw", "zw"], ["y"], domain=MICROSOFT),
    ],
    "MatMulIntegerToFloat": [
        DYNAMIC,
        N("MatMulIntegerToFloat", ["xq", "w", "d", "sw", "z", "zw"], ["y"], domain=MICROSOFT),
    ],
    "moved": [
        DYNAMIC,
        N("Reshape", ["xq", "map"], ["m"]),
        N("Flatten", ["m"], ["v"]),
        N("MatMulInteger", ["v", "w", "z", "zw"], ["t"]),
        CAST,
        N("Mul", ["f", "sw"], ["g"]),
        N("Mul", ["g", "d"], ["y"]),
    ],
}


@pytest.mark.parametrize("nodes", DYNAMIC_USES.values(), ids=DYNAMIC_USES)
def test_dynamic_range_is_that_of_the_samples(model, nodes, rng):
    """The float operator over what the node quantizes; ONNX Runtime's is off by that rounding."""
    constants = {"w": integers(6, 4, dtype=np.uint8), "map": np.int64([-1, 2, 3])}
    constants |= scales(w=(0.02, np.uint8(131)))
    path = model(nodes, ["N", 6], domains=[MICROSOFT], **constants)
    graph = load(path)
    assert not graph.quantized
    x = rng.uniform(-1, 1, (50, 6)).astype(np.float32)
    found, _ = evaluate(graph, x)
    exact = x @ ((constants["w"].astype(np.float32) - 131) * constants["sw"])
    np.testing.assert_allclose(found, exact, rtol=1e-4, atol=1e-4)
    (wanted,) = reference_runtime(path, x)
    assert 0 < np.abs(found - wanted).max() < 0.05 * np.abs(wanted).max()


def test_network_of_the_dynamic_quantizer(float_network, tmp_path, rng):
    """Samples give the ranges; the integer network is as close to the float one as ONNX Runtime's
    own static quantization is.
    """
    path = tmp_path / "dynamic.onnx"
    quantize_dynamic(float_network, path, weight_type=QuantType.QUInt8)
    kinds = {node.op_type for node in onnx.load(path).graph.node}
    assert {"ConvInteger", "MatMulInteger", "DynamicQuantizeLinear"} <= kinds
    x = rng.normal(size=(60, 3, 6, 6)).astype(np.float32)
    graph = quantize(load(path), x)
    found = outputs(graph, x)
    (wanted,) = reference_runtime(float_network, x)
    noise = ((found - wanted) ** 2).mean() / wanted.var()
    assert 10 * np.log10(noise) < -25


REFUSED_SUMS = {
    "integers of no known scale": (
        [N("Cast", ["xq"], ["c"], to=TensorProto.INT8),
         N("MatMulInteger", ["c", "w"], ["t"], name="n"), CAST, N("Mul", ["f", "sw"], ["y"])],
        "n (MatMulInteger): its first input c holds integers whose scale is not known; accepted",
    ),
    "two activations": (
        [N("MatMulInteger", ["xq", "xq"], ["t"], name="n"), CAST, N("Mul", ["f", "sw"], ["y"])],
        "n (MatMulInteger): its second input xq is computed at run time; accepted: constant",
    ),
    "sums that leave": (
        [N("MatMulInteger", ["xq", "w"], ["y"], name="n")],
        "n (MatMulInteger): its integers leave the network; accepted: real numbers, after",
    ),
    "sums that something else reads": (
        [N("MatMulInteger", ["xq", "w"], ["t"], name="m"), N("Abs", ["t"], ["a"], name="n"),
         N("Cast", ["a"], ["y"], to=TensorProto.FLOAT)],
        "n (Abs): reads t of m (MatMulInteger); accepted: ConvInteger or MatMulInteger on the",
    ),
    "a dynamic scale that something else reads": (
        [DYNAMIC, N("Exp", ["d"], ["e"], name="n"), N("Mul", ["x", "e"], ["y"])],
        "n (Exp): reads d of xq (DynamicQuantizeLinear); accepted: ConvInteger or MatMulInteger",
    ),
    "another zero point": (
        [DYNAMIC, N("MatMulInteger", ["xq", "w", "zx"], ["t"], name="n"), CAST,
         N("Mul", ["f", "d"], ["y"])],
        "n (MatMulInteger): its zero point is zx, but xq has z; accepted: that of the Dynamic",
    ),
    "another scale": (
        [DYNAMIC, N("MatMulIntegerToFloat", ["xq", "w", "sx", "sw", "z"], ["y"], name="n",
                    domain=MICROSOFT)],
        "n (com.microsoft::MatMulIntegerToFloat): its scale is sx, but xq has d; accepted: that",
    ),
    "too few inputs": (
        [N("DynamicQuantizeMatMul", ["x", "w"], ["y"], name="n", domain=MICROSOFT)],
        "n (com.microsoft::DynamicQuantizeMatMul): has 2 inputs and 1 outputs, or lacks one of",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "expected"), REFUSED_SUMS.values(), ids=REFUSED_SUMS)
def test_refused_sums(model, nodes, expected):
    first = [] if DYNAMIC in nodes else [ENTER]
    constants = {"w": integers(6, 6)} | scales(x=X, w=W)
    path = model([*first, *nodes], ["N", 6], domains=[MICROSOFT], **constants)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value).startswith(expected)
    assert ";" in str(caught.value)

"""Integers in float tensors, as NEMO, QuantLab and DORY write them: every value is exact."""

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.schema import SCALING
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from .conftest import reference_runtime

N = helper.make_node
RNG = np.random.default_rng(3)
FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def whole(low, high, *shape):
    return RNG.integers(low, high, shape, endpoint=True).astype(np.float32)


NUMBERS = {
    "w": whole(-60, 60, 4, 3, 3, 3),
    "v": whole(-90, 90, 4, 4, 1, 1),
    "m": whole(-9, 9, 16, 5),
    "b": whole(-400, 400, 4),
    "k": whole(200, 2047, 1, 4, 1, 1),
    "l": whole(-900000, 2000000, 1, 4, 1, 1),
    "d": np.float32(2**19),
    "times": np.int64([40]),
    "D": np.int64(2**24),
    "low": np.float32(0),
    "high": np.float32(255),
    "c1": np.float32(37),
    "c2": np.float32(21),
    "e": np.float32(64),
    "area": np.float32(6),
}
ENDS = {"min": 0.0, "max": 255.0}


def scaled(x, y):
    """As QuantLab scales sums: floats, divided and rounded down."""
    return [
        N("Mul", [x, "k"], [f"{y}1"]),
        N("Add", [f"{y}1", "l"], [f"{y}2"]),
        N("Div", [f"{y}2", "d"], [f"{y}3"]),
        N("Floor", [f"{y}3"], [f"{y}4"]),
        N("Clip", [f"{y}4", "low", "high"], [y]),
    ]


def divided(x, y):
    """As NEMO does: 64-bit integers, divided with truncation."""
    return [
        N("Mul", ["k", x], [f"{y}1"]),
        N("Add", [f"{y}1", "l"], [f"{y}2"]),
        N("Cast", [f"{y}2"], [f"{y}3"], to=INT64),
        N("Mul", [f"{y}3", "times"], [f"{y}4"]),
        N("Div", [f"{y}4", "D"], [f"{y}5"]),
        N("Cast", [f"{y}5"], [f"{y}6"], to=INT64),
        N("Cast", [f"{y}6"], [f"{y}7"], to=FLOAT),
        N("Clip", [f"{y}7", "low", "high"], [y]),
    ]


@pytest.fixture
def exact(model, tmp_path):
    """Load a network, and compare golden on its standard file with ONNX Runtime on the given one:
    all integers equal. Returns the graph.
    """

    def check(nodes, shape=(3, 5, 4), low=0, high=255, opset=13, **numbers):
        read = {name for node in nodes for name in node.input}
        numbers = {name: a for name, a in (NUMBERS | numbers).items() if name in read}
        path = model(nodes, ["N", *shape], opset=opset, **numbers)
        graph = load(path)
        assert graph.quantized
        written = tmp_path / "standard.onnx"
        write_qdq(graph, written)
        again = load(written)
        x = np.random.default_rng(7).integers(low, high, (50, *shape), endpoint=True)
        x = x.astype(np.float32)
        values = golden.run(again, golden.host_input(again, x))
        found = golden.host_output(again, values)["y"]
        (wanted,) = reference_runtime(path, x)
        assert np.ptp(found) > 0
        assert_array_equal(found, wanted)
        return again

    return check


@pytest.mark.parametrize("scale", [scaled, divided])
@pytest.mark.parametrize(("low", "high"), [(0, 255), (-128, 127)])
def test_convolutions(exact, scale, low, high):
    """The input may hold bytes of either sign."""
    nodes = [
        N("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        *scale("c", "p"),
        N("Conv", ["p", "v", "b"], ["e1"]),
        *scale("e1", "y"),
    ]
    graph = exact(nodes, low=low, high=high)
    assert [type(op) for op in graph] == [ir.Conv, ir.Conv]
    assert graph.quant(graph.ops[0].output) == ir.Quant(ir.Int(8, False), 1.0, 0)


def test_scale_that_is_no_power_of_two(exact):
    exact([N("Conv", ["x", "w"], ["c"]), *scaled("c", "y")], d=np.float32(300001))


def test_pool_flatten_and_dense_layer(exact):
    """What leaves as sums has 16 bits, of scale 1 where they fit."""
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        *divided("c", "p"),
        N("MaxPool", ["p"], ["q"], kernel_shape=[2, 1]),
        N("Pad", ["q", "pads"], ["z"]),
        N("Flatten", ["z"], ["f"]),
        N("MatMul", ["f", "m"], ["y"]),
    ]
    pads = np.int64([0, 0, 0, 0, 0, 0, 0, 0])
    graph = exact(nodes, shape=(3, 4, 4), pads=pads, m=whole(-9, 9, 8, 5))
    quant = graph.quant(graph.outputs[0].value)
    assert (quant.scale, quant.zero) == (1.0, 0)
    assert 8 < quant.dtype.bits <= 16


def test_sums_of_a_wide_range_are_an_open_end(model):
    """Which a scale of 256 does not bring into 16 bits."""
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        *scaled("c", "p"),
        N("Flatten", ["p"], ["f"]),
        N("MatMul", ["f", "m"], ["s"]),
        N("Sigmoid", ["s"], ["y"]),
    ]
    names = ("w", "k", "l", "d", "low", "high")
    numbers = {name: NUMBERS[name] for name in names} | {"m": whole(-9000, 9000, 24, 5)}
    graph = load(model(nodes, ["N", 3, 5, 4], opset=13, **numbers))
    assert graph.open_values == {"s/real", "y"}


def test_average_without_a_clip(exact):
    """Its range follows from the Clip before it."""
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        *scaled("c", "p"),
        N("AveragePool", ["p"], ["a"], kernel_shape=[3, 2]),
        N("Mul", ["a", "area"], ["s"]),
        N("Mul", ["s", "c2"], ["t"]),
        N("Div", ["t", "e"], ["u"]),
        N("Floor", ["u"], ["y"]),
    ]
    graph = exact(nodes)
    assert graph.quant(graph.outputs[0].value).dtype == ir.Int(9, False)


def test_sum_of_two_branches(exact):
    nodes = [
        N("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        *scaled("c", "p"),
        N("Conv", ["p", "v"], ["e1"]),
        *scaled("e1", "q"),
        N("Mul", ["p", "c1"], ["mp"]),
        N("Mul", ["q", "c2"], ["mq"]),
        N("Add", ["mp", "mq"], ["s"]),
        N("Div", ["s", "e"], ["t"]),
        N("Floor", ["t"], ["y"]),
    ]
    exact(nodes)


def test_attributes_that_give_widths(model):
    """As QuantLab adds to standard operators, for which ONNX Runtime refuses the file."""
    nodes = [N("Conv", ["x", "w"], ["c"], weight_bits=8, bias_bits=32), *scaled("c", "y")]
    nodes[-1].attribute.append(helper.make_attribute("out_bits", 8))
    names = ("w", "k", "l", "d", "low", "high")
    path = model(nodes, ["N", 3, 5, 4], opset=13, **{name: NUMBERS[name] for name in names})
    (op,) = load(path)
    assert_array_equal(op.weight.transpose(0, 3, 1, 2), NUMBERS["w"])


@pytest.mark.parametrize("out", [0, 1])
def test_sum_that_scales_by_attributes(model, tmp_path, out):
    """QuantLab's Add: both operands, and the sum, are ``(x * mul + add) >> shift``, clipped."""
    attributes = {
        **dict(zip(SCALING[:5], (1, 245015, 262144, 19, 256), strict=True)),
        **dict(zip(SCALING[5:10], (1, 265342, 262144, 19, 256), strict=True)),
        **dict(zip(SCALING[10:], (out, 11, 3, 4, 256), strict=True)),
    }
    nodes = [
        N("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        *scaled("c", "p"),
        N("Conv", ["p", "v"], ["e1"]),
        *scaled("e1", "q"),
        N("Add", ["p", "q"], ["y"], add_bits=8, **attributes),
    ]
    read = {name for node in nodes for name in node.input}
    numbers = {name: a for name, a in NUMBERS.items() if name in read}
    write_qdq(load(model(nodes, ["N", 3, 5, 4], opset=13, **numbers)), tmp_path / "standard.onnx")
    graph = load(tmp_path / "standard.onnx")
    x = RNG.integers(0, 256, (20, 3, 5, 4)).astype(np.float32)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    plain = [N("Identity", ["p"], ["left"]), N("Identity", ["q"], ["right"])]
    path = model([*nodes[:-1], *plain], ["N", 3, 5, 4], opset=13, out="left", **numbers)
    p, q = (a.astype(int) for a in reference_runtime(path, x, extra=["right"]))
    total = ((p * 245015 + 262144) >> 19) + ((q * 265342 + 262144) >> 19)
    total = (total * 11 + 3) >> 4 if out else total
    assert_array_equal(found, np.clip(total, 0, 255))


def test_sum_that_scales_by_attributes_outside_an_integer_graph(model):
    nodes = [N("Relu", ["x"], ["r"]), N("Add", ["r", "x"], ["y"], name="n", in1_rq=1)]
    with pytest.raises(ModelError, match=r"n \(Add\): scales its operands by attributes, in a net"):
        load(model(nodes, ["N", 3], opset=13))


def test_floats_with_a_floor_stay_floats(model):
    """Weights that are no integers."""
    nodes = [N("Conv", ["x", "w"], ["c"]), *scaled("c", "y")]
    names = ("w", "k", "l", "d", "low", "high")
    numbers = {name: NUMBERS[name] for name in names} | {"w": NUMBERS["w"] / 7}
    assert not load(model(nodes, ["N", 3, 5, 4], opset=13, **numbers)).quantized


REFUSED = {
    "negative numbers that are truncated": (
        [*divided("c", "y")[:-1], N("Clip", ["y7", "least", "high"], ["y"], name="n")],
        "n (Clip): reads integers that were divided with truncation, of which some are below 0",
    ),
    "numbers between integers": (
        [*scaled("c", "p"), *scaled("p", "q")[:3], N("Conv", ["q3", "v"], ["y"], name="n")],
        "n (Conv): reads numbers that are no integers; accepted: Floor before it",
    ),
    "integers of many bits": (
        [*scaled("c", "p"), N("Conv", ["p", "v"], ["s"]), N("Conv", ["s", "v"], ["y"], name="n")],
        "n (Conv): reads integers from",
    ),
    "a requantization in attributes": (
        [*scaled("c", "p"), N("Add", ["p", "p"], ["y"], name="n", in1_mul=245015)],
        "n (Add): its attributes in1_rq, in1_mul, in1_add, in1_shift, in1_n_levels are [None,",
    ),
}


@pytest.mark.parametrize(("nodes", "expected"), REFUSED.values(), ids=REFUSED)
def test_refused_integer_graph(tmp_path, nodes, expected):
    nodes = [N("Conv", ["x", "w"], ["c"]), *nodes]
    read = {name for node in nodes for name in node.input}
    numbers = NUMBERS | {"least": np.float32(-128)}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", FLOAT, ["N", 3, 5, 4])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in numbers.items() if n in read],
    )
    path = tmp_path / "model.onnx"
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value).startswith(expected)
    assert ";" in str(caught.value)

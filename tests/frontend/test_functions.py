"""Functions of one activation, of constants and of truth values, against ONNX Runtime."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import DataError, ModelError, QuantizeError
from gatewright.compiler.frontend import load
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.quantize import quantize
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper

from ..evaluation import evaluate

N = helper.make_node


def number(x):
    return np.array(x, np.float32)


@pytest.fixture
def reads(model, agrees):
    """The functions of a network of one chain, which agrees with ONNX Runtime."""

    def check(nodes, low=-2.0, high=2.0, opset=17, **constants):
        graph = agrees(model(nodes, [1, 3, 4, 5], opset=opset, **constants), low=low, high=high)
        return [op.function for op in graph if isinstance(op, ir.Unary)]

    return check


@pytest.mark.parametrize(
    ("op", "attributes", "opset", "function"),
    [
        ("Gelu", {}, 20, ir.functions.Gelu()),
        ("Gelu", {"approximate": "tanh"}, 20, ir.functions.Gelu("tanh")),
        ("Swish", {}, 24, ir.functions.Swish()),
        ("Swish", {"alpha": 1.5}, 24, ir.functions.Swish(1.5)),
        ("Erf", {}, 17, ir.functions.Erf()),
        ("Shrink", {}, 17, ir.functions.Shrink()),
        ("Shrink", {"bias": 0.25, "lambd": 1.0}, 17, ir.functions.Shrink(0.25, 1.0)),
        ("HardSwish", {}, 14, ir.functions.HardSwish()),
        ("HardSwish", {}, 22, ir.functions.HardSwish()),
        ("Sin", {}, 7, ir.functions.Sin()),
        ("Atan", {}, 7, ir.functions.Atan()),
    ],
    ids=str,
)
def test_attributes(reads, op, attributes, opset, function):
    assert reads([N(op, ["x"], ["y"], **attributes)], opset=opset) == [function]


def test_gelu_of_an_unknown_approximation(model):
    path = model([N("Gelu", ["x"], ["y"], name="g", approximate="fast")], [1, 4], opset=20)
    with pytest.raises(ModelError, match=r"g \(Gelu\): .*approximate is 'fast', not 'none' or"):
        load(path)


@pytest.mark.parametrize(("exponent", "low"), [(2, -2), (3, -2), (-1, 0.5), (0.5, 0), (2.25, 0)])
def test_power_by_a_constant(reads, exponent, low):
    found = reads([N("Pow", ["x", "e"], ["y"])], low=low, e=number(exponent))
    assert found == [ir.functions.Pow(float(exponent))]


def test_an_integer_exponent_of_its_own_type(reads):
    assert reads([N("Pow", ["x", "e"], ["y"])], e=np.array([2])) == [ir.functions.Pow(2.0)]


def test_powers_that_differ_from_channel_to_channel_are_refused(model):
    exponents = number([2, 3, 4]).reshape(3, 1, 1)
    path = model([N("Pow", ["x", "e"], ["y"], name="p")], [1, 3, 2, 2], e=exponents)
    with pytest.raises(
        ModelError, match=r"p \(Pow\): .* e holds 3 different numbers; accepted: on"
    ):
        load(path)


def test_the_remainder_of_floats(reads):
    found = reads([N("Mod", ["x", "d"], ["y"], fmod=1)], d=number(-0.75))
    assert found == [ir.functions.Mod(-0.75)]


def test_a_remainder_by_0_is_refused(model):
    path = model([N("Mod", ["x", "d"], ["y"], name="m", fmod=1)], [1, 4], d=number(0))
    with pytest.raises(ModelError, match=r"m \(Mod\): .*divisor is 0"):
        load(path)


COMPARISONS = {
    "Greater": (ir.functions.Greater, ir.functions.Less),
    "Less": (ir.functions.Less, ir.functions.Greater),
    "GreaterOrEqual": (ir.functions.GreaterOrEqual, ir.functions.LessOrEqual),
    "LessOrEqual": (ir.functions.LessOrEqual, ir.functions.GreaterOrEqual),
    "Equal": (ir.functions.Equal, ir.functions.Equal),
}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("op", "kinds"), COMPARISONS.items(), ids=COMPARISONS)
def test_comparison_with_a_constant(reads, op, kinds, mirrored):
    inputs = ["c", "x"] if mirrored else ["x", "c"]
    nodes = [N(op, inputs, ["b"]), N("Cast", ["b"], ["y"], to=TensorProto.FLOAT)]
    assert reads(nodes, c=number(0.5)) == [kinds[mirrored](0.5)]


def test_comparison_with_a_number_a_channel(reads):
    nodes = [N("Greater", ["x", "c"], ["b"]), N("Cast", ["b"], ["y"], to=TensorProto.FLOAT)]
    assert reads(nodes, c=number([-1, 0, 1]).reshape(3, 1, 1)) == [ir.functions.Greater()]


def test_not(reads):
    nodes = [
        N("Less", ["x", "c"], ["b"]),
        N("Not", ["b"], ["n"]),
        N("Cast", ["n"], ["y"], to=TensorProto.FLOAT),
    ]
    (function,) = reads(nodes, c=number(0.5))
    assert str(function) == "{Equal(bound=0.0)(Less(bound=0.5)(x))}"


def test_casts_of_integral_results(reads):
    nodes = [
        N("Floor", ["x"], ["f"]),
        N("Cast", ["f"], ["i"], to=TensorProto.INT64),
        N("Cast", ["i"], ["y"], to=TensorProto.FLOAT),
    ]
    assert reads(nodes) == [ir.functions.Floor()]


def test_casts_of_floats_to_integers_round_toward_zero(model):
    nodes = [N("Mul", ["x", "k"], ["s"]), N("Cast", ["s"], ["y"], to=TensorProto.INT64)]
    path = model(nodes, [1, 4], out_dtype=TensorProto.INT64, k=np.array(2.0, np.float32))
    x = np.array([[-1.3, -0.4, 0.4, 1.3]], np.float32)
    y, _ = evaluate(load(path), x)
    assert_array_equal(y, [[-2, 0, 0, 2]])


# Poles, and numbers outside of a domain.

INT8 = TensorProto.INT8


def quantized(model, node, **constants):
    """The node between a QuantizeLinear of steps of 1/4 and one of steps of 1/8."""
    nodes = [
        N("QuantizeLinear", ["x", "s", "z"], ["q"]),
        N("DequantizeLinear", ["q", "s", "z"], ["d"]),
        N(node.op_type, ["d", *node.input[1:]], ["f"]),
        N("QuantizeLinear", ["f", "t", "w"], ["r"]),
        N("DequantizeLinear", ["r", "t", "w"], ["y"]),
    ]
    scales = {"s": number(0.25), "t": number(0.125)}
    zeros = {"z": np.int8(-20), "w": np.int8(5)}
    return model(nodes, [1, 4, 8, 8], opset=20, **scales, **zeros, **constants)


DOMAINS = {
    "Log": {},
    "Sqrt": {},
    "Reciprocal": {},
    "Asin": {},
    "Acos": {},
    "Acosh": {},
    "Atanh": {},
    "Pow": {"e": number(-0.5)},
}


@pytest.mark.parametrize(("op", "constants"), DOMAINS.items(), ids=DOMAINS)
def test_every_integer_at_a_pole_and_outside_of_a_domain_as_in_onnx_runtime(model, op, constants):
    path = quantized(model, N(op, ["x", *constants], ["y"]), **constants)
    graph = load(path)
    x = ((np.arange(256) - 108) / 4).astype(np.float32).reshape(1, 4, 8, 8)
    (seen,) = Runtime(path).run(x).values()
    (ours,) = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x))).values()
    steps = np.abs(seen - ours) * 8
    assert steps.max() <= 1
    assert (steps > 0).sum() <= 1


def test_an_undefined_result_is_the_lower_end_of_a_clamp():
    shape = ir.Shape(1, 1, 1)
    op = ir.Unary("f", ("x",), "y", ir.functions.Log(), clamp=ir.Clamp(-1.0, 2.0))
    quants = {"x": ir.Quant(ir.Int(8, True), 0.5, 0), "y": ir.Quant(ir.Int(8, True), 0.25, 10)}
    values = {name: ir.Value(name, shape, quant) for name, quant in quants.items()}
    graph = ir.Graph("net", (), (), (op,), values)
    raws = np.array([-128, -1, 0, 2, 127]).reshape(-1, 1, 1, 1)
    assert golden.step(op, graph, raws).reshape(-1).tolist() == [6, 6, 6, 10, 18]


def test_calibration_at_a_pole_is_refused(model):
    graph = load(model([N("Log", ["x"], ["y"])], [1, 4]))
    with pytest.raises((DataError, QuantizeError), match=r"y becomes infinite or NaN on the cali"):
        quantize(graph, np.zeros((3, 4), np.float32))

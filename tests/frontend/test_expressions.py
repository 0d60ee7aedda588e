"""Expressions of one activation, from the ONNX nodes to the bits of the hardware."""

import time
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import QuantizeError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.ir.expressions import (
    Affine,
    Difference,
    Expression,
    Limit,
    Product,
    Step,
    Sum,
)
from gatewright.compiler.quantize import quantize
from gatewright.compiler.quantize.proofs.table import for_unary
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper

from ..plan.networks import Builder, fold, measure

N = helper.make_node
F = ir.functions
CONSTANTS = {
    name: np.float32(value)
    for name, value in {
        "half": 0.5,
        "one": 1,
        "two": 2,
        "three": 3,
        "zero": 0,
        "six": 6,
        "sixth": 1 / 6,
        "root": 2**0.5,
        "slope": 1.702,
        "cubic": 0.044715,
        "tanh": (2 / np.pi) ** 0.5,
    }.items()
}

#: each as (operator, inputs, output, attributes) from x to y
NETWORKS = {
    "silu": [("Sigmoid", "x", "a"), ("Mul", "x a", "y")],
    "quick gelu": [("Mul", "x slope", "a"), ("Sigmoid", "a", "b"), ("Mul", "x b", "y")],
    "mish": [("Softplus", "x", "a"), ("Tanh", "a", "b"), ("Mul", "b x", "y")],
    "mish without names": [
        ("Exp", "x", "a"),
        ("Add", "a one", "b"),
        ("Log", "b", "c"),
        ("Tanh", "c", "d"),
        ("Mul", "x d", "y"),
    ],
    "gelu": [
        ("Div", "x root", "a"),
        ("Erf", "a", "b"),
        ("Add", "b one", "c"),
        ("Mul", "x c", "d"),
        ("Mul", "d half", "y"),
    ],
    "gelu with tanh": [
        ("Pow", "x three", "a"),
        ("Mul", "a cubic", "b"),
        ("Add", "x b", "c"),
        ("Mul", "c tanh", "d"),
        ("Tanh", "d", "e"),
        ("Add", "e one", "f"),
        ("Mul", "x f", "g"),
        ("Mul", "half g", "y"),
    ],
    "hard swish": [
        ("Add", "x three", "a"),
        ("Clip", "a zero six", "b"),
        ("Mul", "b x", "c"),
        ("Mul", "c sixth", "y"),
    ],
    "square": [("Mul", "x x", "y")],
    "cube": [("Mul", "x x", "a"), ("Mul", "x a", "y")],
    "twice": [("Add", "x x", "y")],
    "polynomial": [
        ("Sub", "one x", "a"),
        ("Mul", "a x", "b"),
        ("Pow", "x two", "c"),
        ("Sub", "b c", "d"),
        ("Relu", "d", "y"),
    ],
    "extremes": [("Sin", "x", "a"), ("Max", "a x", "b"), ("Cos", "x", "c"), ("Min", "b c", "y")],
    "threshold": [
        ("Greater", "x half", "t"),
        ("Cast", "t", "s", {"to": TensorProto.FLOAT}),
        ("Mul", "s x", "a"),
        ("Sub", "x a", "y"),
    ],
}


@pytest.fixture
def network(model):
    def write(name, shape=(1, 3, 4, 5)):
        nodes = [
            N(op, inputs.split(), [output], name=output, **(more[0] if more else {}))
            for op, inputs, output, *more in NETWORKS[name]
        ]
        read = {tensor for node in nodes for tensor in node.input}
        return model(nodes, [*shape], **{c: v for c, v in CONSTANTS.items() if c in read})

    return write


@pytest.mark.parametrize("name", NETWORKS)
def test_an_expression_of_one_activation_is_one_function(network, agrees, name):
    (op,) = agrees(network(name), low=-4.0, high=4.0)
    assert isinstance(op, ir.Unary)
    assert op.output == "y"


@pytest.mark.parametrize("name", NETWORKS)
def test_the_file_of_the_quantized_network_is_read_as_it_was(network, tmp_path, name):
    x = np.random.default_rng(5).uniform(-4, 4, (64, 3, 4, 5)).astype(np.float32)
    graph = quantize(load(network(name)), x)
    path = tmp_path / "quantized.onnx"
    write_qdq(graph, path)
    again = load(path)
    assert [(op.function, op.clamp) for op in again] == [(op.function, op.clamp) for op in graph]
    assert [v.quant for v in again.values.values()] == [v.quant for v in graph.values.values()]
    raw = golden.host_input(graph, x)
    (wanted,) = golden.host_output(graph, golden.run(graph, raw)).values()
    (seen,) = Runtime(path).run(x).values()
    scale = graph.quant(graph.outputs[0].value).scale
    steps = np.rint(np.abs(seen - wanted) / scale)
    assert steps.max() <= 1
    assert (steps > 0).mean() < 0.01


def test_known_expressions_have_names(network):
    named = {"silu": F.Swish(), "quick gelu": F.Swish(float(np.float32(1.702)))}
    named |= {"hard swish": F.HardSwish()}
    for name, function in named.items():
        (op,) = load(network(name))
        assert op.function == function


def test_an_expression_is_a_value(network):
    (one,), (two,) = load(network("gelu")), load(network("gelu"))
    assert one.function == two.function
    assert hash(one.function) == hash(two.function)
    assert str(one.function) == "{0.5 * x * (Erf(0.707107 * x) + 1)}"


def test_results_that_are_read_more_than_once_are_printed_once():
    doubling = Expression(tuple(Step(Product(), (n, n)) for n in range(40)))
    assert len(str(doubling)) < 1000


@pytest.mark.parametrize("operands", [(0, 2), (1,), (-1, 0)])
def test_a_step_reads_only_earlier_ones(operands):
    with pytest.raises(ValueError, match=r"step 2 of an expression has operands"):
        Expression((Step(Product(), (0, 0)), Step(Product(), operands)))


# Exactness.

INT8 = ir.Int(8, True)
ONE = ir.Shape(1, 1, 1)


def levels(function, x, y):
    """The integers of the proof, which are golden's too, for every integer of ``x``."""
    op = ir.Unary("u", ("x",), "y", function)
    graph = ir.Graph("net", (), (), (op,), {"x": ir.Value("x", ONE, x), "y": ir.Value("y", ONE, y)})
    raws = np.arange(x.dtype.low, x.dtype.high + 1).reshape(-1, 1, 1, 1)
    table = for_unary(graph, op)
    assert_array_equal(golden.step(op, graph, raws).reshape(-1), table)
    return table


@pytest.mark.parametrize("scale", [0.03125, 0.0437, 0.5, 8.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_integer_is_rounded_as_golden_does(network, name, scale):
    (op,) = load(network(name))
    x = ir.Quant(INT8, float(np.float32(scale)), 3)
    for y in (ir.Quant(INT8, 1 / 64, -5), ir.Quant(INT8, float(np.float32(0.37)), 0)):
        levels(op.function, x, y)


def test_wide_integers_are_rounded_as_golden_does(network):
    (op,) = load(network("gelu with tanh"))
    x, y = ir.Quant(ir.Int(12, True), 1 / 256, 0), ir.Quant(ir.Int(10, True), 1 / 128, 0)
    table = levels(op.function, x, y)
    reals = np.arange(-2048, 2048) / 256
    estimate = np.clip(np.rint(op.function(reals) * 128), -512, 511)
    assert np.abs(table - estimate).max() <= 1


def test_a_rational_tie_rounds_half_to_even():
    square = Expression((Step(Product(), (0, 0)),))
    table = levels(square, ir.Quant(INT8, 0.5, 0), ir.Quant(INT8, 0.5, 0))
    assert_array_equal(table[128 : 128 + 6], [0, 0, 2, 4, 8, 12])  # 0, 0.5, 2, 4.5, 8, 12.5


@pytest.mark.parametrize(("scale", "level"), [(2 / 3, 2), (0.4, 2), (0.25, 4)])
def test_an_identity_of_irrational_numbers_meets_its_tie(scale, level):
    whole = Expression(
        (
            Step(F.Sigmoid(), (0,)),
            Step(Affine(-1.0), (0,)),
            Step(F.Sigmoid(), (2,)),
            Step(Sum(), (1, 3)),
        )
    )
    y = ir.Quant(INT8, float(np.float32(scale)), 0)
    exact = round(1 / Fraction(y.scale))
    assert_array_equal(levels(whole, ir.Quant(INT8, 0.25, 0), y), np.full(256, exact))
    assert exact in (level, level - 1)  # float32 may lie on either side


def test_cancellation_of_large_numbers_keeps_the_digits():
    shifted = Expression((Step(Affine(1.0, 1e8), (0,)), Step(Affine(1.0, -1e8), (1,))))
    x = ir.Quant(INT8, float(np.float32(1e-9)), 0)
    assert_array_equal(levels(shifted, x, x), np.arange(-128, 128))


def test_an_overflow_on_the_way_is_no_overflow_of_the_result():
    softplus = Expression((Step(F.Exp(), (0,)), Step(Affine(1.0, 1.0), (1,)), Step(F.Log(), (2,))))
    x = ir.Quant(INT8, 16.0, 0)
    assert_array_equal(levels(softplus, x, x), np.maximum(np.arange(-128, 128), 0))


def test_a_pole_on_the_way():
    bump = Expression((Step(F.Reciprocal(), (0,)), Step(Limit(-2.0, 1.5), (1,))))
    table = levels(bump, ir.Quant(INT8, 0.25, 0), ir.Quant(INT8, 0.25, 0))
    assert_array_equal(table[128 - 2 : 128 + 5], [-8, -8, 6, 6, 6, 5, 4])


def test_a_jump_that_no_digits_decide_is_refused():
    jump = Expression(
        (
            Step(F.Sqrt(), (0,)),
            Step(Product(), (1, 1)),
            Step(Difference(), (2, 0)),
            Step(F.GreaterOrEqual(0.0), (3,)),
        )
    )
    with pytest.raises(QuantizeError, match=r"of 2 has no digits that tell how it is rounded"):
        levels(jump, ir.Quant(INT8, 1.0, 0), ir.Quant(INT8, 1.0, 0))


@pytest.mark.parametrize("bits", [8, 11])
def test_hardware(network, bits):
    (op,) = load(network("gelu"))
    builder = Builder(4, 5, 3, seed=3, dtype=ir.Int(bits, True))
    builder.unary(builder.input, op.function)
    graph, frames = builder.graph(), builder.frames(3)
    seen = measure(fold(graph), frames, stall=0.3)
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])


def test_a_long_chain_becomes_expressions_of_bounded_length(model):
    names = ["x", *(f"t{n}" for n in range(2999)), "y"]
    nodes = [N("Sin", [a], [b]) for a, b in pairwise(names)]
    start = time.perf_counter()
    graph = load(model(nodes, [1, 4]))
    assert time.perf_counter() - start < 20
    lengths = [len(op.function.steps) for op in graph]
    assert sum(lengths) == 3000
    assert max(lengths) <= 64

"""MatMul and Gemm with constants in every form, and Div."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper

from .conftest import reference_runtime

N = helper.make_node


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


#: shape of the left operand and of the right one; one of them is the constant
LEFT = {
    "a matrix on the left": ((3, 4), ["N", 4, 5]),
    "of maps": ((3, 4), ["N", 2, 4, 5]),
    "one each on the left": ((2, 3, 4), [2, 2, 4, 5]),
    "with an axis more": ((1, 3, 4), [2, 4, 5]),
}
RIGHT = {
    "a matrix": (["N", 4, 5], (5, 3)),
    "a vector": (["N", 4, 5], (5,)),
    "in more axes": (["N", 2, 4, 5], (1, 1, 5, 3)),
    "one each": ([2, 2, 4, 5], (2, 5, 3)),
    "one each in all axes": ([2, 2, 4, 5], (1, 2, 5, 3)),
    "one for several": (["N", 2, 3, 4, 5], (3, 5, 2)),
}


@pytest.mark.parametrize(("constant", "shape"), LEFT.values(), ids=LEFT)
def test_a_constant_on_the_left(model, agrees, constant, shape):
    nodes = [N("Relu", ["x"], ["r"]), N("MatMul", ["w", "r"], ["y"])]
    agrees(model(nodes, shape, w=floats(*constant)))


@pytest.mark.parametrize(("shape", "constant"), RIGHT.values(), ids=RIGHT)
def test_a_constant_on_the_right(model, agrees, shape, constant):
    nodes = [N("Sigmoid", ["x"], ["r"]), N("MatMul", ["r", "w"], ["y"])]
    if len(shape) > 4:
        nodes.insert(0, N("Reshape", ["flat", "five"], ["x5"]))
        nodes[0].input[0], nodes[1].input[0] = "x", "x5"
        shape, five = ["N", 2 * 3 * 4 * 5], np.array([-1, *shape[1:]])
        agrees(model(nodes, shape, w=floats(*constant), five=five))
        return
    agrees(model(nodes, shape, w=floats(*constant)))


def test_integers_of_each_matrix(model, rng):
    nodes = [
        N("DequantizeLinear", ["x", "s", "z"], ["r"]),
        N("DequantizeLinear", ["w", "ws"], ["v"]),
        N("MatMul", ["r", "v"], ["m"]),
        N("QuantizeLinear", ["m", "t", "z"], ["y"]),
    ]
    path = model(
        nodes,
        [1, 2, 4, 5],
        dtype=TensorProto.INT8,
        w=rng.integers(-127, 128, (2, 5, 3)).astype(np.int8),
        ws=np.float32(2.0**-6),
        s=np.float32(2.0**-4),
        t=np.float32(2.0**-2),
        z=np.int8(3),
    )
    graph = load(path)
    assert graph.ops[-1].weight.dtype == np.int8
    x = rng.integers(-128, 128, (4, 2, 4, 5)).astype(np.int8)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    assert_array_equal(found, reference_runtime(path, x)[0])


BIASES = {"a row": (3,), "a row in two axes": (1, 3), "a number": (1,), "a column": (1, 1)}


@pytest.mark.parametrize("bias", BIASES.values(), ids=BIASES)
@pytest.mark.parametrize("transposed", [0, 1])
def test_gemm(model, agrees, bias, transposed):
    weight = floats(*((3, 5) if transposed else (5, 3)))
    node = N("Gemm", ["x", "w", "b"], ["y"], alpha=0.25, beta=0.35, transB=transposed)
    (op,) = agrees(model([node], [2, 5], w=weight, b=floats(*bias)))
    assert isinstance(op, ir.Conv)


@pytest.mark.parametrize("bias", [(4, 3), (4, 1)])
def test_a_matrix_is_added_to_a_product(model, agrees, bias):
    nodes = [
        N("Reshape", ["x", "rows"], ["r"]),
        N("Gemm", ["r", "w", "b"], ["g"]),
        N("Reshape", ["g", "flat"], ["y"]),
    ]
    path = model(
        nodes,
        [1, 20],
        w=floats(5, 3),
        b=floats(*bias),
        rows=np.array([4, 5]),
        flat=np.array([1, 12]),
    )
    agrees(path)


def test_the_first_matrix_transposed(model, agrees):
    nodes = [
        N("Reshape", ["x", "rows"], ["r"]),
        N("Gemm", ["r", "w", "b"], ["g"], transA=1),
        N("Reshape", ["g", "flat"], ["y"]),
    ]
    path = model(
        nodes,
        [1, 20],
        w=floats(5, 3),
        b=floats(3),
        rows=np.array([5, 4]),
        flat=np.array([1, 12]),
    )
    agrees(path)


WRONG = {
    "batch as features": ([N("Gemm", ["x", "w"], ["y"], name="n", transA=1)], "makes the batch"),
    "another matrix a sample": (
        [N("MatMul", ["x", "each"], ["y"], name="n")],
        "multiplies matrices of shape",
    ),
    "another bias a sample": (
        [N("Gemm", ["x", "w", "map"], ["y"], name="n")],
        "differs from sample to sample",
    ),
    "a vector on the left": ([N("MatMul", ["v", "x"], ["y"], name="n")], "multiplies a constant"),
}


@pytest.mark.parametrize(("nodes", "message"), WRONG.values(), ids=WRONG)
def test_what_does_not_fit_is_refused(model, nodes, message):
    constants = {"w": floats(5, 3), "each": floats(2, 5, 3), "map": floats(2, 3), "v": floats(2)}
    path = model(nodes, [2, 5], **constants)
    with pytest.raises(ModelError, match=rf"^n \(\w+\): .*{message}"):
        load(path)


def test_a_constant_does_not_differ_from_sample_to_sample(model):
    path = model([N("Mul", ["x", "k"], ["y"], name="n")], [2, 5], k=floats(2, 5))
    with pytest.raises(ModelError, match=r"^n \(Mul\): its constant differs from sample to sample"):
        load(path)


@pytest.mark.parametrize("operands", [["p", "q"], ["k", "q"]])
def test_division_by_an_activation(model, agrees, operands):
    nodes = [
        N("Exp", ["x"], ["p"]),
        N("ReduceSum", ["p", "axes"], ["q"]),
        N("Div", operands, ["y"]),
    ]
    graph = agrees(model(nodes, ["N", 4, 5], axes=np.array([2]), k=np.float32(3)))
    assert any(isinstance(op, ir.Unary) and "Reciprocal" in str(op.function) for op in graph)

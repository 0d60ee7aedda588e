"""If nodes of a known condition are the branch that they take."""

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from onnx import TensorProto, helper, numpy_helper

N = helper.make_node
FLOAT = TensorProto.FLOAT


def branch(nodes, output, **constants):
    """A graph of one output, without inputs of its own."""
    info = helper.make_tensor_value_info(output, FLOAT, None)
    stored = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    return helper.make_graph(nodes, "branch", [], [info], stored)


def choose(condition, then, other, output="y", **more):
    return N("If", [condition], [output], then_branch=then, else_branch=other, **more)


RELU = branch([N("Relu", ["c"], ["t"])], "t")
TANH = branch([N("Tanh", ["c"], ["t"])], "t")
UNKNOWN = branch([N("Det", ["c"], ["t"])], "t")
CONV = N("Conv", ["x", "w"], ["c"])
W = np.random.default_rng(1).normal(size=(4, 3, 1, 1)).astype(np.float32)


@pytest.mark.parametrize(("value", "expected"), [(True, ir.Clamp(0.0)), (False, None)])
def test_stored_condition(model, agrees, value, expected):
    path = model([CONV, choose("k", RELU, TANH)], ["N", 3, 4, 4], w=W, k=np.array(value))
    graph = agrees(path)
    if expected:
        assert [op.clamp for op in graph] == [expected]
    else:
        assert graph.ops[-1].function == ir.functions.Tanh()


def test_the_other_branch_may_hold_anything(model):
    path = model([CONV, choose("k", RELU, UNKNOWN)], ["N", 3, 4, 4], w=W, k=np.array(True))
    assert len(load(path).ops) == 1


@pytest.mark.parametrize("columns", [1, 2])
def test_condition_of_a_shape(model, agrees, columns):
    """As TorchScript exports a squeeze: only where the axis has one element."""
    less = N("Squeeze", ["r", "axes"], ["t"]) if columns == 1 else N("Abs", ["r"], ["t"])
    nodes = [
        CONV,
        N("Relu", ["c"], ["r"]),
        N("Shape", ["r"], ["s"]),
        N("Gather", ["s", "three"], ["n"], axis=0),
        N("Equal", ["n", "one"], ["k"]),
        choose("k", branch([less], "t"), branch([N("Identity", ["r"], ["t"])], "t")),
    ]
    numbers = {"three": np.int64(3), "one": np.int64(1), "axes": np.int64([3])}
    graph = agrees(model(nodes, ["N", 3, 4, columns], w=W, **numbers))
    assert graph.outputs[0].shape == ((4, 4) if columns == 1 else (4, 4, 2))
    assert len(graph.ops) == 1


def test_branch_that_returns_what_is_around_it(model):
    """Which ONNX allows, but ONNX Runtime does not."""
    path = model(
        [CONV, choose("k", branch([], "c"), RELU, "r"), N("Tanh", ["r"], ["y"])],
        ["N", 3, 4, 4],
        w=W,
        k=np.array(True),
    )
    assert [type(op) for op in load(path)] == [ir.Conv, ir.Unary]


def test_weights_in_a_branch_hide_no_others(model, agrees, rng):
    """Inside and outside ``w`` are different tensors."""
    inner = branch(
        [N("Conv", ["c", "v"], ["d"]), N("Conv", ["d", "u"], ["t"])],
        "t",
        v=rng.normal(size=(5, 4, 1, 1)).astype(np.float32),
    )
    nodes = [
        CONV,
        choose("k", inner, RELU, "a", name="n"),
        choose("k", inner, RELU, "b", name="m"),
        N("Add", ["a", "b"], ["y"]),
    ]
    u = rng.normal(size=(2, 5, 1, 1)).astype(np.float32)
    graph = agrees(model(nodes, ["N", 3, 4, 4], w=W, u=u, k=np.array(True)))
    assert len(graph.ops) == 6


def test_branch_in_a_branch(model, agrees):
    inside = branch(
        [N("Tanh", ["c"], ["h"]), choose("no", RELU, branch([N("Abs", ["h"], ["t"])], "t"), "z")],
        "z",
        no=np.array(False),
    )
    graph = agrees(model([CONV, choose("k", inside, RELU)], ["N", 3, 4, 4], w=W, k=np.array(True)))
    assert [str(op.function) for op in graph.ops[1:]] == ["{Abs(Tanh(x))}"]


def test_condition_of_the_input(model):
    nodes = [
        CONV,
        N("ReduceMax", ["x"], ["m"], keepdims=0),
        N("Greater", ["m", "zero"], ["k"]),
        choose("k", RELU, TANH, name="n"),
    ]
    path = model(nodes, [1, 3, 4, 4], w=W, zero=np.float32(0))
    with pytest.raises(ModelError, match=r"not supported: .*n \(If\)"):
        load(path)


def test_branches_without_the_outputs(model):
    node = choose("k", RELU, TANH, name="n")
    node.output.append("more")
    path = model([CONV, node, N("Add", ["y", "more"], ["z"])], [1, 3, 4, 4], out="z", w=W)
    proto = onnx.load(path)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(True), "k"))
    onnx.save(proto, path)
    with pytest.raises(ModelError, match=r"n \(If\): its branches do not give its 2 outputs; acc"):
        load(path)

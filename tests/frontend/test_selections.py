"""Operators that stand for several of the graph, beside ONNX Runtime."""

import numpy as np
import pytest
from onnx import helper

N = helper.make_node
MAP = [1, 4, 3, 6]
MIRRORED = np.tile(np.arange(6)[::-1], (1, 4, 3, 1))
OUTER = np.tile([4, 1], (1, 4, 3, 1))


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


@pytest.mark.parametrize("updates", [np.zeros((2, 3, 6), np.float32), floats(2, 3, 6)])
def test_constants_are_put_among_the_elements(model, agrees, updates):
    nodes = [N("Relu", ["x"], ["r"]), N("ScatterND", ["r", "i", "u"], ["a"])]
    nodes.append(N("Abs", ["a"], ["y"]))
    agrees(model(nodes, MAP, i=np.array([[0, 1], [0, 3]]), u=updates))


@pytest.mark.parametrize("data", [np.zeros(MAP, np.float32), floats(*MAP)])
def test_elements_are_put_into_a_constant(model, agrees, data):
    nodes = [N("Relu", ["x"], ["r"]), N("Slice", ["r", "s", "e", "a"], ["part"])]
    nodes += [N("ScatterElements", ["d", "i", "part"], ["b"], axis=3), N("Abs", ["b"], ["y"])]
    slices = {"s": np.array([1]), "e": np.array([3]), "a": np.array([3])}
    agrees(model(nodes, MAP, d=data, i=OUTER, **slices))


@pytest.mark.parametrize("op", ["Scatter", "ScatterElements"])
def test_elements_are_put_among_others(model, agrees, op):
    nodes = [N("Relu", ["x"], ["r"]), N("Abs", ["x"], ["u"])]
    nodes.append(N(op, ["r", "i", "u"], ["y"], axis=3))
    agrees(model(nodes, MAP, opset=10 if op == "Scatter" else 17, i=MIRRORED))


@pytest.mark.parametrize("reduction", ["add", "mul"])
def test_reductions_into_places(model, agrees, reduction):
    nodes = [N("Relu", ["x"], ["r"]), N("Abs", ["x"], ["u"])]
    nodes.append(N("ScatterElements", ["r", "i", "u"], ["y"], axis=3, reduction=reduction))
    agrees(model(nodes, MAP, opset=18, i=MIRRORED))


@pytest.mark.parametrize(
    ("equation", "constants"),
    [
        ("nchw,nchw->nchw", {}),
        ("nchw,oc->nohw", {"w": floats(5, 4)}),
        ("nchw,cw->nh", {"w": floats(4, 6)}),
        ("nchw,ndhw->ncd", {}),
        ("nchw->nwhc", None),
    ],
)
def test_sums_of_products_by_letters(model, agrees, equation, constants):
    inputs = ["r"] if constants is None else ["r", "w" if constants else "s"]
    nodes = [N("Relu", ["x"], ["r"]), N("Sigmoid", ["x"], ["s"])]
    nodes.append(N("Einsum", inputs, ["a"], equation=equation))
    nodes.append(N("Abs", ["a"], ["y"]))
    agrees(model(nodes if "s" in inputs else [nodes[0], *nodes[2:]], MAP, **(constants or {})))


@pytest.mark.parametrize("upper", [0, 1])
def test_a_triangle(model, agrees, upper):
    nodes = [N("Relu", ["x"], ["r"]), N("Trilu", ["r", "k"], ["a"], upper=upper)]
    agrees(model([*nodes, N("Abs", ["a"], ["y"])], MAP, k=np.array(1)))


def test_a_product_of_many(model, agrees):
    nodes = [N("Sigmoid", ["x"], ["s"]), N("ReduceProd", ["s"], ["y"], axes=[1], keepdims=1)]
    agrees(model(nodes, MAP))


def test_grid_sample(model, agrees):
    nodes = [N("Relu", ["x"], ["r"]), N("GridSample", ["r", "g"], ["y"])]
    agrees(model(nodes, MAP, opset=20, g=np.clip(floats(1, 4, 5, 2), -1, 1)))

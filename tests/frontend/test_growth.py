"""Activations that constants repeat, and tensors whose first axis is not the batch."""

import numpy as np
import pytest
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from onnx import helper

N = helper.make_node


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


#: shape of the activation, and of the constant that has more elements along some axes
GROWN = {
    "along the last axis": (["N", 6, 1], (5,)),
    "along the channels": (["N", 1, 4], (3, 1)),
    "along rows of a map": (["N", 3, 1, 4], (5, 1)),
    "by an axis more": ([1, 6], (1, 3, 6)),
    "along the batch": ([1, 6], (4, 6)),
    "of a map along the batch": ([1, 2, 3, 4], (3, 1, 1, 1)),
}


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Greater"])
@pytest.mark.parametrize(("shape", "constant"), GROWN.values(), ids=GROWN)
def test_constants_with_more_elements(model, agrees, op, shape, constant):
    nodes = [N("Sigmoid", ["x"], ["r"]), N(op, ["r", "w"], ["s"])]
    if op == "Greater":
        nodes += [N("Cast", ["s"], ["t"], to=1), N("Abs", ["t"], ["y"])]
    else:
        nodes += [N("Abs", ["s"], ["y"])]
    agrees(model(nodes, shape, w=floats(*constant)))


def test_a_constant_of_more_frames_is_refused(model):
    nodes = [N("Sigmoid", ["x"], ["r"]), N("Add", ["r", "w"], ["s"]), N("Abs", ["s"], ["y"])]
    with pytest.raises(ModelError, match="does not broadcast"):
        load(model(nodes, ["N", 6], w=floats(4, 6)))


def steps(axis):
    """Two steps of a recurrence, stacked on a new first axis, and reduced over it."""
    return [
        N("Sigmoid", ["x"], ["a"]),
        N("Tanh", ["a"], ["b"]),
        N("Unsqueeze", ["a", "axis"], ["first"]),
        N("Unsqueeze", ["b", "axis"], ["second"]),
        N("Concat", ["first", "second"], ["both"], axis=axis),
        N("ReduceSum", ["both", "axis"], ["sum"], keepdims=0),
        N("Abs", ["sum"], ["y"]),
    ]


def test_steps_are_stacked_on_the_first_axis(model, agrees):
    agrees(model(steps(0), [1, 6], axis=np.array([0])))


def test_frames_are_not_stacked(model):
    with pytest.raises(
        ModelError, match=r"concatenates along the batch; accepted: .* a batch of 1"
    ):
        load(model(steps(0), ["N", 6], axis=np.array([0])))


@pytest.mark.parametrize("node", ["Tile", "Expand"])
def test_an_input_that_is_repeated_on_an_axis_of_its_own(model, agrees, node):
    """As ``repeat_interleave`` of the channels is exported."""
    repeats = {"Tile": [1, 1, 3, 1, 1], "Expand": [1, 2, 3, 4, 5]}[node]
    nodes = [
        N("Unsqueeze", ["x", "axis"], ["five"]),
        N(node, ["five", "times"], ["more"]),
        N("Reshape", ["more", "joint"], ["channels"]),
        N("Conv", ["channels", "w"], ["y"], kernel_shape=[1, 1]),
    ]
    joint = np.array([0, 6, 4, 5])
    constants = {"axis": np.array([2]), "times": np.array(repeats), "joint": joint}
    agrees(model(nodes, [1, 2, 4, 5], w=floats(3, 6, 1, 1), **constants))

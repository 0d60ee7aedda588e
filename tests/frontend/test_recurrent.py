"""RNN, GRU and LSTM of a few steps against ONNX Runtime."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from onnx import helper

N = helper.make_node
SIZE, FEATURES, STEPS = 5, 3, 4
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def network(model, kind, output="Y", count=1, bias=True, steps=STEPS, more=(), **attributes):
    """A network whose input is [batch, steps, features], and one of the node's outputs."""
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        N(
            kind,
            ["t", "w", "r", "b" if bias else "", *more],
            outputs,
            hidden_size=SIZE,
            **attributes,
        ),
        N("Transpose", [output], ["y"], perm=[2, 0, 1, 3] if output == "Y" else [1, 0, 2]),
    ]
    gates = GATES[kind] * SIZE
    constants = {"w": floats(count, gates, FEATURES), "r": floats(count, gates, SIZE, seed=4)}
    if bias:
        constants["b"] = floats(count, 2 * gates, seed=5)
    return model(nodes, [1, steps, FEATURES], **constants)


@pytest.mark.parametrize("output", ["Y", "Y_h"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_layer(model, agrees, kind, direction, output):
    count = 2 if direction == "bidirectional" else 1
    agrees(network(model, kind, output, count, direction=direction))


def test_the_last_cell_of_an_lstm(model, agrees):
    agrees(network(model, "LSTM", "Y_c"))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("after", [0, 1])
def test_the_reset_gate_before_and_behind_the_weights(model, agrees, after, bias):
    agrees(network(model, "GRU", bias=bias, linear_before_reset=after))


def test_other_functions(model, agrees):
    agrees(network(model, "GRU", activations=["HardSigmoid", "Softsign"]))


def test_one_step(model, agrees):
    agrees(network(model, "LSTM", steps=1))


def test_steps_of_ordinary_operators(model):
    """Of which none is for the host."""
    graph = load(network(model, "GRU", "Y_h"))
    assert {type(op) for op in graph} <= {
        ir.Conv,
        ir.Unary,
        ir.Add,
        ir.ops.Sub,
        ir.ops.Mul,
        ir.Gather,
        ir.Reshape,
        ir.Concat,
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"steps": 17}, "runs over 17 steps; accepted: at most 16"),
        ({"direction": "bidirectional"}, "has weights of 1 directions, and the direction bidirec"),
        ({"count": 2}, "has weights of 2 directions, and the direction forward; accepted: weights"),
        ({"clip": 1.0}, "has clip or input_forget; accepted: neither"),
        ({"activations": ["Relu", "Tanh"]}, "has the activations ['Relu', 'Tanh']; accepted: 2 of"),
    ],
    ids=["steps", "one direction", "two directions", "clip", "functions"],
)
def test_what_is_not_built_is_refused(model, options, words):
    with pytest.raises(ModelError) as caught:
        load(network(model, "GRU", **options))
    assert words in str(caught.value)

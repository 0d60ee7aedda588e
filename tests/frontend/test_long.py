"""Networks of 10,000 nodes: no pass recurses over the graph, and each takes linear time."""

from time import process_time

import numpy as np
import pytest
from gatewright.compiler.frontend import load
from onnx import helper

N = helper.make_node
NODES, SECONDS = 10_000, 10
CONSTANTS = {
    "w": np.ones((2, 2, 1, 1), np.float32),
    "wq": np.ones((2, 2, 1, 1), np.int8),
    "one": np.ones(2, np.float32),
    "scale": np.float32(0.5),
    "zero": np.int8(0),
    "border": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
}


def normalized(x, i):
    return [
        N("Conv", [x, "w"], [f"a{i}"]),
        N("BatchNormalization", [f"a{i}", "one", "one", "one", "one"], [f"b{i}"]),
        N("Relu", [f"b{i}"], [f"x{i}"]),
    ]


def residual(x, i):
    return [N("Conv", [x, "w"], [f"a{i}"]), N("Add", [x, f"a{i}"], [f"x{i}"])]


def padded(x, i):
    return [N("Pad", [x, "border"], [f"a{i}"]), N("Conv", [f"a{i}", "kernel"], [f"x{i}"])]


def moved(x, i):
    return [N("MaxPool", [x], [f"x{i}"], kernel_shape=[1, 1])]


def quantized(x, i):
    return [
        N("DequantizeLinear", ["wq", "scale", "zero"], [f"w{i}"]),
        N("Conv", [x, f"w{i}"], [f"a{i}"]),
        *rounded(f"a{i}", f"x{i}", i),
    ]


def rounded(x, y, i):
    return [
        N("QuantizeLinear", [x, "scale", "zero"], [f"q{i}"]),
        N("DequantizeLinear", [f"q{i}", "scale", "zero"], [y]),
    ]


#: what a network repeats, what comes before it, and what after it
CHAINS = {
    "normalized": (normalized, None, None),
    "residual": (residual, None, None),
    "padded": (padded, None, None),
    "quantized": (quantized, rounded, None),
    "moved, then rounded": (moved, None, rounded),
    "rounded, then moved": (moved, rounded, None),
}


@pytest.mark.parametrize("chain", CHAINS)
def test_10_000_nodes_are_read_in_10_seconds(chain, model):
    repeated, first, last = CHAINS[chain]
    nodes = first("x", "x0", "first") if first else moved("x", 0)
    i = 0
    while len(nodes) < NODES - 2:
        i += 1
        nodes += repeated(f"x{i - 1}", i)
    nodes += last(f"x{i}", "y", "last") if last else [N("Identity", [f"x{i}"], ["y"])]
    path = model(nodes, [1, 2, 3, 3], kernel=np.ones((2, 2, 3, 3), np.float32), **CONSTANTS)
    start = process_time()
    graph = load(path)
    assert process_time() - start < SECONDS
    assert len(graph.ops) >= i

"""The ``.tflite`` that is measured computes the integer network, where LiteRT is installed."""

import numpy as np
import onnx
import pytest
from gatewright.benchmarks import litert
from gatewright.benchmarks.networks import NETWORKS
from gatewright.compiler import ir
from gatewright.compiler.frontend import load
from gatewright.compiler.quantize import quantize
from gatewright.sim import golden

FRAMES = 20

pytestmark = pytest.mark.skipif(not litert.available(), reason="ai-edge-litert is not installed")


@pytest.fixture(params=NETWORKS)
def graph(request, tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(NETWORKS[request.param].model(), path)
    return quantize(load(path), NETWORKS[request.param].calibration(16)), NETWORKS[request.param]


def alone(graph, op):
    """The network of one operator."""

    def port(kind, name):
        shape = graph.shape(name)
        return kind(name, shape.array, "int8", name, np.arange(shape.size))

    return ir.Graph(
        "alone",
        (port(ir.InputPort, op.inputs[0]),),
        (port(ir.OutputPort, op.output),),
        (op,),
        dict(graph.values),
    )


def test_each_layer_is_computed_within_a_step(graph):
    """On the same inputs at most one step, on fewer than one value in a thousand."""
    graph, network = graph
    (raw,) = golden.host_input(graph, network.frames(FRAMES)).values()
    values = {graph.inputs[0].value: raw, **golden.run(graph, raw)}
    for op in graph:
        if len(op.inputs) > 1:
            continue
        off = np.abs(litert.run(alone(graph, op), values[op.inputs[0]]) - values[op.output])
        assert off.max() <= 1, op.name
        assert (off > 0).mean() < 1e-3, op.name


def test_most_outputs_are_the_same(graph):
    """Single steps add up over a deep network, so not all of them."""
    graph, network = graph
    (raw,) = golden.host_input(graph, network.frames(FRAMES)).values()
    expected = golden.run(graph, raw)[graph.outputs[0].value]
    assert (litert.run(graph, raw) == expected).mean() > 0.8
    assert len(np.unique(expected.reshape(FRAMES, -1), axis=0)) > 1

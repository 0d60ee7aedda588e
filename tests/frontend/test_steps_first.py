"""Inputs [steps, 1, ...], as PyTorch's recurrent layers take them: the first axis is no batch."""

import numpy as np
import onnx
import pytest
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, survey, write_qdq
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.quantize import evaluate, model_input, quantize
from gatewright.sim import golden

from ..evaluation import leave
from .test_ports import N, random, save

LSTM = {"w": random(1, 32, 6), "r": random(1, 32, 8), "last": np.array(-1)}


def lstm():
    """A layer of 8 numbers whose last step is the output."""
    return [
        N("LSTM", ["x", "w", "r"], ["s"], hidden_size=8),
        N("Gather", ["s", "last"], ["y"], axis=0),
    ]


def spiking():
    """Three steps of a membrane that a threshold resets."""
    nodes, membrane = [], "b"
    for step in range(3):
        nodes += [
            N("Gather", ["x", f"i{step}"], [f"x{step}"], axis=0),
            N("Gemm", [f"x{step}", "k"], [f"g{step}"]),
            N("Add", [f"g{step}", membrane], [f"m{step}"]),
            N("Relu", [f"m{step}"], [f"o{step}"]),
        ]
        membrane = f"o{step}"
    return [*nodes, N("Tanh", [membrane], ["y"])]


SPIKING = {f"i{n}": np.array(n) for n in range(3)} | {"k": random(5, 4), "b": random(1, 4)}
MODELS = {
    "lstm": (lstm(), {"x": [5, 1, 6]}, {"y": [1, 1, 8]}, LSTM),
    "every step leaves": (lstm()[:1], {"x": [5, 1, 6]}, {"s": [5, 1, 1, 8]}, LSTM),
    "states of two layers": (
        [
            N("Gather", ["h", "i0"], ["a"], axis=0),
            N("Gather", ["h", "i1"], ["b"], axis=0),
            N("Mul", ["a", "b"], ["c"]),
            N("Add", ["x", "c"], ["y"]),
        ],
        {"x": [1, 4], "h": [2, 1, 4]},
        {"y": [1, 4]},
        {"i0": np.array(0), "i1": np.array(1)},
    ),
    "spiking": (spiking(), {"x": [3, 1, 5]}, {"y": [1, 4]}, SPIKING),
}


def feeds(graph, frames):
    return {port.name: random(frames, *port.shape) for port in graph.inputs}


@pytest.mark.parametrize("name", MODELS)
def test_floats_are_what_onnx_runtime_computes(name, tmp_path):
    path = save(tmp_path / "m.onnx", *MODELS[name])
    graph = load(path)
    assert not all(port.batched for port in graph.inputs)
    assert survey(path).graph is not None
    x = feeds(graph, 3)
    values = evaluate(graph, model_input(graph, x))
    for port, wanted in zip(graph.outputs, Runtime(path).run(x).values(), strict=True):
        found = leave(port, values)
        np.testing.assert_allclose(found, wanted.reshape(found.shape), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_quantized_file_is_what_onnx_runtime_computes(name, tmp_path):
    graph = load(save(tmp_path / "m.onnx", *MODELS[name]))
    x = feeds(graph, 20)
    found = quantize(graph, x)
    write_qdq(found, tmp_path / "q.onnx")
    onnx.checker.check_model(str(tmp_path / "q.onnx"), full_check=True)
    ours = golden.host_output(found, golden.run(found, golden.host_input(found, x)))
    seen = Runtime(tmp_path / "q.onnx", optimize=False).run(x)
    for port in found.outputs:
        step = found.quant(port.value).scale
        assert (
            np.abs(ours[port.name] - seen[port.name].reshape(ours[port.name].shape)).max()
            <= 1.01 * step
        )


def test_a_batch_that_is_kept_stays_one(tmp_path):
    """[n, 1, length] is a batch of maps of one channel where no node mixes its samples."""
    path = save(
        tmp_path / "m.onnx",
        [N("Conv", ["x", "w"], ["y"])],
        {"x": [4, 1, 8]},
        {"y": [4, 2, 6]},
        {"w": random(2, 1, 3)},
    )
    (port,) = load(path).inputs
    assert (port.batched, port.batch) == (True, 4)


def test_what_has_no_hardware_either_way_is_refused_as_a_batch(tmp_path):
    nodes = [N("Transpose", ["x"], ["t"], perm=[1, 2, 0]), N("Det", ["t"], ["y"])]
    path = save(tmp_path / "m.onnx", nodes, {"x": [4, 1, 4]}, {"y": [1]})
    with pytest.raises(ModelError, match="Det"):
        load(path)

"""The trained networks of a folder named by GATEWRIGHT_MODELS, against ONNX Runtime."""

import os
from pathlib import Path

import numpy as np
import pytest
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load

FOLDER = os.environ.get("GATEWRIGHT_MODELS")
pytestmark = pytest.mark.skipif(not FOLDER, reason="GATEWRIGHT_MODELS names no folder of models")
MODELS = sorted(Path(FOLDER).glob("*.onnx")) if FOLDER else []
FLOAT = [p for p in MODELS if "fp32" in p.name and "ultraface" not in p.name]
INTEGER = [p for p in MODELS if "qdq" in p.name]
REJECTED = [p for p in MODELS if p not in FLOAT + INTEGER]


@pytest.mark.parametrize("path", FLOAT, ids=lambda p: p.stem)
def test_float_network_agrees_with_onnx_runtime(path, agrees):
    assert not agrees(path).quantized


@pytest.mark.parametrize("path", INTEGER, ids=lambda p: p.stem)
def test_every_layer_of_a_quantized_network_agrees_with_onnx_runtime(path, run, step, ort, rng):
    graph = load(path)
    assert graph.quantized
    (port,) = graph.inputs
    x = (
        rng.uniform(-1, 1, (2, *port.shape)).astype(np.float32)
        if port.dtype == "float32"
        else rng.integers(-100 if port.dtype == "int8" else 0, 100, (2, *port.shape)).astype(
            port.dtype
        )
    )
    names = [op.output for op in graph]
    known = [name for name in names if not name.endswith("/reshape")]
    _, values = run(graph, x)
    wanted = dict(zip(known, ort(path, x, known)[1:], strict=True))
    given = {name: stream(graph, name, array) for name, array in wanted.items()}
    for op in graph:
        inputs = [given.setdefault(name, values[name]) for name in op.inputs]
        found = step(
            graph,
            op,
            [x.reshape(2, *graph.shape(n).array) for n, x in zip(op.inputs, inputs, strict=True)],
        )
        difference = np.abs(found.astype(int) - given.setdefault(op.output, found).astype(int))
        assert difference.max() <= 1, op.name
        assert difference.mean() < 0.01, op.name


def stream(graph, name, array):
    """A tensor of ONNX Runtime in stream order."""
    shape = graph.shape(name)
    if array.ndim == 4 and array.shape[1:] == (shape.channels, shape.height, shape.width):
        array = array.transpose(0, 2, 3, 1)
    return array.reshape(2, *shape.array)


@pytest.mark.parametrize("path", REJECTED, ids=lambda p: p.stem)
def test_other_networks_are_rejected_in_words(path):
    with pytest.raises(ModelError, match="accepted"):
        load(path)

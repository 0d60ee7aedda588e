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
def test_every_layer_of_a_quantized_network_agrees_with_onnx_runtime(path, run, ort, rng):
    graph = load(path)
    assert graph.quantized
    port, = graph.inputs
    x = rng.uniform(-1, 1, (2, *port.shape)).astype(np.float32) if port.dtype == "float32" else \
        rng.integers(-100 if port.dtype == "int8" else 0, 100, (2, *port.shape)).astype(port.dtype)
    _, values = run(graph, x)
    names = [op.output for op in graph if not op.output.endswith("/reshape")]
    for name, wanted in zip(names, ort(path, x, names)[1:], strict=True):
        shape = graph.shape(name)
        if wanted.ndim == 4 and wanted.shape[2:] == (shape.height, shape.width):
            wanted = wanted.transpose(0, 2, 3, 1)
        found = values[name].astype(int)
        difference = np.abs(found.reshape(2, -1) - wanted.astype(int).reshape(2, -1))
        assert (difference > 1).mean() < 0.02, name
        assert difference.mean() < 0.1, name


@pytest.mark.parametrize("path", REJECTED, ids=lambda p: p.stem)
def test_other_networks_are_rejected_in_words(path):
    with pytest.raises(ModelError, match="accepted"):
        load(path)

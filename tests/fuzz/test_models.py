"""Any QDQ file as a producer may write it: what the reader makes of it computes it exactly."""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from gatewright.sim import golden
from hypothesis import event, reject
from numpy.testing import assert_array_equal

from .exact import Exact
from .models import models
from .running import generated, saved

#: what the reader refuses by rule: it has no place for what the file says there
REFUSED = (
    "the network computes nothing",
    "does not depend on",
)


@generated(models(), few=100)
def test_golden_computes_the_file(example):
    model, seed = example
    x = samples(model, seed)
    with (
        saved("models", lambda path: onnx.save(model, path), x=x),
        TemporaryDirectory() as folder,
    ):
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        try:
            graph = load(path)
        except ModelError as error:
            if any(reason in str(error) for reason in REFUSED):
                reject()
            raise
        event("read")
        found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))
        wanted = Exact(path).run({"x": x.astype(np.float64)})
        for port in graph.outputs:
            assert_array_equal(found[port.name], wanted[port.name].astype(np.float32))


def samples(model, seed):
    """Three samples: numbers that the input's first rounding represents, and some beyond."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    first = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    scale, zero = (constants[name] for name in first.input[1:])
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    steps = np.random.default_rng(seed).integers(-140, 300, (3, *shape)) - int(zero)
    return (steps * scale).astype(np.float32)

"""What the tests of the frontend share: small models, and an evaluation beside ORT."""

from contextlib import suppress

import numpy as np
import onnx
import onnxruntime
import pytest
from gatewright.compiler import ir
from gatewright.compiler.frontend import load
from gatewright.compiler.frontend.reference_runtime import byte_ports
from onnx import TensorProto, helper, numpy_helper

from ..evaluation import evaluate, one_step


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.fixture
def model(tmp_path):
    """Write a model, return its path: ``model(nodes, [1, 3, 8, 8], **initializers)``."""

    def write(
        nodes,
        shape,
        *,
        opset=17,
        dtype=TensorProto.FLOAT,
        out="y",
        out_dtype=None,
        name="model.onnx",
        domains=(),
        **initializers,
    ):
        inputs = [helper.make_tensor_value_info("x", dtype, shape)]
        outputs = [helper.make_tensor_value_info(out, out_dtype or dtype, None)]
        constants = [numpy_helper.from_array(np.asarray(a), n) for n, a in initializers.items()]
        graph = helper.make_graph(nodes, "net", inputs, outputs, constants)
        opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in domains)]
        proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        with suppress(onnx.shape_inference.InferenceError):
            proto = onnx.shape_inference.infer_shapes(proto)
        path = tmp_path / name
        onnx.save(proto, path)
        return path

    return write


#: of operators on integers the inputs that are the activations' zero point, the weight and its
#: zero point
OPERANDS = {
    "QLinearConv": (2, 3, 5),
    "QLinearMatMul": (2, 3, 5),
    "QGemm": (2, 3, 5),
    "ConvInteger": (2, 1, 3),
    "MatMulInteger": (2, 1, 3),
}


def _without_saturation(proto):
    """Write int8 weights as uint8, 128 higher, where activations are uint8: on x86 processors
    without VNNI sums of uint8 * int8 saturate at 16 bits in ONNX Runtime, those of uint8 * uint8
    do not.
    """
    constants = {each.name: each for each in proto.graph.initializer}
    for node in proto.graph.node:
        places = OPERANDS.get(node.op_type, ())
        found = [constants.get(node.input[n]) for n in places if n < len(node.input)]
        if len(found) < 3 or None in found or found[0].data_type != TensorProto.UINT8:
            continue
        for each in found[1:]:
            if each.data_type == TensorProto.INT8:  # not moved for another node already
                moved = numpy_helper.to_array(each).astype(np.int16) + 128
                each.CopyFrom(numpy_helper.from_array(moved.astype(np.uint8), each.name))


def reference_runtime(path, x, extra=()):
    """ONNX Runtime's outputs, one sample at a time when the batch is fixed to one."""
    proto = onnx.load(path)
    for name in extra:
        proto.graph.output.append(onnx.ValueInfoProto(name=name))
    _without_saturation(proto)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        byte_ports(proto).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    port = session.get_inputs()[0]
    size = port.shape[0] if isinstance(port.shape[0], int) else 1
    chunks = [session.run(None, {port.name: x[i : i + size]}) for i in range(0, len(x), size)]
    return [
        np.concatenate([np.atleast_1d(part) for part in parts])
        for parts in zip(*chunks, strict=True)
    ]


@pytest.fixture
def agrees(rng):
    """Load a model, check it against ONNX Runtime on random samples, and return the graph."""

    def check(path, frames=2, tolerance=1e-4, low=-1.0, high=1.0, graph=None):
        graph = graph or load(path)
        (port,) = graph.inputs
        frames = frames * port.batch if isinstance(port.batch, int) else frames
        if port.dtype == "float32":
            x = rng.uniform(low, high, (frames, *port.shape)).astype(np.float32)
        else:
            dtype = ir.Int.named(port.dtype)
            size = (frames, *port.shape)
            x = rng.integers(dtype.low, dtype.high, size, endpoint=True).astype(dtype.numpy)
        wanted = reference_runtime(path, x)[0].reshape(len(x), *graph.outputs[0].shape)
        found, _ = evaluate(graph, x)
        assert found.dtype == wanted.dtype
        if graph.quantized:
            assert steps(graph, found, wanted) <= 1
        else:
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance)
        return graph

    return check


def steps(graph, found, wanted):
    """The largest difference of two outputs, in steps of the last quantization."""
    port = graph.outputs[0]
    if found.dtype.kind in "iu":
        return int(np.abs(found.astype(int) - wanted.astype(int)).max())
    scale = next(
        (s.quant.scale for s in reversed(port.tail) if isinstance(s, ir.Dequantize)),
        graph.quant(port.value).scale,
    )
    return float(np.abs(found - wanted).max() / scale) - 1e-3


@pytest.fixture
def run():
    return evaluate


@pytest.fixture
def ort():
    return reference_runtime


@pytest.fixture
def step():
    return one_step

"""ONNX Runtime, the reference runtime, computes what the golden model computes.

It works in float32, so now and then a value beside a tie differs by a step.
"""

import os
from pathlib import Path

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.quantize import evaluate, model_input, quantize
from gatewright.sim import golden

onnxruntime = pytest.importorskip("onnxruntime")
MODELS = os.environ.get("GATEWRIGHT_MODELS")
RNG = np.random.default_rng(5)
INTO = ir.Shape(7, 6, 4)
WINDOW = ir.Window((3, 3), (2, 1), (1, 1), (1, 1, 1, 1))


def layer(op, out):
    """A float network of one operator with channel-first borders."""

    def planes(shape):
        return np.arange(shape.size).reshape(shape.array).transpose(2, 0, 1).reshape(-1)

    return ir.Graph(
        "net",
        (
            ir.InputPort(
                "image",
                (INTO.channels, INTO.height, INTO.width),
                "float32",
                "x",
                np.argsort(planes(INTO)),
            ),
        ),
        (ir.OutputPort("out", (out.channels, out.height, out.width), "float32", "y", planes(out)),),
        (op,),
        {"x": ir.Value("x", INTO), "y": ir.Value("y", out)},
    )


def conv(out, groups, clamp):
    weight = RNG.normal(size=(out, 3, 3, INTO.channels // groups)).astype(np.float32)
    bias = RNG.normal(size=out).astype(np.float32)
    op = ir.Conv(
        "conv", ("x",), "y", weight, None, bias, None, window=WINDOW, groups=groups, clamp=clamp
    )
    return layer(op, WINDOW.output(INTO, out))


def pool(kind, *arguments):
    return layer(kind("pool", ("x",), "y", WINDOW, *arguments), WINDOW.output(INTO, INTO.channels))


def unary(function, clamp):
    return layer(ir.Unary("f", ("x",), "y", function, clamp=clamp), INTO)


LAYERS = {
    "convolution": conv(8, 1, ir.Clamp()),
    "relu6 convolution": conv(8, 1, ir.Clamp(0, 6)),
    "grouped convolution": conv(8, 2, ir.Clamp(0)),
    "depthwise convolution": conv(4, 4, ir.Clamp(0)),
    "maximum": pool(ir.MaxPool),
    "average inside": pool(ir.AveragePool, False),
    "average of all": pool(ir.AveragePool, True),
    "relu": unary(ir.Identity(), ir.Clamp(0)),
    "leaky relu": unary(ir.functions.LeakyRelu(0.125), ir.Clamp()),
    "sigmoid": unary(ir.functions.Sigmoid(), ir.Clamp()),
    "tanh": unary(ir.functions.Tanh(), ir.Clamp()),
    "hard sigmoid": unary(ir.functions.HardSigmoid(), ir.Clamp()),
    "hard swish": unary(ir.functions.HardSwish(), ir.Clamp()),
}


def reference_runtime(path, x):
    """The first output of the file for each sample, in a runtime that fuses nothing."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options)
    name = session.get_inputs()[0].name
    return np.concatenate([session.run(None, {name: one[None]})[0] for one in x])


@pytest.mark.parametrize("name", LAYERS)
def test_one_layer(name, tmp_path):
    graph = LAYERS[name]
    x = RNG.normal(size=(60, *graph.inputs[0].shape)).astype(np.float32)
    found = quantize(graph, x)
    write_qdq(found, tmp_path / "layer.onnx")
    ours = golden.host_output(found, golden.run(found, golden.host_input(found, x)))["out"]
    steps = np.abs(ours - reference_runtime(tmp_path / "layer.onnx", x)) / found.quant("y").scale
    assert steps.max() < 1.01
    # Averages of one scale to another fall on exact ties, which float32 may miss.
    assert (steps > 0.5).mean() < (0.01 if name.startswith("average") else 0.001)


@pytest.mark.skipif(not MODELS, reason="GATEWRIGHT_MODELS names no folder of models")
@pytest.mark.parametrize(
    "name", ["mnist-8_cntk_fp32", "kws_dscnn7k_alibaba_fp32", "ic_resnet8_mlperf_fp32"]
)
def test_quantized_models_stay_near_their_float_originals(name, tmp_path):
    graph = load(Path(str(MODELS)) / f"{name}.onnx")
    x = np.abs(RNG.normal(size=(16, *graph.inputs[0].shape))).astype(np.float32)
    found = quantize(graph, x)
    write_qdq(found, tmp_path / "model.onnx")
    values = golden.run(found, golden.host_input(found, x))
    last = graph.outputs[0].value
    exact, ours = evaluate(graph, model_input(graph, x))[last], found.quant(last)
    error = ours.dequantize(values[last]) - exact
    assert 10 * np.log10(np.square(exact).mean() / np.square(error).mean()) > 15
    outputs = golden.host_output(found, values)[graph.outputs[0].name]
    np.testing.assert_allclose(
        outputs, reference_runtime(tmp_path / "model.onnx", x), atol=3 * ours.scale
    )

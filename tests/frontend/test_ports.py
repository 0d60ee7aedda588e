"""Models of several inputs and outputs: read, quantized, written and read again, beside ORT."""

import numpy as np
import onnx
import onnxruntime
import pytest
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.passes.argmax_in_hardware import argmax_in_hardware
from gatewright.compiler.quantize import evaluate, model_input, quantize
from gatewright.sim import golden
from onnx import TensorProto, helper, numpy_helper

from ..evaluation import leave

N = helper.make_node
RNG = np.random.default_rng(4)


def random(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def info(name, shape, dtype=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, dtype, shape)


def save(path, nodes, inputs, outputs, constants=(), opset=17):
    graph = helper.make_graph(
        nodes,
        "net",
        [info(name, shape) if isinstance(shape, list) else shape for name, shape in inputs.items()],
        [
            info(name, shape) if isinstance(shape, list) else shape
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in dict(constants).items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


IMAGE = ["N", 3, 4, 4]
MODELS = {
    "sum": (
        [N("Add", ["x", "z"], ["y"])],
        {"x": IMAGE, "z": IMAGE},
        {"y": IMAGE},
        {},
    ),
    "a number a sample": (
        [
            N("Conv", ["x", "w"], ["a"]),
            N("Unsqueeze", ["t", "last"], ["number"]),
            N("Gemm", ["number", "k"], ["b"]),
            N("Unsqueeze", ["b", "space"], ["c"]),
            N("Add", ["a", "c"], ["y"]),
        ],
        {"x": IMAGE, "t": ["N"]},
        {"y": ["N", 2, 4, 4]},
        {
            **{"w": random(2, 3, 1, 1), "k": random(1, 2)},
            **{"last": np.array([1]), "space": np.array([2, 3])},
        },
    ),
    "one layout in two arrangements": (
        [
            N("Transpose", ["z"], ["first"], perm=[0, 3, 1, 2]),
            N("Conv", ["first", "w"], ["b"]),
            N("Conv", ["x", "w"], ["a"]),
            N("Add", ["a", "b"], ["y"]),
        ],
        {"x": IMAGE, "z": ["N", 4, 4, 3]},
        {"y": ["N", 2, 4, 4]},
        {"w": random(2, 3, 1, 1)},
    ),
    "a map and a vector": (
        [
            N("Conv", ["x", "w"], ["a"]),
            N("GlobalAveragePool", ["a"], ["mean"]),
            N("Flatten", ["mean"], ["flat"]),
            N("Gemm", ["z", "v"], ["b"]),
            N("Concat", ["flat", "b"], ["both"], axis=1),
            N("Gemm", ["both", "u"], ["y"]),
        ],
        {"x": IMAGE, "z": ["N", 5]},
        {"y": ["N", 3], "b": ["N", 4], "both": ["N", 6]},
        {"w": random(2, 3, 1, 1), "v": random(5, 4), "u": random(6, 3)},
    ),
    "one value under two names": (
        [N("Relu", ["x"], ["y"]), N("Identity", ["y"], ["z"])],
        {"x": IMAGE},
        {"y": IMAGE, "z": IMAGE},
        {},
    ),
    "an input that leaves": (
        [
            N("Relu", ["x"], ["y"]),
            N("Identity", ["x"], ["z"]),
            N("Flatten", ["x"], ["flat"]),
        ],
        {"x": IMAGE},
        {"z": IMAGE, "y": IMAGE, "flat": ["N", 48]},
        {},
    ),
    "before and behind a clamp": (
        [N("Conv", ["x", "w"], ["c"]), N("Relu", ["c"], ["y"])],
        {"x": IMAGE},
        {"y": ["N", 2, 4, 4], "c": ["N", 2, 4, 4]},
        {"w": random(2, 3, 1, 1)},
    ),
    "scores and shares": (
        [
            N("Flatten", ["x"], ["flat"]),
            N("Gemm", ["flat", "w"], ["scores"]),
            N("Softmax", ["scores"], ["y"]),
        ],
        {"x": IMAGE},
        {"y": ["N", 5], "scores": ["N", 5]},
        {"w": random(48, 5)},
    ),
    "the shape of another input": (
        [
            N("Shape", ["x"], ["shape"]),
            N("Reshape", ["z", "shape"], ["map"]),
            N("Conv", ["x", "w"], ["a"]),
            N("Conv", ["map", "w"], ["b"]),
            N("Add", ["a", "b"], ["y"]),
        ],
        {"x": [1, 3, 4, 4], "z": [1, 48]},
        {"y": [1, 2, 4, 4]},
        {"w": random(2, 3, 1, 1)},
    ),
}


def feeds(graph, frames=40):
    return {port.name: random(frames, *port.shape) for port in graph.inputs}


def reference(path, x):
    """ONNX Runtime's outputs by name, a frame at a time."""
    options = onnxruntime.SessionOptions()
    # as written: the integer kernels saturate on processors without VNNI
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_outputs()]
    frames = len(next(iter(x.values())))
    parts = [
        session.run(None, {name: each[n : n + 1] for name, each in x.items()})
        for n in range(frames)
    ]
    return {name: np.concatenate([part[n] for part in parts]) for n, name in enumerate(names)}


@pytest.mark.parametrize("name", MODELS)
def test_floats_are_what_onnx_runtime_computes(name, tmp_path):
    path = save(tmp_path / "m.onnx", *MODELS[name])
    graph = load(path)
    assert [port.name for port in graph.inputs] == list(MODELS[name][1])
    assert [port.name for port in graph.outputs] == list(MODELS[name][2])
    x = feeds(graph, 3)
    values = evaluate(graph, model_input(graph, x))
    for port, wanted in zip(graph.outputs, reference(path, x).values(), strict=True):
        np.testing.assert_allclose(leave(port, values), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_the_quantized_file_is_read_back_and_is_what_onnx_runtime_computes(name, tmp_path):
    graph = load(save(tmp_path / "m.onnx", *MODELS[name]))
    x = feeds(graph)
    found = quantize(graph, x)
    write_qdq(found, tmp_path / "q.onnx")
    onnx.checker.check_model(str(tmp_path / "q.onnx"), full_check=True)
    again = load(tmp_path / "q.onnx")
    ours = golden.host_output(found, golden.run(found, golden.host_input(found, x)))
    back = golden.host_output(again, golden.run(again, golden.host_input(again, x)))
    seen = reference(tmp_path / "q.onnx", x)
    assert list(ours) == list(back) == list(seen)
    for port in again.outputs:
        np.testing.assert_array_equal(back[port.name], ours[port.name])
        step = again.quant(port.value).scale
        assert np.abs(ours[port.name] - seen[port.name]).max() <= 1.01 * step
        assert (np.abs(ours[port.name] - seen[port.name]) > 0.5 * step).mean() < 0.02


def test_the_winning_class_replaces_the_output_that_the_host_would_end(tmp_path):
    nodes, inputs, outputs, constants = MODELS["scores and shares"]
    graph = load(save(tmp_path / "m.onnx", nodes, inputs, outputs, constants))
    x = feeds(graph)
    found = argmax_in_hardware(quantize(graph, x))
    y, scores = found.outputs
    assert (y.name, y.dtype, y.shape) == ("y", "int64", (1,))
    assert (scores.name, scores.dtype) == ("scores", "float32")
    ours = golden.host_output(found, golden.run(found, golden.host_input(found, x)))
    np.testing.assert_array_equal(ours["y"][:, 0], ours["scores"].argmax(1))


def test_no_winning_class_among_several_outputs_is_refused(tmp_path):
    graph = load(save(tmp_path / "m.onnx", *MODELS["one value under two names"]))
    with pytest.raises(ModelError, match="none of the outputs y, z ends in Softmax or ArgMax"):
        argmax_in_hardware(quantize(graph, feeds(graph)))


def quantized(name, source):
    """A QuantizeLinear and DequantizeLinear of ``source`` as ``name``."""
    return [
        N("QuantizeLinear", [source, "s", "zero"], [f"{name}_q"], f"{name}_quantize"),
        N("DequantizeLinear", [f"{name}_q", "s", "zero"], [name], f"{name}_dequantize"),
    ]


SCALE = {"s": np.float32(0.25), "zero": np.int8(0)}


@pytest.mark.parametrize(
    ("nodes", "inputs", "outputs", "constants", "message"),
    [
        (
            [N("Relu", ["x"], ["y"])],
            {"x": IMAGE, "z": IMAGE},
            {"y": IMAGE},
            {},
            "z: the values of this input reach no output; accepted: inputs that an output depends",
        ),
        (
            [N("Shape", ["z"], ["s"]), N("Reshape", ["x", "s"], ["f"]), N("Relu", ["f"], ["y"])],
            {"x": [1, 4], "z": [1, 2, 2]},
            {"y": [1, 2, 2]},
            {},
            "z: the values of this input reach no output",
        ),
        (
            [N("Relu", ["x"], ["y"])],
            {"x": IMAGE},
            {"y": IMAGE, "x": IMAGE},
            {},
            "x is an input and an output; accepted: outputs that a node computes",
        ),
        (
            [N("Add", ["x", "z"], ["y"])],
            {"x": [2, 4], "z": [1, 4]},
            {"y": [2, 4]},
            {},
            "the inputs have different batches (x has 2, z has 1); accepted: one batch for all",
        ),
        (
            [N("Relu", ["x"], ["y"]), N("Neg", ["c"], ["z"])],
            {"x": IMAGE, "w": IMAGE},
            {"y": IMAGE, "z": [4]},
            {"c": np.ones(4, np.float32)},
            "the output z does not depend on any of the inputs x, w; export the network again",
        ),
    ],
    ids=["unused", "only its shape", "input", "batches", "constant"],
)
def test_refused(tmp_path, nodes, inputs, outputs, constants, message):
    path = save(tmp_path / "m.onnx", nodes, inputs, outputs, constants)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert message in str(caught.value)


@pytest.mark.parametrize("selected", [False, True])
def test_an_output_that_only_another_one_rounds_is_left_in_floats(tmp_path, selected):
    """Samples give it a type."""
    pool = [N("MaxPool", ["r"], ["y"], kernel_shape=[2, 2])]
    nodes = [*quantized("a", "x"), N("Relu", ["a"], ["r" if selected else "y"])]
    nodes += [*(pool if selected else []), *quantized("z", "y")]
    size = ["N", 3, 3, 3] if selected else IMAGE
    path = save(tmp_path / "m.onnx", nodes, {"x": IMAGE}, {"y": size, "z": size}, SCALE)
    graph = load(path)
    assert not graph.quantized
    rounded = {port.name: port.value not in graph.open_values for port in graph.outputs}
    assert rounded == {"y": False, "z": True}


def test_a_selection_of_rounded_values_leaves_as_the_reals_that_it_is(tmp_path):
    nodes = [
        *quantized("a", "x"),
        N("Relu", ["a"], ["r"]),
        *quantized("z", "r"),
        N("MaxPool", ["z"], ["y"], kernel_shape=[2, 2]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"x": IMAGE}, {"y": ["N", 3, 3, 3], "z": IMAGE}, SCALE)
    graph = load(path)
    x = feeds(graph)
    ours = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))
    for name, wanted in reference(path, x).items():
        np.testing.assert_array_equal(ours[name], wanted)

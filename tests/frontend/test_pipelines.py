"""The operators around scikit-learn's networks compute what ONNX Runtime does."""

import numpy as np
import onnx
import onnxruntime
import pytest
from gatewright import boards
from gatewright.compiler.data import Samples
from gatewright.compiler.driver import compile_model
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from gatewright.sim import golden
from gatewright.sim.accuracy import accuracy
from numpy.testing import assert_allclose
from onnx import TensorProto, helper

from ..evaluation import evaluate

N, ML = helper.make_node, "ai.onnx.ml"


def weights(*shape, seed=3):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scaler(offset=(0.5, -1.0, 2.0, 0.0), scale=(2.0, 2.0, 2.0, 2.0)):
    return N("Scaler", ["x"], ["a"], domain=ML, offset=list(offset), scale=list(scale))


def regressor(targets, numbers, x="x", **more):
    coefficients = weights(numbers).tolist()
    return N(
        "LinearRegressor", [x], ["y"], domain=ML, targets=targets, coefficients=coefficients, **more
    )


def classifier(labels=(0, 1, 2), **more):
    outputs, rows = ["label", "y"], len(labels)
    return N(
        "LinearClassifier",
        ["x"],
        outputs,
        domain=ML,
        classlabels_ints=list(labels),
        coefficients=weights(rows * 4).tolist(),
        intercepts=weights(rows, seed=4).tolist(),
        **more,
    )


@pytest.mark.parametrize(
    "nodes",
    [
        [scaler(), N("MatMul", ["a", "w"], ["y"])],
        [scaler([0.5], [2.0]), N("MatMul", ["a", "w"], ["y"])],
        [regressor(2, 8, intercepts=[0.5, -0.25])],
        [scaler(), regressor(1, 4, "a")],
    ],
    ids=["scaler", "one scale for all", "regressor", "both"],
)
def test_a_pipeline_computes_what_the_runtime_does(model, rng, nodes):
    path = model(nodes, ["N", 4], domains=[ML], w=weights(4, 3))
    x = rng.normal(size=(20, 4)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    found, _ = evaluate(load(path), x)
    assert_allclose(found.reshape(expected.shape), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("transform", ["NONE", "SOFTMAX", "LOGISTIC"])
@pytest.mark.parametrize("norm", [None, "L1", "L2", "MAX"])
def test_a_linear_classifier_gives_scores_and_labels(rng, tmp_path, transform, norm):
    """As skl2onnx writes a LogisticRegression or a RidgeClassifier."""
    nodes = [classifier(post_transform=transform)]
    if norm:
        nodes.append(N("Normalizer", ["y"], ["z"], domain=ML, norm=norm))
    made = helper.make_tensor_value_info
    outputs = [made("label", TensorProto.INT64, ["N"]), made(nodes[-1].output[-1], 1, ["N", 3])]
    graph = helper.make_graph(nodes, "net", [made("x", 1, ["N", 4])], outputs)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 1)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    x, board = rng.normal(size=(40, 4)).astype(np.float32), boards.get("ulx3s-85f")
    compiled = compile_model(path, tmp_path / "out", board.device, board.name, samples=x)
    labels, scores = onnxruntime.InferenceSession(path).run(None, {"x": x})
    values = golden.run(
        compiled.graph, golden.host_input(compiled.graph, compiled.before({"x": x}))
    )
    found = compiled.after({"x": x}, golden.host_output(compiled.graph, values))
    assert (found["label"].reshape(-1) == labels).mean() > 0.9
    if transform != "NONE" or norm is None:  # scores of both signs have norms near 0
        seen = found[outputs[1].name].reshape(scores.shape)
        assert_allclose(seen, scores, atol=0.1 * np.ptp(scores))


def test_features_of_different_ranges_are_scaled_on_the_host(model, rng, tmp_path):
    """In hardware they would be integers of one scale before."""
    ranges = np.array([1e-3, 1.0, 30.0, 4000.0], np.float32)
    nodes = [scaler([0.0] * 4, (1 / ranges).tolist()), N("MatMul", ["a", "w"], ["y"])]
    path = model(nodes, ["N", 4], domains=[ML], w=weights(4, 3))
    x, board = (rng.normal(size=(60, 4)) * ranges).astype(np.float32), boards.get("icebreaker")
    compiled = compile_model(path, tmp_path / "out", board.device, board.name, samples=x)
    assert (tmp_path / "out" / "head.onnx").exists()
    assert accuracy(compiled, Samples(x)).summary["agreement"] > 0.95


def test_integers_come_in_as_integers(model, rng, tmp_path):
    """skl2onnx takes the type of the samples that it is given; the quantized file takes floats."""
    nodes = [scaler(), N("MatMul", ["a", "w"], ["y"])]
    path = model(
        nodes, ["N", 4], dtype=TensorProto.INT64, out_dtype=1, domains=[ML], w=weights(4, 3)
    )
    x, board = rng.integers(-9, 9, (40, 4)), boards.get("icebreaker")
    compiled = compile_model(path, tmp_path / "out", board.device, board.name, samples=x)
    assert accuracy(compiled, Samples(x)).summary["agreement"] > 0.9
    assert accuracy(compiled, Samples(x.astype(np.float32))).summary["agreement"] > 0.9


@pytest.mark.parametrize(
    "node",
    [
        N("ZipMap", ["x"], [], domain=ML),
        regressor(2, 8, intercepts=[0.5]),
        regressor(3, 8),
        N("Scaler", ["x"], ["y"], domain=ML, offset=[0.0] * 3, scale=[1.0] * 3),
        classifier((0, 1), post_transform="PROBIT"),
        classifier((3, 1)),
    ],
    ids=[
        *("no output", "too few intercepts", "no whole rows", "another size"),
        *("another transform", "other classes"),
    ],
)
def test_a_damaged_node_is_refused(model, node):
    with pytest.raises(ModelError):
        load(model([node], ["N", 4], domains=[ML]))


def test_a_map_without_classes_is_its_input(model):
    nodes = [N("MatMul", ["x", "w"], ["a"]), N("ZipMap", ["a"], ["y"], domain=ML)]
    (port,) = load(model(nodes, ["N", 4], domains=[ML], w=weights(4, 3))).outputs
    assert port.shape == (3,)


def test_labels_of_text_are_refused_with_advice(model):
    nodes = [N("MatMul", ["x", "w"], ["y"])]
    path = model(nodes, ["N", 4], out_dtype=TensorProto.STRING, w=weights(4, 3))
    with pytest.raises(ModelError, match="train with numbers as classes"):
        load(path)


def test_a_map_of_classes_is_the_tensor_of_their_scores(tmp_path):
    """The default export of a classifier gives a map for each sample."""
    entry = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(1, []))
    out = helper.make_value_info("y", helper.make_sequence_type_proto(entry))
    nodes = [
        N("Gemm", ["x", "w"], ["a"]),
        N("Softmax", ["a"], ["s"]),
        N("ZipMap", ["s"], ["y"], domain=ML, classlabels_int64s=[3, 5, 8]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])
    stored = [onnx.numpy_helper.from_array(weights(4, 3), "w")]
    graph = helper.make_graph(nodes, "net", [x], [out], stored)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(ML, 1)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    (port,) = load(path).outputs
    assert port.shape == (3,)
    board = boards.get("icebreaker")
    samples = weights(30, 4)
    compile_model(path, tmp_path / "out", board.device, board.name, samples=samples)
    copied = onnxruntime.InferenceSession(tmp_path / "out" / "model.float.onnx")
    (scores,) = copied.run(None, {"x": samples})
    (maps,) = onnxruntime.InferenceSession(path).run(None, {"x": samples})
    assert_allclose(scores, [[each[label] for label in (3, 5, 8)] for each in maps])

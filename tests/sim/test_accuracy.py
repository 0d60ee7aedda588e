"""Accuracy: what labels, float network and reference runtime say."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from gatewright import boards
from gatewright.benchmarks.networks import Builder
from gatewright.compiler import driver
from gatewright.compiler.data import Samples
from gatewright.compiler.errors import DataError
from gatewright.compiler.frontend.static_quantization import COMMON, StaticQuantizer
from gatewright.compiler.report import views
from gatewright.sim import golden
from gatewright.sim.accuracy import accuracy
from onnx import TensorProto, helper, numpy_helper


def classes(compiled, x):
    values = golden.run(compiled.graph, golden.host_input(compiled.graph, x))
    return golden.host_output(compiled.graph, values)["scores"].reshape(len(x), -1).argmax(1)


def test_labels_that_are_our_own_answers_are_all_right(compiled, images):
    found = accuracy(compiled, Samples(images, classes(compiled, images)))
    assert found.top1 == 1.0
    assert found.summary["integer"]["right"] == len(images)
    assert found.summary["float"]["top1"] == found.summary["agreement"] > 0.8


def test_one_hot_labels_and_whole_floats_mean_the_same(compiled, images):
    y = classes(compiled, images)
    assert accuracy(compiled, Samples(images, np.eye(4)[y])).top1 == 1.0
    assert accuracy(compiled, Samples(images, y.astype(np.float32)[:, None])).top1 == 1.0


def test_without_labels_everything_else_is_still_there(compiled, images):
    found = accuracy(compiled, Samples(images[:8]))
    assert found.top1 is None
    assert found.summary["float"] is found.summary["integer"] is None
    assert found.summary["agreement"] is not None
    assert found.summary["reference_runtime"]["end_to_end"]["agreement"] == 1.0


def test_the_reference_runtime_agrees_layer_by_layer(compiled, images):
    found = accuracy(compiled, Samples(images)).summary["reference_runtime"]["layer_by_layer"]
    assert found["missing"] == []
    assert [row["op"] for row in found["layers"]] == [
        "Conv",
        "MaxPool",
        "Conv",
        "Add",
        "AveragePool",
        "Conv",
    ]
    assert found["largest"] <= 1
    assert found["values"] == sum(row["values"] for row in found["layers"])
    # Averages of one scale to another fall on exact ties, which float32 may miss.
    assert sum(row["differing"] for row in found["layers"] if row["op"] != "AveragePool") < 10


def test_noise_is_measured_for_every_layer(compiled, images):
    found = accuracy(compiled, Samples(images)).summary["sqnr"]
    assert len(found["layers"]) == 6
    assert all(row["sqnr_db"] > 15 for row in found["layers"])
    assert found["frames"] == 50


def test_the_layer_whose_own_rounding_is_coarse_is_blamed(compiled, images, monkeypatch):
    """Not the ones after it, which only pass its noise on."""
    right, name = golden.step, compiled.graph.ops[2].output

    def coarse(op, graph, *inputs):
        y = right(op, graph, *inputs)
        return y & ~7 if op.output == name else y

    monkeypatch.setattr(golden, "step", coarse)
    found = accuracy(compiled, Samples(images[:16])).summary["sqnr"]
    own = {row["name"]: row["own_db"] for row in found["layers"]}
    assert found["worst"] == "second"
    assert own["pool"] is None
    assert own["dense"] > own["second"] + 10
    table = views.accuracy_layers(json.loads((compiled.directory / "accuracy.json").read_text()))
    assert table.rows[0][:2] == ("second", "Conv")
    assert table.rows[-1][0] == "pool"


def test_divided_channels_are_compared_with_those_of_the_float_network(tmp_path, images):
    net = Builder("net", 3, 8, 8)
    model = net.model(net.conv(net.conv("input", 8), 4, relu=False))
    first = numpy_helper.to_array(model.graph.initializer[0])
    uneven = first * np.exp2(np.arange(8, dtype=np.float32) - 4)[:, None, None, None]
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(uneven, "constant_0"))
    onnx.save(model, tmp_path / "net.onnx")
    board = boards.get("ulx3s-25f")
    made = driver.compile_model(
        tmp_path / "net.onnx",
        tmp_path / "out",
        board.device,
        board.name,
        samples=images,
        quantization=driver.Quantization(equalize=True),
    )
    opened = driver.open_compiled(tmp_path / "out", lambda _: board.device)
    assert opened.factors.keys() == made.factors.keys() != set()
    rows = accuracy(opened, Samples(images)).summary["sqnr"]["layers"]
    assert len(rows) == 2
    assert all(min(row["sqnr_db"], row["own_db"]) > 20 for row in rows)


def test_the_runtimes_own_int8_networks_stand_beside_ours(compiled, images):
    y = classes(compiled, images)
    found = accuracy(compiled, Samples(images, y), calibration=images[:20]).summary
    static = found["runtime_int8"]
    assert static["calibration"] == 20
    assert len({row["recipe"] for row in static["rows"]}) == len(static["rows"]) == 3
    for row in static["rows"]:
        assert row["top1"] == row["right"] / len(images) > 0.8
        assert row["agreement"] > 0.8
    facts = views.accuracy(found).rows
    assert len([what for what, _ in facts if what == f"{static['runtime']} int8"]) == 3


def test_a_static_quantization_that_fails_is_a_row_with_its_reason(compiled, images, monkeypatch):
    def fails(self, recipe):
        raise DataError(f"no luck with {recipe}")

    monkeypatch.setattr(StaticQuantizer, "quantized", fails)
    found = accuracy(compiled, Samples(images[:8]), calibration=images[:8]).summary
    assert [row["failed"] for row in found["runtime_int8"]["rows"]] == [
        f"no luck with {recipe}" for recipe in COMMON
    ]
    assert any("no luck" in said for _, said in views.accuracy(found).rows)


def test_without_the_float_network_there_is_nothing_to_quantize(compiled, images):
    (compiled.directory / "model.float.onnx").unlink()
    found = accuracy(compiled, Samples(images[:8]), calibration=images[:8]).summary
    assert found["runtime_int8"] is None


def test_a_wrong_golden_rule_is_seen_by_the_reference_runtime(compiled, images, monkeypatch):
    right = golden.run

    def wrong(graph, x):
        values = right(graph, x)
        return values | {
            name: np.clip(value + 2, -128, 127)
            for name, value in values.items()
            if name == graph.ops[2].output
        }

    monkeypatch.setattr(golden, "run", wrong)
    found = accuracy(compiled, Samples(images[:8])).summary["reference_runtime"]["layer_by_layer"]
    assert {row["name"] for row in found["layers"] if row["fraction"] > 0.5} >= {"second"}
    assert found["largest"] >= 2


def test_an_output_that_differs_by_one_step_is_counted(compiled, images, monkeypatch):
    right, step = golden.host_output, compiled.graph.quant(compiled.graph.outputs[0].value).scale
    before = accuracy(compiled, Samples(images)).summary["reference_runtime"]["end_to_end"]

    def wrong(graph, values):
        outputs = right(graph, values)
        outputs["scores"][3, 2] += np.float32(step)
        return outputs

    monkeypatch.setattr(golden, "host_output", wrong)
    found = accuracy(compiled, Samples(images)).summary["reference_runtime"]["end_to_end"]
    batches = -(-len(images) // 32)
    added = (found["fraction"] - before["fraction"]) * images.shape[0] * 4
    assert added == pytest.approx(batches)
    assert found["largest"] >= 0.99 * step


def test_right_layers_are_within_the_contract(compiled, images):
    assert accuracy(compiled, Samples(images)).violations == []


@pytest.mark.parametrize(
    ("share", "step", "message"),
    [
        (1.0, 2, "differs by 2 steps"),
        (0.5, 1, "values differ that are not close to a rounding tie"),
    ],
)
def test_a_layer_beyond_the_contract_is_a_violation(
    compiled, images, monkeypatch, share, step, message
):
    right, name = golden.run, compiled.graph.ops[2].output

    def wrong(graph, x):
        values = dict(right(graph, x))
        changed = values[name].copy()
        flat = changed.reshape(-1)
        some = flat[: int(share * flat.size)]
        some += np.where(some > 100, -step, step).astype(some.dtype)
        return values | {name: changed}

    monkeypatch.setattr(golden, "run", wrong)
    found = accuracy(compiled, Samples(images[:8])).violations
    assert any(message in violation for violation in found)


def ties(scale, weight):
    """A 4-bit network whose odd values come to rest within 1e-8 of a rounding tie."""
    step = np.float32(2 * np.float64(scale) * np.float64(weight))
    numbers = {"s": scale, "ws": weight, "ys": step}
    constants = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in numbers.items()]
    constants.append(helper.make_tensor("z", TensorProto.UINT4, [], [0]))
    constants.append(numpy_helper.from_array(np.ones((2, 1, 1, 1), np.int8), "w"))
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("DequantizeLinear", ["w", "ws"], ["wd"]),
        helper.make_node("Conv", ["xd", "wd"], ["c"], "conv"),
        helper.make_node("QuantizeLinear", ["c", "ys", "z"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "ys", "z"], ["y"]),
    ]
    ports = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", channels, 8, 8])]
        for name, channels in (("x", 1), ("y", 2))
    ]
    graph = helper.make_graph(nodes, "ties", *ports, constants)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


@pytest.mark.parametrize(("scale", "weight"), [(0.1, 0.3), (0.07, 0.11), (0.05, 0.77)])
def test_ties_that_float32_misses_are_no_contradiction(scale, weight, tmp_path):
    scale, weight = np.float32(scale), np.float32(weight)
    onnx.save(ties(scale, weight), tmp_path / "ties.onnx")
    board = boards.get("ulx3s-25f")
    compiled = driver.compile_model(
        tmp_path / "ties.onnx", tmp_path / "out", board.device, board.name
    )
    x = np.random.default_rng(0).integers(0, 16, (8, 1, 8, 8)) * scale
    found = accuracy(compiled, Samples(x.astype(np.float32)))
    layer = found.summary["reference_runtime"]["layer_by_layer"]
    assert layer["differing"] == layer["near_ties"] > 0.1 * layer["values"]
    assert found.violations == []


def test_without_the_float_model_nothing_is_said_about_floats(compiled, images):
    (compiled.directory / "model.float.onnx").unlink()
    found = accuracy(compiled, Samples(images[:8], classes(compiled, images[:8]))).summary
    assert found["float"] is found["agreement"] is found["sqnr"] is None
    assert found["integer"]["top1"] == 1.0


def test_an_index_from_the_hardware_is_a_class(compiled, network_file, images, tmp_path):
    y = classes(compiled, images)
    board = boards.get("ulx3s-25f")
    compiled = driver.compile_model(
        network_file, tmp_path / "argmax", board.device, board.name, samples=images, argmax=True
    )
    found = accuracy(compiled, Samples(images, y)).summary
    assert found["integer"]["top1"] == 1.0
    assert found["reference_runtime"]["end_to_end"]["agreement"] > 0.9
    assert found["reference_runtime"]["end_to_end"]["fraction"] is None
    assert found["reference_runtime"]["layer_by_layer"]["missing"] == ["scores/ArgMax"]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(3), "y holds 3 labels for 8 samples; give one a sample"),
        (np.full(8, 4), "y holds classes 4 to 4, but the network knows 0 to 3"),
        (np.full(8, -1), "y holds classes -1 to -1"),
        (np.full(8, 0.5), "not whole numbers"),
        (np.array(["cat"] * 8), "not whole numbers"),
    ],
)
def test_labels_that_can_not_be_meant_are_refused(compiled, images, y, message):
    with pytest.raises(DataError, match=message):
        accuracy(compiled, Samples(images[:8], y))


def test_the_summary_is_written_and_progress_told(compiled, images):
    seen = []
    found = accuracy(compiled, replace(Samples(images)), lambda *step: seen.append(step))
    assert json.loads((compiled.directory / "accuracy.json").read_text()) == found.summary
    assert seen == [(f"comparing: {done} of 50 samples", done / 50) for done in (0, 32, 50)]
    assert found.outputs["scores"].shape == (50, 4)


def test_a_network_in_qonnx_has_no_float_model_that_a_runtime_computes(images, tmp_path):
    """Samples give the types that it leaves open, here the output's."""
    domain = "qonnx.custom_op.general"
    numbers = {"s": 0.05, "z": 0.0, "bits": 4.0}
    constants = [helper.make_tensor(n, TensorProto.FLOAT, [], [v]) for n, v in numbers.items()]
    weight = np.random.default_rng(0).normal(0, 0.3, (4, images.shape[1], 3, 3)).astype(np.float32)
    constants.append(numpy_helper.from_array(weight, "w"))
    quant = {"domain": domain, "signed": 1, "narrow": 0, "rounding_mode": "ROUND"}
    nodes = [
        helper.make_node("Quant", ["x", "s", "z", "bits"], ["xq"], **quant),
        helper.make_node("Quant", ["w", "s", "z", "bits"], ["wq"], **quant),
        helper.make_node("Conv", ["xq", "wq"], ["y"], "conv"),
    ]
    ports = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *images.shape[1:]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    ]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    graph = helper.make_graph(nodes, "qonnx", *ports, constants)
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), tmp_path / "q.onnx")
    board = boards.get("ulx3s-25f")
    compiled = driver.compile_model(
        tmp_path / "q.onnx", tmp_path / "out", board.device, board.name, samples=images[:32]
    )
    found = accuracy(compiled, Samples(images[:4]))
    assert found.violations == []
    assert found.summary["float"] is found.summary["sqnr"] is None


def test_of_a_label_and_scores_the_scores_give_classes(tmp_path):
    """scikit-learn's classifiers give both."""
    rng = np.random.default_rng(2)
    w = numpy_helper.from_array(rng.normal(size=(6, 3)).astype(np.float32), "w")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Softmax", ["a"], ["scores"]),
        helper.make_node("ArgMax", ["a"], ["label"], axis=1, keepdims=0),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 6])
    outputs = [
        helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 3]),
    ]
    graph = helper.make_graph(nodes, "net", [x], outputs, [w])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    samples = rng.normal(size=(60, 6)).astype(np.float32)
    board = boards.get("icebreaker")
    compiled = driver.compile_model(
        tmp_path / "m.onnx", tmp_path / "out", board.device, board.name, samples=samples
    )
    labels = (samples @ numpy_helper.to_array(w)).argmax(1)
    assert accuracy(compiled, Samples(samples, labels)).top1 > 0.9

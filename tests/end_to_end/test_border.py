"""A model whose head and tail stay on the host, from its file to the outputs of the whole."""

import json
import shutil

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from gatewright.boards.link.run import Measured
from gatewright.cli import main
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.ir.feeds import count
from gatewright.host import on_board
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(5)
TOKENS, ROWS = 7, 4


def run(*arguments):
    result = CliRunner().invoke(main, [str(word) for word in (*arguments, "--json")])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Tokens are looked up, a dense layer gives scores, and the largest two are listed."""
    stored = {
        "table": RNG.normal(size=(TOKENS, 6)).astype(np.float32),
        "w": RNG.normal(size=(6, 5)).astype(np.float32),
        "k": np.array([2]),
    }
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["embedded"], name="lookup"),
        helper.make_node("MatMul", ["embedded", "w"], ["scores"], name="dense"),
        helper.make_node("TopK", ["scores", "k"], ["values", "places"], name="best", axis=-1),
        helper.make_node("CumSum", ["values", "axis"], ["sums"], name="sums"),
    ]
    stored["axis"] = np.array(2)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, ["N", ROWS])],
        [
            helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["N", ROWS, 2]),
            helper.make_tensor_value_info("places", TensorProto.INT64, ["N", ROWS, 2]),
        ],
        [numpy_helper.from_array(array, name) for name, array in stored.items()],
    )
    path = tmp_path_factory.mktemp("border") / "model.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    return path


@pytest.fixture(scope="module")
def samples(model):
    path = model.parent / "x.npz"
    np.savez(path, ids=RNG.integers(0, TOKENS, (12, ROWS)))
    return path


@pytest.fixture(scope="module")
def out(model, samples):
    out = model.parent / "out"
    run("compile", model, "--board", "icebreaker", "--calibration", samples, "-o", out)
    return out


def test_check_says_what_stays_on_the_host(model):
    found = run("check", model, "--board", "icebreaker")
    verdicts = {node["name"]: node["verdict"] for node in found["nodes"]}
    assert verdicts == {"lookup": "host", "dense": "hardware", "best": "host", "sums": "host"}
    assert found["host_macs"] == 0
    assert found["fits"]


def test_the_directory_has_the_parts(out):
    names = {path.name for path in out.iterdir()}
    assert {"head.onnx", "tail.onnx", "model.int8.onnx", "model.float.onnx"} <= names
    host = json.loads((out / "compile.json").read_text())["host"]
    assert host["head"] == ["lookup"]
    assert host["tail"] == ["best", "sums"]
    assert host["macs"] == 0


def test_simulation_gives_the_outputs_of_the_whole_model(out, samples):
    found = run("simulate", out, "--input", samples, "--frames", 3, "--stall", "0.3")
    assert found["mismatches"] == 0
    outputs = np.load(out / "outputs.npz")
    x = np.load(samples)["ids"][:3]
    embedded = Runtime(out / "head.onnx").run({"ids": x})["embedded"]
    scores = Runtime(out / "model.int8.onnx", optimize=False).run({"embedded": embedded})["scores"]
    wanted = Runtime(out / "tail.onnx").run({"scores": scores})
    assert set(outputs.files) == {"sums", "places"}
    assert outputs["sums"].shape == (3, ROWS, 2)
    np.testing.assert_allclose(outputs["sums"], wanted["sums"], atol=0.2)
    assert_array_equal(outputs["places"], wanted["places"])


def test_accuracy_and_bench_run_the_whole_model(out, samples):
    found = run("accuracy", out, "--data", samples)
    assert [row["name"] for row in found["outputs"]] == ["sums", "places"]
    assert found["reference_runtime"]["layer_by_layer"]["violations"] == []
    names = [row["name"] for row in run("bench", out, "--input", samples)["cpu"]]
    assert "head and tail on the host" in names


def test_hardware_only_refuses_it(model, samples, tmp_path):
    words = ["compile", model, "--board", "icebreaker", "--calibration", samples]
    result = CliRunner().invoke(
        main, [str(word) for word in (*words, "--hardware-only", "-o", tmp_path / "out")]
    )
    assert result.exit_code == 1
    assert "error:" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_damaged_head_is_an_error(out, samples, tmp_path):
    copy = shutil.copytree(out, tmp_path / "copy")
    (copy / "head.onnx").write_text("text")
    result = CliRunner().invoke(main, ["simulate", str(copy), "--input", str(samples)])
    assert result.exit_code == 1
    assert "head.onnx" in result.stderr


def test_a_run_on_the_board_gives_the_outputs_of_the_whole_model(out, samples, monkeypatch):
    def ran(compiled, config, name, raw, progress, patience):
        values = golden.run(compiled.graph, raw)
        ports = compiled.network.outputs
        seen = {port.name: values[port.value] for port in ports}
        return Measured(seen, [100] * count(raw), 0.1, 0.2, 0)

    monkeypatch.setattr(on_board, "run_on_board", ran)
    monkeypatch.setattr(on_board, "bitstream", lambda directory: directory)
    (out / "outputs.npz").unlink(missing_ok=True)
    found = run("run", out, "--port", "none", "--input", samples, "--frames", 2)
    assert found["mismatches"] == 0
    outputs = np.load(out / "outputs.npz")
    assert outputs["sums"].shape == (2, ROWS, 2)

"""The table of losses: measured on a network of the test's own, and honest about what is not."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from gatewright.benchmarks import quantization as table
from gatewright.benchmarks.networks import Builder
from gatewright.compiler.errors import DataError
from gatewright.compiler.frontend.static_quantization import ALL, StaticQuantizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A network of random weights, and what it says itself of noise as labels."""
    folder = tmp_path_factory.mktemp("data")
    net = Builder("net", 1, 6, 6)
    path = folder / "net.onnx"
    onnx.save(net.model(net.dense(net.average(net.conv("input", 6)), 4)), path)
    x = np.random.default_rng(3).normal(size=(90, 1, 6, 6)).astype(np.float32)
    (scores,) = onnxruntime.InferenceSession(path).run(None, {"input": x})
    np.savez(folder / "samples.npz", x=x, y=scores.argmax(1))
    return folder


def load(data):
    with np.load(data / "samples.npz") as file:
        return file["x"], file["y"]


@pytest.fixture
def networks(monkeypatch):
    monkeypatch.setitem(table.NETWORKS, "iris", table.Network("net", "net.onnx", load, 40))


def run(folder, tmp_path):
    result = CliRunner().invoke(
        table.main,
        [
            *("--models", str(folder), "--data", str(folder), "--only", "iris"),
            *("-o", str(tmp_path), "--results", str(tmp_path / "page.md")),
        ],
    )
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    row = json.loads((tmp_path / "iris.json").read_text())
    return row, (tmp_path / "page.md").read_text()


def test_every_quantization_is_measured_on_samples_that_did_not_calibrate(
    folder, networks, tmp_path
):
    row, page = run(folder, tmp_path)
    assert (row["calibration"], row["frames"], row["float"]) == (40, 50, 1.0)
    assert [each["way"] for each in row["ours"]] == [str(way) for way in table.WAYS]
    assert row["ours"][0]["right"] == row["ours"][0]["agreement"] > 0.9
    assert row["ours"][2]["right"] > 0.75
    assert all(each["golden"] >= 0.96 for each in row["ours"])
    assert [each["recipe"] for each in row["onnxruntime"]] == [str(recipe) for recipe in ALL]
    best = max(each["right"] for each in row["onnxruntime"])
    assert f"| net | 40 | 50 | 100.00 | {100 * best:.2f} |" in page
    assert f"ONNX Runtime {onnxruntime.__version__}" in page


def test_a_quantization_that_fails_is_a_dash(folder, networks, tmp_path, monkeypatch):
    right = StaticQuantizer.quantized

    def fails(self, recipe):
        if recipe.method == "Entropy":
            raise DataError("no")
        return right(self, recipe)

    monkeypatch.setattr(StaticQuantizer, "quantized", fails)
    row, page = run(folder, tmp_path)
    assert sum("failed" in each for each in row["onnxruntime"]) == 4
    assert "| Entropy, per tensor, int8 activations | - |" in page


def test_the_interval_holds_for_all_recipes_together():
    def recipe(right, better, worse):
        return {"right": right, "better": better, "worse": worse}

    tried = [recipe(0.5, 0, 40), recipe(0.9, 90, 40), {"failed": "no"}]
    ahead = table._ahead({"onnxruntime": tried, "frames": 1000})
    # Half of 5 % for each of two: 2.2414 standard deviations of sqrt(130 - 50 * 50 / 1000).
    assert ahead == "+5.00 (+2.47 to +7.53)"

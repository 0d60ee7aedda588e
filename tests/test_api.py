"""The steps as functions, on a tiny network."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import gatewright as gw
import numpy as np
import pytest
from gatewright import api


@pytest.fixture
def x(samples):
    return np.load(samples)["x"]


def test_the_package_has_the_functions_of_its_api():
    assert set(gw.__all__) == {*api.__all__, "GatewrightError"} <= set(dir(gw))
    assert all(getattr(gw, name) is getattr(api, name) for name in api.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compil'"):
        gw.__getattr__("compil")


def test_importing_the_package_or_its_command_line_imports_no_part_of_the_flow():
    """``gatewright --help`` is there at once."""
    code = (
        "import sys, gatewright, gatewright.cli;"
        "print({'amaranth', 'onnx', 'onnxruntime', 'scipy', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"


def test_a_network_is_loaded_in_stream_order(floats):
    network = gw.load(floats)
    assert not network.quantized
    assert [type(op).__name__ for op in network] == ["Conv", "MaxPool", "Reshape", "Conv"]
    assert network.inputs[0].name == "x"
    assert str(network.values["x"].shape) == "6x6x1"


def test_quantizing_gives_integers_everywhere(floats, x):
    integers = gw.quantize(gw.load(str(floats)), x)
    assert integers.quantized
    assert all(value.quant.dtype.bits == 8 for value in integers.values.values())


def test_weights_are_as_narrow_as_asked(floats, x, tmp_path):
    def widest(graph):
        return max(np.abs(op.weight.astype(int)).max() for op in graph if hasattr(op, "weight"))

    assert widest(gw.quantize(gw.load(floats), x, weight_bits=5)) == 15
    compiled = gw.compile(floats, tmp_path / "out", board="icebreaker", samples=x, weight_bits=4)
    assert widest(compiled.graph) == 7


def test_a_quantized_network_stays_as_it_is(qdq):
    network = gw.load(qdq)
    assert gw.quantize(network, np.zeros((1, 12), np.float32)) is network


def test_a_plan_says_what_the_hardware_costs(qdq):
    network = gw.load(qdq)
    plan = gw.plan(network, "icebreaker")
    small = gw.plan(network, "icebreaker", "area")
    assert plan.interval <= small.interval == 36
    assert small.multipliers == 1
    assert 0 < small.resources.lut <= plan.resources.lut
    assert gw.plan(network, "icebreaker", "fps", interval=20).interval <= 20


@pytest.mark.parametrize("board", ["icebreaker", "ulx3s-25f"])
def test_a_plan_prints_the_estimate_that_compile_writes(qdq, tmp_path, board):
    compiled = gw.compile(qdq, tmp_path / "out", board=board)
    found = json.loads((tmp_path / "out" / "compile.json").read_text())
    cost = found["estimate"]
    assert cost["lut"] > compiled.network.resources.lut
    assert compiled.network.facts()["estimate"] == (
        f"{cost['lut']:,} {found['logic_unit']}, {cost['dsp']} DSP blocks, "
        f"{cost['bram']} block RAMs, with the link to the host"
    )
    assert compiled.facts()["estimate"] == gw.plan(compiled.graph, board).facts()["estimate"]


def test_a_model_is_compiled_into_a_directory(floats, x, tmp_path):
    compiled = gw.compile(floats, tmp_path / "out", board="icebreaker", samples=x)
    assert compiled.directory == tmp_path / "out"
    assert compiled.plan.board == "icebreaker"
    assert compiled.graph.quantized
    assert (tmp_path / "out" / "rtl" / "accelerator.v").exists()


@pytest.fixture
def short_benchmark(monkeypatch):
    monkeypatch.setattr("gatewright.sim.bench.MOST", 5)


def test_what_comes_back_prints_short(floats, x, tmp_path, short_benchmark):
    compiled = gw.compile(floats, tmp_path / "out", board="icebreaker", samples=x)
    network = gw.load(floats)
    bench = gw.bench(compiled, x)
    shown = [
        network,
        gw.plan(compiled.graph, "icebreaker"),
        compiled,
        compiled.plan,
        gw.check(floats, "icebreaker"),
        gw.accuracy(compiled, x),
        bench,
    ]
    for each in shown:
        assert repr(each).startswith(f"<{type(each).__name__}: ")
        assert len(repr(each)) < 600
        assert "<table>" in each._repr_html_()
    assert "floats, operators 4" in repr(network)
    assert gw.open(compiled.directory).network.interval == compiled.network.interval
    assert gw.report(compiled) == compiled.directory / "report.html"
    assert any(point.pareto for point in gw.explore(compiled.graph, "icebreaker", 2))
    with pytest.raises(gw.GatewrightError, match="no bitstream"):
        gw.flash(compiled)


def test_the_readmes_snippet_runs(floats, samples, tmp_path, monkeypatch, short_benchmark):
    """All lines but those of the build and of the emulated board, which take minutes."""
    text = (Path(gw.__file__).parent / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    lines = [line for line in code.splitlines() if not line.startswith(("built =", "gw.run("))]
    assert len(lines) == len(code.splitlines()) - 2
    monkeypatch.chdir(tmp_path)
    shutil.copy(floats, "model.onnx")
    data = np.load(samples)
    exec("\n".join(lines), {"samples": data["x"], "labels": data["y"]})
    assert (tmp_path / "out" / "accuracy.json").exists()


def test_a_folder_is_needed_only_once(qdq, tmp_path):
    first = gw.compile(qdq, tmp_path / "out", board="icebreaker")
    again = gw.compile(qdq, tmp_path / "out", board="icebreaker", goal="area")
    assert again.network.interval >= first.network.interval


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model, out: gw.load("none.onnx"), "no such file"),
        (lambda model, out: gw.compile(model, out, board="icebreaker"), "needs samples"),
        (
            lambda model, out: gw.compile(model, out, board="none"),
            "there is no board called 'none'",
        ),
        (lambda model, out: gw.quantize(gw.load(model), np.zeros((2, 3), np.float32)), "1, 6, 6"),
    ],
    ids=["file", "samples", "board", "shape"],
)
def test_errors_are_of_one_kind(call, words, floats, tmp_path):
    with pytest.raises(gw.GatewrightError, match=words):
        call(floats, tmp_path / "out")
    assert not (tmp_path / "out").exists()

"""The commands from end to end on tiny networks: what they print, what they write."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from math import inf

import click
import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from gatewright import boards
from gatewright.cli import main, shown_on_board
from gatewright.compiler import check, driver, emit, ir
from gatewright.compiler.errors import FitError
from gatewright.compiler.frontend import load
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from .conftest import unchanged

BOARD = "icebreaker"


def run(*arguments):
    """What a command that must succeed printed on standard output."""
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exit_code == 0, f"{result.output}\n{result.exception!r}"
    return result.stdout


def as_json(*arguments):
    return json.loads(run(*arguments, "--json"))


def compiling(model, out, *more):
    return ["compile", model, "--board", BOARD, "-o", out, *more]


def summary(directory, step):
    return json.loads((directory / f"{step}.json").read_text())


@pytest.fixture(scope="session")
def out(floats, samples, tmp_path_factory):
    """The float CNN, compiled. Tests share it and do not write into it."""
    directory = tmp_path_factory.mktemp("floats") / "out"
    run(*compiling(floats, directory, "--calibration", samples))
    yield from unchanged(directory)


@pytest.fixture(scope="session")
def simulated_out(out, samples, tmp_path_factory):
    """``out`` after a simulation of three frames. Tests share it and do not write into it."""
    directory = shutil.copytree(out, tmp_path_factory.mktemp("simulated") / "out")
    run("simulate", directory, "--input", samples, "--frames", 3)
    yield from unchanged(directory)


@pytest.fixture
def simulated(simulated_out):
    """What ``simulate`` said of ``simulated_out``."""
    return summary(simulated_out, "simulate")


@pytest.fixture
def own_out(out, tmp_path):
    """``out``, copied for one test to write into."""
    return shutil.copytree(out, tmp_path / "own")


@pytest.fixture
def own_simulated_out(simulated_out, tmp_path):
    """``simulated_out``, copied for one test to write into."""
    return shutil.copytree(simulated_out, tmp_path / "own")


# --- help and errors ------------------------------------------------------------------------------


def test_help_lists_the_flow_with_an_example_each():
    text = CliRunner().invoke(main, ["--help"], terminal_width=80).stdout
    listed = [line.split()[0] for line in text.splitlines() if re.match(r"  [a-z]+  ", line)]
    assert listed == list(main.commands)
    order = ["check", "compile", "simulate", "accuracy", "build", "bench", "report", "flash", "run"]
    assert [name for name in listed if name in order] == order
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize("name", main.commands)
def test_an_example_is_a_command_line_that_is_understood(name):
    command = main.commands[name]
    program, used, *arguments = command.example.split()
    assert (program, used) == ("gatewright", name)
    with command.make_context(name, arguments, resilient_parsing=False) as context:
        assert context.command is command
    assert f"$ {command.example}" in CliRunner().invoke(main, [name, "--help"]).stdout
    assert all(option.help for option in command.params if isinstance(option, click.Option))


@pytest.mark.parametrize(
    ("arguments", "kind", "words", "code"),
    [
        (["check", "none.onnx"], "ModelError", "no such file", 1),
        (["bench", "none"], "DataError", "none", 1),
        (["check", "none.onnx", "--bord", "x"], "NoSuchOption", "'--board'", 2),
        (["chekc", "none.onnx"], "NoSuchCommand", "'check'", 2),
    ],
)
def test_a_failure_is_json_too(arguments, kind, words, code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed = CliRunner().invoke(main, [*arguments, "--json"])
    assert failed.exit_code == code
    error = json.loads(failed.stdout)["error"]
    assert error["type"] == kind
    assert words in error["message"]
    assert words in failed.stderr


# --- check and compile ----------------------------------------------------------------------------


def test_check_shows_what_compile_would_do(floats):
    found = as_json("check", floats, "--board", BOARD)
    assert found["fits"] is True
    assert found["board"] == BOARD
    assert [layer["name"] for layer in found["layers"]] == ["conv", "pool", "dense"]


def test_check_gives_every_node_and_every_board(floats):
    found = as_json("check", floats)
    assert [node["op"] for node in found["nodes"]] == [
        n.op_type for n in onnx.load(floats).graph.node
    ]
    assert {node["verdict"] for node in found["nodes"]} == {"hardware", "folded"}
    assert [row["name"] for row in found["boards"]] == [b.name for b in boards.all_boards()]
    assert all(row["fits"] and row["interval_cycles"] > 0 for row in found["boards"])
    planned = as_json("check", floats, "--board", BOARD)
    (row,) = (row for row in planned["boards"] if row["name"] == BOARD)
    assert row["interval_cycles"] == planned["interval_cycles"]
    assert planned["macs"] == sum(layer["macs"] for layer in planned["layers"])


def test_a_board_smaller_than_one_that_lacks_something_does_not_fit(floats, monkeypatch):
    """Its own estimate does not see all that a plan takes, as the queues."""

    def lacks(graph, device, *_, **__):
        raise FitError("too large", [("block RAMs", 300, 207)])

    monkeypatch.setattr(check, "fit", lacks)
    failed = CliRunner().invoke(main, ["check", str(floats), "--board", "ulx3s-85f", "--json"])
    rows = {row["name"]: row for row in json.loads(failed.stdout)["boards"]}
    for name in ("ulx3s-85f", "ulx3s-45f", "ulx3s-25f"):
        (lack,) = rows[name]["lacking"]
        assert not rows[name]["fits"]
        assert (lack["what"], lack["needed"]) == ("block RAMs", 300)
        assert lack["available"] <= boards.get(name).device.bram
    assert rows["icebreaker"]["fits"]
    assert "the smallest board that fits is icebreaker" in failed.stderr


def checked_for(floats, board, rate):
    """The boards' rows for a rate that ``board`` does not reach, and the message."""
    words = ["check", str(floats), "--board", board, "--goal", f"fps={rate}", "--json"]
    failed = CliRunner().invoke(main, words)
    assert failed.exit_code == 1
    return {row["name"]: row for row in json.loads(failed.stdout)["boards"]}, failed.stderr


def test_a_board_too_slow_for_the_goal_does_not_fit(floats):
    """Although it has all that the network needs; the rate is that of the board's own clock."""
    rate = 100_000_000
    rows, message = checked_for(floats, "icebreaker", rate)
    for name, row in rows.items():
        (lack,) = row["lacking"]
        assert not row["fits"]
        assert lack["what"] == "cycles a frame"
        assert lack["available"] == int(boards.get(name).target_mhz * 1e6 / rate)
        assert lack["needed"] > lack["available"]
    assert "no board that gatewright knows is large and fast enough" in message


def test_the_board_that_is_advised_reaches_the_rate(floats):
    rows, message = checked_for(floats, "icebreaker", 400_000)
    fitting = [name for name, row in rows.items() if row["fits"]]
    assert fitting
    assert "icebreaker" not in fitting
    (advised,) = re.findall("the smallest board that reaches that rate is (.*)", message)
    assert advised == min(fitting, key=lambda name: boards.get(name).device.lut)
    found = as_json("check", floats, "--board", advised, "--goal", "fps=400000")
    assert boards.get(advised).target_mhz * 1e6 / found["interval_cycles"] >= 400_000


def test_a_check_says_how_far_the_weights_are_from_fitting(tmp_path):
    shape = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 64, 8, 8])
    rng = np.random.default_rng(1)
    sizes = [(512, 64, 3, 3), (512, 512, 3, 3), (1024, 512, 3, 3)]
    weights = [rng.normal(size=size).astype(np.float32) for size in sizes]
    nodes = [
        helper.make_node("Conv", [source, f"w{n}"], [target], name=f"conv{n}")
        for n, (source, target) in enumerate([("x", "a"), ("a", "b"), ("b", "y")])
    ]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1024, 2, 2])
    stored = [numpy_helper.from_array(w, f"w{n}") for n, w in enumerate(weights)]
    graph = helper.make_graph(nodes, "large", [shape], [result], stored)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "m.onnx")
    words = ["check", str(tmp_path / "m.onnx"), "--board", "ulx3s-85f"]
    failed = CliRunner().invoke(main, [*words, "--json"])
    assert "its 7.37 M weights take 59 Mbit, the chip's block RAMs hold 3.83 Mbit" in failed.stderr
    number = sum(weight.size for weight in weights)
    for row in json.loads(failed.stdout)["boards"]:
        lacking = {lack["what"]: lack for lack in row["lacking"]}
        assert lacking["bits for weights"]["needed"] == 8 * number
        assert lacking["block RAMs"]["needed"] > 15 * lacking["block RAMs"]["available"]
    assert "58,982,400 bits for weights" in CliRunner().invoke(main, words).stdout


def test_a_failing_check_prints_its_json(wide, tmp_path):
    failed = CliRunner().invoke(main, ["check", str(wide), "--board", BOARD, "--json"])
    assert failed.exit_code == 1
    rows = {row["name"]: row for row in json.loads(failed.stdout)["boards"]}
    assert not rows[BOARD]["fits"]
    assert rows[BOARD]["interval_cycles"] is None
    assert "block RAMs" in [lack["what"] for lack in rows[BOARD]["lacking"]]
    assert all(lack["needed"] > lack["available"] for lack in rows[BOARD]["lacking"])
    assert rows["ulx3s-85f"]["fits"]
    broken = tmp_path / "broken.onnx"
    broken.write_text("text")
    failed = CliRunner().invoke(main, ["check", str(broken), "--json"])
    assert failed.exit_code == 1
    assert json.loads(failed.stdout)["nodes"] == []
    assert "is not an ONNX model" in failed.stderr


def test_narrow_weights_are_counted_on_before_they_are_made(wide, tmp_path):
    board = "--board", "ulx3s-12f"
    intervals = [
        as_json("check", wide, *board, "--weight-bits", bits)["interval_cycles"] for bits in (8, 5)
    ]
    assert intervals[1] < intervals[0]
    found = as_json(
        "explore", wide, *board, "--weight-bits", 5, "--points", 2, "-o", tmp_path / "space"
    )
    assert found["points"][0]["interval"] <= intervals[1]


def test_check_writes_nothing(floats, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("check", floats)
    assert list(tmp_path.iterdir()) == []


def test_compile_writes_the_agreed_files(out):
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*")) == [
        "commands.json",
        "compile.json",
        "model.float.onnx",
        "model.int8.onnx",
        "plan.json",
        "report.html",
        "rtl",
        "rtl/accelerator.il",
        "rtl/accelerator.v",
        "rtl/interface.json",
    ]
    assert [path.name for path in out.parent.iterdir()] == ["out"]
    onnx.checker.check_model(onnx.load(out / "model.int8.onnx"))


def test_the_keys_of_compile_json(out):
    found = summary(out, "compile")
    assert set(found) >= {
        "layers",
        "interval_cycles",
        "latency_cycles",
        "estimate",
        "board",
        "fits",
    }
    assert set(found["estimate"]) == {"lut", "ff", "dsp", "bram"}
    stages = [part.pop("stage") for part in found["latency_parts"]]
    assert stages == [None, *dict.fromkeys(layer["stage"] for layer in found["layers"])]
    assert sum(sum(part.values()) for part in found["latency_parts"]) == found["latency_cycles"]
    for layer in found["layers"]:
        assert set(layer) >= {
            "name",
            "op",
            "macs",
            "simd",
            "pe",
            "cycles",
            "multipliers",
            "memory_bits",
            "block_rams",
        }
    first, _, last = found["layers"]
    assert (first["macs"], last["macs"]) == (36 * 4 * 9, 3 * 36)
    assert found["macs"] == first["macs"] + last["macs"]
    assert found["interval_cycles"] >= max(layer["cycles"] for layer in found["layers"])


def test_json_is_the_file(floats, samples, tmp_path):
    shown = as_json(*compiling(floats, tmp_path / "out", "--calibration", samples))
    assert shown == summary(tmp_path / "out", "compile")


def test_compiling_twice_gives_the_same_hardware(floats, samples, out, tmp_path):
    again = compiling(floats, tmp_path / "out", "--calibration", samples)
    subprocess.run(
        [sys.executable, "-m", "gatewright", *map(str, again)],
        check=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
    )
    for name in (
        "rtl/accelerator.il",
        "rtl/accelerator.v",
        "plan.json",
        "compile.json",
        "model.int8.onnx",
    ):
        assert (tmp_path / "out" / name).read_bytes() == (out / name).read_bytes(), name


def test_the_plan_can_be_given_back(floats, samples, out, tmp_path):
    run(*compiling(floats, tmp_path / "out", "--calibration", samples, "--plan", out / "plan.json"))
    assert (tmp_path / "out/rtl/accelerator.il").read_bytes() == (
        out / "rtl/accelerator.il"
    ).read_bytes()


def with_other_plan(floats, samples, out, folder, place, **folding):
    """The words that compile into ``folder`` with another folding of the stage at ``place``."""
    plan = json.loads((out / "plan.json").read_text())
    plan["stages"][place] |= {**folding, "dsp_multipliers": 0}
    (folder / "plan.json").write_text(json.dumps(plan))
    given = "--calibration", samples, "--plan", folder / "plan.json"
    return compiling(floats, folder / "out", *given)


def test_an_edited_plan_is_obeyed(floats, samples, out, tmp_path):
    found = as_json(*with_other_plan(floats, samples, out, tmp_path, 0, simd=1, pe=1))
    first = found["layers"][0]
    assert (first["simd"], first["pe"], first["cycles"]) == (1, 1, 36 * 9 * 4)


def test_a_plan_that_is_too_large_says_that_it_can_not_be_built(floats, samples, out, tmp_path):
    words = with_other_plan(floats, samples, out, tmp_path, 2, simd=36, pe=3)
    found = CliRunner().invoke(main, [str(word) for word in words])
    assert found.exit_code == 0
    assert "Too much for the board" in found.stdout
    assert f"warning: this plan does not fit {BOARD}: build will end" in found.stderr


def test_a_plan_may_get_two_products_from_a_multiplier(floats, samples, tmp_path):
    found = {}
    for flags in ([], ["--no-fast-inner-product"]):
        words = [*compiling(floats, tmp_path / "out", "--calibration", samples), *flags]
        run(*("ulx3s-12f" if word == BOARD else word for word in words))
        stages = json.loads((tmp_path / "out" / "plan.json").read_text())["stages"]
        found[not flags] = (
            any(stage["fast_inner_product"] for stage in stages),
            summary(tmp_path / "out", "compile")["interval_cycles"],
        )
    assert found[True][0]
    assert not found[False][0]
    assert found[True][1] <= found[False][1]


def test_goals_trade_time_for_area(floats, samples, tmp_path):
    calibration = ["--calibration", samples]
    small = as_json(*compiling(floats, tmp_path / "a", *calibration, "--goal", "area"))
    fast = as_json(*compiling(floats, tmp_path / "l", *calibration, "--goal", "latency"))
    rate = as_json(*compiling(floats, tmp_path / "f", *calibration, "--goal", "fps=40000"))
    assert fast["interval_cycles"] < small["interval_cycles"]
    assert fast["multipliers"] > small["multipliers"]
    assert rate["interval_cycles"] <= 24e6 / 40000


def test_a_quantized_network_needs_no_calibration(qdq, samples, tmp_path):
    run(*compiling(qdq, tmp_path / "out"))
    assert (tmp_path / "out/model.int8.onnx").read_bytes() == qdq.read_bytes()
    result = CliRunner().invoke(
        main, [str(word) for word in compiling(qdq, tmp_path / "out", "--calibration", samples)]
    )
    assert result.exit_code == 0
    assert "is quantized already; --calibration is ignored" in result.output
    result = CliRunner().invoke(
        main, [str(word) for word in compiling(qdq, tmp_path / "out", "--weight-bits", 5)]
    )
    assert result.exit_code == 0
    assert "is quantized already; --weight-bits is ignored" in result.output
    result = CliRunner().invoke(
        main, [str(word) for word in compiling(qdq, tmp_path / "out", "--activation-bits", 5)]
    )
    assert result.exit_code == 0
    assert "is quantized already; --activation-bits is ignored" in result.output
    result = CliRunner().invoke(
        main, [str(word) for word in compiling(qdq, tmp_path / "out", "--bits", 5)]
    )
    assert "is quantized already; --bits is ignored" in result.output
    assert "-bits is ignored" not in result.output.replace("--bits", "")


@pytest.mark.parametrize(("activations", "weights"), [(4, 4), (3, 2), (16, 16)])
def test_tensors_are_as_wide_as_asked(activations, weights, floats, samples, tmp_path):
    widths = "--activation-bits", activations, "--weight-bits", weights
    out = tmp_path / "out"
    run(*compiling(floats, out, "--calibration", samples, *widths))
    graph = load(out / "model.int8.onnx")
    assert {value.quant.dtype.bits for value in graph.values.values()} == {activations}
    high = (1 << (weights - 1)) - 1
    for op in graph:
        if hasattr(op, "weight"):
            assert high / 2 < np.abs(op.weight.astype(int)).max() <= high
    found = as_json("simulate", out, "--input", samples, "--stall", 0.3)
    assert (found["mismatches"], found["frames"]) == (0, 8)
    found = as_json("simulate", out, "--input", samples)
    assert found["mismatches"] == 0
    assert found["interval_cycles"] == found["planned_interval_cycles"]
    found = as_json("accuracy", out, "--data", samples)
    layers = found["reference_runtime"]["layer_by_layer"]
    assert layers["missing"] == []
    assert layers["largest"] <= 1
    sqnr = [layer["sqnr_db"] for layer in found["sqnr"]["layers"]]
    assert sqnr[-1] > {3: 0, 4: 12, 16: 70}[activations]


def test_single_tensors_are_as_wide_as_asked(floats, samples, out, tmp_path):
    first = summary(out, "compile")["layers"][0]["name"]
    last = load(floats).outputs[0].value
    bits = "--bits", "w6a5", "--bits", f"{first}=3", "--bits", f"{last}=7"
    run(*compiling(floats, tmp_path / "out", "--calibration", samples, *bits))
    graph = load(tmp_path / "out" / "model.int8.onnx")
    largest = [np.abs(op.weight.astype(int)).max() for op in graph if hasattr(op, "weight")]
    assert largest[0] == 3
    assert 15 < largest[-1] <= 31
    assert graph.quant(graph.inputs[0].value).dtype.bits == 5
    assert graph.quant(graph.outputs[0].value).dtype.bits == 7


def test_one_number_of_bits_is_that_of_all_tensors(floats):
    whole = as_json("check", floats, "--board", BOARD, "--bits", 4)
    both = "--activation-bits", 4, "--weight-bits", 4
    assert whole == as_json("check", floats, "--board", BOARD, *both)


@pytest.mark.parametrize("labelled", [True, False])
def test_a_budget_chooses_widths_that_save_hardware(labelled, floats, samples, tmp_path):
    """The hardware of the widths that were chosen still equals the golden model."""
    with np.load(samples) as file:
        shape = file["x"].shape[1:]
    x = np.random.default_rng(6).normal(size=(120, *shape)).astype(np.float32)
    (session,) = [onnxruntime.InferenceSession(floats)]
    scores = [session.run(None, {session.get_inputs()[0].name: one[None]})[0] for one in x]
    y = np.concatenate(scores).reshape(len(x), -1).argmax(1)
    known = tmp_path / "known.npz"
    np.savez(known, x=x, **({"y": y} if labelled else {}))
    found = as_json(*compiling(floats, tmp_path / "out", "--calibration", known, "--max-drop", 5))[
        "widths"
    ]
    assert (found["labelled"], found["calibrated"], found["tested"]) == (labelled, 60, 60)
    assert found["drop"] <= found["max_drop"] == 5
    chosen = {*found["weights"].values(), *found["activations"].values()}
    assert min(chosen) < 8 >= max(chosen)
    assert found["need"]["lut"] < found["usual_need"]["lut"]
    graph = load(tmp_path / "out" / "model.int8.onnx")
    for op in graph:
        if hasattr(op, "weight"):
            high = (1 << (found["weights"][op.name] - 1)) - 1
            assert np.abs(op.weight.astype(int)).max() <= high
    found = as_json("simulate", tmp_path / "out", "--input", samples, "--stall", 0.3)
    assert (found["mismatches"], found["frames"]) == (0, 8)


def test_widths_are_counted_on_before_they_are_made(floats, tmp_path):
    found = {
        bits: as_json("check", floats, "--board", BOARD, "--activation-bits", bits)
        for bits in (2, 8, 16)
    }
    memory = [sum(row["memory_bits"] for row in found[bits]["layers"]) for bits in (2, 8, 16)]
    assert memory[0] < memory[1] < memory[2]
    space = tmp_path / "space"
    explore = "explore", floats, "--board", BOARD, "--points", 2, "-o", space
    assert as_json(*explore, "--activation-bits", 4)["points"]


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "QDQ"])
def test_external_weights_are_in_the_directory_s_model(
    quantized, floats, qdq, samples, vectors, tmp_path
):
    """PyTorch writes the weights beside the model."""
    model, x = (qdq, vectors) if quantized else (floats, samples)
    beside = tmp_path / "model.onnx"
    onnx.save(
        onnx.load(model),
        beside,
        save_as_external_data=True,
        location="model.onnx.data",
        size_threshold=0,
    )
    assert (tmp_path / "model.onnx.data").stat().st_size
    results = []
    for path in (model, beside):
        out = tmp_path / f"{path.stem}_out"
        more = [] if quantized else ["--calibration", x]
        run(*compiling(path, out, *more))
        results.append(as_json("accuracy", out, "--data", x))
    assert results[0] == results[1]


def test_npy_and_folders_of_images_calibrate_too(floats, samples, tmp_path):
    from PIL import Image

    np.save(tmp_path / "x.npy", np.load(samples)["x"])
    run(*compiling(floats, tmp_path / "npy", "--calibration", tmp_path / "x.npy"))
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(1)
    for n in range(3):
        Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / f"images/{n}.png")
    run(*compiling(floats, tmp_path / "folder", "--calibration", tmp_path / "images"))


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_as_ctrl_c_does(number, qdq, tmp_path, monkeypatch):
    usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    monkeypatch.setattr(emit, "emit", lambda *_: signal.raise_signal(number))
    before = signal.signal(number, usual)  # the tests may run where it is ignored
    try:
        result = CliRunner().invoke(main, [str(word) for word in compiling(qdq, tmp_path / "out")])
        assert signal.getsignal(number) == usual
    finally:
        signal.signal(number, before)
    assert result.exit_code == 128 + number
    assert "interrupted; what was there before is unchanged" in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_signal_that_is_ignored_stays_so(qdq, tmp_path, monkeypatch):
    """As by ``nohup``."""
    emitted = emit.emit

    def hang_up(*arguments):
        signal.raise_signal(signal.SIGHUP)
        return emitted(*arguments)

    monkeypatch.setattr(emit, "emit", hang_up)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run(*compiling(qdq, tmp_path / "out"))
    finally:
        signal.signal(signal.SIGHUP, before)


class Stop(BaseException):
    """What Ctrl-C is, but not caught by the command line."""


@pytest.mark.filterwarnings("ignore::amaranth.hdl.UnusedElaboratable")
@pytest.mark.parametrize("where", ["emit", "rename"])
def test_an_interrupted_compile_leaves_the_old_directory_whole(where, qdq, tmp_path, monkeypatch):
    out = tmp_path / "out"
    run(*compiling(qdq, out))
    (out / "mine.txt").write_text("kept")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def stop(*_):
        raise Stop

    if where == "emit":
        monkeypatch.setattr(emit, "emit", stop)
    else:
        rename = driver.Path.rename
        monkeypatch.setattr(
            driver.Path,
            "rename",
            lambda self, target: (
                stop() if target == out and not self.name.endswith(".old") else rename(self, target)
            ),
        )
    with pytest.raises(Stop):
        CliRunner().invoke(main, [str(word) for word in compiling(qdq, out)])
    monkeypatch.undo()
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_new_compile_drops_what_belongs_to_the_old_one(qdq, tmp_path):
    out = tmp_path / "out"
    run(*compiling(qdq, out))
    (out / "simulate.json").write_text("{}")
    run(*compiling(qdq, out))
    assert not (out / "simulate.json").exists()


def test_the_winning_class_in_hardware(floats, samples, tmp_path):
    found = as_json(*compiling(floats, tmp_path / "out", "--calibration", samples, "--argmax"))
    assert found["layers"][-1]["op"] == "ArgMax"


# --- simulate -------------------------------------------------------------------------------------


def test_the_hardware_equals_the_golden_model(simulated):
    assert simulated["mismatches"] == 0
    assert simulated["first_mismatch"] is None
    assert simulated["frames"] == 3
    assert simulated["values"] >= 3 * 3
    assert simulated["level"] == "rtl"
    assert simulated["simulator"].startswith("verilator")
    assert 0 < simulated["wall_seconds"] < inf
    assert simulated["cycles_per_second"] > 0


def test_the_simulated_interval_is_the_planned_one(simulated, out):
    assert simulated["interval_cycles"] == summary(out, "compile")["interval_cycles"]
    assert abs(simulated["latency_cycles"] / simulated["planned_latency_cycles"] - 1) < 0.1


def test_each_stage_was_busy_for_exactly_the_cycles_that_its_formula_says(simulated, out):
    cycles = {row["stage"]: row["cycles"] for row in summary(out, "compile")["layers"]}
    activity = simulated["activity"]
    frames = simulated["frames_run"]
    busy = {stage["name"]: stage["busy_cycles"] for stage in activity["stages"]}
    assert busy == {name: frames * number for name, number in cycles.items()}
    assert activity["frames"][0][0] < activity["first_beat"] <= activity["frames"][0][1]
    # the cycle that ends the run may complete a span
    assert activity["span"] * activity["spans"] <= activity["cycles"] + 1


def test_outputs_are_shaped_and_typed_as_the_model_gives_them(simulated_out, samples):
    found = np.load(simulated_out / "outputs.npz")
    x = np.load(samples)["x"][:3]
    session = onnxruntime.InferenceSession(
        simulated_out / "model.int8.onnx", providers=["CPUExecutionProvider"]
    )
    (wanted,) = session.run(None, {"x": x})
    assert found.files == ["y"]
    assert (found["y"].shape, found["y"].dtype) == (wanted.shape, wanted.dtype)
    assert_array_equal(np.argmax(found["y"], 1), np.argmax(wanted, 1))


def test_stalls_change_nothing_but_the_time(own_simulated_out, samples):
    before = np.load(own_simulated_out / "outputs.npz")["y"]
    stalls = "--frames", 3, "--stall", 0.4
    found = as_json("simulate", own_simulated_out, "--input", samples, *stalls)
    assert found["mismatches"] == 0
    assert found["stall"] == 0.4
    assert_array_equal(np.load(own_simulated_out / "outputs.npz")["y"], before)


# --- bench, accuracy, lists -----------------------------------------------------------------------


def test_bench_works_without_a_build_and_says_so(own_out, samples):
    found = as_json("bench", own_out, "--input", samples)
    assert set(found) >= {"fpga", "cpu", "speedup"}
    assert set(found["fpga"]) >= {
        "latency_us",
        "fps",
        "gmacs",
        "mac_utilization",
        "device_utilization",
    }
    assert found["fpga"]["clock_source"] == "board target (not built)"
    assert found["fpga"]["how"] in ("simulated", "estimated")
    for reference in found["cpu"]:
        assert set(reference) >= {"name", "threads", "latency_us", "fps"}
        assert reference["how"] == "measured"
    assert not found["warnings"]
    assert found == summary(own_out, "bench")


def test_accuracy_compares_float_integer_and_reference_runtime(own_out, samples):
    found = as_json("accuracy", own_out, "--data", samples)
    assert found["samples"] == 8
    assert found["labelled"] is True
    assert 0 <= found["integer"]["top1"] <= 1
    assert {row["name"] for row in found["sqnr"]["layers"]} == {"conv", "pool", "dense"}
    assert all(row["sqnr_db"] > 20 for row in found["sqnr"]["layers"])
    assert found["reference_runtime"]["layer_by_layer"]["largest"] <= 1
    assert found == summary(own_out, "accuracy")


def test_the_report_shows_every_step(own_simulated_out):
    run("bench", own_simulated_out)
    page = (own_simulated_out / "report.html").read_text()
    for word in ("dense", "golden model", "icebreaker", "Pipeline over time", "gatewright bench"):
        assert word in page


def test_samples_beyond_the_calibration_are_a_warning(own_out, samples, tmp_path):
    with np.load(samples) as held:
        np.savez(tmp_path / "bytes.npz", x=100 * held["x"])
    for command, option in (("simulate", "--input"), ("accuracy", "--data"), ("bench", "--input")):
        words = [command, str(own_out), option, str(tmp_path / "bytes.npz"), "--json"]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0
        (first, *_) = json.loads(result.stdout)["warnings"]
        assert f"warning: {first}\n" in result.stderr
        assert first.startswith("x: 9")
        assert "warning" not in CliRunner().invoke(main, [*words[:3], str(samples)]).stderr


def test_two_compiled_directories_are_compared_on_a_page(own_simulated_out, tmp_path):
    page = tmp_path / "both.html"
    assert run("report", own_simulated_out, own_simulated_out, "-o", page).strip() == str(page)
    assert "Pipeline over time" in page.read_text()
    assert "report.html" in run("report", own_simulated_out)


def test_boards_are_listed():
    found = {row["name"]: row for row in as_json("boards")["boards"]}
    assert found["icebreaker"]["dsp"] == 8
    assert found["ulx3s-85f"]["part"] == "LFE5U-85F-6BG381C"
    assert "icebreaker" in run("boards")


def test_a_closed_standard_output_is_no_failure(qdq):
    check = ["check", str(qdq), "--board", BOARD, "--goal", "latency"]
    done = subprocess.run(
        ["sh", "-c", '"$0" -m gatewright "$@" >&-', sys.executable, *check],
        stderr=subprocess.PIPE,
        check=True,
    )
    assert not done.stderr


def test_tools_are_listed():
    found = {row["name"]: row for row in as_json("tools")["tools"]}
    assert found["yosys"]["version"]
    assert set(found) >= {"yosys", "nextpnr-ecp5", "nextpnr-ice40", "verilator"}
    assert "yosys" in run("tools")


def test_the_columns_of_a_pipe_are_those_of_the_environment():
    """The widest table of the command line, with room and without."""
    command = [sys.executable, "-m", "gatewright", "boards"]

    def widest(**more):
        environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | more
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        assert "83,640" in done.stdout
        return max(map(len, done.stdout.splitlines()))

    assert 80 < widest() <= 120
    assert widest(COLUMNS="80") <= 80


def test_explore_finds_a_front(floats, tmp_path):
    found = as_json("explore", floats, "--board", BOARD, "--points", 3, "-o", tmp_path / "space")
    intervals = [point["interval"] for point in found["points"]]
    assert intervals == sorted(intervals)
    assert len(intervals) >= 2
    assert found == summary(tmp_path / "space", "explore")
    assert (tmp_path / "space" / "explore.png").stat().st_size > 1000
    page = (tmp_path / "space" / "explore.html").read_text()
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")


def test_the_page_of_a_design_space_shows_the_command_that_keeps_the_float_network(
    floats, samples, tmp_path
):
    space = tmp_path / "space"
    given = str(floats), "--board", BOARD, "--calibration", str(samples), "--bits", "w8a8"
    explored = run("explore", *given, "--points", 1, "--jobs", 1, "-o", space)
    assert "soft multipliers" in explored
    command = f"gatewright compile {' '.join(given)} --plan {{plan}} -o out"
    assert json.dumps(command) in (space / "explore.html").read_text()


def test_without_samples_the_command_of_a_design_space_asks_for_them(floats, tmp_path):
    run("explore", floats, "--board", BOARD, "--points", 1, "-o", tmp_path)
    assert " --calibration X.npz --plan {plan} " in (tmp_path / "explore.html").read_text()


def test_a_plan_of_a_design_space_compiles_at_the_same_cost(floats, samples, tmp_path):
    space = tmp_path / "space"
    calibrated = "--calibration", samples
    found = as_json("explore", floats, "--board", BOARD, "--points", 3, "-o", space, *calibrated)
    points = [point for point in found["points"] if point["fits"]]
    assert len(points) >= 2
    for number, point in enumerate(points):
        plan = "--plan", space / point["plan"]
        compiled = as_json(*compiling(floats, tmp_path / f"out{number}", *calibrated, *plan))
        assert {key: point[key] for key in compiled["estimate"]} == compiled["estimate"]
        assert point["interval"] == compiled["interval_cycles"]
        assert point["latency"] == compiled["latency_cycles"]
        assert point["multipliers"] == compiled["multipliers"]


def test_the_winning_class_is_still_in_hardware_when_the_directory_is_opened(
    floats, samples, tmp_path
):
    out = tmp_path / "out"
    run(*compiling(floats, out, "--calibration", samples, "--argmax"))
    opened = driver.open_compiled(out, lambda name: boards.get(name).device)
    assert isinstance(opened.graph.ops[-1], ir.ArgMax)
    assert [port.dtype for port in opened.graph.outputs] == ["int64"]


@pytest.mark.parametrize(
    ("how", "title"), [("measured", "On the board"), ("emulated", "On the emulated board")]
)
def test_a_run_says_which_board_it_was_and_where_its_rates_are_from(how, title):
    summary = {"frames": 2, "latency_cycles": [7, 7], "how": how, "port": "/dev/x"}
    summary |= {"values": 20, "mismatches": 0, "back_to_back": 1, "compute_ms": 0.3, "baud": 9600}
    summary |= {"link_frames_per_second": 775.2, "frames_per_second": 96.8, "frame_ms": 9.9}
    (table,) = shown_on_board(summary | {"classes": None, "right": None})
    assert table.title == title
    cells = dict(table.view.rows)
    assert cells["link"].startswith("computed: 775.2 frames/s")
    emulation = " of the emulation" if how == "emulated" else ""
    assert cells["this run"] == f"measured: 96.8 frames/s{emulation}, the first frame in 9.9 ms"

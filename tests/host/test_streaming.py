"""``run --stream``: samples that come one by one, through a board that a Python model plays."""

import io
import json
import sys
import threading
from dataclasses import replace

import gatewright as gw
import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from gatewright import boards
from gatewright.boards.link.emulator import BoardModel, PtyBoard
from gatewright.boards.link.run import _from_beats, _to_beats
from gatewright.cli import main
from gatewright.compiler.data import Samples
from gatewright.compiler.errors import DataError
from gatewright.host import on_board, sources
from gatewright.host.on_board import link_of
from gatewright.host.sources import samples_from
from gatewright.host.streaming import stream
from gatewright.sim import golden
from onnx import TensorProto, helper, numpy_helper
from PIL import Image


@pytest.fixture(scope="module")
def compiled(floats, samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("stream") / "out"
    return gw.compile(floats, out, board="icebreaker", samples=np.load(samples)["x"])


def board_of(compiled, wrong=frozenset()):
    """A board that computes what ``compiled`` does; the values of the frames ``wrong`` are not."""
    graph, (source,), (sink,) = compiled.graph, compiled.network.inputs, compiled.network.outputs
    seen = []

    def compute(beats):
        dtype = graph.quant(source.value).dtype
        shape = graph.shape(source.value)
        seen.append(_from_beats(beats[source.name], shape, source.lanes, dtype))
        values = golden.run(graph, {source.name: np.stack(seen)})
        found = values[sink.value][-1] ^ (len(seen) - 1 in wrong)
        return {sink.name: _to_beats(found, sink.lanes, graph.quant(sink.value).dtype.bits)}

    config = replace(link_of(compiled, boards.get("icebreaker")), pause_seconds=0.1)
    return PtyBoard(BoardModel(config, compute, cycles=123))


def run(compiled, port, *words, stdin=b""):
    words = ["run", compiled.directory, "--port", port, *words]
    return CliRunner().invoke(main, [str(word) for word in words], input=stdin)


def numpy_bytes(*arrays):
    file = io.BytesIO()
    for array in arrays:
        np.save(file, array)
    return file.getvalue()


def test_arrays_from_standard_input_are_answered(compiled, samples):
    x = np.load(samples)["x"]
    with board_of(compiled) as serial:
        found = run(compiled, serial.port, "--stream", "-", stdin=numpy_bytes(x[0], x[1:3]))
    assert found.exit_code == 0, found.output
    assert found.stdout.count("123 cycles") == found.stdout.count("equal") == 3
    assert "3 frames, 0 of them differ" in found.stdout


def test_an_answer_is_a_line_of_json_and_a_wrong_one_a_failure(compiled, samples):
    x = np.load(samples)["x"]
    words = ["--stream", "-", "--frames", "3", "--json"]
    with board_of(compiled, wrong={1}) as serial:
        found = run(compiled, serial.port, *words, stdin=numpy_bytes(x))
    lines = [json.loads(line) for line in found.stdout.splitlines()]
    assert found.exit_code == 1
    assert [line["mismatches"] > 0 for line in lines] == [False, True, False]
    expected = golden.host_output(
        compiled.graph, golden.run(compiled.graph, golden.host_input(compiled.graph, x[:1]))
    )
    assert lines[0]["outputs"]["y"] == expected["y"][0].tolist()
    assert lines[0]["class"] == expected["y"][0].argmax()


def test_samples_beyond_the_calibration_are_warned_of_once(compiled, samples):
    x = np.load(samples)["x"]
    with board_of(compiled) as serial:
        found = run(compiled, serial.port, "--stream", "-", stdin=numpy_bytes(x[0], 100 * x[1:4]))
    assert found.exit_code == 0, found.output
    assert found.stderr.count("of the values saturate") == 1
    with board_of(compiled) as serial:
        found = run(
            compiled, serial.port, "--stream", "-", "--json", stdin=numpy_bytes(x[0], 100 * x[1])
        )
    fine, beyond = (json.loads(line)["warnings"] for line in found.stdout.splitlines())
    assert not fine
    assert beyond[0].startswith("x: 47.2 % of the values saturate")


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (b"no array at all", "not .npy arrays one after another"),
        (numpy_bytes(np.zeros((1, 6, 6), np.float32))[:-1], "array 1 ends after 143 of 144 bytes"),
        (numpy_bytes(np.zeros((2, 5), np.float32)), "x takes samples x 1 x 6 x 6"),
        (numpy_bytes(np.full((1, 6, 6), np.nan)), "NaN"),
    ],
)
def test_what_is_no_sample_is_refused(compiled, sent, message):
    with board_of(compiled) as serial:
        found = run(compiled, serial.port, "--stream", "-", stdin=sent)
    assert found.exit_code == 1
    assert message in found.stderr


def test_one_source_is_asked_for(compiled, samples):
    for words in ([], ["--stream", "-", "--input", samples], ["--stream", "-", "-o", "y.npz"]):
        found = run(compiled, "none", *words)
        assert found.exit_code == 1
        assert "--input" in found.stderr


def picture(path, grey):
    Image.fromarray(np.full((12, 12), grey, np.uint8)).save(path)


def test_a_folder_is_watched(compiled, tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "_POLL", 0.01)
    picture(tmp_path / "b.png", 51)
    found = samples_from(str(tmp_path), compiled.ports)
    first = next(found)
    threading.Timer(0.05, picture, (tmp_path / "a.png", 255)).start()
    second = next(found)
    assert [first.name, second.name] == ["b.png", "a.png"]
    np.testing.assert_allclose(first.x, np.full((1, 6, 6), 0.2))
    np.testing.assert_allclose(second.x, np.ones((1, 6, 6)))


def test_the_frames_of_a_video_are_scaled(compiled, tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "grey.avi"
    with av.open(path, "w") as file:
        made = file.add_stream("ffv1", rate=10, width=32, height=16, pix_fmt="gray")
        for grey in (0, 51, 255):
            frame = av.VideoFrame.from_ndarray(np.full((16, 32), grey, np.uint8), "gray")
            file.mux(made.encode(frame))
        file.mux(made.encode())
    found = list(samples_from(str(path), compiled.ports))
    assert [sample.name for sample in found] == ["0", "1", "2"]
    for sample, level in zip(found, (0, 0.2, 1), strict=True):
        np.testing.assert_allclose(sample.x, np.full((1, 6, 6), level), atol=1e-6)


def test_a_slow_reader_gets_a_cameras_newest_frame():
    ready, go = threading.Event(), threading.Event()

    def frames():
        yield 0
        go.wait()
        yield from (1, 2, 3)
        ready.set()

    newest = sources._newest(frames())
    assert next(newest) == 0
    go.set()
    ready.wait()
    assert list(newest) in ([3], [])


@pytest.mark.parametrize("source", ["/dev/null", "file:///none.mp4"])
def test_what_is_no_video_is_refused(source, compiled):
    pytest.importorskip("av")
    with pytest.raises(DataError, match="no camera or video that can be read"):
        next(samples_from(source, compiled.ports))


@pytest.mark.parametrize("source", ["folder", "none.mp4", "/dev/none"])
def test_what_is_not_there_is_refused(source, compiled):
    with pytest.raises(DataError, match=f"{source}: no such folder or file; give a folder of"):
        samples_from(source, compiled.ports)


def test_an_empty_word_is_no_folder(compiled):
    with pytest.raises(DataError, match="is empty; give a folder of images"):
        samples_from("", compiled.ports)


def test_a_file_of_samples_is_no_stream(compiled, samples):
    with pytest.raises(DataError, match="a file of samples; give it with --input, or - for"):
        samples_from(str(samples), compiled.ports)


def test_images_for_an_input_of_another_shape_are_refused(compiled, tmp_path):
    (port,) = compiled.ports.inputs
    ports = replace(compiled.graph, inputs=(replace(port, shape=(4, 5, 6)),))
    with pytest.raises(
        DataError, match=r"which is no image; give - for \.npy arrays from standard"
    ):
        samples_from(str(tmp_path), ports)


def test_what_a_video_takes_is_named(compiled, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(DataError, match=r"pip install '\.\[video\]'"):
        samples_from("camera", compiled.ports)


def test_a_state_goes_on_from_sample_to_sample(tmp_path):
    """A running sum: the golden model is continued with what each frame left."""
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["h_in", "half"], ["a"]),
            helper.make_node("Add", ["x", "a"], ["y"]),
            helper.make_node("Identity", ["y"], ["h_out"]),
        ],
        "sum",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("x", "h_in")],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in ("y", "h_out")],
        [numpy_helper.from_array(np.float32(0.5), "half")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, tmp_path / "sum.onnx")
    gw.with_states(tmp_path / "sum.onnx", tmp_path / "kept.onnx", {"h_in": "h_out"})
    x = np.random.default_rng(1).uniform(-1, 1, (12, 4)).astype(np.float32)
    compiled = gw.compile(tmp_path / "kept.onnx", tmp_path / "out", board="icebreaker", samples=x)
    given = samples_from("-", compiled.ports, io.BytesIO(numpy_bytes(x[:5])))
    with board_of(compiled) as serial:
        answers = list(stream(compiled, boards.get("icebreaker"), given, serial.port))
    assert [answer.mismatches for answer in answers] == [0] * 5
    sums = np.zeros(4)
    for sample, answer in zip(x, answers, strict=False):
        sums = sample + 0.5 * sums
        np.testing.assert_allclose(answer.outputs["y"].ravel(), sums, atol=0.05)


def test_samples_sent_together_show_how_far_they_are(compiled, samples):
    steps = []
    with board_of(compiled) as serial:
        data = Samples(np.load(samples)["x"])
        board = boards.get("icebreaker")
        done = on_board.run(
            compiled, board, data, serial.port, progress=lambda *step: steps.append(step)
        )
    total = done.summary["frames"]
    assert done.summary["back_to_back"] == total - 1
    assert done.summary["mismatches"] == 0
    sent = [step for step in steps if "on the board" in step[0]]
    expected = {(f"{n} of {total} frames on the board", n / total) for n in range(total + 1)}
    assert set(sent) == expected
    assert (f"{total} of {total} frames by the golden model", 1.0) in steps
    assert [fraction for _, fraction in sent] == sorted(fraction for _, fraction in sent)

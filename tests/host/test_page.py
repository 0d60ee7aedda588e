"""The page of an emulated board: what it shows of the network, and which samples it takes."""

import io
import json

import gatewright as gw
import numpy as np
import pytest
from gatewright import boards
from gatewright.compiler.errors import DataError
from gatewright.host.on_board import emulated
from gatewright.host.page import Page

ZIP, ARRAY = "application/zip", "application/octet-stream"


@pytest.fixture(scope="module")
def compiled(floats, samples, tmp_path_factory):
    out = tmp_path_factory.mktemp("page") / "out"
    return gw.compile(floats, out, board="icebreaker", samples=np.load(samples)["x"])


@pytest.fixture(scope="module")
def page(compiled):
    with emulated(compiled, boards.get("icebreaker")) as board:
        yield Page(compiled, board)


def saved(save, *arrays, **named):
    """The bytes that ``save`` of NumPy writes."""
    file = io.BytesIO()
    save(file, *arrays, **named)
    return file.getvalue()


def test_rows_have_the_names_of_the_model(compiled, page, floats):
    described = json.loads((compiled.directory / "compile.json").read_text())
    found = page.network()
    assert found["model"] == floats.name
    names = [row["name"] for row in described["layers"]]
    assert found["taps"][1:-1] == names
    assert found["inputs"][0]["white"] == 1


def test_the_beats_of_a_row_are_those_of_its_stream(compiled, page, samples):
    found = page.frame(ZIP, samples.read_bytes())
    assert found["equal"]
    network = compiled.network
    streams = [port for design in network.designs.values() for port in design.ports.outputs]
    shapes = [network.graph.shape(port.value) for port in streams]
    inside = [
        shape.pixels * -(-shape.channels // port.lanes)
        for shape, port in zip(shapes, streams, strict=True)
    ]
    (source,), (sink,) = network.inputs, network.outputs
    beats = [tap["beats"] for tap in found["trace"]["taps"]]
    assert beats == [source.beats, *inside, sink.beats]


def test_one_sample_needs_no_axis_of_samples(page, samples):
    x = np.load(samples)["x"]
    several = page.frame(ARRAY, saved(np.save, x))["outputs"]
    assert page.frame(ARRAY, saved(np.save, x[0]))["outputs"] == several
    assert page.frame(ZIP, saved(np.savez, x=x[0], y=3))["outputs"] == several


@pytest.mark.parametrize(
    ("kind", "content", "says"),
    [
        (ARRAY, saved(np.save, np.zeros((2, 3))), "the sample: x is 2 x 3"),
        (ZIP, b"text", "the sample: not a NumPy file"),
        ("image/png", b"text", "the sample: "),
    ],
)
def test_errors_do_not_name_temporary_files(page, kind, content, says):
    with pytest.raises(DataError) as error:
        page.frame(kind, content)
    assert str(error.value).startswith(says)
    assert "gatewright-" not in str(error.value)

"""Sizes of open axes, given on the command line."""

import json

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from gatewright.cli import main
from gatewright.compiler.errors import DataError, ModelError
from gatewright.compiler.frontend import load
from gatewright.compiler.frontend.input_shapes import parse_shapes, write_with_shapes
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def model(tmp_path):
    """x [n, 2, h, w] and z [n, 2, h, w] through a convolution each, added."""
    weights = np.random.default_rng(3).normal(size=(4, 2, 1, 1)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["a"]),
            helper.make_node("Conv", ["z", "w"], ["b"]),
            helper.make_node("Add", ["a", "b"], ["y"]),
        ],
        "net",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2, "h", "w"])
            for name in ("x", "z")
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4, "h", "w"])],
        [numpy_helper.from_array(weights, "w")],
    )
    path = tmp_path / "open.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )
    return path


def test_a_symbol_is_the_same_number_everywhere(model, tmp_path):
    write_with_shapes(model, {"x": (1, 2, 5, 7)}, tmp_path / "fixed.onnx")
    graph = load(tmp_path / "fixed.onnx")
    assert [(port.name, port.shape) for port in graph.inputs] == [
        ("x", (2, 5, 7)),
        ("z", (2, 5, 7)),
    ]
    fixed = onnx.load(tmp_path / "fixed.onnx")
    dims = fixed.graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_value for dim in dims] == [1, 4, 5, 7]


def test_an_input_without_a_shape_gets_one(model, tmp_path):
    proto = onnx.load(model)
    for info in proto.graph.input:
        info.type.tensor_type.ClearField("shape")
    onnx.save(proto, model)
    shapes = {"x": (1, 2, 3, 3), "z": (1, 2, 3, 3)}
    write_with_shapes(model, shapes, tmp_path / "fixed.onnx")
    assert load(tmp_path / "fixed.onnx").inputs[1].shape == (2, 3, 3)


def test_check_takes_the_shapes_and_leaves_no_copy(model, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    result = CliRunner().invoke(main, ["check", str(model), "--input-shape", "x=1,2,6,5", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["macs"] == 2 * 4 * 2 * 6 * 5
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.parametrize("text", ["x", "=1,2", "x=", "x=1,,2", "x=1,0", "x=1,-2", "x=1,2.5"])
def test_a_text_that_gives_no_shape_is_refused(text):
    with pytest.raises(DataError, match="as in x=1,3,96,96"):
        parse_shapes([text])


def test_an_input_has_one_shape():
    with pytest.raises(DataError, match="has a shape already"):
        parse_shapes(["x=1,2", "x=1,3"])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({"q": (1, 2, 3, 3)}, "has no input q; its inputs are x, z"),
        ({"x": (1, 2, 3)}, "3 sizes are given, but the input has 4 axes"),
        ({"x": (1, 3, 4, 4)}, "axis 1 is 2 in the model, not 3"),
        ({"x": (1, 2, 4, 4), "z": (1, 2, 4, 5)}, "the size w is 5 here and 4 elsewhere"),
        ({"x": (1, 2, 10**9, 10**9)}, "accepted: at most"),
    ],
)
def test_a_shape_that_the_model_can_not_have_is_refused(model, tmp_path, shapes, message):
    with pytest.raises(ModelError) as caught:
        write_with_shapes(model, shapes, tmp_path / "fixed.onnx")
    assert message in str(caught.value)
    assert not (tmp_path / "fixed.onnx").exists()

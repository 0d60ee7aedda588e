"""A network whose input and output are integers of 2, 4 or 16 bits, from the file to its RTL."""

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from gatewright.cli import main
from gatewright.compiler import ir
from gatewright.compiler.frontend.element_types import array_of, element_type
from onnx import helper, numpy_helper

RNG = np.random.default_rng(9)


def model(path, source, target):
    """A convolution of 4-bit weights between integers of those types."""
    x, y = (ir.Int.named(name) for name in (source, target))
    constants = {
        "sx": np.float32(0.25),
        "zx": array_of((x.low + x.high) // 2, x),
        "w": array_of(RNG.integers(-7, 8, (6, 3, 3, 3)), ir.Int(4, True)),
        "sw": np.float32(RNG.uniform(0.1, 0.3, 6)),
        "zw": array_of(np.zeros(6, int), ir.Int(4, True)),
        "sy": np.float32(24 * 2.0**-y.bits),
        "zy": array_of((y.low + y.high) // 2, y),
    }
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "sx", "zx"], ["xr"]),
        helper.make_node("DequantizeLinear", ["w", "sw", "zw"], ["wr"], axis=0),
        helper.make_node("Conv", ["xr", "wr"], ["c"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("QuantizeLinear", ["c", "sy", "zy"], ["y"]),
    ]
    ports = (("x", source, 3), ("y", target, 6))
    first, last = (
        helper.make_tensor_value_info(name, element_type(kind), ["N", channels, 5, 5])
        for name, kind, channels in ports
    )
    initializers = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "integers", [first], [last], initializers)
    opsets = [helper.make_opsetid("", 25)]
    onnx.save(helper.make_model(graph, ir_version=13, opset_imports=opsets), path)
    return x, y


def run(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    return result.exit_code, result.output


@pytest.mark.parametrize(
    ("source", "target"), [("uint4", "int16"), ("int2", "uint4"), ("uint16", "int2")]
)
def test_integers_enter_and_leave_as_they_are(source, target, tmp_path):
    path, out = tmp_path / "m.onnx", tmp_path / "out"
    x, y = model(path, source, target)
    samples = RNG.integers(x.low, x.high, (6, 3, 5, 5), endpoint=True)
    np.savez(tmp_path / "x.npz", x=samples)
    for words in (
        ("compile", path, "--board", "icebreaker", "-o", out),
        ("simulate", out, "--input", tmp_path / "x.npz", "--stall", 0.3),
        ("accuracy", out, "--data", tmp_path / "x.npz"),
    ):
        assert run(*words)[0] == 0, run(*words)[1]
    with np.load(out / "outputs.npz") as found:
        assert found["y"].dtype == y.numpy
        assert y.low <= found["y"].min() < found["y"].max() <= y.high
    np.savez(tmp_path / "wide.npz", x=samples.astype(np.int64) + x.high)
    code, text = run("simulate", out, "--input", tmp_path / "wide.npz")
    assert code == 1
    assert f"x takes integers from {x.low} to {x.high}" in text.replace("\n", " ")

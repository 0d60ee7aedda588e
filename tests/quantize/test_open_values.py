"""A network that is quantized in part: samples give the rest its types, and nothing else."""

import numpy as np
import onnx
import pytest
from gatewright import boards
from gatewright.compiler import ir
from gatewright.compiler.driver import compile_model
from gatewright.compiler.errors import DataError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.quantize import quantize
from gatewright.compiler.quantize.assume import assume_types
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

N = helper.make_node
RNG = np.random.default_rng(5)
CONSTANTS = {
    "s": np.float32(0.02),
    "z": np.int8(-3),
    "t": np.float32(0.013),
    "w": RNG.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
    "v": RNG.integers(-127, 128, (5, 8)).astype(np.int8),
    "f": RNG.normal(size=(5, 8)).astype(np.float32),
    "sw": np.float32([0.01, 0.004, 0.02, 0.015]),
    "sv": np.float32(0.011),
    "b": RNG.normal(size=5).astype(np.float32),
}
BODY = [
    N("QuantizeLinear", ["x", "s", "z"], ["xq"]),
    N("DequantizeLinear", ["xq", "s", "z"], ["xr"]),
    N("DequantizeLinear", ["w", "sw"], ["wr"], axis=0),
    N("Conv", ["xr", "wr"], ["c"]),
    N("Relu", ["c"], ["r"]),
    N("QuantizeLinear", ["r", "t", "z"], ["rq"]),
    N("DequantizeLinear", ["rq", "t", "z"], ["rr"]),
    N("MaxPool", ["rr"], ["p"], kernel_shape=[2, 2]),
    N("Flatten", ["p"], ["flat"]),
]
INTEGERS = [N("DequantizeLinear", ["v", "sv"], ["vr"])]
ENDS = {
    "integer weights": [*INTEGERS, N("Gemm", ["flat", "vr", "b"], ["y"], transB=1)],
    "float weights": [N("Gemm", ["flat", "f", "b"], ["y"], transB=1)],
    "two operators": [
        *INTEGERS,
        N("Gemm", ["flat", "vr", "b"], ["m"], transB=1),
        N("Sigmoid", ["m"], ["y"]),
    ],
    "the host's Softmax": [
        *INTEGERS,
        N("Gemm", ["flat", "vr", "b"], ["m"], transB=1),
        N("Softmax", ["m"], ["y"]),
    ],
}


@pytest.fixture
def model(tmp_path):
    def write(end):
        graph = helper.make_graph(
            [*BODY, *end],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 5, 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 5])],
            [numpy_helper.from_array(np.asarray(a), n) for n, a in CONSTANTS.items()],
        )
        path = tmp_path / "model.onnx"
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
        return path

    return write


def samples(count, seed=1):
    return np.random.default_rng(seed).uniform(-2, 2, (count, 3, 5, 4)).astype(np.float32)


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_samples_give_the_end_its_types(model, end, tmp_path):
    """What was quantized keeps its integers; the output is as near as its own steps allow."""
    path = model(end)
    graph = load(path)
    assert graph.open_values
    assert not graph.quantized
    typed = quantize(graph, samples(200), method="minmax")
    assert typed.quantized
    for name, value in graph.values.items():
        assert value.quant in (None, typed.quant(name))
    first = graph.ops[0]
    assert_array_equal(typed.ops[0].weight, first.weight)
    assert_array_equal(typed.ops[0].weight_scale, first.weight_scale)
    write_qdq(typed, tmp_path / "written.onnx")
    again = load(tmp_path / "written.onnx")
    x = samples(50, seed=2)
    values = golden.run(again, golden.host_input(again, x))
    found = golden.host_output(again, values)["y"]
    wanted = Runtime(path, optimize=False).run(x)["y"]
    noise = ((found - wanted) ** 2).mean() / wanted.var()
    assert 10 * np.log10(noise) < -30


def test_types_before_calibration(model):
    """``check`` plans the network without samples; what is known stays."""
    graph = load(model(ENDS["float weights"]))
    assumed = assume_types(graph)
    assert assumed.quantized
    assert assumed.quant("rq") == graph.quant("rq")
    assert_array_equal(assumed.ops[0].weight, graph.ops[0].weight)
    assert assumed.quant("y").dtype == ir.Int(8, True)


def test_compiling_needs_samples(model, tmp_path):
    path, device = model(ENDS["two operators"]), boards.get("ulx3s-85f").device
    expected = "the network is quantized but for m, y, without QuantizeLinear and Dequ"
    with pytest.raises(DataError, match=expected):
        compile_model(path, tmp_path / "out", device, "ulx3s-85f")
    assert not (tmp_path / "out").exists()


def test_compiled_with_samples(model, tmp_path):
    path, device = model(ENDS["integer weights"]), boards.get("ulx3s-85f").device
    compiled = compile_model(path, tmp_path / "out", device, "ulx3s-85f", samples=samples(30))
    assert compiled.graph.verbatim
    assert compiled.graph.quant("rq") == load(path).quant("rq")
    kinds = [n.op_type for n in onnx.load(tmp_path / "out" / "model.int8.onnx").graph.node]
    assert kinds[-1] == "DequantizeLinear"

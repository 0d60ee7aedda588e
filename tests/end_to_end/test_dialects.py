"""Networks of other dialects, from their files to RTL that equals the golden model."""

import numpy as np
import onnx
import pytest
from gatewright import boards
from gatewright.compiler import ir
from gatewright.compiler.driver import compile_model
from gatewright.sim.simulate import simulate
from onnx import TensorProto, helper, numpy_helper

BOARD = boards.get("ulx3s-25f")
QONNX = "qonnx.custom_op.general"
N = helper.make_node
RNG = np.random.default_rng(21)


def bipolar(x, y):
    return N("BipolarQuant", [x, "half"], [y], domain=QONNX)


#: nodes, shape of the input, constants, types of the values
NETWORKS = {
    "QONNX of one bit": (
        [
            bipolar("x", "a0"),
            bipolar("w0", "b0"),
            N("MatMul", ["a0", "b0"], ["n0"]),
            bipolar("n0", "a1"),
            bipolar("w1", "b1"),
            N("MatMul", ["a1", "b1"], ["r"]),
            N("Quant", ["r", "step", "none", "bits"], ["y"], domain=QONNX, signed=1, narrow=0,
              rounding_mode="ROUND"),
        ],
        (12,),
        {
            "w0": RNG.normal(size=(12, 8)).astype(np.float32),
            "w1": RNG.normal(size=(8, 4)).astype(np.float32),
            "half": np.float32(0.5),
            "step": np.float32(0.25),
            "none": np.float32(0),
            "bits": np.float32(4),
        },
        {"u1", "i2", "i4"},
    ),
    "an integer graph": (
        [
            N("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
            N("Mul", ["c", "k"], ["m"]),
            N("Add", ["m", "l"], ["s"]),
            N("Div", ["s", "d"], ["q"]),
            N("Floor", ["q"], ["f"]),
            N("Clip", ["f", "low", "high"], ["y"]),
        ],
        (2, 4, 4),
        {
            "w": RNG.integers(-60, 61, (3, 2, 3, 3)).astype(np.float32),
            "k": RNG.integers(200, 2048, (1, 3, 1, 1)).astype(np.float32),
            "l": RNG.integers(-900000, 2000000, (1, 3, 1, 1)).astype(np.float32),
            "d": np.float32(2**17),
            "low": np.float32(0),
            "high": np.float32(255),
        },
        {"i9", "u8"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("nodes", "shape", "constants", "types"), NETWORKS.values(), ids=NETWORKS)
def test_the_rtl_equals_the_golden_model(nodes, shape, constants, types, tmp_path):
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid(QONNX, 1)]
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    compiled = compile_model(path, tmp_path / "out", BOARD.device, BOARD.name)
    assert {str(value.quant.dtype) for value in compiled.graph.values.values()} == types
    assert all(isinstance(op, ir.Conv) for op in compiled.graph if not op.view)
    if types == {"i9", "u8"}:
        x = RNG.integers(0, 256, (4, *shape)).astype(np.float32)
    else:
        x = RNG.uniform(-1, 1, (4, *shape)).astype(np.float32)
        x[0, 0] = 0
    done = simulate(compiled, x, 4, stall=0.3)
    assert done.passed, done.report

"""The largest and the smallest numbers of float32: results or clear errors, and no warnings."""

import numpy as np
import pytest
from gatewright import boards
from gatewright.compiler.driver import fit
from gatewright.compiler.errors import GatewrightError, ModelError
from gatewright.compiler.frontend import load
from gatewright.compiler.lower import accelerator
from gatewright.compiler.plan import Goal
from gatewright.compiler.quantize import quantize
from gatewright.sim import golden
from onnx import helper

N = helper.make_node
EXTREMES = [3e38, 1e30, 1e-30, 1e-38, 1e-45]
ONES = np.ones((2, 3, 1, 1), np.float32)


def quantized(kind, operand):
    """``kind`` of an activation and a weight ``operand``, in QDQ format."""
    return [
        N("QuantizeLinear", ["x", "xs", "z"], ["xq"]),
        N("DequantizeLinear", ["xq", "xs", "z"], ["xd"]),
        N("DequantizeLinear", ["w8", "ws"], ["wd"]),
        N(kind, ["xd", operand], ["c"]),
        N("QuantizeLinear", ["c", "ys", "z"], ["yq"]),
        N("DequantizeLinear", ["yq", "ys", "z"], ["y"]),
    ]


FLOAT = {
    "weight": [N("Conv", ["x", "w"], ["y"])],
    "bias": [N("Conv", ["x", "ones", "v2"], ["y"])],
    "product": [N("Mul", ["w", "w"], ["w2"]), N("Conv", ["x", "w2"], ["y"])],
    "factor": [N("Mul", ["x", "v"], ["y"])],
    "divisor": [N("Div", ["x", "v"], ["y"])],
    "summand": [N("Add", ["x", "v"], ["y"])],
    "slope": [N("BatchNormalization", ["x", "v3", "one3", "v3", "tiny3"], ["y"])],
    "variance": [N("BatchNormalization", ["x", "one3", "one3", "one3", "v3"], ["y"], epsilon=0.0)],
    "exponent": [N("Mul", ["x", "v"], ["c"]), N("Exp", ["c"], ["y"])],
    "sigmoid": [N("Mul", ["x", "v"], ["c"]), N("Sigmoid", ["c"], ["y"])],
}


def constants(value):
    value = np.float32(value)
    return {
        "w": ONES * value,
        "ones": ONES,
        "v": value,
        "v2": np.full(2, value),
        "v3": np.full(3, value),
        "one3": np.ones(3, np.float32),
        "tiny3": np.full(3, 1e-38, np.float32),
    }


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("value", EXTREMES)
@pytest.mark.parametrize("name", FLOAT)
def test_extreme_weights(name, value, model):
    used = {each for node in FLOAT[name] for each in node.input}
    given = {key: each for key, each in constants(value).items() if key in used}
    x = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    try:
        graph = quantize(load(model(FLOAT[name], [1, 3, 2, 2], **given)), x)
    except GatewrightError:
        return
    golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("scales", [(v, w, y) for v in EXTREMES for w in (1, v) for y in (1, v)])
@pytest.mark.parametrize("kind", ["Conv", "Mul"])
def test_extreme_scales(kind, scales, model):
    x, w, y = (np.float32(scale) for scale in scales)
    given = {"xs": x, "ws": w, "ys": y, "z": np.int8(0), "w8": np.ones((2, 3, 1, 1), np.int8)}
    nodes = quantized(kind, "wd" if kind == "Conv" else "ws")
    if kind == "Mul":
        del nodes[2], given["w8"]
    samples = np.random.default_rng(0).normal(size=(4, 3, 2, 2)).astype(np.float32)
    board = boards.get("ulx3s-25f")
    try:
        graph = load(model(nodes, [1, 3, 2, 2], **given))
        golden.host_output(graph, golden.run(graph, golden.host_input(graph, samples)))
        accelerator(fit(graph, board.device, board.name, Goal()))
    except GatewrightError:
        return


@pytest.mark.parametrize(
    ("nodes", "given", "what"),
    [
        (FLOAT["product"], {"w": ONES * np.float32(1e30)}, r"y \(Conv\): the result of w2 \(Mul\)"),
        (
            [N("Mul", ["w", "w"], ["w2"]), N("Neg", ["w2"], ["w3"]), N("Conv", ["x", "w3"], ["y"])],
            {"w": ONES * np.float32(1e30)},
            r"y \(Conv\): the result of w2 \(Mul\)",
        ),
        (
            [N("Flatten", ["x"], ["f"]), N("Gemm", ["f", "w"], ["y"], alpha=100.0)],
            {"w": np.full((12, 2), 1e37, np.float32)},
            r"y \(Gemm\): w \* 100",
        ),
        (FLOAT["divisor"], {"v": np.float32(1e-45)}, r"y \(Div\): 1 / v"),
        (
            [N("Mul", ["w", "ones"], ["w2"]), N("Conv", ["x", "w2"], ["y"])],
            {"w": ONES * np.float32(np.inf), "ones": ONES},
            r"y \(Conv\): initializer w",
        ),
    ],
    ids=["product", "later node", "alpha", "reciprocal", "initializer"],
)
def test_an_overflow_names_what_overflowed(nodes, given, what, model):
    with pytest.raises(ModelError, match=rf"{what} holds \d+ NaN or infinite number"):
        load(model(nodes, [1, 3, 2, 2], **given))

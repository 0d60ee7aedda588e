"""Where under a constant condition, and masks that Softmax reads."""

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.quantize import quantize
from gatewright.sim import golden
from onnx import TensorProto, helper, numpy_helper

N = helper.make_node
MAP = ["N", 3, 4, 5]
CAUSAL = np.tri(4, 5, dtype=bool)


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


CONDITIONS = {
    "of one channel": np.array([True, False, True])[:, None, None],
    "of rows and columns": CAUSAL,
    "of each element": floats(1, 3, 4, 5) > 0,
    "true": np.ones((1, 1), bool),
    "false": np.zeros((), bool),
}


@pytest.mark.parametrize("condition", CONDITIONS.values(), ids=CONDITIONS)
@pytest.mark.parametrize(
    "others", [np.float32(-2), floats(3, 1, 5), None], ids=["a number", "numbers", "activations"]
)
@pytest.mark.parametrize("swapped", [False, True], ids=["", "swapped"])
def test_a_constant_condition(model, agrees, condition, others, swapped):
    sides = ["r", "s"][:: -1 if swapped else 1]
    nodes = [N("Relu", ["x"], ["r"]), N("Where", ["c", *sides], ["w"]), N("Abs", ["w"], ["a"])]
    nodes.append(N("Add", ["a", "x"], ["y"]))
    constants = {"c": condition} if others is None else {"c": condition, "s": others}
    if others is None:
        nodes.insert(1, N("Sigmoid", ["x"], ["s"]))
    graph = agrees(model(nodes, MAP, **constants))
    assert not any(isinstance(op, ir.ops.Mul) for op in graph)


def test_a_condition_of_other_frames_is_refused(model):
    nodes = [N("Relu", ["x"], ["r"]), N("Where", ["c", "r", "n"], ["w"]), N("Abs", ["w"], ["y"])]
    path = model(nodes, [2, 3], c=np.array([[True] * 3, [False] * 3]), n=np.float32(1))
    with pytest.raises(ModelError, match="mixes elements of the 2 samples"):
        load(path)


def test_shapes_that_do_not_broadcast(model):
    nodes = [N("Relu", ["x"], ["r"]), N("Where", ["c", "r", "n"], ["w"]), N("Abs", ["w"], ["y"])]
    path = model(nodes, MAP, c=np.ones(2, bool), n=np.float32(1))
    with pytest.raises(ModelError, match=r"its inputs of shapes \[2\], .* do not broadcast"):
        load(path)


def test_integers_under_a_condition(model, agrees):
    """The number is rounded to the type that the result has, not to that of the activations."""
    nodes = [
        N("DequantizeLinear", ["x", "s", "z"], ["d"]),
        N("Where", ["c", "d", "n"], ["w"]),
        N("QuantizeLinear", ["w", "t", "z"], ["y"]),
    ]
    path = model(
        nodes,
        [1, 3, 4, 5],
        dtype=TensorProto.INT8,
        s=np.float32(2.0**-6),
        t=np.float32(2.0**-4),
        z=np.int8(3),
        c=CAUSAL,
        n=np.float32(-6),
    )
    graph = agrees(path)
    x = np.zeros((1, 3, 4, 5), np.int8)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    assert (found[:, :, ~CAUSAL] == 3 - 6 * 16).all()


def test_a_number_that_the_integers_do_not_hold(model):
    nodes = [
        N("DequantizeLinear", ["x", "s", "z"], ["d"]),
        N("Where", ["c", "d", "n"], ["w"]),
        N("Relu", ["w"], ["r"]),
        N("QuantizeLinear", ["r", "s", "z"], ["y"]),
    ]
    constants = {"s": np.float32(2.0**-6), "z": np.int8(0), "c": CAUSAL, "n": np.float32(-6)}
    path = model(nodes, [1, 3, 4, 5], dtype=TensorProto.INT8, **constants)
    with pytest.raises(ModelError, match="reads -6 between values of i8"):
        load(path)


MASKS = {
    "of a large number": np.where(CAUSAL, 0, -1e9),
    "of -10000": np.where(CAUSAL, 0, -1e4),
    "of infinity": np.where(CAUSAL, 0, -np.inf),
    "of the least float32": np.where(CAUSAL, 0, np.finfo(np.float32).min),
    "with a bias": np.where(CAUSAL, floats(3, 4, 5), -1e9),
}


def attention(model, mask, *between):
    """Softmax of masked scores, and a product after it; ``between`` the mask and the Softmax."""
    nodes = [
        N("Mul", ["x", "scale"], ["scores"]),
        N("Add", ["scores", "mask"], ["masked"]),
        *between,
        N("Softmax", [between[-1].output[0] if between else "masked"], ["weights"], axis=-1),
        N("MatMul", ["weights", "v"], ["y"]),
    ]
    scale, mask = np.float32(3), mask.astype(np.float32)
    return model(nodes, MAP, scale=scale, mask=mask, v=floats(5, 6))


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_of_a_softmax(model, agrees, mask):
    graph = agrees(attention(model, mask))
    assert min(op.fill for op in graph if isinstance(op, ir.Gather)) == 0


def test_a_masked_softmax_loses_nothing_in_integers(model, ort, run):
    path = attention(model, MASKS["of a large number"])
    x = np.random.default_rng(1).normal(size=(64, 3, 4, 5)).astype(np.float32)
    found, _ = run(quantize(load(path), x), x)
    wanted = ort(path, x)[0].reshape(found.shape)
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize("op", ["Mul", "Div"])
@pytest.mark.parametrize("low", [-1e9, -1e3])
def test_a_mask_that_is_scaled_takes_no_levels_of_the_scores(model, run, op, low):
    nodes = [
        N("Relu", ["x"], ["r"]),
        N("Add", ["r", "mask"], ["m"]),
        N(op, ["m", "half"], ["h"]),
        N("Softmax", ["h"], ["y"], axis=-1),
    ]
    mask = np.where(CAUSAL, 0, low).astype(np.float32)
    path = model(nodes, MAP, mask=mask, half=np.float32(0.5))
    x = np.random.default_rng(1).normal(size=(64, 3, 4, 5)).astype(np.float32)
    graph = load(path)
    found, _ = run(quantize(graph, x), x)
    wanted, _ = run(graph, x)
    assert np.square(found - wanted).sum() < 0.001 * np.square(wanted).sum()


GIVEN = {
    "of scores": ("a = Where (m, s, low)", -np.inf),
    "of scores, a large number": ("a = Where (m, s, low)", -1e9),
    "as a term": ("b = Where (m, zero, low) a = Add (s, b)", -np.inf),
    "as numbers": (
        "n = Cast<to = 1> (m) o = Sub (one, n) b = Mul (o, low) a = Add (s, b)",
        np.finfo(np.float32).min,
    ),
}


@pytest.mark.parametrize(("masked", "low"), GIVEN.values(), ids=GIVEN)
def test_a_mask_that_is_an_input_takes_no_levels_of_the_scores(tmp_path, masked, low):
    text = f"""<ir_version: 8, opset_import: ["": 17]>
        net (float[N, 4, 6] x, bool[N, 1, 4] m) => (float[N, 4, 6] y) {{
            k = Transpose<perm = [0, 2, 1]> (x) s = MatMul (x, k) {masked}
            p = Softmax<axis = -1> (a) y = MatMul (p, x)
        }}"""
    proto = onnx.parser.parse_model(text)
    for name, value in {"low": low, "zero": 0, "one": 1}.items():
        proto.graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    onnx.save(proto, tmp_path / "model.onnx")
    rng = np.random.default_rng(2)
    mask = rng.random((64, 1, 4)) < 0.7
    mask[..., 0] = True
    x = {"x": rng.normal(size=(64, 4, 6)).astype(np.float32), "m": mask}
    graph = quantize(load(tmp_path / "model.onnx"), x)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    wanted = Runtime(tmp_path / "model.onnx").run(x)["y"]
    assert np.square(found - wanted).sum() < 0.01 * np.square(wanted).sum()


def test_a_mask_through_where(model, agrees):
    """As ``masked_fill`` is exported, and with moves between it and the Softmax."""
    nodes = [
        N("Relu", ["x"], ["scores"]),
        N("Where", ["hidden", "low", "scores"], ["masked"]),
        N("Reshape", ["masked", "rows"], ["flat"]),
        N("Softmax", ["flat"], ["weights"], axis=-1),
        N("Mul", ["weights", "scale"], ["y"]),
    ]
    constants = {"rows": np.array([0, 12, 5]), "scale": np.float32(2)}
    agrees(model(nodes, MAP, hidden=~CAUSAL, low=np.float32(-np.inf), **constants))


def test_a_masked_softmax_at_the_end(model, agrees):
    nodes = [N("Relu", ["x"], ["r"]), N("Add", ["r", "mask"], ["m"]), N("Softmax", ["m"], ["y"])]
    agrees(model(nodes, MAP, mask=MASKS["of a large number"].astype(np.float32)))


def test_a_sum_that_others_read_stays_one(model, agrees):
    between = [N("Relu", ["masked"], ["positive"])]
    graph = agrees(attention(model, MASKS["of -10000"], *between), tolerance=1e-3)
    assert not any(isinstance(op, ir.Gather) and op.fill for op in graph)


def test_a_row_that_is_masked_whole(model):
    with pytest.raises(ModelError, match="all elements of a row are masked; accepted"):
        load(attention(model, np.where(np.eye(4, 5, dtype=bool)[::-1] > 2, 0, -1e9)))

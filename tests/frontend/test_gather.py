"""Nodes that take elements as they are: inside the network one Gather, at its end the host's."""

from dataclasses import replace

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.element_types import carrier
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.ir.text import describe
from gatewright.compiler.quantize import quantize
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import helper

from ..hw.bench import STALLS
from ..plan.networks import Builder, fold, measure

N = helper.make_node
ints = np.array


def floats(*shape):
    return np.random.default_rng(1).uniform(-1, 1, shape).astype(np.float32)


#: nodes from ``a``, [1, 4, 6, 5], to ``b``, with the constants that they read
BETWEEN = {
    "transpose": ([N("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1])], {}),
    "slice": (
        [N("Slice", ["a", "s", "e", "x3", "n"], ["b"])],
        {"s": ints([1, 4]), "e": ints([3, 0]), "x3": ints([1, 3]), "n": ints([1, -2])},
    ),
    "rows": ([N("Gather", ["a", "i"], ["b"], axis=2)], {"i": ints([5, 0, 0, 3])}),
    "tile": ([N("Tile", ["a", "r"], ["b"])], {"r": ints([1, 2, 1, 3])}),
    "expand": (
        [N("Slice", ["a", "s", "e", "x3"], ["p"]), N("Expand", ["p", "t"], ["b"])],
        {"s": ints([2, 2]), "e": ints([3, 3]), "x3": ints([2, 3]), "t": ints([1, 4, 3, 7])},
    ),
    "shuffle": (
        [
            N("Reshape", ["a", "g"], ["p"]),
            N("Transpose", ["p"], ["q"], perm=[0, 2, 1, 3, 4]),
            N("Reshape", ["q", "h"], ["b"]),
        ],
        {"g": ints([1, 2, 2, 6, 5]), "h": ints([1, 4, 6, 5])},
    ),
    "depth to space": ([N("DepthToSpace", ["a"], ["b"], blocksize=2)], {}),
    "depth to space, by channels": (
        [N("DepthToSpace", ["a"], ["b"], blocksize=2, mode="CRD")],
        {},
    ),
    "space to depth": (
        [
            N("Slice", ["a", "s", "e", "x3"], ["p"]),
            N("SpaceToDepth", ["p"], ["b"], blocksize=2),
        ],
        {"s": ints([1]), "e": ints([5]), "x3": ints([3])},
    ),
    "more channels": (
        [N("Pad", ["a", "p", "v"], ["b"])],
        {"p": ints([0, 1, 0, 0, 0, 2, 0, 0]), "v": np.float32(0.25)},
    ),
    "channels and a border": (
        [N("Pad", ["a", "p"], ["b"])],
        {"p": ints([0, 1, 1, 0, 0, 0, 0, 2])},
    ),
    "mirrored": (
        [N("Pad", ["a", "p"], ["b"], mode="reflect")],
        {"p": ints([0, 0, 2, 1, 0, 0, 0, 3])},
    ),
    "edges": ([N("Pad", ["a", "p"], ["b"], mode="edge")], {"p": ints([0, 1, 2, 1, 0, 0, 0, 3])}),
    "cropped": ([N("Pad", ["a", "p"], ["b"])], {"p": ints([0, 0, -1, 1, 0, 0, 0, -2])}),
    "split and swapped": (
        [
            N("Split", ["a", "n"], ["p", "q"], axis=1),
            N("Concat", ["q", "p"], ["b"], axis=1),
        ],
        {"n": ints([1, 3])},
    ),
    "twice as large": ([N("Resize", ["a", "", "f"], ["b"])], {"f": np.float32([1, 1, 2, 2])}),
    "any size": (
        [N("Resize", ["a", "", "", "t"], ["b"], nearest_mode="ceil")],
        {"t": ints([1, 4, 9, 4])},
    ),
    "rows side by side": ([N("Concat", ["a", "a"], ["b"], axis=2)], {}),
    "columns side by side": ([N("Concat", ["a", "a"], ["b"], axis=3)], {}),
    "beside constants": (
        [N("Concat", ["k", "a", "l"], ["b"], axis=2)],
        {"k": floats(1, 4, 1, 5), "l": floats(1, 4, 2, 5)},
    ),
    "beside a constant": (
        [N("Concat", ["k", "a", "k"], ["b"], axis=2)],
        {"k": np.full((1, 4, 1, 5), 0.5, np.float32)},
    ),
}


def between(name):
    """Between two pools, which want channels first."""
    nodes, constants = BETWEEN[name]
    ends = [
        N("MaxPool", ["x"], ["a"], kernel_shape=[2, 2]),
        N("AveragePool", ["b"], ["y"], kernel_shape=[2, 2], name="last"),
    ]
    return [ends[0], *nodes, ends[1]], constants


@pytest.mark.parametrize("name", BETWEEN)
def test_inside_the_network(model, agrees, name):
    nodes, constants = between(name)
    agrees(model(nodes, [1, 4, 7, 6], **constants))


@pytest.mark.parametrize("name", BETWEEN)
def test_at_the_end(model, agrees, name):
    """The host takes what it needs; only padding is hardware's."""
    nodes, constants = between(name)
    path = model(nodes[:-1], [1, 4, 7, 6], out="b", **constants)
    kinds = {type(op) for op in agrees(path) if not op.view}
    assert kinds <= {ir.MaxPool, ir.Pad, ir.Concat, ir.Gather, ir.Conv}


@pytest.mark.parametrize("name", BETWEEN)
def test_at_the_beginning(model, agrees, name):
    nodes, constants = between(name)
    nodes = [N("Identity", ["x"], ["a"]), *nodes[1:]]
    agrees(model(nodes, [1, 4, 6, 5], **constants))


@pytest.mark.parametrize("batch", [2, 3])
def test_frames_stay_apart(model, agrees, batch):
    nodes = [
        N("MaxPool", ["x"], ["a"], kernel_shape=[2, 2]),
        N("Split", ["a"], ["p", "q"], axis=1, num_outputs=2),
        N("Concat", ["q", "p", "q"], ["b"], axis=3),
        N("AveragePool", ["b"], ["y"], kernel_shape=[2, 2]),
    ]
    agrees(model(nodes, [batch, 4, 5, 5], opset=18))


def test_a_part_of_the_batch_is_refused(model):
    nodes = [
        N("MaxPool", ["x"], ["a"], kernel_shape=[2, 2]),
        N("Gather", ["a", "i"], ["b"], axis=0),
        N("AveragePool", ["b"], ["y"], kernel_shape=[2, 2], name="last"),
    ]
    with pytest.raises(ModelError, match=r"last .* mixes elements of the 3 samples"):
        load(model(nodes, [3, 4, 5, 5], i=ints([0, 2, 1])))


def test_a_permuted_vector_costs_a_dense_layer_nothing(model, agrees):
    nodes = [
        N("MaxPool", ["x"], ["a"], kernel_shape=[2, 2]),
        N("Transpose", ["a"], ["t"], perm=[0, 3, 1, 2]),
        N("Flatten", ["t"], ["f"]),
        N("MatMul", ["f", "w"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 2, 4, 4], w=floats(18, 3)))
    assert ir.Gather not in {type(op) for op in graph}


def test_a_dense_layer_gives_a_map_in_its_own_order(model, agrees):
    nodes = [
        N("MatMul", ["x", "w"], ["a"]),
        N("Relu", ["a"], ["r"]),
        N("Reshape", ["r", "s"], ["m"]),
        N("Conv", ["m", "v"], ["y"]),
    ]
    more = {"s": ints([1, 4, 3, 2]), "w": floats(6, 24), "v": floats(2, 4, 2, 2)}
    graph = agrees(model(nodes, [1, 6], **more))
    assert [type(op) for op in graph] == [ir.Conv, ir.Reshape, ir.Conv]


def test_one_gather_serves_all_readers(model, agrees):
    nodes = [
        N("MaxPool", ["x"], ["a"], kernel_shape=[2, 2]),
        N("Transpose", ["a"], ["t"], perm=[0, 1, 3, 2]),
        N("MaxPool", ["t"], ["p"], kernel_shape=[2, 2]),
        N("AveragePool", ["t"], ["q"], kernel_shape=[2, 2]),
        N("Concat", ["p", "q"], ["y"], axis=1),
    ]
    graph = agrees(model(nodes, [1, 2, 5, 4]))
    assert [type(op) for op in graph].count(ir.Gather) == 1


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize(
    "coordinates",
    ["half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"],
)
@pytest.mark.parametrize("size", [(3, 9), (7, 4), (1, 12)])
def test_nearest(model, coordinates, rounding, size):
    """By ONNX's own reference, on the whole map."""
    from onnx.reference import ReferenceEvaluator

    resize = N(
        "Resize",
        ["a", "", "", "t"],
        ["y"],
        coordinate_transformation_mode=coordinates,
        nearest_mode=rounding,
    )
    nodes = [N("MaxPool", ["x"], ["a"], kernel_shape=[1, 1]), resize]
    path = model(nodes, [1, 2, 5, 6], opset=19, t=ints([1, 2, *size]))
    graph = load(path)
    (port,) = graph.outputs
    x = np.arange(60, dtype=np.float32).reshape(1, 2, 5, 6)
    (wanted,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    streamed = x.transpose(0, 2, 3, 1).reshape(-1)
    np.testing.assert_array_equal(streamed[port.order], wanted.reshape(-1))


def test_upsample(model, agrees):
    nodes = [N("MaxPool", ["x"], ["a"], kernel_shape=[2, 2]), N("Upsample", ["a", "f"], ["y"])]
    agrees(model(nodes, [1, 2, 4, 4], opset=9, f=np.float32([1, 1, 3, 2])))


def test_a_crop_outside_the_map_is_filled(model):
    from onnx.reference import ReferenceEvaluator

    resize = N(
        "Resize",
        ["a", "roi", "", "t"],
        ["y"],
        coordinate_transformation_mode="tf_crop_and_resize",
        extrapolation_value=0.5,
    )
    nodes = [N("MaxPool", ["x"], ["a"], kernel_shape=[1, 1]), resize]
    roi = np.float32([0, 0, -0.5, 0.25, 1, 1, 0.75, 1.5])
    path = model(nodes, [1, 1, 5, 6], opset=19, roi=roi, t=ints([1, 1, 6, 4]))
    graph = load(path)
    (gather,) = (op for op in graph if isinstance(op, ir.Gather))
    assert gather.fill == 0.5
    x = np.arange(30, dtype=np.float32).reshape(1, 1, 5, 6)
    (wanted,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    filled = np.where(gather.order < 0, 0.5, x.reshape(-1)[gather.order])
    np.testing.assert_array_equal(filled[graph.outputs[0].order], wanted.reshape(-1))


def test_resizing_to_too_much_is_refused(model):
    nodes = [N("MaxPool", ["x"], ["a"], kernel_shape=[1, 1]), N("Resize", ["a", "", "f"], ["y"])]
    with pytest.raises(ModelError, match=r"resizes to .*; accepted: at most"):
        load(model(nodes, [1, 2, 4, 4], f=np.float32([1, 1, 1e9, 1e9])))


MAP = np.arange(60).reshape(3, 4, 5)  # rows, columns, channels
WRITTEN = {
    "rows": (MAP[1:], {"Slice"}),
    "columns and channels": (MAP[:, ::2, 1:4], {"Slice"}),
    "transposed": (MAP.transpose(1, 0, 2), {"Transpose"}),
    "shuffled": (MAP[..., [3, 0, 1, 4, 2]], {"Gather"}),
    "twice": (MAP.repeat(2, axis=0).repeat(2, axis=1), {"Gather"}),
    "as it is": (MAP, set()),
    "any": (np.random.default_rng(1).integers(0, 60, (2, 3, 4)), {"Flatten", "Gather"}),
    "padded": (np.pad(MAP, ((0, 1), (0, 0), (1, 2)), constant_values=-1), {"Pad", "Gather"}),
}


@pytest.mark.parametrize(
    "dtype",
    [ir.Int(8, True), ir.Int(8, False), ir.Int(4, True), ir.Int(16, True), ir.Int(6, False)],
    ids=str,
)
@pytest.mark.parametrize(("order", "kinds"), WRITTEN.values(), ids=WRITTEN)
def test_written_and_read(tmp_path, order, kinds, dtype):
    """As nodes that say what they do, on integers where ONNX Runtime moves them."""
    builder = Builder(3, 4, 5, seed=2, dtype=ir.Int(8, True))
    builder._dtype = lambda: dtype
    first = builder.conv(builder.input, 5)
    builder.conv(builder.gather(first, order.shape, order, 0.3), 3)
    graph = builder.graph()
    (port,) = graph.outputs
    graph = replace(graph, outputs=(replace(port, dtype=carrier(dtype).stored.name),))
    write_qdq(graph, tmp_path / "m.onnx")
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    assert kinds <= {node.op_type for node in nodes}
    again, frames = load(tmp_path / "m.onnx"), builder.frames(3)
    folds = order is MAP or (order.shape == MAP.shape and "Gather" in kinds)
    if not folds:
        assert [describe(op) for op in again] == [describe(op) for op in graph]
    wanted = golden.run(graph, frames)[graph.outputs[0].value]
    assert_array_equal(golden.run(again, frames)[again.outputs[0].value], wanted)
    x = frames.astype(graph.inputs[0].array_type)
    (seen,) = Runtime(tmp_path / "m.onnx", optimize=False).run(x).values()
    assert np.abs(seen.reshape(wanted.shape).astype(int) - wanted).max() <= 1


HARDWARE = ["mirrored", "beside constants", "split and swapped"]


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("name", HARDWARE)
def test_in_hardware(model, tmp_path, name, stall):
    """Quantized, written, read, and simulated."""
    nodes, constants = between(name)
    graph = load(model(nodes, [1, 4, 5, 6], **constants))
    samples = np.random.default_rng(5).normal(size=(3, 4, 5, 6)).astype(np.float32)
    path = tmp_path / "model.int8.onnx"
    write_qdq(quantize(graph, samples), path)
    integers = load(path)
    frames = golden.host_input(integers, samples)
    network = fold(integers)
    seen = measure(network, frames, stall=stall)
    (port,) = integers.outputs
    assert_array_equal(seen.values, golden.run(integers, frames)[port.value])
    if not stall:
        assert seen.intervals[1:] == [network.interval]

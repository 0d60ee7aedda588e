"""Layers are cut out of files of any make, and compared value by value."""

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import DataError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.reference_runtime import Difference, ReferenceRuntime, Runtime
from gatewright.compiler.frontend.static_quantization import COMMON, StaticQuantizer
from gatewright.compiler.quantize import Policy, for_add, for_conv, quantize
from gatewright.sim import golden
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

RNG = np.random.default_rng(4)


class File:
    """A quantized file as other tools write it: float operators between QDQ pairs."""

    def __init__(self, batch):
        self.batch, self.nodes, self.constants = batch, [], []

    def constant(self, name, array):
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, kind, inputs, output, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output

    def pair(self, tensor, scale, zero=0):
        parts = [
            self.constant(f"{tensor}_scale", np.float32(scale)),
            self.constant(f"{tensor}_zero", np.int8(zero)),
        ]
        self.node("QuantizeLinear", [tensor, *parts], f"{tensor}_q")
        return self.node("DequantizeLinear", [f"{tensor}_q", *parts], f"{tensor}_dq")

    def weight(self, name, *shape):
        parts = [
            self.constant(f"{name}_int", RNG.integers(-127, 128, shape).astype(np.int8)),
            self.constant(f"{name}_scale", np.float32(0.01)),
            self.constant(f"{name}_zero", np.int8(0)),
        ]
        return self.node("DequantizeLinear", parts, name)

    def save(self, path, source, output):
        graph = helper.make_graph(
            self.nodes,
            "foreign",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [self.batch, *source])],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, [self.batch, 4])],
            self.constants,
        )
        onnx.save(
            helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]),
            path,
        )


def foreign(path, batch, nhwc):
    """Convolution, a pool that is not rounded itself, and a dense layer over a flattened map."""
    file = File(batch)
    x = file.pair("x", 0.03, 5)
    if nhwc:
        x = file.node("Transpose", [x], "planes", perm=[0, 3, 1, 2])
    y = file.node("Conv", [x, file.weight("w", 6, 3, 3, 3)], "conv", pads=[1, 1, 1, 1])
    y = file.pair(file.node("Relu", [y], "relu"), 0.05, -128)
    y = file.node("MaxPool", [y], "pool", kernel_shape=[2, 2], strides=[2, 2])
    y = file.node("Flatten", [y], "flat")
    y = file.node("Gemm", [y, file.weight("d", 4, 96)], "dense", transB=1)
    source = (8, 8, 3) if nhwc else (3, 8, 8)
    file.save(path, source, file.pair(y, 0.2))
    x = RNG.normal(size=(5, *source)).astype(np.float32)
    graph = load(path)
    return ReferenceRuntime(path, graph), graph, x, golden.run(graph, golden.host_input(graph, x))


@pytest.mark.parametrize("nhwc", [False, True])
@pytest.mark.parametrize("batch", ["N", 1, 2])
def test_every_layer_of_a_foreign_file_agrees(tmp_path, batch, nhwc):
    runtime, graph, x, values = foreign(tmp_path / "m.onnx", batch, nhwc)
    found = runtime.layers(x, values)
    assert runtime.missing == []
    assert [type(graph.producer(name)).__name__ for name in found] == ["Conv", "MaxPool", "Conv"]
    for name, difference in found.items():
        assert difference.values == values[name].size
        assert difference.largest <= 1
        assert difference.differing <= 2


def test_a_layer_whose_stream_has_its_elements_in_no_order_of_the_axes_agrees(tmp_path):
    """The phases of a strided ConvTranspose are channels of its stream."""
    file = File("N")
    x = file.pair("x", 0.03, 5)
    y = file.node("ConvTranspose", [x, file.weight("w", 3, 2, 2, 2)], "up", strides=[2, 2])
    y = file.node("Flatten", [file.pair(y, 0.1)], "flat")
    file.save(
        tmp_path / "m.onnx",
        (3, 4, 5),
        file.pair(file.node("Gemm", [y, file.weight("d", 4, 160)], "dense", transB=1), 0.5),
    )
    graph = load(tmp_path / "m.onnx")
    x = RNG.normal(size=(5, 3, 4, 5)).astype(np.float32)
    runtime = ReferenceRuntime(tmp_path / "m.onnx", graph)
    found = runtime.layers(x, golden.run(graph, golden.host_input(graph, x)))
    assert list(found) == ["up_q", "dense_q"]
    assert all(each.largest <= 1 and each.differing <= 2 for each in found.values())


def test_a_layer_is_judged_on_its_expected_inputs_alone(tmp_path):
    runtime, graph, x, values = foreign(tmp_path / "m.onnx", "N", False)
    conv, pool = (op.output for op in graph.ops[:2])
    runtime.layers(x, values)
    changed = values | {pool: values[pool].copy()}
    changed[pool][2, 1, 1, 3] -= 7
    found = runtime.layers(x, changed)
    assert found[pool] == Difference(values[pool].size, 1, 7)
    assert found[conv].largest <= 1


def test_differences_of_batches_add_up():
    both = Difference(10, 3, 1, 2) + Difference(5, 4, 2, 1)
    assert both == Difference(values=15, differing=7, largest=2, near_ties=3)
    assert Difference(10**7, 1, 1).fraction == 1e-7


def test_outputs_are_those_of_the_whole_file(tmp_path):
    runtime, graph, x, values = foreign(tmp_path / "m.onnx", 2, False)
    (seen,) = runtime.outputs(x).values()
    (ours,) = golden.host_output(graph, values).values()
    assert seen.shape == ours.shape == (5, 4)
    assert np.abs(seen - ours).max() < 0.21


def test_a_fixed_batch_is_kept_and_found_out(tmp_path):
    foreign(tmp_path / "m.onnx", 1, False)
    runtime = Runtime(tmp_path / "m.onnx")
    x = RNG.normal(size=(3, 3, 8, 8)).astype(np.float32)
    assert not runtime.takes_batches(x)
    (seen,) = runtime.run(x).values()
    assert seen.shape == (3, 4)


def test_a_batch_that_only_looks_free_is_found_out(tmp_path):
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Reshape", ["x", "shape"], ["y"])],
            "fixed inside",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, 3])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.array([1, 6]), "shape")],
        ),
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 13)],
    )
    runtime = Runtime(model)
    x = RNG.normal(size=(3, 2, 3)).astype(np.float32)
    assert not runtime.takes_batches(x)
    np.testing.assert_array_equal(runtime.run(x)["y"], x.reshape(3, 6))


def test_what_the_runtime_can_not_load_is_refused(tmp_path):
    model = helper.make_model(
        helper.make_graph(
            [helper.make_node("Nonsense", ["x"], ["y"])],
            "odd",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        )
    )
    onnx.save(model, tmp_path / "odd.onnx")
    with pytest.raises(DataError, match=r"odd\.onnx: ONNX Runtime .* can not load it"):
        Runtime(tmp_path / "odd.onnx")


def same_names(inside):
    """Nodes of one name, ``inside`` the two branches of an If or around it."""
    info = helper.make_tensor_value_info

    def branch(kind):
        nodes = [
            helper.make_node(kind, ["x"], ["a"], "n" if inside else ""),
            helper.make_node("Neg", ["a"], ["b"], "n"),
        ]
        return helper.make_graph(nodes, kind, [], [info("b", TensorProto.FLOAT, None)])

    nodes = [
        helper.make_node("ReduceSum", ["x"], ["s"], "sum", keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], "" if inside else "y", to=TensorProto.BOOL),
        helper.make_node(
            "If", ["c"], ["d"], "y", then_branch=branch("Abs"), else_branch=branch("Exp")
        ),
        helper.make_node("Neg", ["d"], ["y"], "last" if inside else "y"),
    ]
    ports = [info(name, TensorProto.FLOAT, [1, 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "twins", ports[:1], ports[1:])
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])


@pytest.mark.parametrize("inside", [False, True])
def test_nodes_may_share_a_name(inside):
    model = same_names(inside)
    before = model.SerializeToString()
    x = np.float32([[-3, 1]])
    np.testing.assert_array_equal(Runtime(model).run(x)["y"], np.abs(x))
    assert model.SerializeToString() == before


def test_nodes_of_what_is_quantized_statically_may_share_a_name(tmp_path):
    floats(tmp_path / "floats.onnx")
    model = onnx.load(tmp_path / "floats.onnx")
    for node in model.graph.node:
        node.name = "n"
    onnx.save(model, tmp_path / "floats.onnx")
    x = RNG.normal(size=(4, 3, 8, 8)).astype(np.float32)
    quantizer = StaticQuantizer(tmp_path / "floats.onnx", {"x": x})
    assert Runtime(quantizer.quantized(COMMON[0])).run(x)["y"].shape == (4, 4)


def floats(path, opset=17):
    """A float network with each kind of operator that rounds or selects."""
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["r"], "relu"),
        helper.make_node("MaxPool", ["r"], ["p"], "pool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Conv", ["p", "v"], ["d"], "second", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["d", "p"], ["a"], "sum"),
        helper.make_node("Sigmoid", ["a"], ["s"], "gate"),
        helper.make_node("Concat", ["s", "p"], ["k"], "both", axis=1),
        helper.make_node("AveragePool", ["k"], ["m"], "mean", kernel_shape=[2, 2]),
        helper.make_node("Flatten", ["m"], ["f"], "flat"),
        helper.make_node("Gemm", ["f", "g"], ["y"], "dense", transB=1),
    ]
    shapes = {"w": (6, 3, 3, 3), "b": (6,), "v": (6, 6, 3, 3), "g": (4, 108)}
    constants = [
        numpy_helper.from_array(RNG.normal(size=shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    ports = (("x", ["N", 3, 8, 8]), ("y", ["N", 4]))
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in ports)
    graph = helper.make_graph(nodes, "floats", [x], [y], constants)
    opsets = [helper.make_opsetid("", opset)]
    ir_version = 8 if opset == 17 else 10
    onnx.save(helper.make_model(graph, ir_version=ir_version, opset_imports=opsets), path)
    return load(path)


@pytest.mark.parametrize("bits", range(1, 17))
def test_layers_of_any_width_agree(bits, tmp_path):
    graph = floats(tmp_path / "floats.onnx")
    x = RNG.normal(size=(20, 3, 8, 8)).astype(np.float32)
    policy = Policy(bits, max(2, bits))
    write_qdq(quantize(graph, x, policy=policy), tmp_path / "m.onnx")
    graph = load(tmp_path / "m.onnx")
    assert {value.quant.dtype for value in graph.values.values()} == {ir.Int(bits, True)}
    runtime = ReferenceRuntime(tmp_path / "m.onnx", graph)
    values = golden.run(graph, golden.host_input(graph, x))
    found = runtime.layers(x, values)
    assert runtime.missing == []
    total = sum(found.values(), Difference())
    assert total.largest <= 1
    # sums in float32 are exact for narrow integers, and a tie that they miss is rare for wide ones
    assert total.fraction < 1e-3 if bits <= 10 else total.fraction < 2e-2
    outputs = golden.host_output(graph, values)["y"]
    assert (
        np.abs(runtime.outputs(x)["y"] - outputs).max()
        <= 8 * graph.quant(graph.outputs[0].value).scale
    )


class Calibration(CalibrationDataReader):
    """Four batches of samples for ONNX Runtime's own quantizer."""

    def __init__(self):
        rng = np.random.default_rng(0)
        self.batches = [{"x": rng.normal(size=(4, 3, 8, 8)).astype(np.float32)} for _ in range(4)]

    def get_next(self):
        return self.batches.pop() if self.batches else None


@pytest.mark.parametrize(
    ("activations", "weights"),
    [("QInt16", "QInt8"), ("QUInt16", "QInt16"), ("QInt8", "QInt4")],
)
def test_files_of_another_quantizer_agree_with_scales_of_any_kind(activations, weights, tmp_path):
    floats(tmp_path / "floats.onnx", opset=21)
    kinds = {"activation_type": activations, "weight_type": weights}
    quantize_static(
        tmp_path / "floats.onnx",
        tmp_path / "m.onnx",
        Calibration(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        **{name: QuantType[kind] for name, kind in kinds.items()},
    )
    graph = load(tmp_path / "m.onnx")
    bits = 16 if "16" in activations else 8
    assert {value.quant.dtype.bits for value in graph.values.values()} == {bits}
    for op in graph:
        if isinstance(op, ir.Conv):
            for_conv(graph, op)
        if isinstance(op, ir.Add):
            for_add(graph, op)
    x = {"x": RNG.normal(size=(20, 3, 8, 8)).astype(np.float32)}
    runtime = ReferenceRuntime(tmp_path / "m.onnx", graph)
    found = runtime.layers(x, golden.run(graph, golden.host_input(graph, x)))
    total = sum(found.values(), Difference())
    assert total.largest <= 1
    assert total.fraction < 1e-2


def test_a_name_that_is_no_text_ends_in_one_error(tmp_path, capsys):
    """ONNX Runtime's message can then not be read, and it would print that and try again."""
    port = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Relu", ["damaged"], ["y"])],
        "net",
        [port("x", TensorProto.FLOAT, [1])],
        [port("y", TensorProto.FLOAT, [1])],
    )
    opsets = [helper.make_opsetid("", 17)]
    content = helper.make_model(graph, ir_version=8, opset_imports=opsets).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content.replace(b"damaged", b"dam\xffged"))
    with pytest.raises(DataError, match="can not load it"):
        Runtime(path)
    assert capsys.readouterr().out == ""

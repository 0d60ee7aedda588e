"""A quantized graph written as ONNX, read again, and run by ONNX Runtime."""

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, tensor_names, write_qdq
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.sim import golden

INT8, UINT8 = ir.Int(8, True), ir.Int(8, False)


def quant(step, zero=0, dtype=INT8):
    return ir.Quant(dtype, float(np.float32(step)), zero)


def conv(name, source, output, shape, *, seed=1, **more):
    rng = np.random.default_rng(seed)
    channels = shape[0]
    return ir.Conv(
        name,
        (source,),
        output,
        rng.integers(-127, 128, shape).astype(np.int8),
        rng.uniform(0.001, 0.01, channels).astype(np.float32),
        rng.integers(-500, 500, channels).astype(np.int32),
        rng.uniform(0.0001, 0.001, channels).astype(np.float32),
        **more,
    )


def network(
    ops,
    values,
    *,
    source=(3, 6, 5),
    order=None,
    dtype="float32",
    tail=None,
    port=None,
    out_order=None,
    out_dtype="float32",
):
    """A graph from the value ``a`` to the last operator's output."""
    table = {name: ir.Value(name, shape, q) for name, (shape, q) in values.items()}
    shape, size = table["a"].shape, table["a"].shape.size
    if order is None:
        order = (
            np.arange(size).reshape(shape.channels, shape.height, shape.width).transpose(1, 2, 0)
        )
    last = table[ops[-1].output]
    if out_order is None:
        out_order = np.arange(last.shape.size).reshape(last.shape.array).transpose(2, 0, 1)
    port = port or (last.shape.channels, last.shape.height, last.shape.width)
    tail = (ir.Dequantize(last.quant),) if tail is None else tail
    return ir.Graph(
        "net",
        (ir.InputPort("x", source, dtype, "a", np.reshape(order, -1), "batch"),),
        (ir.OutputPort("y", port, out_dtype, last.name, np.reshape(out_order, -1), tail),),
        tuple(ops),
        table,
    )


def one(make, shape, out_quant=None):
    """A network of one operator on a 6x5x3 map."""
    return network(
        [make],
        {
            "a": (ir.Shape(6, 5, 3), quant(0.02, 4)),
            make.output: (shape, out_quant or quant(0.05, -7)),
        },
    )


SAME = ir.Shape(6, 5, 3)
TYPE = quant(0.02, 4)
UNARY = {
    "sigmoid": ir.functions.Sigmoid(),
    "tanh": ir.functions.Tanh(),
    "leaky": ir.functions.LeakyRelu(0.125),
    "swish": ir.functions.HardSwish(),
    "dsp_multipliers": ir.functions.HardSigmoid(0.25, 0.5),
    "identity": ir.Identity(),
}
GRAPHS = {
    "conv": one(
        conv(
            "c",
            "a",
            "b",
            (4, 3, 3, 3),
            window=ir.Window((3, 3), (2, 1), (1, 1), (1, 0, 1, 1)),
            clamp=ir.Clamp(0.0),
        ),
        ir.Shape(3, 4, 4),
    ),
    "depthwise": one(conv("c", "a", "b", (3, 1, 1, 1), groups=3, clamp=ir.Clamp(0.0, 6.0)), SAME),
    "maxpool": one(
        ir.MaxPool("m", ("a",), "b", ir.Window((2, 2), (2, 2))), ir.Shape(3, 2, 3), TYPE
    ),
    "averagepool": one(
        ir.AveragePool(
            "p", ("a",), "b", ir.Window((3, 3), pads=(1, 1, 1, 1)), True, clamp=ir.Clamp(0.0)
        ),
        SAME,
    ),
    "pad": one(ir.Pad("p", ("a",), "b", (1, 0, 2, 1), 0.5), ir.Shape(9, 6, 3), TYPE),
    "add": network(
        [
            ir.MaxPool("p", ("a",), "m", ir.Window((3, 3), pads=(1, 1, 1, 1))),
            ir.Add("s", ("a", "m"), "b", clamp=ir.Clamp(-1.0, 1.0)),
        ],
        {"a": (SAME, TYPE), "m": (SAME, TYPE), "b": (SAME, quant(0.05, -7))},
    ),
    "concat": one(ir.Concat("k", ("a", "a"), "b"), ir.Shape(6, 5, 6), TYPE),
    "unsigned": one(
        ir.Unary("u", ("a",), "b", ir.functions.Sigmoid()), SAME, quant(1 / 256, 0, UINT8)
    ),
    **{name: one(ir.Unary("u", ("a",), "b", function), SAME) for name, function in UNARY.items()},
    "dense": network(
        [
            conv("c", "a", "m", (3, 1, 1, 3)),
            ir.Reshape("r", ("m",), "f"),
            conv("d", "f", "b", (7, 1, 1, 90)),
        ],
        {
            "a": (SAME, TYPE),
            "m": (SAME, TYPE),
            "f": (ir.Shape(1, 1, 90), TYPE),
            "b": (ir.Shape(1, 1, 7), quant(0.1)),
        },
        port=(7,),
    ),
    "odd order": network(
        [conv("c", "a", "b", (4, 1, 1, 3))],
        {"a": (SAME, TYPE), "b": (ir.Shape(6, 5, 4), quant(0.1))},
        order=np.random.default_rng(0).permutation(90),
        source=(90,),
        port=(120,),
        out_order=np.random.default_rng(1).permutation(120),
    ),
    "integers": network(
        [conv("c", "a", "b", (4, 1, 1, 3))],
        {"a": (SAME, TYPE), "b": (ir.Shape(6, 5, 4), quant(0.1))},
        dtype="int8",
        tail=(),
        out_dtype="int8",
    ),
    "softmax": network(
        [conv("c", "a", "b", (4, 6, 5, 3), window=ir.Window((6, 5)))],
        {"a": (SAME, TYPE), "b": (ir.Shape(1, 1, 4), quant(0.1))},
        port=(4,),
        tail=(
            ir.Dequantize(quant(0.1)),
            ir.Softmax(-1),
            ir.Quantize(quant(1 / 256, -128)),
            ir.Dequantize(quant(1 / 256, -128)),
        ),
    ),
    "logarithms of a map's shares": network(
        [conv("c", "a", "b", (4, 1, 1, 3))],
        {"a": (SAME, TYPE), "b": (ir.Shape(6, 5, 4), quant(0.1))},
        tail=(ir.Dequantize(quant(0.1)), ir.LogSoftmax(-3)),
    ),
    "hardmax": network(
        [conv("c", "a", "b", (4, 6, 5, 3), window=ir.Window((6, 5)))],
        {"a": (SAME, TYPE), "b": (ir.Shape(1, 1, 4), quant(0.1))},
        port=(4,),
        tail=(ir.Dequantize(quant(0.1)), ir.Hardmax(-1)),
    ),
    "last of the lowest": network(
        [conv("c", "a", "b", (4, 6, 5, 3), window=ir.Window((6, 5)))],
        {"a": (SAME, TYPE), "b": (ir.Shape(1, 1, 4), quant(0.1))},
        port=(1,),
        tail=(ir.Dequantize(quant(0.1)), ir.HostArgMax(-1, True, True, True)),
        out_dtype="int64",
    ),
    "argmax": network(
        [conv("c", "a", "b", (4, 6, 5, 3), window=ir.Window((6, 5)))],
        {"a": (SAME, TYPE), "b": (ir.Shape(1, 1, 4), quant(0.1))},
        port=(1,),
        tail=(ir.Dequantize(quant(0.1)), ir.HostArgMax(-1, True)),
        out_dtype="int64",
    ),
}


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_written_file_agrees_with_the_graph(graph, tmp_path, agrees):
    ir.verify(graph, after="test")
    write_qdq(graph, tmp_path / "m.onnx")
    onnx.checker.check_model(str(tmp_path / "m.onnx"), full_check=True)
    agrees(tmp_path / "m.onnx", graph=graph)


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_written_file_reads_back_as_the_same_graph(graph, tmp_path):
    write_qdq(graph, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    first, last = graph.inputs[0], graph.outputs[0]
    assert (first.name, first.shape, first.dtype, first.batch) == tuple(
        getattr(again.inputs[0], field) for field in ("name", "shape", "dtype", "batch")
    )
    np.testing.assert_array_equal(first.order, again.inputs[0].order)
    assert (last.name, last.shape, last.dtype, last.tail) == tuple(
        getattr(again.outputs[0], field) for field in ("name", "shape", "dtype", "tail")
    )
    np.testing.assert_array_equal(last.order, again.outputs[0].order)
    for ours, theirs in zip(graph.ops, again.ops, strict=True):
        same_operator(ours, theirs)
        assert graph.shape(ours.output) == again.shape(theirs.output)
        assert graph.quant(ours.output) == again.quant(theirs.output)


def same_operator(ours, theirs):
    assert type(ours) is type(theirs)
    for field, value in vars(ours).items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, getattr(theirs, field))
        elif field not in ("name", "inputs", "output"):
            assert value == getattr(theirs, field), field


def test_quantize_outputs_are_named_like_the_values(tmp_path):
    write_qdq(GRAPHS["dense"], tmp_path / "m.onnx")
    tensors = {name for node in onnx.load(tmp_path / "m.onnx").graph.node for name in node.output}
    assert set(tensor_names(GRAPHS["dense"]).values()) == {"a", "m", "f", "b"} <= tensors


def test_a_value_called_like_a_port_gets_another_tensor(tmp_path, agrees):
    graph = GRAPHS["conv"]
    values = {
        "x": ir.Value("x", SAME, TYPE),
        "y": ir.Value("y", ir.Shape(3, 4, 4), quant(0.05, -7)),
    }
    op = graph.ops[0]
    op = ir.Conv(
        op.name, ("x",), "y", op.weight, op.weight_scale, op.bias, op.bias_scale, window=op.window
    )
    source, target = graph.inputs[0], graph.outputs[0]
    graph = ir.Graph(
        "net",
        (ir.InputPort("x", source.shape, source.dtype, "x", source.order),),
        (ir.OutputPort("y", target.shape, target.dtype, "y", target.order, target.tail),),
        (op,),
        values,
    )
    write_qdq(graph, tmp_path / "m.onnx")
    assert tensor_names(graph) == {"x": "x/quantized", "y": "y/quantized"}
    agrees(tmp_path / "m.onnx", graph=graph)


def test_batch_is_symbolic_in_the_file(tmp_path):
    write_qdq(GRAPHS["conv"], tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert session.get_inputs()[0].shape == ["batch", 3, 6, 5]
    assert session.run(None, {"x": np.zeros((3, 3, 6, 5), np.float32)})[0].shape == (3, 4, 3, 4)


def test_weights_of_nine_bits_are_written_unsigned_with_a_zero_point(tmp_path):
    op = conv("c", "a", "b", (4, 1, 1, 3))
    wide = ir.Conv("c", ("a",), "b", op.weight.astype(np.int16) + 70, op.weight_scale)
    write_qdq(one(wide, ir.Shape(6, 5, 4)), tmp_path / "m.onnx")
    np.testing.assert_array_equal(load(tmp_path / "m.onnx").ops[0].weight, wide.weight)


@pytest.mark.parametrize("name", ["uint2", "int2", "uint4"])
def test_a_narrow_input_is_rearranged(name, tmp_path):
    """ONNX Runtime does not move integers of the type, which the file has for the input alone."""
    dtype = ir.Int.named(name)
    narrow = quant(0.5, 0, dtype)
    graph = network(
        [ir.Reshape("r", ("a",), "b"), conv("c", "b", "c", (3, 1, 1, 24))],
        {
            "a": (ir.Shape(2, 3, 4), narrow),
            "b": (ir.Shape(1, 1, 24), narrow),
            "c": (ir.Shape(1, 1, 3), quant(0.01)),
        },
        source=(4, 2, 3),
        dtype=name,
    )
    write_qdq(graph, tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    x = np.random.default_rng(2).integers(dtype.low, dtype.high + 1, (4, *graph.inputs[0].shape))
    assert again.inputs[0].dtype == name
    found, wanted = (
        golden.run(each, golden.host_input(each, x))[each.outputs[0].value]
        for each in (again, graph)
    )
    np.testing.assert_array_equal(found, wanted)


def test_a_float_graph_is_rejected(tmp_path):
    op = ir.Unary("u", ("a",), "b", ir.functions.Sigmoid())
    graph = ir.Graph("net", (), (), (op,), {n: ir.Value(n, SAME) for n in "ab"})
    with pytest.raises(ModelError, match="net: is a float32 network; accepted: a quantized one"):
        write_qdq(graph, tmp_path / "m.onnx")


# Any width.


def retyped(graph, dtype):
    """The network with every activation of ``dtype``, and weights of as many bits; zero points in
    the same place of the range. Integer ports are of the same type.
    """

    def wider(found):
        zero = round((found.zero - found.dtype.low) * (dtype.high - dtype.low) / 255) + dtype.low
        return ir.Quant(dtype, found.scale * float(2.0 ** (8 - dtype.bits)), zero)

    def steps(tail):
        return tuple(
            replace(step, quant=wider(step.quant)) if hasattr(step, "quant") else step
            for step in tail
        )

    def weights(op):
        if not isinstance(op, ir.Conv):
            return op
        top = (1 << max(1, dtype.bits - 1)) - 1
        weight = np.rint(op.weight.astype(float) * top / 127).astype(np.int16)
        return replace(op, weight=weight, bias=op.bias // 256 if dtype.bits < 8 else op.bias)

    def port(end):
        return replace(end, dtype=end.dtype if end.dtype in ("float32", "int64") else dtype.name)

    values = {
        name: replace(value, quant=wider(value.quant)) for name, value in graph.values.items()
    }
    return ir.Graph(
        graph.name,
        tuple(port(end) for end in graph.inputs),
        tuple(replace(port(end), tail=steps(end.tail)) for end in graph.outputs),
        tuple(weights(op) for op in graph.ops),
        values,
    )


WIDTHS = [ir.Int(bits, signed) for bits in range(1, 17) for signed in (True, False)]
#: widths of integers that a model's own input can have
PORTS = [dtype for dtype in WIDTHS if dtype.bits in (2, 4, 8, 16)]


def of_all_widths():
    for name, graph in GRAPHS.items():
        integers = graph.inputs[0].dtype != "float32"
        for dtype in PORTS if integers else WIDTHS[len(name) % 3 :: 3]:
            yield pytest.param(retyped(graph, dtype), id=f"{name}-{dtype}")


@pytest.mark.parametrize("graph", [*of_all_widths()])
def test_any_width_is_written_run_and_read(graph, tmp_path, agrees):
    ir.verify(graph, after="test")
    test_written_file_agrees_with_the_graph(graph, tmp_path, agrees)
    test_written_file_reads_back_as_the_same_graph(graph, tmp_path)


@pytest.mark.parametrize(
    ("dtype", "opset", "ir_version", "nodes"),
    [
        (ir.Int(8, True), 17, 8, ["QuantizeLinear"]),
        (ir.Int(4, True), 17, 8, ["QuantizeLinear", "Clip"]),
        (ir.Int(16, False), 21, 10, ["QuantizeLinear"]),
        (ir.Int(2, True), 17, 8, ["QuantizeLinear", "Clip"]),
        (ir.Int(1, False), 17, 8, ["QuantizeLinear", "Clip"]),
        (ir.Int(5, True), 17, 8, ["QuantizeLinear", "Clip"]),
        (ir.Int(12, True), 21, 10, ["QuantizeLinear", "Cast", "Clip", "Cast"]),
    ],
    ids=str,
)
def test_the_file_has_the_oldest_opset_that_knows_its_types(
    dtype, opset, ir_version, nodes, tmp_path
):
    write_qdq(retyped(GRAPHS["sigmoid"], dtype), tmp_path / "m.onnx")
    model = onnx.load(tmp_path / "m.onnx")
    assert (model.opset_import[0].version, model.ir_version) == (opset, ir_version)
    kinds = [node.op_type for node in model.graph.node]
    assert kinds[: len(nodes) + 1] == [
        *nodes,
        "DequantizeLinear" if dtype.bits < 8 else kinds[len(nodes)],
    ]


def test_weights_take_the_narrowest_type_of_the_activations_opset(tmp_path):
    for activations, kind in ((8, "int8"), (4, "int8"), (16, "int4")):
        graph = retyped(GRAPHS["conv"], ir.Int(activations, True))
        (op,) = graph.ops
        graph = graph.replace([replace(op, weight=(op.weight % 15 - 7).astype(np.int8))])
        write_qdq(graph, tmp_path / "m.onnx")
        stored = {
            tensor.name: onnx.numpy_helper.to_array(tensor)
            for tensor in onnx.load(tmp_path / "m.onnx").graph.initializer
        }
        assert stored["c/weight"].dtype.name == kind


@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
@pytest.mark.parametrize("bits", [2, 4])
def test_a_runtime_that_optimizes_computes_the_same(graph, bits, tmp_path):
    """ONNX Runtime takes most operators on 4 bits for the same on 8, when it optimizes."""
    write_qdq(retyped(graph, ir.Int(bits, True)), tmp_path / "m.onnx")
    x = np.random.default_rng(1).uniform(-3, 3, (3, *graph.inputs[0].shape)).astype(np.float32)
    if graph.inputs[0].dtype != "float32":
        x = np.rint(x).clip(-(1 << (bits - 1)), (1 << (bits - 1)) - 1).astype(np.int8)
    plain, fast = (Runtime(tmp_path / "m.onnx", optimize=way).run(x) for way in (False, True))
    np.testing.assert_array_equal(plain["y"], fast["y"])

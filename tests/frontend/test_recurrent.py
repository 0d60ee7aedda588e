"""RNN, GRU and LSTM of few steps, and of many in a loop, against ONNX Runtime."""

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.quantize import quantize
from gatewright.compiler.quantize.float_model import evaluate, model_input
from gatewright.sim import golden
from numpy.testing import assert_array_equal
from onnx import helper

from ..plan.networks import fold, measure

N = helper.make_node
SIZE, FEATURES, STEPS = 5, 3, 3
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def floats(*shape, seed=3):
    return np.random.default_rng(seed).normal(0, 0.5, shape).astype(np.float32)


def network(model, kind, output="Y", count=1, bias=True, steps=STEPS, more=(), **attributes):
    """A network whose input is [batch, steps, features], and one of the node's outputs."""
    outputs = ["Y", "Y_h", "Y_c"][: 3 if kind == "LSTM" else 2]
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[1, 0, 2]),
        N(
            kind,
            ["t", "w", "r", "b" if bias else "", *more],
            outputs,
            hidden_size=SIZE,
            **attributes,
        ),
        N("Transpose", [output], ["y"], perm=[2, 0, 1, 3] if output == "Y" else [1, 0, 2]),
    ]
    gates = GATES[kind] * SIZE
    constants = {"w": floats(count, gates, FEATURES), "r": floats(count, gates, SIZE, seed=4)}
    if bias:
        constants["b"] = floats(count, 2 * gates, seed=5)
    return model(nodes, [1, steps, FEATURES], **constants)


@pytest.mark.parametrize("output", ["Y", "Y_h"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_layer(model, agrees, kind, direction, output):
    count = 2 if direction == "bidirectional" else 1
    agrees(network(model, kind, output, count, direction=direction))


@pytest.mark.parametrize("output", ["Y", "Y_h"])
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("kind", GATES)
def test_a_layer_of_many_steps_is_a_loop(model, agrees, kind, direction, output):
    count = 2 if direction == "bidirectional" else 1
    path = network(model, kind, output, count, steps=20, direction=direction)
    agrees(path)
    ops = load(path).ops
    states = [op for op in ops if isinstance(op, ir.Delay)]
    assert len(states) == count * (1 + (kind == "LSTM"))
    assert len(ops) < 26 * count


@pytest.mark.parametrize(
    ("kind", "steps", "count", "looped"),
    [
        ("GRU", 4, 1, False),
        ("GRU", 5, 1, True),
        ("GRU", 3, 2, True),
        ("LSTM", 3, 1, False),
        ("LSTM", 4, 1, True),
        ("RNN", 16, 1, False),
        ("RNN", 17, 1, True),
    ],
)
def test_a_layer_of_few_operators_is_hardware_for_each_step(model, kind, steps, count, looped):
    direction = "bidirectional" if count == 2 else "forward"
    graph = load(network(model, kind, "Y_h", count, steps=steps, direction=direction))
    assert any(isinstance(op, ir.Delay) for op in graph) == looped


def test_layers_share_the_number_of_operators(model, agrees):
    """Of three layers of two steps the last is a loop."""
    nodes, names = [], ["x"]
    for n in range(3):
        last = names[-1]
        names.append(f"y{n}" if n < 2 else "last")
        node = N("GRU", [last, f"w{min(n, 1)}", "r"], [f"t{n}"], hidden_size=SIZE)
        nodes += [node, N("Squeeze", [f"t{n}", "one"], [names[-1]])]
    nodes.append(N("Transpose", ["last"], ["y"], perm=[1, 0, 2]))
    nodes.insert(0, N("Transpose", ["x"], ["first"], perm=[1, 0, 2]))
    nodes[1].input[0] = "first"
    constants = {
        "w0": floats(1, 3 * SIZE, FEATURES),
        "w1": floats(1, 3 * SIZE, SIZE),
        "r": floats(1, 3 * SIZE, SIZE, seed=4),
        "one": np.array([1]),
    }
    graph = agrees(model(nodes, [1, 2, FEATURES], **constants))
    assert sum(isinstance(op, ir.Delay) for op in graph) == 1


@pytest.mark.parametrize("steps", [STEPS, 20])
@pytest.mark.parametrize("output", ["Y", "Y_h"])
@pytest.mark.parametrize("kind", GATES)
def test_a_layer_of_a_network_that_is_quantized(model, ort, tmp_path, kind, output, steps):
    """As quantizers leave it, in floats: samples give its states types, the rest keeps its own."""
    path = network(model, kind, output, steps=steps)
    proto = onnx.load(path)
    ends = {"x": "x/real", "y": "y/real"}
    for node in proto.graph.node:
        node.input[:] = [ends.get(name, name) for name in node.input]
        node.output[:] = [ends.get(name, name) for name in node.output]
    before = [
        N("QuantizeLinear", ["x", "sx", "zero"], ["x/integer"]),
        N("DequantizeLinear", ["x/integer", "sx", "zero"], ["x/real"]),
    ]
    behind = [
        N("QuantizeLinear", ["y/real", "sy", "zero"], ["y/integer"]),
        N("DequantizeLinear", ["y/integer", "sy", "zero"], ["y"]),
    ]
    nodes = [*before, *proto.graph.node, *behind]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    scales = {"sx": np.float32(1 / 32), "sy": np.float32(1 / 64), "zero": np.int8(0)}
    constants = [onnx.numpy_helper.from_array(np.asarray(a), n) for n, a in scales.items()]
    proto.graph.initializer.extend(constants)
    onnx.save(proto, path)
    graph = load(path)
    assert graph.open_values
    x = floats(40, steps, FEATURES, seed=9) * 2
    integers = quantize(graph, x)
    assert integers.quant(integers.outputs[0].value).scale == scales["sy"]
    found = golden.host_output(integers, golden.run(integers, golden.host_input(integers, x)))["y"]
    (wanted,) = ort(path, x)
    error = np.abs(found - wanted) / scales["sy"]
    assert error.mean() < 1.5
    assert error.max() <= 10
    write_qdq(integers, tmp_path / "int8.onnx")
    assert load(tmp_path / "int8.onnx").verbatim


@pytest.mark.parametrize("steps", [STEPS, 20])
def test_the_last_cell_of_an_lstm(model, agrees, steps):
    agrees(network(model, "LSTM", "Y_c", steps=steps))


@pytest.mark.parametrize("steps", [STEPS, 20])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("after", [0, 1])
def test_the_reset_gate_before_and_behind_the_weights(model, agrees, after, bias, steps):
    agrees(network(model, "GRU", bias=bias, linear_before_reset=after, steps=steps))


@pytest.mark.parametrize("kind", GATES)
def test_a_quantized_loop_is_a_scan_that_is_read_back(model, tmp_path, kind):
    """ONNX Runtime computes the file as golden does, and the file is read as it was written."""
    float_graph = load(network(model, kind, "Y", 2, steps=20, direction="bidirectional"))
    x = floats(12, 20, FEATURES, seed=9) * 2
    graph, path = quantize(float_graph, x), tmp_path / "int8.onnx"
    write_qdq(graph, path)
    onnx.checker.check_model(str(path), full_check=True)
    again = load(path)
    assert again.verbatim
    (wanted,), (found,) = (
        golden.host_output(one, golden.run(one, golden.host_input(one, x))).values()
        for one in (graph, again)
    )
    np.testing.assert_array_equal(found, wanted)
    assert {type(op) for op in again} >= {ir.Delay, ir.Conv, ir.Unary}
    (seen,) = Runtime(path, optimize=False).run(x).values()
    (port,) = graph.outputs
    step = graph.quant(port.value).scale
    assert np.abs(seen - wanted).max() <= 1.01 * step
    assert (seen != wanted).mean() < 0.01


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scan_input_axes": [1]}, "has scan_input_axes of [1]; accepted: a Scan forwards over"),
        ({"scan_input_directions": [1]}, "has scan_input_directions of [1]; accepted: a Scan"),
        ({"scan_output_axes": [1]}, "has scan_output_axes of [1]; accepted: a Scan forwards over"),
        ({"num_scan_inputs": 0}, "has a body of other inputs and outputs; accepted: a Scan"),
    ],
    ids=["axis", "direction", "output axis", "no inputs"],
)
def test_other_scans_are_refused(model, tmp_path, change, words):
    float_graph = load(network(model, "RNN", steps=20))
    graph, path = quantize(float_graph, floats(4, 20, FEATURES)), tmp_path / "int8.onnx"
    write_qdq(graph, path)
    proto = onnx.load(path)
    (scan,) = (node for node in proto.graph.node if node.op_type == "Scan")
    kept = [a for a in scan.attribute if a.name not in change]
    del scan.attribute[:]
    scan.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in change.items())])
    onnx.save(proto, path)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert words in str(caught.value)


def test_a_scan_whose_body_mixes_rows_is_refused(model, tmp_path):
    """A pool over rows in the body of a Scan is another function on whole maps."""
    float_graph = load(network(model, "RNN", steps=20))
    graph, path = quantize(float_graph, floats(4, 20, FEATURES)), tmp_path / "int8.onnx"
    write_qdq(graph, path)
    proto = onnx.load(path)
    (scan,) = (node for node in proto.graph.node if node.op_type == "Scan")
    body = next(a.g for a in scan.attribute if a.name == "body")
    tanh = next(node for node in body.node if node.op_type == "Tanh")
    pool = helper.make_node(
        "MaxPool",
        [*tanh.input],
        [*tanh.output],
        name="pool",
        kernel_shape=[2, 1],
        pads=[1, 0, 0, 0],
    )
    tanh.CopyFrom(pool)
    onnx.save(proto, path)
    with pytest.raises(ModelError, match="does not work row by row"):
        load(path)


def with_starts(path, kind, names=("h0", "c0")):
    """The network in ``path``, whose initial states are inputs [1, batch, size]; written again."""
    proto = onnx.load(path)
    used = names[: 1 + (kind == "LSTM")]
    info = helper.make_tensor_value_info
    proto.graph.input.extend(info(name, onnx.TensorProto.FLOAT, [1, 1, SIZE]) for name in used)
    node = next(node for node in proto.graph.node if node.op_type == kind)
    node.input.extend(["", *used])
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("direction", ["forward", "reverse"])
@pytest.mark.parametrize("steps", [STEPS, 20])
@pytest.mark.parametrize("kind", GATES)
def test_a_layer_that_begins_with_inputs(model, tmp_path, kind, steps, direction):
    """In floats it is ONNX Runtime's, in integers the written file is, and is read back."""
    path = with_starts(network(model, kind, steps=steps, direction=direction), kind)
    graph, frames = load(path), 5
    x = {port.name: floats(frames, *port.shape, seed=n) * 2 for n, port in enumerate(graph.inputs)}
    values = evaluate(graph, model_input(graph, x))
    (port,) = graph.outputs
    found = values[port.value].reshape(frames, -1)[:, port.order].reshape(-1, *port.shape)
    (wanted,) = Runtime(path).run(x).values()
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert sum(isinstance(op, ir.Delay) for op in graph) == (len(x) - 1) * (steps > STEPS)
    integers = quantize(graph, x)
    write_qdq(integers, tmp_path / "int8.onnx")
    again = load(tmp_path / "int8.onnx")
    ours, theirs = (
        golden.host_output(one, golden.run(one, golden.host_input(one, x)))["y"]
        for one in (integers, again)
    )
    assert_array_equal(ours, theirs)
    (seen,) = Runtime(tmp_path / "int8.onnx", optimize=False).run(x).values()
    assert np.abs(seen - ours).max() <= 1.01 * integers.quant(integers.outputs[0].value).scale


@pytest.mark.parametrize("steps", [1, STEPS, 20])
@pytest.mark.parametrize("kind", GATES)
def test_a_layer_that_begins_with_numbers(model, agrees, tmp_path, kind, steps):
    """It is a loop, however few its steps are."""
    path = with_starts(network(model, kind, "Y_h", steps=steps), kind)
    proto = onnx.load(path)
    starts = [one.name for one in proto.graph.input][1:]
    del proto.graph.input[1:]
    for n, name in enumerate(starts):
        numbers = floats(1, 1, SIZE, seed=20 + n)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(numbers, name))
    onnx.save(proto, path)
    graph = agrees(path)
    assert sum(isinstance(op, ir.Delay) for op in graph) == len(starts)
    write_qdq(quantize(graph, floats(6, steps, FEATURES)), tmp_path / "int8.onnx")
    agrees(tmp_path / "int8.onnx")


def test_numbers_that_differ_within_the_batch_are_refused(model):
    node = N("RNN", ["x", "w", "r", "", "", "h0"], ["y"], hidden_size=SIZE, layout=1)
    w, r, h0 = floats(1, SIZE, FEATURES), floats(1, SIZE, SIZE), floats(2, 1, SIZE)
    path = model([node], [2, STEPS, FEATURES], w=w, r=r, h0=h0)
    with pytest.raises(ModelError, match="starts with a constant state that differs within the b"):
        load(path)


@pytest.mark.parametrize("steps", [STEPS, 20])
def test_relu_takes_no_hardware_of_its_own(model, agrees, steps):
    graph = agrees(network(model, "RNN", activations=["Relu"], steps=steps))
    relus = sum(isinstance(op, ir.Unary) for op in graph)
    assert relus == (steps == STEPS)  # the first step, of the state zero, is not a sum


def test_other_functions(model, agrees):
    agrees(network(model, "GRU", activations=["HardSigmoid", "Softsign"]))


def test_one_step(model, agrees):
    agrees(network(model, "LSTM", steps=1))


def test_steps_of_ordinary_operators(model):
    """Of which none is for the host."""
    graph = load(network(model, "GRU", "Y_h"))
    assert {type(op) for op in graph} <= {
        ir.Conv,
        ir.Unary,
        ir.Add,
        ir.ops.Sub,
        ir.ops.Mul,
        ir.Gather,
        ir.Reshape,
        ir.Concat,
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"direction": "bidirectional"}, "has weights of 1 directions, and the direction bidirec"),
        ({"count": 2}, "has weights of 2 directions, and the direction forward; accepted: weights"),
        ({"clip": 1.0}, "has clip or input_forget; accepted: neither"),
        ({"activations": ["Affine", "Tanh"]}, "has the activations ['Affine', 'Tanh']; accepted: "),
    ],
    ids=["one direction", "two directions", "clip", "functions"],
)
def test_what_is_not_built_is_refused(model, options, words):
    with pytest.raises(ModelError) as caught:
        load(network(model, "GRU", **options))
    assert words in str(caught.value)


def test_a_layer_of_many_steps_in_hardware(model):
    graph = load(network(model, "GRU", "Y_h", steps=17))
    x = floats(2, 17, FEATURES, seed=8) * 2
    graph = quantize(graph, x)
    plan, frames = fold(graph), golden.host_input(graph, x[:1])
    seen = measure(plan, frames, stall=0.2)
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])

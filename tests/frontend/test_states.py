"""States that are kept between frames: named, read, quantized, written, run and refused."""

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import DataError, GatewrightError, ModelError
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.reference_runtime import ReferenceRuntime, Runtime
from gatewright.compiler.frontend.states import KEY, State, parse_states, write_with_states
from gatewright.compiler.quantize import evaluate, model_input, quantize
from gatewright.sim import golden
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

SIZE, FEATURES, FRAMES = 5, 4, 12
INFO = helper.make_tensor_value_info


def save(path, nodes, inputs, outputs, constants, opset=17):
    graph = helper.make_graph(
        nodes,
        "net",
        [INFO(name, TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [INFO(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()],
    )
    model = helper.make_model(
        graph, ir_version=12 if opset > 17 else 10, opset_imports=[helper.make_opsetid("", opset)]
    )
    onnx.save(model, path)
    return path


def recurrent(path, kind, gates, rng):
    """One step of a recurrent layer whose states come in and go out."""
    states = ("h", "c")[: 1 + (kind == "LSTM")]
    shape = [1, 1, SIZE]
    names = ["x", "w", "r", "b", "", *(f"{s}_in" for s in states)]
    outs = ["y", *(f"{s}_out" for s in states)]
    node = helper.make_node(kind, names, outs, "layer", hidden_size=SIZE)
    draw = lambda *sizes: rng.uniform(-1, 1, sizes).astype(np.float32)  # noqa: E731
    return save(
        path,
        [node],
        {"x": [1, 1, FEATURES]} | {f"{s}_in": shape for s in states},
        {"y": [1, 1, 1, SIZE]} | {f"{s}_out": shape for s in states},
        {
            "w": draw(1, gates * SIZE, FEATURES),
            "r": draw(1, gates * SIZE, SIZE),
            "b": draw(1, 2 * gates * SIZE),
        },
    ), [f"{s}_in={s}_out" for s in states]


def layers(path, kind, gates, rng):
    """One step of two layers as PyTorch writes them: states are of [layers, batch, size]."""
    states = ("h", "c")[: 1 + (kind == "LSTM")]
    nodes, constants, before = [], {"axis": np.array([0]), "direction": np.array([1])}, "x"
    for n in range(2):
        constants |= {f"at{n}": np.array([n]), f"at{n + 1}": np.array([n + 1])}
        for s in states:
            cut = [f"{s}_in", f"at{n}", f"at{n + 1}", "axis"]
            nodes.append(helper.make_node("Slice", cut, [f"{s}{n}_in"], f"slice_{s}{n}"))
        names = [before, f"w{n}", f"r{n}", f"b{n}", "", *(f"{s}{n}_in" for s in states)]
        outs = [f"all{n}", *(f"{s}{n}" for s in states)]
        nodes.append(helper.make_node(kind, names, outs, f"layer{n}", hidden_size=SIZE))
        before = f"y{n}" if n == 0 else "y"
        nodes.append(helper.make_node("Squeeze", [f"all{n}", "direction"], [before], f"flat{n}"))
        for word, *sizes in (("w", FEATURES if n == 0 else SIZE), ("r", SIZE), ("b",)):
            shape = (1, gates * SIZE, *sizes) if sizes else (1, 2 * gates * SIZE)
            constants[f"{word}{n}"] = rng.uniform(-1, 1, shape).astype(np.float32)
    for s in states:
        parts = [f"{s}{n}" for n in range(2)]
        nodes.append(helper.make_node("Concat", parts, [f"{s}_out"], f"join_{s}", axis=0))
    shape = [2, 1, SIZE]
    inputs = {"x": [1, 1, FEATURES]} | {f"{s}_in": shape for s in states}
    outputs = {"y": [1, 1, SIZE]} | {f"{s}_out": shape for s in states}
    return save(path, nodes, inputs, outputs, constants), [f"{s}_in={s}_out" for s in states]


def causal(path, rng):
    """A convolution over the last pixels, those before the frame's in a state of channels first."""
    nodes = [
        helper.make_node("Concat", ["past", "x"], ["whole"], "join", axis=2),
        helper.make_node("Conv", ["whole", "w"], ["y"], "conv"),
        helper.make_node("Slice", ["whole", "from", "to", "axis"], ["present"], "cut"),
    ]
    return save(
        path,
        nodes,
        {"x": [1, 3, 2], "past": [1, 3, 4]},
        {"y": [1, 2, 2], "present": [1, 3, 4]},
        {
            "w": rng.uniform(-1, 1, (2, 3, 5)).astype(np.float32),
            "from": np.array([2]),
            "to": np.array([6]),
            "axis": np.array([2]),
        },
    ), ["past=present"]


NETWORKS = {
    "RNN": lambda path, rng: recurrent(path, "RNN", 1, rng),
    "GRU": lambda path, rng: recurrent(path, "GRU", 3, rng),
    "LSTM": lambda path, rng: recurrent(path, "LSTM", 4, rng),
    "LSTM layers": lambda path, rng: layers(path, "LSTM", 4, rng),
    "causal": causal,
}


def dims(info):
    return [dim.dim_value for dim in info.type.tensor_type.shape.dim]


@pytest.fixture(params=NETWORKS)
def network(request, tmp_path):
    """A file that keeps its states, and frames of a sequence."""
    rng = np.random.default_rng(5)
    path, texts = NETWORKS[request.param](tmp_path / "float.onnx", rng)
    states = parse_states(texts)
    (first,) = [p for p in onnx.load(path).graph.input if p.name == states[0].input]
    initial = {states[0].input: rng.uniform(-1, 1, dims(first)).astype(np.float32)}
    write_with_states(path, states, tmp_path / "kept.onnx", initial)
    (entering,) = load(tmp_path / "kept.onnx").inputs
    x = rng.normal(size=(FRAMES, *entering.shape)).astype(np.float32)
    return path, tmp_path / "kept.onnx", states, initial, x


def in_turn(path, states, initial, x):
    """The outputs of ONNX Runtime, the states of each call given to the next one by hand."""
    runtime, found = Runtime(path), []
    given = {state.input: initial.get(state.input) for state in states}
    for info in onnx.load(path).graph.input:
        if given.get(info.name, 0) is None:
            given[info.name] = np.zeros(dims(info), np.float32)
    for frame in x:
        result = runtime.call({"x": frame[None], **given})
        found.append(result["y"])
        given = {state.input: result[state.output] for state in states}
    return np.concatenate(found)


def test_frames_are_one_sequence_in_every_model(network, tmp_path):
    plain, kept, states, initial, x = network
    wanted = in_turn(plain, states, initial, x)
    assert_array_equal(Runtime(kept).run({"x": x})["y"], wanted)
    graph = load(kept)
    assert [port.name for port in (*graph.inputs, *graph.outputs)] == ["x", "y"]
    reals = evaluate(graph, model_input(graph, x))[graph.outputs[0].value]
    (port,) = graph.outputs
    ordered = reals.reshape(FRAMES, -1)[:, port.order].reshape(wanted.shape)
    assert_allclose(ordered, wanted, atol=1e-5)

    write_qdq(quantize(graph, x), tmp_path / "int8.onnx")
    onnx.checker.check_model(tmp_path / "int8.onnx", full_check=True)
    integers = load(tmp_path / "int8.onnx")
    assert integers.verbatim
    assert integers.keeps
    ports = onnx.load(tmp_path / "int8.onnx").graph
    assert {p.name for p in ports.input} == {"x"} | {state.input for state in states}
    assert {p.name for p in ports.output} == {"y"} | {state.output for state in states}
    before = onnx.load(plain).graph
    sizes = {p.name: dims(p) for p in (*before.input, *before.output)}
    assert {p.name: dims(p) for p in (*ports.input, *ports.output)} == sizes
    values = golden.run(integers, golden.host_input(integers, x))
    runtime = ReferenceRuntime(tmp_path / "int8.onnx", integers)
    found = golden.host_output(integers, values)["y"]
    step = integers.quant(integers.outputs[0].value).scale
    assert abs(found - runtime.outputs({"x": x})["y"]).max() <= 1.01 * step
    assert abs(found - wanted).max() < 0.2
    assert not any(row.largest > 1 for row in runtime.layers({"x": x}, values).values())
    assert {*runtime.missing} <= {op.name for op in integers if isinstance(op, ir.Gather)}


def with_past(path, rng):
    """The standard's CausalConvWithState, of three pixels a frame."""
    names = ["x", "w", "b", "past"]
    node = helper.make_node("CausalConvWithState", names, ["y", "present"], "conv")
    node.attribute.append(helper.make_attribute("activation", "silu"))
    ports = {"x": [1, 4, 3], "past": [1, 4, 2]}, {"y": [1, 4, 3], "present": [1, 4, 2]}
    draw = lambda *sizes: rng.uniform(-1, 1, sizes).astype(np.float32)  # noqa: E731
    return save(path, [node], *ports, {"w": draw(4, 1, 3), "b": draw(4)}, 27), ["past=present"]


def attention(path, rng, kept=5):
    """The standard's Attention with a past of five positions, of whose successor the newest
    ``kept`` remain.
    """
    products = [helper.make_node("MatMul", ["x", f"w_{n}"], [n], f"to_{n}") for n in "qkv"]
    names = ["q", "k", "v", "", "past_k", "past_v"]
    heads = {"q_num_heads": 2, "kv_num_heads": 2}
    nodes = [
        *products,
        helper.make_node("Attention", names, ["y", "all_k", "all_v"], "attention", **heads),
        *(
            helper.make_node("Slice", [f"all_{n}", "from", "to", "axis"], [f"new_{n}"], f"cut_{n}")
            for n in "kv"
        ),
    ]
    constants = {f"w_{n}": rng.uniform(-1, 1, (6, 6)).astype(np.float32) for n in "qkv"}
    constants |= {"from": np.array([6 - kept]), "to": np.array([6]), "axis": np.array([2])}
    past, new = [1, 2, 5, 3], [1, 2, kept, 3]
    inputs = {"x": [1, 1, 6], "past_k": past, "past_v": past}
    outputs = {"y": [1, 1, 6], "new_k": new, "new_v": new}
    return save(path, nodes, inputs, outputs, constants, 24), ["past_k=new_k", "past_v=new_v"]


@pytest.mark.parametrize("make", [with_past, attention])
def test_operators_of_the_standard_with_a_past(tmp_path, make):
    rng = np.random.default_rng(3)
    path, texts = make(tmp_path / "net.onnx", rng)
    states = parse_states(texts)
    write_with_states(path, states, tmp_path / "kept.onnx")
    graph = load(tmp_path / "kept.onnx")
    x = rng.normal(size=(FRAMES, *graph.inputs[0].shape)).astype(np.float32)
    reference, wanted = ReferenceEvaluator(str(path)), []
    sizes = {info.name: dims(info) for info in onnx.load(path).graph.input}
    given = {state.input: np.zeros(sizes[state.input], np.float32) for state in states}
    for frame in x:
        y, *after = reference.run(["y", *(s.output for s in states)], {"x": frame[None], **given})
        given = {state.input: new for state, new in zip(states, after, strict=True)}
        wanted.append(y)
    wanted = np.concatenate(wanted)
    (port,) = graph.outputs
    reals = evaluate(graph, model_input(graph, x))[port.value].reshape(FRAMES, -1)
    assert_allclose(reals[:, port.order].reshape(wanted.shape), wanted, atol=1e-5)
    write_qdq(quantize(graph, x), tmp_path / "int8.onnx")
    integers = load(tmp_path / "int8.onnx")
    found = golden.host_output(integers, golden.run(integers, golden.host_input(integers, x)))["y"]
    assert abs(found - wanted).max() < 0.1 * abs(wanted).max()


def test_a_state_that_grows(tmp_path):
    path, texts = attention(tmp_path / "net.onnx", np.random.default_rng(3), kept=6)
    write_with_states(path, parse_states(texts), tmp_path / "kept.onnx")
    with pytest.raises(ModelError, match=r"axis 2 grows by 1 in every frame.*Slice of new_k from"):
        load(tmp_path / "kept.onnx")


def test_a_batch_is_no_axis_of_a_network_with_states(tmp_path):
    shape = [2, 1, 3]
    add = helper.make_node("Add", ["x", "h_in"], ["h_out"], "add")
    relu = helper.make_node("Relu", ["h_out"], ["y"], "relu")
    ports = {"x": shape, "h_in": shape}, {"y": shape, "h_out": shape}
    path = save(tmp_path / "net.onnx", [add, relu], *ports, {})
    write_with_states(path, [State("h_in", "h_out")], tmp_path / "kept.onnx")
    with pytest.raises(ModelError, match="x: has a batch of 2, and the model keeps the state"):
        load(tmp_path / "kept.onnx")


def test_the_first_frame_after_a_reset_reads_the_initial_values(network):
    _, kept, states, initial, x = network
    graph = load(kept)
    (op,) = [op for op in graph if op.keeping and op.port.name == states[0].input]
    flat = op.initial.reshape(-1)[np.argsort(op.port.order)]
    assert_array_equal(flat, initial[states[0].input].reshape(-1))
    values = evaluate(graph, model_input(graph, x))
    assert_array_equal(values[op.output][0], op.initial)
    assert_array_equal(values[op.output][1:], values[op.inputs[0]][:-1])


def test_states_of_two_scales_are_rounded_to_one(tmp_path):
    scales = {"s": np.float32(0.25), "t": np.float32(0.5), "z": np.int8(0)}
    nodes = []
    for name, scale in (("x", "s"), ("h_in", "s"), ("sum", "t")):
        nodes.append(helper.make_node("QuantizeLinear", [name, scale, "z"], [f"{name}/q"]))
        end = "h_out" if name == "sum" else f"{name}/dq"
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}/q", scale, "z"], [end]))
    nodes.insert(4, helper.make_node("Add", ["x/dq", "h_in/dq"], ["sum"], "add"))
    nodes.append(helper.make_node("Relu", ["h_out"], ["positive"], "relu"))
    nodes.append(helper.make_node("QuantizeLinear", ["positive", "t", "z"], ["y/q"]))
    nodes.append(helper.make_node("DequantizeLinear", ["y/q", "t", "z"], ["y"]))
    shape = {"x": [1, 3], "h_in": [1, 3]}
    path = save(tmp_path / "q.onnx", nodes, shape, {"y": [1, 3], "h_out": [1, 3]}, scales)
    write_with_states(path, [State("h_in", "h_out")], tmp_path / "kept.onnx")
    graph = load(tmp_path / "kept.onnx")
    (op,) = [op for op in graph if op.keeping]
    assert graph.quant(op.inputs[0]) == graph.quant(op.output)
    assert not graph.verbatim
    x = np.random.default_rng(0).normal(size=(FRAMES, 3)).astype(np.float32)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x)))["y"]
    assert_array_equal(found, in_turn(path, [State("h_in", "h_out")], {}, x))


@pytest.mark.parametrize(
    ("states", "message"),
    [
        (["h_inn=h_out"], "no input h_inn.*did you mean h_in"),
        (["h_in=h_ou"], "no output h_ou.*did you mean h_out"),
        (["h_in=h_out", "h_in=y"], "h_in is part of another state"),
        (["h_in=h_out", "x=y"], "all inputs of the model are states"),
        (["x=h_out"], r"x is float32 of shape \[1, 4\], but h_out is float32 of shape \[1, 5\]"),
        (["h_in"], "give an input and the output"),
    ],
)
def test_states_that_do_not_match(tmp_path, states, message):
    path, _ = recurrent(tmp_path / "net.onnx", "RNN", 1, np.random.default_rng(1))

    def kept():
        write_with_states(path, parse_states(states), tmp_path / "kept.onnx")
        return load(tmp_path / "kept.onnx")

    with pytest.raises(GatewrightError, match=message):
        kept()


def test_initial_values_that_do_not_match(tmp_path):
    path, texts = recurrent(tmp_path / "net.onnx", "RNN", 1, np.random.default_rng(1))
    with pytest.raises(DataError, match="c_in: has an initial value, but is no state"):
        write_with_states(path, parse_states(texts), tmp_path / "k.onnx", {"c_in": np.zeros(2)})
    write_with_states(path, parse_states(texts), tmp_path / "k.onnx", {"h_in": np.ones(2)})
    with pytest.raises(ModelError, match=r"2 numbers are given.*accepted: 5 finite numbers"):
        load(tmp_path / "k.onnx")


@pytest.mark.parametrize("text", ["{", "3", '[{"input": "h_in"}]', "[1]", "null"])
def test_damaged_metadata(tmp_path, text):
    path, _ = recurrent(tmp_path / "net.onnx", "RNN", 1, np.random.default_rng(1))
    model = onnx.load(path)
    model.metadata_props.add(key=KEY, value=text)
    onnx.save(model, path)
    with pytest.raises(ModelError, match=r"metadata gatewright\.states is damaged"):
        load(path)


def test_printed_form_names_the_ports(network):
    _, kept, states, _, _ = network
    text = ir.to_text(load(kept))
    assert all(f", {state}  #" in text for state in states)

"""A model is cut so that as many products as can be stay in hardware; the rest runs on the host."""

import numpy as np
import onnx
import pytest
from gatewright.compiler.driver import read_network
from gatewright.compiler.errors import DataError, ModelError
from gatewright.compiler.frontend import divide, survey
from gatewright.compiler.frontend.reference_runtime import Runtime
from numpy.testing import assert_allclose, assert_array_equal
from onnx import TensorProto, helper, numpy_helper

RNG = np.random.default_rng(3)


def save(path, nodes, inputs, outputs, **constants):
    """A model; ``inputs`` and ``outputs`` by name: type and shape."""
    ports = [
        [helper.make_tensor_value_info(name, *port) for name, port in each.items()]
        for each in (inputs, outputs)
    ]
    stored = [numpy_helper.from_array(np.asarray(a), name) for name, a in constants.items()]
    graph = helper.make_graph(nodes, "net", *ports, stored)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def node(op, inputs, outputs, name="", **attributes):
    return helper.make_node(op, inputs.split(), outputs.split(), name=name or outputs, **attributes)


def weights(*shape):
    return RNG.normal(scale=0.3, size=shape).astype(np.float32)


def detector(path):
    """A convolutional backbone, boxes and scores, NonMaxSuppression."""
    nodes = [
        node("Conv", "image w", "features", kernel_shape=[3, 3], strides=[2, 2]),
        node("Relu", "features", "active"),
        node("Conv", "active box_w", "box_map", kernel_shape=[1, 1]),
        node("Conv", "active score_w", "score_map", kernel_shape=[1, 1]),
        node("Reshape", "box_map box_shape", "box_rows"),
        node("Transpose", "box_rows", "boxes", perm=[0, 2, 1]),
        node("Reshape", "score_map score_shape", "scores"),
        node("NonMaxSuppression", "boxes scores most overlap least", "selected"),
    ]
    return save(
        path,
        nodes,
        {"image": (TensorProto.FLOAT, [1, 2, 9, 9])},
        {
            "selected": (TensorProto.INT64, ["n", 3]),
            "scores": (TensorProto.FLOAT, [1, 2, 16]),
        },
        w=weights(4, 2, 3, 3),
        box_w=weights(4, 4, 1, 1),
        score_w=weights(2, 4, 1, 1),
        box_shape=np.array([1, 4, 16]),
        score_shape=np.array([1, 2, 16]),
        most=np.array([3]),
        overlap=np.float32(0.5),
        least=np.float32(0.1),
    )


def tokens(path):
    """An embedding of integer tokens, then a dense layer."""
    nodes = [
        node("Gather", "table ids", "embedded"),
        node("MatMul", "embedded w", "mixed"),
        node("Relu", "mixed", "y"),
    ]
    return save(
        path,
        nodes,
        {"ids": (TensorProto.INT64, [1, 5])},
        {"y": (TensorProto.FLOAT, [1, 5, 6])},
        table=weights(11, 8),
        w=weights(8, 6),
    )


def split(path, first, second):
    """Two convolutions of so many channels around a node that no hardware computes."""
    nodes = [
        node("Conv", "x v", "a", kernel_shape=[3, 3]),
        node("Relu", "a", "b"),
        node("CumSum", "b axis", "c"),
        node("Conv", "c w", "d", kernel_shape=[3, 3]),
        node("Relu", "d", "y"),
    ]
    return save(
        path,
        nodes,
        {"x": (TensorProto.FLOAT, ["N", 2, 8, 8])},
        {"y": (TensorProto.FLOAT, ["N", second, 4, 4])},
        v=weights(first, 2, 3, 3),
        w=weights(second, first, 3, 3),
        axis=np.array(2),
    )


def verdicts(cut):
    return {verdict.name: verdict.verdict for verdict in cut.verdicts}


def recombined(cut, x):
    """The model's outputs where ONNX Runtime computes the hardware's part too."""
    given = cut.border.before(x)
    body = Runtime(cut.body)
    return cut.border.after(given, body.run({name: given[name] for name in body.inputs}))


def test_a_detector_keeps_its_tail_on_the_host(tmp_path):
    path = detector(tmp_path / "detector.onnx")
    cut = divide(path, survey(path))
    assert cut.head == ()
    assert cut.tail == ("selected",)
    assert cut.macs == 0
    assert verdicts(cut)["selected"] == "host"
    assert "unsupported" not in verdicts(cut).values()
    x = {"image": RNG.normal(size=(4, 2, 9, 9)).astype(np.float32)}
    found = recombined(cut, x)
    whole = Runtime(path)
    for n in range(4):
        alone = whole.call({"image": x["image"][n : n + 1]})
        assert_allclose(found["scores"][n : n + 1], alone["scores"], rtol=1e-5)
        rows = len(alone["selected"])
        assert_array_equal(found["selected"][n, :rows], alone["selected"])
        assert (found["selected"][n, rows:] == -1).all()


def test_tokens_are_looked_up_on_the_host(tmp_path):
    path = tokens(tmp_path / "tokens.onnx")
    cut = divide(path, survey(path))
    assert cut.head == ("embedded",)
    assert [(port.name, port.shape) for port in cut.graph.inputs] == [("embedded", (5, 8))]
    assert [(port.name, port.dtype) for port in cut.border.inputs] == [("ids", "int64")]
    x = {"ids": RNG.integers(0, 11, (3, 5))}
    whole = Runtime(path)
    assert_allclose(recombined(cut, x)["y"], whole.run(x)["y"], rtol=1e-5)


EMBEDDINGS = {
    "floats, ReduceMean": (weights(11, 8), [node("ReduceMean", "embedded", "real", axes=[1])]),
    "floats, Sigmoid": (weights(11, 8), [node("Sigmoid", "embedded", "real")]),
    "int8, DequantizeLinear": (
        RNG.integers(-99, 99, (11, 8)).astype(np.int8),
        [node("DequantizeLinear", "embedded scale zero", "real")],
    ),
    "int8, Cast": (
        RNG.integers(-9, 9, (11, 8)).astype(np.int8),
        [node("Cast", "embedded", "real", to=TensorProto.FLOAT)],
    ),
    "int64, Add, Cast": (
        RNG.integers(-9, 9, (11, 8)),
        [
            node("Add", "embedded one", "sum"),
            node("Cast", "sum", "real", to=TensorProto.FLOAT),
        ],
    ),
}


@pytest.mark.parametrize("name", EMBEDDINGS)
def test_what_integers_index_is_of_its_own_type(tmp_path, name):
    table, nodes = EMBEDDINGS[name]
    path = save(
        tmp_path / "tokens.onnx",
        [node("Gather", "table ids", "embedded"), *nodes, node("MatMul", "real w", "y")],
        {"ids": (TensorProto.INT64, [1, 5])},
        {"y": (TensorProto.FLOAT, None)},
        table=table,
        w=weights(8, 6),
        scale=np.float32(0.1),
        zero=np.int8(3),
        one=np.array(1),
    )
    cut = divide(path, survey(path))
    assert cut.head == ("embedded",)
    assert verdicts(cut)["y"] == "hardware"
    x = {"ids": RNG.integers(0, 11, (3, 5))}
    assert_allclose(recombined(cut, x)["y"], Runtime(path).run(x)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("host", [False, True])
def test_an_output_may_be_a_constant(tmp_path, host):
    """An initializer, or what nodes make of one; beside a node of the host, or alone there."""
    nodes = [
        node("MatMul", "x w", "y"),
        node("Neg", "k", "negative"),
        *([node("CumSum", "y axis", "sums")] if host else []),
    ]
    outputs = {"y": [1, 3], "k": [1, 2], "negative": [1, 2]} | ({"sums": [1, 3]} if host else {})
    k = np.array([[2, 3]], np.float32)
    path = save(
        tmp_path / "constant.onnx",
        nodes,
        {"x": (TensorProto.FLOAT, [1, 4])},
        {name: (TensorProto.FLOAT, shape) for name, shape in outputs.items()},
        w=weights(4, 3),
        k=k,
        axis=np.array(1),
    )
    found = recombined(divide(path, survey(path)), {"x": weights(5, 4)})
    assert list(found) == list(outputs)
    assert_array_equal(found["k"], np.repeat(k, 5, 0))
    assert_array_equal(found["negative"], np.repeat(-k, 5, 0))


@pytest.mark.parametrize(("first", "second", "hardware"), [(2, 8, ("d", "y")), (8, 1, ("a", "b"))])
def test_the_larger_side_of_an_unsupported_node_is_hardware(tmp_path, first, second, hardware):
    path = split(tmp_path / "split.onnx", first, second)
    cut = divide(path, survey(path))
    found = verdicts(cut)
    assert {name for name in found if found[name] != "host"} == {*hardware}
    assert found["c"] == "host"
    assert cut.head if "y" in hardware else cut.tail
    assert 0 < cut.macs < cut.total / 2
    x = {"x": RNG.normal(size=(3, 2, 8, 8)).astype(np.float32)}
    assert_allclose(recombined(cut, x)["y"], Runtime(path).run(x)["y"], rtol=1e-4, atol=1e-5)


def test_a_node_may_leave_its_first_output_away(tmp_path):
    nodes = [
        helper.make_node("GRU", ["x", "w", "r"], ["", "h"], name="recurrent", hidden_size=8),
        helper.make_node("GRU", ["x", "w", "r"], ["", "g"], name="other", hidden_size=8),
        node("Concat", "h g", "both", axis=0),
        node("Transpose", "both", "turned", perm=[1, 0, 2]),
        node("CumSum", "turned axis", "flat"),
        node("MatMul", "flat dense", "y"),
    ]
    path = save(
        tmp_path / "gru.onnx",
        nodes,
        {"x": (TensorProto.FLOAT, [1, 1, 4])},
        {"y": (TensorProto.FLOAT, [1, 2, 3])},
        w=weights(1, 24, 4),
        r=weights(1, 24, 8),
        axis=np.array(1),
        dense=weights(8, 3),
    )
    found = {v.name: v for v in survey(path).verdicts}
    assert found["recurrent"].key == "h"
    assert found["other"].key == "g"
    cut = divide(path, survey(path))
    x = {"x": RNG.normal(size=(1, 1, 4)).astype(np.float32)}
    assert verdicts(cut)["flat"] == "host"
    assert_allclose(recombined(cut, x)["y"], Runtime(path).run(x)["y"], rtol=1e-4, atol=1e-5)


def test_the_reasons_and_what_lies_behind_the_border_are_told(tmp_path):
    path = split(tmp_path / "split.onnx", 2, 8)
    found = {v.name: v for v in divide(path, survey(path)).verdicts}
    assert found["c"].reason == "has no hardware"
    assert "docs/operators.md" in found["c"].change
    assert "between the border" in found["a"].reason


def test_nothing_is_cut_where_no_products_remain(tmp_path):
    nodes = [node("CumSum", "x axis", "a"), node("Relu", "a", "y")]
    ports = {"x": (TensorProto.FLOAT, [1, 4])}, {"y": (TensorProto.FLOAT, [1, 4])}
    path = save(tmp_path / "none.onnx", nodes, *ports, axis=np.array(1))
    assert divide(path, survey(path)) is None
    with pytest.raises(ModelError, match=r"1 node not supported: a \(CumSum\)"):
        read_network(path)


def test_hardware_only_refuses_what_it_would_cut(tmp_path):
    path = split(tmp_path / "split.onnx", 2, 8)
    assert read_network(path).cut is not None
    with pytest.raises(ModelError, match=r"c \(CumSum\)"):
        read_network(path, hardware_only=True)


def test_what_onnx_runtime_can_not_run_is_refused(tmp_path):
    path = split(tmp_path / "split.onnx", 2, 8)
    model = onnx.load(path)
    model.graph.node[2].domain = "nobody.knows"
    model.opset_import.append(helper.make_opsetid("nobody.knows", 1))
    onnx.save(model, path)
    assert divide(path, survey(path)) is None


def test_pre_processing_before_the_first_quantized_value_is_the_head(tmp_path):
    nodes = [
        node("Sub", "x mean", "centred"),
        node("Div", "centred deviation", "scaled"),
        node("QuantizeLinear", "scaled scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "r"),
        node("DequantizeLinear", "w scale zero", "wr"),
        node("Conv", "r wr", "a", kernel_shape=[3, 3]),
        node("QuantizeLinear", "a scale zero", "qa"),
        node("DequantizeLinear", "qa scale zero", "y"),
    ]
    path = save(
        tmp_path / "quantized.onnx",
        nodes,
        {"x": (TensorProto.FLOAT, [1, 2, 6, 6])},
        {"y": (TensorProto.FLOAT, [1, 3, 4, 4])},
        mean=np.float32(0.5),
        deviation=np.float32(0.25),
        scale=np.float32(0.05),
        zero=np.int8(0),
        w=RNG.integers(-9, 9, (3, 2, 3, 3)).astype(np.int8),
    )
    network = read_network(path)
    assert network.graph.quantized
    if network.cut is not None:
        assert set(network.cut.head) <= {"centred", "scaled"}
        x = {"x": RNG.normal(size=(2, 2, 6, 6)).astype(np.float32)}
        assert_allclose(recombined(network.cut, x)["y"], Runtime(path).run(x)["y"], atol=1e-6)


def test_an_input_that_is_moved_before_it_is_quantized_needs_no_head(tmp_path):
    nodes = [
        node("Reshape", "x shape", "rows"),
        node("QuantizeLinear", "rows scale zero", "q"),
        node("DequantizeLinear", "q scale zero", "r"),
        node("DequantizeLinear", "w scale zero", "wr"),
        node("Gemm", "r wr", "a"),
        node("Sigmoid", "a", "s"),  # in floats, so samples give its type
        node("Mul", "a s", "m"),
        node("QuantizeLinear", "m scale zero", "qm"),
        node("DequantizeLinear", "qm scale zero", "y"),
    ]
    path = save(
        tmp_path / "quantized.onnx",
        nodes,
        {"x": (TensorProto.FLOAT, [1, 4, 6])},
        {"y": (TensorProto.FLOAT, [4, 3])},
        shape=np.array([4, 6]),
        scale=np.float32(0.05),
        zero=np.int8(0),
        w=RNG.integers(-9, 9, (6, 3)).astype(np.int8),
    )
    network = read_network(path)
    assert network.graph.open_values
    assert network.cut is None


def test_samples_that_the_head_can_not_compute_are_an_error(tmp_path):
    path = tokens(tmp_path / "tokens.onnx")
    cut = divide(path, survey(path))
    with pytest.raises(DataError, match=r"head\.onnx: ONNX Runtime can not compute it"):
        cut.border.before({"ids": np.full((1, 5), 99)})


@pytest.mark.parametrize("build", [detector, tokens, lambda path: split(path, 2, 8)])
def test_damaged_models_are_cut_or_refused(tmp_path, build):
    original = onnx.load(build(tmp_path / "model.onnx"))
    for number in range(40):
        model, rng = onnx.ModelProto(), np.random.default_rng(number)
        model.CopyFrom(original)
        node = model.graph.node[rng.integers(len(model.graph.node))]
        if number % 3 == 0 and node.attribute:
            del node.attribute[0]
        elif number % 3 == 1:
            node.input[rng.integers(len(node.input))] = str(rng.choice(["", "x", "image", "w"]))
        else:
            dims = model.graph.input[0].type.tensor_type.shape.dim
            dims[rng.integers(len(dims))].dim_value = int(rng.integers(0, 4))
        path = tmp_path / "damaged.onnx"
        onnx.save(model, path)
        try:
            found = survey(path)
        except ModelError:
            continue
        if found.graph is None:
            cut = divide(path, found)
            assert cut is None or cut.macs < cut.total

"""Every node of a model has its verdict, and one run gives all of them."""

from itertools import pairwise

import numpy as np
import onnx
import pytest
from gatewright.compiler.frontend import survey
from onnx import TensorProto, helper, numpy_helper

MAP = [1, 2, 6, 6]
WEIGHT = np.ones((3, 2, 3, 3), np.float32)


def verdicts(path):
    return {verdict.name: verdict for verdict in survey(path).verdicts}


def node(op, inputs, output, **attributes):
    return helper.make_node(op, inputs.split(), [output], name=f"the_{op.lower()}", **attributes)


def test_hardware_folded_and_host(model):
    nodes = [
        node("Mul", "w two", "doubled"),
        node("Conv", "x doubled", "a", kernel_shape=[3, 3]),
        node("Relu", "a", "b"),
        node("Flatten", "b", "c"),
        node("Softmax", "c", "y"),
    ]
    found = survey(model(nodes, MAP, w=WEIGHT, two=np.float32(2)))
    assert {verdict.op: verdict.verdict for verdict in found.verdicts} == {
        "Mul": "folded",
        "Conv": "hardware",
        "Relu": "folded",
        "Flatten": "folded",
        "Softmax": "host",
    }
    reasons = {verdict.op: verdict.reason for verdict in found.verdicts}
    assert reasons["Mul"] == "computed at compile time"
    assert reasons["Conv"] == "computed by Conv"
    assert reasons["Flatten"] == "changes only the order or the shape of elements"
    assert found.graph is not None
    assert found.macs == 4 * 4 * 3 * 18
    assert found.parameters == WEIGHT.size + 1


@pytest.mark.parametrize(
    ("pads", "reason"),
    [
        ([0] * 4, None),
        ([1] * 4, "computed by Conv; not folded into conv, which pads this result with zeros"),
    ],
)
def test_a_mean_before_padding_is_not_folded_and_says_why(model, pads, reason):
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["a"], name="sub"),
        helper.make_node("Conv", ["a", "w"], ["y"], name="conv", kernel_shape=[3, 3], pads=pads),
    ]
    found = verdicts(model(nodes, MAP, w=WEIGHT, mean=np.float32(0.5)))
    expected = "part of the operators around it" if reason is None else reason
    assert found["sub"].reason == expected


def test_a_function_before_padding_is_not_said_to_be_kept_by_it(model):
    """It would not be folded without padding either."""
    nodes = [
        helper.make_node("Sub", ["x", "mean"], ["a"], name="sub"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w"], ["y"], name="conv", kernel_shape=[3, 3], pads=[1] * 4),
    ]
    found = verdicts(model(nodes, MAP, w=WEIGHT, mean=np.float32(0.5)))
    assert found["sub"].reason == "computed by Conv"


def test_nodes_of_one_name_have_verdicts_of_their_own(model):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], name="node", kernel_shape=[3, 3]),
        helper.make_node("MaxPool", ["a"], ["b"], name="node", kernel_shape=[2, 2]),
        helper.make_node("Relu", ["b"], ["y"], name="end"),
    ]
    found = {
        name: verdict.reason for name, verdict in verdicts(model(nodes, MAP, w=WEIGHT)).items()
    }
    assert found["a"] == "computed by Conv"
    assert found["b"] == "computed by MaxPool"
    assert set(found) == {"a", "b", "end"}


def test_products_behind_a_shape_that_is_computed(model):
    """As an exporter of PyTorch writes a padding: reversed and transposed at compile time."""
    nodes = [
        node(
            "ConstantOfShape",
            "four",
            "zeros",
            value=helper.make_tensor("", TensorProto.INT64, [1], [0]),
        ),
        node("Concat", "sides zeros", "all_sides", axis=0),
        node("Reshape", "all_sides by_axis", "pairs"),
        node("Slice", "pairs last start axis back", "reversed"),
        node("Transpose", "reversed", "turned"),
        node("Reshape", "turned flat", "pads"),
        node("Pad", "x pads", "padded"),
        node("Conv", "padded w", "y", kernel_shape=[3, 3]),
    ]
    constants = {
        "four": np.array([4]),
        "sides": np.array([0, 1, 2, 1]),
        "by_axis": np.array([-1, 2]),
        "last": np.array([-1]),
        "start": np.array([-99]),
        "axis": np.array([0]),
        "back": np.array([-1]),
        "flat": np.array([-1]),
    }
    found = survey(model(nodes, MAP, w=WEIGHT, **constants))
    assert found.graph is not None
    assert found.macs == (6 + 2 + 1 - 2) * (6 + 1 - 2) * 3 * 18


def test_every_refusal_is_in_one_run(model):
    nodes = [
        node("Conv", "x w", "a", kernel_shape=[3, 3]),
        node("Det", "a", "b"),
        node("Relu", "b", "c"),
        node("NonZero", "c", "d"),
        node("MaxPool", "a", "e", kernel_shape=[9, 9]),
        node("Concat", "d e", "y", axis=1),
    ]
    found = survey(model(nodes, MAP, w=WEIGHT))
    by_name = {verdict.name: verdict for verdict in found.verdicts}
    assert found.graph is None
    assert by_name["the_conv"].verdict == "hardware"
    for name in ("the_det", "the_nonzero"):
        assert by_name[name].verdict == "unsupported"
        assert by_name[name].reason == "has no hardware"
        assert "docs/operators.md" in by_name[name].change
    assert by_name["the_relu"].reason == "depends on the_det (Det), which has no hardware"
    assert by_name["the_maxpool"].verdict == "unsupported"
    assert "a window of 9x9 is larger than the padded input of 4x4" in by_name["the_maxpool"].reason
    assert by_name["the_maxpool"].change.startswith("accepted: a window that fits")
    assert by_name["the_concat"].verdict == "unsupported"


def test_a_refusal_of_a_dialect_is_the_nodes_own(model):
    nodes = [
        helper.make_node(
            "FloatQuant", ["x"], ["q"], name="strange", domain="qonnx.custom_op.general"
        ),
        node("Relu", "q", "b"),
        node("Det", "x", "c"),
        node("Add", "b c", "y"),
    ]
    found = verdicts(model(nodes, MAP, domains=["qonnx.custom_op.general"]))
    assert found["strange"].verdict == "unsupported"
    assert found["the_det"].verdict == "unsupported"
    assert found["the_relu"].reason.startswith("depends on strange")


def test_a_pass_that_refuses_names_its_node(model):
    nodes = [
        node("Conv", "x w", "a", kernel_shape=[3, 3]),
        helper.make_node("Pad", ["a", "pads", "low"], ["b"], name="second"),
        node("Sigmoid", "b", "y"),
    ]
    pads, low = np.array([0, 0, 1, 1, 0, 0, 1, 1]), np.float32(-np.inf)
    found = survey(model(nodes, MAP, w=WEIGHT, pads=pads, low=low))
    refused = [verdict for verdict in found.verdicts if verdict.verdict == "unsupported"]
    assert [(verdict.op, verdict.name) for verdict in refused] == [("Pad", "second")]
    assert "pads with -inf" in refused[0].reason


@pytest.mark.parametrize("count", [400])
def test_a_long_network_takes_no_longer_a_node(count, tmp_path):
    names = ["x", *(f"t{n}" for n in range(count)), "y"]
    nodes = [
        helper.make_node("Det" if n % 3 == 1 else "Relu", [a], [b], name=f"n{n}")
        for n, (a, b) in enumerate(pairwise(names))
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, MAP) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "net", ports[:1], ports[1:], [numpy_helper.from_array(WEIGHT)])
    path = tmp_path / "long.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    found = verdicts(path)
    assert len(found) == count + 1
    assert sum(verdict.reason == "has no hardware" for verdict in found.values()) == len(
        range(1, count + 1, 3)
    )


def test_weights_without_axes_are_refused_in_words(model):
    """The products of the node are counted before its operands are looked at."""
    path = model([node("Conv", "x one", "a"), node("Frob", "a", "y")], MAP, one=np.float32(1))
    found = verdicts(path)
    assert found["the_frob"].verdict == "unsupported"
    assert survey(path).macs == 0

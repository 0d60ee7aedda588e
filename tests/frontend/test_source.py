"""Files as other tools write them: nodes in any order."""

import onnx
import pytest
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load, survey
from numpy.testing import assert_array_equal
from onnx import helper

from ..evaluation import evaluate
from .test_recurrent import floats, network

N = helper.make_node


def reordered(path, order):
    """The model in ``path`` with its nodes in another order; written again."""
    proto = onnx.load(path)
    nodes = [proto.graph.node[n] for n in order]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    onnx.save(proto, path)
    return path


@pytest.mark.parametrize("order", [(3, 2, 1, 0), (1, 2, 3, 0), (2, 0, 3, 1)])
def test_nodes_in_any_order(model, order):
    """Converters to float16 append the Casts of inputs and outputs at the end of the list."""
    nodes = [
        N("Cast", ["x"], ["c"], to=onnx.TensorProto.FLOAT),
        N("Relu", ["c"], ["r"]),
        N("Tanh", ["r"], ["t"]),
        N("Add", ["t", "c"], ["y"]),
    ]
    sorted_graph = load(model(nodes, [1, 3, 4, 4], name="sorted.onnx"))
    path = reordered(model(nodes, [1, 3, 4, 4]), order)
    with pytest.raises(onnx.checker.ValidationError):
        onnx.checker.check_model(str(path))
    graph = load(path)
    assert [op.name for op in graph] == [op.name for op in sorted_graph]
    x = floats(2, 3, 4, 4)
    assert_array_equal(evaluate(graph, x)[0], evaluate(sorted_graph, x)[0])
    assert all(verdict.verdict != "unsupported" for verdict in survey(path).verdicts)


def test_graphs_inside_of_nodes_are_read_after_what_they_read(model):
    """A node runs behind those whose results only its own graph reads."""
    inside = helper.make_graph(
        [N("Identity", ["r"], ["z"])],
        "g",
        [],
        [helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, None)],
    )
    nodes = [
        N("If", ["yes"], ["y"], then_branch=inside, else_branch=inside),
        N("Relu", ["x"], ["r"]),
    ]
    (op,) = load(model(nodes, [1, 3, 4, 4], yes=floats(1).astype(bool))).ops
    assert op.clamp.low == 0


def test_nodes_in_a_circle_are_refused(model):
    nodes = [
        N("Add", ["x", "b"], ["a"], name="n"),
        N("Relu", ["a"], ["b"]),
        N("Relu", ["b"], ["y"]),
    ]
    with pytest.raises(ModelError, match=r"n \(Add\): reads b, which no earlier node computes"):
        load(model(nodes, [1, 3, 4, 4]))


def test_a_recurrent_layer_before_its_input(model, agrees):
    agrees(reordered(network(model, "RNN", "Y_h"), [2, 1, 0]))

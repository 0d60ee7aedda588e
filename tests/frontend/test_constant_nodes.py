"""Nodes of constants that exporters leave: computed at compile time, whatever the operator."""

import numpy as np
import pytest
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import elementwise, load
from onnx import TensorProto, defs, helper

N = helper.make_node
RNG = np.random.default_rng(3)


def random(*shape):
    return RNG.normal(size=shape).astype(np.float32)


MAP = random(1, 3, 4, 4)
NODES = {
    "Conv": ([N("Conv", ["c", "w"], ["k"], pads=[1, 1, 1, 1])], {"w": random(3, 3, 3, 3)}),
    "Conv, padded by itself": (
        [N("Conv", ["c", "w"], ["k"], auto_pad="SAME_UPPER")],
        {"w": random(3, 3, 3, 3)},
    ),
    "InstanceNormalization": (
        [N("InstanceNormalization", ["c", "s", "s"], ["k"])],
        {"s": random(3)},
    ),
    "GlobalAveragePool": ([N("GlobalAveragePool", ["c"], ["k"])], {}),
    "Resize": (
        [N("Resize", ["p", "", "f"], ["k"], mode="linear")],
        {"p": random(1, 3, 2, 2), "f": np.array([1, 1, 2, 2], np.float32)},
    ),
    "Einsum": (
        [N("Einsum", ["a", "b"], ["k"], equation="i, j -> ij")],
        {"a": random(4), "b": random(4)},
    ),
}


@pytest.mark.parametrize("name", NODES)
def test_computed_at_compile_time(name, model, agrees):
    nodes, constants = NODES[name]
    nodes = [*nodes, N("Add", ["x", "k"], ["y"])]
    graph = agrees(model(nodes, [1, 3, 4, 4], c=MAP, **constants))
    assert {op.name for op in graph.ops} == {"y"}


@pytest.mark.parametrize("op", elementwise.HANDLERS)
def test_every_elementwise_operator_of_constants(op, model, agrees):
    """Of as many constants as it needs, real numbers or truth values."""
    opset = 24 if op == "Swish" else 20
    schema = defs.get_schema(op, opset)
    kinds = [np.float32 if "tensor(float)" in each.types else np.bool_ for each in schema.inputs]
    inside = 1 / (1 + np.abs(MAP))  # a number between 0 and 1 is undefined for few functions
    constants = {
        f"c{n}": (inside + n / 4 + (op == "Acosh") if kind is np.float32 else MAP > 0).astype(kind)
        for n, kind in enumerate(kinds[: schema.min_input])
    }
    attributes = {"fmod": 1} if op == "Mod" else {}
    nodes = [
        N(op, list(constants), ["k"], **attributes),
        N("Cast", ["k"], ["real"], to=TensorProto.FLOAT),
        N("Add", ["x", "real"], ["y"]),
    ]
    graph = agrees(model(nodes, [1, 3, 4, 4], opset=opset, **constants))
    assert {found.name for found in graph.ops} == {"y"}


def test_one_that_takes_long_is_refused(model):
    nodes = [N("Conv", ["c", "w"], ["k"], pads=[9999] * 4), N("Add", ["x", "k"], ["y"])]
    with pytest.raises(ModelError, match=r"\(Conv\): its result has \d+ elements"):
        load(model(nodes, [1, 3, 4, 4], c=MAP, w=random(3, 3, 3, 3)))

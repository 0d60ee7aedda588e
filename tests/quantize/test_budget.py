"""Widths by a budget: the loss is kept, the cheap tensors are narrow, and what fails is refused."""

from dataclasses import replace

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import DataError, QuantizeError
from gatewright.compiler.quantize import evaluate, model_input, quantize
from gatewright.compiler.quantize.budget import search
from gatewright.sim import golden


def layer(name, source, target, weight, clamp):
    weight = weight.astype(np.float32)
    bias = np.zeros(len(weight), np.float32)
    return ir.Conv(name, (source,), target, weight, None, bias, None, clamp=clamp)


def network(outputs=6):
    """Three dense layers; what the side branch adds is small, so it may be rough."""
    rng = np.random.default_rng(9)
    relu, no = ir.Clamp(0), ir.Clamp()
    shapes = {"x": 16, "a": 24, "m": outputs, "s": outputs, "y": outputs}
    values = {name: ir.Value(name, ir.Shape(1, 1, size)) for name, size in shapes.items()}
    ops = (
        layer("first", "x", "a", rng.normal(size=(24, 1, 1, 16)), relu),
        layer("main", "a", "m", rng.normal(size=(outputs, 1, 1, 24)), no),
        layer("side", "x", "s", 0.02 * rng.normal(size=(outputs, 1, 1, 16)), no),
        ir.Add("sum", ("m", "s"), "y"),
    )
    return ir.Graph(
        "net",
        (ir.InputPort("x", (16,), "float32", "x", np.arange(16)),),
        (ir.OutputPort("y", (outputs,), "float32", "y", np.arange(outputs), ()),),
        ops,
        values,
    )


def samples(count=400):
    return np.random.default_rng(1).normal(size=(count, 16)).astype(np.float32)


def bits(policy):
    """Of all weights and activations together."""
    sizes = {"first": 384, "main": 144, "side": 96}
    return sum(size * policy.weight(name).bits for name, size in sizes.items()) + sum(
        10 * policy.activation(name).bits for name in "xamsy"
    )


def right(graph, x, labels):
    (y,) = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x))).values()
    return 100 * (y.argmax(1) == labels).mean()


@pytest.fixture(scope="module")
def unlabelled():
    return search(network(), samples(), None, 3.0, bits)


@pytest.mark.parametrize("labelled", [True, False])
def test_the_chosen_network_keeps_the_budget_and_is_cheaper(labelled, unlabelled):
    graph, x = network(), samples()
    labels = evaluate(graph, model_input(graph, x))["y"].reshape(len(x), -1).argmax(1)
    if labelled:  # a network is not always right
        labels[::10] = (labels[::10] + 1) % 6
    found = search(graph, x, labels, 3.0, bits) if labelled else unlabelled
    assert (found.calibrated, found.tested, found.labelled) == (200, 200, labelled)
    assert found.chosen.drop <= 3
    assert found.chosen.cost < 0.8 * found.usual.cost
    made = quantize(graph, x[::2], policy=found.chosen.policy)
    best = 90 if labelled else 100
    assert right(made, x[1::2], labels[1::2]) >= best - 3


def test_what_hardly_matters_is_the_narrowest(unlabelled):
    policy = unlabelled.chosen.policy
    assert policy.weight("side").bits < policy.weight("first").bits
    assert policy.activation("s").bits < policy.activation("m").bits


def test_a_larger_budget_costs_less(unlabelled):
    larger = search(network(), samples(), None, 10.0, bits)
    assert larger.chosen.cost < unlabelled.chosen.cost < unlabelled.usual.cost


def offset(by):
    """A network whose scores are large and differ by little: by less than a step of 8 bits."""
    graph = network()
    bias = np.full(6, by, np.float32)
    return graph.replace([replace(op, bias=bias) if op.name == "main" else op for op in graph])


def test_activations_that_need_more_get_sixteen_bits():
    found = search(offset(3e3), samples(), None, 2.0, bits)
    assert found.usual.drop > 20
    assert found.chosen.drop <= 2
    assert {found.chosen.policy.activation(name).bits for name in "my"} == {16}


def test_a_budget_that_no_widths_keep_is_refused_with_what_is_lost():
    with pytest.raises(QuantizeError, match=r"loses \d+\.\d\d points .* more than the 0\.5 that"):
        search(offset(1e7), samples(), None, 0.5, bits)


def test_too_few_samples_to_see_the_drop_are_refused():
    with pytest.raises(DataError, match=r"a drop of 0\.5 points is less than one of 50 samples; "):
        search(network(), samples(100), None, 0.5, bits)


def test_a_network_without_classes_is_refused():
    with pytest.raises(QuantizeError, match="one output that gives a score a class"):
        search(network(outputs=1), samples(), None, 5.0, bits)


def test_progress_names_the_networks_that_are_tried():
    lines = []

    def tell(step, _=None):
        lines.append(step)

    search(network(), samples(), None, 5.0, bits, "layer", progress=tell)
    assert "widths: network 1 of 8" in lines

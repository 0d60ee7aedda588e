"""The latency that is promised is the one that is measured."""

import pytest
from gatewright.compiler.plan import latency

from .networks import Builder, fold, measure


def convolutions(b):
    x = b.conv(b.input, 4, (3, 3), pads=(1, 1, 1, 1))
    return b.conv(b.max_pool(x), 5, (3, 3))


def classifier(b):
    x = b.conv(b.input, 4, (3, 3), stride=(2, 2), pads=(1, 1, 1, 1))
    return b.argmax(b.dense(b.average_pool(x), 6))


def residual(b):
    x = b.conv(b.input, 3)
    return b.add(b.depthwise(x, pads=(1, 1, 1, 1)), x)


NETWORKS = {function.__name__: function for function in (convolutions, classifier, residual)}


@pytest.mark.parametrize("pe", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_within_a_twentieth_of_the_simulation(name, pe):
    builder = Builder(8, 8, 3, seed=5)
    NETWORKS[name](builder)
    graph = builder.graph()
    folds = {op.output: (op.weight.shape[3], pe) for op in graph if hasattr(op, "weight")}
    network = fold(graph, folds, hard=99)
    measured = measure(network, builder.frames(1)).latency
    assert latency(network) == pytest.approx(measured, rel=0.05)


def test_a_border_has_a_latency():
    builder = Builder(4, 4, 1)
    padded = builder.pad(builder.input)
    builder.max_pool(padded, (3, 3), (1, 1))
    network = fold(builder.graph())
    assert latency(network) == pytest.approx(measure(network, builder.frames(1)).latency, rel=0.2)

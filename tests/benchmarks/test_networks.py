"""The benchmark's networks are the topologies they claim to be, alive, and fit their boards."""

from collections import Counter

import numpy as np
import onnx
import pytest
from gatewright import boards
from gatewright.benchmarks.networks import NETWORKS, Builder, count, same
from gatewright.benchmarks.run import ENTRIES, VARIANTS
from gatewright.compiler.driver import describe, fit
from gatewright.compiler.frontend import load
from gatewright.compiler.frontend.reference_runtime import Runtime

DRAWN = ("resnet8", "ds_cnn", "mobilenet", "autoencoder")

#: products and weights, counted by hand from the topologies
BY_HAND = {
    "resnet8": (
        32 * 32 * (16 * 27 + 2 * 16 * 144)
        + 16 * 16 * (32 * 144 + 32 * 288 + 32 * 16)
        + 8 * 8 * (64 * 288 + 64 * 576 + 64 * 32)
        + 640,
        77_360,
    ),
    "ds_cnn": (25 * 5 * (64 * 40 + 4 * (64 * 9 + 64 * 64)) + 64 * 12, 22_016),
    "mobilenet": (7_489_664, 208_112),
    "autoencoder": (2 * 640 * 128 + 6 * 128 * 128 + 2 * 128 * 8, 264_192),
}

OPERATORS = {
    "resnet8": {"Conv": 9, "Add": 3, "Relu": 7, "AveragePool": 1, "Gemm": 1, "Softmax": 1},
    "ds_cnn": {"Conv": 9, "Relu": 9, "AveragePool": 1, "Gemm": 1, "Softmax": 1},
    "mobilenet": {"Conv": 27, "Relu": 27, "AveragePool": 1, "Gemm": 1, "Softmax": 1},
    "autoencoder": {"Gemm": 10, "Relu": 9},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_products_and_weights_are_those_of_the_table(name):
    model = NETWORKS[name].model()
    assert count(model) == (NETWORKS[name].macs, NETWORKS[name].weights)


@pytest.mark.parametrize("name", DRAWN)
def test_the_topology_is_mlperf_tinys(name):
    model = NETWORKS[name].model()
    kinds = Counter(node.op_type for node in model.graph.node if node.op_type != "Flatten")
    assert (count(model), kinds) == (BY_HAND[name], OPERATORS[name])


def test_a_wrong_count_is_caught():
    network = NETWORKS["autoencoder"]
    other = Builder("other", 640)
    wrong = type(network)(
        "wrong",
        lambda: other.model(other.dense("input", 3)),
        (640,),
        network.macs,
        network.weights,
    )
    with pytest.raises(AssertionError, match=r"\(1920, 1920\) MACs and weights"):
        wrong.model()


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "expected"),
    [
        (49, 10, 2, (4, 5)),
        (10, 4, 2, (1, 1)),
        (32, 3, 1, (1, 1)),
        (32, 3, 2, (0, 1)),
        (32, 1, 2, (0, 0)),
        (3, 3, 1, (1, 1)),
    ],
)
def test_odd_padding_goes_to_the_end(size, kernel, stride, expected):
    assert same(size, kernel, stride) == expected


@pytest.mark.parametrize("name", DRAWN)
def test_every_relu_is_alive(name):
    network = NETWORKS[name]
    model = network.model()
    relus = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    model.graph.output.extend(onnx.ValueInfoProto(name=relu) for relu in relus)
    _, *seen = Runtime(model).run(network.frames(4)).values()
    alive = [float((values > 0).mean()) for values in seen]
    assert all(0.2 < share < 0.8 for share in alive), dict(zip(relus, alive, strict=True))


@pytest.mark.parametrize("name", NETWORKS)
def test_draws_repeat_and_tests_differ_from_calibration(name):
    network = NETWORKS[name]
    frames = network.frames(3)
    np.testing.assert_array_equal(frames, network.frames(3))
    assert frames.shape == (3, *network.shape)
    assert not np.array_equal(frames, network.calibration(3))
    assert network.model().SerializeToString() == network.model().SerializeToString()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_every_entry_has_a_plan_that_fits(entry, tmp_path):
    path = tmp_path / f"{entry.network}.onnx"
    onnx.save(NETWORKS[entry.network].model(), path)
    device = boards.get(entry.board).device
    found = describe(fit(load(path), device, entry.board, VARIANTS[entry.variant].goal), path.name)
    assert found["fits"], found["shortfall"]
    assert found["macs"] == NETWORKS[entry.network].macs

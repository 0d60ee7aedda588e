"""Compensated rounding: the least error of a layer's output, for every kind of layer."""

from itertools import product

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.ir.verify import verify
from gatewright.compiler.quantize import Rounding, evaluate, for_conv, model_input, quantize
from gatewright.compiler.quantize.policy import Policy
from gatewright.compiler.quantize.rounding import LARGEST_REDUCTION, Moments, compensated
from gatewright.sim import golden

ONE = ir.Window()
NO = ir.Clamp()


def conv(name, source, target, weight, window=ONE, groups=1, clamp=NO):
    bias = np.linspace(-0.1, 0.1, len(weight), dtype=np.float32)
    weight = weight.astype(np.float32)
    return ir.Conv(
        name, (source,), target, weight, None, bias, None, window=window, groups=groups, clamp=clamp
    )


def network(shapes, *ops):
    values = {name: ir.Value(name, ir.Shape(*shape)) for name, shape in shapes.items()}
    first, last = next(iter(values.values())), values[ops[-1].output]
    places = [np.arange(value.shape.size) for value in (first, last)]
    return ir.Graph(
        "net",
        (ir.InputPort("x", first.shape.array, "float32", first.name, places[0]),),
        (ir.OutputPort("y", last.shape.array, "float32", last.name, places[1], ()),),
        ops,
        values,
    )


def correlated(rng, frames, height, width, channels):
    """Maps whose channels are mixtures of two, as those of trained networks nearly are."""
    few = rng.normal(size=(frames, height, width, 2))
    mixed = few @ rng.normal(size=(2, channels)) + 0.3 * rng.normal(
        size=(frames, height, width, channels)
    )
    return mixed.astype(np.float32)


def deep(rng):
    """A convolution, a depthwise one, one in two groups, and a dense layer."""
    square = ir.Window((3, 3), pads=(1, 1, 1, 1))
    shapes = {"x": (6, 6, 8), "a": (6, 6, 8), "b": (6, 6, 8), "c": (6, 6, 8), "y": (1, 1, 5)}
    return network(
        shapes,
        conv("plain", "x", "a", rng.normal(size=(8, 3, 3, 8)) / 8, square, clamp=ir.Clamp(0)),
        conv("depthwise", "a", "b", rng.normal(size=(8, 3, 3, 1)) / 3, square, groups=8),
        conv("grouped", "b", "c", rng.normal(size=(8, 1, 1, 4)) / 2, groups=2, clamp=ir.Clamp(0)),
        conv("last", "c", "y", rng.normal(size=(5, 6, 6, 8)) / 9, ir.Window((6, 6))),
    )


def decibels(graph, x, bits, rounding, fresh):
    """Signal to noise of the output of the integer network made on ``x``, on ``fresh`` samples."""
    found = quantize(graph, x, policy=Policy(8, bits), rounding=rounding)
    verify(found, after="quantize")
    for op in found:
        for_conv(found, op)
        assert np.abs(op.weight.astype(int)).max() <= (1 << (bits - 1)) - 1
    y = golden.run(found, golden.host_input(found, fresh))["y"]
    wanted = evaluate(graph, model_input(graph, fresh))["y"]
    noise = np.square(found.quant("y").dequantize(y) - wanted).mean()
    return 10 * np.log10(np.square(wanted).mean() / noise)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_every_kind_of_convolution_loses_less_than_with_nearest_weights(bits):
    rng = np.random.default_rng(5)
    graph = deep(rng)
    x, fresh = np.split(correlated(rng, 80, 6, 6, 8), 2)
    both = [
        decibels(graph, x, bits, way, fresh) for way in (Rounding.NEAREST, Rounding.COMPENSATED)
    ]
    assert both[1] > both[0] + 1.5


def test_a_small_layer_gets_nearly_the_best_of_all_integers():
    """Against every choice of the ternary weights of a channel, at the scale that was chosen."""
    rng = np.random.default_rng(2)
    x = correlated(rng, 200, 1, 1, 6)
    op = conv("c", "x", "y", rng.normal(size=(4, 1, 1, 6)))
    moments = Moments.of(op, x, x)
    found = compensated(op, moments, 1)
    everything = np.array(list(product((-1, 0, 1), repeat=6)))

    def cost(channel, weight):
        error = weight * found.scales[channel] - op.weight[channel].reshape(-1)
        return np.einsum("...i,ij,...j", error, moments.square[0], error)

    for channel in range(4):
        assert cost(channel, found.weight[channel]) <= 1.1 * cost(channel, everything).min()


def test_moments_are_those_of_the_windows():
    rng = np.random.default_rng(3)
    real = correlated(rng, 3, 5, 4, 4)
    found = real + rng.normal(size=real.shape).astype(np.float32)
    window = ir.Window((3, 2), (2, 1), pads=(1, 0, 0, 1))
    op = conv("c", "x", "y", rng.normal(size=(6, 3, 2, 2)), window, groups=2)
    moments = Moments.of(op, found, real)
    for group in range(2):
        seen = []
        for maps in (found, real):
            padded = np.pad(maps, ((0, 0), (1, 0), (0, 1), (0, 0)))[..., 2 * group : 2 * group + 2]
            rows = [
                padded[:, r : r + 3, c : c + 2].reshape(3, -1) for r in (0, 2) for c in range(4)
            ]
            seen.append(np.concatenate(rows))
        np.testing.assert_allclose(moments.mean[group], seen[0].mean(0), atol=1e-5)
        np.testing.assert_allclose(moments.real[group], seen[1].mean(0), atol=1e-5)
        whole = np.cov(seen[1].T, seen[0].T, bias=True)
        size = op.reduction
        np.testing.assert_allclose(moments.square[group], whole[size:, size:], atol=1e-4)
        np.testing.assert_allclose(moments.cross[group], whole[:size, size:], atol=1e-4)


def test_a_layer_makes_up_for_the_error_of_those_before_it():
    """The mean of every output channel is the float network's, though the first layer is coarse."""
    rng = np.random.default_rng(7)
    graph = network(
        {"x": (4, 4, 6), "a": (4, 4, 6), "y": (4, 4, 3)},
        conv("first", "x", "a", rng.normal(size=(6, 1, 1, 6)), clamp=ir.Clamp(0)),
        conv("second", "a", "y", rng.normal(size=(3, 1, 1, 6))),
    )
    x = np.abs(correlated(rng, 60, 4, 4, 6))
    found = quantize(graph, x, policy=Policy(8, weights={"first": 2}))
    whole = quantize(graph, x, policy=Policy(8, weights={"first": 2, "second": 7}))
    wanted = evaluate(graph, model_input(graph, x))["y"].mean((0, 1, 2))

    def shift(made):
        y = made.quant("y").dequantize(golden.run(made, golden.host_input(made, x))["y"])
        return np.abs(y.mean((0, 1, 2)) - wanted).max()

    assert shift(whole) < shift(found) / 4


def test_only_narrow_weights_are_compensated_unless_it_is_asked_for():
    rng = np.random.default_rng(4)
    graph = deep(rng)
    policy = Policy(8, 8, weights={"plain": 4})
    chosen = [op.name for op in graph if Rounding.AUTO.compensates(op, policy)]
    assert chosen == ["plain"]
    assert all(Rounding.AUTO.compensates(op, Policy(4, 8)) for op in graph)
    assert all(Rounding.COMPENSATED.compensates(op, policy) for op in graph)
    assert not any(Rounding.NEAREST.compensates(op, policy) for op in graph)


def test_a_reduction_too_large_for_a_matrix_is_rounded_to_nearest():
    rng = np.random.default_rng(6)
    size = LARGEST_REDUCTION + 1
    graph = network(
        {"x": (1, 1, size), "y": (1, 1, 2)}, conv("c", "x", "y", rng.normal(size=(2, 1, 1, size)))
    )
    x = rng.normal(size=(8, 1, 1, size)).astype(np.float32)
    both = [
        quantize(graph, x, policy=Policy(8, 4), rounding=way).ops[0]
        for way in (Rounding.NEAREST, Rounding.COMPENSATED)
    ]
    np.testing.assert_array_equal(both[0].weight, both[1].weight)


def large(rng):
    """Inputs whose spread is lost in the float64 sums of their squares."""
    return 1e6 + 1e-3 * rng.normal(size=(4, 1, 1, 4))


@pytest.mark.parametrize("bias_correction", [True, False])
def test_dead_inputs_and_dead_weights_are_no_obstacle(bias_correction):
    """A channel that is always 0, one of no weights, and a layer that sees only one constant."""
    rng = np.random.default_rng(8)
    weight = rng.normal(size=(3, 1, 1, 4))
    weight[1] = 0
    graph = network({"x": (1, 1, 4), "y": (1, 1, 3)}, conv("c", "x", "y", weight))
    for x in (np.zeros((4, 1, 1, 4)), np.ones((4, 1, 1, 4)) * [1, 0, 2, 0], large(rng)):
        made = quantize(graph, x.astype(np.float32), "mse", bias_correction, Policy(8, 3))
        verify(made, after="quantize")
        for_conv(made, made.ops[0])
        assert not made.ops[0].weight[1].any()

"""The golden model equals a brute-force evaluation with rational numbers, operator by operator."""

from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import DataError
from gatewright.sim import golden
from numpy.testing import assert_array_equal

INT8, UINT8 = ir.Int(8, True), ir.Int(8, False)
WIDE = ir.Window((3, 2), (2, 1), (1, 2), (1, 2, 0, 1))


def quant(scale, zero=0, dtype=INT8):
    return ir.Quant(dtype, float(np.float32(scale)), zero)


def graph_of(op, inputs, output):
    """One operator between named (shape, quant) inputs and an output."""
    values = {name: ir.Value(name, *each) for name, each in {**inputs, op.output: output}.items()}
    first, size = next(iter(values.values())), output[0].size
    return ir.Graph(
        "net",
        (
            ir.InputPort(
                first.name, first.shape.array, "int8", first.name, np.arange(first.shape.size)
            ),
        ),
        (ir.OutputPort("out", output[0].array, "int8", op.output, np.arange(size)),),
        (op,),
        values,
    )


def raw(shape, dtype=INT8, frames=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(dtype.low, dtype.high + 1, (frames, *shape.array))


def rounded(real, to, clamp=None):
    """``real`` clamped, then rounded half to even and saturated."""
    if clamp is not None:
        real = max(real, Fraction(clamp.low)) if clamp.low > -np.inf else real
        real = min(real, Fraction(clamp.high)) if clamp.high < np.inf else real
    return min(max(round(real / to.step) + to.zero, to.dtype.low), to.dtype.high)


def taps(window, shape, row, column):
    """Position and kernel index of the taps that lie inside the map."""
    for r, c in product(range(window.kernel[0]), range(window.kernel[1])):
        y = row * window.stride[0] + r * window.dilation[0] - window.pads[0]
        x = column * window.stride[1] + c * window.dilation[1] - window.pads[1]
        if 0 <= y < shape.height and 0 <= x < shape.width:
            yield y, x, r, c


@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("clamp", [ir.Clamp(), ir.Clamp(0), ir.Clamp(-0.3, 1.7)], ids=str)
@pytest.mark.parametrize(
    ("x", "y"),
    [
        (quant(0.043, 9), quant(0.21, -17)),
        (quant(0.5, -128), quant(4, 3)),
        (quant(0.043, 200, UINT8), quant(0.21, 0, UINT8)),
    ],
    ids=str,
)
def test_convolution(groups, clamp, x, y):
    rng = np.random.default_rng(groups)
    shape, scale = ir.Shape(4, 5, 4), np.array([0.5, 0.013, 0.25, 0.021], np.float32)
    op = ir.Conv(
        "conv",
        ("x",),
        "y",
        rng.integers(-20, 21, (4, 3, 2, 4 // groups)).astype(np.int8),
        scale,
        rng.integers(-90, 90, 4).astype(np.int32),
        scale * np.float32(x.scale),
        window=WIDE,
        groups=groups,
        clamp=clamp,
    )
    output = WIDE.output(shape, 4)
    graph = graph_of(op, {"x": (shape, x)}, (output, y))
    data = raw(shape, x.dtype)
    found = golden.run(graph, data)["y"]
    inner = 4 // groups
    for frame, row, column, channel in np.ndindex(found.shape):
        first = channel // inner * inner
        total = sum(
            int(data[frame, i, j, first + k] - x.zero) * int(op.weight[channel, r, c, k])
            for i, j, r, c in taps(WIDE, shape, row, column)
            for k in range(inner)
        )
        real = total * x.step * Fraction(float(scale[channel])) + op.exact_bias()[channel]
        assert found[frame, row, column, channel] == rounded(real, y, clamp)


def test_rounds_half_to_even():
    op = ir.Conv("conv", ("x",), "y", np.ones((1, 1, 1, 1), np.int8), np.ones(1, np.float32))
    shape = ir.Shape(1, 7, 1)
    x = np.array([-3, -2, -1, 0, 1, 2, 3]).reshape(1, 1, 7, 1)
    for zero, wanted in ((0, [-2, -1, 0, 0, 0, 1, 2]), (1, [-1, 0, 1, 1, 1, 2, 3])):
        graph = graph_of(op, {"x": (shape, quant(1))}, (shape, quant(2, zero)))
        assert_array_equal(golden.run(graph, x)["y"].reshape(-1), wanted)


def test_a_value_just_beside_a_tie_is_not_rounded_as_one():
    # 2 / (4 + one unit in the last place) lies under a half, 6 / (...) under 3 / 2, by 1e-7 of it.
    scale = float(np.nextafter(np.float32(4), np.float32(5)))
    op = ir.Unary("same", ("x",), "y")
    shape = ir.Shape(1, 3, 1)
    graph = graph_of(op, {"x": (shape, quant(2))}, (shape, quant(scale)))
    assert_array_equal(
        golden.run(graph, np.array([1, 3, 5]).reshape(1, 1, 3, 1))["y"].reshape(-1), [0, 1, 2]
    )


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [(ir.Int(8, False), 0, 255), (ir.Int(8, True), -128, 127), (ir.Int(4, False), 0, 15)],
    ids=str,
)
def test_results_saturate_at_the_ends_of_their_type(dtype, low, high):
    """Of an unsigned type too: a ReLU's output of 8 bits reaches 255."""
    shape, x, y = ir.Shape(1, 1, 1), quant(1.0, 0, ir.Int(16, True)), quant(1.0, 0, dtype)
    level = np.arange(-300, 301).reshape(-1, 1, 1, 1)
    for clamp in (ir.Clamp(), ir.Clamp(0), ir.Clamp(-1000, 1000)):
        op = ir.Unary("u", ("x",), "y", ir.Identity(), clamp=clamp)
        found = golden.run(graph_of(op, {"x": (shape, x)}, (shape, y)), level)["y"]
        least = max(low, clamp.low)
        assert_array_equal(found, np.minimum(np.maximum(level, least), high))


def test_values_near_a_tie_are_those_within_the_distance():
    """The input counts 1/64 of a step: less than 4 of them from 1/2, 3/2 ... are within 1/16."""
    x, y = quant(2**-6, 0, ir.Int(16, True)), quant(1.0)
    shape = ir.Shape(1, 1, 1)
    op = ir.Unary("u", ("x",), "y", ir.Identity())
    graph = graph_of(op, {"x": (shape, x)}, (shape, y))
    level = np.arange(-300, 301).reshape(-1, 1, 1, 1)
    found = golden.near_ties(op, graph, level, parts=16)
    away = np.abs(level % 64 - 32)
    assert found[away < 4].all()
    assert not found[away > 6].any()  # the distance is rounded to a sixteenth


def test_what_only_selects_has_no_ties():
    shape, x = ir.Shape(2, 2, 1), quant(0.5)
    op = ir.MaxPool("p", ("x",), "y", ir.Window((2, 2), (2, 2)))
    graph = graph_of(op, {"x": (shape, x)}, (ir.Shape(1, 1, 1), x))
    assert not golden.near_ties(op, graph, raw(shape), parts=16).any()


@pytest.mark.parametrize(("a", "b", "y"), [(101, 1, 51), (101, 0, 50), (103, -1, 51), (103, 0, 52)])
def test_a_tie_is_decided_by_what_no_float_holds(a, b, y):
    """50.5 + 2**-60 is 50.5 in float64, and above the tie."""
    shape = ir.Shape(1, 1, 1)
    inputs = {"a": (shape, quant(0.5)), "b": (shape, quant(2.0**-60))}
    graph = graph_of(ir.Add("add", ("a", "b"), "y"), inputs, (shape, quant(1.0)))
    found = golden.step(graph.ops[0], graph, *(np.full((1, 1, 1, 1), each) for each in (a, b)))
    assert found.item() == y


def test_huge_terms_that_cancel_are_still_exact():
    op = ir.Conv(
        "conv",
        ("x",),
        "y",
        np.ones((1, 1, 1, 1), np.int8),
        np.ones(1, np.float32),
        np.array([-(1 << 30)], np.int32),
        np.array([100], np.float32),
    )
    one = ir.Shape(1, 1, 1)
    x = quant(100 * 2.0**24, 0)
    graph = graph_of(op, {"x": (one, x)}, (one, quant(1)))
    assert golden.run(graph, np.array([64]).reshape(1, 1, 1, 1))["y"].item() == 0


def test_wide_accumulators_are_exact():
    weight = np.full((1, 1, 1, 2), (1 << 52) + 1, np.int64)
    weight[..., 1] = -(1 << 52)
    op = ir.Conv("conv", ("x",), "y", weight, np.ones(1, np.float32))
    graph = graph_of(op, {"x": (ir.Shape(1, 1, 2), quant(1))}, (ir.Shape(1, 1, 1), quant(1)))
    assert golden.run(graph, np.array([77, 77]).reshape(1, 1, 1, 2))["y"].item() == 77


@pytest.mark.parametrize("dtype", [INT8, UINT8], ids=str)
def test_padding_never_wins_a_maximum(dtype):
    shape = ir.Shape(5, 4, 2)
    output = WIDE.output(shape, 2)
    graph = graph_of(
        ir.MaxPool("pool", ("x",), "y", WIDE),
        {"x": (shape, quant(1, 7, dtype))},
        (output, quant(1, 7, dtype)),
    )
    data = raw(shape, dtype) // 4 + 3 * dtype.low // 4
    found = golden.run(graph, data)["y"]
    for frame, row, column, channel in np.ndindex(found.shape):
        assert found[frame, row, column, channel] == max(
            data[frame, i, j, channel] for i, j, *_ in taps(WIDE, shape, row, column)
        )


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("y", [quant(0.043, 9), quant(0.25, -4)], ids=str)
def test_average(count_padding, y):
    shape, x = ir.Shape(5, 4, 2), quant(0.25, -11)
    op = ir.AveragePool("pool", ("x",), "y", WIDE, count_padding, clamp=ir.Clamp(-2, 3))
    graph = graph_of(op, {"x": (shape, x)}, (WIDE.output(shape, 2), y))
    data = raw(shape)
    found = golden.run(graph, data)["y"]
    for frame, row, column, channel in np.ndindex(found.shape):
        seen = [int(data[frame, i, j, channel]) + 11 for i, j, *_ in taps(WIDE, shape, row, column)]
        real = sum(seen) * x.step / (WIDE.taps if count_padding else len(seen))
        assert found[frame, row, column, channel] == rounded(real, y, op.clamp)


@pytest.mark.parametrize(
    ("a", "b", "y"),
    [
        (quant(0.02, 5), quant(0.031, -9), quant(0.04, -4)),
        (quant(1, 5), quant(0.5, -9), quant(2, 3)),
    ],
    ids=str,
)
def test_sum(a, b, y):
    shape = ir.Shape(8, 8, 4)
    op = ir.Add("sum", ("a", "b"), "y", clamp=ir.Clamp(-1, 2.5))
    graph = graph_of(op, {"a": (shape, a), "b": (shape, b)}, (shape, y))
    left, right = raw(shape), raw(shape, seed=1)
    found = golden.step(op, graph, left, right)
    for index in np.ndindex(found.shape):
        real = (int(left[index]) - a.zero) * a.step + (int(right[index]) - b.zero) * b.step
        assert found[index] == rounded(real, y, op.clamp)


@pytest.mark.parametrize(
    "function",
    [
        ir.Identity(),
        ir.functions.LeakyRelu(0.125),
        ir.functions.Sigmoid(),
        ir.functions.Tanh(),
        ir.functions.HardSigmoid(),
        ir.functions.HardSwish(),
    ],
    ids=lambda function: type(function).__name__,
)
@pytest.mark.parametrize("x", [quant(0.043, 9), quant(0.5, -4), quant(1000, 0)], ids=str)
def test_every_level_of_a_function_agrees_with_its_table(function, x):
    from gatewright.compiler.quantize import for_unary

    op = ir.Unary("f", ("x",), "y", function, clamp=ir.Clamp(-0.5, 0.9))
    shape = ir.Shape(16, 16, 1)
    graph = graph_of(op, {"x": (shape, x)}, (shape, quant(1 / 64, 5)))
    levels = np.arange(-128, 128).reshape(1, 16, 16, 1)
    assert_array_equal(golden.run(graph, levels)["y"].reshape(-1), for_unary(graph, op))


@pytest.mark.parametrize(("fill", "level"), [(0.0, 9), (1.0, 11), (-1e9, -128), (np.inf, 127)])
def test_a_border_is_rounded_and_saturated(fill, level):
    graph = graph_of(
        ir.Pad("pad", ("x",), "y", (1, 0, 0, 2), fill),
        {"x": (ir.Shape(1, 1, 2), quant(0.5, 9))},
        (ir.Shape(2, 3, 2), quant(0.5, 9)),
    )
    found = golden.run(graph, np.full((1, 1, 1, 2), 3))["y"]
    assert_array_equal(found[0, 1, 0], [3, 3])
    assert (found == level).sum() == 10


def test_channels_are_put_side_by_side():
    shape = ir.Shape(2, 2, 2)
    op = ir.Concat("concat", ("a", "b"), "y")
    graph = graph_of(op, dict.fromkeys("ab", (shape, quant(1))), (ir.Shape(2, 2, 4), quant(1)))
    a, b = raw(shape), raw(shape, seed=1)
    assert_array_equal(golden.step(op, graph, a, b)[..., 2:], b)


def test_a_reshape_keeps_the_stream_order():
    op = ir.Reshape("flat", ("x",), "y")
    graph = graph_of(op, {"x": (ir.Shape(2, 3, 4), quant(1))}, (ir.Shape(1, 1, 24), quant(1)))
    data = raw(ir.Shape(2, 3, 4))
    assert_array_equal(golden.run(graph, data)["y"].reshape(-1), data.reshape(-1))


def test_the_first_of_equals_is_the_largest():
    op = ir.ArgMax("best", ("x",), "y")
    graph = graph_of(
        op,
        {"x": (ir.Shape(1, 1, 4), quant(1))},
        (ir.Shape(1, 1, 1), ir.Quant(ir.Int(2, False), 1.0, 0)),
    )
    assert golden.run(graph, np.array([5, 9, 9, -3]).reshape(1, 1, 1, 4))["y"].item() == 1


# The borders.


def identity_graph(dtype, tail=()):
    """A model in channel-first layout around a stage that changes nothing."""
    shape, order = ir.Shape(2, 3, 2), np.arange(12).reshape(2, 2, 3).transpose(1, 2, 0).reshape(-1)
    value = {name: ir.Value(name, shape, quant(0.5, 3)) for name in "xy"}
    return ir.Graph(
        "net",
        (ir.InputPort("image", (2, 2, 3), dtype, "x", order),),
        (ir.OutputPort("out", (2, 2, 3), dtype, "y", np.argsort(order), tail),),
        (ir.Unary("same", ("x",), "y"),),
        value,
    )


def test_float_inputs_are_quantized_and_arranged_and_back():
    graph = identity_graph("float32", (ir.Dequantize(quant(0.5, 3)),))
    image = np.arange(24, dtype=np.float32).reshape(2, 2, 2, 3) / 2
    stream = golden.host_input(graph, image)["image"]
    assert_array_equal(stream[0, 1, 2], [5 + 3, 11 + 3])
    assert_array_equal(golden.host_output(graph, golden.run(graph, stream))["out"], image)


def test_integer_inputs_enter_as_they_are():
    graph = identity_graph("int8")
    image = np.arange(12, dtype=np.int8).reshape(1, 2, 2, 3)
    found = golden.host_output(graph, golden.run(graph, golden.host_input(graph, image)))["out"]
    assert found.dtype == np.int8
    assert_array_equal(found, image)


def test_inputs_of_another_shape_are_refused():
    graph = identity_graph("int8")
    with pytest.raises(
        DataError,
        match=r"image: samples of shape \(2, 3, 2\), but the model takes "
        r"\(2, 2, 3\): the axes are in another order; give image.transpose\(0, 1, 3, 2\)",
    ):
        golden.host_input(graph, np.zeros((1, 2, 3, 2)))
    with pytest.raises(DataError, match=r"image: raw frames of shape \(2, 2, 3\)"):
        golden.run(graph, np.zeros((1, 2, 2, 3), int))


def test_inputs_beyond_the_type_are_refused():
    with pytest.raises(DataError, match="raw inputs from 0 to 200, but i8 holds -128 to 127"):
        golden.run(identity_graph("int8"), np.linspace(0, 200, 12).astype(int).reshape(1, 2, 3, 2))

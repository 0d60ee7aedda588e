"""Requantizers equal exact rational rounding on both sides of every step."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import QuantizeError
from gatewright.compiler.quantize.proofs.requantizer import (
    accumulator_type,
    average_counts,
    for_average_pool,
    for_conv,
    limits,
    prove,
    prove_margins,
    requantizer,
    round_half_even,
    taps_inside,
)
from gatewright.compiler.quantize.proofs.staircase import Stairs
from numpy.testing import assert_array_equal

INT8 = ir.Int(8, True)


def float32(x):
    return Fraction(float(np.float32(x)))


def oracle(alpha, beta, zero, low, high, acc):
    """The definition, with Python's own rounding of rational numbers (half to even)."""
    return [min(max(round(alpha * int(a) + beta - zero) + zero, low), high) for a in acc]


def near_thresholds(alpha, beta, low, high, acc_low, acc_high):
    """Every accumulator within two of a step, and both ends of the range."""
    if alpha == 0:
        return np.arange(acc_low, acc_high + 1)
    steps = [round((k - Fraction(1, 2) - beta) / alpha) for k in range(low, high + 2)]
    near = {step + delta for step in steps for delta in range(-2, 3)}
    return np.array(sorted({acc_low, acc_high} | {a for a in near if acc_low <= a <= acc_high}))


def assert_exact(alphas, betas, low=-128, high=127, acc_low=-30000, acc_high=30000, zero=0):
    found = requantizer(alphas, betas, low, high, acc_low, acc_high, "layer", zero)
    for channel, (alpha, beta) in enumerate(zip(alphas, betas, strict=True)):
        acc = near_thresholds(alpha, beta, low, high, acc_low, acc_high)
        tiled = np.repeat(acc[:, None], len(alphas), axis=1)
        assert_array_equal(
            found.apply(tiled)[:, channel],
            oracle(alpha, beta, zero, low, high, acc),
            f"channel {channel}",
        )
    return found


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"),
    [
        (1, 2, 0),
        (3, 2, 2),
        (5, 2, 2),
        (-1, 2, 0),
        (-3, 2, -2),
        (-5, 2, -2),
        (7, 4, 2),
        (-7, 4, -2),
        (0, 3, 0),
        (6, 3, 2),
    ],
)
def test_rounds_half_to_even(numerator, denominator, rounded):
    assert round_half_even(numerator, denominator) == rounded


@pytest.mark.parametrize("exponent", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("zero", [0, 3, -128, -5])
def test_power_of_two_scales_take_the_half_even_variant(exponent, zero):
    found = assert_exact([Fraction(1, 1 << exponent)], [Fraction(zero)], zero=zero)
    assert (found.tie_bits is None) == (exponent == 0)
    assert found.mult_bits == 1


def test_an_odd_zero_point_rounds_to_even_before_it_is_added():
    found = requantizer([Fraction(1, 2)], [Fraction(3)], -128, 127, -9, 9, "layer", zero=3)
    assert_array_equal(found.apply(np.array([[1], [3], [-1], [-3]]))[:, 0], [3, 5, 3, 1])
    assert found.tie_parity == 0


@pytest.mark.parametrize(
    ("alpha", "beta"),
    [
        (Fraction(1, 6), Fraction(0)),
        (Fraction(5, 6), Fraction(1, 6)),
        (Fraction(7, 10), Fraction(0)),
        (Fraction(3, 128), Fraction(-5)),
        (Fraction(1, 768), Fraction(1, 3)),
        (Fraction(1), Fraction(1, 2)),
        (Fraction(33, 14), Fraction(2, 7)),
    ],
)
def test_ties_at_every_step_of_ratios_that_are_no_power_of_two(alpha, beta):
    assert_exact([alpha], [beta])


def test_alternating_ties_are_not_possible_with_plain_rounding():
    assert assert_exact([Fraction(1, 6)], [Fraction(0)]).tie_bits is not None


def test_channels_with_and_without_ties_share_one_requantizer():
    alphas = [Fraction(1, 64), float32(0.0123), Fraction(1, 384), Fraction(1, 256)]
    found = assert_exact(alphas, [Fraction(1), Fraction(-7), Fraction(0), Fraction(-128)])
    assert found.tie_bits is not None


@pytest.mark.parametrize("zero", [-128, -77, 0, 19, 127])
def test_zero_points(zero):
    assert_exact(
        [float32(0.0078), float32(0.0131)], [zero + float32(0.3), Fraction(zero)], zero=zero
    )


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-128, -127), (5, 5), (-128, -128), (0, 255)])
def test_narrow_and_unsigned_output_ranges(low, high):
    assert_exact([float32(0.01)], [float32(0.7)], low, high)


def test_one_step_needs_one_multiplier_bit():
    assert assert_exact([Fraction(1, 100)], [Fraction(0)], 0, 1, -60, 60).mult_bits == 1


def test_a_constant_channel_is_not_multiplied():
    found = assert_exact(
        [Fraction(0), float32(1e-9)], [Fraction(12), float32(-3.2)], acc_low=-9, acc_high=9
    )
    assert found.mult == (0, 0)


def test_a_single_accumulator_value():
    assert_exact([float32(0.3)], [Fraction(1)], acc_low=7, acc_high=7)


WIDE = {
    "any scale": (float32(0.0371), float32(0.7)),
    "ties": (Fraction(3, 64), Fraction(5, 2)),
    "ties at thirds": (Fraction(1, 6), Fraction(0)),
    "steep": (float32(3.7), float32(-0.4)),
    "flat": (float32(3.1e-8), float32(0.4)),
    "constant": (Fraction(0), Fraction(19)),
}


@pytest.mark.parametrize("zero", [-3, 0, 1000])
@pytest.mark.parametrize("bits", [11, 12])
@pytest.mark.parametrize("name", WIDE)
def test_wide_outputs_are_exact_at_every_step(name, bits, zero):
    alpha, beta = WIDE[name]
    low, high = -(1 << (bits - 1)), (1 << (bits - 1)) - 1
    assert_exact([alpha, float32(0.0123)], [beta + zero, Fraction(zero)], low, high, zero=zero)


def test_outputs_of_16_bits_with_and_without_ties():
    channels = [WIDE[name] for name in ("any scale", "ties", "steep", "constant")]
    alphas, betas = zip(*channels, strict=True)
    reach = 1 << 34
    found = requantizer(alphas, betas, -32768, 32767, -reach, reach, "layer")
    rng = np.random.default_rng(0)
    for channel, (alpha, beta) in enumerate(channels):
        steps = rng.integers(-32770, 32770, 2000).tolist()
        near = [round((k - Fraction(1, 2) - beta) / alpha) if alpha else k for k in steps]
        acc = np.array([n + d for n in near for d in (-1, 0, 1)] + [-reach, reach])
        seen = found.apply(np.repeat(acc[:, None], len(channels), axis=1))[:, channel]
        assert_array_equal(seen, oracle(alpha, beta, 0, -32768, 32767, acc))


def test_a_wide_requantizer_that_is_not_exact_is_refused():
    alpha, beta = Fraction(3, 64), Fraction(5, 2)
    stairs = [Stairs.of(alpha, beta, 0, (-2048, 2047), (-30000, 30000))]
    found = requantizer([alpha], [beta], -2048, 2047, -30000, 30000, "layer")
    prove_margins(found, stairs, "layer")
    for wrong in (
        replace(found, offset=(found.offset[0] - 1,)),
        replace(found, offset=(found.offset[0] + (1 << (found.tie_bits or 0)),)),
        replace(found, mult=(found.mult[0] + 1,)),
        replace(found, tie_bits=None),
    ):
        with pytest.raises(QuantizeError, match="channel 0 is not exact"):
            prove_margins(wrong, stairs, "layer")


def test_accumulators_at_their_extremes():
    low, high = -(1 << 31), (1 << 31) - 1
    found = assert_exact([float32(5.9e-8)], [float32(-0.4)], acc_low=low, acc_high=high)
    assert found.acc == ir.Int(32, True)
    ends = np.array([[low], [high]])
    products = [int(a) * found.mult[0] + found.offset[0] for a in ends[:, 0]]
    assert found.product.low <= min(products)
    assert max(products) <= found.product.high


def test_products_beyond_64_bits_are_still_exact():
    found = assert_exact([float32(5.9e-11)], [float32(-0.4)], acc_low=-(1 << 41), acc_high=1 << 41)
    assert found.apply(np.array([[1 << 40]])).dtype == np.int64


def test_400_random_imported_ratios():
    rng = np.random.default_rng(7)
    for _ in range(100):
        x, y = float32(rng.uniform(0.001, 0.1)), float32(rng.uniform(0.001, 0.1))
        weights = [float32(one) for one in rng.uniform(0.0005, 0.02, 4)]
        zero = int(rng.integers(-128, 128))
        alphas = [x * weight / y for weight in weights]
        betas = [zero + alpha * int(rng.integers(-20000, 20000)) for alpha in alphas]
        assert assert_exact(alphas, betas, zero=zero).mult_bits <= 32


def test_a_wrong_requantizer_is_refused():
    alpha, beta = Fraction(1, 100), Fraction(0)
    found = requantizer([alpha], [beta], -128, 127, -9000, 9000, "layer")
    stairs = Stairs.of(alpha, beta + Fraction(1, 100), 0, (-128, 127), (-9000, 9000))
    with pytest.raises(QuantizeError, match="layer: the requantizer of channel 0 takes step"):
        prove(found, [stairs], "layer")


def test_a_negative_scale_is_refused():
    with pytest.raises(QuantizeError, match=r"layer: channel 1 has the scale ratio -0\.5"):
        requantizer([Fraction(1), Fraction(-1, 2)], [Fraction(0)] * 2, 0, 9, -9, 9, "layer")


@pytest.mark.parametrize(
    ("clamp", "wanted"),
    [
        (ir.Clamp(), (-128, 127)),
        (ir.Clamp(0), (-3, 127)),
        (ir.Clamp(0, 6), (-3, 57)),
        (ir.Clamp(-0.25, 0.25), (-5, -1)),
        (ir.Clamp(1e9), (127, 127)),
        (ir.Clamp(high=-1e9), (-128, -128)),
    ],
)
def test_a_clamp_is_rounded_half_to_even_and_saturated(clamp, wanted):
    assert limits(ir.Quant(INT8, float(np.float32(0.1)), -3), clamp) == wanted


@pytest.mark.parametrize(
    ("clamp", "wanted"),
    [
        (ir.Clamp(), (0, 255)),
        (ir.Clamp(0), (3, 255)),
        (ir.Clamp(0, 20), (3, 203)),
        (ir.Clamp(0, 100), (3, 255)),
        (ir.Clamp(-100, 0), (0, 3)),
    ],
)
def test_an_unsigned_value_is_clamped_to_its_own_range(clamp, wanted):
    assert limits(ir.Quant(ir.Int(8, False), float(np.float32(0.1)), 3), clamp) == wanted


# Layers.


def graph_of(op, x, y, shape, output):
    return ir.Graph(
        "net",
        (ir.InputPort("x", shape.array, "int8", "x", np.arange(shape.size)),),
        (ir.OutputPort("y", output.array, "int8", "y", np.arange(output.size)),),
        (op,),
        {"x": ir.Value("x", shape, x), "y": ir.Value("y", output, y)},
    )


def test_the_requantizer_of_a_convolution_takes_bias_and_zero_point():
    rng = np.random.default_rng(3)
    weight = rng.integers(-127, 128, (3, 2, 2, 4)).astype(np.int8)
    scale = np.array([0.01, 0.02, 0.015], np.float32)
    bias, bias_scale = rng.integers(-900, 900, 3).astype(np.int32), scale * np.float32(0.05)
    op = ir.Conv("conv", ("x",), "y", weight, scale, bias, bias_scale, window=ir.Window((2, 2)))
    x, y = ir.Quant(INT8, float(np.float32(0.05)), 17), ir.Quant(INT8, float(np.float32(0.3)), -9)
    graph = graph_of(op, x, y, ir.Shape(2, 2, 4), ir.Shape(1, 1, 3))
    raw = rng.integers(-128, 128, (500, 16))
    acc = raw @ weight.reshape(3, -1).T.astype(int)
    found = for_conv(graph, op).apply(acc)
    for channel in range(3):
        real = [
            x.step
            * float32(scale[channel])
            * int(((one - 17) * weight[channel].reshape(-1).astype(int)).sum())
            + int(bias[channel]) * float32(bias_scale[channel])
            for one in raw
        ]
        assert_array_equal(
            found[:, channel], [min(max(round(r / y.step) - 9, -128), 127) for r in real]
        )


def test_the_accumulator_holds_every_partial_sum_in_any_order():
    weight = np.array([[[[3, -5]]], [[[-1, 0]]]], np.int8)
    op = ir.Conv("conv", ("x",), "y", weight, np.ones(2, np.float32))
    quant = ir.Quant(ir.Int(8, False), 1.0, 0)
    graph = graph_of(op, quant, quant, ir.Shape(1, 1, 2), ir.Shape(1, 1, 2))
    assert accumulator_type(op, graph) == ir.Int.holding(-5 * 255, 3 * 255)


def test_an_average_counts_the_taps_inside_the_map():
    op = ir.AveragePool("pool", ("x",), "y", ir.Window((3, 3), (1, 1), (1, 1), (1, 1, 1, 1)))
    assert taps_inside(op, ir.Shape(4, 1, 1)) == ((2, 3, 3, 2), (1,))
    assert average_counts(op, ir.Shape(4, 4, 1)) == (4, 6, 9)


def test_an_average_that_counts_padding_divides_by_the_whole_kernel():
    op = ir.AveragePool(
        "pool", ("x",), "y", ir.Window((3, 3), pads=(1, 1, 1, 1)), count_padding=True
    )
    assert average_counts(op, ir.Shape(4, 4, 1)) == (9,)


@pytest.mark.parametrize("count_padding", [True, False])
@pytest.mark.parametrize("scale", [0.5, 0.43])
def test_every_count_of_an_average_is_exact(count_padding, scale):
    op = ir.AveragePool("pool", ("x",), "y", ir.Window((3, 2), pads=(1, 0, 1, 1)), count_padding)
    x, y = ir.Quant(INT8, 0.5, -7), ir.Quant(INT8, float(np.float32(scale)), 3)
    shape = ir.Shape(5, 4, 1)
    graph = graph_of(op, x, y, shape, op.window.output(shape, 1))
    found, acc = for_average_pool(graph, op), np.arange(6 * -128, 6 * 127 + 1)
    for channel, count in enumerate(average_counts(op, shape)):
        exact = [round((int(a) + 6 * 7) * x.step / (count * y.step)) + 3 for a in acc]
        tiled = np.repeat(acc[:, None], found.channels, axis=1)
        assert_array_equal(found.apply(tiled)[:, channel], np.clip(exact, -128, 127))


def test_a_window_without_any_tap_inside_is_refused():
    op = ir.AveragePool("pool", ("x",), "y", ir.Window((1, 1), pads=(1, 1, 1, 1)))
    with pytest.raises(QuantizeError, match="pool: a pooling window lies wholly in the padding"):
        average_counts(op, ir.Shape(2, 2, 1))

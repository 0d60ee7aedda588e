"""Requantizers: integer arithmetic proven equal to exact rational rounding, layer by layer.

The exact output for a raw accumulator (padding at the input's zero point, no bias) of channel c is

    clip(round_half_even(alpha[c] * acc + beta[c] - zero) + zero, low, high)

with ``alpha = sx * sw[c] / sy`` and ``beta = zero + (bias[c] - sx * sw[c] * zx * sum(w[c])) / sy``:
bias and input zero point cost nothing at run time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import singledispatch
from itertools import product

import numpy as np
from numpy.typing import NDArray

from ... import ir
from ...errors import QuantizeError
from .rounding import limits, narrow, round_half_even
from .staircase import WIDEST_MULT_BITS, Line, Stairs, lines
from .wide_staircase import MANY_STEPS, is_exact, wide_lines
from .wide_staircase import WIDEST_MULT_BITS as WIDEST_MANY_STEPS_BITS

__all__ = [
    "Requantizer",
    "accumulator_type",
    "average_counts",
    "channel_stairs",
    "fast_accumulator_type",
    "result_type",
    "scaled_result_type",
    "for_average_pool",
    "for_conv",
    "for_identity",
    "limits",
    "prove",
    "prove_margins",
    "requantizer",
    "round_half_even",
    "taps_inside",
]


@dataclass(frozen=True)
class Requantizer:
    """``clip((acc * mult[c] + offset[c]) >> shift, low, high)`` for the accumulators of channel c.

    With ``tie_bits = v`` the half-even variant: when bits ``[v, shift)`` of the product
    ``t = acc * mult + offset`` are all zero and ``t >> shift`` has the parity ``tie_parity``, the
    result is one less (before the clip). ``tie_parity`` is 1, or 0 when the zero point is odd:
    ONNX rounds to even first and adds the zero point then. ``acc`` holds every finished
    accumulator of every channel.
    """

    mult: tuple[int, ...]
    offset: tuple[int, ...]
    shift: int
    tie_bits: int | None
    low: int
    high: int
    acc: ir.Int
    tie_parity: int = 1

    @property
    def channels(self) -> int:
        return len(self.mult)

    @property
    def mult_bits(self) -> int:
        """Width of the widest multiplier, as an unsigned number."""
        return max(m.bit_length() for m in self.mult)

    @property
    def product(self) -> ir.Int:
        """The type of ``acc * mult + offset`` over every accumulator that ``acc`` can hold."""
        ends = [
            a * m + o
            for m, o in zip(self.mult, self.offset, strict=True)
            for a in (self.acc.low, self.acc.high)
        ]
        return ir.Int.holding(min(ends), max(ends))

    def times(self, factor: int) -> "Requantizer":
        """The same function of accumulators ``factor`` times as large, a power of two."""
        bits = factor.bit_length() - 1
        return replace(
            self,
            offset=tuple(offset << bits for offset in self.offset),
            shift=self.shift + bits,
            tie_bits=None if self.tie_bits is None else self.tie_bits + bits,
            acc=ir.Int.holding(self.acc.low << bits, self.acc.high << bits),
        )

    def apply(self, acc: NDArray[np.integer]) -> NDArray[np.int64]:
        """What the hardware computes, on accumulators ``[..., channels]``."""
        widest = max(abs(int(acc.min(initial=0))), abs(int(acc.max(initial=0))))
        reach = max(widest * m + abs(o) for m, o in zip(self.mult, self.offset, strict=True))
        kind = np.int64 if reach < 1 << 62 else object
        wide = acc.astype(kind) * np.array(self.mult, kind) + np.array(self.offset, kind)
        return narrow(wide, self.shift, self.tie_bits, self.tie_parity, self.low, self.high)


def _each(value: Sequence[int] | int, channels: int) -> Sequence[int]:
    return [value] * channels if isinstance(value, int) else value


def requantizer(
    alphas: Sequence[Fraction],
    betas: Sequence[Fraction],
    low: int,
    high: int,
    acc_low: Sequence[int] | int,
    acc_high: Sequence[int] | int,
    name: str,
    zero: int = 0,
) -> Requantizer:
    """The narrowest requantizer proven equal, for every accumulator in range of channel c, to

        clip(round_half_even(alphas[c] * acc + betas[c] - zero) + zero, low, high)

    ``betas`` include the output's zero point; ``zero`` tells which results count as even.
    Raises QuantizeError, naming ``name`` and the channel, when none is found.
    """
    ranges = zip(_each(acc_low, len(alphas)), _each(acc_high, len(alphas)), strict=True)
    return _proven(
        [
            Stairs.of(alpha, beta, zero, (low, high), one)
            for alpha, beta, one in zip(alphas, betas, ranges, strict=True)
        ],
        name,
    )


def _proven(stairs: Sequence[Stairs], name: str) -> Requantizer:
    for channel, one in enumerate(stairs):
        if one.slope < 0 or one.acc_low > one.acc_high:
            raise QuantizeError(
                f"{name}: channel {channel} has the scale ratio {one.slope / one.unit:g} over "
                f"accumulators {one.acc_low} to {one.acc_high}; scales must be positive"
            )
    many = max(one.last - one.first for one in stairs) > MANY_STEPS
    found = wide_lines(stairs) if many else lines(stairs)
    if found is None:
        raise QuantizeError(_no_proof(name, stairs, many))
    passed, shift, tie_bits = found
    acc = ir.Int.holding(min(one.acc_low for one in stairs), max(one.acc_high for one in stairs))
    result = Requantizer(
        tuple(line.mult for line in passed),
        tuple(line.offset for line in passed),
        shift,
        tie_bits,
        stairs[0].low,
        stairs[0].high,
        acc,
        1 - stairs[0].zero % 2,
    )
    (prove_margins if many else prove)(result, stairs, name)
    return result


def _no_proof(name: str, stairs: Sequence[Stairs], many: bool) -> str:
    search = wide_lines if many else lines
    alone = next((channel for channel, one in enumerate(stairs) if search([one]) is None), None)
    which = "its channels together" if alone is None else f"channel {alone}"
    return (
        f"{name}: no requantizer with a multiplier of up to "
        f"{WIDEST_MANY_STEPS_BITS if many else WIDEST_MULT_BITS} bits is exact "
        f"for {which}; quantize the float model with gatewright, which chooses scales that "
        "have one, or change this layer's output scale slightly"
    )


def prove(result: Requantizer, stairs: Sequence[Stairs], name: str) -> None:
    """Check the hardware's value and the exact value on both sides of every step of either.

    Both are monotone in the accumulator (``mult >= 0``), so two staircases that take each step
    ``k`` between the same two accumulators are equal on the whole range.
    """
    assert all(mult >= 0 for mult in result.mult)
    for channel, one in enumerate(stairs):
        for k in range(result.low + 1, result.high + 1):
            acc = _hardware_step(result, channel, k, one.acc_low, one.acc_high)
            below = acc == one.acc_low or one.value(acc - 1) < k
            above = acc > one.acc_high or one.value(acc) >= k
            if not (below and above):
                raise QuantizeError(
                    f"{name}: the requantizer of channel {channel} takes step {k} "
                    f"at accumulator {acc}, which is not exact; please report "
                    "this model"
                )


def prove_margins(result: Requantizer, stairs: Sequence[Stairs], name: str) -> None:
    """The same for outputs of many steps, by the margins of rounding (:mod:`.wide_staircase`)."""
    for channel, one in enumerate(stairs):
        line = Line(result.mult[channel], result.offset[channel])
        if not is_exact(one, line, result.shift, result.tie_bits):
            raise QuantizeError(
                f"{name}: the requantizer of channel {channel} is not exact; please report this "
                "model"
            )


def _hardware_step(result: Requantizer, channel: int, k: int, acc_low: int, acc_high: int) -> int:
    """First accumulator in the range for which the hardware's output is at least ``k``, by
    evaluating the hardware; one past the range when there is none."""
    mult, offset, shift = result.mult[channel], result.offset[channel], result.shift

    def reaches(acc: int) -> bool:
        wide = acc * mult + offset
        y = wide >> shift
        if result.tie_bits is not None and y % 2 == result.tie_parity:
            y -= not (wide & ((1 << shift) - 1)) >> result.tie_bits
        return y >= k

    # The guess is next to the step, which saves a bisection; the two loops correct any guess.
    lift = 0 if result.tie_bits is None or k % 2 != result.tie_parity else 1 << result.tie_bits
    guess = acc_low if mult == 0 else ((k << shift) + lift - offset) // mult
    acc = min(max(guess, acc_low), acc_high + 1)
    while acc <= acc_high and not reaches(acc):
        acc = acc + 1 if mult else acc_high + 1
    while acc > acc_low and reaches(acc - 1):
        acc = acc - 1 if mult else acc_low
    return acc


# Layers.


def _reach(graph: ir.Graph, op: ir.Conv) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Least and greatest product of every weight with any input, ``[out, reduction]``."""
    dtype = graph.quant(op.inputs[0]).dtype
    weight = op.weight.reshape(op.channels, -1).astype(np.int64)
    one, other = weight * dtype.low, weight * dtype.high
    return np.minimum(one, other), np.maximum(one, other)


@singledispatch
def accumulator_type(op: ir.Op, graph: ir.Graph) -> ir.Int:
    """The narrowest type of every partial sum of ``op``, in any order of summation."""
    raise NotImplementedError(f"{op.name}: {type(op).__name__} has no accumulator")


@accumulator_type.register
def _(op: ir.Conv, graph: ir.Graph) -> ir.Int:
    least, most = _reach(graph, op)
    return ir.Int.holding(
        int(np.minimum(least, 0).sum(1).min()), int(np.maximum(most, 0).sum(1).max())
    )


@accumulator_type.register
def _(op: ir.AveragePool, graph: ir.Graph) -> ir.Int:
    dtype = graph.quant(op.inputs[0]).dtype
    return ir.Int.holding(op.window.taps * min(dtype.low, 0), op.window.taps * max(dtype.high, 0))


def fast_accumulator_type(op: ir.Conv, graph: ir.Graph) -> ir.Int:
    """The narrowest type of every result of the fast inner product, whichever weights are pairs.

    A result is a finished sum of products, and ``w1 * w2`` more for each pair of its weights. In
    any pairing these are at most half the sum of the squares, because ``2 |w1 * w2| <= w1^2 +
    w2^2``. Sums on the way are modulo a power of two, so they need not fit.
    """
    least, most = _reach(graph, op)
    weight = op.weight.reshape(op.channels, -1).astype(np.int64)
    pairs = (weight * weight).sum(1) // 2
    return ir.Int.holding(int((least.sum(1) - pairs).min()), int((most.sum(1) + pairs).max()))


def result_type(op: ir.Conv, graph: ir.Graph, excess: NDArray[np.int64]) -> ir.Int:
    """The narrowest type of every result that is more by the sum of ``excess`` [out, reduction] of
    its weights.
    """
    least, most = _reach(graph, op)
    return ir.Int.holding(int((least + excess).sum(1).min()), int((most + excess).sum(1).max()))


def scaled_result_type(
    op: ir.Conv, graph: ir.Graph, times: int, excess: NDArray[np.int64]
) -> ir.Int:
    """The narrowest type of every finished sum, ``times`` as large, and up to ``excess`` [out] more
    or less.
    """
    least, most = _reach(graph, op)
    return ir.Int.holding(
        int((times * least.sum(1) - excess).min()), int((times * most.sum(1) + excess).max())
    )


def channel_stairs(
    x: ir.Quant,
    y: ir.Quant,
    clip: tuple[int, int],
    weight: NDArray[np.int64],
    scale: float,
    bias: Fraction,
) -> Stairs:
    """The exact function from a channel's raw accumulator to its output."""
    real = x.step * Fraction(scale)
    beta = y.zero + (bias - real * x.zero * int(weight.sum())) / y.step
    ends = weight * x.dtype.low, weight * x.dtype.high
    return Stairs.of(
        real / y.step,
        beta,
        y.zero,
        clip,
        (int(np.minimum(*ends).sum()), int(np.maximum(*ends).sum())),
    )


def for_conv(graph: ir.Graph, op: ir.Conv) -> Requantizer:
    """The requantizer of ``acc = sum of x_raw * weight`` with padding at the input's zero point.

    Bias and input zero point are in the offsets.
    """
    x, y = graph.quant(op.inputs[0]), graph.quant(op.output)
    assert op.weight_scale is not None, f"{op.name} is not quantized"
    clip = limits(y, op.clamp)
    channels = zip(op.weight.astype(np.int64), op.weight_scale, op.exact_bias(), strict=True)
    return _proven(
        [
            channel_stairs(x, y, clip, weight, float(scale), bias)
            for weight, scale, bias in channels
        ],
        op.name,
    )


def taps_inside(op: ir.AveragePool, shape: ir.Shape) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """For every output row, then column: how many kernel rows, columns count towards the mean.

    ``shape`` is the input's. The window at output (r, c) counts ``rows[r] * columns[c]`` taps.
    """
    window = op.window
    output = window.output(shape, shape.channels)

    def inside(outputs: int, size: int, axis: int) -> tuple[int, ...]:
        if op.count_padding:
            return (window.kernel[axis],) * outputs
        steps = [
            tap * window.dilation[axis] - window.pads[axis] for tap in range(window.kernel[axis])
        ]
        return tuple(
            sum(0 <= position * window.stride[axis] + step < size for step in steps)
            for position in range(outputs)
        )

    return inside(output.height, shape.height, 0), inside(output.width, shape.width, 1)


def average_counts(op: ir.AveragePool, shape: ir.Shape) -> tuple[int, ...]:
    """The distinct numbers of taps that an output may divide by, ascending; ``shape``: input's."""
    rows, columns = taps_inside(op, shape)
    counts = sorted({row * column for row, column in product(set(rows), set(columns))})
    if counts[0] == 0:
        raise QuantizeError(
            f"{op.name}: a pooling window lies wholly in the padding, so its "
            "average is undefined; use pads smaller than the kernel"
        )
    return tuple(counts)


def for_average_pool(graph: ir.Graph, op: ir.AveragePool) -> Requantizer:
    """The requantizer of ``acc = sum of raw taps`` with padding at the input's zero point.

    Its channel i serves the windows that count ``average_counts(op, input shape)[i]`` taps.
    """
    x, y, taps = graph.quant(op.inputs[0]), graph.quant(op.output), op.window.taps
    counts = average_counts(op, graph.shape(op.inputs[0]))
    alphas = [x.step / (y.step * count) for count in counts]
    return requantizer(
        alphas,
        [y.zero - alpha * taps * x.zero for alpha in alphas],
        *limits(y, op.clamp),
        taps * x.dtype.low,
        taps * x.dtype.high,
        op.name,
        y.zero,
    )


def for_identity(graph: ir.Graph, op: ir.Unary) -> Requantizer:
    """The requantizer of one channel that changes the quantization of raw inputs, and clamps."""
    assert op.function == ir.Identity()
    x, y = graph.quant(op.inputs[0]), graph.quant(op.output)
    alpha = x.step / y.step
    return requantizer(
        [alpha],
        [y.zero - alpha * x.zero],
        *limits(y, op.clamp),
        x.dtype.low,
        x.dtype.high,
        op.name,
        y.zero,
    )

"""The numeric contract, executable: the integer network in exact arithmetic, in NumPy.

Every operator computes its function on the real numbers that its inputs stand for, exactly, and
rounds once, half to even, then saturates. This module shares nothing with the hardware and nothing
with the requantizer search: accumulation is exact in integers; results are rounded from a float64
estimate, and wherever that estimate is near a tie, again with rational numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache, singledispatch
from math import ceil, inf, isfinite, isinf, isqrt, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..compiler import ir
from ..compiler.errors import DataError
from ..compiler.sample_layout import layout_advice

__all__ = ["host_input", "host_output", "near_ties", "run", "step"]

Array = NDArray[Any]
Ints = NDArray[np.int64]

# Estimates are wrong by at most a few units in 2**-52 of the largest term. Terms beyond 2**25
# steps are refused to the estimate, so 2**25 * 2**-50 < 1e-7 holds the error with a margin.
MARGIN = 1e-7
LARGEST_TERM = float(1 << 25)
# Beyond any type's range: every result out here saturates.
FAR = 1 << 40
# float64 sums integers exactly below this bound.
EXACT = 1 << 53


def run(graph: ir.Graph, x: Array | ir.Feeds) -> dict[str, Ints]:
    """All values of the network for raw inputs ``[frames, height, width, channels]`` by name.

    The array of a lone input may be given by itself. Raises DataError when an array has another
    shape, or values outside the input's type.
    """
    given = ir.feeds(graph, x)
    values = {port.value: _raw(graph, port, given[port.name]) for port in graph.inputs}
    ir.loops.evaluate(graph, values, lambda op, *inputs: step(op, graph, *inputs))
    return values


def _raw(graph: ir.Graph, port: ir.InputPort, x: Array) -> Ints:
    """The checked raw frames of one input."""
    shape, dtype = graph.shape(port.value), graph.quant(port.value).dtype
    if x.shape[1:] != shape.array:
        raise DataError(
            f"{port.name}: raw frames of shape {x.shape[1:]}, but the stream of this input is "
            f"{shape.array}; use host_input to arrange model inputs"
        )
    if x.size and not dtype.low <= x.min() <= x.max() <= dtype.high:
        raise DataError(
            f"{port.name}: raw inputs from {x.min()} to {x.max()}, but {dtype} holds "
            f"{dtype.low} to {dtype.high}"
        )
    return np.asarray(x, np.int64)


def host_input(graph: ir.Graph, x: Array | ir.Feeds) -> dict[str, Ints]:
    """Raw frames ``[frames, height, width, channels]`` in stream order, by input, of model inputs
    ``[frames, *port.shape]``; float inputs are quantized. The array of a lone input may be given
    by itself.
    """
    given = ir.feeds(graph, x)
    return {port.name: _streamed(graph, port, given[port.name]) for port in graph.inputs}


def _streamed(graph: ir.Graph, port: ir.InputPort, x: Array) -> Ints:
    if x.shape[1:] != port.shape:
        raise DataError(
            f"{port.name}: samples of shape {x.shape[1:]}, but the model takes "
            f"{port.shape}: {layout_advice(x.shape, port.shape, port.name)}"
        )
    raw = graph.quant(port.value).quantize(x) if port.integer is None else x
    flat = np.asarray(raw, np.int64).reshape(len(x), -1)[:, port.order]
    return flat.reshape(len(x), *graph.shape(port.value).array)


def host_output(
    graph: ir.Graph, values: Mapping[str, NDArray[np.integer]]
) -> dict[str, NDArray[np.generic]]:
    """The model's outputs, as the host makes them of the hardware's values."""
    outputs = {}
    for port in graph.outputs:
        raw = values[port.value].astype(graph.quant(port.value).dtype.numpy)
        result: NDArray[np.generic] = raw.reshape(len(raw), -1)[:, port.order]
        result = result.reshape(len(raw), *port.tail_shape)
        for host in port.tail:
            result = host(result)
        outputs[port.name] = result.reshape(len(raw), *port.shape).astype(port.array_type)
    return outputs


@singledispatch
def step(op: ir.Op, graph: ir.Graph, *inputs: Ints) -> Ints:
    """Raw output ``[frames, H, W, C]`` of one operator for its raw inputs."""
    raise NotImplementedError(f"{op.name}: no golden rule for {type(op).__name__}")


def near_ties(op: ir.Op, graph: ir.Graph, *inputs: Ints, parts: int) -> NDArray[np.bool_]:
    """Where the exact result of ``op``, before it is rounded, is within ``1 / parts`` of a step of
    a tie: [frames, H, W, C]. ``parts`` is even.
    """
    if op.selecting:
        return np.zeros((len(inputs[0]), *graph.shape(op.output).array), np.bool_)
    value = graph.values[op.output]
    fine = ir.Quant(ir.Int(32, True), graph.quant(op.output).scale / parts, 0)
    values = {name: graph.values[name] for name in op.inputs}
    alone = ir.Graph(graph.name, (), (), (op,), {**values, op.output: replace(value, quant=fine)})
    return np.abs(step(op, alone, *inputs) % parts - parts // 2) <= 1


# Exact rounding.


def _level(quant: ir.Quant, real: float) -> int:
    """A real number, or an infinity, as an integer of ``quant``."""
    if real in (-inf, inf):
        return quant.dtype.low if real < 0 else quant.dtype.high
    return min(
        max(round(Fraction(real) / quant.step) + quant.zero, quant.dtype.low), quant.dtype.high
    )


def _saturate(steps: Ints, quant: ir.Quant, clamp: ir.Clamp) -> Ints:
    """Add the zero point and clip. To clamp the real number and then to round it is the same as to
    round it and then to clip to the rounded bounds, for rounding is monotone."""
    return np.clip(steps + quant.zero, _level(quant, clamp.low), _level(quant, clamp.high))


def _round(
    estimate: NDArray[np.float64],
    safe: NDArray[np.bool_],
    keys: Sequence[Ints],
    exact: Callable[..., Fraction],
) -> Ints:
    """Round ``estimate`` half to even; near ties and where not ``safe``, round ``exact(*key)``."""
    rounded = np.rint(estimate)
    result = np.clip(rounded, -FAR, FAR).astype(np.int64)
    doubtful = (np.abs(np.abs(estimate - rounded) - 0.5) < MARGIN) | ~safe
    if doubtful.any():
        places, which = np.unique(
            np.stack([key[doubtful] for key in keys], axis=1), axis=0, return_inverse=True
        )
        decided = [min(max(round(exact(*key)), -FAR), FAR) for key in places.tolist()]
        result[doubtful] = np.array(decided, np.int64)[which.reshape(-1)]
    return result


def _round_affine(terms: Sequence[tuple[Ints, list[Fraction]]], starts: list[Fraction]) -> Ints:
    """``round_half_even(sum of x * ratio[channel] + start[channel])``, arrays [..., channels]."""
    shape = terms[0][0].shape
    estimate = np.zeros(shape) + np.array([float(start) for start in starts])
    largest = np.abs(estimate)
    for x, ratios in terms:
        part = x * np.array([float(ratio) for ratio in ratios])
        estimate += part
        np.maximum(largest, np.abs(part), out=largest)

    # Channels of the same numbers are one case, so that few exact roundings serve many values.
    cases = list(zip(starts, *(ratios for _, ratios in terms), strict=True))
    first = {case: number for number, case in reversed(list(enumerate(cases)))}
    case = np.broadcast_to(np.array([first[one] for one in cases], np.int64), shape)

    def exact(number: int, *xs: int) -> Fraction:
        total: Fraction = cases[number][0]
        for x, ratio in zip(xs, cases[number][1:], strict=True):
            total += x * ratio
        return total

    # A huge term makes a large error, unless the sum too is huge, and saturates.
    safe = (largest < LARGEST_TERM) | (np.abs(estimate) > largest / 2)
    return _round(estimate, safe, [case, *(x for x, _ in terms)], exact)


# Windows.


def _padded(x: Ints, pads: tuple[int, int, int, int], fill: int) -> Ints:
    top, left, bottom, right = pads
    return np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)


def _taps(x: Array, window: ir.Window) -> list[Array]:
    """For every tap in raster order the padded map as it sees it, [frames, rows, columns, C]."""
    (span_rows, span_columns), (down, right) = window.span, window.stride
    rows = (x.shape[1] - span_rows) // down + 1
    columns = (x.shape[2] - span_columns) // right + 1
    return [
        x[:, r : r + (rows - 1) * down + 1 : down, c : c + (columns - 1) * right + 1 : right]
        for r in range(0, span_rows, window.dilation[0])
        for c in range(0, span_columns, window.dilation[1])
    ]


def _accumulate(op: ir.Conv, x: Ints) -> Ints:
    """Sums of products ``[frames, rows, columns, out]`` of inputs that have no zero point."""
    reach = int(np.abs(x).max(initial=0)) * int(
        np.abs(op.weight.astype(np.int64)).reshape(op.channels, -1).sum(1).max()
    )
    kind = np.float64 if reach < EXACT else np.int64
    taps = _taps(_padded(x, op.window.pads, 0).astype(kind), op.window)
    weight = op.weight.astype(kind).reshape(op.groups, op.channels // op.groups, len(taps), -1)
    if op.depthwise:
        return _total([tap * weight[:, 0, number, 0] for number, tap in enumerate(taps)])
    shape = taps[0].shape[:3]
    inner = weight.shape[3]
    parts = []
    for group, kernel in enumerate(weight):
        columns = np.stack([tap[..., group * inner : (group + 1) * inner] for tap in taps], axis=3)
        flat = columns.reshape(int(np.prod(shape)), -1)
        parts.append((flat @ kernel.reshape(len(kernel), -1).T).reshape(*shape, -1))
    return np.concatenate(parts, axis=3).astype(np.int64)


def _total(parts: list[Array]) -> Ints:
    total = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total.astype(np.int64)


@step.register
def _(op: ir.Conv, graph: ir.Graph, x: Ints) -> Ints:
    source, target = graph.quant(op.inputs[0]), graph.quant(op.output)
    assert op.weight_scale is not None, f"{op.name} is not quantized"
    acc = _accumulate(op, x - source.zero)
    ratios = [source.step * Fraction(float(scale)) / target.step for scale in op.weight_scale]
    starts = [bias / target.step for bias in op.exact_bias()]
    return _saturate(_round_affine([(acc, ratios)], starts), target, op.clamp)


@step.register
def _(op: ir.MaxPool, graph: ir.Graph, x: Ints) -> Ints:
    never = graph.quant(op.inputs[0]).dtype.low
    best: Ints = np.maximum.reduce(_taps(_padded(x, op.window.pads, never), op.window))
    return best


@step.register
def _(op: ir.AveragePool, graph: ir.Graph, x: Ints) -> Ints:
    source, target = graph.quant(op.inputs[0]), graph.quant(op.output)
    total = _total(_taps(_padded(x - source.zero, op.window.pads, 0), op.window))
    inside = np.ones((1, *x.shape[1:3], 1), np.int64)
    counted = _padded(inside, op.window.pads, int(op.count_padding))
    count = _total(_taps(counted, op.window))[0, :, :, 0]
    result = np.empty_like(total)
    for divisor in np.unique(count):
        ratio = source.step / (target.step * int(divisor))
        where = count == divisor
        part = total[:, where]
        channels = part.shape[-1]
        result[:, where] = _round_affine([(part, [ratio] * channels)], [Fraction(0)] * channels)
    return _saturate(result, target, op.clamp)


@step.register
def _(op: ir.Pad, graph: ir.Graph, x: Ints) -> Ints:
    return _padded(x, op.pads, _level(graph.quant(op.output), op.fill))


@step.register
def _(op: ir.FrameDelay, graph: ir.Graph, x: Ints) -> Ints:
    quant = graph.quant(op.output)
    first = np.array([_level(quant, float(real)) for real in op.initial.flat], np.int64)
    return np.concatenate([first.reshape(1, *op.initial.shape), x[:-1]])


@step.register
def _(op: ir.Delay, graph: ir.Graph, x: Ints, *given: Ints) -> Ints:
    quant, first = graph.quant(op.output), np.empty_like(x[:, :1])
    first[:] = [_level(quant, float(real)) for real in op.initial]
    return np.concatenate([*(given or [first]), x[:, :-1]], axis=1)


# Element by element.


@step.register
def _(op: ir.Arithmetic, graph: ir.Graph, a: Ints, b: Ints) -> Ints:
    x, y = (graph.quant(name) for name in op.inputs)
    target = graph.quant(op.output)
    reals = [(n - q.zero).astype(np.float64) * q.scale for n, q in ((a, x), (b, y))]
    estimate = op.compute(*reals) / target.scale
    largest = np.max([np.abs(real) for real in reals], axis=0) / target.scale

    def exact(left: int, right: int) -> Fraction:
        return op.result((left - x.zero) * x.step, (right - y.zero) * y.step) / target.step

    safe = np.maximum(largest, np.abs(estimate)) < LARGEST_TERM
    return _saturate(_round(estimate, safe, [a, b], exact), target, op.clamp)


@step.register
def _(op: ir.Extremum, graph: ir.Graph, a: Ints, b: Ints) -> Ints:
    chosen = op.compute(a.astype(np.float64), b.astype(np.float64))  # integers of 16 bits
    return chosen.astype(np.int64)


@step.register
def _(op: ir.ops.MatMul, graph: ir.Graph, a: Ints, b: Ints) -> Ints:
    x, y = (graph.quant(name) for name in op.inputs)
    target = graph.quant(op.output)
    left, right = (
        (raw - quant.zero).reshape(len(raw), op.products, -1, raw.shape[3])
        for raw, quant in ((a, x), (b, y))
    )
    reach = left.shape[3] * int(np.abs(left).max(initial=0)) * int(np.abs(right).max(initial=0))
    kind = np.float64 if reach < EXACT else np.int64
    acc = (left.astype(kind) @ right.astype(kind)).astype(np.int64)
    ratios = [x.step * y.step / target.step] * acc.shape[3]
    rounded = _round_affine([(acc, ratios)], [Fraction(0)] * acc.shape[3])
    return _saturate(rounded.reshape(len(a), -1, 1, acc.shape[3]), target, op.clamp)


@step.register
def _(op: ir.Unary, graph: ir.Graph, x: Ints) -> Ints:
    source, target = graph.quant(op.inputs[0]), graph.quant(op.output)
    levels, place = np.unique(x, return_inverse=True)
    reals = ((levels - source.zero) * source.scale).astype(np.float64)
    with np.errstate(all="ignore"):  # exp(-x) of a large -x: the sigmoid is then rightly 0
        estimate, error = (part / target.scale for part in op.function.estimate(reals))

    def exact(level: int) -> Fraction:
        y = _exactly(op.function, (level - source.zero) * source.step)
        if isinstance(y, float):  # infinite; what is undefined is the lowest integer
            return Fraction(FAR if y > 0 else -FAR)
        return _tied(y / target.step)

    safe = (np.abs(estimate) < LARGEST_TERM) & (error < MARGIN)
    estimate[~safe] = 0  # for what is infinite or undefined
    table = _saturate(_round(estimate, safe, [levels], exact), target, op.clamp)
    result: Ints = table[place.reshape(x.shape)]
    return result


# digits of results that are not rational, and the argument of an exponential beyond which a
# function that tends to a limit stands still, 1e-174 from it: 400 digits tell that from the limit
DIGITS = 400
STILL = Fraction(400)
# log2 of the magnitude that counts as infinite
LARGEST = 20_000


def _tied(steps: Fraction) -> Fraction:
    """A number of steps; next to a tie, digits beyond the 300th do not count."""
    doubled = Fraction(round(2 * steps))
    return doubled / 2 if abs(2 * steps - doubled) < Fraction(2, 10**300) else steps


@singledispatch
def _exactly(function: ir.Function, x: Fraction) -> Fraction | float:
    """``function(x)``: exact when rational, else to 400 digits (only exact ties need more, and a
    function that is not rational at x has none). An infinity or NaN is a float."""
    raise NotImplementedError(f"no golden rule for {type(function).__name__}")


def _decimal(x: Fraction) -> Decimal:
    """In the digits of the context."""
    return Decimal(x.numerator) / Decimal(x.denominator)


def _exp(x: Fraction) -> Fraction:
    """``exp(x)``, that of 400 where x is larger, and so with -400."""
    with localcontext() as context:
        context.prec = DIGITS
        return Fraction(_decimal(min(max(x, -STILL), STILL)).exp())


def _log(x: Fraction) -> Fraction:
    """The logarithm of a number above 0."""
    if x == 1:
        return Fraction(0)
    near = x.denominator.bit_length() - (x - 1).numerator.bit_length()
    with localcontext() as context:
        context.prec = DIGITS + max(0, near // 3)
        return Fraction(_decimal(x).ln())


def _root(x: Fraction) -> Fraction:
    """The square root of a number from 0 up, exact where it is rational."""
    root = Fraction(isqrt(x.numerator), isqrt(x.denominator))
    if root * root == x:
        return root
    with localcontext() as context:
        context.prec = DIGITS
        return Fraction(_decimal(x).sqrt())


@_exactly.register
def _(function: ir.Identity, x: Fraction) -> Fraction:
    return x


@_exactly.register
def _(function: ir.functions.LeakyRelu, x: Fraction) -> Fraction:
    return x if x >= 0 else Fraction(function.alpha) * x


@_exactly.register
def _(function: ir.functions.HardSigmoid, x: Fraction) -> Fraction:
    line = Fraction(function.alpha) * x + Fraction(function.beta)
    return min(max(line, Fraction(0)), Fraction(1))


@_exactly.register
def _(function: ir.functions.HardSwish, x: Fraction) -> Fraction:
    return x * min(max(x / 6 + Fraction(1, 2), Fraction(0)), Fraction(1))


@_exactly.register
def _(function: ir.functions.Sigmoid, x: Fraction) -> Fraction:
    return 1 / (1 + _exp(-x))


@_exactly.register
def _(function: ir.functions.Tanh, x: Fraction) -> Fraction:
    return 2 / (1 + _exp(-2 * x)) - 1


@_exactly.register
def _(function: ir.functions.Exp, x: Fraction) -> Fraction | float:
    if abs(x) > 20_000:
        return inf if x > 0 else Fraction(0)
    with localcontext() as context:
        context.prec = DIGITS
        return _held(Fraction(_decimal(x).exp()))


def _held(y: Fraction | float) -> Fraction | float:
    """A result, infinite or 0 where log2 of its magnitude is beyond LARGEST or -LARGEST."""
    if isinstance(y, float) or y == 0:
        return y
    size = y.numerator.bit_length() - y.denominator.bit_length()
    if size < -LARGEST:
        return Fraction(0)
    return y if size < LARGEST else inf if y > 0 else -inf


@_exactly.register
def _(function: ir.functions.Elu, x: Fraction) -> Fraction:
    return x if x >= 0 else Fraction(function.alpha) * (_exp(x) - 1)


@_exactly.register
def _(function: ir.functions.Selu, x: Fraction) -> Fraction:
    alpha, gamma = Fraction(function.alpha), Fraction(function.gamma)
    return gamma * x if x >= 0 else gamma * alpha * (_exp(x) - 1)


@_exactly.register
def _(function: ir.functions.Celu, x: Fraction) -> Fraction:
    alpha = Fraction(function.alpha)
    return max(x, Fraction(0)) + min(alpha * (_exp(min(x, Fraction(0)) / alpha) - 1), Fraction(0))


@_exactly.register
def _(function: ir.functions.Softplus, x: Fraction) -> Fraction:
    if x > 0:
        return x + _log(1 + _exp(-x))
    return _log(1 + _exp(x))


@_exactly.register
def _(function: ir.functions.Mish, x: Fraction) -> Fraction:
    e = _exp(x)
    return x * (e * e + 2 * e) / (e * e + 2 * e + 2)


@_exactly.register
def _(function: ir.functions.Softsign, x: Fraction) -> Fraction:
    return x / (1 + x) if x >= 0 else x / (1 - x)


@_exactly.register
def _(function: ir.functions.ThresholdedRelu, x: Fraction) -> Fraction:
    return Fraction(0) if x <= Fraction(function.alpha) else x


@_exactly.register
def _(function: ir.functions.Abs, x: Fraction) -> Fraction:
    return max(x, -x)


@_exactly.register
def _(function: ir.functions.Neg, x: Fraction) -> Fraction:
    return 0 - x


@_exactly.register
def _(function: ir.functions.Sign, x: Fraction) -> Fraction:
    return x / abs(x) if x else x


@_exactly.register
def _(function: ir.functions.Floor, x: Fraction) -> Fraction:
    return Fraction(x.numerator // x.denominator)


@_exactly.register
def _(function: ir.functions.Ceil, x: Fraction) -> Fraction:
    return Fraction(-(-x.numerator // x.denominator))


@_exactly.register
def _(function: ir.functions.Round, x: Fraction) -> Fraction:
    whole, rest = divmod(x, 1)
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and whole % 2)
    return Fraction(whole + bool(up))


@_exactly.register
def _(function: ir.functions.Swish, x: Fraction) -> Fraction:
    return x / (1 + _exp(-Fraction(function.alpha) * x))


@_exactly.register
def _(function: ir.functions.Erf, x: Fraction) -> Fraction:
    return _erf(x)


def _erf(x: Fraction) -> Fraction:
    """By the series of alternating signs, whose largest term is about exp(x * x); from 20 on it
    stands still, 1e-175 from 1."""
    x = min(max(x, Fraction(-20)), Fraction(20))
    with localcontext() as context:
        context.prec = DIGITS + 20 + ceil(x * x)
        number = _decimal(x)
        square, power, total, n = number * number, number, number, 0
        while power and power.adjusted() > -DIGITS - 10 + min(0, number.adjusted()):
            n += 1
            power = -power * square / n
            total += power / (2 * n + 1)
        return Fraction(2 * total / _decimal(_pi()).sqrt())


@cache
def _pi() -> Fraction:
    """By the means of Gauss and Legendre, to twice as many digits as a result has."""
    with localcontext() as context:
        context.prec = 2 * DIGITS + 20
        a, b, t, p = Decimal(1), 1 / Decimal(2).sqrt(), Decimal(1) / 4, 1
        for _ in range(12):
            mean = (a + b) / 2
            a, b, t, p = mean, (a * b).sqrt(), t - p * (a - mean) ** 2, 2 * p
        return Fraction((a + b) ** 2 / (4 * t))


@_exactly.register
def _(function: ir.functions.Gelu, x: Fraction) -> Fraction:
    if function.approximate == "none":
        return x * (1 + _erf(x / _root(Fraction(2)))) / 2
    cubic = x + Fraction("0.044715") * x * x * x
    return x / (1 + _exp(-2 * _root(2 / _pi()) * cubic))


@_exactly.register
def _(function: ir.functions.Log, x: Fraction) -> Fraction | float:
    return _log(x) if x > 0 else nan if x < 0 else -inf


@_exactly.register
def _(function: ir.functions.Sqrt, x: Fraction) -> Fraction | float:
    return nan if x < 0 else _root(x)


@_exactly.register
def _(function: ir.functions.Reciprocal, x: Fraction) -> Fraction | float:
    return 1 / x if x else inf


@_exactly.register
def _(function: ir.functions.Pow, x: Fraction) -> Fraction | float:
    exponent = Fraction(function.exponent)
    if x == 0:
        return Fraction(exponent == 0) if exponent >= 0 else inf
    whole = exponent.denominator == 1
    if x < 0 and not whole:
        return nan
    size = exponent * (x.numerator.bit_length() - x.denominator.bit_length())
    if abs(size) > 4 * LARGEST and abs(x) != 1:
        return Fraction(0) if size < 0 else -inf if x < 0 and exponent % 2 else inf
    if whole and abs(exponent) < LARGEST:
        return _held(x ** int(exponent))
    base = x
    while exponent.denominator > 1 and _root(base) ** 2 == base:
        base, exponent = _root(base), 2 * exponent
    if exponent.denominator == 1 and (base == 1 or abs(exponent) < LARGEST):
        return Fraction(1) if base == 1 else _held(base ** int(exponent))
    with localcontext() as context:
        context.prec = DIGITS + 10
        sign = -1 if x < 0 and exponent % 2 else 1
        return _held(Fraction(sign * (_decimal(exponent) * _decimal(abs(base)).ln()).exp()))


@_exactly.register
def _(function: ir.functions.Shrink, x: Fraction) -> Fraction:
    bias, limit = Fraction(function.bias), Fraction(function.lambd)
    if x < -limit:
        return x + bias
    return x - bias if x > limit else Fraction(0)


@_exactly.register
def _(function: ir.functions.Sin, x: Fraction) -> Fraction:
    return _sine(x)


@_exactly.register
def _(function: ir.functions.Cos, x: Fraction) -> Fraction:
    return _sine(_pi() / 2 - x) if x else Fraction(1)


@_exactly.register
def _(function: ir.functions.Tan, x: Fraction) -> Fraction:
    return _sine(x) / _sine(_pi() / 2 - x)


def _sine(x: Fraction) -> Fraction:
    """By its series, of x less a multiple of 2 pi."""
    x -= 2 * _pi() * round(x / (2 * _pi()))
    with localcontext() as context:
        context.prec = DIGITS + 20
        number = _decimal(x)
        term, total, n = number, number, 1
        while term and term.adjusted() > total.adjusted() - DIGITS - 10:
            term = -term * number * number / ((n + 1) * (n + 2))
            total, n = total + term, n + 2
        return Fraction(total)


@_exactly.register
def _(function: ir.functions.Asin, x: Fraction) -> Fraction | float:
    if abs(x) >= 1:
        return nan if abs(x) > 1 else x * _pi() / 2
    return _arctangent(x / _root(1 - x * x))


@_exactly.register
def _(function: ir.functions.Acos, x: Fraction) -> Fraction | float:
    if abs(x) >= 1:
        return nan if abs(x) > 1 else (1 - x) * _pi() / 2
    return _pi() / 2 - _arctangent(x / _root(1 - x * x))


@_exactly.register
def _(function: ir.functions.Atan, x: Fraction) -> Fraction:
    return _arctangent(x)


def _arctangent(x: Fraction) -> Fraction:
    """By Euler's series, of numbers up to 1."""
    if abs(x) > 1:
        return (1 if x > 0 else -1) * _pi() / 2 - _arctangent(1 / x)
    with localcontext() as context:
        context.prec = DIGITS + 20
        number = _decimal(x)
        share = number * number / (1 + number * number)
        term = total = number / (1 + number * number)
        n = 0
        while term and term.adjusted() > total.adjusted() - DIGITS - 10:
            n += 1
            term = term * share * 2 * n / (2 * n + 1)
            total += term
        return Fraction(total)


@_exactly.register
def _(function: ir.functions.Sinh, x: Fraction) -> Fraction | float:
    return _hyperbolic(x, -1)


@_exactly.register
def _(function: ir.functions.Cosh, x: Fraction) -> Fraction | float:
    return _hyperbolic(x, 1)


def _hyperbolic(x: Fraction, sign: int) -> Fraction | float:
    up, down = (_exactly(ir.functions.Exp(), way) for way in (x, -x))
    if isinstance(up, float) or isinstance(down, float):
        return inf if x > 0 else sign * inf
    return (up + sign * down) / 2


@_exactly.register
def _(function: ir.functions.Asinh, x: Fraction) -> Fraction:
    y = _log(abs(x) + _root(x * x + 1))
    return y if x >= 0 else -y


@_exactly.register
def _(function: ir.functions.Acosh, x: Fraction) -> Fraction | float:
    return nan if x < 1 else _log(x + _root(x * x - 1))


@_exactly.register
def _(function: ir.functions.Atanh, x: Fraction) -> Fraction | float:
    if abs(x) >= 1:
        return nan if abs(x) > 1 else inf if x > 0 else -inf
    return _log((1 + x) / (1 - x)) / 2


@_exactly.register
def _(function: ir.functions.Mod, x: Fraction) -> Fraction:
    rest = abs(x) % abs(Fraction(function.divisor))
    return rest if x >= 0 else -rest


@_exactly.register
def _(function: ir.functions.Greater, x: Fraction) -> Fraction:
    return Fraction(x > Fraction(function.bound))


@_exactly.register
def _(function: ir.functions.Less, x: Fraction) -> Fraction:
    return Fraction(x < Fraction(function.bound))


@_exactly.register
def _(function: ir.functions.GreaterOrEqual, x: Fraction) -> Fraction:
    return Fraction(x >= Fraction(function.bound))


@_exactly.register
def _(function: ir.functions.LessOrEqual, x: Fraction) -> Fraction:
    return Fraction(x <= Fraction(function.bound))


@_exactly.register
def _(function: ir.functions.Equal, x: Fraction) -> Fraction:
    return Fraction(x == Fraction(function.bound))


# Expressions.


@_exactly.register
def _(function: ir.Expression, x: Fraction) -> Fraction | float:
    values: list[Fraction | float] = [x]
    for step in function.steps:
        operands = [values[n] for n in step.operands]
        if isinstance(step.operation, ir.Function):
            result = _of_real(step.operation, operands[0])
        else:
            result = nan if any(n != n for n in operands) else _operate(step.operation, *operands)
        values.append(_shortened(_held(result)))
    return values[-1]


def _of_real(function: ir.Function, x: Fraction | float) -> Fraction | float:
    """``function(x)``, also of an infinity, and of what is undefined."""
    if not isinstance(x, float):
        return _exactly(function, x)
    with np.errstate(all="ignore"):
        limit = float(function(np.array([x]))[0])
    if not isfinite(limit) or x != x:
        return Fraction(limit) if isfinite(limit) else limit
    return _exactly(function, Fraction((1 if x > 0 else -1) << LARGEST))


def _shortened(y: Fraction | float) -> Fraction | float:
    """A result of too many digits, with fewer that are more than all that count."""
    if isinstance(y, float) or y.denominator.bit_length() < 1 << 13 > y.numerator.bit_length():
        return y
    with localcontext() as context:
        context.prec = 2 * DIGITS
        return Fraction(_decimal(y))


@singledispatch
def _operate(operation: Any, *x: Any) -> Fraction | float:
    """An operation of real numbers and infinities."""
    raise NotImplementedError(f"no golden rule for {type(operation).__name__}")


@_operate.register
def _(operation: ir.expressions.Sum, a: Any, b: Any) -> Fraction | float:
    if a == -b in (inf, -inf):
        return nan
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a + b
    return inf if inf in (a, b) else -inf


@_operate.register
def _(operation: ir.expressions.Difference, a: Any, b: Any) -> Fraction | float:
    return _operate(ir.expressions.Sum(), a, -b)


@_operate.register
def _(operation: ir.expressions.Product, a: Any, b: Any) -> Fraction | float:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a * b
    return nan if a == 0 or b == 0 else inf if (a > 0) == (b > 0) else -inf


@_operate.register
def _(operation: ir.expressions.Larger, a: Any, b: Any) -> Fraction | float:
    found: Fraction | float = a if a > b else b
    return found


@_operate.register
def _(operation: ir.expressions.Smaller, a: Any, b: Any) -> Fraction | float:
    found: Fraction | float = a if a < b else b
    return found


@_operate.register
def _(operation: ir.expressions.Affine, x: Any) -> Fraction | float:
    product = _operate(ir.expressions.Product(), Fraction(operation.factor), x)
    return product if isinstance(product, float) else product + Fraction(operation.shift)


@_operate.register
def _(operation: ir.expressions.Limit, x: Any) -> Fraction | float:
    low, high = (end if isinf(end) else Fraction(end) for end in (operation.low, operation.high))
    found: Fraction | float = low if x < low else high if x > high else x
    return found


# Arrangement.


@step.register
def _(op: ir.Concat, graph: ir.Graph, *inputs: Ints) -> Ints:
    return np.concatenate(inputs, axis=3)


@step.register
def _(op: ir.Gather, graph: ir.Graph, x: Ints) -> Ints:
    taken = x.reshape(len(x), -1)[:, op.order]
    filled = np.where(op.order < 0, _level(graph.quant(op.output), op.fill), taken)
    return filled.reshape(len(x), *graph.shape(op.output).array)


@step.register
def _(op: ir.Reshape, graph: ir.Graph, x: Ints) -> Ints:
    return x.reshape(len(x), *graph.shape(op.output).array)


@step.register
def _(op: ir.ArgMax, graph: ir.Graph, x: Ints) -> Ints:
    best: Ints = np.argmax(x.reshape(len(x), -1), axis=1).reshape(-1, 1, 1, 1)
    return best

"""The quantization scheme: which values share a ``Quant``, its choice, and the integer weights.

Widths come from a :class:`.Policy`. Activations are signed integers with a zero point, per tensor.
Weights are symmetric integers, per output channel. Biases are int32 of the scale
``float32(input scale * weight scale)``, as ONNX requires.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import singledispatch
from itertools import chain, count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import QuantizeError
from ..progress import Progress, silent
from .calibrate import METHODS, Method, Statistics, check_samples, measure, merge
from .float_model import patches
from .layer_error import LayerErrors
from .negligible import floors
from .pair import Pair
from .policy import DEFAULT, DEFAULT_BITS, Policy
from .proofs.requantizer import channel_stairs
from .proofs.rounding import limits
from .proofs.staircase import provable
from .rounding import Moments, Rounded, Rounding, compensated
from .sensitive import sensitive

__all__ = ["affine", "quantize", "shared", "types"]

# Wider activations get scales that are powers of two: the exact staircase of a wide output then has
# a short multiplier, at the cost of at most one bit of the range.
ANY_SCALE_BITS = 10
# The method that chooses one of the others for each value.
LAYER = "layer"
BIAS_HIGH = (1 << 31) - 1
# Shares of a channel's largest weight that narrow weights may span; larger weights are clipped.
SPANS = np.linspace(1, 0.4, 25)
# Widths of the requantizer's multiplier to aim for, the smallest first.
NUDGED_BITS = (12, 13, 14, 15, 16)
# Ratios to try a channel with: neighbours differ by less than a hundredth of a step.
TRIES = 12


@np.errstate(over="ignore", divide="ignore", invalid="ignore")  # infinities are refused in words
def quantize(
    graph: ir.Graph,
    samples: NDArray[Any] | ir.Feeds,
    method: str = "mse",
    bias_correction: bool = True,
    policy: Policy = DEFAULT,
    progress: Progress = silent,
    rounding: Rounding = Rounding.AUTO,
) -> ir.Graph:
    """The integer network of a float one, its ranges measured on ``samples``: an array
    [n, *port.shape] for each input, by name, or that of a lone input. What is quantized already, in
    a network with open values, stays as it is.

    ``method`` chooses each range: "minmax" (all that was seen), "percentile" (all but the outermost
    0.01 %), "mse" (least mean square error), or "layer" (of these and some between, the one with
    the least error of the layers that read the value). With ``bias_correction`` each bias
    compensates the mean shift that rounding the weights causes on the samples. ``policy`` gives the
    width of every tensor, ``rounding`` how weights are rounded. Raises DataError for samples that
    can not be used, and QuantizeError for a value that can not be quantized.
    """
    if method not in (*METHODS, LAYER):
        raise QuantizeError(
            f"unknown calibration method {method!r}; use one of {', '.join((*METHODS, LAYER))}"
        )
    policy.check(graph)
    check_samples(graph, samples)
    statistics = measure(graph, samples, progress)
    errors = LayerErrors(graph, samples, progress) if method == LAYER else None
    quants = _quants(graph, statistics, METHODS.get(method), policy, errors)
    values = [replace(value, quant=quants[value.name]) for value in graph.values.values()]
    typed = graph.replace(graph.ops, values)
    pair = Pair(graph, typed, samples, (op for op in graph if rounding.compensates(op, policy)))
    ops = []
    for number, op in enumerate(graph):
        progress(f"quantizing: {op.name}", number / len(graph.ops))
        made = op
        if not op.quantized:
            moments = pair.moments(op)
            made = _quantized(op, typed, statistics if bias_correction else None, policy, moments)
        pair.step(op, made)
        ops.append(made)
    outputs = (
        port if graph.values[port.value].quant else _output(port, typed) for port in graph.outputs
    )
    return replace(typed, ops=tuple(ops), outputs=tuple(outputs))


def _output(port: ir.OutputPort, graph: ir.Graph) -> ir.OutputPort:
    if isinstance(graph.producer(port.value), ir.ArgMax):
        return port
    return replace(port, tail=(ir.Dequantize(graph.quant(port.value)), *port.tail))


# Activations.


def shared(graph: ir.Graph) -> list[frozenset[str]]:
    """The values in groups that must have one ``Quant``."""
    group = {name: frozenset({name}) for name in graph.values}
    for op in graph:
        if op.selecting:
            joint = frozenset().union(*(group[name] for name in (*op.inputs, op.output)))
            group |= dict.fromkeys(joint, joint)
    return list(dict.fromkeys(group.values()))


def types(graph: ir.Graph, policy: Policy) -> dict[str, ir.Int]:
    """The type of every value: an integer input's own, else the widest that ``policy`` gives to a
    value that shares its ``Quant``.
    """
    ports = {port.value: port.integer for port in graph.inputs}
    ports |= {name: value.quant.dtype for name, value in graph.values.items() if value.quant}
    found: dict[str, ir.Int] = {}
    wide = sensitive(graph)
    for group in shared(graph):
        own = [dtype for name in sorted(group) if (dtype := ports.get(name)) is not None]
        chosen = (policy.activation(name, name in wide) for name in group)
        found |= dict.fromkeys(group, own[0] if own else max(chosen, key=lambda dtype: dtype.bits))
    return found


def affine(low: float, high: float, dtype: ir.Int) -> ir.Quant:
    """The ``Quant`` whose levels span ``low`` to ``high`` and 0, with 0 exactly on a level.

    The scale of a type above :data:`ANY_SCALE_BITS` is the next power of two.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    span = (high - low) / (dtype.high - dtype.low)
    scale = np.float32(min(span, float(np.finfo(np.float32).max)))
    if scale < np.finfo(np.float32).tiny:  # a value that is always 0: any scale will do
        scale = np.float32(1 / (1 << (dtype.bits - 1)))
    if dtype.bits > ANY_SCALE_BITS:
        scale = np.float32(2.0 ** np.ceil(np.log2(scale)))
    zero = round(dtype.low - low / float(scale))
    return ir.Quant(dtype, float(scale), min(max(zero, dtype.low), dtype.high))


def _quants(
    graph: ir.Graph,
    statistics: Mapping[str, Statistics],
    method: Method | None,
    policy: Policy,
    errors: LayerErrors | None,
) -> dict[str, ir.Quant]:
    quants: dict[str, ir.Quant] = {}
    dtypes = types(graph, policy)
    lowest = floors(graph, statistics, dtypes)
    decides = any(op.jumps for op in graph)
    for group in shared(graph):
        dtype = dtypes[next(iter(group))]
        known = {_known(graph, name, dtype) for name in group} - {PASSED_ON}
        quant = known.pop() if len(known) == 1 else None
        if quant is None:
            seen = merge([statistics[name] for name in sorted(group)])
            seen = seen.above(min(lowest[name] for name in group))
            quant = _whole(seen, dtype) if decides else None
        if quant is None and method is not None:
            quant = affine(*method(seen, dtype.high - dtype.low + 1), dtype)
        elif quant is None:
            assert errors is not None
            quant = errors.quant(group, seen, dtype, affine)
        quants |= dict.fromkeys(group, quant)
    return quants


def _whole(seen: Statistics, dtype: ir.Int) -> ir.Quant | None:
    """The finest levels of a power of two, among which is every whole number of the range, for a
    value that was whole on all samples, in a network that compares or rounds: it does so exactly.
    None where it was not, or where the type does not hold so many.
    """
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    span = dtype.high - dtype.low
    whole = low.is_integer() and high.is_integer() and bool((seen.kept % 1 == 0).all())
    if not whole or not 0 < high - low <= span:
        return None
    scale = 2.0 ** np.ceil(np.log2((high - low) / span))
    below = round(-low / scale)
    spare = span - round((high - low) / scale) if low else 0
    return ir.Quant(dtype, float(scale), dtype.low + below + spare // 2)


# Stands for the Quant of a value that an operator passes on unchanged.
PASSED_ON = ir.Quant(ir.Int(0, False), 0.0, 0)


def _known(graph: ir.Graph, name: str, dtype: ir.Int) -> ir.Quant | None:
    """The ``Quant`` that a value has, or that its source dictates; None to measure it."""
    if graph.values[name].quant is not None:
        return graph.values[name].quant
    port = next((port for port in graph.inputs if port.value == name), None)
    if port is None:
        op = graph.producer(name)
        assert op is not None
        return _natural(op, graph, dtype)
    return None if port.integer is None else ir.Quant(port.integer, 1.0, 0)


@singledispatch
def _natural(op: ir.Op, graph: ir.Graph, dtype: ir.Int) -> ir.Quant | None:
    return PASSED_ON if op.selecting else None


@_natural.register
def _(op: ir.ArgMax, graph: ir.Graph, dtype: ir.Int) -> ir.Quant | None:
    return ir.Quant(ir.Int.holding(0, graph.shape(op.inputs[0]).size - 1), 1.0, 0)


@_natural.register
def _(op: ir.Unary, graph: ir.Graph, dtype: ir.Int) -> ir.Quant | None:
    """The ``Quant`` that spans all that a bounded function can return; small integers as such."""
    if op.function.image is None or op.clamp != ir.Clamp():
        return None
    low, high = op.function.image
    if op.function.integral:
        return ir.Quant(dtype, 1.0, 0) if dtype.low <= low and high <= dtype.high else None
    scale = (high - low) / (1 << dtype.bits)
    zero = dtype.low - low / scale
    return ir.Quant(dtype, scale, int(zero)) if _float32(scale) == scale and zero % 1 == 0 else None


# Weights.


@singledispatch
def _quantized(
    op: ir.Op,
    graph: ir.Graph,
    statistics: Mapping[str, Statistics] | None,
    policy: Policy,
    moments: Moments | None,
) -> ir.Op:
    return op


@_quantized.register
def _(
    op: ir.Conv,
    graph: ir.Graph,
    statistics: Mapping[str, Statistics] | None,
    policy: Policy,
    moments: Moments | None,
) -> ir.Op:
    dtype = policy.weight(op.name)
    layer = _Layer.of(op, graph, statistics, dtype)
    if moments is not None:
        layer = replace(layer, rounded=compensated(op, moments, layer.high))
    scales = layer.plain_scales()
    channels = layer.nudged(scales) or [layer.channel(c, s) for c, s in enumerate(scales)]
    return replace(
        op,
        weight=np.stack([one.weight for one in channels]).astype(dtype.numpy),
        weight_scale=np.array([one.scale for one in channels], np.float32),
        bias=np.array([one.bias for one in channels], np.int32),
        bias_scale=np.array([layer.bias_scale(one.scale) for one in channels], np.float32),
    )


@dataclass(frozen=True, eq=False)
class _Channel:
    """The integers of one output channel, for one choice of its weight scale."""

    weight: NDArray[np.int64]
    bias: int
    scale: float


@dataclass(frozen=True, eq=False)
class _Layer:
    """A float convolution between quantized values. ``mean[g]``: the mean window of group g;
    ``bits``: those of the weights; ``corrected``: whether the bias makes up for their rounding;
    ``rounded``: the weights, where each is not rounded by itself.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    mean: NDArray[np.float64]
    x: ir.Quant
    y: ir.Quant
    clip: tuple[int, int]
    bits: int
    corrected: bool
    rounded: Rounded | None = None

    @classmethod
    def of(
        cls,
        op: ir.Conv,
        graph: ir.Graph,
        statistics: Mapping[str, Statistics] | None,
        dtype: ir.Int,
    ) -> "_Layer":
        y = graph.quant(op.output)
        bias = np.array([float(one) for one in op.exact_bias()])
        if not (np.isfinite(op.weight.astype(np.float64)).all() and np.isfinite(bias).all()):
            raise QuantizeError(
                f"{op.name}: its weights or bias hold NaN or infinity; export the "
                "model again from a healthy checkpoint"
            )
        mean = np.zeros((op.groups, *op.weight.shape[1:]))
        if statistics is not None:
            mean = _mean_window(op, statistics[op.inputs[0]].mean)
        each = op.channels // op.groups
        return cls(
            op.weight.astype(np.float64),
            bias,
            np.repeat(mean, each, axis=0),
            graph.quant(op.inputs[0]),
            y,
            limits(y, op.clamp),
            dtype.bits,
            statistics is not None,
        )

    @property
    def high(self) -> int:
        """The largest integer weight."""
        return (1 << (self.bits - 1)) - 1

    def plain_scales(self) -> list[float]:
        """The scale of each channel that makes its largest weight ``high``, within limits. Narrow
        weights are clipped where that lowers the mean square error.
        """
        flat = self.weight.reshape(len(self.weight), -1)
        unit = self.y.scale / self.x.scale
        # Smaller scales change no output by a step, or overflow the int32 bias. A channel without
        # weights rounds its bias to 1/256 of a step.
        least = np.maximum(unit * 2.0**-30, np.abs(self.bias) / self.x.scale / (BIAS_HIGH // 4))
        if self.rounded is None:
            spans = np.abs(flat).max(axis=1) * self._spans(flat) / self.high
        else:
            spans = self.rounded.scales * self.rounded.weight.any(axis=1)
        scales = np.where(spans > 0, spans, unit / 256)
        return [_float32(scale) for scale in np.maximum(scales, least)]

    def _spans(self, flat: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of each channel's largest weight to span for the least mean square error."""
        if self.bits >= DEFAULT_BITS:  # clipping gains next to nothing
            return np.ones(len(flat))
        peaks = np.abs(flat).max(axis=1, keepdims=True)
        errors = []
        for span in SPANS:
            scales = np.where(peaks > 0, peaks * span / self.high, 1.0)
            rounded = np.clip(np.rint(flat / scales), -self.high, self.high) * scales
            errors.append(np.square(flat - rounded).sum(axis=1))
        best: NDArray[np.float64] = SPANS[np.argmin(errors, axis=0)]
        return best

    def bias_scale(self, scale: float) -> float:
        return _float32(self.x.scale * scale)

    def channel(self, number: int, scale: float) -> _Channel:
        real = self.weight[number]
        if self.rounded is None:
            weight = np.clip(np.rint(real / scale), -self.high, self.high)
            shift = float(((real - weight * scale) * self.mean[number]).sum())
        else:
            flat = self.rounded.at(number, scale, self.high)
            weight = flat.reshape(real.shape)
            shift = self.rounded.shift(number, flat, scale) if self.corrected else 0.0
        bias = round((float(self.bias[number]) + shift) / self.bias_scale(scale))
        return _Channel(weight.astype(np.int64), min(max(bias, -BIAS_HIGH), BIAS_HIGH), scale)

    def nudged(self, scales: list[float]) -> list[_Channel] | None:
        """Channels with scales at most slightly above ``scales`` that all have a short multiplier;
        None where none is found.

        For the shift that makes the largest ratio of the layer ``bits`` wide, a channel that is
        not provable with its own scale takes the next odd multiplier above it, or one of the next
        few. (Sums that fall on a tie are far apart for an odd multiplier, and mostly out of range.)
        A wide output has too many steps for that search: its scales become short multiples of a
        power of two, which are exact between activations that have such scales.
        """
        if self.y.dtype.bits > ANY_SCALE_BITS:
            if not (_is_power_of_two(self.x.step) and _is_power_of_two(self.y.step)):
                return None
            return [self.channel(c, _short(scale)) for c, scale in enumerate(scales)]
        ratio = max(scales) * self.x.scale / self.y.scale
        for bits in NUDGED_BITS:
            shift = bits - int(np.floor(np.log2(ratio))) - 1
            if shift < 0:
                return None
            channels = [self._nudged(number, scale, shift) for number, scale in enumerate(scales)]
            proven = [channel for channel in channels if channel is not None]
            if len(proven) == len(channels):
                return proven
        return None

    def _nudged(self, number: int, scale: float, shift: int) -> _Channel | None:
        unit = 2.0**-shift * self.y.scale / self.x.scale
        first = int(np.ceil(scale / unit)) | 1
        ratios = (_float32(mult * unit) for mult in count(first, 2))
        candidates = (self.channel(number, each) for each in chain([scale], islice(ratios, TRIES)))
        return next((one for one in candidates if self._provable(one, shift)), None)

    def _provable(self, channel: _Channel, shift: int) -> bool:
        return provable(
            channel_stairs(
                self.x,
                self.y,
                self.clip,
                channel.weight,
                channel.scale,
                channel.bias * Fraction(self.bias_scale(channel.scale)),
            ),
            shift,
        )


def _mean_window(op: ir.Conv, mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over samples and positions of what each weight of a group meets, padding included."""
    taps = [tap.mean(axis=(0, 1, 2)) for tap in patches(mean[None], op.window, 0)]
    window = np.stack(taps).reshape(*op.window.kernel, op.groups, -1)
    return np.moveaxis(window, 2, 0)


def _is_power_of_two(step: Fraction) -> bool:
    return (
        (step.numerator & (step.numerator - 1)) == (step.denominator & (step.denominator - 1)) == 0
    )


def _short(scale: float) -> float:
    """The least number from ``scale`` up with a mantissa of the shortest multiplier's width."""
    mantissa, exponent = np.frexp(scale)
    return float(np.ldexp(np.ceil(np.ldexp(mantissa, NUDGED_BITS[0])), exponent - NUDGED_BITS[0]))


def _float32(x: float) -> float:
    return float(np.float32(x))

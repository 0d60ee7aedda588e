"""The quantization scheme: which values share a ``Quant``, its choice, and the integer weights.

Activations are int8 with a zero point, per tensor; weights are symmetric integers of 8 bits or
fewer (in -127..127 for 8), per channel; biases are int32 of the scale
``float32(input scale * weight scale)``, as ONNX wants.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import singledispatch
from itertools import chain, count, islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import QuantizeError
from .calibrate import METHODS, Method, Statistics, check_samples, measure, merge
from .float_model import patches
from .proofs.requantizer import channel_stairs
from .proofs.rounding import limits
from .proofs.staircase import provable

__all__ = ["WEIGHT_BITS", "affine", "quantize", "shared"]

ACTIVATION = ir.Int(8, True)
# Widths that weights may have, and the largest weight of the widest.
WEIGHT_BITS = range(2, 9)
WEIGHT_HIGH = 127
BIAS_HIGH = (1 << 31) - 1
# Shares of a channel's largest weight that narrow weights may span; what is beyond is clipped.
SPANS = np.linspace(1, 0.4, 25)
# Widths of the requantizer's multiplier to aim for, the least first.
NUDGED_BITS = (12, 13, 14, 15, 16)
# Ratios to try a channel with: next to each other, they differ by less than a hundredth of a step.
TRIES = 12


def quantize(
    graph: ir.Graph,
    samples: NDArray[Any],
    method: str = "mse",
    bias_correction: bool = True,
    weight_bits: int = 8,
    progress: Callable[[str], None] | None = None,
) -> ir.Graph:
    """The integer network of a float one, its ranges measured on ``samples`` [n, *port.shape].

    ``method`` chooses each range: "minmax" (all that was seen), "percentile" (all but the outermost
    0.01 %) or "mse" (least mean square error). With ``bias_correction`` each bias makes up for the
    mean shift that rounding the weights causes on the samples. Weights are within
    +-(2**(weight_bits - 1) - 1). Raises DataError for samples that can not be used, and
    QuantizeError for a value that can not be quantized.
    """
    if weight_bits not in WEIGHT_BITS:
        raise QuantizeError(
            f"weight_bits={weight_bits}: weights have {WEIGHT_BITS[0]} to "
            f"{WEIGHT_BITS[-1]} bits; choose one of those"
        )
    if method not in METHODS:
        raise QuantizeError(
            f"unknown calibration method {method!r}; use one of {', '.join(METHODS)}"
        )
    check_samples(graph, samples)
    statistics = measure(graph, samples, progress)
    quants = _quants(graph, statistics, METHODS[method])
    values = [replace(value, quant=quants[value.name]) for value in graph.values.values()]
    typed = graph.replace(graph.ops, values)
    ops = []
    for op in graph:
        if progress:
            progress(f"quantizing: {op.name}")
        ops.append(_quantized(op, typed, statistics, bias_correction, weight_bits))
    return replace(
        typed, ops=tuple(ops), outputs=tuple(_output(port, typed) for port in graph.outputs)
    )


def _output(port: ir.OutputPort, graph: ir.Graph) -> ir.OutputPort:
    if isinstance(graph.producer(port.value), ir.ArgMax):
        return port
    return replace(port, tail=(ir.Dequantize(graph.quant(port.value)), *port.tail))


# Activations.


def shared(graph: ir.Graph) -> list[frozenset[str]]:
    """The values in groups that must have one ``Quant``."""
    group = {name: frozenset({name}) for name in graph.values}
    for op in graph:
        if isinstance(op, ir.MaxPool | ir.Pad | ir.Reshape | ir.Concat):
            joint = frozenset().union(*(group[name] for name in (*op.inputs, op.output)))
            group |= dict.fromkeys(joint, joint)
    return list(dict.fromkeys(group.values()))


def affine(low: float, high: float, dtype: ir.Int = ACTIVATION) -> ir.Quant:
    """The ``Quant`` whose levels span ``low`` to ``high`` and 0, with 0 exactly on a level."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / (dtype.high - dtype.low))
    if scale < np.finfo(np.float32).tiny:  # a value that is always 0: any scale will do
        scale = np.float32(1 / 128)
    zero = round(dtype.low - low / float(scale))
    return ir.Quant(dtype, float(scale), min(max(zero, dtype.low), dtype.high))


def _quants(
    graph: ir.Graph, statistics: Mapping[str, Statistics], method: Method
) -> dict[str, ir.Quant]:
    quants: dict[str, ir.Quant] = {}
    for group in shared(graph):
        known = {_known(graph, name) for name in group} - {PASSED_ON}
        quant = known.pop() if len(known) == 1 else None
        if quant is None:
            seen = merge([statistics[name] for name in sorted(group)])
            quant = affine(*method(seen, ACTIVATION.high - ACTIVATION.low + 1))
        quants |= dict.fromkeys(group, quant)
    return quants


# Stands for the Quant of a value that an operator passes on unchanged.
PASSED_ON = ir.Quant(ir.Int(0, False), 0.0, 0)


def _known(graph: ir.Graph, name: str) -> ir.Quant | None:
    """The ``Quant`` that the source of a value dictates; None to measure it."""
    port = next((port for port in graph.inputs if port.value == name), None)
    if port is None:
        op = graph.producer(name)
        assert op is not None
        return _natural(op, graph)
    dtype = np.dtype(port.dtype)
    return (
        None
        if dtype.kind == "f"
        else ir.Quant(ir.Int(8 * dtype.itemsize, dtype.kind == "i"), 1.0, 0)
    )


@singledispatch
def _natural(op: ir.Op, graph: ir.Graph) -> ir.Quant | None:
    return None


@_natural.register(ir.MaxPool)
@_natural.register(ir.Pad)
@_natural.register(ir.Reshape)
@_natural.register(ir.Concat)
def _(op: ir.Op, graph: ir.Graph) -> ir.Quant | None:
    return PASSED_ON


@_natural.register
def _(op: ir.ArgMax, graph: ir.Graph) -> ir.Quant | None:
    return ir.Quant(ir.Int.holding(0, graph.shape(op.inputs[0]).size - 1), 1.0, 0)


@_natural.register
def _(op: ir.Unary, graph: ir.Graph) -> ir.Quant | None:
    return _image(op.function) if op.clamp == ir.Clamp() else None


@singledispatch
def _image(function: ir.Function) -> ir.Quant | None:
    """The ``Quant`` that spans all that a bounded function can return."""
    return None


@_image.register(ir.Sigmoid)
@_image.register(ir.HardSigmoid)
def _(function: ir.Function) -> ir.Quant | None:
    return ir.Quant(ACTIVATION, 1 / 256, -128)


@_image.register
def _(function: ir.Tanh) -> ir.Quant | None:
    return ir.Quant(ACTIVATION, 1 / 128, 0)


# Weights.


@singledispatch
def _quantized(
    op: ir.Op,
    graph: ir.Graph,
    statistics: Mapping[str, Statistics],
    bias_correction: bool,
    weight_bits: int,
) -> ir.Op:
    return op


@_quantized.register
def _(
    op: ir.Conv,
    graph: ir.Graph,
    statistics: Mapping[str, Statistics],
    bias_correction: bool,
    weight_bits: int,
) -> ir.Op:
    layer = _Layer.of(op, graph, statistics if bias_correction else None, weight_bits)
    scales = layer.plain_scales()
    channels = layer.nudged(scales) or [layer.channel(c, s) for c, s in enumerate(scales)]
    return replace(
        op,
        weight=np.stack([one.weight for one in channels]).astype(np.int8),
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
    ``high``: the largest integer weight.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    mean: NDArray[np.float64]
    x: ir.Quant
    y: ir.Quant
    clip: tuple[int, int]
    high: int

    @classmethod
    def of(
        cls,
        op: ir.Conv,
        graph: ir.Graph,
        statistics: Mapping[str, Statistics] | None,
        weight_bits: int,
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
            (1 << (weight_bits - 1)) - 1,
        )

    def plain_scales(self) -> list[float]:
        """The scale of each channel that makes its largest weight ``high``, within reason; of
        narrow weights the largest are clipped where the others gain more.
        """
        flat = self.weight.reshape(len(self.weight), -1)
        unit = self.y.scale / self.x.scale
        # Below: not a step in 2**30, or a bias beyond int32. Without weights: bias to 1/256 step.
        least = np.maximum(unit * 2.0**-30, np.abs(self.bias) / self.x.scale / (BIAS_HIGH // 4))
        peaks = np.abs(flat).max(axis=1) * self._spans(flat)
        scales = np.where(peaks > 0, peaks / self.high, unit / 256)
        return [_float32(scale) for scale in np.maximum(scales, least)]

    def _spans(self, flat: NDArray[np.float64]) -> NDArray[np.float64]:
        """The share of each channel's largest weight to span for the least mean square error."""
        if self.high == WEIGHT_HIGH:  # clipping would gain next to nothing
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
        weight = np.clip(np.rint(real / scale), -self.high, self.high)
        shift = float(((real - weight * scale) * self.mean[number]).sum())
        bias = round((float(self.bias[number]) + shift) / self.bias_scale(scale))
        return _Channel(weight.astype(np.int64), min(max(bias, -BIAS_HIGH), BIAS_HIGH), scale)

    def nudged(self, scales: list[float]) -> list[_Channel] | None:
        """Channels with scales at most slightly above ``scales`` that all have a short multiplier.

        For the shift that makes the largest ratio of the layer ``bits`` wide, a channel that is
        not provable as it is takes the least odd multiplier that its scale can grow to, or one of
        the next. (Odd: sums that fall on a tie are then as far apart as can be, and mostly out of
        range.)
        """
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


def _float32(x: float) -> float:
    return float(np.float32(x))

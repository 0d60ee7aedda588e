"""Cross-layer equalization: channels of a value get similar ranges, and the network stays the same.

A value has one scale for all channels, so a channel of small numbers has few levels. Where a
convolution computes it and only convolutions read it, each channel can be divided by a factor that
the readers' weights multiply by (Nagel et al., "Data-Free Quantization", ICCV 2019; between ranges
of activations and weights: Xiao et al., "SmoothQuant", ICML 2023). Factors are powers of two, so
that the float network computes the same numbers, bit for bit. They are used where they lower the
error that is measured on the samples.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import singledispatch
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..progress import Progress, silent
from .calibrate import METHODS, Statistics, mean_square
from .float_model import Floats, apply, evaluate, model_input
from .pair import spread
from .policy import DEFAULT, Policy
from .scheme import affine, types
from .sensitive import sensitive

__all__ = ["Equalized", "equalized"]

Factors = NDArray[np.float32]

#: samples that show the errors
SAMPLES = 32
#: how much of a channel's range moves into the weights; the best one is taken
SHARES = (0.25, 0.5, 0.75)
#: the exponents of two that a factor may have
FARTHEST = 8
#: the share of the error that is left at most, for factors that are worth it
GAIN = 0.98


@dataclass(frozen=True, eq=False)
class Equalized:
    """A float network, and the factors of the values whose channels it divides: ``factors[name]``
    [channels] times the value is the value of the network before.
    """

    graph: ir.Graph
    factors: Mapping[str, Factors]


def equalized(
    graph: ir.Graph,
    samples: NDArray[Any] | ir.Feeds,
    method: str = "mse",
    policy: Policy = DEFAULT,
    progress: Progress = silent,
) -> Equalized:
    """The float network with channels divided where that lowers the measured error.

    Before: ``m = clamp(conv x, w, b);  y = conv m, v``
    After:  ``m = clamp(conv x, w / f, b / f);  y = conv m, v * f``, ``f`` a power of two a channel
    Exact:  the clamp (none, or Relu) and what lies between commute with positive factors.

    The error is the noise at the outputs of the readers, relative to their power, when ``m`` and
    their weights are rounded as ``method`` and ``policy`` say. Quantized parts, outputs and values
    that need more bits stay as they are, and so do networks that compare or round.
    """
    if any(op.jumps for op in graph):
        return Equalized(graph, {})  # whole numbers stay on levels, to be compared exactly
    values = evaluate(graph, model_input(graph, spread(graph, samples, SAMPLES)))
    work = _Work(graph, values, method, policy)
    sources = [op for op in graph if isinstance(op, ir.Conv)]
    for number, op in enumerate(sources):
        progress(f"equalizing: {op.name}", number / len(sources))
        work.equalize(op.output)
    return Equalized(work.graph, work.factors)


# What may lie between: operators that commute with a positive factor for each channel.


@singledispatch
def _passed(op: ir.Op, factor: Factors, graph: ir.Graph) -> Factors | None:
    """The factors of the output's channels for those of the input's; None where there are none."""
    return None


@_passed.register
def _(op: ir.MaxPool, factor: Factors, graph: ir.Graph) -> Factors | None:
    return factor


@_passed.register
def _(op: ir.AveragePool, factor: Factors, graph: ir.Graph) -> Factors | None:
    return factor if _homogeneous(op.clamp) else None


@_passed.register
def _(op: ir.Pad, factor: Factors, graph: ir.Graph) -> Factors | None:
    return factor if op.fill == 0 else None


@_passed.register
def _(op: ir.Unary, factor: Factors, graph: ir.Graph) -> Factors | None:
    return factor if op.function.homogeneous and _homogeneous(op.clamp) else None


@_passed.register
def _(op: ir.Reshape, factor: Factors, graph: ir.Graph) -> Factors | None:
    """The stream stays: element ``n`` belongs to channel ``n`` modulo their number."""
    channels = graph.shape(op.output).channels
    times, left = divmod(channels, len(factor))
    return None if left else np.tile(factor, times)


def _homogeneous(clamp: ir.Clamp) -> bool:
    return clamp.low in (-inf, 0) and clamp.high == inf


@dataclass(frozen=True, eq=False)
class _Site:
    """A value that can be divided: the convolution that computes it, the ``values`` that are
    divided with it, the ``readers`` that multiply.
    """

    source: ir.Conv
    values: tuple[str, ...]
    readers: tuple[ir.Conv, ...]


@dataclass(eq=False)
class _Work:
    graph: ir.Graph
    values: dict[str, Floats]
    method: str
    policy: Policy

    def __post_init__(self) -> None:
        self.factors: dict[str, Factors] = {}
        self._types = types(self.graph, self.policy)
        self._sensitive = sensitive(self.graph)
        self._kept = {port.value for port in self.graph.outputs} | self._sensitive

    def equalize(self, output: str) -> None:
        """Divide ``output``, of a convolution, by the best of some factors, if any is good."""
        source = next(op for op in self.graph if op.output == output)
        site = self._site(source)
        if site is None:
            return
        ones = np.ones(site.source.channels, np.float32)
        trials = {ones.tobytes(): ones}
        for share in SHARES:
            factor = self._balanced(site, share)
            trials[factor.tobytes()] = factor
        errors = [self._error(site, factor) for factor in trials.values()]
        best = int(np.argmin(errors))
        if errors[best] < GAIN * errors[0]:
            self._take(site, list(trials.values())[best])

    def _site(self, source: ir.Op) -> _Site | None:
        if not isinstance(source, ir.Conv) or source.quantized or not _homogeneous(source.clamp):
            return None
        ones = np.ones(source.channels, np.float32)
        found, readers, pending = [source.output], list[ir.Conv](), [(source.output, ones)]
        while pending:
            name, factor = pending.pop()
            if name in self._kept or self.graph.values[name].quant is not None:
                return None
            for op in self.graph:
                if name not in op.inputs:
                    continue
                if (
                    isinstance(op, ir.Conv)
                    and not op.quantized
                    and op.output not in self._sensitive
                ):
                    readers.append(op)
                    continue
                passed = _passed(op, factor, self.graph)
                if passed is None:
                    return None
                found.append(op.output)
                pending.append((op.output, passed))
        return _Site(source, tuple(found), tuple(readers)) if readers else None

    def _spread(self, site: _Site, factor: Factors) -> dict[str, Factors]:
        """The factors of each divided value."""
        found = {site.source.output: factor}
        for name in site.values[1:]:
            op = self.graph.producer(name)
            assert op is not None
            passed = _passed(op, found[op.inputs[0]], self.graph)
            assert passed is not None
            found[name] = passed
        return found

    def _balanced(self, site: _Site, share: float) -> Factors:
        """``range of values ** share / range of weights ** (1 - share)``, as powers of two around
        1; 1 where a channel has no range.
        """
        channels = site.source.channels
        seen, weights = np.zeros(channels), np.zeros(channels)
        for op in site.readers:
            x = np.abs(self.values[op.inputs[0]]).max(axis=(0, 1, 2))
            w = np.abs(op.weight).max(axis=(1, 2)).reshape(op.groups, -1, op.weight.shape[3])
            for total, each in ((seen, x), (weights, w.max(axis=1).reshape(-1))):
                np.maximum(total, each.reshape(-1, channels).max(axis=0), out=total)
        alive = (seen > 0) & (weights > 0)
        if not alive.any():
            return np.ones(channels, np.float32)
        power = share * np.log2(seen, where=alive, out=np.zeros(channels))
        power -= (1 - share) * np.log2(weights, where=alive, out=np.zeros(channels))
        power = np.where(alive, np.rint(power - np.median(power[alive])), 0)
        return np.exp2(np.clip(power, -FARTHEST, FARTHEST)).astype(np.float32)

    def _error(self, site: _Site, factor: Factors) -> float:
        """The noise that rounding the divided values and the readers' weights makes."""
        spread_factors = self._spread(site, factor)
        found = 0.0
        for op in site.readers:
            own = spread_factors[op.inputs[0]]
            x = self.values[op.inputs[0]] / own
            read = replace(op, weight=self._rounded(_multiplied(op, own)))
            exact = self.values[op.output]
            off = apply(read, self._levels(op.inputs[0], x)).reshape(exact.shape) - exact
            power = float(np.square(exact, dtype=np.float64).mean())
            found += float(np.square(off, dtype=np.float64).mean()) / power if power else 0.0
        return found

    def _levels(self, name: str, x: Floats) -> Floats:
        dtype = self._types[name]
        seen = Statistics(float(x.min()), float(x.max()), x.reshape(-1), x.mean(axis=0))
        low, high = METHODS.get(self.method, mean_square)(seen, dtype.high - dtype.low + 1)
        quant = affine(low, high, dtype)
        return np.asarray(quant.dequantize(quant.quantize(x)), np.float32)

    def _rounded(self, op: ir.Conv) -> Floats:
        high = self.policy.weight(op.name).high
        peaks = np.abs(op.weight).max(axis=(1, 2, 3), keepdims=True)
        scale = np.where(peaks > 0, peaks / high, 1)
        return np.asarray(np.rint(op.weight / scale) * scale, np.float32)

    def _take(self, site: _Site, factor: Factors) -> None:
        spread_factors = self._spread(site, factor)
        made: dict[str, ir.Op] = {site.source.output: _divided(site.source, factor)}
        for op in site.readers:
            made[op.output] = _multiplied(op, spread_factors[op.inputs[0]])
        self.graph = self.graph.replace(made.get(op.output, op) for op in self.graph)
        for name, each in spread_factors.items():
            self.values[name] = self.values[name] / each
            self.factors[name] = each


def _divided(op: ir.Conv, factor: Factors) -> ir.Conv:
    """The convolution whose output channels are divided."""
    bias = None if op.bias is None else (op.bias / factor).astype(np.float32)
    weight = (op.weight / factor[:, None, None, None]).astype(np.float32)
    return replace(op, weight=weight, bias=bias)


def _multiplied(op: ir.Conv, factor: Factors) -> ir.Conv:
    """The convolution that computes the same of input channels that are divided."""
    each = np.repeat(factor.reshape(op.groups, -1), op.channels // op.groups, axis=0)
    return replace(op, weight=(op.weight * each[:, None, None, :]).astype(np.float32))

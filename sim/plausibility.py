"""Warnings: samples that do not fit the calibration, and classes that no trained network gives."""

from dataclasses import dataclass, field
from math import inf

import numpy as np
from numpy.typing import NDArray

from ..compiler import ir

__all__ = ["InputRanges", "chance_warning", "agreement_warning"]

#: share of an input's values that may saturate
_SATURATED = 0.01
#: narrower types saturate values that calibration has seen
_CLIPPING_BITS = 6
#: values may be so many times as large as the largest that was calibrated, and not smaller than it
#: by the second factor
_BEYOND, _BELOW = 5, 50
#: fewest samples that say something about a network
_FEW, _FEW_LABELS = 10, 50


@dataclass
class _Seen:
    """Values of one input: how many, how many of them saturate, and their range."""

    values: int = 0
    saturated: int = 0
    low: float = inf
    high: float = -inf


@dataclass(frozen=True)
class InputRanges:
    """The values that come into the float inputs of ``graph``, against the ranges that they are
    quantized in.
    """

    graph: ir.Graph
    seen: dict[str, _Seen] = field(default_factory=dict)

    def add(self, x: ir.Feeds) -> None:
        """Count more samples: the arrays of the hardware's inputs, by name."""
        for port in self.graph.inputs:
            if port.integer is not None or not x[port.name].size:
                continue
            quant, real = self.graph.quant(port.value), x[port.name]
            low, high = _range(quant)
            outside = (real < low - quant.scale / 2) | (real > high + quant.scale / 2)
            seen = self.seen.setdefault(port.name, _Seen())
            seen.values += real.size
            seen.saturated += int(np.count_nonzero(outside))
            seen.low = min(seen.low, float(real.min()))
            seen.high = max(seen.high, float(real.max()))

    def warnings(self) -> list[str]:
        """A message for each input whose values lie far outside its range, or in a small part."""
        quants = {port.name: self.graph.quant(port.value) for port in self.graph.inputs}
        found = ((name, _problem(quants[name], seen), seen) for name, seen in self.seen.items())
        return [
            f"{name}: {problem}: the samples are {seen.low:.4g} to {seen.high:.4g}, the range of "
            f"the calibration is {_text(quants[name])}; are they normalized as the samples of the "
            "calibration were?"
            for name, problem, seen in found
            if problem
        ]


def _problem(quant: ir.Quant, seen: _Seen) -> str | None:
    reach = max(map(abs, _range(quant)))
    largest = max(abs(seen.low), abs(seen.high))
    share = seen.saturated / seen.values
    many = share > _SATURATED and quant.dtype.bits >= _CLIPPING_BITS
    if many or (seen.saturated and largest > _BEYOND * reach):
        return f"{_percent(share)} of the values saturate"
    if 0 < largest * _BELOW < reach:
        return f"the values use less than 1/{_BELOW} of the range"
    return None


def _range(quant: ir.Quant) -> tuple[float, float]:
    """The least and the greatest number that the integers stand for."""
    dtype = quant.dtype
    return (dtype.low - quant.zero) * quant.scale, (dtype.high - quant.zero) * quant.scale


def _text(quant: ir.Quant) -> str:
    low, high = _range(quant)
    return f"{low:.4g} to {high:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %" if share >= 0.001 else "less than 0.1 %"


def agreement_warning(agreement: float | None, samples: int) -> list[str]:
    """A message when float and integer network give the same class for less than half of enough
    samples.
    """
    if agreement is None or agreement >= 0.5 or samples < _FEW:
        return []
    return [
        f"the integer network agrees with the float one on {_percent(agreement)} of {samples:,} "
        "samples; check that the samples are normalized as those of the calibration were, that "
        "the calibration had samples of all kinds, and the widths"
    ]


def chance_warning(
    network: str, top1: float | None, labels: NDArray[np.int64] | None, scores: int
) -> list[str]:
    """A message when ``top1``, the accuracy of the ``network`` on enough samples, is that of
    guesses. ``scores``: how many classes it knows; 1 where its output is a class's number.
    """
    if top1 is None or labels is None or len(labels) < _FEW_LABELS:
        return []
    classes = scores if scores > 1 else int(labels.max()) + 1
    if classes < 2 or top1 > min(1.5 / classes, 1 / classes + 0.1):
        return []
    return [
        f"the {network} network is right on {100 * top1:.1f} % of {len(labels):,} samples, as "
        f"guesses among {classes} classes are; check the samples' normalization, the order of "
        "their channels (RGB or BGR) and axes, and that y numbers the classes as the network does"
    ]

"""Calibration: run samples through the float network and measure every value."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import DataError, QuantizeError
from ..ir.feeds import count, take
from ..progress import Progress, silent
from ..sample_layout import layout_advice
from .float_model import evaluate, model_input

__all__ = [
    "METHODS",
    "Method",
    "Statistics",
    "check_samples",
    "mean_square",
    "measure",
    "merge",
    "minmax",
    "percentile",
]

# Enough elements of a value to know its distribution, spread over all samples.
KEPT = 1 << 16
# Elements of the largest value in memory at a time.
CHUNK = 1 << 21


@dataclass(frozen=True, eq=False)
class Statistics:
    """Statistics of a value over samples: extremes, some elements, and the mean map [H,W,C]."""

    low: float
    high: float
    kept: NDArray[np.float32]
    mean: NDArray[np.float64]

    def above(self, floor: float) -> "Statistics":
        """As if all numbers below ``floor`` had been ``floor``; the mean as it is."""
        if floor <= self.low:
            return self
        kept = np.maximum(self.kept, np.float32(floor))
        return replace(self, low=floor, high=max(self.high, floor), kept=kept)


def check_samples(graph: ir.Graph, samples: NDArray[Any] | ir.Feeds) -> None:
    """Refuse samples (DataError) that are missing, mis-shaped, not numbers or not finite."""
    given = ir.feeds(graph, samples)
    for port in graph.inputs:
        _check_port(port, given[port.name])


def _check_port(port: ir.InputPort, samples: NDArray[Any]) -> None:
    wanted = f"[samples, {', '.join(str(size) for size in port.shape)}]"
    if samples.dtype.kind not in "fiub":
        raise DataError(
            f"calibration samples are of type {samples.dtype}, not numbers; give an "
            f"array {wanted} of {port.dtype} for {port.name}"
        )
    if samples.shape[1:] != port.shape or samples.ndim == 0:
        raise DataError(
            f"calibration samples have shape {list(samples.shape)}, but {port.name} takes "
            f"{wanted}: {layout_advice(samples.shape, port.shape, 'x')}"
        )
    if len(samples) == 0:
        raise DataError(
            f"there are no calibration samples; give some as an array {wanted} for "
            f"{port.name}, 100 or more that look like real inputs"
        )
    finite = np.isfinite(samples).reshape(len(samples), -1).all(axis=1)
    if not finite.all():
        raise DataError(
            f"calibration sample {int(np.argmin(finite))} of {port.name} holds NaN or infinity; "
            f"remove it ({int((~finite).sum())} of {len(samples)} samples do)"
        )


def _chunks(graph: ir.Graph, samples: ir.Feeds) -> Iterator[dict[str, NDArray[Any]]]:
    largest = max(value.shape.size for value in graph.values.values())
    size = count(samples) if graph.keeps else max(1, min(64, CHUNK // largest))
    for start in range(0, count(samples), size):
        yield take(samples, slice(start, start + size))


def measure(
    graph: ir.Graph,
    samples: NDArray[Any] | ir.Feeds,
    progress: Progress = silent,
) -> dict[str, Statistics]:
    """Statistics of every value of a float graph over ``samples`` of each input, by name,
    ``[n, *port.shape]``; those of a lone input may be given by themselves.
    """
    rng = np.random.default_rng(0)
    parts: dict[str, list[Statistics]] = {name: [] for name in graph.values}
    given = ir.feeds(graph, samples)
    total, done = count(given), 0
    weights = []
    for chunk in _chunks(graph, given):
        for name, value in evaluate(graph, model_input(graph, chunk)).items():
            parts[name].append(_statistics(name, value, total, rng))
        done += count(chunk)
        weights.append(count(chunk) / total)
        progress(f"calibrating: {done} of {total} samples")
    return {name: merge(each, weights) for name, each in parts.items() if each}


def _statistics(
    name: str, value: NDArray[np.float32], samples: int, rng: np.random.Generator
) -> Statistics:
    low, high = float(value.min()), float(value.max())
    if not np.isfinite([low, high]).all():
        raise QuantizeError(
            f"{name} becomes infinite or NaN on the calibration samples; look for "
            "samples outside the range that the model was trained on"
        )
    share = max(1, KEPT * len(value) // samples)
    flat = value.reshape(-1)
    kept = flat if flat.size <= share else flat[rng.integers(0, flat.size, share)]
    return Statistics(low, high, kept, value.mean(axis=0, dtype=np.float64))


def merge(parts: Sequence[Statistics], weights: Sequence[float] | None = None) -> Statistics:
    """Statistics of several parts together; the mean is the weighted one (of maps of one shape)."""
    mean = parts[0].mean
    if weights is not None:
        mean = np.sum(
            [part.mean * weight for part, weight in zip(parts, weights, strict=True)], axis=0
        )
    return Statistics(
        min(part.low for part in parts),
        max(part.high for part in parts),
        np.concatenate([part.kept for part in parts]),
        mean,
    )


# Which range to keep of a distribution: each method maps statistics to (low, high).

Method = Callable[[Statistics, int], tuple[float, float]]


def minmax(statistics: Statistics, levels: int) -> tuple[float, float]:
    """All values that occurred."""
    return statistics.low, statistics.high


def percentile(statistics: Statistics, levels: int) -> tuple[float, float]:
    """All but the outermost 0.01 % on either side."""
    low, high = np.percentile(statistics.kept, (0.01, 99.99))
    return float(low), float(high)


def mean_square(statistics: Statistics, number: int) -> tuple[float, float]:
    """The range whose rounding and clipping errors have the least mean square."""
    if statistics.low == statistics.high:
        return statistics.low, statistics.high
    kept = statistics.kept.astype(np.float64)  # float32 can not divide every range into 4096
    counts, edges = np.histogram(kept, 4096, (statistics.low, statistics.high))
    centres = (edges[1:] + edges[:-1]) / 2
    cuts = np.linspace(1, 0.3, 15)
    trials = [
        (statistics.low * low, statistics.high * high)
        for low in (cuts if statistics.low < 0 else cuts[:1])
        for high in (cuts if statistics.high > 0 else cuts[:1])
    ]

    def error(trial: tuple[float, float]) -> float:
        low, high = min(trial[0], 0), max(trial[1], 0)
        scale = (high - low) / (number - 1) or 1.0
        levels = np.clip(np.rint(centres / scale), np.rint(low / scale), np.rint(high / scale))
        return float(counts @ np.square(levels * scale - centres))

    return min(trials, key=error)


METHODS: dict[str, Method] = {"minmax": minmax, "percentile": percentile, "mse": mean_square}

"""Weights rounded for the least error of a layer's output, in place of the least error of each.

The error of an output channel over the samples is a quadratic form of its weights' errors, whose
matrix is the second moment of what the weights meet. Rounding column after column, each error is
compensated by the weights that are still real (optimal brain quantization: Frantar et al., "GPTQ",
ICLR 2023); then single weights change by steps as long as the form decreases.
"""

from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from .. import ir
from .float_model import Floats, patches
from .policy import DEFAULT_BITS, Policy

__all__ = ["LARGEST_REDUCTION", "Moments", "Rounded", "Rounding", "compensated"]

Reals = NDArray[np.float64]

#: products of an output for which a second moment is measured: a square matrix of so many rows
LARGEST_REDUCTION = 2304
# Share of the mean second moment that every direction has at least, though no sample shows it.
DAMPING = 0.05
# Share of the mean square below which a variance is taken as none.
NEGLIGIBLE = 1e-6
# Shares of the scale with the least weighted error of each weight alone that are tried.
FACTORS = (0.85, 0.925, 1.0, 1.08)
# Passes over all weights of a layer that change single ones.
PASSES = 4
# Rows of windows that are multiplied at a time.
ROWS = 1 << 15


class Rounding(Enum):
    """How the weights of a network are rounded."""

    NEAREST = "nearest"
    COMPENSATED = "compensated"
    #: compensated where weights or what enters are below the usual width
    AUTO = "auto"

    def compensates(self, op: ir.Op, policy: Policy) -> bool:
        """Whether the weights of ``op`` are rounded for the least error of its output."""
        if not isinstance(op, ir.Conv) or op.quantized or op.reduction > LARGEST_REDUCTION:
            return False
        if self is Rounding.AUTO:
            entering = policy.activation(op.inputs[0]).bits
            return min(policy.weight(op.name).bits, entering) < DEFAULT_BITS
        return self is Rounding.COMPENSATED


@dataclass(frozen=True, eq=False)
class Moments:
    """What the weights of a convolution meet over samples, [groups, products, ...].

    ``mean``: of the inputs of the integer network. ``real``: of those of the float network.
    ``square``: second central moment of the first. ``cross``: that of the second with the first.
    """

    mean: Reals
    real: Reals
    square: Reals
    cross: Reals

    @classmethod
    def of(cls, op: ir.Conv, found: Floats, real: Floats) -> "Moments":
        """For the maps [frames, H, W, C] that enter ``op`` in the two networks."""
        groups, size = op.groups, op.reduction
        sums = np.zeros((2, groups, size))
        products = np.zeros((2, groups, size, size))
        rows = 0
        per_frame = max(1, patches(real[:1], op.window, 0)[0][..., 0].size)
        step = max(1, ROWS // per_frame)
        for start in range(0, len(real), step):
            one, other = (
                _rows(op, maps[start : start + step], groups, size) for maps in (found, real)
            )
            rows += one.shape[1]
            sums += np.stack([one.sum(1), other.sum(1)])
            products[0] += np.swapaxes(one, 1, 2) @ one
            products[1] += np.swapaxes(other, 1, 2) @ one
        mean, real_mean = sums / rows
        square = products[0] / rows - mean[:, :, None] * mean[:, None, :]
        cross = products[1] / rows - real_mean[:, :, None] * mean[:, None, :]
        return cls(mean, real_mean, square, cross)


def _rows(op: ir.Conv, maps: Floats, groups: int, size: int) -> Reals:
    """What the weights meet at every output pixel: [groups, pixels, products]."""
    taps = np.stack(patches(maps, op.window, 0), axis=-2)
    split = taps.reshape(-1, taps.shape[-2], groups, taps.shape[-1] // groups)
    return np.moveaxis(split, 2, 0).reshape(groups, -1, size).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Rounded:
    """Integer ``weight`` [channels, products] and the ``scales`` that it was made for.

    ``wanted`` [channels]: the mean sum of products of the float network. ``mean`` [channels,
    products]: what the integers meet on average.
    """

    weight: NDArray[np.int64]
    scales: Reals
    wanted: Reals
    mean: Reals

    def at(self, number: int, scale: float, high: int) -> NDArray[np.int64]:
        """The integers of one channel for a ``scale`` that is slightly above its own."""
        ratio = self.scales[number] / scale
        integers: Reals = np.clip(np.rint(self.weight[number] * ratio), -high, high)
        return integers.astype(np.int64)

    def shift(self, number: int, weight: NDArray[np.int64], scale: float) -> float:
        """What the bias of a channel has to make up for."""
        met = float((weight * self.mean[number]).sum())
        return float(self.wanted[number]) - met * scale


def compensated(op: ir.Conv, moments: Moments, high: int) -> Rounded:
    """The weights of ``op`` as integers of -``high`` to ``high``, a scale a channel."""
    weight = op.weight.reshape(op.channels, -1).astype(np.float64)
    each = op.channels // op.groups
    integers, scales = np.zeros(weight.shape, np.int64), np.zeros(op.channels)
    for group in range(op.groups):
        own = slice(group * each, (group + 1) * each)
        matrix, target = _problem(weight[own], moments, group)
        integers[own], scales[own] = _rounded(target, matrix, high)
    return Rounded(
        integers,
        scales,
        (weight * np.repeat(moments.real, each, axis=0)).sum(1),
        np.repeat(moments.mean, each, axis=0),
    )


def _problem(weight: Reals, moments: Moments, group: int) -> tuple[Reals, Reals]:
    """The quadratic form, and the real weights that are best for the integer network's inputs."""
    square = moments.square[group]
    size = len(square)
    # Of inputs that hardly vary the moment is little more than an error of rounding.
    power = float(np.square(moments.mean[group]).mean())
    floor = DAMPING * max(float(np.trace(square)) / size, NEGLIGIBLE * power) or 1.0
    matrix = square + floor * np.eye(size)
    gradient = weight @ (moments.cross[group] - square)
    target = weight + np.linalg.solve(matrix, gradient.T).T
    return matrix, target


def _rounded(target: Reals, matrix: Reals, high: int) -> tuple[NDArray[np.int64], Reals]:
    """The best of a few scales for each row of ``target``."""
    base = _scales(target, np.diag(matrix), high)
    best, scales, least = np.zeros(target.shape), base, np.full(len(target), np.inf)
    order = np.argsort(-np.diag(matrix), kind="stable")
    factor = np.linalg.cholesky(np.linalg.inv(matrix[np.ix_(order, order)])).T
    for share in FACTORS:
        trial = base * share
        integers = np.empty_like(target)
        integers[:, order] = _columns(target[:, order], trial[:, None], factor, high)
        integers = _descend(integers, target, trial[:, None], matrix, high)
        error = integers * trial[:, None] - target
        cost = ((error @ matrix) * error).sum(1)
        better = cost < least
        best[better], least = integers[better], np.where(better, cost, least)
        scales = np.where(better, trial, scales)
    return best.astype(np.int64), scales


def _scales(target: Reals, weights: Reals, high: int) -> Reals:
    """The scale of each row with the least weighted error when each element is rounded alone."""
    peaks = np.abs(target).max(1)
    peaks = np.where(peaks > 0, peaks, 1.0)
    trials = np.linspace(1, 0.3, 36)[:, None] * peaks / high
    errors = [
        (np.square(np.clip(np.rint(target / one), -high, high) * one - target) @ weights)
        for one in trials[..., None]
    ]
    return np.asarray(trials[np.argmin(errors, axis=0), np.arange(len(target))])


def _columns(target: Reals, scale: Reals, factor: Reals, high: int) -> Reals:
    """Round column after column; what a column is off by moves into the columns after it."""
    left, integers = target.copy(), np.empty_like(target)
    for column in range(target.shape[1]):
        integers[:, column] = np.clip(np.rint(left[:, column] / scale[:, 0]), -high, high)
        off = (left[:, column] - integers[:, column] * scale[:, 0]) / factor[column, column]
        left[:, column:] -= off[:, None] * factor[column, column:]
    return integers


def _descend(integers: Reals, target: Reals, scale: Reals, matrix: Reals, high: int) -> Reals:
    """Change weights one column at a time to the integers that are best with all others fixed."""
    integers = integers.copy()
    slope = (integers * scale - target) @ matrix
    for _ in range(PASSES):
        before = integers.copy()
        for column in range(target.shape[1]):
            exact = integers[:, column] - slope[:, column] / (scale[:, 0] * matrix[column, column])
            change = np.clip(np.rint(exact), -high, high) - integers[:, column]
            if change.any():
                integers[:, column] += change
                slope += (change * scale[:, 0])[:, None] * matrix[column]
        if (before == integers).all():
            break
    return integers

"""Resize and Upsample that interpolate: a convolution of phases, or weighted sums of neighbours.

An output along an axis is a sum of a few inputs, those beyond the ends being the outermost. Where
these sums recur with a short period, as for whole factors, all outputs of a period are channels of
one depthwise convolution over the map with its edges repeated. Others are the sums, each with its
own weights, of neighbours that are brought side by side.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import lcm, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .operands import Operand, activation, bounded, constant, slid
from .resize import factors_of, modes_of
from .source import Node
from .tensors import Tensor

__all__ = ["interpolated"]

#: outputs after which sums along an axis recur at the latest, where they are a convolution
PERIOD = 16
#: the fraction that a scale stands for is searched up to this denominator
DENOMINATOR = 1 << 10
#: the largest common denominator of weights, which are integers of 16 bits
LARGEST = (1 << 15) - 1
#: what floats of a fraction are apart from it at most
_GRAIN = 1e-12
#: taps of a convolution along an axis for each weight that is not zero
WASTE = 2


@dataclass(frozen=True, eq=False)
class Sums:
    """How an axis is resampled: output ``o`` is the sum of ``weight[o] * x[index[o]]``. An index
    beyond an end stands for the outermost element.
    """

    size: int
    index: NDArray[np.int64]
    weight: NDArray[np.float64]

    @classmethod
    def identity(cls, size: int) -> "Sums":
        return cls(size, np.arange(size)[:, None], np.ones((size, 1)))

    @property
    def taps(self) -> int:
        """Inputs of each sum."""
        return int(self.index.shape[1])

    @property
    def still(self) -> bool:
        """Whether the axis stays as it is."""
        return self.taps == 1 and np.array_equal(self.index[:, 0], np.arange(self.size))

    @property
    def clipped(self) -> NDArray[np.int64]:
        return np.clip(self.index, 0, self.size - 1)

    def periods(self) -> "Periods | None":
        """The sums as windows; None where they do not recur soon, or fill windows badly."""
        for count in range(1, min(PERIOD, len(self.index)) + 1):
            step = self._step(count)
            if step is None:
                continue
            base, last = int(self.index[:count].min()), int(self.index[:count].max())
            kernel = np.zeros((count, last - base + 1))
            rows = np.arange(count)[:, None]
            np.add.at(kernel, (rows, self.index[:count] - base), self.weight[:count])
            found = Periods(len(self.index), base, step, kernel)
            return found if kernel.size <= WASTE * self.index[:count].size else None
        return None

    def _step(self, count: int) -> int | None:
        """By how much all indices grow after ``count`` outputs, whose weights then recur."""
        if count == len(self.index):
            return self.size
        steps = np.unique(self.index[count:] - self.index[:-count])
        recur = np.allclose(self.weight[count:], self.weight[:-count], rtol=0, atol=1e-9)
        return int(steps[0]) if steps.size == 1 and steps[0] > 0 and recur else None


@dataclass(frozen=True, eq=False)
class Periods:
    """Output ``t * phases + p`` sums ``kernel[p] * x[base + t * step ...]``; ``extent`` outputs."""

    extent: int
    base: int
    step: int
    kernel: NDArray[np.float64]

    @property
    def windows(self) -> int:
        return -(-self.extent // len(self.kernel))

    def padded(self, size: int) -> NDArray[np.int64]:
        """The elements of the axis that the windows slide over, the outermost repeated."""
        count = (self.windows - 1) * self.step + self.kernel.shape[1]
        return np.clip(np.arange(self.base, self.base + count), 0, size - 1)


def interpolated(build: Builder, node: Node, x: Operand, operands: Sequence[Operand]) -> Tensor:
    """ONNX Resize or Upsample of mode linear or cubic, on any axes but the batch.

    The weights are those of real arithmetic; over rounded values they are integers of one scale, a
    float32, which is exact where the fractions are dyadic.
    """
    x = activation(x, node)
    x = x if x.fill is None else build.natural(x, node)
    build.frame(x, node)
    arrays = [None if o is None else constant(o, node, "operand").array for o in operands]
    sums = _all_sums(node, x.order.shape, arrays)
    if not all(len(axis.index) for axis in sums) or not sums[0].still:
        raise ModelError(
            f"{node}: resizes to {[len(axis.index) for axis in sums]}; accepted: at least 1 along "
            "each axis, and the batch as it is"
        )
    bounded(node, ir.Shape(1, 1, prod(len(axis.index) for axis in sums[1:])), build.batch)
    order = x.order
    for n, axis in enumerate(sums):
        if axis.taps == 1:
            order = np.take(order, axis.clipped[:, 0], n)
            sums[n] = Sums.identity(order.shape[n])
    x = x.moved(order, node.outputs[0])
    if all(axis.still for axis in sums):
        return x
    return _as_convolution(build, node, x, sums) or _as_sums(build, node, x, sums)


# -- the sums along an axis ------------------------------------------------------------------------


def _all_sums(
    node: Node, shape: tuple[int, ...], operands: Sequence[NDArray[Any] | None]
) -> list[Sums]:
    mode = node.get("mode", "nearest")
    if mode not in ("linear", "cubic", "bilinear", "trilinear"):
        raise ModelError(f"{node}: its mode is {mode}; accepted: nearest, linear, cubic")
    transformation = modes_of(node)["coordinate_transformation_mode"]
    if transformation == "tf_crop_and_resize":
        raise ModelError(
            f"{node}: crops while it interpolates; accepted: the other modes; crop with Slice first"
        )
    found = []
    for size, (extent, scale) in zip(shape, factors_of(node, shape, operands), strict=True):
        factor = _ratio(extent / size if scale is None else scale)
        if factor < 1 and node.get("antialias", 0):
            raise ModelError(
                f"{node}: shrinks with antialias=1; accepted: antialias=0; use AveragePool"
            )
        if transformation == "align_corners" and factor * size != extent:
            raise ModelError(
                f"{node}: aligns the corners of {float(factor * size):g} elements; accepted: a "
                "factor that gives whole elements, as runtimes disagree on others; give sizes "
                "instead of scales"
            )
        places = _places(transformation, size, extent, factor)
        found.append(_sums(node, size, places, cubic=mode == "cubic"))
    return found


def _ratio(scale: float) -> Fraction:
    """A scale as the short fraction that its float32 stands for."""
    short = Fraction(scale).limit_denominator(DENOMINATOR)
    return short if np.float32(short) == np.float32(scale) else Fraction(scale)


def _places(mode: str, size: int, extent: int, scale: Fraction) -> list[Fraction]:
    """Where each output lies among the inputs."""
    half, outputs = Fraction(1, 2), range(extent)
    if mode == "align_corners":
        return [Fraction(o * (size - 1), max(extent - 1, 1)) for o in outputs]
    if mode == "asymmetric":
        return [o / scale for o in outputs]
    if mode == "pytorch_half_pixel" and extent == 1:
        return [Fraction(0)]
    shift = Fraction(0)
    if mode == "half_pixel_symmetric":
        shift = Fraction(size, 2) * (1 - extent / (scale * size))
    return [shift + (o + half) / scale - half for o in outputs]


def _sums(node: Node, size: int, places: list[Fraction], cubic: bool) -> Sums:
    below = np.array([place.numerator // place.denominator for place in places])
    over = np.array([float(p - int(b)) for p, b in zip(places, below, strict=True)])
    if size == 1 or not over.any():
        return Sums(size, below[:, None], np.ones((len(below), 1)))
    if not cubic:
        return Sums(size, below[:, None] + [0, 1], np.stack([1 - over, over], axis=1))
    index = below[:, None] + np.arange(-1, 3)
    weight = _cubic(np.abs(over[:, None] - np.arange(-1, 3)), node.get("cubic_coeff_a", -0.75))
    if node.get("exclude_outside", 0):
        weight = np.where((index < 0) | (index >= size), 0, weight)
        weight /= weight.sum(axis=1, keepdims=True)
    return Sums(size, index, weight)


def _cubic(distance: NDArray[np.float64], a: float) -> NDArray[np.float64]:
    """Keys' kernel (IEEE Trans. ASSP 29, 1981), between -2 and 2."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, far)


# -- operators -------------------------------------------------------------------------------------


def _as_convolution(build: Builder, node: Node, x: Tensor, sums: list[Sums]) -> Tensor | None:
    """A depthwise convolution with the outputs of a period as channels, if the sums recur."""
    rank = x.order.ndim
    for channels in (1, rank - 1):
        if rank in (3, 4) and sums[channels].still:
            axes = [axis.periods() for axis in np.delete(np.array(sums, object), [0, channels])]
            found = [axis for axis in axes if axis is not None]
            if len(found) == rank - 2:
                return _convolved(build, node, x, channels, found)
    return None


def _convolved(build: Builder, node: Node, x: Tensor, channels: int, axes: list[Periods]) -> Tensor:
    view = np.moveaxis(x.order, channels, 1)
    for n, axis in enumerate(axes, 2):
        view = np.take(view, axis.padded(view.shape[n]), n)
    source = build.as_map(replace(x, order=view), node)
    found = build.streams[source].shape
    rows, columns = (*axes, Periods(1, 0, 1, np.ones((1, 1))))[:2]
    window = ir.Window((rows.kernel.shape[1], columns.kernel.shape[1]), (rows.step, columns.step))
    kernel = np.einsum("ir,jc->ijrc", rows.kernel, columns.kernel)
    kernel = kernel.reshape(-1, *window.kernel)
    weight, scale = _weights(build, node, x, np.tile(kernel, (found.channels, 1, 1)))
    shape = slid(node, window, found, len(weight), build.batch)
    op = ir.Conv(
        node.name,
        (source,),
        node.outputs[0],
        weight[..., None],
        scale,
        window=window,
        groups=found.channels,
    )
    order = _interleaved(shape, found.channels, rows, columns)
    order = order if len(axes) == 2 else order[:, :, 0]
    return build.computed(op, shape, [x], np.moveaxis(order, 0, channels - 1))


def _interleaved(
    shape: ir.Shape, channels: int, rows: Periods, columns: Periods
) -> NDArray[np.int64]:
    """Labels, [channel, row, column], of the outputs among those of all windows."""
    across = len(columns.kernel)
    row, down = np.divmod(np.arange(rows.extent), len(rows.kernel))
    column, right = np.divmod(np.arange(columns.extent), across)
    pixel = row[:, None] * shape.width + column
    phase = down[:, None] * across + right
    channel = np.arange(channels)[:, None, None] * (len(rows.kernel) * across) + phase
    labels: NDArray[np.int64] = pixel * shape.channels + channel
    return labels


def _as_sums(build: Builder, node: Node, x: Tensor, sums: list[Sums]) -> Tensor:
    """The neighbours of each output side by side, then a sum of each group: its weights are the
    same for all elements along the axes that are not resized.
    """
    resized = [n for n, axis in enumerate(sums[1:]) if not axis.still]
    kept = [n for n in range(len(sums) - 1) if n not in resized]
    axes = [sums[1 + n] for n in resized]
    frame = x.order[0].transpose(kept + resized)
    extents = frame.shape[: len(kept)]
    labels = frame.reshape(prod(extents), *frame.shape[len(kept) :])
    labels = labels[(slice(None), *_crossed([axis.clipped for axis in axes]))]
    weights = np.prod(np.broadcast_arrays(*_crossed([axis.weight for axis in axes])), axis=0)
    outputs = [len(axis.index) for axis in axes]
    weight, scale = _weights(build, node, x, weights.reshape(prod(outputs), -1))
    rows, sums_of_a_row = labels.shape[0], prod(outputs)
    shape = bounded(node, ir.Shape(rows, 1, weight.size), build.batch)
    op = ir.Conv(
        node.name,
        (build.arranged(x, labels.reshape(-1), shape, node),),
        node.outputs[0],
        weight[:, None, None, :],
        scale,
        groups=sums_of_a_row,
    )
    order = np.arange(rows * sums_of_a_row).reshape(*extents, *outputs)
    order = order.transpose(np.argsort(kept + resized))
    return build.computed(op, ir.Shape(rows, 1, sums_of_a_row), [x], order)


def _crossed(parts: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Arrays [output, tap] of each axis, to be broadcast to [output ..., tap ...]."""
    count = len(parts)
    crossed = []
    for n, part in enumerate(parts):
        shape = [1] * (2 * count)
        shape[n], shape[count + n] = part.shape
        crossed.append(part.reshape(shape))
    return crossed


def _weights(
    build: Builder, node: Node, x: Tensor, weight: NDArray[np.float64]
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Weights [output, ...] in floats; over rounded values as integers and their scales."""
    if build.quant(x.handle) is None:
        return weight.astype(np.float32), None
    denominator = _common_denominator(np.unique(np.abs(weight)).tolist())
    if denominator is None:
        raise ModelError(
            f"{node}: its weights have no common denominator up to {LARGEST}; accepted: a factor "
            "of small integers; quantize the float32 network instead"
        )
    scale = np.full(len(weight), np.float32(1 / denominator))
    return np.rint(weight * denominator).astype(np.int16), scale


def _common_denominator(values: list[float]) -> int | None:
    """The least number, up to :data:`LARGEST`, whose products with all ``values`` are integers of
    16 bits; None where there is none.
    """
    common = 1
    for value in values:
        fraction = Fraction(value).limit_denominator(LARGEST)
        common = lcm(common, fraction.denominator)
        if abs(fraction - Fraction(value)) > _GRAIN or common > LARGEST:
            return None
    return common if max(values) * common <= LARGEST else None

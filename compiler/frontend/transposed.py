"""ConvTranspose: one convolution at the input's resolution that computes every phase."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir, limits
from ..errors import ModelError
from .builder import Builder
from .linear import bias_of, weight_of
from .operands import Handler, Operand, activation, bounded, constant, listed, padding, slid
from .source import Node
from .tensors import Constant, Tensor

__all__ = ["HANDLERS"]


@dataclass(frozen=True)
class Phases:
    """How one axis of a transposed convolution is computed, for ``size`` inputs and outputs 0 to
    ``extent - 1``.

    Output ``o`` sums the taps ``k`` for which ``o + before = stride * i + dilation * k``, at input
    ``i``. So the outputs of one phase, ``(o + before) % stride``, are a convolution of the input:
    ``y[t * stride + phase - before]`` sums ``x[t - (dilation * k - phase) / stride]``.
    """

    size: int
    extent: int
    kernel: int
    stride: int
    dilation: int
    before: int

    @property
    def reach(self) -> int:
        """How many inputs back the farthest tap of any phase lies."""
        return (self.kernel - 1) * self.dilation // self.stride

    @property
    def first(self) -> int:
        """The first ``t`` that is computed: a window there begins in the map or its padding."""
        return min(self.before // self.stride, self.reach)

    @property
    def pads(self) -> tuple[int, int]:
        """Zeros before and after the input."""
        last = (self.extent - 1 + self.before) // self.stride
        return self.reach - self.first, max(last - self.size + 1, 0)

    def tap(self, k: int) -> tuple[int, int]:
        """The phase that kernel element ``k`` belongs to, and its place in the window."""
        back, phase = divmod(k * self.dilation, self.stride)
        return phase, self.reach - back

    def places(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Row or column of the computed map, and phase, of every output."""
        t, phase = np.divmod(np.arange(self.extent) + self.before, self.stride)
        return t - self.first, phase


def conv_transpose(build: Builder, node: Node, x: Operand, w: Operand, b: Operand = None) -> Tensor:
    """ONNX ConvTranspose, of one or two dimensions, any stride, dilation, padding and group.

    All phases of an output pixel are channels of one ``ir.Conv``, whose kernels are the taps of
    each phase, filled up with zeros. Exact: the taps are the same, and nothing is rounded. The
    result's labels put the phases side by side and leave out what the padding cuts off.
    """
    x, kernel = activation(x, node), constant(w, node, "weight")
    source = build.as_map(x, node)
    found, rank = build.streams[source].shape, x.order.ndim - 2
    groups = int(node.get("group", 1))
    kernel = _forward(kernel, groups, found.channels, rank, node)
    rows, columns = _axes(node, found, kernel.array.shape[2:], rank)
    weight, scale = weight_of(kernel, node)
    channels, phases = weight.shape[0], rows.stride * columns.stride
    bias, bias_scale = bias_of(b, channels, node)
    (top, bottom), (left, right) = rows.pads, columns.pads
    window = ir.Window((rows.reach + 1, columns.reach + 1), pads=(top, left, bottom, right))
    shape = slid(node, window, found, channels * phases, build.batch)
    bounded(node, ir.Shape(rows.extent, columns.extent, channels), build.batch)
    of = _channels(channels, groups, phases)
    op = ir.Conv(
        node.name,
        (source,),
        node.outputs[0],
        _phased(weight, rows, columns)[of],
        None if scale is None else np.tile(scale, phases)[of],
        None if bias is None else np.tile(bias, phases)[of],
        None if bias_scale is None else np.tile(bias_scale, phases)[of],
        window=window,
        groups=groups,
    )
    order = _interleaved(rows, columns, np.argsort(of).reshape(phases, channels), shape)
    return build.computed(op, shape, [x], order if rank == 2 else order[:, :, 0])


def _forward(kernel: Constant, groups: int, channels: int, rank: int, node: Node) -> Constant:
    """[inputs, outputs / group, *kernel] as Conv has it: [outputs, inputs / group, *kernel]; in one
    dimension with one column.
    """
    found = kernel.array.shape
    if len(found) != rank + 2 or not kernel.array.size:
        raise ModelError(
            f"{node}: its weight has shape {list(found)}, but the input has {rank + 2} axes; "
            "accepted: [inputs, outputs / group, *kernel] for the input's axes"
        )
    if found[0] != channels or groups < 1 or channels % groups:
        raise ModelError(
            f"{node}: its weight has {found[0]} input channels in {groups} groups, but the input "
            f"has {channels}; accepted: as many as the input, in groups that divide them"
        )
    if tuple(node.get("kernel_shape", found[2:])) != found[2:]:
        raise ModelError(
            f"{node}: kernel_shape is {node.get('kernel_shape', [])}, but its weight has shape "
            f"{list(found)}; accepted: the weight's, or none; check the model with onnx.checker"
        )

    def turned(value: NDArray[Any]) -> NDArray[Any]:
        extent = (*found[2:], *[1] * (2 - rank))
        grouped = value.reshape(groups, channels // groups, found[1], *extent)
        return grouped.swapaxes(1, 2).reshape(groups * found[1], channels // groups, *extent)

    return replace(
        kernel,
        array=turned(kernel.array),
        scale=None if kernel.scale is None else turned(kernel.scale),
    )


def _axes(node: Node, shape: ir.Shape, kernel: tuple[int, ...], rank: int) -> list[Phases]:
    """Rows and columns; a lone axis is rows."""
    mode, pads = padding(node, rank)
    strides = listed(node, "strides", (1,) * rank, rank, 1)
    dilations = listed(node, "dilations", (1,) * rank, rank, 1)
    more = listed(node, "output_padding", (0,) * rank, rank, 0)
    sizes = (shape.height, shape.width)[:rank]
    given = tuple(node.get("output_shape", ()))[-rank:]
    same = tuple(n * s for n, s in zip(sizes, strides, strict=True))
    wanted = given or (same if mode.startswith("SAME") else ())
    found = []
    for axis, size in enumerate(sizes):
        span = (kernel[axis] - 1) * dilations[axis] + 1
        full = (size - 1) * strides[axis] + span + more[axis]
        before, after = pads[axis], pads[axis + rank]
        if wanted:
            cut = max(full - wanted[axis], 0)
            before = cut // 2 if mode == "SAME_UPPER" else cut - cut // 2
            after = (full - wanted[axis] if given else cut) - before
        extent = full - before - after
        found.append(Phases(size, extent, kernel[axis], strides[axis], dilations[axis], before))
    if any(axis.extent < 1 or axis.extent > limits.EXTENT for axis in found):
        raise ModelError(
            f"{node}: its output has the shape {[axis.extent for axis in found]}; accepted: 1 to "
            f"{limits.EXTENT} along each axis; check pads and output_shape"
        )
    return [*found, Phases(1, 1, 1, 1, 1, 0)][:2]


def _phased(weight: NDArray[Any], rows: Phases, columns: Phases) -> NDArray[Any]:
    """[phase * outputs, window rows, window columns, inputs / group] of [outputs, inputs / group,
    rows, columns].
    """
    extent = (rows.stride, columns.stride, weight.shape[0], rows.reach + 1, columns.reach + 1)
    phased = np.zeros((*extent, weight.shape[1]), weight.dtype)
    for row in range(rows.kernel):
        down, r = rows.tap(row)
        for column in range(columns.kernel):
            across, c = columns.tap(column)
            phased[down, across, :, r, c] = weight[:, :, row, column]
    return phased.reshape(-1, *phased.shape[3:])


def _channels(channels: int, groups: int, phases: int) -> NDArray[np.int64]:
    """The order in which a Conv of ``groups`` has all phases of its channels: those of a group side
    by side, phase by phase.
    """
    numbers = np.arange(phases * channels).reshape(phases, groups, channels // groups)
    return numbers.swapaxes(0, 1).reshape(-1)


def _interleaved(
    rows: Phases, columns: Phases, channel: NDArray[np.int64], shape: ir.Shape
) -> NDArray[np.int64]:
    """Labels, [channel, row, column], of the outputs; ``channel``: the place of [phase, channel]
    among the ``shape.channels`` that are computed.
    """
    (row, down), (column, across) = rows.places(), columns.places()
    phase = down[:, None] * columns.stride + across
    pixel = row[:, None] * shape.width + column
    labels: NDArray[np.int64] = pixel * shape.channels + channel.T[:, phase]
    return labels


HANDLERS: dict[str, Handler] = {"ConvTranspose": Handler(conv_transpose)}

"""Reductions over any axes but the batch, and the global pools: windows that tile a view of a map.

The stream of a reduced tensor is read as a map whose columns are the elements of one sum, or of one
maximum; its rows and channels are then the results. Where no such view exists, groups of adjacent
channels are reduced first, such as those of a GroupNormalization; this adds a rounding, so that it
is done in float networks only. The elements are brought into such an order otherwise.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import singledispatch
from math import gcd, prod

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .operands import Handler, Operand, activation, axis_of, integers, slid, windowed
from .source import Node
from .tensors import Tensor

__all__ = ["HANDLERS", "reduced"]


@dataclass(frozen=True)
class Tiling:
    """``shape``: the map that a stream is read as, and ``window`` tiles; ``labels``: where the
    result of each kept element is in the output; ``dense``: each pixel has one result.
    """

    shape: ir.Shape
    window: ir.Window
    labels: NDArray[np.int64]
    dense: bool = False

    @property
    def adjacent(self) -> bool:
        """Whether the elements of a result follow each other in the stream."""
        rows, columns = self.window.kernel
        return self.shape.channels == 1 and (rows == 1 or columns == self.shape.width)

    def flat(self) -> "Tiling":
        """Adjacent elements of each result as the channels of a pixel."""
        count = self.window.taps
        shape = ir.Shape(self.shape.size // count, 1, count)
        return replace(self, shape=shape, window=ir.Window(), dense=True)


@dataclass(frozen=True)
class Reduction:
    """``after(sum or maximum of before(x))``; ``reduce`` makes its operator.

    ``dense``: results over all channels of a pixel are those of a dense layer.
    """

    reduce: Callable[[Node, str, str, Tiling, bool], ir.Op]
    dense: bool = False
    before: ir.Function | None = None
    after: ir.Function | None = None

    @property
    def selects(self) -> bool:
        """Whether each result is one of the elements, so that they may be integers."""
        return self.reduce is _largest and self.before is None


def _average(node: Node, source: str, output: str, tiling: Tiling, integer: bool) -> ir.Op:
    return ir.AveragePool(node.name, (source,), output, tiling.window)


def _largest(node: Node, source: str, output: str, tiling: Tiling, integer: bool) -> ir.Op:
    return ir.MaxPool(node.name, (source,), output, tiling.window)


def _sum(node: Node, source: str, output: str, tiling: Tiling, integer: bool) -> ir.Op:
    """A convolution of ones; over integers they are integers of scale 1."""
    groups = 1 if tiling.dense else tiling.shape.channels
    shape = (groups, *tiling.window.kernel, tiling.shape.channels // groups)
    return ir.Conv(
        node.name,
        (source,),
        output,
        np.ones(shape, np.int8 if integer else np.float32),
        np.ones(groups, np.float32) if integer else None,
        window=tiling.window,
        groups=groups,
    )


REDUCTIONS: dict[str, Reduction] = {
    "ReduceMean": Reduction(_average),
    "ReduceSum": Reduction(_sum, dense=True),
    "ReduceMax": Reduction(_largest),
    "ReduceMin": Reduction(_largest, before=ir.functions.Neg(), after=ir.functions.Neg()),
    "ReduceL1": Reduction(_sum, dense=True, before=ir.functions.Abs()),
    "ReduceL2": Reduction(
        _sum, dense=True, before=ir.functions.Pow(2.0), after=ir.functions.Sqrt()
    ),
    "ReduceSumSquare": Reduction(_sum, dense=True, before=ir.functions.Pow(2.0)),
    "ReduceLogSum": Reduction(_sum, dense=True, after=ir.functions.Log()),
    "ReduceLogSumExp": Reduction(
        _sum, dense=True, before=ir.functions.Exp(), after=ir.functions.Log()
    ),
}
GLOBAL = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}
#: the norm of each ``p`` that LpPool and GlobalLpPool usually have
NORMS = {1: "ReduceL1", 2: "ReduceL2"}


def reduce_axes(build: Builder, node: Node, x: Operand, axes: Operand = None) -> Tensor:
    """A node of :data:`REDUCTIONS` over any axes but the batch."""
    kind = REDUCTIONS[node.op]
    x = _reducible(node, x, kind)
    axes_found = _axes(build, node, x, axes)
    return reduced(build, node, x, axes_found, bool(node.get("keepdims", 1)), kind)


def _reducible(node: Node, x: Operand, kind: Reduction) -> Tensor:
    """A tensor of real numbers, or of any where the reduction selects."""
    return x if kind.selects and isinstance(x, Tensor) else activation(x, node)


def reduce_map(build: Builder, node: Node, x: Operand) -> Tensor:
    """A node of :data:`GLOBAL`: all axes behind the channels."""
    kind = REDUCTIONS[GLOBAL[node.op]] if node.op in GLOBAL else _norm(node)
    x = _reducible(node, x, kind)
    if x.order.ndim < 3:
        raise ModelError(
            f"{node}: pools a tensor of {x.order.ndim} axes; accepted: 3 or 4, [batch, channels, "
            "rows, columns]"
        )
    axes = tuple(range(2, x.order.ndim))
    return reduced(build, node, x, axes, True, kind)


def _norm(node: Node) -> Reduction:
    """The norm of an LpPool or GlobalLpPool."""
    p = int(node.get("p", 2))
    if p in NORMS:
        return REDUCTIONS[NORMS[p]]
    if p < 1 or p % 2:
        raise ModelError(f"{node}: has p={p}; accepted: 1, or an even number above 0")
    root = ir.functions.Pow(float(np.float32(1 / p)))
    return Reduction(_sum, dense=True, before=ir.functions.Pow(float(p)), after=root)


def lp_pool(build: Builder, node: Node, x: Operand) -> Tensor:
    """ONNX LpPool: the norm of what lies under a window."""
    x, kind = activation(x, node), _norm(node)
    assert kind.before is not None
    output = node.outputs[0]
    x = _mapped(build, node, x, kind.before, f"{output}/{_word(kind.before)}")
    source = build.as_map(x, node)
    found = build.streams[source].shape
    window = windowed(node, found, tuple(node.get("kernel_shape", ())), x.order.ndim - 2)
    shape = slid(node, window, found, found.channels, build.batch)
    name = output if kind.after is None else f"{output}/sum"
    tiling = Tiling(found, window, np.arange(0))
    op = _sum(node, source, name, tiling, build.quant(x.handle) is not None)
    result = build.computed(op, shape, [x], build.map_order(shape, x))
    return result if kind.after is None else _mapped(build, node, result, kind.after, output)


def _axes(build: Builder, node: Node, x: Tensor, axes: Operand) -> tuple[int, ...]:
    """The axes to reduce, in order; none where the node reduces none."""
    listed = node.get("axes", ()) if axes is None else integers(axes, node, "axes")
    if not listed and not node.get("noop_with_empty_axes", 0):
        listed = range(x.order.ndim)
    found = tuple(sorted(axis_of(node, axis, x.order.ndim) for axis in listed))
    if len(set(found)) != len(found):
        raise ModelError(f"{node}: reduces the axes {list(found)}; accepted: each axis once")
    return found


def reduced(
    build: Builder,
    node: Node,
    x: Tensor,
    axes: tuple[int, ...],
    keepdims: bool,
    kind: Reduction,
) -> Tensor:
    """The reduction over ``axes`` of a tensor in any layout."""
    if 0 in axes and not build.lone:
        raise ModelError(
            f"{node}: reduces over the batch; accepted: any other axes; name them, or export the "
            "network with a batch of 1"
        )
    build.frame(x, node)
    if x.order.shape[0] != build.batch:  # it is merged into the first axis
        apart = replace(x, order=x.order.reshape(build.batch, -1, *x.order.shape[1:]))
        result = reduced(build, node, apart, tuple(axis + 1 for axis in axes), keepdims, kind)
        frames = result.order
        return replace(result, order=np.concatenate(list(frames)) if len(frames) > 1 else frames[0])
    output = node.outputs[0]
    if kind.before is not None:
        x = _mapped(build, node, x, kind.before, f"{output}/{_word(kind.before)}")
    name = output if kind.after is None else f"{output}/reduced"
    inner = tuple(axis for axis in axes if axis)
    result = _reduced(build, node, x, inner, kind, name) if inner else x.moved(x.order, name)
    if not keepdims:
        result = replace(result, order=result.order.squeeze(axes))
    return result if kind.after is None else _mapped(build, node, result, kind.after, output)


def _reduced(
    build: Builder, node: Node, x: Tensor, axes: tuple[int, ...], kind: Reduction, name: str
) -> Tensor:
    """One result over all elements along ``axes``, whose extent becomes 1."""
    inner = tuple(axis - 1 for axis in axes)
    kept = tuple(1 if i in inner else n for i, n in enumerate(x.order.shape[1:]))
    labels = np.moveaxis(x.order[0], inner, range(-len(inner), 0)).reshape(prod(kept), -1)
    if labels.shape[1] == 1:
        return x.moved(x.order, name)
    order = np.arange(build.shape(x).size)
    tiling = _tiling(build.shape(x), labels)
    parts = None if tiling or build.quant(x.handle) else _parts(build.shape(x), labels)
    if parts is not None:
        width, labels = parts
        x = _over_channels(build, node, x, width, kind, f"{name}/channels")
        order, tiling = np.arange(build.shape(x).size), _tiling(build.shape(x), labels)
    if tiling is None:
        order = labels.T.reshape(-1)
        tiling = _side_by_side(*labels.shape)
    if kind.dense and tiling.adjacent:
        tiling = tiling.flat()
    source = build.arranged(x, order, tiling.shape, node)
    op = kind.reduce(node, source, name, tiling, build.quant(x.handle) is not None)
    groups = op.channels if isinstance(op, ir.Conv) else tiling.shape.channels
    out = tiling.window.output(tiling.shape, groups)
    result = build.computed(op, out, [x], tiling.labels.reshape(kept))
    return replace(result, real=x.real)


def _over_channels(
    build: Builder, node: Node, x: Tensor, width: int, kind: Reduction, name: str
) -> Tensor:
    """The reduction of each ``width`` adjacent channels of a map."""
    shape = build.shape(x)
    view, window = ir.Shape(shape.size // width, width, 1), ir.Window((1, width), (1, width))
    tiling = Tiling(view, window, np.arange(shape.size // width))
    if kind.dense:
        tiling = tiling.flat()
    step = replace(node, name=f"{node.name}/channels")
    source = build.reshaped(x, tiling.shape, node)
    op = kind.reduce(step, source, name, tiling, False)
    groups = op.channels if isinstance(op, ir.Conv) else 1
    result = build.computed(op, tiling.window.output(tiling.shape, groups), [x], tiling.labels)
    out = replace(shape, channels=shape.channels // width)
    handle = build.reshaped(result, out, node)
    return replace(result, handle=handle, real=x.real)


# -- functions before and after --------------------------------------------------------------------


def _mapped(build: Builder, node: Node, x: Tensor, function: ir.Function, name: str) -> Tensor:
    """``function`` of every element; exact over rounded values, whose type is known."""
    op = ir.Unary(f"{node.name}/{_word(function)}", (x.handle,), name, function)
    result = build.elementwise(op, build.shape(x), [x])
    quant = build.rounded(x)
    return build.exact(result, None if quant is None else _exact(function, quant))


def _word(function: ir.Function) -> str:
    return type(function).__name__.lower()


@singledispatch
def _exact(function: ir.Function, quant: ir.Quant) -> ir.Quant | None:
    """The ``Quant`` in which the function of every value of ``quant`` is a level; None: there is
    none, or none is known.
    """
    return None


@_exact.register
def _(function: ir.functions.Neg, quant: ir.Quant) -> ir.Quant:
    return replace(quant, zero=quant.dtype.low + quant.dtype.high - quant.zero)


@_exact.register
def _(function: ir.functions.Pow, quant: ir.Quant) -> ir.Quant | None:
    largest = max(quant.dtype.high - quant.zero, quant.zero - quant.dtype.low)
    bits, scale = (largest**2).bit_length(), float(np.float32(quant.scale * quant.scale))
    exact = function.exponent == 2 and Fraction(scale) == quant.step**2 and bits <= 16
    return ir.Quant(ir.Int(bits, False), scale, 0) if exact else None


@_exact.register
def _(function: ir.functions.Abs, quant: ir.Quant) -> ir.Quant | None:
    largest = max(quant.dtype.high - quant.zero, quant.zero - quant.dtype.low)
    bits = largest.bit_length()
    return ir.Quant(ir.Int(bits, False), quant.scale, 0) if bits <= 16 else None


# -- windows ---------------------------------------------------------------------------------------


def _tiling(shape: ir.Shape, labels: NDArray[np.int64]) -> Tiling | None:
    """How the elements [result, element] are windows of a map; None where the stream has to be
    gathered first.
    """
    return _of_the_map(shape, labels) or _of_a_view(shape, labels)


def _parts(shape: ir.Shape, labels: NDArray[np.int64]) -> tuple[int, NDArray[np.int64]] | None:
    """A number of adjacent channels that the reductions ``labels`` [result, element] have together,
    and the labels in the map of theirs, which needs no rearrangement; None where there is none.
    """
    ordered = np.sort(labels, axis=1)
    common = gcd(shape.channels, labels.shape[1])
    for width in range(common, 1, -1):
        if common % width:
            continue
        runs = ordered.reshape(len(ordered), -1, width)
        whole = (runs == runs[..., :1] + np.arange(width)).all() and not (
            runs[..., 0] % width
        ).any()
        narrow = replace(shape, channels=shape.channels // width)
        if whole and _tiling(narrow, runs[..., 0] // width) is not None:
            return width, runs[..., 0] // width
    return None


def _side_by_side(results: int, count: int) -> Tiling:
    """A row of pixels whose channels are the results, each to be reduced over the row."""
    view, window = ir.Shape(1, count, results), ir.Window((1, count), (1, count))
    return Tiling(view, window, np.arange(results))


def _of_the_map(shape: ir.Shape, labels: NDArray[np.int64]) -> Tiling | None:
    """Rows, columns, or both, of the map itself."""
    row, column, channel = np.unravel_index(labels, shape.array)
    for kernel in ((shape.height, shape.width), (shape.height, 1), (1, shape.width), (1, 1)):
        window = ir.Window(kernel, kernel)
        if window.taps != labels.shape[1]:
            continue
        out = window.output(shape, shape.channels)
        place = (row // kernel[0], column // kernel[1], channel)
        targets = np.ravel_multi_index(place, out.array)
        if (targets == targets[:, :1]).all() and _distinct(labels):
            return Tiling(shape, window, targets[:, 0])
    return None


def _of_a_view(shape: ir.Shape, labels: NDArray[np.int64]) -> Tiling | None:
    """Elements at a fixed distance: rows, columns and channels of ``(outer, count, distance)``."""
    ordered = np.sort(labels, axis=1)
    first, count = ordered[:, 0], labels.shape[1]
    distance = int(ordered[0, 1] - ordered[0, 0]) if count > 1 else 1
    steps = distance * np.arange(count)
    if distance < 1 or shape.size % (count * distance):
        return None
    outer, inner = first // (count * distance), first % (count * distance)
    if (inner >= distance).any() or not np.array_equal(ordered, first[:, None] + steps):
        return None
    view = ir.Shape(shape.size // (count * distance), count, distance)
    window = ir.Window((1, count), (1, count))
    return Tiling(view, window, outer * distance + inner)


def _distinct(labels: NDArray[np.int64]) -> bool:
    """Whether no row of ``labels`` lists an element twice."""
    ordered = np.sort(labels, axis=1)
    return bool((ordered[:, 1:] != ordered[:, :-1]).all())


HANDLERS: dict[str, Handler] = {
    **{name: Handler(reduce_axes) for name in REDUCTIONS},
    **{name: Handler(reduce_map) for name in (*GLOBAL, "GlobalLpPool")},
    "LpPool": Handler(lp_pool),
}

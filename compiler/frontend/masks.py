"""Masks: constants that choose elements, or that Softmax gives no weight."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .builder import Builder
from .linear import offset, scaled
from .operands import Operand, activation, finite
from .pooling import constant_stream, one_stream
from .source import Node
from .tensors import Constant, Tensor, elements, raster

__all__ = ["MASKED", "chosen", "finite_score", "masked_product", "masked_sum", "unmasked"]

#: added to what a Softmax reads, the largest number that is taken for a mask: it leaves an element
#: no weight in float32, unless scores are as far apart
MASKED = -1e3
#: the same of a mask that is scaled afterwards
WEIGHTLESS = -1e2


def chosen(
    build: Builder, node: Node, condition: Constant, a: Operand, b: Operand
) -> list[Tensor | Constant]:
    """Where, under a constant condition: only other labels, of padding where one number is
    chosen.
    """
    sides = [x if isinstance(x, Constant) else activation(x, node) for x in (a, b)]
    try:
        first, *arrays = np.broadcast_arrays(condition.array.astype(bool), *map(elements, sides))
    except ValueError:
        shapes = ", ".join(str(list(elements(x).shape)) for x in (condition, *sides))
        raise ModelError(
            f"{node}: its inputs of shapes {shapes} do not broadcast; check the model with "
            "onnx.checker"
        ) from None
    spread = [_spread(x, array) for x, array in zip(sides, arrays, strict=True)]
    used = [x for x, where in zip(spread, (first, ~first), strict=True) if where.any()]
    if len(used) == 1:
        (only,) = used
        return [only.moved(only.order, node.outputs[0]) if isinstance(only, Tensor) else only]
    x = next(each for each in spread if isinstance(each, Tensor))
    taken = first if x is spread[0] else ~first
    other = spread[1] if x is spread[0] else spread[0]
    if isinstance(other, Constant):
        numbers = np.unique(other.real()[~taken])
        if numbers.size == 1:
            order = np.where(taken, x.order, -1)
            return [replace(x.moved(order, node.outputs[0]), fill=_fill(numbers[0]))]
        finite(numbers, other.described, node)
        streams = [constant_stream(build, node, x, each, n) for n, each in enumerate(spread)]
    else:
        streams = [each for each in spread if isinstance(each, Tensor)]
    whole, orders = one_stream(build, node, streams, 1)
    return [whole.moved(np.where(first, *orders), node.outputs[0])]


def _spread(x: Tensor | Constant, array: NDArray[np.generic]) -> Tensor | Constant:
    """``x`` in the shape of ``array``, which is its own, broadcast."""
    if isinstance(x, Tensor):
        return replace(x, order=np.broadcast_to(x.order, array.shape))
    scale = None if x.scale is None else np.broadcast_to(x.scale, array.shape)
    return replace(x, array=array, scale=scale)


def _fill(number: np.floating[Any]) -> float:
    """A number to fill with; the least float32 stands for minus infinity."""
    return -np.inf if number <= np.finfo(np.float32).min else float(number)


def finite_score(x: Operand) -> Operand:
    """A constant that only Softmax reads, with :data:`MASKED` for minus infinity."""
    if not isinstance(x, Constant) or x.array.dtype.kind != "f":
        return x
    hidden = x.array <= np.finfo(np.float32).min
    return replace(x, array=np.where(hidden, np.float32(MASKED), x.array)) if hidden.any() else x


def masked_sum(build: Builder, node: Node, x: Tensor, mask: Constant) -> Tensor | None:
    """``x + mask``, which only Softmax reads, with padding where it will have no weight; None where
    there is no such place.
    """
    values = mask.real()
    hidden = values <= MASKED
    if not hidden.any() or build.quant(x.handle) is not None:
        return None
    rest = np.where(hidden, 0, values).astype(np.float32)
    if rest.any():
        x = offset(build, node, x, Constant(mask.name, rest))
    order, hidden = np.broadcast_arrays(x.order, hidden)
    order = np.where(hidden, -1, order)
    return replace(x.moved(order, node.outputs[0]), fill=_fill(values[values <= MASKED].max()))


def masked_product(build: Builder, node: Node, x: Tensor, factor: Constant) -> Tensor | None:
    """``x * factor`` by a number above 0, where padding of no weight stays padding; None for other
    operands.
    """
    real = factor.real()
    if x.fill is None or x.fill > MASKED or real.size != 1 or not real.min() > 0:
        return None
    labels = raster(build.shape(x).array, build.batch)
    bare = replace(x, order=labels, fill=None)
    product = scaled(build, node, bare, replace(factor, array=factor.array.reshape(())))
    if not np.array_equal(product.order, labels):
        return None
    fill = x.fill * float(real.min())
    if node.outputs[0] in build.weighed and fill <= WEIGHTLESS:
        fill = min(fill, MASKED)
    return replace(product, order=x.order, fill=fill)


def unmasked(node: Node, order: NDArray[np.int64], axes: tuple[int, ...]) -> NDArray[np.int64]:
    """The labels with those of another element along ``axes`` in the place of padding."""
    last = range(-len(axes), 0)
    rows = np.moveaxis(order, axes, last)
    flat = rows.reshape(*rows.shape[: -len(axes)], -1)
    other = np.take_along_axis(flat, (flat >= 0).argmax(axis=-1)[..., None], axis=-1)
    if (other < 0).any():
        raise ModelError(
            f"{node}: all elements of a row are masked; accepted: at least one that is not; give "
            "such rows no mask"
        )
    return np.moveaxis(np.where(flat < 0, other, flat).reshape(rows.shape), last, axes)

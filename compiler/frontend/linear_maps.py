"""Operators that are linear in the activation that they read: a dense layer with the weights that
ONNX's reference gives for the unit vectors.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
from numpy.typing import NDArray

from .. import limits
from ..errors import ModelError
from .builder import Builder
from .folding import reference
from .linear import dense
from .operands import Handler, Operand, activation, constant
from .source import Node
from .tensors import Constant, Tensor

__all__ = ["HANDLERS", "linear_map"]

#: unit vectors that are evaluated at most
_VECTORS = 1024
#: operators that treat the pixels of each channel alike
_CHANNELWISE = ("GridSample",)
LINEAR = ("GridSample", "Col2Im", "AffineGrid")


def linear_map(build: Builder, node: Node, x: Operand, *operands: Operand) -> Tensor:
    """``matrix @ x + shift`` over the elements of a sample, or over those of each of its channels;
    all other operands are constants.
    """
    x = activation(x, node)
    x = x if x.fill is None else build.natural(x, node)
    arrays = [None if o is None else constant(o, node, "operand").real() for o in operands]
    shape, batch = x.order.shape, build.batch
    if not shape or batch > 1:
        raise ModelError(
            f"{node}: reads a tensor of shape {list(shape)} of {batch} samples; accepted: one "
            "sample at a time; export the network with a batch of 1"
        )
    kept = shape[:2] if node.op in _CHANNELWISE and shape[0] == 1 and len(shape) > 2 else ()
    sample = (*[1] * len(kept), *shape[len(kept) :])
    matrix, shift, out = _matrix(node, sample, arrays)
    grouped = x.moved(x.order.reshape(batch, prod(kept), -1), node.outputs[0])
    kernel, bias = Constant(node.name, matrix), Constant(node.name, shift)
    result = dense(build, node, grouped, kernel, bias if shift.any() else None)
    whole = (*kept, *out[len(kept) :])
    return Tensor(result.handle, result.order.reshape(whole), result.label)


def _matrix(
    node: Node, sample: tuple[int, ...], operands: Sequence[NDArray[np.generic] | None]
) -> tuple[NDArray[np.float32], NDArray[np.float32], tuple[int, ...]]:
    """The weights [outputs, inputs], the result for zeros, and the shape of a result."""
    size = prod(sample)
    if size > _VECTORS:
        raise ModelError(
            f"{node}: is computed as a dense layer of {size} inputs; accepted: at most {_VECTORS} "
            "elements of a sample, or of a channel; use a smaller input"
        )
    (zero,) = reference(node, [np.zeros(sample, np.float32), *operands])[:1]
    if zero.size * size > limits.CONSTANT_ELEMENTS:
        raise ModelError(
            f"{node}: is computed as a dense layer of {size} inputs and {zero.size} outputs; "
            f"accepted: at most {limits.CONSTANT_ELEMENTS} weights; use a smaller input"
        )
    columns = []
    for place in range(size):
        unit = np.zeros(size, np.float32)
        unit[place] = 1
        (found,) = reference(node, [unit.reshape(sample), *operands])[:1]
        columns.append((found - zero).reshape(-1))
    matrix = np.stack(columns, axis=1).astype(np.float32)
    return matrix, zero.reshape(-1).astype(np.float32), zero.shape


HANDLERS: dict[str, Handler] = {name: Handler(linear_map) for name in LINEAR}

"""What the importer knows of one ONNX tensor: a constant, or a labelled view of a stream."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir, limits
from ..errors import ModelError

__all__ = [
    "Constant",
    "Tensor",
    "bounded",
    "channelwise",
    "elements",
    "frame",
    "permutes",
    "raster",
    "repeats",
]


@dataclass(frozen=True, eq=False)
class Constant:
    """A tensor that does not depend on the input: ``array``, or ``array * scale`` when quantized.

    ``name`` is the initializer it came from. ``scale`` has the shape of ``array``, so that every
    operator that only moves elements is applied to both alike; zero points are subtracted already.
    ``dtype`` is an integer type that NumPy does not have (4 bits, 2 bits); ``array`` then holds the
    integers in bytes. ``overflowed`` says what made NaN or infinity of finite numbers.
    """

    name: str
    array: NDArray[Any]
    scale: NDArray[np.float32] | None = None
    dtype: ir.Int | None = None
    overflowed: str = ""

    @property
    def described(self) -> str:
        """What a message calls it."""
        return self.overflowed or f"initializer {self.name}"

    @classmethod
    def of(cls, name: str, array: NDArray[Any]) -> "Constant":
        """The constant of an array as ``onnx`` reads it."""
        dtype = ir.Int.named(array.dtype.name)
        if dtype is None or array.dtype == dtype.numpy:
            return cls(name, array)
        return cls(name, array.astype(dtype.numpy), dtype=dtype)

    @property
    def integer(self) -> ir.Int | None:
        """The integer type in the file; None for floats."""
        return self.dtype or ir.Int.named(self.array.dtype.name)

    def real(self) -> NDArray[Any]:
        """The numbers the constant stands for."""
        if self.scale is None:
            return self.array
        return self.array.astype(np.float32) * self.scale


@dataclass(frozen=True, eq=False)
class Tensor:
    """An activation: ``order`` has the tensor's shape, batch included, and holds stream positions.

    Frame ``b`` of a stream of ``size`` elements has labels ``b * size`` to ``(b + 1) * size - 1``.
    A tensor may list some elements only, and some several times.
    ``handle`` is the stream in the builder. ``real`` is False between QuantizeLinear and
    DequantizeLinear; ``raw`` is True until the first QuantizeLinear. ``label`` is the name an
    ``ir.Reshape`` of this tensor takes. ``tail`` holds the host's steps since the stream left the
    hardware; ``groups`` the softmax group of every label, ``source`` the order before ArgMax.
    ``fill``: the real number that a position of -1 stands for, if there are such. ``whole``: the
    real numbers are integers, such as the places of extrema.
    """

    handle: str
    order: NDArray[np.int64]
    label: str
    real: bool = True
    raw: bool = True
    tail: tuple[ir.HostOp, ...] = ()
    groups: NDArray[np.int64] | None = None
    source: NDArray[np.int64] | None = None
    fill: float | None = None
    whole: bool = False

    def moved(self, order: NDArray[np.int64], name: str) -> "Tensor":
        """Elements of the tensor in another arrangement."""
        label = name if self.raw or not self.real else self.label
        return replace(self, order=order, label=label)


def elements(x: Tensor | Constant | None) -> NDArray[Any]:
    """An array of the shape of an operand that is there: its labels, or its numbers."""
    assert x is not None
    return x.order if isinstance(x, Tensor) else x.array


def raster(shape: tuple[int, ...], batch: int) -> NDArray[np.int64]:
    """Labels of ``batch`` frames of ``shape`` in raster order."""
    return np.arange(batch * int(np.prod(shape, dtype=np.int64)), dtype=np.int64).reshape(
        batch, *shape
    )


def frame(order: NDArray[np.int64], size: int, batch: int, reader: object) -> NDArray[np.int64]:
    """Labels of the first frame, of ``size`` stream elements; a batch axis of one frame is dropped,
    a merged one is cut.

    Raises ModelError, which names the ``reader`` of the tensor, when its first axis does not keep
    the frames apart.
    """
    if order.ndim == 0:
        return order
    rows = order.shape[0] // batch
    if batch > 1 and not _apart(order, size, batch):
        raise ModelError(
            f"{reader}: its input has shape {list(order.shape)} and mixes elements of the {batch} "
            f"samples: the first axis of the network's input, of size {batch}, is taken as the "
            "batch; accepted: an input whose first axis is the batch, which every node keeps "
            "first; export the network with a batch axis of 1, or a symbolic one"
        )
    return order[0] if rows == 1 else order[:rows]


def _apart(order: NDArray[np.int64], size: int, batch: int) -> bool:
    """Whether the first axis lists one frame after the other, all in the same arrangement."""
    if order.shape[0] % batch:
        return False
    frames = order.reshape(batch, -1)
    first = frames[0]
    starts = size * np.arange(batch)[:, None]
    return bool((first < size).all()) and np.array_equal(
        frames, np.where(first < 0, first, first + starts)
    )


def permutes(labels: NDArray[np.int64], shape: ir.Shape) -> bool:
    """Whether ``labels`` of a frame list each element of a stream of ``shape`` once."""
    if labels.size != shape.size or labels.min() < 0 or labels.max() >= shape.size:
        return False
    seen = np.zeros(shape.size, bool)
    seen[labels.reshape(-1)] = True
    return bool(seen.all())


def repeats(labels: NDArray[np.int64]) -> bool:
    """Whether ``labels`` list an element several times."""
    return np.unique(labels).size < labels.size


def channelwise(
    value: NDArray[Any], order: NDArray[np.int64], shape: ir.Shape, node: str
) -> NDArray[Any] | None:
    """One number a channel, from a constant that broadcasts against a tensor with labels ``order``;
    that of another for a channel that the tensor leaves out.

    None when the constant differs from pixel to pixel, or from sample to sample. Raises ModelError
    when it does not broadcast.
    """
    try:
        spread = np.broadcast_to(value, order.shape)
    except ValueError:
        raise ModelError(
            f"{node}: a constant of shape {list(value.shape)} does not broadcast to "
            f"{list(order.shape)}; accepted: one that does"
        ) from None
    channel = order.reshape(-1) % shape.size % shape.channels
    values = spread.reshape(-1)
    row = np.full(shape.channels, values[0])
    row[channel] = values
    return None if (row[channel] != values).any() else row


def bounded(node: object, shape: ir.Shape, batch: int, what: str = "output") -> ir.Shape:
    """``shape``, or a ModelError when it, or ``batch`` frames of it, are too large."""
    if shape.size * batch > limits.MAP_ELEMENTS:
        raise ModelError(
            f"{node}: its {what} has {batch} x {shape} = {batch * shape.size} elements; accepted: "
            f"at most {limits.MAP_ELEMENTS}, over all frames of the batch; use a smaller input"
        )
    if shape.channels > limits.CHANNELS or max(shape.height, shape.width) > limits.EXTENT:
        raise ModelError(
            f"{node}: its {what} has {shape.height} x {shape.width} pixels of {shape.channels} "
            f"channels; accepted: at most {limits.EXTENT} rows or columns and {limits.CHANNELS} "
            "channels; use a smaller input"
        )
    return shape

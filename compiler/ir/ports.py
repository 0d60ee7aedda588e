"""How an input of the model becomes a stream."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .types import Int

__all__ = ["InputPort"]


@dataclass(frozen=True, eq=False)
class InputPort:
    """How the model's input becomes the first stream.

    ``name``, ``shape`` (without batch) and ``dtype`` are the model's own; ``dtype`` is NumPy's name
    of the type, or ONNX's where NumPy has none ("int4"). ``order[i]`` is the flat index in the
    model's layout of the stream's i-th element. Float inputs are quantized with the ``Quant`` of
    ``value``; integer inputs enter as they are. ``batch`` is the model's batch size, or its
    symbolic name. Of a state that is not ``batched`` the ``shape`` is the whole: it has no axis of
    the batch, which is one.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    value: str
    order: NDArray[np.int64]
    batch: int | str = "N"
    batched: bool = True

    @property
    def integer(self) -> Int | None:
        """The type of integer inputs; None for floats."""
        return Int.named(self.dtype)

    @property
    def array_type(self) -> np.dtype[np.generic]:
        """The NumPy type that holds the inputs, integers of 4 or 2 bits in a byte each."""
        return self.integer.numpy if self.integer else np.dtype(self.dtype)

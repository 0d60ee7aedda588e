"""Types of the values that flow between operators: shape, integer type, scale and zero point."""

import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Int", "Quant", "Shape", "Value"]


@dataclass(frozen=True)
class Int:
    """A two's-complement or unsigned integer of ``bits`` bits."""

    bits: int
    signed: bool

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    @property
    def numpy(self) -> np.dtype[np.integer]:
        """The narrowest NumPy type that holds every value."""
        size = next(size for size in (8, 16, 32, 64) if size >= self.bits)
        return np.dtype(f"{'i' if self.signed else 'u'}{size // 8}")

    @property
    def name(self) -> str:
        """The name in ONNX and NumPy, as in "uint4"."""
        return f"{'' if self.signed else 'u'}int{self.bits}"

    @classmethod
    def named(cls, name: str) -> "Int | None":
        """The type called ``name``, as in "uint4"; None when ``name`` is no integer's."""
        found = re.fullmatch(r"(u?)int(\d+)", name)
        return cls(int(found[2]), not found[1]) if found else None

    @classmethod
    def holding(cls, low: int, high: int) -> "Int":
        """The narrowest type that holds ``low`` to ``high``; signed only if ``low`` is negative."""
        signed = low < 0
        magnitude = max(high.bit_length(), (-low - 1).bit_length() if signed else 0)
        return cls(max(1, magnitude + signed), signed)

    def holds(self, other: "Int") -> bool:
        """Whether every integer of ``other`` is one of this type too."""
        return self.low <= other.low and other.high <= self.high

    def __str__(self) -> str:
        return f"{'i' if self.signed else 'u'}{self.bits}"


@dataclass(frozen=True)
class Quant:
    """Affine quantization: a stored integer ``q`` stands for ``(q - zero) * scale``.

    ``scale`` is a Python float that is exactly a float32; :attr:`step` is the same number as an
    exact rational. The rule is that of ONNX ``QuantizeLinear`` / ``DequantizeLinear``.
    """

    dtype: Int
    scale: float
    zero: int

    @property
    def step(self) -> Fraction:
        return Fraction(self.scale)

    @np.errstate(over="ignore")
    def quantize(self, x: ArrayLike) -> NDArray[np.integer]:
        """``saturate(round_half_even(x / scale) + zero)`` in float32, as ONNX defines it; NaN is
        the lowest integer, as in ONNX Runtime.
        """
        steps = np.rint(np.asarray(x, np.float32) / np.float32(self.scale))
        shifted = np.where(np.isnan(steps), -np.inf, steps.astype(np.float64)) + self.zero
        stored: NDArray[np.float64] = np.clip(shifted, self.dtype.low, self.dtype.high)
        return stored.astype(self.dtype.numpy)

    @np.errstate(over="ignore")
    def dequantize(self, q: ArrayLike) -> NDArray[np.float32]:
        """``(q - zero) * scale`` in float32, as ONNX defines it."""
        return (np.asarray(q, np.int32) - self.zero).astype(np.float32) * np.float32(self.scale)

    def __str__(self) -> str:
        return f"{self.dtype} * {self.scale:.6g} @ {self.zero}"


@dataclass(frozen=True)
class Shape:
    """Extent of a feature map without its batch axis, in stream order (row, column, channel).

    A vector of n features is ``Shape(1, 1, n)``; a 1-D sequence of n steps is ``Shape(n, 1,
    channels)``.
    """

    height: int
    width: int
    channels: int

    @property
    def pixels(self) -> int:
        return self.height * self.width

    @property
    def size(self) -> int:
        return self.pixels * self.channels

    @property
    def array(self) -> tuple[int, int, int]:
        """As a NumPy shape."""
        return self.height, self.width, self.channels

    def __str__(self) -> str:
        return f"{self.height}x{self.width}x{self.channels}"


@dataclass(frozen=True)
class Value:
    """A named feature map. ``quant`` is None while the value is still a float."""

    name: str
    shape: Shape
    quant: Quant | None = None

    def __str__(self) -> str:
        return f"%{self.name}: {self.shape} {self.quant or 'f32'}"

"""Functions of one real variable: what a ``Unary`` may compute.

A function is a frozen dataclass. It says what it is three times over, each for another use: in
float64 (:meth:`Function.__call__`), as bounds of the exact result (:meth:`Function.enclosure`), and
as the range of its results (:attr:`Function.image`). The golden model has rules of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Function", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Sigmoid", "Tanh"]

Floats = NDArray[np.float64]
Bounds = tuple[Fraction, Fraction]


@dataclass(frozen=True)
class Function:
    """A function of one real variable, computed in hardware for every integer of its input.

    ``image``: the bounds that its results never leave and come arbitrarily close to; None where
    there are none.
    """

    image: ClassVar[tuple[float, float] | None] = None

    def __call__(self, x: Floats) -> Floats:
        """In float64, off by a few units in the last place."""
        raise NotImplementedError

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        """Bounds of the exact result: equal where it is rational, else about ``10**-digits`` apart.

        A result that is not rational is never a tie, so that enough digits decide how it is
        rounded.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Identity(Function):
    """``x``: changes the quantization only, or carries a :class:`~.ops.Clamp`."""

    def __call__(self, x: Floats) -> Floats:
        return x

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        return x, x


@dataclass(frozen=True)
class LeakyRelu(Function):
    """``x if x >= 0 else alpha * x`` (``alpha`` is a float32)."""

    alpha: float = float(np.float32(0.01))

    def __call__(self, x: Floats) -> Floats:
        return np.where(x >= 0, x, self.alpha * x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        y = x if x >= 0 else Fraction(self.alpha) * x
        return y, y


@dataclass(frozen=True)
class Sigmoid(Function):
    """``1 / (1 + exp(-x))``."""

    image = (0.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        return 1 / (1 + np.exp(-x))

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        if x == 0:
            return Fraction(1, 2), Fraction(1, 2)
        return _of_exp(lambda e: 1 / (1 + 1 / e), x, digits)


@dataclass(frozen=True)
class Tanh(Function):
    """Hyperbolic tangent."""

    image = (-1.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        return np.tanh(x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        if x == 0:
            return Fraction(0), Fraction(0)
        return _of_exp(lambda e: (e - 1) / (e + 1), 2 * x, digits)


@dataclass(frozen=True)
class HardSigmoid(Function):
    """``min(max(alpha * x + beta, 0), 1)`` (``alpha``, ``beta`` are float32)."""

    image = (0.0, 1.0)

    alpha: float = float(np.float32(0.2))
    beta: float = 0.5

    def __call__(self, x: Floats) -> Floats:
        return np.clip(self.alpha * x + self.beta, 0, 1)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        y = min(max(Fraction(self.alpha) * x + Fraction(self.beta), Fraction(0)), Fraction(1))
        return y, y


@dataclass(frozen=True)
class HardSwish(Function):
    """``x * min(max(x / 6 + 1/2, 0), 1)``."""

    def __call__(self, x: Floats) -> Floats:
        return x * np.clip(x / 6 + 0.5, 0, 1)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        y = x * min(max(x / 6 + Fraction(1, 2), Fraction(0)), Fraction(1))
        return y, y


def _of_exp(of_exp: Callable[[Decimal], Decimal], x: Fraction, digits: int) -> Bounds:
    """Bounds of ``of_exp(exp(x))``, which is 1 at most.

    For a rational ``x`` other than 0 the result is transcendental (Lindemann), so it is never a
    tie. Beyond 200 the function is within 1e-86 of its limit, and ties, multiples of half a float32
    and so of 2**-150, are farther off or at the limit itself: 200 stands for all that is further
    out.
    """
    x = min(max(x, Fraction(-200)), Fraction(200))
    with localcontext() as context:
        context.prec = digits + 10  # ten digits to spare for four operations
        value = Fraction(of_exp((Decimal(x.numerator) / Decimal(x.denominator)).exp()))
    error = Fraction(1, 10**digits)
    return value - error, value + error

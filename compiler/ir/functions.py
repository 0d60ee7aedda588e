"""Functions of one real variable: what a ``Unary`` may compute.

A function is a frozen dataclass. It says what it is three times over, each for another use: in
float64 (:meth:`Function.__call__`), as bounds of the exact result (:meth:`Function.enclosure`), and
as the range of its results (:attr:`Function.image`). The golden model has rules of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from decimal import Decimal, localcontext
from fractions import Fraction
from math import ceil, floor, isfinite
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Abs",
    "Ceil",
    "Celu",
    "Elu",
    "Exp",
    "Floor",
    "Function",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Mish",
    "Neg",
    "Round",
    "Selu",
    "Sigmoid",
    "Sign",
    "Softplus",
    "Softsign",
    "Tanh",
    "ThresholdedRelu",
]

Floats = NDArray[np.float64]
Bounds = tuple[Fraction, Fraction]

#: largest exponent of e that is told from a larger one
_FAR = 200


@dataclass(frozen=True)
class Function:
    """A function of one real variable, computed in hardware for every integer of its input.

    ``image``: the bounds that its results never leave and come arbitrarily close to; None where
    there are none.
    """

    image: ClassVar[tuple[float, float] | None] = None

    def __post_init__(self) -> None:
        for one in fields(self):
            if not isfinite(getattr(self, one.name)):
                raise ValueError(f"{one.name} is {getattr(self, one.name)}, not a finite number")

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


@dataclass(frozen=True)
class Abs(Function):
    """``|x|``."""

    def __call__(self, x: Floats) -> Floats:
        return np.abs(x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        return abs(x), abs(x)


@dataclass(frozen=True)
class Neg(Function):
    """``-x``."""

    def __call__(self, x: Floats) -> Floats:
        return -x

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        return -x, -x


@dataclass(frozen=True)
class Sign(Function):
    """-1, 0 or 1."""

    image = (-1.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        return np.sign(x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        y = Fraction((x > 0) - (x < 0))
        return y, y


@dataclass(frozen=True)
class Floor(Function):
    """The largest integer up to ``x``."""

    def __call__(self, x: Floats) -> Floats:
        return np.floor(x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        y = Fraction(floor(x))
        return y, y


@dataclass(frozen=True)
class Ceil(Function):
    """The smallest integer from ``x`` up."""

    def __call__(self, x: Floats) -> Floats:
        return np.ceil(x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        y = Fraction(ceil(x))
        return y, y


@dataclass(frozen=True)
class Round(Function):
    """The nearest integer; of two the even one."""

    def __call__(self, x: Floats) -> Floats:
        return np.rint(x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        y = Fraction(round(x))
        return y, y


@dataclass(frozen=True)
class ThresholdedRelu(Function):
    """``x if x > alpha else 0`` (``alpha`` is a float32)."""

    alpha: float = 1.0

    def __call__(self, x: Floats) -> Floats:
        return np.where(x > self.alpha, x, 0.0)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        y = x if x > Fraction(self.alpha) else Fraction(0)
        return y, y


@dataclass(frozen=True)
class Softsign(Function):
    """``x / (1 + |x|)``."""

    image = (-1.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        y: Floats = x / (1 + np.abs(x))
        return y

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        y = x / (1 + abs(x))
        return y, y


@dataclass(frozen=True)
class Elu(Function):
    """``x if x >= 0 else alpha * (exp(x) - 1)`` (``alpha`` is a float32)."""

    alpha: float = 1.0

    def __call__(self, x: Floats) -> Floats:
        return np.where(x >= 0, x, self.alpha * np.expm1(np.minimum(x, 0)))

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        if x >= 0:
            return x, x
        return _times(Fraction(self.alpha), _of_exp(lambda e: e - 1, x, digits))


@dataclass(frozen=True)
class Celu(Function):
    """``x if x >= 0 else alpha * (exp(x / alpha) - 1)`` (``alpha`` is a float32 above 0)."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha <= 0:
            raise ValueError(f"alpha is {self.alpha}, not above 0")

    def __call__(self, x: Floats) -> Floats:
        return self.alpha * Elu()(x / self.alpha)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        alpha = Fraction(self.alpha)
        return _times(alpha, Elu().enclosure(x / alpha, digits))


@dataclass(frozen=True)
class Selu(Function):
    """``gamma * (x if x >= 0 else alpha * (exp(x) - 1))`` (``alpha``, ``gamma`` are float32)."""

    alpha: float = float(np.float32(1.67326319217681884765625))
    gamma: float = float(np.float32(1.05070102214813232421875))

    def __call__(self, x: Floats) -> Floats:
        return self.gamma * Elu(self.alpha)(x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        return _times(Fraction(self.gamma), Elu(self.alpha).enclosure(x, digits))


@dataclass(frozen=True)
class Softplus(Function):
    """``log(1 + exp(x))``; transcendental for every rational ``x``."""

    def __call__(self, x: Floats) -> Floats:
        return np.logaddexp(0.0, x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        # log(1 + exp(x)) = max(x, 0) + log(1 + exp(-|x|))
        low, high = _of_exp(lambda e: (1 + e).ln(), -abs(x), digits)
        return low + max(x, Fraction(0)), high + max(x, Fraction(0))


@dataclass(frozen=True)
class Mish(Function):
    """``x * tanh(log(1 + exp(x)))``."""

    def __call__(self, x: Floats) -> Floats:
        return x * np.tanh(np.logaddexp(0.0, x))

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        if x == 0:
            return x, x
        return _times(x, _of_exp(lambda e: 1 - 2 / ((1 + e) ** 2 + 1), x, digits))


@dataclass(frozen=True)
class Exp(Function):
    """``exp(x)``."""

    def __call__(self, x: Floats) -> Floats:
        return np.exp(x)

    def enclosure(self, x: Fraction, digits: int) -> Bounds:
        if x == 0:
            return Fraction(1), Fraction(1)
        if x < 0:
            return _of_exp(lambda e: e, x, digits)
        x = min(x, Fraction(_FAR))  # the largest output of a quantized value is far below that
        low, high = _of_exp(lambda e: e, -x, digits + ceil(x))
        return 1 / high, 1 / low


def _times(factor: Fraction, bounds: Bounds) -> Bounds:
    """Bounds of ``factor`` times what lies within ``bounds``."""
    low, high = sorted(factor * bound for bound in bounds)
    return low, high


def _of_exp(of_exp: Callable[[Decimal], Decimal], x: Fraction, digits: int) -> Bounds:
    """Bounds of ``of_exp(exp(x))``, which is 1 at most.

    For a rational ``x`` other than 0 the result is transcendental (Lindemann), so it is never a
    tie. Beyond :data:`_FAR` the function is within 1e-86 of its limit, and ties, multiples of half
    a float32 and so of 2**-150, are farther off or at the limit itself: that ``x`` stands for all
    that is further out.
    """
    x = min(max(x, Fraction(-_FAR)), Fraction(_FAR))
    with localcontext() as context:
        context.prec = digits + 10  # ten digits to spare for a few operations
        value = Fraction(of_exp((Decimal(x.numerator) / Decimal(x.denominator)).exp()))
    error = Fraction(1, 10**digits)
    return value - error, value + error

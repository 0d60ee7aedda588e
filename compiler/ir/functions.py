"""Functions of one real variable: what a ``Unary`` may compute.

A function is a frozen dataclass. It says what it is three times over, each for another use: in
float64 (:meth:`Function.__call__`), in exact arithmetic (:meth:`Function.exact`), and
as the range of its results (:attr:`Function.image`). The golden model has rules of its own.
"""

from dataclasses import dataclass, fields
from fractions import Fraction
from math import ceil, isfinite, pi
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from .intervals import Interval

__all__ = [
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "Ceil",
    "Celu",
    "Cos",
    "Cosh",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Function",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "INFINITE",
    "Identity",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Mish",
    "Mod",
    "Neg",
    "Pow",
    "Reciprocal",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Swish",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
]

Floats = NDArray[np.float64]

#: exp of more than that is so far from its limit, 1e-174, that no tie is nearer: a larger magnitude
#: stands for all that is further out, which keeps a result apart from the limit it tends to
_FAR = 400
#: the share of a float64 result that it is off by at most
_ROUNDING = 2.0**-48
#: significant bits that tell on which side of a domain's border an interval lies
_DOMAIN_BITS = 64
#: what stands for an infinite result, beyond any quantized value
INFINITE = Fraction(1 << 200)


@dataclass(frozen=True)
class Function:
    """A function of one real variable, computed in hardware for every integer of its input.

    Where it is undefined (NaN), it counts as minus infinity: the lowest integer.

    ``image``: the bounds that its results never leave and come arbitrarily close to; None where
    there are none. ``integral``: every result is an integer. ``partial``: it may be undefined.
    ``homogeneous``: a positive factor of the variable is one of the result.
    """

    image: ClassVar[tuple[float, float] | None] = None
    integral: ClassVar[bool] = False
    partial: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, float) and not isfinite(value):
                raise ValueError(f"{one.name} is {value}, not a finite number")

    @property
    def jumps(self) -> bool:
        """Whether the result steps from one number to another at some value of the variable; a pole
        is no step.
        """
        return self.integral

    def __call__(self, x: Floats) -> Floats:
        """In float64, off by a few units in the last place."""
        name = type(self).__name__
        raise NotImplementedError(f"compiler/ir/functions.py: {name} has no __call__")

    def estimate(self, x: Floats) -> tuple[Floats, Floats]:
        """The result in float64, and how far it is off at most; NaN where that is unknown."""
        y = self(x)
        return y, np.abs(y) * _ROUNDING

    def exact(self, x: Interval) -> Interval:
        """The results for all numbers of an interval, as narrow as its digits allow."""
        raise NotImplementedError(f"compiler/ir/functions.py: {type(self).__name__} has no exact")

    def undefined(self, low: Fraction, high: Fraction) -> bool:
        """Whether the function is surely undefined everywhere from ``low`` to ``high``."""
        return self.exact(Interval(low, high, _DOMAIN_BITS)).undefined

    def enclosure(self, x: Fraction, digits: int) -> tuple[Fraction, Fraction]:
        """Bounds of the result: equal where it is rational, else ``10**-digits`` apart at most.

        Results beyond :data:`INFINITE` count as that. A result that is not rational is never a tie,
        so that enough digits decide how it is rounded.
        """
        wanted, bits = Fraction(1, 10**digits), ceil(digits * 3.33) + 32
        for _ in range(4):
            y = self.exact(Interval.of(x, bits))
            if y.undefined:
                return -INFINITE, -INFINITE
            low, high = (_held(end) for end in (y.low, y.high))
            if high - low <= wanted:
                break
            bits *= 2
        return low, high


def _held(end: Fraction | float) -> Fraction:
    if isinstance(end, float):
        return INFINITE if end > 0 else -INFINITE
    return min(max(end, -INFINITE), INFINITE)


@dataclass(frozen=True)
class Identity(Function):
    """``x``: changes the quantization only, or carries a :class:`~.ops.Clamp`."""

    homogeneous = True

    def __call__(self, x: Floats) -> Floats:
        return x

    def exact(self, x: Interval) -> Interval:
        return x


@dataclass(frozen=True)
class LeakyRelu(Function):
    """``x if x >= 0 else alpha * x`` (``alpha`` is a float32)."""

    homogeneous = True

    alpha: float = float(np.float32(0.01))

    def __call__(self, x: Floats) -> Floats:
        return np.where(x >= 0, x, self.alpha * x)

    def exact(self, x: Interval) -> Interval:
        zero = x.constant(0)
        return x.maximum(zero) + x.constant(self.alpha) * x.minimum(zero)


@dataclass(frozen=True)
class Sigmoid(Function):
    """``1 / (1 + exp(-x))``."""

    image = (0.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        return 1 / (1 + np.exp(-x))

    def exact(self, x: Interval) -> Interval:
        one = x.constant(1)
        return one / (one + (-_near(x)).exp())


@dataclass(frozen=True)
class Tanh(Function):
    """Hyperbolic tangent."""

    image = (-1.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        return np.tanh(x)

    def exact(self, x: Interval) -> Interval:
        one, e = x.constant(1), _near(x + x).exp()
        return one - x.constant(2) / (e + one)


@dataclass(frozen=True)
class HardSigmoid(Function):
    """``min(max(alpha * x + beta, 0), 1)`` (``alpha``, ``beta`` are float32)."""

    image = (0.0, 1.0)

    alpha: float = float(np.float32(0.2))
    beta: float = 0.5

    def __call__(self, x: Floats) -> Floats:
        return np.clip(self.alpha * x + self.beta, 0, 1)

    def exact(self, x: Interval) -> Interval:
        return (x.constant(self.alpha) * x + x.constant(self.beta)).limited(0, 1)


@dataclass(frozen=True)
class HardSwish(Function):
    """``x * min(max(x / 6 + 1/2, 0), 1)``."""

    def __call__(self, x: Floats) -> Floats:
        return x * np.clip(x / 6 + 0.5, 0, 1)

    def exact(self, x: Interval) -> Interval:
        return x * (x.constant(Fraction(1, 6)) * x + x.constant(0.5)).limited(0, 1)


@dataclass(frozen=True)
class Abs(Function):
    """``|x|``."""

    homogeneous = True

    def __call__(self, x: Floats) -> Floats:
        return np.abs(x)

    def exact(self, x: Interval) -> Interval:
        return abs(x)


@dataclass(frozen=True)
class Neg(Function):
    """``-x``."""

    homogeneous = True

    def __call__(self, x: Floats) -> Floats:
        return -x

    def exact(self, x: Interval) -> Interval:
        return -x


@dataclass(frozen=True)
class Sign(Function):
    """-1, 0 or 1."""

    image = (-1.0, 1.0)
    integral = True

    def __call__(self, x: Floats) -> Floats:
        return np.sign(x)

    def exact(self, x: Interval) -> Interval:
        zero = x.constant(0)
        return x if x.undefined else x.greater(zero) - zero.greater(x)


@dataclass(frozen=True)
class Floor(Function):
    """The largest integer up to ``x``."""

    integral = True

    def __call__(self, x: Floats) -> Floats:
        return np.floor(x)

    def exact(self, x: Interval) -> Interval:
        return x.floor()


@dataclass(frozen=True)
class Ceil(Function):
    """The smallest integer from ``x`` up."""

    integral = True

    def __call__(self, x: Floats) -> Floats:
        return np.ceil(x)

    def exact(self, x: Interval) -> Interval:
        return -(-x).floor()


@dataclass(frozen=True)
class Round(Function):
    """The nearest integer; of two the even one."""

    integral = True

    def __call__(self, x: Floats) -> Floats:
        return np.rint(x)

    def exact(self, x: Interval) -> Interval:
        return x.monotone(_rounded)


@dataclass(frozen=True)
class ThresholdedRelu(Function):
    """``x if x > alpha else 0`` (``alpha`` is a float32)."""

    alpha: float = 1.0

    @property
    def jumps(self) -> bool:
        return self.alpha != 0

    def __call__(self, x: Floats) -> Floats:
        return np.where(x > self.alpha, x, 0.0)

    def exact(self, x: Interval) -> Interval:
        return x.greater(x.constant(self.alpha)).choose(x, x.constant(0))


@dataclass(frozen=True)
class Softsign(Function):
    """``x / (1 + |x|)``."""

    image = (-1.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        y: Floats = x / (1 + np.abs(x))
        return y

    def exact(self, x: Interval) -> Interval:
        return x / (x.constant(1) + abs(x))


@dataclass(frozen=True)
class Elu(Function):
    """``x if x >= 0 else alpha * (exp(x) - 1)`` (``alpha`` is a float32)."""

    alpha: float = 1.0

    def __call__(self, x: Floats) -> Floats:
        return np.where(x >= 0, x, self.alpha * np.expm1(np.minimum(x, 0)))

    def exact(self, x: Interval) -> Interval:
        zero = x.constant(0)
        e = _near(x.minimum(zero)).exp()
        return x.maximum(zero) + x.constant(self.alpha) * (e - x.constant(1))


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

    def exact(self, x: Interval) -> Interval:
        alpha = x.constant(self.alpha)
        return alpha * Elu().exact(x / alpha)


@dataclass(frozen=True)
class Selu(Function):
    """``gamma * (x if x >= 0 else alpha * (exp(x) - 1))`` (``alpha``, ``gamma`` are float32)."""

    alpha: float = float(np.float32(1.67326319217681884765625))
    gamma: float = float(np.float32(1.05070102214813232421875))

    def __call__(self, x: Floats) -> Floats:
        return self.gamma * Elu(self.alpha)(x)

    def exact(self, x: Interval) -> Interval:
        return x.constant(self.gamma) * Elu(self.alpha).exact(x)


@dataclass(frozen=True)
class Softplus(Function):
    """``log(1 + exp(x))``; transcendental for every rational ``x``."""

    def __call__(self, x: Floats) -> Floats:
        return np.logaddexp(0.0, x)

    def exact(self, x: Interval) -> Interval:
        e = _near(-abs(x)).exp()
        return x.maximum(x.constant(0)) + (x.constant(1) + e).ln()


@dataclass(frozen=True)
class Mish(Function):
    """``x * tanh(log(1 + exp(x)))``."""

    def __call__(self, x: Floats) -> Floats:
        return x * np.tanh(np.logaddexp(0.0, x))

    def exact(self, x: Interval) -> Interval:
        one = x.constant(1)
        e = _near(x).exp() + one
        return x * (one - x.constant(2) / (e * e + one))


@dataclass(frozen=True)
class Exp(Function):
    """``exp(x)``."""

    def __call__(self, x: Floats) -> Floats:
        return np.exp(x)

    def exact(self, x: Interval) -> Interval:
        return x.exp()


@dataclass(frozen=True)
class Swish(Function):
    """``x / (1 + exp(-alpha * x))``, SiLU for an ``alpha`` of 1 (``alpha`` is a float32)."""

    alpha: float = 1.0

    def __call__(self, x: Floats) -> Floats:
        y: Floats = x / (1 + np.exp(-self.alpha * x))
        return y

    def exact(self, x: Interval) -> Interval:
        return x * Sigmoid().exact(x.constant(self.alpha) * x)


@dataclass(frozen=True)
class Erf(Function):
    """The error function."""

    image = (-1.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        from scipy.special import erf  # most commands need no SciPy, which takes long to import

        y: Floats = erf(x)
        return y

    def exact(self, x: Interval) -> Interval:
        return x.erf()


@dataclass(frozen=True)
class Gelu(Function):
    """``x * (1 + erf(x / sqrt(2))) / 2``; with ``approximate`` "tanh" instead of "none",
    ``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3))) / 2``, with these real numbers.
    """

    approximate: Literal["none", "tanh"] = "none"

    def __post_init__(self) -> None:
        if self.approximate not in ("none", "tanh"):
            raise ValueError(f"approximate is {self.approximate!r}, not 'none' or 'tanh'")

    def __call__(self, x: Floats) -> Floats:
        y: Floats
        if self.approximate == "tanh":
            cubic = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
            y = x / (1 + np.exp(-2 * cubic))
            return y
        from scipy.special import erfc  # most commands need no SciPy, which takes long to import

        y = x * erfc(-x / np.sqrt(2)) / 2
        return y

    def exact(self, x: Interval) -> Interval:
        one, two = x.constant(1), x.constant(2)
        if self.approximate == "none":
            return x * (one + (x / two.sqrt()).erf()) / two
        cubic = x + x.constant(Fraction(44715, 10**6)) * x**3
        return x * (one + Tanh().exact((two / x.pi()).sqrt() * cubic)) / two


@dataclass(frozen=True)
class Log(Function):
    """The natural logarithm; minus infinity for 0, undefined below."""

    partial = True

    def __call__(self, x: Floats) -> Floats:
        return np.log(x)

    def exact(self, x: Interval) -> Interval:
        return x.ln()


@dataclass(frozen=True)
class Sqrt(Function):
    """The square root; undefined below 0."""

    partial = True

    def __call__(self, x: Floats) -> Floats:
        return np.sqrt(x)

    def exact(self, x: Interval) -> Interval:
        return x.sqrt()


@dataclass(frozen=True)
class Reciprocal(Function):
    """``1 / x``; infinity for 0."""

    def __call__(self, x: Floats) -> Floats:
        y: Floats = 1 / np.where(x == 0, 0.0, x)  # no negative zero
        return y

    def exact(self, x: Interval) -> Interval:
        return x.constant(1) / x


@dataclass(frozen=True)
class Pow(Function):
    """``x ** exponent`` (a float32); of a negative number undefined unless ``exponent`` is an
    integer; infinity for 0 and an ``exponent`` below 0.
    """

    partial = True

    exponent: float = 2.0

    def __call__(self, x: Floats) -> Floats:
        y: Floats = np.power(np.where(x == 0, 0.0, x), self.exponent)
        return y

    def exact(self, x: Interval) -> Interval:
        return x.power(Fraction(self.exponent))


@dataclass(frozen=True)
class Shrink(Function):
    """``x + bias if x < -lambd else x - bias if x > lambd else 0`` (both are float32)."""

    bias: float = 0.0
    lambd: float = 0.5

    @property
    def jumps(self) -> bool:
        return self.bias != max(self.lambd, 0)

    def __call__(self, x: Floats) -> Floats:
        inner = np.where(x > self.lambd, x - self.bias, 0.0)
        y: Floats = np.where(x < -self.lambd, x + self.bias, inner)
        return y

    def exact(self, x: Interval) -> Interval:
        bias, limit = x.constant(self.bias), x.constant(self.lambd)
        inner = x.greater(limit).choose(x - bias, x.constant(0))
        return (-limit).greater(x).choose(x + bias, inner)


@dataclass(frozen=True)
class Sin(Function):
    """The sine."""

    image = (-1.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        return np.sin(x)

    def exact(self, x: Interval) -> Interval:
        return x.sin()


@dataclass(frozen=True)
class Cos(Function):
    """The cosine."""

    image = (-1.0, 1.0)

    def __call__(self, x: Floats) -> Floats:
        return np.cos(x)

    def exact(self, x: Interval) -> Interval:
        return x.cos()


@dataclass(frozen=True)
class Tan(Function):
    """The tangent."""

    def __call__(self, x: Floats) -> Floats:
        return np.tan(x)

    def exact(self, x: Interval) -> Interval:
        return x.sin() / x.cos()


@dataclass(frozen=True)
class Asin(Function):
    """The inverse of the sine; undefined beyond -1 and 1."""

    image = (-pi / 2, pi / 2)
    partial = True

    def __call__(self, x: Floats) -> Floats:
        return np.arcsin(x)

    def exact(self, x: Interval) -> Interval:
        return (x / (x.constant(1) - x**2).sqrt()).atan()


@dataclass(frozen=True)
class Acos(Function):
    """The inverse of the cosine; undefined beyond -1 and 1."""

    image = (0.0, pi)
    partial = True

    def __call__(self, x: Floats) -> Floats:
        return np.arccos(x)

    def exact(self, x: Interval) -> Interval:
        one = x.constant(1)
        return x.constant(2) * ((one - x) / (one + x)).sqrt().atan()


@dataclass(frozen=True)
class Atan(Function):
    """The inverse of the tangent."""

    image = (-pi / 2, pi / 2)

    def __call__(self, x: Floats) -> Floats:
        return np.arctan(x)

    def exact(self, x: Interval) -> Interval:
        return x.atan()


@dataclass(frozen=True)
class Sinh(Function):
    """The hyperbolic sine."""

    def __call__(self, x: Floats) -> Floats:
        return np.sinh(x)

    def exact(self, x: Interval) -> Interval:
        return (x.exp() - (-x).exp()) / x.constant(2)


@dataclass(frozen=True)
class Cosh(Function):
    """The hyperbolic cosine."""

    def __call__(self, x: Floats) -> Floats:
        return np.cosh(x)

    def exact(self, x: Interval) -> Interval:
        return (x.exp() + (-x).exp()) / x.constant(2)


@dataclass(frozen=True)
class Asinh(Function):
    """The inverse of the hyperbolic sine."""

    def __call__(self, x: Floats) -> Floats:
        return np.arcsinh(x)

    def exact(self, x: Interval) -> Interval:
        return x.monotone(self._of_a_number)

    @staticmethod
    def _of_a_number(x: Interval) -> Interval:
        y = (abs(x) + (x**2 + x.constant(1)).sqrt()).ln()
        return -y if x.low < 0 else y


@dataclass(frozen=True)
class Acosh(Function):
    """The inverse of the hyperbolic cosine; undefined below 1."""

    partial = True

    def __call__(self, x: Floats) -> Floats:
        return np.arccosh(x)

    def exact(self, x: Interval) -> Interval:
        return (x + (x**2 - x.constant(1)).sqrt()).ln() if x.high >= 1 else x.constant(-1).sqrt()


@dataclass(frozen=True)
class Atanh(Function):
    """The inverse of the hyperbolic tangent; infinite at -1 and 1, undefined beyond."""

    partial = True

    def __call__(self, x: Floats) -> Floats:
        return np.arctanh(x)

    def exact(self, x: Interval) -> Interval:
        one = x.constant(1)
        return ((one + x) / (one - x)).ln() / x.constant(2)


@dataclass(frozen=True)
class Mod(Function):
    """``x`` less a multiple of ``divisor``: the remainder, of the sign of ``x``, that is nearer to
    0 than ``divisor`` (a float32 that is not 0).
    """

    divisor: float = 16.0

    @property
    def jumps(self) -> bool:
        return True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.divisor == 0:
            raise ValueError("divisor is 0")

    def __call__(self, x: Floats) -> Floats:
        return np.fmod(x, self.divisor)

    def exact(self, x: Interval) -> Interval:
        divisor = x.constant(abs(self.divisor))
        zero = x.constant(0)
        whole = (x / divisor).maximum(zero).floor() - (-x / divisor).maximum(zero).floor()
        return x - divisor * whole


@dataclass(frozen=True)
class _Comparison(Function):
    """1 where ``x`` compares so with ``bound`` (a float32), else 0."""

    image = (0.0, 1.0)
    integral = True

    bound: float = 0.0


@dataclass(frozen=True)
class Greater(_Comparison):
    """``1 if x > bound else 0`` (``bound`` is a float32)."""

    def __call__(self, x: Floats) -> Floats:
        return (x > self.bound).astype(np.float64)

    def exact(self, x: Interval) -> Interval:
        return x.greater(x.constant(self.bound))


@dataclass(frozen=True)
class Less(_Comparison):
    """``1 if x < bound else 0`` (``bound`` is a float32)."""

    def __call__(self, x: Floats) -> Floats:
        return (x < self.bound).astype(np.float64)

    def exact(self, x: Interval) -> Interval:
        return x.constant(self.bound).greater(x)


@dataclass(frozen=True)
class GreaterOrEqual(_Comparison):
    """``1 if x >= bound else 0`` (``bound`` is a float32)."""

    def __call__(self, x: Floats) -> Floats:
        return (x >= self.bound).astype(np.float64)

    def exact(self, x: Interval) -> Interval:
        return x.constant(0) if x.undefined else x.constant(1) - Less(self.bound).exact(x)


@dataclass(frozen=True)
class LessOrEqual(_Comparison):
    """``1 if x <= bound else 0`` (``bound`` is a float32)."""

    def __call__(self, x: Floats) -> Floats:
        return (x <= self.bound).astype(np.float64)

    def exact(self, x: Interval) -> Interval:
        return x.constant(0) if x.undefined else x.constant(1) - Greater(self.bound).exact(x)


@dataclass(frozen=True)
class Equal(_Comparison):
    """``1 if x == bound else 0`` (``bound`` is a float32)."""

    def __call__(self, x: Floats) -> Floats:
        equal: NDArray[np.bool_] = x == self.bound
        return equal.astype(np.float64)

    def exact(self, x: Interval) -> Interval:
        return x.equal(x.constant(self.bound))


def _near(x: Interval) -> Interval:
    """The argument of an exponential whose result tends to a limit."""
    return x.limited(-_FAR, _FAR)


def _rounded(x: Interval) -> Interval:
    """An exact number rounded half to even."""
    return x if isinstance(x.low, float) else x.constant(round(x.low))

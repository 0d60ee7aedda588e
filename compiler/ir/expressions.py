"""A function made of others: an expression over one real variable, as a list of steps."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from .functions import Function, Sigmoid, Swish, Tanh
from .intervals import Interval

__all__ = [
    "Affine",
    "Difference",
    "Expression",
    "Larger",
    "Limit",
    "Operation",
    "Product",
    "Smaller",
    "Step",
    "Sum",
    "spelled",
]

Floats = NDArray[np.float64]

#: a float64 result is off by at most this share of it
_ROUNDING = 2.0**-48


@dataclass(frozen=True)
class Operation:
    """An operation of one or two numbers in an expression. ``commutes``: their order is free."""

    arity: ClassVar[int] = 2
    commutes: ClassVar[bool] = True

    def __call__(self, *x: Floats) -> Floats:
        """In float64, off by a unit in the last place."""
        raise NotImplementedError

    def exact(self, *x: Interval) -> Interval:
        """The results for all numbers of the intervals."""
        raise NotImplementedError

    def text(self, *x: str) -> str:
        """In infix form."""
        raise NotImplementedError


@dataclass(frozen=True)
class Sum(Operation):
    """``a + b``."""

    def __call__(self, *x: Floats) -> Floats:
        a, b = x
        return a + b

    def exact(self, *x: Interval) -> Interval:
        a, b = x
        return a + b

    def text(self, *x: str) -> str:
        a, b = x
        return f"({a} + {b})"


@dataclass(frozen=True)
class Difference(Operation):
    """``a - b``."""

    commutes = False

    def __call__(self, *x: Floats) -> Floats:
        a, b = x
        return a - b

    def exact(self, *x: Interval) -> Interval:
        a, b = x
        return a - b

    def text(self, *x: str) -> str:
        a, b = x
        return f"({a} - {b})"


@dataclass(frozen=True)
class Product(Operation):
    """``a * b``."""

    def __call__(self, *x: Floats) -> Floats:
        a, b = x
        return a * b

    def exact(self, *x: Interval) -> Interval:
        a, b = x
        return a * b

    def text(self, *x: str) -> str:
        a, b = x
        return f"{a} * {b}"


@dataclass(frozen=True)
class Larger(Operation):
    """``max(a, b)``."""

    def __call__(self, *x: Floats) -> Floats:
        return np.maximum(*x)

    def exact(self, *x: Interval) -> Interval:
        a, b = x
        return a.maximum(b)

    def text(self, *x: str) -> str:
        a, b = x
        return f"max({a}, {b})"


@dataclass(frozen=True)
class Smaller(Operation):
    """``min(a, b)``."""

    def __call__(self, *x: Floats) -> Floats:
        return np.minimum(*x)

    def exact(self, *x: Interval) -> Interval:
        a, b = x
        return a.minimum(b)

    def text(self, *x: str) -> str:
        a, b = x
        return f"min({a}, {b})"


@dataclass(frozen=True)
class Affine(Operation):
    """``factor * x + shift`` (both are float32)."""

    arity = 1

    factor: float
    shift: float = 0.0

    def __call__(self, *x: Floats) -> Floats:
        return self.factor * x[0] + self.shift

    def exact(self, *x: Interval) -> Interval:
        return x[0].constant(self.factor) * x[0] + x[0].constant(self.shift)

    def text(self, *x: str) -> str:
        product = x[0] if self.factor == 1 else f"{self.factor:g} * {x[0]}"
        return f"({product} + {self.shift:g})" if self.shift else product


@dataclass(frozen=True)
class Limit(Operation):
    """``min(max(x, low), high)`` (both are float32, or infinite)."""

    arity = 1

    low: float = -inf
    high: float = inf

    def __call__(self, *x: Floats) -> Floats:
        y: Floats = np.clip(x[0], self.low, self.high)
        return y

    def exact(self, *x: Interval) -> Interval:
        return x[0].limited(self.low, self.high)

    def text(self, *x: str) -> str:
        return f"clip({x[0]}, {self.low:g}, {self.high:g})"


@dataclass(frozen=True)
class Step:
    """An operation, or a function, of the variable (operand 0) and of the results of earlier steps
    (operand n of the n-th).
    """

    operation: Operation | Function
    operands: tuple[int, ...]


@dataclass(frozen=True)
class Expression(Function):
    """The result of the last of ``steps``; the default is ``x * Tanh(x)``.

    A result nearer than 1e-300 output steps to a tie counts as that tie, so that identities such as
    ``Sigmoid(x) + Sigmoid(-x) = 1`` hold.
    """

    partial = True

    steps: tuple[Step, ...] = (Step(Tanh(), (0,)), Step(Product(), (0, 1)))

    def __post_init__(self) -> None:
        for place, step in enumerate(self.steps):
            arity = step.operation.arity if isinstance(step.operation, Operation) else 1
            if len(step.operands) != arity or not all(0 <= n <= place for n in step.operands):
                raise ValueError(f"step {place + 1} of an expression has operands {step.operands}")
        if not self.steps:
            raise ValueError("an expression has no steps")

    @property
    def jumps(self) -> bool:
        functions = (step.operation for step in self.steps if isinstance(step.operation, Function))
        return any(function.jumps for function in functions)

    def __call__(self, x: Floats) -> Floats:
        """In float64; :meth:`estimate` says how far off."""
        return self.estimate(x)[0]

    def exact(self, x: Interval) -> Interval:
        values = [x]
        for step in self.steps:
            values.append(step.operation.exact(*(values[n] for n in step.operands)))
        return values[-1]

    def estimate(self, x: Floats) -> tuple[Floats, Floats]:
        values, errors = [x], [np.zeros_like(x)]
        with np.errstate(all="ignore"):
            for step in self.steps:
                operands = [values[n] for n in step.operands]
                doubts = [errors[n] for n in step.operands]
                result = _no_negative_zero(step.operation(*operands))
                values.append(result)
                errors.append(_error(step.operation, operands, doubts, result))
        return values[-1], errors[-1]

    def __str__(self) -> str:
        """In infix form; results that are read more than once are given names."""
        reads = Counter(n for step in self.steps for n in step.operands)
        texts, named = ["x"], list[str]()
        for place, step in enumerate(self.steps, 1):
            operands = [texts[n] for n in step.operands]
            if isinstance(step.operation, Operation):
                text = step.operation.text(*operands)
            else:
                text = f"{str(step.operation).removesuffix('()')}({operands[0]})"
            if reads[place] > 1:
                name = f"t{len(named) + 1}"
                named.append(f"{name} = {text}; ")
                text = name
            texts.append(text)
        return f"{{{''.join(named)}{texts[-1]}}}"


def spelled(function: Function) -> tuple[Step, ...] | None:
    """The steps of an expression, and of a function that is written as one; None for others."""
    if isinstance(function, Expression):
        return function.steps
    if not isinstance(function, Swish):
        return None
    scale = () if function.alpha == 1 else (Step(Affine(function.alpha), (0,)),)
    gate = len(scale)
    return (*scale, Step(Sigmoid(), (gate,)), Step(Product(), (0, gate + 1)))


def _no_negative_zero(x: Floats) -> Floats:
    return np.where(x == 0, 0.0, x)


def _error(
    operation: Callable[..., Floats],
    operands: Sequence[Floats],
    doubts: Sequence[Floats],
    result: Floats,
) -> Floats:
    """How far off the result is, for operands that are off by ``doubts``: twice what the operation
    makes of their ends, and its own rounding. NaN where that is unknown.
    """
    error: Floats = np.abs(result) * _ROUNDING
    for n, (operand, doubt) in enumerate(zip(operands, doubts, strict=True)):
        for end in (operand - doubt, operand + doubt):
            moved = operation(*operands[:n], end, *operands[n + 1 :])
            error = error + 2 * np.where(doubt == 0, 0.0, np.abs(moved - result))
    if isinstance(operation, Affine):
        error = error + _ROUNDING * abs(operation.shift)
    return error

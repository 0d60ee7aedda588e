"""Integer arithmetic on sizes, and the checks that configurations share."""

from math import isqrt

from amaranth import Shape

__all__ = ["at_least", "ceil_div", "divisors", "ends"]


def ceil_div(a: int, b: int) -> int:
    """``a / b``, rounded up."""
    return -(-a // b)


def divisors(n: int) -> list[int]:
    """The divisors of ``n``, the smallest first."""
    small = [d for d in range(1, isqrt(n) + 1) if n % d == 0]
    return small + [n // d for d in reversed(small) if d * d != n]


def ends(shape: Shape) -> tuple[int, int]:
    """The least and the greatest integer of ``shape``."""
    if shape.signed:
        return -(1 << (shape.width - 1)), (1 << (shape.width - 1)) - 1
    return 0, (1 << shape.width) - 1


def at_least(least: int, config: object, *names: str) -> None:
    """Raise :class:`ValueError` unless each of the named parameters is ``least`` or more."""
    for name in names:
        value = getattr(config, name)
        if min(value) < least if isinstance(value, tuple) else value < least:
            raise ValueError(
                f"{type(config).__name__}: {name}={value}, but it must be {least} or more"
            )

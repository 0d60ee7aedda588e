"""Integer arithmetic on sizes, and the checks that configurations share."""

from math import isqrt

from amaranth import Shape

__all__ = ["at_least", "ceil_div", "divisors", "ends", "filled", "within"]


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
        least_given = min(value) if isinstance(value, tuple) else value
        if least_given is None or least_given < least:
            raise ValueError(
                f"{type(config).__name__}: {name}={value}, but it must be {least} or more"
            )


def within(least: float, most: float, config: object, *names: str) -> None:
    """Raise :class:`ValueError` unless each of the named parameters is ``least`` to ``most``."""
    for name in names:
        value = getattr(config, name)
        if value is None or not least <= value <= most:
            raise ValueError(
                f"{_named(config)}: {name}={value}, but it must be {least:g} to {most:g}"
            )


def filled(config: object, *names: str) -> None:
    """Raise :class:`ValueError` if one of the named parameters is None, empty or 0."""
    for name in names:
        if not getattr(config, name):
            raise ValueError(
                f"{_named(config)}: {name}={getattr(config, name)!r}, but it must be given"
            )


def _named(config: object) -> str:
    """The type of a record, and its name if it has one."""
    name = getattr(config, "name", "")
    return f"{type(config).__name__} {name}" if name else type(config).__name__

"""Integer arithmetic on sizes, and the checks that configurations share."""

__all__ = ["at_least", "ceil_div"]


def ceil_div(a: int, b: int) -> int:
    """``a / b``, rounded up."""
    return -(-a // b)


def at_least(least: int, config: object, *names: str) -> None:
    """Raise :class:`ValueError` unless each of the named parameters is ``least`` or more."""
    for name in names:
        value = getattr(config, name)
        if min(value) < least if isinstance(value, tuple) else value < least:
            raise ValueError(
                f"{type(config).__name__}: {name}={value}, but it must be {least} or more"
            )

"""Registers in a row."""

from amaranth import Module, Signal, Value

__all__ = ["delay"]


def delay(m: Module, value: Value, cycles: int) -> Value:
    """``value`` as it was ``cycles`` cycles ago (0 at reset)."""
    value = Value.cast(value)
    for _ in range(cycles):
        later = Signal(value.shape(), name=f"{getattr(value, 'name', 'delayed')}_")
        m.d.sync += later.eq(value)
        value = later
    return value

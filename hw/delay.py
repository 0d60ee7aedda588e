"""Registers in a row."""

from collections.abc import Iterator

from amaranth import Module, Signal, Value

__all__ = ["KEPT", "delay", "delay_flags", "duplicate", "parts"]

#: of a register that is not to be merged with others of the same value
KEPT = {"keep": "true"}

#: of a register of data: what it starts with does not matter
_DATA = {"data": "true"}

#: bits of a wide word of a shallow memory that one duplicate serves
_PART = 36
#: words of such a memory: one row of distributed RAM
_SHALLOW = 16


def delay(m: Module, value: Value, cycles: int) -> Value:
    """``value`` as it was ``cycles`` cycles ago: data, which no reset reaches.

    What is on its way when a reset comes is forgotten by its flags; so the reset needs no wires
    here.
    """
    return _delay(m, value, cycles, reset_less=True)


def delay_flags(m: Module, value: Value, cycles: int) -> Value:
    """``value`` as it was ``cycles`` cycles ago, 0 after a reset."""
    return _delay(m, value, cycles, reset_less=False)


def _delay(m: Module, value: Value, cycles: int, *, reset_less: bool) -> Value:
    value = Value.cast(value)
    for _ in range(cycles):
        later = Signal(value.shape(), name=f"{getattr(value, 'name', 'delayed')}_",
                       reset_less=reset_less, attrs=_DATA if reset_less else {})
        m.d.sync += later.eq(value)
        value = later
    return value


def duplicate(m: Module, value: Value) -> Value:
    """``value`` a cycle later, in a register that is not merged with others of that value, so that
    it lies near what it feeds.
    """
    value = Value.cast(value)
    later = Signal(value.shape(), name="duplicate", reset_less=True, attrs=KEPT)
    m.d.sync += later.eq(value)
    return later


def parts(width: int, depth: int = _SHALLOW) -> Iterator[slice]:
    """A wide word cut up, for each part to have what controls it in a :func:`duplicate` near it;
    the smaller, the deeper the memory of such words.
    """
    step = max(_PART // 4, _PART * _SHALLOW // depth)
    for low in range(0, width, step):
        yield slice(low, min(low + step, width))

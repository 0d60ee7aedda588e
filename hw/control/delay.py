"""Registers in a row."""

from collections.abc import Iterator

from amaranth import Module, Signal, Value

__all__ = ["KEPT", "delay", "delay_flags", "delays", "duplicate", "parts"]

#: of a register that is not to be merged with others of the same value
KEPT = {"keep": "true"}

#: of a register of data: what it starts with does not matter
_DATA = {"data": "true"}

#: bits of a wide word of a shallow memory that one duplicate serves
_PART = 36
#: words of such a memory: one row of distributed RAM
_SHALLOW = 16


def delay(m: Module, value: Value, cycles: int) -> Value:
    """``value`` as it was ``cycles`` cycles ago: data, whose first value does not matter."""
    return _delay(m, value, cycles, _DATA)


def delays(m: Module, value: Value, cycles: int) -> list[Value]:
    """``value`` as it was 0 to ``cycles`` cycles ago."""
    found = [value]
    for _ in range(cycles):
        found.append(delay(m, found[-1], 1))
    return found


def delay_flags(m: Module, value: Value, cycles: int) -> Value:
    """``value`` as it was ``cycles`` cycles ago, 0 at first.

    No reset reaches it: while one is held (:class:`.Accelerator`), what was on its way runs out.
    """
    return _delay(m, value, cycles, {})


def _delay(m: Module, value: Value, cycles: int, attrs: dict[str, str]) -> Value:
    value = Value.cast(value)
    for _ in range(cycles):
        later = Signal(
            value.shape(),
            name=f"{getattr(value, 'name', 'delayed')}_",
            reset_less=True,
            attrs=attrs,
        )
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

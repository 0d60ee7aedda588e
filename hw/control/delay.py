"""Delay lines: registers in a row, named after the signal and the number of cycles."""

import re
from collections.abc import Iterator

from amaranth import Module, Signal, Value

__all__ = ["KEEP", "delay", "delay_flags", "delays", "duplicate", "fanout_slices"]

#: attribute of a register that synthesis must not merge with others of the same value
KEEP = {"keep": "true"}

#: attribute of a data register: its initial value does not matter
_DATA = {"data": "true"}

#: bits of a wide word of a shallow memory that one duplicate of its control signals drives
_SLICE_BITS = 36
#: words of such a memory: one row of distributed RAM
_SHALLOW = 16


def delay(m: Module, value: Value, cycles: int, *, name: str | None = None) -> Value:
    """``value``, ``cycles`` cycles later: data, whose initial value does not matter.

    The registers of a signal ``x`` are ``x_d1``, ``x_d2`` ...; those of an expression are named
    after ``name``.
    """
    return _delay(m, value, cycles, _DATA, name)


def delays(m: Module, value: Value, cycles: int, *, name: str | None = None) -> list[Value]:
    """``value``, 0 to ``cycles`` cycles later."""
    taps = [value]
    for _ in range(cycles):
        taps.append(_delay(m, taps[-1], 1, _DATA, name))
    return taps


def delay_flags(m: Module, value: Value, cycles: int, *, name: str | None = None) -> Value:
    """``value``, ``cycles`` cycles later; 0 until then. Names as in :func:`delay`.

    The registers are not reset: while a reset is held (:class:`.Accelerator`), flags under way run
    out.
    """
    return _delay(m, value, cycles, {}, name)


def _delay(m: Module, value: Value, cycles: int, attrs: dict[str, str], name: str | None) -> Value:
    value = Value.cast(value)
    stem, first = _stem(value, name)
    for n in range(first + 1, first + cycles + 1):
        later = Signal(
            value.shape(), name=f"{stem}_d{n}", reset_less=True, attrs=attrs, src_loc_at=2
        )
        m.d.sync += later.eq(value)
        value = later
    return value


_DELAYED = re.compile(r"(.+)_d(\d+)(?:_copy)?")


def _stem(value: Value, name: str | None) -> tuple[str, int]:
    """The name of the signal that ``value`` is or is a part of, and how late it is already."""
    while not isinstance(value, Signal) and isinstance(
        part := getattr(value, "value", None), Value
    ):
        value = part
    known = value.name if isinstance(value, Signal) else ""
    found = _DELAYED.fullmatch(known)
    stem, cycles = (found[1], int(found[2])) if found else (known, 0)
    return (name, 0 if name != stem else cycles) if name else (stem or "value", cycles)


def duplicate(m: Module, value: Value, *, name: str | None = None) -> Value:
    """``value``, a cycle later, from a register of its own near what it drives: ``x_d1_copy``.

    Synthesis does not merge it with other registers of the same value.
    """
    value = Value.cast(value)
    stem, cycles = _stem(value, name)
    copy = Signal(
        value.shape(), name=f"{stem}_d{cycles + 1}_copy", reset_less=True, attrs=KEEP, src_loc_at=1
    )
    m.d.sync += copy.eq(value)
    return copy


def fanout_slices(width: int, depth: int = _SHALLOW) -> Iterator[slice]:
    """Slices of a wide memory word whose control signals each come from a :func:`duplicate`.

    The deeper the memory, the narrower the slices.
    """
    step = max(_SLICE_BITS // 4, _SLICE_BITS * _SHALLOW // depth)
    for low in range(0, width, step):
        yield slice(low, min(low + step, width))

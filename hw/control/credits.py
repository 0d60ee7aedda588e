"""Counts of what waits and of the room there is, each told by a register."""

from amaranth import Cat, Module, Mux, Signal, Value, signed

from .delay import delay_flags

__all__ = ["credit_available", "occupied"]


def occupied(
    m: Module,
    name: str,
    more: Value,
    less: Value,
    most: int,
    first: int = 0,
    *,
    reset_less: bool = False,
) -> Value:
    """Whether there are any: ``first`` at the start, one more and one less as those are up, never
    beyond ``most``. ``less`` may come later in a cycle than ``more``.
    """
    # Beside the flag, how many there are beyond one: changes are counted a cycle late, so that all
    # that ``less`` decides is a flag.
    there = Signal(name=name, init=first > 0, reset_less=reset_less)
    beyond = Signal(
        signed(most.bit_length() + 1), name=f"{name}_beyond", init=first - 2, reset_less=reset_less
    )
    change = Signal(signed(2), name=f"{name}_change", reset_less=reset_less)
    later = beyond + change
    several = ~later[len(beyond) - 1]
    m.d.sync += [
        beyond.eq(later),
        change.eq(Cat(more ^ less, less & ~more)),
        there.eq(more | (there & (several | ~less))),
    ]
    return there


def credit_available(
    m: Module, size: int, share: int, returned: Value, taken: Value, *, apart: int, late: int = 0
) -> Value:
    """Whether a share of a room of ``size`` is free, ``share`` being given away with each ``taken``
    and as much coming back as ``returned`` tells.

    Both count a cycle late, and it is told ``late`` cycles after that; one is taken ``apart``
    cycles after the other at the earliest.
    """
    kept = share * -(-(2 + late) // apart)
    beyond = Signal(signed((size + kept).bit_length() + 1), name="room", init=size - kept)
    change = Signal(signed((share + 2).bit_length() + 1))
    m.d.sync += [change.eq(returned - Mux(taken, share, 0)), beyond.eq(beyond + change)]
    return delay_flags(m, ~beyond[-1], late)

"""Counts of what waits and of the room there is, each told by a sign that is a register."""

from amaranth import Module, Mux, Signal, Value, signed

__all__ = ["room", "some"]


def some(m: Module, name: str, more: Value, less: Value, most: int, first: int = 0) -> Value:
    """Whether there are any: ``first`` at the start, one more and one less as those are up, never
    beyond ``most``. ``less`` may come later in a cycle than ``more``.
    """
    # Kept less one, so that its sign tells; what is added is the direction, with no logic between.
    count = Signal(signed(most.bit_length() + 1), name=name, init=first - 1)
    with m.If(more ^ less):
        m.d.sync += count.eq(count + Mux(more, 1, -1))
    return ~count[-1]


def room(m: Module, size: int, share: int, returned: Value, taken: Value, *,
         at_once: bool) -> Value:
    """Whether a share of a room of ``size`` is free, ``share`` being given away with each ``taken``
    and as much coming back as ``returned`` tells.

    Both count a cycle late; ``at_once``: another may be taken in that cycle.
    """
    kept = share * (2 if at_once else 1)
    beyond = Signal(signed((size + kept).bit_length() + 1), name="room", init=size - kept)
    change = Signal(signed((share + 2).bit_length() + 1))
    m.d.sync += [change.eq(returned - Mux(taken, share, 0)), beyond.eq(beyond + change)]
    return ~beyond[-1]

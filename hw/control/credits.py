"""Occupancy and credit counters whose outputs are registers."""

from amaranth import Cat, Module, Mux, Signal, Value, signed

from .delay import delay_flags

__all__ = ["amount_nonzero", "counter_nonzero", "credit_available"]


def counter_nonzero(
    m: Module,
    name: str,
    increment: Value,
    decrement: Value,
    limit: int,
    init: int = 0,
    *,
    reset_less: bool = False,
) -> Value:
    """A register that is high while a counter from 0 to ``limit`` is not 0.

    It changes in the cycle after ``increment`` or ``decrement``. ``decrement`` may arrive late in
    its cycle: it drives a few gates only.
    """
    # The counter itself is updated a cycle late. It holds the count less 2, so that its sign says
    # whether a decrement leaves something.
    nonzero = Signal(name=name, init=init > 0, reset_less=reset_less)
    beyond = Signal(
        signed(limit.bit_length() + 1), name=f"{name}_less_2", init=init - 2, reset_less=reset_less
    )
    change = Signal(signed(2), name=f"{name}_change", reset_less=reset_less)
    updated = beyond + change
    several = ~updated[len(beyond) - 1]
    m.d.sync += [
        beyond.eq(updated),
        change.eq(Cat(increment ^ decrement, decrement & ~increment)),
        nonzero.eq(increment | (nonzero & (several | ~decrement))),
    ]
    return nonzero


def amount_nonzero(
    m: Module, name: str, increment: Value, decrement: Value, limit: int, init: int = 0
) -> Value:
    """As :func:`counter_nonzero`, with an ``increment`` of any size; it must come from a register
    or little logic.
    """
    nonzero = Signal(name=name, init=init > 0)
    beyond = Signal(signed(limit.bit_length() + 1), name=f"{name}_less_2", init=init - 2)
    change = Signal(signed(len(increment) + 1), name=f"{name}_change")
    updated = beyond + change
    several = ~updated[len(beyond) - 1]
    m.d.sync += [
        beyond.eq(updated),
        change.eq(increment - decrement),
        nonzero.eq(increment.any() | (nonzero & (several | ~decrement))),
    ]
    return nonzero


def credit_available(
    m: Module, size: int, share: int, returned: Value, taken: Value, *, apart: int, late: int = 0
) -> Value:
    """Whether ``share`` of ``size`` credits are left: a register.

    ``taken`` takes a share, and ``returned`` is the number of credits that come back in a cycle.
    Both are counted a cycle late, and the result is delayed by ``late`` more cycles; the shares
    that may be taken meanwhile, one every ``apart`` cycles, are held in reserve.
    """
    reserve = share * -(-(2 + late) // apart)
    credits = Signal(signed((size + reserve).bit_length() + 1), name="credits", init=size - reserve)
    change = Signal(signed((share + 2).bit_length() + 1), name="credits_change")
    m.d.sync += [change.eq(returned - Mux(taken, share, 0)), credits.eq(credits + change)]
    return delay_flags(m, ~credits[-1], late, name="credit_available")

"""The order in which windows are read, and tables of constants that follow it."""

from collections.abc import Sequence

from amaranth import Cat, Const, Module, Shape, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from ..control.delay import delay
from ..memory.rom import table
from .config import WindowConfig

__all__ = ["Walk", "comb_table", "one_hot", "table_shape", "two_cycle_table"]


class Walk(wiring.Signature):
    """The state of the nested loops that read windows: see ``WindowConfig.loops``.

    Members
    -------
    count : Out, the index of each loop
    last : Out, whether each loop is at its last index
    ends : Out, whether a read is issued in this cycle that is the last one of the loop and of all
        loops inside it
    """

    def __init__(self, config: WindowConfig):
        flags = data.StructLayout(dict.fromkeys(config.loops, 1))
        counts = {name: range(limit) for name, limit in config.loops.items()}
        super().__init__(
            {
                "count": Out(data.StructLayout(counts)),
                "last": Out(flags),
                "ends": Out(flags),
            }
        )


def comb_table(m: Module, target: Value, index: Value, values: Sequence[int]) -> None:
    """``target = values[index]`` in logic, the most frequent value by default."""
    common = max(set(values), key=values.count)
    with m.Switch(index):
        for i, value in enumerate(values):
            if value != common:
                with m.Case(i):
                    m.d.comb += target.eq(value)
        with m.Default():
            m.d.comb += target.eq(common)


def two_cycle_table(m: Module, name: str, index: Value, values: Sequence[int], count: int) -> Value:
    """``values[index]``, each below ``count``, two cycles later; a constant if all are equal."""
    if len(set(values)) == 1:
        return Const(values[0])
    return table(m, name, index, values, (count - 1).bit_length())


def table_shape(values: Sequence[int], count: int) -> Shape:
    """The shape of :func:`two_cycle_table`."""
    return Const(values[0]).shape() if len(set(values)) == 1 else Shape((count - 1).bit_length())


def one_hot(m: Module, value: Value, count: int, name: str) -> Value:
    """Bit n is ``value == n``, a cycle later: registers, because they drive many wires."""
    return delay(m, Cat(value == n for n in range(count)), 1, name=name)

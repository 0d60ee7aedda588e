"""The drain of a systolic array: results move from group to group and leave at the last one.

``totals[group][lane]`` is complete a cycle after ``ending[group]``, which is a cycle later from
each group to the next. Both functions return the results of the last group and whether they leave:
first its own, two cycles after its ``ending``, then those of the groups before it. Each lane has
control flags of its own, because the lanes of a group may be far apart.
"""

from collections.abc import Sequence

from amaranth import C, Module, Mux, Signal, Value

from ..control.delay import delay, delay_flags, duplicate
from ..control.loops import Loops

__all__ = ["drain", "drain_spaced"]


def drain(
    m: Module, totals: Sequence[Sequence[Value]], ending: Sequence[Value]
) -> tuple[list[Signal], Signal]:
    """A result a cycle: two registers a group, which match the skew between groups."""
    passed: list[Value] = []
    passed_valid: Value = C(0)
    for group, sums in enumerate(totals):
        leaves = Signal(name=f"leaves_{group}")
        m.d.sync += leaves.eq(delay_flags(m, ending[group], 1) | passed_valid)
        results = _results(group, sums)
        for lane, (result, total) in enumerate(zip(results, sums, strict=True)):
            m.d.sync += result.eq(
                Mux(duplicate(m, ending[group]), total, passed[lane]) if group else total
            )
        passed = [delay(m, result, 1) for result in results]
        passed_valid = delay_flags(m, leaves, 1)
    return results, leaves


def drain_spaced(
    m: Module, totals: Sequence[Sequence[Value]], ending: Sequence[Value], initiation_interval: int
) -> tuple[list[Signal], Signal]:
    """A result every ``initiation_interval`` cycles, at least two: one register a group.

    A step starts at the last group and moves back a group a cycle, so that each group passes its
    result on before it takes the next one. Step n ends at group n + 1: the groups before it are
    empty, and may hold results of the next reduction.
    """
    assert initiation_interval > 1
    coming, number = _steps(m, ending[-1], len(totals) - 1, initiation_interval)
    leaves = Signal()
    m.d.sync += leaves.eq(delay_flags(m, ending[-1] | coming, 1))
    held = [_results(group, sums) for group, sums in enumerate(totals)]
    for group in reversed(range(len(totals))):
        for lane, (result, total) in enumerate(zip(held[group], totals[group], strict=True)):
            if group:
                total = Mux(duplicate(m, ending[group]), total, held[group - 1][lane])
            with m.If(duplicate(m, ending[group] | coming if group else ending[group])):
                m.d.sync += result.eq(total)
        coming = delay_flags(m, coming, 1) & (number != group - 1)
        number = delay(m, number, 1)
    return held[-1], leaves


def _steps(m: Module, ending: Value, steps: int, initiation_interval: int) -> tuple[Value, Value]:
    """High a cycle before each of ``steps`` steps, the first of them ``initiation_interval + 1``
    cycles after ``ending``; and, in the cycle of a step, its number, from 0.
    """
    if not steps:
        return C(0), C(0)
    running = Signal()
    loops = Loops(m, running, {"wait": initiation_interval, "step": steps})
    with m.If(delay_flags(m, ending, 1)):
        m.d.sync += running.eq(1)
    with m.Elif(loops.ends["step"]):
        m.d.sync += running.eq(0)
    return running & loops.nearly["wait"], loops.count["step"]


def _results(group: int, sums: Sequence[Value]) -> list[Signal]:
    return [
        Signal.like(total, name=f"result_{group}_{lane}", reset_less=True)
        for lane, total in enumerate(sums)
    ]

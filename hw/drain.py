"""The foot of a systolic array: results go from column to column and leave at the last.

``totals[group][lane]`` is complete when ``done[group]`` is up, a cycle later from each group to the
next. Both ways give the results of the last group, and whether they leave; the last group's leave
first, a cycle after ``done``, the others' after them.
"""

from collections.abc import Sequence

from amaranth import C, Module, Mux, Signal, Value

from .delay import delay, delay_flags
from .loops import Loops

__all__ = ["drain", "drain_slowly"]


def drain(m: Module, totals: Sequence[Sequence[Value]],
          done: Sequence[Value]) -> tuple[list[Signal], Signal]:
    """A result a cycle: two registers a hop, so that each meets the next group's in time."""
    passed: list[Value] = []
    passed_valid: Value | None = None
    for group, sums in enumerate(totals):
        leaves = Signal(name=f"leaves_{group}")
        m.d.sync += leaves.eq(done[group] if passed_valid is None else done[group] | passed_valid)
        results = _results(group, sums)
        for lane, (result, total) in enumerate(zip(results, sums, strict=True)):
            m.d.sync += result.eq(Mux(done[group], total, passed[lane]) if group else total)
        passed = [delay(m, result, 1) for result in results]
        passed_valid = delay_flags(m, leaves, 1)
    return results, leaves


def drain_slowly(m: Module, totals: Sequence[Sequence[Value]], done: Sequence[Value],
                 spacing: int) -> tuple[list[Signal], Signal]:
    """A result every ``spacing`` cycles, at least two: a register a hop, which waits.

    A step starts at the last group and walks back, a group a cycle, so that each group hands on
    what it has before it takes the next. Step n ends at group n + 1: those before have handed on
    all, and may hold results of the next reduction.
    """
    assert spacing > 1
    step, number = _steps(m, done[-1], len(totals) - 1, spacing)
    leaves = Signal()
    m.d.sync += leaves.eq(done[-1] | step)
    held = [_results(group, sums) for group, sums in enumerate(totals)]
    for group in reversed(range(len(totals))):
        for lane, (result, total) in enumerate(zip(held[group], totals[group], strict=True)):
            with m.If(done[group]):
                m.d.sync += result.eq(total)
            if group:
                with m.Elif(step):
                    m.d.sync += result.eq(held[group - 1][lane])
        step = delay_flags(m, step & (number != group - 1), 1)
        number = delay(m, number, 1)
    return held[-1], leaves


def _steps(m: Module, done: Value, steps: int, spacing: int) -> tuple[Value, Value]:
    """Up every ``spacing`` cycles after ``done``, ``steps`` times, and which one it is, from 0."""
    if not steps:
        return C(0), C(0)
    running, step = Signal(), Signal()
    loops = Loops(m, running, {"wait": spacing, "step": steps})
    with m.If(done):
        m.d.sync += running.eq(1)
    with m.Elif(loops.ends["step"]):
        m.d.sync += running.eq(0)
    m.d.comb += step.eq(running & loops.last["wait"])
    return step, loops.count["step"]


def _results(group: int, sums: Sequence[Value]) -> list[Signal]:
    return [Signal.like(total, name=f"result_{group}_{lane}", reset_less=True)
            for lane, total in enumerate(sums)]

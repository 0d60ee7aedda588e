"""Nested counters that step together."""

from collections.abc import Mapping

from amaranth import C, Module, Mux, Signal, Value

from .delay import delay

__all__ = ["Loops"]


class Loops:
    """Nested loop counters, named from the inside out; the nest steps in a cycle with ``go``.

    ``count[name]`` is the index of a loop. ``last[name]``: it is the last one; ``nearly[name]``:
    the next one is the last; ``ends[name]``: this loop and all loops inside it are at their last
    index. All are registers, computed a step ahead, so that the carry of a deep nest is not a long
    path.
    """

    def __init__(self, m: Module, go: Value, limits: Mapping[str, int]):
        self.count: dict[str, Value] = {}
        self.last: dict[str, Value] = {}
        self.nearly: dict[str, Value] = {}
        self.ends: dict[str, Value] = {}
        inside: Value = C(1)
        # ``ends`` is high after a step that brings the innermost counter to its last index. Such a
        # step carries into no other counter, so the others' ``last`` flags are what they are now;
        # and what they were a cycle ago, if the innermost counter takes several steps to get there.
        innermost: Value | None = None
        others: Value = C(1)
        several_steps = next((limit > 2 for limit in limits.values() if limit > 1), False)
        for name, limit in limits.items():
            if limit == 1:
                self.count[name], self.last[name], self.ends[name] = C(0), C(1), inside
                self.nearly[name] = C(1)
                continue
            count, last = Signal(range(limit), name=name), Signal(name=f"last_{name}")
            nearly = ~last if limit == 2 else Signal(name=f"nearly_{name}")
            with m.If(go & inside):
                m.d.sync += [count.eq(Mux(last, 0, count + 1)), last.eq(nearly)]
                if limit > 2:
                    m.d.sync += nearly.eq(count == limit - 3)
            if innermost is None:
                innermost, inside = nearly, last
            else:
                others = others & last
                inside = Signal(name=f"ends_{name}")
                with m.If(go):
                    m.d.sync += inside.eq(
                        innermost
                        & (delay(m, others, 1, name="others_last") if several_steps else others)
                    )
            self.count[name], self.last[name], self.ends[name] = count, last, inside
            self.nearly[name] = nearly

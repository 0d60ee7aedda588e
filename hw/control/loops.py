"""Nested counters that step together."""

from collections.abc import Mapping

from amaranth import C, Module, Mux, Signal, Value

from .delay import delay

__all__ = ["Loops"]


class Loops:
    """A nest of loops, named from the inside out; the whole nest steps when ``go`` is up.

    ``count[name]`` is the loop's index, ``last[name]`` whether it is its last, ``nearly[name]``
    whether the next one is, ``ends[name]`` whether it and all loops inside it are at their last.
    They are registers, worked out a step ahead, so that a long nest is no slow path.
    """

    def __init__(self, m: Module, go: Value, limits: Mapping[str, int]):
        self.count: dict[str, Value] = {}
        self.last: dict[str, Value] = {}
        self.nearly: dict[str, Value] = {}
        self.ends: dict[str, Value] = {}
        inside: Value = C(1)
        # The nest is at an end after this step only if the innermost counter then is at its last;
        # that step carries into no other, whose own last is therefore what it is now; and a cycle
        # ago, if the innermost counter takes more than a step from its start to there.
        innermost: Value | None = None
        others: Value = C(1)
        at_leisure = next((limit > 2 for limit in limits.values() if limit > 1), False)
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
                        innermost & (delay(m, others, 1) if at_leisure else others)
                    )
            self.count[name], self.last[name], self.ends[name] = count, last, inside
            self.nearly[name] = nearly

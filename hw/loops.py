"""Nested counters that step together."""

from collections.abc import Mapping

from amaranth import C, Module, Mux, Signal, Value

__all__ = ["Loops"]


class Loops:
    """A nest of loops, named from the inside out; the whole nest steps when ``go`` is up.

    ``count[name]`` is the loop's index, ``last[name]`` whether it is its last, ``ends[name]``
    whether it and all loops inside it are at their last. The latter two are registers, worked out a
    step ahead, so that a long nest is no slow path.
    """

    def __init__(self, m: Module, go: Value, limits: Mapping[str, int]):
        self.count: dict[str, Value] = {}
        self.last: dict[str, Value] = {}
        self.ends: dict[str, Value] = {}
        inside: Value = C(1)
        # The nest is at an end after this step only if the innermost counter then is at its last;
        # that step carries into no other, whose own last is therefore what it is now.
        ahead: Value | None = None
        for name, limit in limits.items():
            if limit == 1:
                self.count[name], self.last[name], self.ends[name] = C(0), C(1), inside
                continue
            count, last = Signal(range(limit), name=name), Signal(name=f"last_{name}")
            nearly = Signal(name=f"nearly_{name}")
            m.d.comb += nearly.eq(~last & (count == limit - 2))
            with m.If(go & inside):
                m.d.sync += [count.eq(Mux(last, 0, count + 1)), last.eq(nearly)]
            if ahead is None:
                ahead, inside = nearly, last
            else:
                ahead = ahead & last
                inside = Signal(name=f"ends_{name}")
                with m.If(go):
                    m.d.sync += inside.eq(ahead)
            self.count[name], self.last[name], self.ends[name] = count, last, inside

"""Nested counters that step together."""

from collections.abc import Mapping

from amaranth import C, Module, Mux, Signal, Value

__all__ = ["Loops"]


class Loops:
    """A nest of loops, named from the inside out; the whole nest steps when ``go`` is up.

    ``count[name]`` is the loop's index, ``last[name]`` whether it is its last (a register, so that
    a long nest is no slow path), ``ends[name]`` whether it and all loops inside it are at their
    last.
    """

    def __init__(self, m: Module, go: Value, limits: Mapping[str, int]):
        self.count: dict[str, Value] = {}
        self.last: dict[str, Value] = {}
        self.ends: dict[str, Value] = {}
        inside: Value = C(1)
        for name, limit in limits.items():
            if limit == 1:
                self.count[name], self.last[name], self.ends[name] = C(0), C(1), inside
                continue
            count, last = Signal(range(limit), name=name), Signal(name=f"last_{name}")
            with m.If(go & inside):
                m.d.sync += [
                    count.eq(Mux(last, 0, count + 1)),
                    last.eq(~last & (count == limit - 2)),
                ]
            inside = inside & last
            self.count[name], self.last[name], self.ends[name] = count, last, inside

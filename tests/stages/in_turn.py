"""A kind of stage that runs two functions, one after the other, on one table memory a lane."""

from dataclasses import dataclass
from math import ceil

import numpy as np
from amaranth import Cat, Module, Mux, Shape, Signal
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out
from gatewright import hw
from gatewright.compiler import ir
from gatewright.compiler.quantize.proofs.table import for_unary
from gatewright.compiler.stages import (
    Buffering,
    Design,
    StageKind,
    StagePort,
    StagePorts,
    StageTiming,
    WindowNeeds,
    hw_shape,
)
from gatewright.hw.target.base import Target

__all__ = ["InTurn"]


@dataclass(frozen=True)
class InTurnConfig:
    """``tables`` of both functions, looked up by the integers' bits; ``beats`` a frame."""

    lanes: int
    shapes: tuple[Shape, Shape, Shape]
    tables: tuple[tuple[int, ...], tuple[int, ...]]
    beats: int
    target: Target

    def cycles(self) -> int:
        """Cycles a frame: two a beat, and one from the end of either pass to the other one."""
        return 2 * (self.beats + 1)


class InTurnLookup(wiring.Component):
    """``o = second[first[i]]``: a pass over the frame through the first table into a buffer, then
    a pass from the buffer through the second table. ::

        i ──▶ queue ──▶┐                            ┌─▶ buffer ─▶ back to the tables
                       ├─▶ tables (first, second) ──┤
                  ────▶┘                            └─▶ o

    A stalled output holds the second pass. The next frame waits in the queue until it has ended.

    Members
    -------
    i : In(beats(lanes, shapes[0]))
    o : Out(beats(lanes, shapes[2]))
    """

    def __init__(self, config):
        self.config = config
        into, _, out_of = config.shapes
        super().__init__(
            {"i": In(hw.beats(config.lanes, into)), "o": Out(hw.beats(config.lanes, out_of))}
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        _, middle, out_of = c.shapes
        loading, giving = Signal(init=1), Signal()
        count, last, steps = Signal(range(max(2, c.beats))), Signal(), Signal()
        accept, moves, read = Signal(), Signal(), Signal()
        stored = memory.Memory(shape=c.lanes * middle.width, depth=c.beats, init=[])
        m.submodules.buffer = stored
        write_port, read_port = stored.write_port(), stored.read_port()
        words = data.View(data.ArrayLayout(middle, c.lanes), read_port.data)
        m.submodules.queue = queue = hw.Fifo(c.lanes, c.shapes[0], c.beats, c.target)
        wiring.connect(m, wiring.flipped(self.i), queue.i)
        found = [
            self._table(
                m, lane, loading, queue.o.payload[lane], words[lane], accept | (read & moves)
            )
            for lane in range(c.lanes)
        ]
        written, place = Signal(), Signal.like(count)
        m.d.comb += [
            moves.eq(~self.o.valid | self.o.ready),
            queue.o.ready.eq(loading & moves),
            accept.eq(loading & queue.o.valid & moves),
            steps.eq(accept | (giving & moves)),
            last.eq(count == c.beats - 1),
            write_port.en.eq(written),
            write_port.addr.eq(place),
            write_port.data.eq(Cat(word[: middle.width] for word in found)),
            read_port.en.eq(moves),
            read_port.addr.eq(count),
            *(self.o.payload[n].eq(word[: out_of.width]) for n, word in enumerate(found)),
        ]
        m.d.sync += [written.eq(accept), place.eq(count)]
        with m.If(steps):
            m.d.sync += count.eq(Mux(last, 0, count + 1))
        with m.If(moves):
            m.d.sync += [read.eq(giving), self.o.valid.eq(read)]
        # the last word of a pass is written, or read, before the next pass begins
        ends = Signal()
        m.d.sync += ends.eq(accept & last)
        with m.If(accept & last):
            m.d.sync += loading.eq(0)
        with m.If(ends):
            m.d.sync += giving.eq(1)
        with m.If(giving & moves & last):
            m.d.sync += giving.eq(0)
        with m.If(read & moves & ~giving):
            m.d.sync += loading.eq(1)
        return m

    def _table(self, m, lane, loading, first, second, enable):
        """The word that either table has for ``first`` or ``second``, a cycle later."""
        c = self.config
        bits = max(c.shapes[0].width, c.shapes[1].width)
        width = max(c.shapes[1].width, c.shapes[2].width)
        rows = [row for t in c.tables for row in (*t, *[0] * ((1 << bits) - len(t)))]
        tables = memory.Memory(
            shape=width, depth=2 << bits, init=[row & ((1 << width) - 1) for row in rows]
        )
        m.submodules[f"tables_{lane}"] = tables
        port = tables.read_port()
        place = Mux(loading, first.as_unsigned(), second.as_unsigned())
        m.d.comb += [
            port.en.eq(enable),
            port.addr[:bits].eq(place),
            port.addr[bits].eq(~loading),
        ]
        return port.data


@dataclass(frozen=True)
class InTurnDesign(Design):
    """A frame buffer, and a table memory a lane that both functions share."""

    target: Target

    @property
    def _shape(self):
        return self.graph.shape(self.ops[-1].output)

    @property
    def _beats(self):
        return self._shape.pixels * self._pixel

    @property
    def _pixel(self):
        return ceil(self._shape.channels / self.stage.pe)

    @property
    def _values(self):
        return self.ops[0].inputs[0], self.ops[0].output, self.ops[1].output

    @property
    def ports(self):
        pe = self.stage.pe
        return StagePorts(
            (StagePort(self._values[0], pe, "i"),), (StagePort(self._values[2], pe, "o"),)
        )

    def cycles(self):
        return InTurnConfig(self.stage.pe, (), (), self._beats, self.target).cycles()

    def cycles_of(self, op):
        return self._beats + 1

    @property
    def latency(self):
        return 1

    @property
    def timing(self):
        arrival = hw.Fifo.latency + 2
        return StageTiming(self._pixel, self.latency, self._pixel, arrival, self._shape.height)

    @property
    def buffering(self):
        height, width = self._shape.height, self._shape.width
        lines = WindowNeeds(
            np.full((height, width), self._shape.pixels), [0] * (height - 1) + [height], width
        )
        return Buffering(0, 2 * self._shape.pixels, lines)

    @property
    def drain_cycles(self):
        return self.cycles() + hw.Fifo.latency

    @property
    def memory_bits(self):
        x, middle, y = (self.graph.quant(v).dtype.bits for v in self._values)
        table = (2 << max(x, middle)) * max(middle, y)
        return self.stage.pe * (table + self._beats * middle)

    def resources(self, device):
        tables = hw.Resources(bram=device.target.block_rams(512, 8)) * self.stage.pe
        buffer = device.target.block_rams(self._beats, 8 * self.stage.pe)
        return hw.Resources(60 + 10 * self.stage.pe, 60, 0, buffer) + tables

    def constants(self):
        tables = []
        for op in self.ops:
            low = self.graph.quant(op.inputs[0]).dtype.low
            tables.append(tuple(int(y) for y in np.roll(for_unary(self.graph, op), low)))
        return tuple(tables)

    def build(self, constants):
        shapes = tuple(hw_shape(self.graph.quant(v).dtype) for v in self._values)
        return InTurnLookup(
            InTurnConfig(self.stage.pe, shapes, constants, self._beats, self.target)
        )


class InTurn(StageKind):
    """A chain of two functions."""

    name = "in_turn"

    def matches(self, ops):
        return (
            len(ops) == 2
            and all(isinstance(op, ir.Unary) for op in ops)
            and ops[1].inputs == (ops[0].output,)
        )

    def foldings(self, ops, graph):
        channels = graph.shape(ops[-1].output).channels
        return ((1, pe) for pe in range(1, channels + 1))

    def design(self, stage, ops, graph, device):
        return InTurnDesign(stage, ops, graph, device.target)

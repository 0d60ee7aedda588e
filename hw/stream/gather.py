"""A reordering buffer: any fixed selection of a frame's elements, in any order."""

from collections.abc import Mapping

from amaranth import C, Cat, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from ..control.credits import amount_nonzero, counter_nonzero
from ..control.delay import delay, delay_flags
from ..control.loops import Loops
from ..memory.ram import Ram
from ..memory.sequence import sequence
from .fifo import Queue
from .gather_config import Chunks, GatherConfig
from .signature import beats

__all__ = ["Gather"]


class Gather(wiring.Component):
    """Beat ``j`` of a frame out holds elements of beat ``source[j]`` of the frame in.

    Words are written to a ring in the order of the stream and read in the order of the output. Two
    counters say what may go on: reads that the words so far make possible, and words of the ring
    that no read needs any more. A beat a cycle on the side that has more of them, frames straight
    after each other.

    Members
    -------
    i : In(beats(lanes_in, element))
    o : Out(beats(lanes_out, element))
    """

    def __init__(self, config: GatherConfig):
        self.config = config
        super().__init__(
            {
                "i": In(beats(config.lanes_in, config.element)),
                "o": Out(beats(config.lanes_out, config.element)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.ram = ram = Ram(c.ram)
        m.submodules.queue = queue = Queue(self.o.payload.shape(), c.AHEAD, c.target)
        accept, read = Signal(), Signal()

        possible = self._amounts(m, "possible", accept, c.arrivals)
        released = self._amounts(m, "released", read, c.releases, c.release_wait)
        frames = c.depth // c.words + 3
        room = counter_nonzero(m, "room", queue.freed, read, c.AHEAD, c.AHEAD)
        m.d.comb += [
            self.i.ready.eq(
                amount_nonzero(
                    m,
                    "space",
                    released,
                    accept,
                    c.depth + 2 * c.words,
                    c.depth + int(c.released[0]),
                )
            ),
            accept.eq(self.i.valid & self.i.ready),
            read.eq(amount_nonzero(m, "reads", possible, read, frames * c.reads) & room),
            ram.write_enable.eq(accept),
            ram.write_address.eq(Loops(m, accept, {"into": c.depth}).count["into"]),
            ram.write_data.eq(self.i.payload.as_value()),
            ram.address.eq(delay(m, self._address(m, read), 1)),
            queue.data.as_value().eq(self._elements(m, read, ram.data)),
            queue.write.eq(delay_flags(m, read, c.chosen(c.ram), name="arrives")),
        ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m

    def _amounts(self, m, name, event, chunks: Chunks, wait=0) -> Value:
        """What the end of a chunk is worth, as a register; 0 where no chunk ends."""
        wait = max(wait, chunks.amounts.latency)
        ends = Signal(name=f"{name}_ends")
        last = Loops(m, event, {f"{name}_place": chunks.size}).last[f"{name}_place"]
        m.d.comb += ends.eq(event & last)
        amount = sequence(m, f"{name}_chunk", ends, chunks.amounts, self.config.target)
        amount = delay(m, amount, wait - chunks.amounts.latency, name=f"{name}_amount")
        result = Signal(chunks.amounts.width, name=name, reset_less=True)
        m.d.sync += result.eq(Mux(delay_flags(m, ends, wait), amount, 0))
        return result

    def _address(self, m, read) -> Value:
        """The address of a read, ``steps.latency + 1`` cycles later."""
        c = self.config
        depth, steps = c.depth, c.steps
        address = Signal(range(max(2, depth)), init=c.start % depth)
        if steps.nest:
            step = self._nest_step(m, read)
        else:
            step = sequence(m, "step", read, steps.sequence.modulo(depth), c.target)
        moves = delay_flags(m, read, steps.latency + 1, name="moves")
        step = delay(m, step, 1, name="step")
        plus = Signal(range(2 * max(2, depth)))
        m.d.comb += plus.eq(address + step)
        with m.If(moves):
            m.d.sync += address.eq(Mux(plus >= depth, plus - depth, plus))
        return address

    def _nest_step(self, m, read) -> Value:
        """The step after a read: that of the innermost loop that has not ended."""
        c = self.config
        names = {f"loop_{n}": count for n, (count, _) in enumerate(c.steps.nest.loops)}
        loops: Mapping[str, Value] = Loops(m, read, names).ends
        first, *others = (
            C(step % c.depth, range(max(2, c.depth)))
            for step in c.steps.nest.steps(c.words + c.start)
        )
        step: Value = first
        for name, other in zip(names, others, strict=True):
            step = Mux(loops[name], other, step)
        return step

    def _elements(self, m, read, word) -> Value:
        """The beat of a read that is at the memory's output: a cycle later where it is chosen."""
        c = self.config
        bits = c.element.width
        fill = C(c.fill & ((1 << bits) - 1), bits)
        chosen = [
            Cat(fill if n < 0 else word[n * bits : (n + 1) * bits] for n in lanes)
            for lanes in c.patterns
        ]
        if len(chosen) == 1:
            return chosen[0]
        late = c.fetch + c.ram.latency - c.which.latency
        which = delay(m, sequence(m, "pattern", read, c.which, c.target), late, name="which")
        beat = Signal(len(chosen[0]), reset_less=True)
        with m.Switch(which):
            for n, value in enumerate(chosen):
                with m.Case(n):
                    m.d.sync += beat.eq(value)
        return beat

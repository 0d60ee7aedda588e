"""Matrix products of two streams: the second operand is stored, the first one passes by."""

from dataclasses import dataclass, field

from amaranth import Module, Mux, Shape, Signal, Value, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from ..arithmetic.multiply import centered
from ..arithmetic.requantize import Requantize, RequantizeConfig, Rounding
from ..arithmetic.soft_multiplier import SoftMultiplier, SoftMultiplierConfig
from ..control.credits import counter_nonzero
from ..control.delay import delay, delay_flags
from ..control.loops import Loops
from ..memory.block_buffer import BlockBuffer, BlockBufferConfig
from ..sizes import at_least, ceil_div
from ..stream.fifo import Queue
from ..stream.signature import beats
from ..target.base import Target
from ..target.dsp import MultiplierConfig
from ..target.resources import Resources

__all__ = ["StreamMatMul", "StreamMatMulConfig"]


@dataclass(frozen=True)
class StreamMatMulConfig:
    """``products`` products ``[rows, inner] @ [inner, columns]`` a frame, ``lanes`` columns at a
    time.
    """

    products: int
    rows: int
    inner: int
    columns: int
    lanes: int
    a: Shape
    b: Shape
    out: Shape
    zero_a: int
    zero_b: int
    mult: int
    offset: int
    rounding: Rounding
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "products", "rows", "inner", "columns", "lanes")
        at_least(0, self, "mult")
        if self.lanes > self.columns:
            raise ValueError(
                f"StreamMatMulConfig: lanes={self.lanes}, but there are {self.columns} columns"
            )

    @property
    def folds(self) -> int:
        """Beats of a row of the second operand and of the result."""
        return ceil_div(self.columns, self.lanes)

    def cycles(self) -> int:
        """Cycles a frame: a term of ``lanes`` sums each cycle."""
        return self.products * self.rows * self.folds * self.inner

    @property
    def row(self) -> BlockBufferConfig:
        """A row of the first operand."""
        return BlockBufferConfig(self.inner, self.a.width, self.target)

    @property
    def matrix(self) -> BlockBufferConfig:
        """A second operand."""
        return BlockBufferConfig(self.inner * self.folds, self.b.width * self.lanes, self.target)

    @property
    def product(self) -> SoftMultiplierConfig:
        return SoftMultiplierConfig(
            MultiplierConfig(centered(self.a, self.zero_a), centered(self.b, self.zero_b))
        )

    @property
    def acc(self) -> Shape:
        """Holds every sum."""
        return signed(self.product.result.width + 1 + (self.inner - 1).bit_length())

    @property
    def requantize(self) -> RequantizeConfig:
        return RequantizeConfig(
            self.lanes,
            self.acc,
            self.out,
            (self.mult,) * self.lanes,
            (self.offset,) * self.lanes,
            (True,),
            self.rounding,
            initiation_interval=self.inner,
            target=self.target,
        )

    @property
    def read_latency(self) -> int:
        """Cycles from a step to its words."""
        return max(self.row.latency, self.matrix.latency)

    @property
    def pipeline(self) -> int:
        """Cycles from the last step of a sum to its result in the queue: words, zero points,
        product, sum, rounding.
        """
        return self.read_latency + 1 + self.product.latency + 1 + self.requantize.latency

    @property
    def latency(self) -> int:
        """Cycles from the last step of a sum to its beat out."""
        return self.pipeline + Queue.latency

    @property
    def queue_depth(self) -> int:
        """Results that the output queue holds: those under way, and the round trip of a credit."""
        return 16 * ceil_div(ceil_div(self.pipeline + 8, self.inner) + 2, 16)

    @property
    def arrival(self) -> int:
        """Cycles from the last beat in that a sum needs to its first step."""
        return BlockBufferConfig.arrival

    def resources(self) -> Resources:
        """An estimate: buffers, a multiplier, an adder and a requantizer for each lane."""
        acc = self.acc.width
        lut = self.product.lut(self.target.carry_luts) + acc
        ff = self.product.ff + acc + self.a.width + self.b.width
        mult = max(1, self.mult.bit_length())
        return (
            Resources(120, 120)
            + Resources(lut, ff) * self.lanes
            + RequantizeConfig.estimate(self.lanes, acc, 1, self.inner, self.target, mult)
            + self.row.resources()
            + self.matrix.resources()
            + Queue.estimate(self.out.width * self.lanes, self.target, self.queue_depth)
        )

    @property
    def memory_bits(self) -> int:
        return self.row.ram.depth * self.row.width + self.matrix.ram.depth * self.matrix.width


class StreamMatMul(wiring.Component):
    """``o[m, n] = requantize(sum over k of (a[m, k] - zero_a) * (b[k, n] - zero_b))``, product
    after product.

    ``a`` comes in rows, a term a beat, and ``b`` in rows of ``folds`` beats. While one product is
    computed, the next ``b`` and the next row of ``a`` are stored. Takes ``config.cycles()`` cycles
    a frame.

    Members
    -------
    a : In(beats(1, config.a))
    b : In(beats(lanes, config.b))
    o : Out(beats(lanes, config.out))
    """

    def __init__(self, config: StreamMatMulConfig):
        self.config = config
        super().__init__(
            {
                "a": In(beats(1, config.a)),
                "b": In(beats(config.lanes, config.b)),
                "o": Out(beats(config.lanes, config.out)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        m.submodules.row = row = BlockBuffer(c.row)
        m.submodules.matrix = matrix = BlockBuffer(c.matrix)
        for stream, store in ((self.a, row), (self.b, matrix)):
            m.d.comb += [
                store.i.valid.eq(stream.valid),
                store.i.payload.eq(stream.payload),
                stream.ready.eq(store.i.ready),
            ]
        step, room = Signal(), Signal()
        loops = Loops(m, step, {"term": c.inner, "fold": c.folds, "row": c.rows})
        m.d.comb += [
            step.eq(row.there & matrix.there & room),
            row.free.eq(step & loops.ends["fold"]),
            matrix.free.eq(step & loops.ends["row"]),
            row.address.eq(loops.count["term"]),
            matrix.address.eq(self._place(m, step, loops)),
        ]
        sums = self._sums(m, step, loops, row, matrix)
        results, valid = self._requantized(m, step & loops.last["term"], sums)

        depth = c.queue_depth
        m.submodules.queue = queue = Queue(self.o.payload.shape(), depth, c.target)
        finished = step & loops.last["term"]
        m.d.comb += [
            room.eq(counter_nonzero(m, "room", queue.freed, finished, depth, depth)),
            queue.write.eq(valid),
            queue.data.eq(results),
        ]
        wiring.connect(m, queue.o, wiring.flipped(self.o))
        return m

    def _place(self, m: Module, step: Value, loops: Loops) -> Value:
        """The word of the stored matrix: row ``term``, beat ``fold``."""
        c = self.config
        place = Signal(range(max(2, c.matrix.words)))
        following = Mux(loops.last["fold"], 0, loops.count["fold"] + 1)
        with m.If(step):
            m.d.sync += place.eq(Mux(loops.last["term"], following, place + c.folds))
        return place

    def _sums(self, m: Module, step: Value, loops: Loops, row, matrix) -> list[Value]:
        """The sum of each lane, ``read_latency + 2 + product.latency`` cycles after its last
        step.
        """
        c = self.config
        operands = c.product.operands
        a = delay(m, row.data, c.read_latency - c.row.latency)
        b = delay(m, matrix.data, c.read_latency - c.matrix.latency)
        x = Signal(operands.x, name="centered_a", reset_less=True)
        m.d.sync += x.eq(data.View(self.a.payload.shape(), a)[0] - c.zero_a)
        late = c.read_latency + 1 + c.product.latency
        first = delay_flags(m, loops.count["term"] == 0, late, name="first")
        adds = delay_flags(m, step, late, name="adds")
        sums = []
        for lane in range(c.lanes):
            w = Signal(operands.w, name=f"centered_b_{lane}", reset_less=True)
            acc = Signal(c.acc, name=f"acc_{lane}", reset_less=True)
            m.submodules[f"product_{lane}"] = product = SoftMultiplier(c.product)
            m.d.sync += w.eq(data.View(self.b.payload.shape(), b)[lane] - c.zero_b)
            m.d.comb += [product.x.eq(x), product.w.eq(w)]
            with m.If(adds):
                m.d.sync += acc.eq(Mux(first, 0, acc) + product.p)
            sums.append(acc)
        return sums

    def _requantized(self, m: Module, finished: Value, sums: list[Value]):
        """The results' payload, and when it is valid."""
        c = self.config
        m.submodules.requantize = requantize = Requantize(c.requantize)
        m.d.comb += [
            requantize.i.valid.eq(delay_flags(m, finished, c.read_latency + 2 + c.product.latency)),
            requantize.i.first.eq(1),
            requantize.i.last.eq(1),
            *[requantize.i.payload[lane].eq(acc) for lane, acc in enumerate(sums)],
        ]
        return requantize.o.payload, requantize.o.valid

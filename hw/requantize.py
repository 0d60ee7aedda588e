"""The requantizer: from accumulators back to narrow integers, exactly."""

from dataclasses import dataclass

from amaranth import C, Const, Module, Mux, Shape, Signal, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .cost import Resources
from .delay import delay, delay_flags
from .loops import Loops
from .primitives import MultiplierConfig, SoftMultiplier
from .stream import Flow
from .width import ceil_div

__all__ = ["Rounding", "RequantizeConfig", "Requantize", "Narrower"]


#: bits of an offset, as estimated
_OFFSET_BITS = 30


@dataclass(frozen=True)
class Rounding:
    """From ``t`` to ``clip(t >> shift, low, high)``.

    With ``tie_bits`` = v, where bits v to ``shift`` of ``t`` are all 0 (a tie) a quotient of the
    parity
    ``tie_parity`` is lowered by one before the clip: round half to even, where the zero point that
    is added after rounding may be odd.
    """

    shift: int
    tie_bits: int | None
    low: int
    high: int
    tie_parity: int = 1


@dataclass(frozen=True)
class RequantizeConfig:
    """Accumulators of ``mult`` and ``offset`` each, in the order in which they come, ``lanes`` at a
    time.

    Entry n serves ``repeat`` beats, and ``len(keep)`` entries make a period. ``keep`` tells which
    entries leave; the others are dropped (columns beyond the last channel).
    """

    lanes: int
    acc: Shape
    out: Shape
    mult: tuple[int, ...]
    offset: tuple[int, ...]
    keep: tuple[bool, ...]
    rounding: Rounding
    repeat: int = 1

    def __post_init__(self):
        assert len(self.mult) == len(self.offset) == self.lanes * len(self.keep)

    @property
    def mult_shape(self) -> Shape:
        return unsigned(max(1, max(self.mult).bit_length()))

    @property
    def offset_shape(self) -> Shape:
        return signed(1 + max(max(o, -o - 1).bit_length() for o in self.offset))

    @property
    def constant(self) -> bool:
        """Whether one pair serves all beats."""
        return len(set(self.mult)) == len(set(self.offset)) == 1

    @property
    def latency(self) -> int:
        """Cycles: the constants, the product and the offset, the rounding."""
        rows = (self.mult_shape.width + 1) // 2 + 1
        return 2 + 2 + ceil_log2(rows) + Narrower.latency

    def resources(self) -> Resources:
        """An estimate of the arithmetic and its constants."""
        return self.estimate(self.lanes, self.acc.width, len(self.keep), self.mult_shape.width)

    @staticmethod
    def estimate(lanes: int, acc: int, beats: int, mult: int = 14) -> Resources:
        """Before the constants are known: ``acc`` and ``mult`` bits, ``beats`` a period."""
        product = acc + mult
        lut = (acc + 3) * mult * 3 // 2 + product + 30
        constants = beats * lanes * (mult + _OFFSET_BITS)
        return Resources(lanes * lut + ceil_div(constants, 16),
                         lanes * (acc * mult + 3 * product))


class Narrower(wiring.Component):
    """``o = clip(t >> shift)`` by a :class:`Rounding`, three cycles later.

    Members
    -------
    i : In(shape)
    o : Out(out)
    """

    latency = 3

    def __init__(self, shape: Shape, out: Shape, rounding: Rounding):
        self.rounding = rounding
        super().__init__({"i": In(shape), "o": Out(out)})

    def elaborate(self, platform):
        m = Module()
        r = self.rounding
        quotient = Signal(signed(max(1, len(self.i) - r.shift)), reset_less=True)
        m.d.sync += quotient.eq(self.i >> r.shift)
        value = quotient
        if r.tie_bits is not None:
            tie = Signal(reset_less=True)
            m.d.sync += tie.eq(~self.i[r.tie_bits:r.shift].any())
            value = Signal(signed(len(quotient) + 1))
            m.d.comb += value.eq(quotient - (tie & (quotient[0] == r.tie_parity)))
        below, above = (delay(m, flag, 1) for flag in (value < r.low, value > r.high))
        result = Signal(self.o.shape(), reset_less=True)
        m.d.sync += result.eq(Mux(below, r.low, Mux(above, r.high, delay(m, value, 1))))
        m.d.comb += self.o.eq(result)
        return m


class Requantize(wiring.Component):
    """``o = clip((acc * mult + offset) >> shift, low, high)``, a beat a cycle.

    Beat n of a period takes the n-th ``lanes`` of ``mult`` and ``offset``; the period then starts
    again.

    Members
    -------
    i : In(Flow(lanes, acc))
    o : Out(Flow(lanes, out))
    dropped : Out(1), a beat has been dropped
    """

    def __init__(self, config: RequantizeConfig):
        self.config = config
        super().__init__({"i": In(Flow(config.lanes, config.acc)),
                          "o": Out(Flow(config.lanes, config.out)),
                          "dropped": Out(1)})

    def elaborate(self, platform):
        m = Module()
        c = self.config
        beat = Loops(m, self.i.valid, {"turn": c.repeat, "beat": len(c.keep)}).count["beat"]
        # keep, then each lane's mult and offset, in one word
        keep, mults, offsets = self._constants(m, beat)
        valid = delay_flags(m, self.i.valid, 2)
        later = c.latency - 2
        m.d.comb += [self.o.valid.eq(delay_flags(m, valid & keep, later)),
                     self.o.first.eq(1), self.o.last.eq(1),
                     self.dropped.eq(valid & ~keep)]
        for lane in range(c.lanes):
            multiply = SoftMultiplier(MultiplierConfig(c.acc, c.mult_shape), c.offset_shape)
            m.submodules[f"multiply_{lane}"] = multiply
            narrow = Narrower(multiply.result, c.out, c.rounding)
            m.submodules[f"narrow_{lane}"] = narrow
            m.d.comb += [
                multiply.x.eq(delay(m, self.i.payload[lane], 2)),
                multiply.w.eq(mults[lane]),
                multiply.addend.eq(offsets[lane]),
                narrow.i.eq(multiply.p),
                self.o.payload[lane].eq(narrow.o),
            ]
        return m

    def _constants(self, m, beat):
        """Two cycles after ``beat``: whether it is kept, and the lanes' constants."""
        c = self.config
        if c.constant and all(c.keep):
            return (C(1), [Const(c.mult[0], c.mult_shape)] * c.lanes,
                    [Const(c.offset[0], c.offset_shape)] * c.lanes)
        mult, offset = c.mult_shape.width, c.offset_shape.width
        pair = mult + offset
        words = []
        for n, keep in enumerate(c.keep):
            word = int(keep)
            for lane in range(c.lanes):
                i = n * c.lanes + lane
                both = c.mult[i] | (c.offset[i] % (1 << offset)) << mult
                word |= both << (1 + lane * pair)
            words.append(word)
        store = memory.Memory(shape=1 + c.lanes * pair, depth=max(2, len(words)), init=words)
        m.submodules.constants = store
        read = store.read_port()
        held = Signal(1 + c.lanes * pair, reset_less=True)
        m.d.comb += read.addr.eq(beat)
        m.d.sync += held.eq(read.data)
        pairs = [held[1:].word_select(lane, pair) for lane in range(c.lanes)]
        return (held[0], [p[:mult] for p in pairs], [p[mult:].as_signed() for p in pairs])

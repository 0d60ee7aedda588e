"""The requantizer: accumulators to narrow integers, exactly."""

from dataclasses import dataclass, field

from amaranth import C, Cat, Const, Module, Mux, Shape, Signal, Value, signed, unsigned
from amaranth.lib import memory, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import bits_for

from ..control.delay import delay, delay_flags, duplicate, fanout_slices
from ..control.loops import Loops
from ..memory.rom import Rom, table
from ..memory.tiles import TABLE, estimate
from ..sizes import at_least, ceil_div
from ..stream.signature import PushStream
from ..target.base import Target
from ..target.dsp import MultiplierConfig
from ..target.resources import Resources
from .serial_multiplier import SerialMultiplier
from .soft_multiplier import SoftMultiplier, SoftMultiplierConfig

__all__ = ["MULT_BITS", "Rounding", "RequantizeConfig", "Requantize", "Timing", "Narrower"]


#: bits of a multiplier, as estimated: enough for almost every network that we quantize
MULT_BITS = 12
#: bits of an offset, as estimated
_OFFSET_BITS = 30
#: entries up to which constants are in logic
_MANY = 64


@dataclass(frozen=True)
class Rounding:
    """``clip(t >> shift, low, high)``, with ties to even.

    ``tie_bits`` = v: ``t`` is a tie if its bits v to ``shift`` are all 0; then a quotient of the
    parity ``tie_parity`` is decremented before the clip. The parity is that of round half to even,
    with the zero point, which is added after rounding, included.
    """

    shift: int
    tie_bits: int | None
    low: int
    high: int
    tie_parity: int = 1

    def __post_init__(self):
        at_least(0, self, "shift")
        if self.low > self.high:
            raise ValueError(f"Rounding: low={self.low}, but it must not exceed high={self.high}")
        if self.tie_bits is not None and not 0 <= self.tie_bits <= self.shift:
            raise ValueError(
                f"Rounding: tie_bits={self.tie_bits}, but it must be None or 0 to {self.shift}, "
                "the shift"
            )
        if self.tie_parity not in (0, 1):
            raise ValueError(f"Rounding: tie_parity={self.tie_parity}, but it must be 0 or 1")


@dataclass(frozen=True)
class RequantizeConfig:
    """``mult`` and ``offset`` of accumulators in the order in which they arrive, ``lanes`` a beat.

    Entry n serves ``repeat`` beats, and ``len(keep)`` entries make a period. Entries without
    ``keep`` are dropped (columns beyond the last channel). Beats arrive at least
    ``initiation_interval`` cycles apart; a serial multiplier takes that many cycles.
    """

    lanes: int
    acc: Shape
    out: Shape
    mult: tuple[int, ...]
    offset: tuple[int, ...]
    keep: tuple[bool, ...]
    rounding: Rounding
    repeat: int = 1
    initiation_interval: int = 1
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "lanes", "repeat", "initiation_interval")
        count = self.lanes * len(self.keep)
        if not len(self.mult) == len(self.offset) == count > 0:
            raise ValueError(
                f"RequantizeConfig: {len(self.mult)} multipliers and {len(self.offset)} offsets, "
                f"but {len(self.keep)} entries of {self.lanes} lanes need {count} of each, and at "
                "least one"
            )
        at_least(0, self, "mult")

    @property
    def mult_shape(self) -> Shape:
        return unsigned(bits_for(max(self.mult)))

    @property
    def offset_shape(self) -> Shape:
        return signed(max(bits_for(o, True) for o in self.offset))

    @property
    def constant(self) -> bool:
        """Whether one pair serves all beats."""
        return len(set(self.mult)) == len(set(self.offset)) == 1

    @property
    def timing(self) -> "Timing":
        """The schedule of a beat."""
        entries = 1 if self.constant and all(self.keep) else len(self.keep)
        return Timing(self.mult_shape.width, entries, self.initiation_interval)

    @staticmethod
    def usual(entries: int, initiation_interval: int, mult: int = MULT_BITS) -> "Timing":
        """:attr:`timing` before the constants are known."""
        return Timing(mult, entries, initiation_interval)

    @property
    def latency(self) -> int:
        """Cycles from a beat in to the beat out."""
        return self.timing.latency

    @staticmethod
    def estimate(
        lanes: int,
        acc: int,
        beats: int,
        initiation_interval: int,
        target: Target,
        mult: int = MULT_BITS,
    ) -> Resources:
        """Before the constants are known: ``acc`` and ``mult`` bits, ``beats`` a period."""
        t = Timing(mult, beats, initiation_interval)
        offset = max(_OFFSET_BITS, acc + mult - 2)  # as large as a sum times its multiplier
        rows = ceil_div(t.digit, 2)
        multiply = (
            SoftMultiplierConfig(MultiplierConfig(signed(acc), unsigned(t.digit))).lut(
                target.carry_luts
            )
            if t.digit > 1
            else 0
        )
        tree = (acc + 2) * (2 * rows - 1)
        constants = mult + offset if beats > 1 else 0
        narrow = Resources(25, 32)
        product = (
            Resources(
                multiply + mult + 2 * offset,
                acc + mult + tree + offset * (1 + t.offset_delay),
            )
            if t.serial
            else Resources(
                multiply + acc + mult + offset,
                2 * acc + tree + offset * (rows - 1).bit_length(),
            )
        )
        if beats > _MANY:
            stored = estimate(beats, 1 + lanes * constants, target, Rom.latency, logic=True)
        else:
            stored = (
                Resources(
                    constants if beats <= 16 else ceil_div(constants * beats, 11),
                    constants * t.lookup,
                )
                * lanes
            )
        return (product + narrow) * lanes + stored + Resources(0, 12)


@dataclass(frozen=True)
class Timing:
    """The schedule of a :class:`Requantize` for multipliers of ``mult`` bits in ``entries``.

    The beat arrives in cycle 0 and is delayed until its constants are read (from a memory, with an
    address register where it is large). Then the multiplier takes its digits one by one. The
    constants of the next beat may be read as soon as those of this one are used.
    """

    mult: int
    entries: int
    initiation_interval: int

    @property
    def digit(self) -> int:
        """Bits of a multiplier used each cycle: enough to be done when the next beat arrives."""
        return ceil_div(self.mult, self.initiation_interval)

    @property
    def digits(self) -> int:
        return SerialMultiplier.digits_of(self.mult, self.digit)

    @property
    def serial(self) -> bool:
        return self.digits > 1

    @property
    def lookup(self) -> int:
        """Cycles from an entry's number to its constants: one for a table of one LUT a bit; for
        larger ones the latency of block RAM, and a register for the number if it is block RAM.
        """
        if self.entries == 1:
            return 0
        if self.serial and self.entries <= TABLE:
            return 1
        return Rom.latency + (self.entries > _MANY)

    @property
    def _rows(self) -> int:
        """Cycles from a digit to its product."""
        return SoftMultiplierConfig(MultiplierConfig(signed(1), unsigned(self.digit))).latency

    @property
    def start(self) -> int:
        """The cycle in which the multiplier takes the beat."""
        if not self.serial:
            return max(2, self.lookup)
        return max(0, self.lookup + 1 - self.initiation_interval)

    @property
    def advance(self) -> int:
        """The cycle in which the entry's number steps: after the offset is used, and early enough
        for the constants of the next beat.
        """
        if not self.serial:
            return 0
        return max(0, self.start + min(1 + self._rows, self.initiation_interval - 1) - self.lookup)

    @property
    def offset_delay(self) -> int:
        """Cycles that an offset is held beyond its entry's time."""
        return max(0, 2 + self._rows - self.initiation_interval)

    @property
    def latency(self) -> int:
        """Cycles from a beat in to the beat out."""
        if not self.serial:
            operands = MultiplierConfig(signed(1), unsigned(self.mult))
            multiply = SoftMultiplierConfig(operands, signed(1))
            return self.start + multiply.latency + Narrower.latency
        return self.start + self.digits + 1 + self._rows + Narrower.latency


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
        # Compared before the decrement: a quotient at a bound stays there or is inside the range.
        below, above = (
            delay(m, flag, 1) for flag in (~_exceeds(quotient, r.low), _exceeds(quotient, r.high))
        )
        value = quotient
        if r.tie_bits is not None:
            tie = Signal(reset_less=True)
            m.d.sync += tie.eq(~self.i[r.tie_bits : r.shift].any())
            value = Signal(signed(len(quotient) + 1))
            m.d.comb += value.eq(quotient - (tie & (quotient[0] == r.tie_parity)))
        result = Signal(self.o.shape(), reset_less=True)
        m.d.sync += result.eq(Mux(below, r.low, Mux(above, r.high, delay(m, value, 1))))
        m.d.comb += self.o.eq(result)
        return m


def _exceeds(value: Signal, bound: int) -> Value:
    """``value > bound`` for a signed ``value``, in LUTs instead of a carry chain."""
    ordered, bound = Cat(value[:-1], ~value[-1]), bound + (1 << (len(value) - 1))
    if not 0 <= bound < 1 << len(value):
        return C(bound < 0)
    exceeds: Value = C(0)
    for low in range(0, len(value), 4):
        part, limit = ordered[low : low + 4], bound >> low & 15
        exceeds = (part > limit) | ((part == limit) & exceeds)
    return exceeds


class Requantize(wiring.Component):
    """``o = clip((acc * mult + offset) >> shift, low, high)``, with ties to even.

    Beat n of a period has the n-th ``lanes`` of ``mult`` and ``offset``. Takes a beat every
    ``initiation_interval`` cycles; latency: ``config.latency``.

    Members
    -------
    i : In(PushStream(lanes, acc))
    o : Out(PushStream(lanes, out))
    dropped : Out(1), a beat has been dropped
    """

    def __init__(self, config: RequantizeConfig):
        self.config = config
        super().__init__(
            {
                "i": In(PushStream(config.lanes, config.acc)),
                "o": Out(PushStream(config.lanes, config.out)),
                "dropped": Out(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        c = self.config
        t = c.timing
        # keep, then each lane's mult and offset, in one word
        advance = delay_flags(m, self.i.valid, t.advance)
        beat = Loops(m, advance, {"turn": c.repeat, "beat": len(c.keep)}).count["beat"]
        keep, mults, offsets = self._constants(m, beat)
        start = delay_flags(m, self.i.valid, t.start)
        m.d.comb += [
            self.o.valid.eq(self._valid(m, start, keep)),
            self.o.first.eq(1),
            self.o.last.eq(1),
            self.dropped.eq(start & ~keep),
        ]
        for lane in range(c.lanes):
            x = delay(m, self.i.payload[lane], t.start)
            product = self._multiply(m, lane, start, x, mults[lane], offsets[lane])
            m.submodules[f"narrow_{lane}"] = narrow = Narrower(product.shape(), c.out, c.rounding)
            m.d.comb += [narrow.i.eq(product), self.o.payload[lane].eq(narrow.o)]
        return m

    def _multiply(self, m, lane, start, x, mult, offset):
        c = self.config
        config = MultiplierConfig(c.acc, c.mult_shape)
        if c.timing.serial:
            multiply = SerialMultiplier(config, c.offset_shape, c.timing.digit)
            m.d.comb += multiply.start.eq(start)
            if not isinstance(offset, Const):
                offset = delay(m, offset, c.timing.offset_delay)
        else:
            multiply = SoftMultiplier(SoftMultiplierConfig(config, c.offset_shape))
        m.submodules[f"multiply_{lane}"] = multiply
        m.d.comb += [multiply.x.eq(x), multiply.w.eq(mult), multiply.addend.eq(offset)]
        return multiply.p

    def _valid(self, m, start, keep):
        """Whether a beat leaves. A serial multiplier has one beat at a time, so its digits are
        counted instead of a delay line.
        """
        t = self.config.timing
        if not t.serial:
            return delay_flags(m, start & keep, t.latency - t.start)
        running, kept = Signal(), Signal()
        ends = Loops(m, running, {"digit": t.digits}).last["digit"]
        with m.If(start):
            m.d.sync += [running.eq(1), kept.eq(keep)]
        with m.Elif(ends):
            m.d.sync += running.eq(0)
        return delay_flags(m, running & ends & kept, t.latency - t.start - t.digits)

    def _constants(self, m, beat):
        """``lookup`` cycles after ``beat``: whether it is kept, and the lanes' constants."""
        c = self.config
        if c.constant and all(c.keep):
            return (
                C(1),
                [Const(c.mult[0], c.mult_shape)] * c.lanes,
                [Const(c.offset[0], c.offset_shape)] * c.lanes,
            )
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
        width = 1 + c.lanes * pair
        if c.timing.lookup == 1:
            store = memory.Memory(shape=width, depth=max(2, len(words)), init=words)
            m.submodules.constants = store
            read = store.read_port()
            m.d.comb += read.addr.eq(beat)
            word = read.data
        elif len(words) <= _MANY:
            word = Cat(
                table(
                    m,
                    f"constants_{part.start}",
                    duplicate(m, beat),
                    [word >> part.start & ((1 << (part.stop - part.start)) - 1) for word in words],
                    part.stop - part.start,
                )
                for part in fanout_slices(width)
            )
        else:
            m.submodules.constants = rom = Rom(words, width, c.target)
            m.d.comb += rom.address.eq(duplicate(m, beat))
            word = rom.data
        pairs = [word[1:].word_select(lane, pair) for lane in range(c.lanes)]
        return (word[0], [p[:mult] for p in pairs], [p[mult:].as_signed() for p in pairs])

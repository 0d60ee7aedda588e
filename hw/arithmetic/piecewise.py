"""A function of one wide integer, by straight pieces."""

from dataclasses import dataclass, field
from functools import cached_property

from amaranth import Array, C, Cat, Module, Shape, Signal, Value, signed, unsigned
from amaranth.utils import bits_for

from ..control.delay import delay
from ..memory.rom import Rom
from ..memory.tiles import estimate
from ..sizes import at_least
from ..stream.fifo import Queue
from ..target.base import Target
from ..target.dsp import MultiplierConfig
from ..target.resources import Resources
from .pipeline import PipelineTiming, UnaryPipeline
from .soft_multiplier import SoftMultiplier, SoftMultiplierConfig

__all__ = ["PiecewiseConfig", "Piecewise"]


@dataclass(frozen=True)
class PiecewiseConfig(PipelineTiming):
    """``(slope[s] * place + offset[s]) >> shift`` for each of ``lanes`` channels.

    The least input is position 0. The upper bits of a position choose one of the ``blocks``, each
    ``(first segment, log2 of a segment's positions)``. The bits below choose one of the block's
    segments, each ``(slope, offset)`` of ``segments``, and the place in it. Every result must lie
    in ``out``.
    """

    lanes: int
    element: Shape
    out: Shape
    blocks: tuple[tuple[int, int], ...]
    segments: tuple[tuple[int, int], ...]
    shift: int
    beats: int
    target: Target = field(kw_only=True)

    def __post_init__(self):
        at_least(1, self, "lanes", "beats")
        at_least(0, self, "shift")
        if len(self.blocks) & (len(self.blocks) - 1):
            raise ValueError(
                f"PiecewiseConfig: {len(self.blocks)} blocks, but it must be a power of two"
            )
        if len(self.blocks) > 1 << self.element.width:
            raise ValueError(
                f"PiecewiseConfig: {len(self.blocks)} blocks, but inputs of {self.element.width} "
                f"bits have at most {1 << self.element.width}"
            )

    @property
    def rest_bits(self) -> int:
        """Bits of a position below those that choose a block."""
        return self.element.width - (len(self.blocks) - 1).bit_length()

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """The different lengths of segments, as log2."""
        return tuple(sorted({length for _, length in self.blocks}))

    @property
    def block_word(self) -> tuple[int, int]:
        """Bits of a block's first segment, and of its place among :attr:`lengths`."""
        return bits_for(len(self.segments) - 1), bits_for(len(self.lengths) - 1)

    @cached_property
    def multiplier(self) -> SoftMultiplierConfig:
        slope = signed(max(bits_for(s, True) for s, _ in self.segments))
        operands = MultiplierConfig(slope, unsigned(max(1, max(self.lengths))))
        return SoftMultiplierConfig(operands, self.addend)

    @cached_property
    def addend(self) -> Shape:
        return signed(max(bits_for(o, True) for _, o in self.segments))

    @property
    def pipeline(self) -> int:
        """Cycles of the arithmetic: position, block, segment, memory and product."""
        return 2 * Rom.latency + 2 + self.multiplier.latency

    @property
    def memory_bits(self) -> int:
        """Bits of both memories of a lane."""
        segment = self.multiplier.operands.x.width + self.addend.width
        return len(self.blocks) * sum(self.block_word) + len(self.segments) * segment

    def resources(self) -> Resources:
        """An estimate: two memories, a shift, a product for each lane, and a queue."""
        segment = self.multiplier.operands.x.width + self.addend.width
        memories = estimate(
            len(self.blocks), sum(self.block_word), self.target, Rom.latency, logic=True
        ) + estimate(len(self.segments), segment, self.target, Rom.latency, logic=True)
        choose = Resources(self.rest_bits * len(self.lengths), 3 * self.rest_bits)
        product = Resources(
            self.multiplier.lut(self.target.carry_luts) + self.addend.width,
            self.multiplier.ff + 2 * self.addend.width,
        )
        return (
            Resources(60, 40)
            + (memories + choose + product) * self.lanes
            + Queue.estimate(self.out.width * self.lanes, self.target, self.queue_depth)
        )


class Piecewise(UnaryPipeline):
    """``o = (slope[s] * place + offset[s]) >> shift``, lane by lane, ``s`` the input's segment.

    Takes a beat a cycle while ``o`` is ready; latency: ``config.latency``. ::

        i ─▶ position ┬ upper bits ─▶ blocks ─▶ first, length ┬─▶ segments ─▶ slope, offset ─▶ o
                      └ rest ───────────────────▶ >> length ──┘└─▶ place ────────▶

    Members
    -------
    i : In(beats(lanes, element))
    o : Out(beats(lanes, out))
    """

    def __init__(self, config: PiecewiseConfig):
        self.config = config
        super().__init__(config.lanes, config.element, config.out)

    def arithmetic(self, m: Module, words) -> Value:
        c = self.config
        results = [self._lane(m, lane, words[lane]) for lane in range(c.lanes)]
        return Cat(results)

    def _lane(self, m, lane, word):
        c = self.config
        position = Signal(c.element.width, name=f"position_{lane}", reset_less=True)
        # signed numbers in order: the sign bit is flipped
        flip = 1 << (c.element.width - 1) if c.element.signed else 0
        m.d.sync += position.eq(word.as_unsigned() ^ flip)
        segment, place = self._segment(m, lane, position)
        slope_bits = c.multiplier.operands.x.width
        width = slope_bits + c.addend.width
        stored = [
            (slope % (1 << slope_bits)) | (offset % (1 << c.addend.width)) << slope_bits
            for slope, offset in c.segments
        ]
        m.submodules[f"segments_{lane}"] = segments = Rom(stored, width, c.target)
        m.submodules[f"multiply_{lane}"] = multiply = SoftMultiplier(c.multiplier)
        m.d.comb += [
            segments.address.eq(segment),
            multiply.x.eq(segments.data[:slope_bits]),
            multiply.w.eq(delay(m, place, Rom.latency)),
            multiply.addend.eq(segments.data[slope_bits:]),
        ]
        result = Signal(c.out.width, name=f"result_{lane}")
        m.d.comb += result.eq(multiply.p >> c.shift)
        return result

    def _segment(self, m, lane, position):
        """The segment of a position and the place in it, registered."""
        c = self.config
        first_bits, length_bits = c.block_word
        stored = [first | c.lengths.index(length) << first_bits for first, length in c.blocks]
        m.submodules[f"blocks_{lane}"] = blocks = Rom(stored, first_bits + length_bits, c.target)
        rest = Signal(c.rest_bits, name=f"rest_{lane}")
        m.d.comb += [
            blocks.address.eq(position[c.rest_bits :]),
            rest.eq(delay(m, position[: c.rest_bits], Rom.latency)),
        ]
        which = blocks.data[first_bits:]
        segment = Signal(first_bits, name=f"segment_{lane}", reset_less=True)
        place = Signal(c.multiplier.operands.w, name=f"place_{lane}", reset_less=True)
        uppers = Array(rest[length:] if length < c.rest_bits else C(0, 1) for length in c.lengths)
        places = Array(rest[:length] if length else C(0, 1) for length in c.lengths)
        m.d.sync += [
            segment.eq(blocks.data[:first_bits] + uppers[which]),
            place.eq(places[which]),
        ]
        return segment, place

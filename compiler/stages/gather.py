"""Any fixed selection of a frame's elements, through a memory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import ceil, gcd

import numpy as np
from numpy.typing import NDArray

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..errors import PlanError
from ..quantize.proofs.rounding import level
from .base import (
    Buffering,
    Design,
    StageKind,
    StagePlan,
    StagePort,
    StagePorts,
    StageTiming,
    WindowNeeds,
    check_range,
    hw_shape,
)
from .streaming import even_widths

__all__ = ["Gather"]

Ints = NDArray[np.int64]

#: patterns that a beat's elements are selected by
_PATTERNS = 8
#: elements by which a folding is judged before all are looked at
_SAMPLE = 4096
#: beats in register slices and queues around the buffer
_AROUND = 4


@dataclass(frozen=True)
class GatherDesign(Design):
    """A ring of words, written in the order of the input and read in that of the output."""

    config: hw.GatherConfig

    @property
    def op(self) -> ir.Gather:
        (op,) = self.ops
        assert isinstance(op, ir.Gather)
        return op

    @property
    def shapes(self) -> tuple[ir.Shape, ir.Shape]:
        """The maps in and out."""
        return self.graph.shape(self.op.inputs[0]), self.graph.shape(self.op.output)

    @property
    def ports(self) -> StagePorts:
        op, stage = self.op, self.stage
        return StagePorts(
            (StagePort(op.inputs[0], stage.simd, "i"),), (StagePort(op.output, stage.pe, "o"),)
        )

    @property
    def words(self) -> tuple[int, int]:
        """Beats of a pixel in and out."""
        there, here = self.shapes
        return self.config.words // there.pixels, self.config.reads // here.pixels

    def cycles(self) -> int:
        return self.config.cycles()

    @property
    def latency(self) -> int:
        return self.config.latency

    @property
    def drain_cycles(self) -> int:
        return self.latency + self.config.AHEAD

    @property
    def timing(self) -> StageTiming:
        writing, pixel = self.words
        pixels = self.shapes[0].pixels
        together = ceil(self.config.arrivals.size / writing)
        unit = next(n for n in range(together, pixels + 1) if pixels % n == 0)
        return StageTiming(pixel, self.latency - 1, writing, unit=unit)

    @property
    def buffering(self) -> Buffering:
        word, _ = self.words
        least, most = self.config.taken
        return Buffering(least // word, ceil(most / word) + _AROUND, self._needs)

    @property
    def _needs(self) -> WindowNeeds:
        (there, here), (word, beat) = self.shapes, self.words
        needed = -(-self.config.needed[beat - 1 :: beat] // word)
        rows = self.config.released[:: beat * here.width] // (word * there.width)
        rows[[0, -1]] = 0, there.height
        return WindowNeeds(
            needed.reshape(here.height, here.width), np.diff(rows).tolist(), there.width
        )

    @property
    def memory_bits(self) -> int:
        return self.config.memory_bits

    def resources(self, device: Device) -> hw.Resources:
        return self.config.resources()

    def constants(self) -> None:
        return None

    def build(self, constants: None) -> hw.Component:
        return hw.Gather(self.config)


class Gather(StageKind):
    """One selection of a frame's elements."""

    name = "gather"
    folding = "`simd`: elements a beat in; `pe`: elements a beat out, all of one beat in"
    fields = frozenset({"simd", "pe"})

    def matches(self, ops: Sequence[ir.Op]) -> bool:
        return len(ops) == 1 and isinstance(ops[0], ir.Gather)

    def foldings(self, ops: tuple[ir.Op, ...], graph: ir.Graph) -> Iterator[tuple[int, int]]:
        (op,) = ops
        there, here = graph.shape(op.inputs[0]), graph.shape(op.output)
        for _, pe in even_widths(op, graph):
            share = ceil(pe * there.channels / here.channels)
            part = gcd(there.channels, pe)
            for simd in dict.fromkeys((1, part, pe, share, there.channels)):
                if simd <= there.channels and _beats(op, there, here, simd, pe):
                    yield simd, pe

    def design(
        self, stage: StagePlan, ops: tuple[ir.Op, ...], graph: ir.Graph, device: Device
    ) -> GatherDesign:
        (op,) = ops
        there, here = graph.shape(op.inputs[0]), graph.shape(op.output)
        check_range(op, "simd", stage.simd, there.channels, f"the input has {there.channels}")
        check_range(op, "pe", stage.pe, here.channels, f"the output has {here.channels}")
        config = _config(op, graph, stage.simd, stage.pe, device.target)
        if config is None:
            raise PlanError(
                f"{op.name}: simd={stage.simd}, pe={stage.pe}, but the elements of a beat out are "
                f"not all in one beat in, at no more than {_PATTERNS} patterns of places; choose "
                "1 and 1"
            )
        return GatherDesign(stage, ops, graph, config)


@lru_cache(maxsize=256)
def _config(
    op: ir.Gather, graph: ir.Graph, simd: int, pe: int, target: hw.Target
) -> hw.GatherConfig | None:
    """Cached, for its schedule is computed from all elements; None: the folding is not legal."""
    there, here = graph.shape(op.inputs[0]), graph.shape(op.output)
    found = _beats(op, there, here, simd, pe)
    if found is None:
        return None
    quant = graph.quant(op.output)
    return hw.GatherConfig(
        there.pixels * ceil(there.channels / simd),
        *found,
        simd,
        hw_shape(quant.dtype),
        level(op.fill, quant),
        target,
    )


@lru_cache(maxsize=1024)
def _beats(
    op: ir.Gather, there: ir.Shape, here: ir.Shape, simd: int, pe: int
) -> tuple[Ints, tuple[tuple[int, ...], ...], Ints] | None:
    """For each beat out the beat in that it is made of, the patterns of lanes, and which of them
    each beat out has; None where a beat out is made of several, or the patterns are too many.
    """
    few = max(1, _SAMPLE // here.channels)
    pixels = op.order.reshape(here.pixels, here.channels)
    if here.pixels > 2 * few and _matched(pixels[:few], there, simd, pe) is None:
        return None
    return _matched(pixels, there, simd, pe)


def _matched(
    pixels: Ints, there: ir.Shape, simd: int, pe: int
) -> tuple[Ints, tuple[tuple[int, ...], ...], Ints] | None:
    blocks = ceil(pixels.shape[1] / pe)
    # -2 stands for the lanes beyond the channels of a pixel, which may hold anything
    padding = ((0, 0), (0, blocks * pe - pixels.shape[1]))
    elements = np.pad(pixels, padding, constant_values=-2).reshape(-1, pe)
    pixel, channel = np.divmod(elements, there.channels)
    beat = pixel * ceil(there.channels / simd) + channel // simd
    real = elements >= 0
    source = np.where(real, beat, -1).max(axis=1)
    if (real & (beat != source[:, None])).any():
        return None
    lanes = np.where(real, channel % simd, elements).reshape(-1, blocks * pe)
    pixels_alike = len(lanes) if (lanes == lanes[0]).all() else 1
    each = lanes[: len(lanes) // pixels_alike].reshape(-1, pe)
    kinds, which = np.unique(each, axis=0, return_inverse=True)
    patterns: list[tuple[int, ...]] = []
    place = np.zeros(len(kinds), np.int64)
    for n in sorted(range(len(kinds)), key=lambda n: (kinds[n] == -2).sum()):
        fits = [k for k, p in enumerate(patterns) if ((kinds[n] == -2) | (kinds[n] == p)).all()]
        if not fits and len(patterns) == _PATTERNS:
            return None
        place[n] = fits[0] if fits else len(patterns)
        if not fits:
            patterns.append(tuple(max(-1, int(lane)) for lane in kinds[n]))
    return source, tuple(patterns), np.tile(place[which.reshape(-1)], pixels_alike)

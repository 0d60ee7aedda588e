"""The shape of a systolic array: rows, columns, groups and the order of results."""

from dataclasses import dataclass, field

from amaranth import Shape

from ..sizes import at_least
from ..target.base import Target

__all__ = ["MEMORIES", "ArrayGeometry"]

#: where weights are stored
MEMORIES = ("logic", "block_ram", "packed_rows")


@dataclass(frozen=True)
class ArrayGeometry:
    """``simd`` rows by ``pe`` columns of multipliers.

    A result is the sum of ``folds`` words of ``simd`` products; each column holds ``depth`` words
    of weights, used in turn. ``lanes`` columns are a group, whose results leave together;
    the results of a reduction leave ``initiation_interval`` cycles apart. ``shared``: one word of
    activations for all columns (a matrix product); otherwise each column has activations of its
    own (a depthwise convolution).

    ``dsp_multipliers`` of the products are made in DSP blocks of the ``target`` (None: all), the
    rest in soft logic. ``sites`` are the blocks' places, in the order of ``places``.
    ``max_abs_weight`` is the largest absolute weight: where it is small, columns of one group share
    blocks (None: only ``w`` is known). ``memory``: where weights are stored, "logic", "block_ram",
    or "packed_rows" (the fewest block RAMs).
    """

    simd: int
    pe: int
    folds: int
    depth: int
    lanes: int
    x: Shape
    w: Shape
    acc: Shape
    target: Target = field(kw_only=True)
    shared: bool = True
    dsp_multipliers: int | None = None
    memory: str = "logic"
    sites: tuple[str, ...] = ()
    max_abs_weight: int | None = None
    initiation_interval: int = 1

    def __post_init__(self):
        at_least(1, self, "simd", "pe", "folds", "depth", "lanes", "initiation_interval")
        if self.pe % self.lanes:
            raise ValueError(f"ArrayConfig: lanes={self.lanes}, but it must divide pe={self.pe}")
        if self.depth % self.folds:
            raise ValueError(
                f"ArrayConfig: depth={self.depth}, but it must be a multiple of folds={self.folds}"
            )
        if self.groups * self.initiation_interval > self.folds:
            raise ValueError(
                f"ArrayConfig: {self.groups} results leave {self.initiation_interval} cycles "
                f"apart, but the next reduction follows after folds={self.folds} cycles"
            )
        if self.memory not in MEMORIES:
            raise ValueError(
                f"ArrayConfig: memory={self.memory!r}, but it must be one of {', '.join(MEMORIES)}"
            )
        if self.dsp_multipliers is not None and not 0 <= self.dsp_multipliers <= self.multipliers:
            raise ValueError(
                f"ArrayConfig: dsp_multipliers={self.dsp_multipliers}, but it must be 0 to "
                f"{self.multipliers}, the number of multipliers"
            )

    @property
    def groups(self) -> int:
        """Groups of ``lanes`` columns; each is a cycle behind the one before."""
        return self.pe // self.lanes

    @property
    def elements(self) -> int:
        """Elements that the array takes in a cycle."""
        return self.simd if self.shared else self.multipliers

    @property
    def multipliers(self) -> int:
        return self.simd * self.pe

    def channel(self, column: int) -> int:
        """The channel (within a pass) that a column computes: groups in reverse, lanes in order."""
        group, lane = divmod(column, self.lanes)
        return (self.groups - 1 - group) * self.lanes + lane

"""The candidates of each stage: its foldings by speed and multipliers, designed on demand."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, log

import numpy as np
from numpy.typing import NDArray

from ... import hw
from ...hw.target.base import Device, Target
from .. import ir
from ..errors import PlanError
from ..stages import Design, Products, StagePlan, StageTiming, kind_of, stage_ops
from .resources import Resources, cells

__all__ = [
    "Candidate",
    "CandidatePool",
    "Candidates",
    "FoldingCandidates",
    "least_designs",
    "least_resources",
    "stage_candidates",
]

#: a folding is a candidate if it has at most this factor of the fewest multipliers for its interval
_MORE = 1.15
#: factors between two speeds of a stage, and of the fewest multipliers that faster candidates may
#: have
_STEP, _FASTER = 1.12, 4
#: share of the interval that stages without multipliers may take, so that they are not the slowest
_AHEAD = 0.9
#: weights of a block RAM and of a flip-flop in LUTs, when sizes are compared; on ECP5 a plan with
#: soft multipliers may use 230 to 250 LUTs for each block RAM of the chip
_BRAM_SIZE, _FF_SIZE = 240, 0.25
#: that of a block RAM where soft logic multiplies: logic is short then, and block RAM only once it
#: is full
_SOFT_BRAM_SIZE = 100


@dataclass(frozen=True, eq=False)
class Candidate:
    """One way to build a stage; costs are those with all its multipliers in DSP blocks.

    ``multipliers`` includes those that its DSP blocks could make and do not.
    """

    design: Design
    cycles: int
    multipliers: int
    blocks: int
    cells: int
    ff: int
    bram: int

    @cached_property
    def products(self) -> Products:
        """How it makes its products."""
        return self.design.stage.products

    @cached_property
    def logic(self) -> float:
        """The size without block RAMs."""
        return self.cells + _FF_SIZE * self.ff

    @cached_property
    def size(self) -> float:
        """The approximate size in LUTs."""
        return self.logic + _BRAM_SIZE * self.bram

    @property
    def soft_size(self) -> float:
        """The size in a plan that multiplies in soft logic, which saves logic before block RAM."""
        return self.logic + _SOFT_BRAM_SIZE * self.bram

    @cached_property
    def lanes_in(self) -> tuple[int, ...]:
        """Elements a beat of each input."""
        return tuple(port.lanes for port in self.design.ports.inputs)

    @cached_property
    def lanes_out(self) -> tuple[int, ...]:
        """Elements a beat of each output."""
        return tuple(port.lanes for port in self.design.ports.outputs)

    @cached_property
    def timing(self) -> StageTiming:
        """The timing of the design."""
        return self.design.timing


class CandidatePool:
    """The candidates for the stages of ``graph``, each built once for all devices of a target."""

    def __init__(self, graph: ir.Graph):
        self.graph = graph
        self._stages: dict[tuple[Target, bool], list[FoldingCandidates]] = {}
        self._least: dict[Target, list[list[Resources]]] = {}

    def stages(
        self, device: Device, lean: bool, ways: Sequence[Products]
    ) -> list["FoldingCandidates"]:
        """Those of :func:`stage_candidates`, which make their products in one of ``ways``."""
        key = device.target, lean
        if key not in self._stages:
            self._stages[key] = stage_candidates(self.graph, device, lean)
        return [stage.by(ways) for stage in self._stages[key]]

    def least(self, device: Device) -> Iterator[list[Resources]]:
        """:func:`least_resources` of each stage, in flow order, as far as asked for."""
        known = self._least.setdefault(device.target, [])
        for number, op in enumerate(stage_ops(self.graph)):
            if number == len(known):
                known.append(least_resources(op, self.graph, device))
            yield known[number]


def stage_candidates(
    graph: ir.Graph, device: Device, lean: bool = False
) -> list["FoldingCandidates"]:
    """The candidates of every operator that has hardware, in flow order.

    ``lean``: those of the least block RAM.
    """
    return [
        FoldingCandidates((op,), f"s{number:02d}_{type(op).__name__.lower()}", graph, device, lean)
        for number, op in enumerate(stage_ops(graph))
    ]


def least_resources(op: ir.Op, graph: ir.Graph, device: Device) -> list[Resources]:
    """What a stage with at most one multiplier takes, for each choice of multiplier and memory."""
    return [
        each.resources(device)
        for design in least_designs(op, graph, device)
        for each in (design, *design.alternatives(device, True))
    ]


def least_designs(op: ir.Op, graph: ir.Graph, device: Device) -> list[Design]:
    """A stage with at most one multiplier, for each choice of that."""
    kind = kind_of((op,))
    found = []
    for blocks in (0, 1) if kind.multiplier((op,), graph, device) else (0,):
        stage = StagePlan(
            op.name,
            kind.name,
            (op.output,),
            dsp_multipliers=blocks,
            minimal_rows="minimal_rows" in kind.fields,
        )
        try:
            found.append(kind.design(stage, (op,), graph, device))
        except PlanError:
            continue
    return found


class Candidates(ABC):
    """The candidates for one stage, of the kind that runs its operators.

    ``cycles``: those a frame of each choice, rising; ``multipliers``: those of each. ``per_block``:
    products that one DSP block gives (0: none, or its operands are too wide). Multipliers are
    counted so that a block makes ``per_block`` of them, whichever they are: one of the fast inner
    product counts as the products that its block could give without it.
    """

    cycles: NDArray[np.int64]
    multipliers: NDArray[np.int64]

    def __init__(self, ops: tuple[ir.Op, ...], name: str, graph: ir.Graph, device: Device):
        self.ops, self.name, self.graph, self.device = ops, name, graph, device
        self.kind = kind_of(ops)
        self._multiplier = self.kind.multiplier(ops, graph, device)
        self.per_block, self.pack = 0, 1
        if self._multiplier:
            self.per_block, self.pack = self._multiplier.per_block, self._multiplier.pack

    @property
    def is_array(self) -> bool:
        """Whether it multiplies."""
        return self._multiplier is not None

    @property
    def directions(self) -> int:
        """The most in which a choice uses minimal filtering."""
        return 0

    @property
    def smallest(self) -> StagePlan:
        """The stage at the folding 1, 1."""
        return StagePlan(self.name, self.kind.name, tuple(op.output for op in self.ops))

    def soft(self, products: Products = Products.SINGLE) -> tuple[float, float]:
        """What a multiplier in soft logic takes beyond one in a block: cells, flip-flops.

        Adder trees are in soft logic as they are.
        """
        cost = self._multiplier and self._multiplier.of(products)
        if not cost or products is Products.TREES:
            return 0, 0
        count = cost.count * (1 if products is Products.SINGLE else max(1, self.per_block))
        return (
            (cells(cost.in_logic, self.device) - cells(cost.in_block, self.device)) / count,
            (cost.in_logic.ff - cost.in_block.ff) / count,
        )

    def blocks(self, multipliers: int) -> int:
        """The least DSP blocks that make so many multipliers."""
        return ceil(multipliers / self.per_block) if self.per_block else 0

    def fewest(self, interval: int) -> int | None:
        """The fewest multipliers for ``interval``; None: no folding keeps it."""
        rows = self._rows_within(interval)
        return int(self._fewest[rows - 1]) if rows else None

    @abstractmethod
    def within(self, interval: int) -> list[Candidate]:
        """The candidates for ``interval`` with about the fewest multipliers of those that make
        their products in each way; the fewest first.
        """

    @abstractmethod
    def by_speed(self, slowest: int, multipliers: int | None = None) -> list[Candidate]:
        """Candidates from ``slowest`` to the fastest with at most so many multipliers."""

    @cached_property
    def _fewest(self) -> NDArray[np.int64]:
        """The fewest multipliers of the choices so far."""
        return np.minimum.accumulate(self.multipliers)

    def _rows_within(self, interval: int) -> int:
        """How many choices keep ``interval``."""
        return int(np.searchsorted(self.cycles, interval, side="right"))


class FoldingCandidates(Candidates):
    """Every folding of a stage that its kind has, in each way to make its products.

    ``lean``: those of the least block RAM.
    """

    def __init__(
        self,
        ops: tuple[ir.Op, ...],
        name: str,
        graph: ir.Graph,
        device: Device,
        lean: bool = False,
    ):
        super().__init__(ops, name, graph, device)
        self.lean = lean
        self._built: dict[tuple[int, int, Products], list[Candidate]] = {}
        table = self.kind.candidates(ops, graph, device)
        self._every = np.stack(
            [
                table.cycles,
                table.multipliers,
                table.lanes,
                table.cut,
                table.simd,
                table.pe,
                table.products,
            ],
            1,
        )
        self._take(tuple(Products))

    def by(self, ways: Sequence[Products]) -> "FoldingCandidates":
        """Those that make their products in one of ``ways``; both share what they build."""
        other = copy(self)
        vars(other).pop("_fewest", None)
        other._take(ways)
        return other

    def _take(self, ways: Sequence[Products]) -> None:
        self._near: dict[tuple[Products, int], NDArray[np.int64]] = {}
        self._found: dict[bytes, list[Candidate]] = {}
        rows, used = self._every, {Products.SINGLE, *ways}
        for directions in (1, 2):
            paired = Products.of(directions, True)
            if paired in used and (rows[:, 6] == paired).any():  # plans gain nothing without
                used.discard(Products.of(directions, False))
        rows = rows[np.isin(rows[:, 6], list(used))]
        self.cycles, self.multipliers = rows[:, 0], rows[:, 1]
        self._ways = {way: rows[rows[:, 6] == way] for way in sorted(used)}

    @property
    def directions(self) -> int:
        return max(way.directions for way, rows in self._ways.items() if len(rows))

    def within(self, interval: int) -> list[Candidate]:
        limit = interval
        if not self.is_array and self.cycles[0] <= _AHEAD * interval:
            limit = int(_AHEAD * interval)
        return self._keeping(limit)

    def _keeping(self, limit: int) -> list[Candidate]:
        """Those of :meth:`within` for an interval that every stage may take the whole of."""
        rows = np.concatenate([self._near_fewest(way, limit) for way in self._ways])
        key = rows[:, 4:].tobytes()
        if key not in self._found:
            self._found[key] = _undominated(
                [candidate for row in rows.tolist() for candidate in self._build(*row[4:])]
            )
        return self._found[key]

    def _near_fewest(self, way: Products, interval: int) -> NDArray[np.int64]:
        """The undominated of the rows that make their products in such a way, keep ``interval`` and
        have about the fewest multipliers of those.
        """
        rows = self._ways[way]
        key = way, int(np.searchsorted(rows[:, 0], interval, side="right"))
        if key not in self._near:
            rows = rows[: key[1]]
            if len(rows):
                fewest = int(rows[:, 1].min())
                rows = rows[rows[:, 1] <= max(_MORE * fewest, fewest + 1)]
            self._near[key] = rows[~_dominated(rows[:, 1:4])]
        return self._near[key]

    def by_speed(self, slowest: int, multipliers: int | None = None) -> list[Candidate]:
        """Those of even steps of speed: at each, of those that make their products in each way,
        the one of the fewest multipliers, the smallest with and without block RAM, and those of the
        fewest block RAMs and flip-flops. Of a stage without multipliers also those that may be
        the slowest: their widths may be the only ones that suit the streams.
        """
        if not self.is_array:
            return list(dict.fromkeys([*self.within(slowest), *self._keeping(slowest)]))
        most = multipliers or _FASTER * (self.fewest(slowest) or 1)
        least = int(self.cycles[self.multipliers <= most].min())
        slowest = min(int(self.cycles[-1]), slowest)
        found: dict[Candidate, None] = {}
        for n in range(ceil(log(max(1, slowest / least), _STEP)) + 1):
            every = self.within(min(slowest, int(least * _STEP**n) + 1))
            for way in Products:
                candidates = [o for o in every if o.products is way]
                if not candidates:
                    continue
                found |= dict.fromkeys(
                    [
                        candidates[0],
                        min(candidates, key=lambda o: o.size),
                        min(candidates, key=lambda o: (o.logic, o.bram)),
                        min(candidates, key=lambda o: (o.bram, o.size)),
                        min(candidates, key=lambda o: (o.ff, o.size)),
                    ]
                )
        return list(found)

    def foldings(self) -> NDArray[np.int64]:
        """Rows of all foldings with a multiplier for each product: simd, pe, multipliers, cycles a
        pixel, results a beat.
        """
        pixels = self.graph.shape(self.ops[-1].output).pixels
        cycles, multipliers, lanes, _, simd, pe, _ = self._ways[Products.SINGLE].T
        return np.stack([simd, pe, multipliers, cycles // pixels, lanes], 1)

    def built(self, simd: int, pe: int) -> list[Candidate]:
        """The candidates of such a folding, one for each memory that is not dominated."""
        return _undominated(self._build(simd, pe, Products.SINGLE))

    def _build(self, simd: int, pe: int, products: int) -> list[Candidate]:
        """The folding with its weights in each memory."""
        key = simd, pe, Products(products)
        if key not in self._built:
            self._built[key] = list(self._designed(*key))
        return self._built[key]

    def _designed(self, simd: int, pe: int, products: Products) -> list[Candidate]:
        stage = replace(
            self.smallest,
            simd=simd,
            pe=pe,
            dsp_multipliers=simd * pe if self.per_block and products is not Products.TREES else 0,
            minimal_rows=self.lean and "minimal_rows" in self.kind.fields,
            fast_inner_product=products.paired,
            minimal_filtering=products.directions,
            adder_trees=products is Products.TREES,
        )
        try:
            design = self.kind.design(stage, self.ops, self.graph, self.device)
        except PlanError:
            return []
        if products.paired:
            hard = design.multipliers if self.per_block else 0
            design = replace(design, stage=replace(stage, dsp_multipliers=hard))
        return [self._candidate(d) for d in (design, *design.alternatives(self.device, self.lean))]

    def _candidate(self, design: Design) -> Candidate:
        need = design.resources(self.device)
        products = design.stage.products
        each = max(1, self.per_block) if products.paired or products.directions else 1
        taken = max(each * design.multipliers, need.dsp * self.pack if self.pack > 1 else 0)
        if design.stage.adder_trees:
            taken = self._in_blocks(design.stage.simd, design.stage.pe)
        return Candidate(
            design,
            design.cycles(),
            taken,
            need.dsp,
            cells(need, self.device),
            need.ff,
            need.bram,
        )

    def _in_blocks(self, simd: int, pe: int) -> int:
        """What the products of adder trees would count as multipliers: as many as in the way of the
        fewest, so that trees are neither avoided nor preferred to DSP blocks.
        """
        cost, fewest = self._multiplier, simd * ceil(pe / self.pack) * self.pack
        if cost and cost.fast:
            fewest = min(fewest, ceil(simd / 2) * (pe + 1) * max(1, self.per_block))
        rows = hw.MinimalFiltering(1)
        return ceil(fewest / rows.gain) if cost and rows.directions in cost.filtered else fewest


def _dominated(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Dominated rows: another row is at most as large in each column, and smaller in one."""
    below = (rows[:, None] <= rows[None]).all(2)
    found: NDArray[np.bool_] = np.any(below & ~below.T, axis=0)
    return found


def _undominated(candidates: list[Candidate]) -> list[Candidate]:
    """Without dominated candidates, the fewest multipliers first."""
    candidates = sorted(candidates, key=lambda o: (o.multipliers, o.size, o.cycles))
    kept: list[Candidate] = []
    for o in candidates:
        if not any(
            k.products == o.products
            and k.multipliers <= o.multipliers
            and k.cells <= o.cells
            and k.ff <= o.ff
            and k.bram <= o.bram
            and k.cycles <= o.cycles
            and all(a % b == 0 for a, b in zip(k.lanes_in, o.lanes_in, strict=True))
            and all(a % b == 0 for a, b in zip(k.lanes_out, o.lanes_out, strict=True))
            for k in kept
        ):
            kept.append(o)
    return kept

"""The candidates of the fewest multipliers, or of the least logic, that keep an interval."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from .. import ir
from ..stages.base import Design, Products
from .candidates import Candidate, Candidates
from .dataflow import Dataflow
from .streams import Edge

if TYPE_CHECKING:
    from .integer_program import Program

__all__ = ["Budget", "FoldingSolver", "block_worth", "grant"]

_Lists = Sequence[Sequence[Candidate]]
_Taken = Sequence[Sequence[int]]

#: weight of a multiplier in LUTs where soft logic makes none or a few: fewer multipliers are then
#: preferred to any saving of logic
_MULTIPLIER_SIZE = 10_000
#: limit on the nodes of one search tree; known instances need a few dozen
_NODES = 5_000
#: share of the least cost that a solution may be above it
_GAP = 1e-4

#: products of wider operands than the network's own, whose multipliers take more in soft logic
_WIDER = tuple(way for way in Products if way.paired or way.directions)


@dataclass(frozen=True)
class Budget:
    """Limits of a plan: logic cells, flip-flops, DSP blocks, block RAMs, and multipliers in soft
    logic (None: any number).
    """

    cells: int
    ff: int
    blocks: int
    bram: int
    soft: int | None = None

    def holds(self, cells: float, ff: float, bram: int) -> bool:
        """Whether so much of each keeps the limits."""
        return cells <= self.cells and ff <= self.ff and bram <= self.bram

    def less(self, cells: int, ff: int, bram: int) -> "Budget":
        return replace(self, cells=self.cells - cells, ff=self.ff - ff, bram=self.bram - bram)

    def within(self, other: "Budget") -> "Budget":
        """The smaller of each limit but that of soft multipliers."""
        return replace(
            self,
            cells=min(self.cells, other.cells),
            ff=min(self.ff, other.ff),
            blocks=min(self.blocks, other.blocks),
            bram=min(self.bram, other.bram),
        )


def block_worth(designs: Sequence[Design]) -> list[int] | None:
    """What a DSP block is worth to each stage, for :func:`grant`; None where it is about the same
    to all.
    """
    if not any(design.stage.products in _WIDER for design in designs):
        return None
    return [design.block_worth for design in designs]


def grant(
    wanted: Sequence[int],
    takes: Sequence[Callable[[int], int]],
    blocks: int,
    worth: Sequence[int] | None = None,
) -> list[int]:
    """How many of each stage's ``wanted`` multipliers are in DSP blocks, until ``blocks`` are used
    up: those first that take most logic without (``worth`` of a block), and of these the largest
    arrays. ``takes`` gives a stage's DSP blocks for a number of multipliers.
    """
    granted = [0] * len(wanted)
    first = worth or [0] * len(wanted)
    for n in sorted(range(len(wanted)), key=lambda n: (-first[n], -wanted[n])):
        granted[n] = wanted[n]
        if takes[n](granted[n]) > blocks:
            granted[n] = bisect_right(range(wanted[n]), blocks, key=takes[n]) - 1
        blocks -= takes[n](granted[n])
    return granted


def _cost(candidate: Candidate, budget: Budget) -> float:
    """What a plan within ``budget`` is to have little of. Where it may multiply in soft logic, DSP
    blocks cost nothing, because all are used; what is left to soft logic counts as that.
    """
    if budget.soft is None:
        return candidate.soft_size
    return _MULTIPLIER_SIZE * candidate.multipliers + candidate.size


def _widths(shape: ir.Shape) -> dict[int, int]:
    """The numbers of lanes that divide the channels, and a frame's beats with each."""
    return {
        n: shape.pixels * (shape.channels // n)
        for n in range(1, shape.channels + 1)
        if shape.channels % n == 0
    }


class FoldingSolver:
    """Chooses a candidate for each stage; ``template``: a dataflow of these stages."""

    def __init__(self, stages: Sequence[Candidates], template: Dataflow):
        self.stages, self.template = stages, template
        place = {stage.name: n for n, stage in enumerate(template.plan.stages)}
        #: streams between stages: source (None: an input of the network), sink, edge
        self.streams = [
            (None if edge.source is None else place[edge.source], place[edge.sink], edge)
            for edge in template.edges
            if edge.sink is not None
        ]
        #: of each input of the network the widths that fill its beats, and the cycles a frame then
        self.inputs = [_widths(template.graph.shape(port.value)) for port in template.graph.inputs]
        self._conversions: dict[tuple[int, int, int], tuple[int, int]] = {}
        self._chosen: dict[tuple[int, Budget], list[Candidate] | None] = {}

    def intervals(self) -> list[int]:
        """Every possible frame interval, from the least that all stages can keep."""
        cycles = [stage.cycles for stage in self.stages]
        streams = [
            edge.pixels_in * ceil(edge.channels_in / n)
            for _, _, edge in self.streams
            for n in range(1, edge.channels_in + 1)
        ]
        inputs = [n for widths in self.inputs for n in widths.values()]
        both = np.unique(np.concatenate([*cycles, np.array(streams), np.array(inputs)]))
        least = max(int(c[0]) for c in cycles)
        most = max(int(c[-1]) for c in cycles)
        found: list[int] = both[(both >= least) & (both <= most)].tolist()
        return found

    def enough(self, interval: int, budget: Budget) -> bool:
        """Whether the DSP blocks suffice for the fewest multipliers, all other limits ignored."""
        fewest = [stage.fewest(interval) for stage in self.stages]
        wanted = [n for n in fewest if n is not None]
        return len(wanted) == len(fewest) and (
            budget.soft is None or sum(self.soft(wanted, budget.blocks)) <= budget.soft
        )

    def soft(
        self, multipliers: Sequence[int], blocks: int, worth: Sequence[int] | None = None
    ) -> list[int]:
        """How many of each stage's multipliers are in soft logic although a DSP block could make
        them; ``worth`` as :func:`grant` takes it.
        """
        wanted = [
            n if stage.per_block else 0 for n, stage in zip(multipliers, self.stages, strict=True)
        ]
        hard = grant(wanted, [stage.blocks for stage in self.stages], blocks, worth)
        return [w - h for w, h in zip(wanted, hard, strict=True)]

    def choose(self, interval: int, budget: Budget) -> list[Candidate] | None:
        """Candidates of the fewest multipliers, and of about the least size among those, or of the
        least size where the budget allows any number of soft multipliers; None when none keep
        ``interval`` and ``budget``.

        The least candidate of each stage is the solution if all of them together keep the budget,
        unless some of its multipliers are in soft logic, where adder trees may be smaller.
        Otherwise an integer program couples the stages.
        """
        key = interval, budget
        if key not in self._chosen:
            self._chosen[key] = self._choose(interval, budget)
        return self._chosen[key]

    def suffices(self, interval: int, budget: Budget) -> bool:
        """Whether any candidates keep ``interval`` and ``budget``."""
        if (interval, budget) in self._chosen:
            return self._chosen[interval, budget] is not None
        return self._choose(interval, budget, gap=np.inf) is not None

    def _choose(self, interval: int, budget: Budget, gap: float = _GAP) -> list[Candidate] | None:
        if not self.enough(interval, budget):
            return None
        near = [stage.within(interval) for stage in self.stages]
        if not all(near):
            return None
        independent = self._independent(near, interval)
        if independent is not None and self.keeps(independent, budget):
            if not self._trees_compete(near, independent, budget):
                return independent
            return self._coupled(near, interval, budget, gap) or independent
        return self._coupled(near, interval, budget, gap) or self._coupled(
            [stage.by_speed(interval) for stage in self.stages], interval, budget, gap
        )

    def _trees_compete(self, lists: _Lists, chosen: Sequence[Candidate], budget: Budget) -> bool:
        """Whether a choice multiplies in soft logic where adder trees could do it."""
        trees = any(o.products is Products.TREES for candidates in lists for o in candidates)
        return trees and self.need(chosen, budget.blocks)[2] > 0

    def lanes_in(
        self, chosen: Sequence[Candidate], interval: int, *, eager: bool = False
    ) -> list[int] | None:
        """Elements a beat of each of the network's inputs: the width of the first stage, or the
        least width that keeps the interval (``eager``: the least width of the fastest ones). None
        where no width of an input keeps it.
        """
        found = []
        for number, widths in enumerate(self.inputs):
            lanes = self._input_lanes(number, widths, chosen, interval, eager)
            if lanes is None:
                return None
            found.append(lanes)
        return found

    def _input_lanes(
        self,
        number: int,
        widths: Mapping[int, int],
        chosen: Sequence[Candidate],
        interval: int,
        eager: bool,
    ) -> int | None:
        """Elements a beat of one input of the network."""
        takers = [
            (n, self.lanes_at(n, chosen[sink]))
            for n, (source, sink, edge) in enumerate(self.streams)
            if source is None and edge.output == number
        ]
        wanted = {lanes for _, lanes in takers}
        suits = []
        for lanes, cycles in widths.items():
            conversions = (self.converting(n, lanes, there) for n, there in takers)
            slowest = max([cycles, *conversions])
            if slowest <= interval:
                suits.append((wanted != {lanes}, slowest if eager else 0, lanes))
        return min(suits)[-1] if suits else None

    def lanes_from(self, stream: int, source: Candidate) -> int:
        """Elements a beat that ``source`` gives to a stream."""
        return source.lanes_out[self.streams[stream][2].output]

    def lanes_at(self, stream: int, sink: Candidate) -> int:
        """Elements a beat that ``sink`` takes from a stream."""
        return sink.lanes_in[self.streams[stream][2].index]

    def converting(self, stream: int, lanes_out: int, lanes_in: int) -> int:
        """Cycles a frame of the width conversion on a stream; 0 where there is none."""
        return self._conversion(stream, lanes_out, lanes_in)[0]

    def passing(self, stream: int, lanes_out: int, lanes_in: int) -> int:
        """Cycles from the last beat of a pixel into a stream to its exit."""
        return self._conversion(stream, lanes_out, lanes_in)[1]

    def _conversion(self, stream: int, lanes_out: int, lanes_in: int) -> tuple[int, int]:
        key = stream, lanes_out, lanes_in
        if key not in self._conversions:
            edge: Edge = replace(self.streams[stream][2], lanes_out=lanes_out, lanes_in=lanes_in)
            self._conversions[key] = edge.cycles() if edge.converts else 0, edge.passing
        return self._conversions[key]

    def _independent(self, lists: _Lists, interval: int) -> list[Candidate] | None:
        """Each stage's first candidate whose width suits the stages before it, when each of them is
        among the candidates of the fewest multipliers; otherwise None.
        """
        chosen: list[Candidate] = []
        for n, candidates in enumerate(lists):
            into = [
                (stream, source)
                for stream, (source, sink, _) in enumerate(self.streams)
                if sink == n and source is not None and source < n  # a state's comes later
            ]
            suits = next(
                (
                    o
                    for o in candidates
                    if all(
                        self.converting(
                            stream,
                            self.lanes_from(stream, chosen[source]),
                            self.lanes_at(stream, o),
                        )
                        <= interval
                        for stream, source in into
                    )
                ),
                None,
            )
            if suits is None or suits.multipliers > candidates[0].multipliers:
                return None
            chosen.append(suits)
        return chosen if self.lanes_in(chosen, interval) is not None else None

    def keeps(self, chosen: Sequence[Candidate], budget: Budget) -> bool:
        """Whether the candidates together keep ``budget``, width converters not counted."""
        cells, ff, soft = self.need(chosen, budget.blocks)
        return (budget.soft is None or soft <= budget.soft) and budget.holds(
            cells, ff, sum(o.bram for o in chosen)
        )

    def need(self, chosen: Sequence[Candidate], blocks: int) -> tuple[float, float, int]:
        """Logic cells, flip-flops and soft multipliers of the candidates together, about."""
        worth = block_worth([o.design for o in chosen])
        trees = sum(o.multipliers for o in chosen if o.products is Products.TREES)
        wanted = [0 if o.products is Products.TREES else o.multipliers for o in chosen]
        soft = self.soft(wanted, blocks, worth)
        costs = [stage.soft(o.products) for o, stage in zip(chosen, self.stages, strict=True)]
        return (
            sum(o.cells for o in chosen)
            + sum(n * c for n, (c, _) in zip(soft, costs, strict=True)),
            sum(o.ff for o in chosen) + sum(n * f for n, (_, f) in zip(soft, costs, strict=True)),
            sum(soft) + trees,
        )

    def _coupled(
        self, lists: _Lists, interval: int, budget: Budget, gap: float
    ) -> list[Candidate] | None:
        """The solution of an integer program that couples the stages: one candidate for each, and
        DSP blocks and soft multipliers for its products. Its cost is within a share ``gap`` of the
        least.
        """
        if not budget.holds(
            sum(min(o.cells for o in candidates) for candidates in lists),
            sum(min(o.ff for o in candidates) for candidates in lists),
            sum(min(o.bram for o in candidates) for candidates in lists),
        ):
            return None
        from .integer_program import Program

        program = Program()
        taken = [program.binaries([_cost(o, budget) for o in candidates]) for candidates in lists]
        for variables in taken:
            program.row(dict.fromkeys(variables, 1.0), 1, 1)
        self.budget_rows(program, lists, taken, budget)
        self.width_rows(program, lists, taken, interval)
        values = program.solve(_NODES, gap=gap)
        if values is None:
            return None
        return [
            candidates[int(np.argmax(values[variables]))]
            for candidates, variables in zip(lists, taken, strict=True)
        ]

    def budget_rows(
        self, program: "Program", lists: _Lists, taken: _Taken, budget: Budget, scale: float = 1.0
    ) -> None:
        """Rows that keep the budget of each resource, and variables that divide each stage's
        multipliers into DSP blocks and soft logic.

        The objective grows by ``scale`` times the size of a soft multiplier.
        """
        every = [
            (v, o)
            for candidates, variables in zip(lists, taken, strict=True)
            for v, o in zip(variables, candidates, strict=True)
        ]
        cells: dict[int, float] = {v: o.cells for v, o in every}
        ff: dict[int, float] = {v: o.ff for v, o in every}
        program.row({v: o.bram for v, o in every}, -np.inf, budget.bram)
        trees: dict[int, float] = {
            v: o.multipliers for v, o in every if o.products is Products.TREES
        }
        if budget.soft == 0:
            program.row({v: o.blocks for v, o in every}, -np.inf, budget.blocks)
            program.row(trees, -np.inf, 0)
        else:
            blocks, soft = [], []
            for stage, products, multipliers in self._by_multiplier(lists, taken):
                cost = stage.soft(products)
                block, single = program.integers([0, scale * (cost[0] + cost[1] / 4)])
                blocks.append(block)
                soft.append(single)
                cells[single], ff[single] = cost
                row: dict[int, float] = {**multipliers, block: -stage.per_block, single: -1}
                program.row(row, -np.inf, 0)
            program.row(dict.fromkeys(blocks, 1), -np.inf, budget.blocks)
            if budget.soft is not None:
                program.row({**dict.fromkeys(soft, 1), **trees}, -np.inf, budget.soft)
        program.row(cells, -np.inf, budget.cells)
        program.row(ff, -np.inf, budget.ff)

    def _by_multiplier(
        self, lists: _Lists, taken: _Taken
    ) -> Iterator[tuple[Candidates, Products, dict[int, int]]]:
        """The variables of a stage's candidates and their multipliers, for each kind of multiplier
        that a DSP block could make.
        """
        for stage, candidates, variables in zip(self.stages, lists, taken, strict=True):
            for way in (Products.SINGLE, *_WIDER):
                found = {
                    v: o.multipliers
                    for v, o in zip(variables, candidates, strict=True)
                    if o.products is way
                }
                if stage.per_block and found:
                    yield stage, way, found

    def width_rows(self, program: "Program", lists: _Lists, taken: _Taken, interval: int) -> None:
        """Rows that exclude pairs of candidates between which a width conversion is too slow."""
        widths = []
        for cycles in self.inputs:
            suiting = [n for n, frame in cycles.items() if frame <= interval]
            variables = program.binaries([1.0] * len(suiting))
            program.row(dict.fromkeys(variables, 1.0), 1, 1)
            widths.append(list(zip(variables, suiting, strict=True)))
        for stream, (source, sink, edge) in enumerate(self.streams):
            outs = (
                widths[edge.output]
                if source is None
                else [
                    (v, self.lanes_from(stream, o))
                    for v, o in zip(taken[source], lists[source], strict=True)
                ]
            )
            into = [self.lanes_at(stream, o) for o in lists[sink]]
            for lanes in sorted({n for _, n in outs}):
                fitting = {n for n in set(into) if self.converting(stream, lanes, n) <= interval}
                if not fitting.issuperset(into):
                    program.row(
                        {v: 1.0 for v, n in outs if n == lanes}
                        | {v: -1.0 for v, n in zip(taken[sink], into, strict=True) if n in fitting},
                        -np.inf,
                        0,
                    )

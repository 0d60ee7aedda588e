"""One option for every stage: the fewest multipliers that keep an interval within a budget."""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING

import numpy as np

from .candidates import Candidate, Candidates
from .dataflow import Edge, Network

if TYPE_CHECKING:
    from .integer_program import Program

__all__ = ["Budget", "FoldingSolver", "grant"]

_Lists = Sequence[Sequence[Candidate]]
_Taken = Sequence[Sequence[int]]

#: what a multiplier counts in LUTs: fewer multipliers go before anything that they may cost
_MULTIPLIER_SIZE = 10_000
#: nodes of one search tree; instances seen need a few dozen
_NODES = 5_000


@dataclass(frozen=True)
class Budget:
    """What a plan may take: logic cells, flip-flops, DSP blocks, block RAMs, and how many
    multipliers may be in soft logic (None: any number).
    """

    cells: int
    ff: int
    blocks: int
    bram: int
    soft: int | None = None

    def less(self, cells: int, ff: int, bram: int) -> "Budget":
        return replace(self, cells=self.cells - cells, ff=self.ff - ff, bram=self.bram - bram)


def grant(wanted: Sequence[int], takes: Sequence[Callable[[int], int]], blocks: int) -> list[int]:
    """How many of each stage's ``wanted`` multipliers are in DSP blocks: the largest arrays first,
    as many as the blocks that are left suffice for. ``takes`` gives a stage's blocks for a number.
    """
    granted = [0] * len(wanted)
    for n in sorted(range(len(wanted)), key=lambda n: -wanted[n]):
        granted[n] = wanted[n]
        if takes[n](granted[n]) > blocks:
            granted[n] = bisect_right(range(wanted[n]), blocks, key=takes[n]) - 1
        blocks -= takes[n](granted[n])
    return granted


class FoldingSolver:
    """Chooses for a network: ``template`` is it under any plan, with a stage for each menu."""

    def __init__(self, menus: Sequence[Candidates], template: Network):
        self.menus, self.template = menus, template
        place = {stage.name: n for n, stage in enumerate(template.plan.stages)}
        #: (menu, or None for the network's input; menu; stream)
        self.joints = [
            (None if edge.source is None else place[edge.source], place[edge.sink], edge)
            for edge in template.edges
            if edge.sink is not None
        ]
        shape = template.graph.values[template.graph.inputs[0].value].shape
        #: widths of the input that fill their beats, and the cycles that it then takes
        self.inputs = {
            n: shape.pixels * (shape.channels // n)
            for n in range(1, shape.channels + 1)
            if shape.channels % n == 0
        }
        self._streams: dict[tuple[int, int, int], tuple[int, int]] = {}

    def intervals(self) -> list[int]:
        """Every interval that a network could have, from the least that all stages can keep."""
        cycles = [menu.cycles for menu in self.menus]
        streams = [
            edge.pixels_in * ceil(edge.channels_in / n)
            for _, _, edge in self.joints
            for n in range(1, edge.channels_in + 1)
        ]
        both = np.unique(
            np.concatenate([*cycles, np.array(streams), np.array(list(self.inputs.values()))])
        )
        least = max(int(c[0]) for c in cycles)
        most = max(int(c[-1]) for c in cycles)
        found: list[int] = both[(both >= least) & (both <= most)].tolist()
        return found

    def enough(self, interval: int, budget: Budget) -> bool:
        """Whether the blocks suffice for the fewest multipliers, were nothing else to be kept."""
        fewest = [menu.fewest(interval) for menu in self.menus]
        wanted = [n for n in fewest if n is not None]
        return len(wanted) == len(fewest) and (
            budget.soft is None or sum(self.soft(wanted, budget.blocks)) <= budget.soft
        )

    def soft(self, multipliers: Sequence[int], blocks: int) -> list[int]:
        """How many of each stage's multipliers find no place in the DSP blocks that could take
        them.
        """
        wanted = [
            n if menu.per_block else 0 for n, menu in zip(multipliers, self.menus, strict=True)
        ]
        hard = grant(wanted, [menu.blocks for menu in self.menus], blocks)
        return [w - h for w, h in zip(wanted, hard, strict=True)]

    def choose(self, interval: int, budget: Budget) -> list[Candidate] | None:
        """The fewest multipliers, then about the least size; None when nothing keeps ``interval``
        and ``budget``.

        Stage by stage the least is the least of all, so where that keeps the budget it is the
        answer; otherwise an integer program weighs the stages against each other.
        """
        if not self.enough(interval, budget):
            return None
        near = [menu.options(interval) for menu in self.menus]
        if not all(near):
            return None
        apart = self._apart(near, interval)
        if apart is not None and self.keeps(apart, budget):
            return apart
        return self._together(near, interval, budget) or self._together(
            [menu.speeds(interval) for menu in self.menus], interval, budget
        )

    def lanes_in(
        self, chosen: Sequence[Candidate], interval: int, *, eager: bool = False
    ) -> int | None:
        """Elements a beat of the network's input: as the first stage takes them, or else the
        fewest that keep the interval (``eager``: the fewest that come in fastest).
        """
        takers = [n for n, (source, _, _) in enumerate(self.joints) if source is None]
        wanted = {self.lanes_at(n, chosen[self.joints[n][1]]) for n in takers}
        suits = []
        for lanes, cycles in self.inputs.items():
            slowest = max(
                cycles,
                *(
                    self.converting(n, lanes, self.lanes_at(n, chosen[self.joints[n][1]]))
                    for n in takers
                ),
            )
            if slowest <= interval:
                suits.append((wanted != {lanes}, slowest if eager else 0, lanes))
        return min(suits)[-1] if suits else None

    def lanes_from(self, joint: int, source: Candidate) -> int:
        """Elements a beat that ``source`` gives to the stream of a joint."""
        return source.lanes_out[self.joints[joint][2].output]

    def lanes_at(self, joint: int, sink: Candidate) -> int:
        """Elements a beat that ``sink`` takes from the stream of a joint."""
        return sink.lanes_in[self.joints[joint][2].index]

    def converting(self, joint: int, lanes_out: int, lanes_in: int) -> int:
        """Cycles a frame of the width conversion at a joint; 0 where there is none."""
        return self._stream(joint, lanes_out, lanes_in)[0]

    def passing(self, joint: int, lanes_out: int, lanes_in: int) -> int:
        """Cycles that a beat is on its way at a joint."""
        return self._stream(joint, lanes_out, lanes_in)[1]

    def _stream(self, joint: int, lanes_out: int, lanes_in: int) -> tuple[int, int]:
        key = joint, lanes_out, lanes_in
        if key not in self._streams:
            edge: Edge = replace(self.joints[joint][2], lanes_out=lanes_out, lanes_in=lanes_in)
            self._streams[key] = edge.cycles() if edge.converts else 0, edge.latency
        return self._streams[key]

    def _apart(self, lists: _Lists, interval: int) -> list[Candidate] | None:
        """Each stage's first option that suits what stands before it, if none costs multipliers."""
        chosen: list[Candidate] = []
        for n, options in enumerate(lists):
            into = [
                (joint, source)
                for joint, (source, sink, _) in enumerate(self.joints)
                if sink == n and source is not None
            ]
            suits = next(
                (
                    o
                    for o in options
                    if all(
                        self.converting(
                            joint, self.lanes_from(joint, chosen[source]), self.lanes_at(joint, o)
                        )
                        <= interval
                        for joint, source in into
                    )
                ),
                None,
            )
            if suits is None or suits.multipliers > options[0].multipliers:
                return None
            chosen.append(suits)
        return chosen if self.lanes_in(chosen, interval) is not None else None

    def keeps(self, chosen: Sequence[Candidate], budget: Budget) -> bool:
        """Whether the options together are within ``budget``; widths are not looked at."""
        soft = self.soft([o.multipliers for o in chosen], budget.blocks)
        extra = [
            (n * menu.soft[0], n * menu.soft[1]) for n, menu in zip(soft, self.menus, strict=True)
        ]
        return (
            (budget.soft is None or sum(soft) <= budget.soft)
            and sum(o.cells for o in chosen) + sum(e[0] for e in extra) <= budget.cells
            and sum(o.ff for o in chosen) + sum(e[1] for e in extra) <= budget.ff
            and sum(o.bram for o in chosen) <= budget.bram
        )

    def _together(self, lists: _Lists, interval: int, budget: Budget) -> list[Candidate] | None:
        """The integer program: one option a stage, blocks and soft multipliers for its products."""
        if (
            sum(min(o.cells for o in options) for options in lists) > budget.cells
            or sum(min(o.ff for o in options) for options in lists) > budget.ff
            or sum(min(o.bram for o in options) for options in lists) > budget.bram
        ):
            return None
        from .integer_program import Program

        program = Program()
        taken = [
            program.binaries([_MULTIPLIER_SIZE * o.multipliers + o.size for o in options])
            for options in lists
        ]
        for variables in taken:
            program.row(dict.fromkeys(variables, 1.0), 1, 1)
        self.budget_rows(program, lists, taken, budget)
        self.width_rows(program, lists, taken, interval)
        values = program.solve(_NODES)
        if values is None:
            return None
        return [
            options[int(np.argmax(values[variables]))]
            for options, variables in zip(lists, taken, strict=True)
        ]

    def budget_rows(
        self, program: "Program", lists: _Lists, taken: _Taken, budget: Budget, scale: float = 1.0
    ) -> None:
        """What all stages take of each resource; multipliers are shared out to blocks and logic.

        Those in logic cost ``scale`` times their size.
        """
        every = [
            (v, o)
            for options, variables in zip(lists, taken, strict=True)
            for v, o in zip(variables, options, strict=True)
        ]
        cells: dict[int, float] = {v: o.cells for v, o in every}
        ff: dict[int, float] = {v: o.ff for v, o in every}
        program.row({v: o.bram for v, o in every}, -np.inf, budget.bram)
        if budget.soft == 0:
            program.row({v: o.blocks for v, o in every}, -np.inf, budget.blocks)
        else:
            blocks, soft = [], []
            for menu, options, variables in zip(self.menus, lists, taken, strict=True):
                if not menu.per_block:
                    continue
                block, single = program.integers([0, scale * (menu.soft[0] + menu.soft[1] / 4)])
                blocks.append(block)
                soft.append(single)
                cells[single], ff[single] = menu.soft
                program.row(
                    {v: o.multipliers for v, o in zip(variables, options, strict=True)}
                    | {block: -menu.per_block, single: -1},
                    -np.inf,
                    0,
                )
            program.row(dict.fromkeys(blocks, 1), -np.inf, budget.blocks)
            if budget.soft is not None:
                program.row(dict.fromkeys(soft, 1), -np.inf, budget.soft)
        program.row(cells, -np.inf, budget.cells)
        program.row(ff, -np.inf, budget.ff)

    def width_rows(self, program: "Program", lists: _Lists, taken: _Taken, interval: int) -> None:
        """A stage's output width allows those options of the next that need no slow conversion."""
        inputs = [n for n, cycles in self.inputs.items() if cycles <= interval]
        widths = program.binaries([1.0] * len(inputs))
        program.row(dict.fromkeys(widths, 1.0), 1, 1)
        for joint, (source, sink, _) in enumerate(self.joints):
            outs = (
                [(v, n) for v, n in zip(widths, inputs, strict=True)]
                if source is None
                else [
                    (v, self.lanes_from(joint, o))
                    for v, o in zip(taken[source], lists[source], strict=True)
                ]
            )
            for lanes in sorted({n for _, n in outs}):
                suits = [
                    self.converting(joint, lanes, self.lanes_at(joint, o)) <= interval
                    for o in lists[sink]
                ]
                if not all(suits):
                    program.row(
                        {v: 1.0 for v, n in outs if n == lanes}
                        | {v: -1.0 for v, fits in zip(taken[sink], suits, strict=True) if fits},
                        -np.inf,
                        0,
                    )

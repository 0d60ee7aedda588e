"""Foldings of loops: chosen by the cycles of a turn, most of which are latency."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from math import log

import numpy as np
from numpy.typing import NDArray

from ...hw.target.base import Device
from .. import ir
from .candidates import Candidate, Candidates, FoldingCandidates
from .dataflow import Dataflow
from .fifo import with_queues
from .pace import LoopStage, LoopStream, turn

__all__ = ["TurnCandidates", "by_turns"]

#: limit on the multipliers of an array, in those of the device; logic cells of one
_MOST, _SOFT = 2, 100
#: rounds of choosing and of finding where queues are
_ROUNDS = 2
#: widths of the streams within a loop that are tried, and foldings of each of its arrays
_WIDTHS, _LEVELS = 6, 48
#: factor between the multipliers of foldings that are compared by their cycles alone, and how many
#: of them are built
_BUCKET, _BUILT = 1.12, 2


def by_turns(stages: Sequence[FoldingCandidates], network: Dataflow) -> list[Candidates]:
    """``stages``, those of ``network``, where each that is in a loop takes the cycles of the loop:
    its steps a frame times a turn.

    A turn is the way from a state to the next one. A stage in a loop works for a small part of it,
    so cycles of its own would make it wider than the loop can use.
    """
    if not any(design.delaying for design in network.designs.values()):
        return [*stages]
    place = {stage.name: n for n, stage in enumerate(stages)}
    loops = [
        (
            _LoopFoldings(
                [stages[place[name]] for name in network.designs if name in names], network.device
            ),
            steps,
        )
        for names, steps in _loops(network)
    ]
    found: list[Candidates] = [*stages]
    plans = {stage.name: stage for stage in network.plan.stages}
    for _ in range(_ROUNDS):
        queued = with_queues(
            Dataflow(
                network.graph, replace(network.plan, stages=tuple(plans.values())), network.device
            )
        )
        for loop, steps in loops:
            front = loop.front(queued)
            cycles = np.array([steps * each.turn for each in front])
            for which, stage in enumerate(loop.stages):
                parts = [one.chosen[which].candidates for one in front]
                found[place[stage.name]] = TurnCandidates(stage, cycles, parts)
                plans[stage.name] = parts[0][0].design.stage
    return found


def _loops(network: Dataflow) -> Iterator[tuple[set[str], int]]:
    """The stages of each loop whose turn is that of one pixel, and the turns of a frame."""
    graph = network.graph
    for across in (False, True):
        for group in ir.loops.groups(graph, across=across):
            keeping = {op.keeping for op in group if op.delaying}
            pixels = {graph.shape(op.output).pixels for op in group}
            if ir.loops.is_loop(group) and keeping == {across} and (not across or pixels == {1}):
                names = {network.stage_of[op.output].name for op in group if not op.view}
                yield names, max(pixels)


class TurnCandidates(Candidates):
    """The candidates of a stage in a loop: of each choice for the whole loop the stage's part.

    ``cycles``: those a frame of each choice, rising; ``parts``: the stage's candidates in each.
    """

    def __init__(
        self, own: Candidates, cycles: NDArray[np.int64], parts: Sequence[list[Candidate]]
    ) -> None:
        super().__init__(own.ops, own.name, own.graph, own.device)
        self.cycles, self.parts = cycles, parts
        self.multipliers = np.array([min(o.multipliers for o in part) for part in parts])

    def within(self, interval: int) -> list[Candidate]:
        """The candidates of the loop's cheapest choice for ``interval``."""
        rows = self._rows_within(interval)
        return self.parts[rows - 1] if rows else []

    def by_speed(self, slowest: int, multipliers: int | None = None) -> list[Candidate]:
        """The candidates of all choices for ``slowest``, the fastest first."""
        chosen = self.parts[: self._rows_within(slowest)]
        return list(dict.fromkeys(o for part in chosen for o in part))


@dataclass(frozen=True, eq=False)
class _Option:
    """A folding of a stage, with its weights in each memory.

    ``stage``: its part of a turn, with the longest latency of them; ``price``: what it takes in
    logic cells, a multiplier counted as its share of the device.
    """

    candidates: list[Candidate]
    stage: LoopStage
    price: float
    lanes_in: tuple[int, ...]
    lanes_out: int


@dataclass(frozen=True, eq=False)
class _Choice:
    """A folding of each stage of a loop."""

    turn: int
    price: float
    chosen: list[_Option]


class _LoopFoldings:
    """The stages of one loop, in flow order, and the streams between them."""

    def __init__(self, stages: Sequence[FoldingCandidates], device: Device):
        self.stages = stages
        #: multipliers of the device, in logic where it has no blocks, and the share of one
        self._multipliers = device.multipliers or max(1, device.lut // _SOFT)
        self._multiplier = device.lut / self._multipliers
        self._queued: list[bool] | None = None
        self._front: list[_Choice] = []
        self._options: dict[tuple[int, int, int], _Option | None] = {}

    def front(self, network: Dataflow) -> list[_Choice]:
        """Choices of ever longer turns and lower prices, from about the shortest turn; with queues
        where ``network`` has them.
        """
        place = {stage.name: n for n, stage in enumerate(self.stages)}
        self.into = [
            [(place[str(e.source)], e) for e in network.edges_into[name] if e.source in place]
            for name in place
        ]
        queued = [edge.queued > 0 for edges in self.into for _, edge in edges]
        if queued != self._queued:
            self._queued, self._front = queued, self._kept()
        return self._front

    def _kept(self) -> list[_Choice]:
        """The choices that no other one is better than."""
        self._streams: dict[tuple[int, int, int, int], LoopStream] = {}
        self._turns: dict[tuple[_Option, ...], int] = {}
        widths = self._widths()
        levels = [[self._levels(n, width) for width in widths] for n in range(len(self.stages))]
        found = [choice for each in zip(*levels, strict=True) for choice in self._choices(each)]
        options = [list(dict.fromkeys(chain.from_iterable(each))) for each in levels]
        return _undominated([self._improved(one, options) for one in _undominated(found)])

    def _improved(self, choice: _Choice, options: Sequence[Sequence[_Option]]) -> _Choice:
        """``choice`` with other ``options`` of single stages, of any width, as long as one shortens
        the turn at no higher price or lowers the price at no longer turn.
        """
        turn, chosen, before = choice.turn, list(choice.chosen), None
        while before != chosen:
            before = list(chosen)
            for n, each in enumerate(options):
                for option in each:
                    if option.price > chosen[n].price:
                        continue
                    other = self.turn([*chosen[:n], option, *chosen[n + 1 :]])
                    if other < turn or (other == turn and option.price < chosen[n].price):
                        turn, chosen[n] = other, option
        return _Choice(turn, sum(option.price for option in chosen), chosen)

    def _widths(self) -> list[int]:
        """Lanes of streams within the loop: of all that its stages offer some, evenly spaced."""
        offered = {
            int(pe) for stage in self.stages if not stage.is_array for pe in stage.foldings()[:, 1]
        }
        widths = sorted(offered or {1})
        places = np.linspace(0, len(widths) - 1, min(_WIDTHS, len(widths)))
        return [widths[round(place)] for place in places.tolist()]

    def _choices(self, levels: Sequence[list[_Option]]) -> Iterator[_Choice]:
        """Choices from the ``levels`` of each stage, those between streams of one width.

        The first has the fastest array in each place. Each next one is cheaper: every array is as
        cheap as leaves the turn as it is, the one with the largest gain first; then the array gives
        way that saves most for a cycle.
        """
        if not all(levels):
            return
        at = [0] * len(levels)

        def chosen(places: Sequence[int]) -> list[_Option]:
            return [options[place] for options, place in zip(levels, places, strict=True)]

        while True:
            turn = self.turn(chosen(at))
            at = self._filled(levels, at, turn)
            options = chosen(at)
            yield _Choice(turn, sum(option.price for option in options), options)
            moves = []
            for n, place in enumerate(at):
                if place + 1 < len(levels[n]):
                    longer = self.turn(chosen([*at[:n], place + 1, *at[n + 1 :]])) - turn
                    saved = levels[n][place].price - levels[n][place + 1].price
                    moves.append((longer / saved, n))
            if not moves:
                return
            at[min(moves)[1]] += 1

    def _filled(
        self, levels: Sequence[Sequence[_Option]], at: Sequence[int], turn: int
    ) -> list[int]:
        """Each array as cheap as leaves the ``turn`` as it is."""
        at = list(at)
        gains = [
            options[place].price - options[-1].price
            for options, place in zip(levels, at, strict=True)
        ]
        for n in sorted(range(len(levels)), key=lambda n: -gains[n]):
            low, high = at[n], len(levels[n]) - 1
            while low < high:
                middle = (low + high + 1) // 2
                places = [*at[:n], middle, *at[n + 1 :]]
                options = [each[place] for each, place in zip(levels, places, strict=True)]
                low, high = (middle, high) if self.turn(options) <= turn else (low, middle - 1)
            at[n] = low
        return at

    def turn(self, chosen: Sequence[_Option]) -> int:
        """The cycles of a turn, as :func:`.pace.paced` computes them."""
        key = tuple(chosen)
        if key not in self._turns:
            self._turns[key] = self._turn(chosen)
        return self._turns[key]

    def _turn(self, chosen: Sequence[_Option]) -> int:
        streams = [
            [
                self._stream(n, which, chosen[source].lanes_out, option.lanes_in[edge.index])
                for which, (source, edge) in enumerate(self.into[n])
            ]
            for n, option in enumerate(chosen)
        ]
        return turn([option.stage for option in chosen], streams)

    def _stream(self, n: int, which: int, lanes_out: int, lanes_in: int) -> LoopStream:
        """One of the streams into a stage, between these widths."""
        key = n, which, lanes_out, lanes_in
        if key not in self._streams:
            source, edge = self.into[n][which]
            edge = replace(edge, lanes_out=lanes_out, lanes_in=lanes_in)
            self._streams[key] = LoopStream.of(source, edge)
        return self._streams[key]

    def _levels(self, n: int, width: int) -> list[_Option]:
        """The options of a stage between streams of ``width`` lanes, the fastest first: each next
        one is cheaper. Of a stage without multipliers the one of that width.
        """
        stage, table = self.stages[n], self.stages[n].foldings()
        if not stage.is_array:
            below = table[table[:, 1] <= width] if (table[:, 1] <= width).any() else table[:1]
            best = below[below[:, 1] == below[:, 1].max()][:1]
            return [o for row in best.tolist() if (o := self._option(n, row[0], row[1]))]
        options = [o for row in self._worth(n) if (o := self._option(n, *row))]
        options.sort(key=lambda o: (self._through(n, o, width), o.price))
        kept: list[_Option] = []
        for option in options:
            if not kept or option.price < kept[-1].price:
                kept.append(option)
        places = np.unique(np.linspace(0, len(kept) - 1, min(_LEVELS, len(kept))).round())
        return [kept[int(place)] for place in places]

    def _through(self, n: int, option: _Option, width: int) -> float:
        """The cycles from a stream of ``width`` lanes through a stage into another one."""
        begin, done = 0.0, 0.0
        for which, (_, edge) in enumerate(self.into[n]):
            stream = self._stream(n, which, width, option.lanes_in[edge.index])
            one, other = stream.arrival(0.0, stream.beats - 1)
            begin, done = max(begin, one), max(done, other)
        done += option.stage.latency
        begin = option.stage.leaves(begin, done)
        return max(
            self._stream(sink, which, option.lanes_out, width).arrival(begin, done)[1]
            for sink, edges in enumerate(self.into)
            for which, (source, _) in enumerate(edges)
            if source == n
        )

    def _worth(self, n: int) -> list[tuple[int, int]]:
        """Foldings of an array: of about as many multipliers some of the least cycles, those of
        computing and of the results that leave one after the other.
        """
        best: dict[int, list[tuple[float, tuple[int, int]]]] = {}
        table = self.stages[n].foldings()
        most = max(int(table[:, 2].min()), _MOST * self._multipliers)
        for simd, pe, multipliers, cycles, lanes in table[table[:, 2] <= most].tolist():
            score = cycles + pe / lanes
            best.setdefault(int(log(multipliers, _BUCKET)), []).append((score, (simd, pe)))
        return [folding for each in best.values() for _, folding in sorted(each)[:_BUILT]]

    def _option(self, n: int, simd: int, pe: int) -> _Option | None:
        key = n, simd, pe
        if key not in self._options:
            candidates = self.stages[n].built(simd, pe)
            self._options[key] = self._of(candidates) if candidates else None
        return self._options[key]

    def _of(self, candidates: list[Candidate]) -> _Option:
        stages = [LoopStage.of(o.design) for o in candidates]
        return _Option(
            candidates,
            max(stages, key=lambda stage: stage.latency),
            min(o.size + self._multiplier * o.multipliers for o in candidates),
            candidates[0].lanes_in,
            candidates[0].lanes_out[0],
        )


def _undominated(choices: Iterable[_Choice]) -> list[_Choice]:
    """Those of ``choices`` that no other one is better than, of ever longer turns."""
    kept: list[_Choice] = []
    for choice in sorted(choices, key=lambda one: (one.turn, one.price)):
        if not kept or choice.price < kept[-1].price:
            kept.append(choice)
    return kept

"""The least latency: a program over candidates whose rows are critical paths of the schedule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, gcd, inf

from ..stages import StageTiming
from .candidates import Candidate
from .folding_solver import Budget, FoldingSolver
from .integer_program import Program
from .schedule import CriticalPath, Schedule
from .streams import Edge

__all__ = ["LatencyOptimizer"]

#: rounds of added paths with mixtures of candidates, and with one candidate a stage
_MIXED, _WHOLE = 80, 4
#: a path is added when it is longer than the program's longest one by more than this share
_CLOSE = 0.003
#: the rounds with one candidate a stage choose from those whose speed differs from the mixture's by
#: at most this factor; the next factor is tried when none of them fit together
_NEAR = (1.35, 2.0, 4.0, inf)
#: weight of a full chip's logic as a share of the latency: of equally fast plans the smaller wins
_SIZE_SHARE = 0.01
#: passes of single changes over all stages
_SWEEPS = 4
#: limit on the nodes of the search tree, times the candidates in it
_NODES = 100_000
_GAP = 0.003


class LatencyOptimizer:
    """Choices of about the least latency within a budget.

    A frame's last beat waits for a chain of events (:class:`~.schedule.CriticalPath`). Each of them
    lasts as long as a pixel, a latency, or the writing of a pixel into a line buffer. The latency
    is the maximum of many such sums. Each is linear in the choice of candidates, so the maximum is
    convex.
    The program starts without sums, and each round adds the longest one under its current solution
    (Kelley's cutting planes): first for mixtures of candidates, which give the bound, then for one
    candidate a stage. The program ignores rows that a line buffer has no room for and widths that
    do not match; a local search over single stages accounts for them.

    ``slowest``: the most cycles a frame that a stage or a width converter may take.
    """

    def __init__(self, solver: FoldingSolver, budget: Budget, slowest: int):
        self.solver, self.budget, self.slowest = solver, budget, slowest
        self.schedule = Schedule(solver.template)
        self.lists = [
            stage.by_speed(
                slowest,
                budget.blocks * max(1, stage.per_block) + int(budget.cells / (1 + stage.soft()[0])),
            )
            for stage in solver.stages
        ]

    @cached_property
    def bound(self) -> int:
        """A lower bound, in cycles, on the latency of any choice within the whole budget."""
        return ceil(self._mixture[0])

    def choices(self, left: Budget) -> Iterator[list[Candidate]]:
        """Choices of decreasing latency, roughly, within ``left``: the budget without queues and
        converters.
        """
        length, means, known = self._mixture
        if not means:
            return
        timings = self.timings(self.lists)
        for factor in _NEAR:
            near = [_near(*stage, factor) for stage in zip(self.lists, timings, means, strict=True)]
            found = False
            for chosen in self._whole(near, left, known, length):
                found = True
                yield chosen
            if found:
                return

    @cached_property
    def _mixture(self) -> tuple[float, list[StageTiming], list[CriticalPath]]:
        """The least latency of mixtures within the whole budget, their timings, and the longest
        paths; without timings when nothing keeps the budget.
        """
        model, paths = _Model(self, self.lists, self.budget), list[CriticalPath]()
        length, means = 0.0, list[StageTiming]()
        for _ in range(_MIXED):
            found = model.solve()
            if found is None:
                return 0.0, [], []
            length, means = found.length, found.timings
            if not self._longer(found, model, paths):
                break
        return length, means, paths

    def timings(self, lists: Sequence[Sequence[Candidate]]) -> list[list[StageTiming]]:
        """The least timing of each candidate: with the widest input and room for all rows. What
        full buffers and narrow inputs add is small, and not linear.
        """
        found = [[replace(o.timing, room=inf) for o in candidates] for candidates in lists]
        for source, sink, edge in self.solver.streams:
            window = self.schedule.windows[sink]
            if source is None and window is not None:
                found[sink] = [
                    replace(p, writing=max(p.writing, edge.channels_in // self._common(edge, o)))
                    for o, p in zip(lists[sink], found[sink], strict=True)
                ]
        return found

    def _common(self, edge: Edge, candidate: Candidate) -> int:
        """The most elements of the edge's input of the network that reach a candidate at once."""
        widths = self.solver.inputs[edge.output]
        return max(gcd(n, candidate.lanes_in[edge.index]) for n in widths)

    def latency(self, chosen: Sequence[Candidate]) -> float:
        """The latency of a choice, as :func:`~.schedule.latency` computes it; infinite where no
        width of an input of the network keeps ``slowest``.
        """
        lanes_in = self.solver.lanes_in(chosen, self.slowest, eager=True)
        if lanes_in is None:
            return inf
        timings = [o.timing for o in chosen]
        late = {}
        for stream, (source, sink, edge) in enumerate(self.solver.streams):
            lanes = (
                lanes_in[edge.output]
                if source is None
                else self.solver.lanes_from(stream, chosen[source])
            )
            lanes_there = self.solver.lanes_at(stream, chosen[sink])
            cycles = self.solver.converting(stream, lanes, lanes_there)
            if cycles > self.slowest:
                return inf
            late[edge] = self.solver.passing(stream, lanes, lanes_there)
            window = self.schedule.windows[sink]
            if window is not None:
                timings[sink] = replace(
                    timings[sink], writing=max(timings[sink].writing, cycles // edge.pixels_in)
                )
        return self._schedule_of(chosen).run(timings, lanes_in, late).last

    def _schedule_of(self, chosen: Sequence[Candidate]) -> Schedule:
        """The schedule where minimal filtering has windows of its own."""
        windows = {
            n: o.design.buffering.lines for n, o in enumerate(chosen) if o.products.directions
        }
        return self.schedule.with_windows({n: w for n, w in windows.items() if w is not None})

    def improved(self, chosen: list[Candidate], left: Budget) -> list[Candidate]:
        """The choice after all changes of single stages that lower its latency within ``left``."""
        best = self.latency(chosen)
        for _ in range(_SWEEPS):
            before = best
            for n, candidates in enumerate(self.lists):
                for candidate in candidates:
                    other = [*chosen[:n], candidate, *chosen[n + 1 :]]
                    if self.solver.keeps(other, left):
                        length = self.latency(other)
                        if length < best:
                            best, chosen = length, other
            if best == before:
                break
        return chosen

    def _whole(
        self,
        lists: Sequence[Sequence[Candidate]],
        left: Budget,
        known: Sequence[CriticalPath],
        length: float,
    ) -> Iterator[list[Candidate]]:
        """Choices of one candidate a stage from ``lists``; ``known``: paths to start with."""
        model, paths = _Model(self, lists, left, length), [*known]
        for path in paths:
            model.add(path)
        for _ in range(_WHOLE):
            found = model.solve()
            if found is None:
                return
            yield self.improved(
                [candidates[n] for candidates, n in zip(lists, found.places, strict=True)], left
            )
            if not self._longer(found, model, paths):
                return

    def _longer(self, found: "_Found", model: "_Model", paths: list[CriticalPath]) -> bool:
        """Add the longest path under the solution, if it is longer than those of the model."""
        run = self.schedule.run(found.timings, [max(n) for n in self.solver.inputs])
        if run.last <= found.length * (1 + _CLOSE):
            return False
        paths.append(run.path())
        model.add(paths[-1])
        return True


@dataclass(frozen=True)
class _Found:
    """A solution: the length of the longest path, each stage's timing and main candidate."""

    length: float
    timings: list[StageTiming]
    places: list[int]


class _Model:
    """The program: weights of candidates, and the length of the longest path.

    With ``length``, that of the longest path, each stage takes one candidate, and size has a small
    weight; without it candidates mix.
    """

    def __init__(
        self,
        search: LatencyOptimizer,
        lists: Sequence[Sequence[Candidate]],
        budget: Budget,
        length: float | None = None,
    ):
        self.search, self.whole = search, length is not None
        self.program = program = Program()
        solver = search.solver
        scale = _SIZE_SHARE * (length or 0) / budget.cells
        (self.longest,) = program.reals([1.0])
        self.taken = [
            program.binaries([scale * o.soft_size for o in candidates]) for candidates in lists
        ]
        for variables in self.taken:
            program.row(dict.fromkeys(variables, 1.0), 1, 1)
        solver.budget_rows(program, lists, self.taken, budget, scale)
        if self.whole:
            solver.width_rows(program, lists, self.taken, search.slowest)
        self.timings = search.timings(lists)

    def add(self, path: CriticalPath) -> None:
        """Add a path: the longest one is at least as long."""
        row = {self.longest: 1.0}
        for variables, timings, counts in zip(self.taken, self.timings, path.counts, strict=True):
            row |= {
                v: -sum(n * x for n, x in zip(counts, p.durations, strict=True))
                for v, p in zip(variables, timings, strict=True)
            }
        self.program.row(row, path.rest, float("inf"))

    def solve(self) -> _Found | None:
        nodes = _NODES // sum(map(len, self.taken))
        values = self.program.solve(nodes, relaxed=not self.whole, gap=_GAP)
        if values is None:
            return None
        means, places = [], []
        for variables, timings in zip(self.taken, self.timings, strict=True):
            weights = values[variables]
            means.append(
                StageTiming(
                    float(weights @ [p.pixel for p in timings]),
                    float(weights @ [p.latency for p in timings]),
                    float(weights @ [p.writing for p in timings]),
                    max(p.arrival for p in timings),
                )
            )
            places.append(int(weights.argmax()))
        return _Found(float(values[self.longest]), means, places)


def _near(
    candidates: Sequence[Candidate],
    timings: Sequence[StageTiming],
    mean: StageTiming,
    factor: float,
) -> list[Candidate]:
    """Those within ``factor`` of the mean's speed, and the next faster and slower ones."""
    pixels = [p.pixel for p in timings]
    slower = min((n for n in pixels if n >= mean.pixel), default=inf)
    faster = max((n for n in pixels if n <= mean.pixel), default=0)
    low, high = min(mean.pixel / factor, faster), max(mean.pixel * factor, slower)
    return [o for o, n in zip(candidates, pixels, strict=True) if low <= n <= high]

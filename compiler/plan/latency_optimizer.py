"""The least latency: a program over options whose rows are critical paths of the schedule."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil, gcd, inf

from ..stages import StageTiming
from .candidates import Candidate
from .dataflow import Edge
from .folding_solver import Budget, FoldingSolver
from .integer_program import Program
from .schedule import Path, Schedule

__all__ = ["LatencyOptimizer"]

#: rounds of paths with mixtures of options, then with one option a stage
_MIXED, _WHOLE = 80, 4
#: paths longer than the program knew by this share are added to it
_CLOSE = 0.003
#: options about as fast as the mixture, by these factors either way, that the whole rounds choose
#: from: more of them where none of the fewer fit together
_NEAR = (1.35, 2.0, 4.0, inf)
#: what filling the logic may cost of the latency: plans as short are told apart by size
_SIZE_SHARE = 0.01
#: times that every stage is gone over in the end
_SWEEPS = 4
#: nodes of the search tree, times the options in it
_NODES = 100_000
_GAP = 0.003


class LatencyOptimizer:
    """Choices of about the least latency within a budget.

    A frame's last beat waits for a chain of events, each of which lasts a pixel, a latency or a
    pixel's way into a buffer of some stage (:class:`~.schedule.Path`). So the latency is the
    longest of many sums, each of which is linear in which option a stage takes, and convex as a
    whole. The program starts with no sums, and each round adds the longest one under its own answer
    (Kelley's cutting planes), first for mixtures of options, which gives the bound, then for whole
    ones. What the program leaves out (rows that a buffer has no room for, widths that do not match)
    is made good by changing one stage at a time.

    ``slowest``: cycles a frame that no stage and no width converter goes beyond.
    """

    def __init__(self, chooser: FoldingSolver, budget: Budget, slowest: int):
        self.chooser, self.budget, self.slowest = chooser, budget, slowest
        self.schedule = Schedule(chooser.template)
        self.lists = [
            menu.speeds(
                slowest, budget.blocks * max(1, menu.per_block) + budget.cells // (1 + menu.soft[0])
            )
            for menu in chooser.menus
        ]
        self._paces: dict[Candidate, StageTiming] = {}

    @cached_property
    def bound(self) -> int:
        """A lower bound, in cycles, on the latency of any choice within the whole budget."""
        return ceil(self._mixture[0])

    def choices(self, left: Budget) -> Iterator[list[Candidate]]:
        """Shorter and shorter ones, about, within ``left``: the budget without what queues and
        converters take.
        """
        length, means, known = self._mixture
        if not means:
            return
        paces = self.paces(self.lists)
        for factor in _NEAR:
            near = [_near(*stage, factor) for stage in zip(self.lists, paces, means, strict=True)]
            found = False
            for chosen in self._whole(near, left, known, length):
                found = True
                yield chosen
            if found:
                return

    @cached_property
    def _mixture(self) -> tuple[float, list[StageTiming], list[Path]]:
        """The least latency of mixtures within the whole budget, their paces, and the longest
        paths; no paces: nothing keeps the budget.
        """
        model, paths = _Model(self, self.lists, self.budget), list[Path]()
        length, means = 0.0, list[StageTiming]()
        for _ in range(_MIXED):
            found = model.solve()
            if found is None:
                return 0.0, [], []
            length, means = found.length, found.paces
            if not self._longer(found, model, paths):
                break
        return length, means, paths

    def pace(self, option: Candidate) -> StageTiming:
        """An option's pace by itself."""
        if option not in self._paces:
            self._paces[option] = option.design.timing
        return self._paces[option]

    def paces(self, lists: Sequence[Sequence[Candidate]]) -> list[list[StageTiming]]:
        """The least pace of each option: with the widest input, and room for all rows, for what
        buffers and widths add is not linear, and little.
        """
        found = [[replace(self.pace(o), room=inf) for o in options] for options in lists]
        for source, sink, edge in self.chooser.joints:
            window = self.schedule.windows[sink]
            if source is None and window is not None:
                found[sink] = [
                    replace(p, writing=max(p.writing, edge.channels_in // self._common(edge, o)))
                    for o, p in zip(lists[sink], found[sink], strict=True)
                ]
        return found

    def _common(self, edge: Edge, option: Candidate) -> int:
        """The most elements of the network's input that come together to an option."""
        return max(gcd(n, option.lanes_in[edge.index]) for n in self.chooser.inputs)

    def latency(self, chosen: Sequence[Candidate]) -> float:
        """The latency of a choice as :func:`~.schedule.latency` has it; infinite where no width of
        the network's input suits.
        """
        lanes_in = self.chooser.lanes_in(chosen, self.slowest, eager=True)
        if lanes_in is None:
            return inf
        paces = [self.pace(o) for o in chosen]
        late = {}
        for joint, (source, sink, edge) in enumerate(self.chooser.joints):
            lanes = lanes_in if source is None else self.chooser.lanes_from(joint, chosen[source])
            lanes_there = self.chooser.lanes_at(joint, chosen[sink])
            cycles = self.chooser.converting(joint, lanes, lanes_there)
            if cycles > self.slowest:
                return inf
            late[edge] = self.chooser.passing(joint, lanes, lanes_there)
            window = self.schedule.windows[sink]
            if window is not None:
                paces[sink] = replace(
                    paces[sink], writing=max(paces[sink].writing, cycles // edge.pixels_in)
                )
        return self.schedule.run(paces, lanes_in, late).last

    def improved(self, chosen: list[Candidate], left: Budget) -> list[Candidate]:
        """The choice after every change of one stage that makes it shorter within ``left``."""
        best = self.latency(chosen)
        for _ in range(_SWEEPS):
            before = best
            for n, options in enumerate(self.lists):
                for option in options:
                    other = [*chosen[:n], option, *chosen[n + 1 :]]
                    if self.chooser.keeps(other, left):
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
        known: Sequence[Path],
        length: float,
    ) -> Iterator[list[Candidate]]:
        """Choices of one option a stage from ``lists``, from the paths that are known so far."""
        model, paths = _Model(self, lists, left, length), [*known]
        for path in paths:
            model.add(path)
        for _ in range(_WHOLE):
            found = model.solve()
            if found is None:
                return
            yield self.improved(
                [options[n] for options, n in zip(lists, found.places, strict=True)], left
            )
            if not self._longer(found, model, paths):
                return

    def _longer(self, found: "_Found", model: "_Model", paths: list[Path]) -> bool:
        """Add the longest path at the paces found, if it is longer than those the model knows."""
        run = self.schedule.run(found.paces, max(self.chooser.inputs))
        if run.last <= found.length * (1 + _CLOSE):
            return False
        paths.append(run.path())
        model.add(paths[-1])
        return True


@dataclass(frozen=True)
class _Found:
    """The longest path known at its least, each stage's pace, its option of the most weight."""

    length: float
    paces: list[StageTiming]
    places: list[int]


class _Model:
    """The program: weights of options, and the length of the longest path.

    With the length of the longest path, each stage takes one option, and its size costs a little;
    without, options mix.
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
        chooser = search.chooser
        scale = _SIZE_SHARE * (length or 0) / budget.cells
        (self.longest,) = program.reals([1.0])
        self.taken = [program.binaries([scale * o.size for o in options]) for options in lists]
        for variables in self.taken:
            program.row(dict.fromkeys(variables, 1.0), 1, 1)
        chooser.budget_rows(program, lists, self.taken, budget, scale)
        if self.whole:
            chooser.width_rows(program, lists, self.taken, search.slowest)
        self.paces = search.paces(lists)

    def add(self, path: Path) -> None:
        """The longest path is at least this one."""
        row = {self.longest: 1.0}
        for variables, paces, counts in zip(self.taken, self.paces, path.counts, strict=True):
            row |= {
                v: -sum(n * x for n, x in zip(counts, (p.pixel, p.latency, p.writing), strict=True))
                for v, p in zip(variables, paces, strict=True)
            }
        self.program.row(row, path.rest, float("inf"))

    def solve(self) -> _Found | None:
        nodes = _NODES // sum(map(len, self.taken))
        values = self.program.solve(nodes, relaxed=not self.whole, gap=_GAP)
        if values is None:
            return None
        means, places = [], []
        for variables, paces in zip(self.taken, self.paces, strict=True):
            weights = values[variables]
            means.append(
                StageTiming(
                    float(weights @ [p.pixel for p in paces]),
                    float(weights @ [p.latency for p in paces]),
                    float(weights @ [p.writing for p in paces]),
                )
            )
            places.append(int(weights.argmax()))
        return _Found(float(values[self.longest]), means, places)


def _near(
    options: Sequence[Candidate], paces: Sequence[StageTiming], mean: StageTiming, factor: float
) -> list[Candidate]:
    """Those as fast as the mean but for ``factor``, and the next ones either way."""
    pixels = [p.pixel for p in paces]
    slower = min((n for n in pixels if n >= mean.pixel), default=inf)
    faster = max((n for n in pixels if n <= mean.pixel), default=0)
    low, high = min(mean.pixel / factor, faster), max(mean.pixel * factor, slower)
    return [o for o, n in zip(options, pixels, strict=True) if low <= n <= high]

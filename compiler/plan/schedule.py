"""When each row passes: the latency of one frame through an idle network."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, singledispatch
from math import ceil, inf
from types import MappingProxyType

from ... import hw
from .network import Edge, Network
from .stages import ConvDesign, Design, PoolDesign, SimpleDesign

__all__ = ["Pace", "Path", "Run", "Schedule", "latency", "pace"]

#: a beat accepted, written, counted as a row and seen by the reader
_ARRIVAL = 3


@dataclass(frozen=True)
class Pace:
    """What of a stage's design the schedule depends on.

    ``row``: cycles that the results of a row of output take; ``latency``: from there to the last of
    them out; ``writing``: cycles that a row of input takes at least on its way into the line
    buffer; ``room``: rows that the buffer holds. Means of several designs have real numbers.
    """

    row: float
    latency: float
    writing: float = 0
    room: float = inf


@dataclass(frozen=True)
class Path:
    """A chain of events, each the last that the next one waits for.

    ``counts``: how often each stage's row, latency and writing lie on it; ``rest``: what does not
    depend on any stage. ``length`` is the sum of it all.
    """

    counts: tuple[tuple[int, int, int], ...]
    rest: float

    def length(self, paces: Sequence[Pace]) -> float:
        return self.rest + sum(a * p.row + b * p.latency + c * p.writing
                               for (a, b, c), p in zip(self.counts, paces, strict=True))


def latency(network: Network) -> int:
    """Cycles from the first beat in to the last beat out, both counted."""
    schedule = Schedule(network)
    paces = [pace(network.designs[stage.name], network.graph.shape(stage.ops[0]).height)
             for stage in network.plan.stages]
    late = {edge: edge.latency for edge in network.edges}
    for n, window in enumerate(schedule.windows):
        for edge in schedule.inputs[n]:
            if window is not None and edge.converts:
                paces[n] = replace(paces[n], writing=max(paces[n].writing,
                                                         edge.cycles() // window.height))
    return int(schedule.run(paces, network.plan.lanes_in, late).last) + network.edges[-1].latency


@lru_cache(maxsize=4096)
def _rows(window: hw.WindowConfig) -> tuple[list[int], list[int]]:
    """Of each row of output: the rows of input it needs, those that are free after it."""
    return [window.needed(row) for row in range(window.height_out)], window.releases()


@singledispatch
def pace(design: Design, height: int) -> Pace:
    """The pace of a design with ``height`` rows of output, its input as wide as it likes."""
    raise NotImplementedError


@pace.register(ConvDesign)
@pace.register(PoolDesign)
def _(design: ConvDesign | PoolDesign, height: int) -> Pace:
    feed, window = design.feed, design.feed.window
    return Pace(window.width_out * window.groups * feed.passes * feed.folds, design.latency,
                window.width * window.words, window.rows)


@pace.register
def _(design: SimpleDesign, height: int) -> Pace:
    return Pace(design.beats // height, design.latency)


class Schedule:
    """The rows of a network, from which stages to which, for any pace of each stage.

    ``inputs`` and ``windows`` (None for a stage without) are in the order of the stages.
    """

    def __init__(self, network: Network):
        graph, stages = network.graph, network.plan.stages
        self.shape = graph.values[graph.inputs[0].value].shape
        place = {stage.name: n for n, stage in enumerate(stages)}
        shapes = [graph.shape(stage.ops[0]) for stage in stages]
        self.inputs = [[edge for edge in network.edges if edge.sink == stage.name]
                       for stage in stages]
        self.windows = [design.feed.window if isinstance(design, ConvDesign | PoolDesign) else None
                        for design in (network.designs[stage.name] for stage in stages)]
        self.last_stage = place[str(network.edges[-1].source)]
        self.steps: list[_Step] = []
        for shape, window, edges in zip(shapes, self.windows, self.inputs, strict=True):
            rows = window.height if window else shape.height
            inputs = []
            for edge in edges:
                source = None if edge.source is None else place[edge.source]
                row = (self.shape.channels if source is None
                       else shapes[source].width * shapes[source].channels)
                whole = edge.pixels_in * edge.channels_in
                # the last row (a pixel, of the network's input) that a row of ours waits for
                inputs.append((source, [ceil(ceil((n + 1) * whole / rows) / row) - 1
                                        for n in range(rows)], edge))
            needed, released = _rows(window) if window else (None, [])
            self.steps.append(_Step(shape.height, inputs, needed, released))

    def run(self, paces: Sequence[Pace], lanes_in: int,
            through: Mapping[Edge, int] = MappingProxyType({})) -> "Run":
        """When everything happens at these paces, with these cycles on the streams."""
        run = Run(self, paces, ceil(self.shape.channels / lanes_in))
        for step, pace in zip(self.steps, paces, strict=True):
            run.add(step, pace, through)
        return run


@dataclass(frozen=True)
class _Step:
    """A stage's rows: of each input the stage before it (None: the network's input) and which of
    its rows each of ours waits for; with a window, the rows that each row of output needs and
    those that it frees.
    """

    height: int
    inputs: list[tuple[int | None, list[int], Edge]]
    needed: list[int] | None
    released: list[int]


class Run:
    """One frame: of each stage the cycles in which its rows of input are written, its rows of
    output have been read for, and have left.
    """

    def __init__(self, schedule: Schedule, paces: Sequence[Pace], a_pixel: int):
        self.schedule, self.paces, self.a_pixel = schedule, paces, a_pixel
        self.arrivals: list[list[list[float]]] = []
        self.written: list[list[float]] = []
        self.finish: list[list[float]] = []
        self.leaves: list[list[float]] = []

    @property
    def last(self) -> float:
        """The latency: from the first beat in to the last one out, both counted."""
        return self.leaves[self.schedule.last_stage][-1] + 1

    def add(self, step: "_Step", pace: Pace, through: Mapping[Edge, int]) -> None:
        """The next stage in flow order."""
        arrivals: list[list[float]] = []
        for source, places, edge in step.inputs:
            late = through.get(edge, 0)
            if source is None:
                arrivals.append([(n + 1) * self.a_pixel - 1 + late for n in places])
            else:
                leaves = self.leaves[source]
                arrivals.append([leaves[n] + late for n in places])
        self.arrivals.append(arrivals)
        if step.needed is None:
            self._plain(step, pace, arrivals)
        else:
            self._window(step, step.needed, pace, arrivals[0])

    def _window(self, step: "_Step", needed: list[int], pace: Pace,
                arrivals: list[float]) -> None:
        """Rows are written as they come, if there is room; read as they are there."""
        busy, writing, room = pace.row, pace.writing, pace.room
        written: list[float] = []
        finish: list[float] = []
        free = [0.0] * (len(arrivals) if room == inf else int(room))
        began, done = 0.0, 0.0
        for need, released in zip(needed, step.released, strict=True):
            for n in range(len(written), need):
                began = max(began, free[n])
                began = max(arrivals[n], began + writing)
                written.append(began)
            done = max(done, written[need - 1] + _ARRIVAL) + busy
            finish.append(done)
            if room != inf:
                free += [done] * released
        self.written.append(written)
        self.finish.append(finish)
        self.leaves.append([done + pace.latency for done in finish])

    def _plain(self, step: "_Step", pace: Pace, arrivals: list[list[float]]) -> None:
        """A row leaves when its last beat has come through, and after the row before it."""
        leaves: list[float] = []
        before = -inf
        for there in map(max, *arrivals) if len(arrivals) > 1 else arrivals[0]:
            before = max(there + pace.latency, before + pace.row)
            leaves.append(before)
        self.written.append([])
        self.finish.append([])
        self.leaves.append(leaves)

    def path(self) -> Path:
        """The chain of events that the last beat out waited for; with room in all buffers."""
        counts = [[0, 0, 0] for _ in self.paces]
        stage: int | None = self.schedule.last_stage
        row = self.schedule.steps[self.schedule.last_stage].height - 1
        rest = 1.0
        while stage is not None:
            step = self.schedule.steps[stage]
            if step.needed is None:
                row, which = self._back_plain(stage, row, counts[stage])
            else:
                row, cycles = self._back_window(stage, step.needed, row, counts[stage])
                rest, which = rest + cycles, 0
            if row < 0:
                break
            source, places, _ = step.inputs[which]
            row = places[row]
            if source is None:
                rest += (row + 1) * self.a_pixel - 1
            stage = source
        return Path(tuple((a, b, c) for a, b, c in counts), rest)

    def _back_plain(self, stage: int, row: int, count: list[int]) -> tuple[int, int]:
        """From a row of output to the row of an input it waited for: its number, which input."""
        leaves, arrivals, pace = self.leaves[stage], self.arrivals[stage], self.paces[stage]
        while True:
            which = max(range(len(arrivals)), key=lambda n: arrivals[n][row])
            if row == 0 or arrivals[which][row] + pace.latency >= leaves[row - 1] + pace.row:
                count[1] += 1
                return row, which
            count[0] += 1
            row -= 1

    def _back_window(self, stage: int, needed: list[int], row: int,
                     count: list[int]) -> tuple[int, float]:
        """From a row of output to the row of input it waited for (below 0: none), and the cycles
        between that no pace tells.
        """
        written, finish = self.written[stage], self.finish[stage]
        (arrivals,), writing = self.arrivals[stage], self.paces[stage].writing
        count[0] += 1
        count[1] += 1
        while row > 0 and finish[row - 1] >= written[needed[row] - 1] + _ARRIVAL:
            count[0] += 1
            row -= 1
        line = needed[row] - 1
        while line >= 0 and arrivals[line] < (written[line - 1] if line else 0.0) + writing:
            count[2] += 1
            line -= 1
        return line, _ARRIVAL

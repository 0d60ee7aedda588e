"""The cycle of each pixel at each stage: the latency of one frame through an idle network."""

from collections.abc import Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from math import ceil, inf
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ..stages import StageTiming, WindowNeeds
from .back_pressure import BackPressure
from .dataflow import Dataflow
from .streams import Edge

__all__ = [
    "CriticalPath",
    "FrameTimes",
    "LatencyPart",
    "Schedule",
    "durations",
    "idle_frame",
    "latency",
]

#: rounds in which takers that are busy delay those before them
_ROUNDS = 16

_Times = NDArray[np.float64]
_Places = NDArray[np.int64]


@dataclass(frozen=True)
class CriticalPath:
    """A chain of events, each the last that the next one waits for.

    ``counts``: how often each stage's :attr:`~.StageTiming.durations` are on it; ``rest``: the
    cycles that do not depend on any stage.
    """

    counts: tuple[tuple[int, int, int], ...]
    rest: float


@dataclass(frozen=True)
class LatencyPart:
    """The cycles of a stage that a frame's last beat out waited for; all parts together are the
    latency.

    ``stage``: its place in the plan; None: the network's input, or, as the last part, line buffers
    that were full. ``writing``: pixels of input on their way into the line buffer, when they come
    faster than it takes them. ``computing``: pixels, one after the other: those that the next stage
    waits for before it can begin, or, where this stage is the slowest so far, all. ``pipeline``:
    from the last pixel of input to the computation, and from its end to the last beat out.
    ``streams``: converters, register slices and queues behind it. ``waiting``: for the network's
    input, for the states of a loop, or for a row of a line buffer.
    """

    stage: int | None
    writing: float = 0.0
    computing: float = 0.0
    pipeline: float = 0.0
    streams: float = 0.0
    waiting: float = 0.0

    @property
    def cycles(self) -> float:
        """The sum."""
        return self.writing + self.computing + self.pipeline + self.streams + self.waiting


@dataclass(frozen=True)
class _Visit:
    """A stage (None: the network's input) on the chain of events: ``counts`` of
    :class:`CriticalPath`, the cycles that do not depend on them, and those of the stream behind it.
    """

    stage: int | None
    counts: tuple[int, int, int] = (0, 0, 0)
    fixed: float = 0.0
    stream: float = 0.0


def latency(network: Dataflow) -> int:
    """Cycles from the first beat in to the last beat out, both counted."""
    return int(idle_frame(network).last)


def idle_frame(network: Dataflow) -> "FrameTimes":
    """The times of a frame through the idle network."""
    schedule, pressure = Schedule(network), BackPressure(network)
    timings, late = durations(network, schedule)
    lanes = [port.lanes for port in network.inputs]
    run = schedule.run(timings, lanes, late)
    for _ in range(_ROUNDS if pressure.forks else 0):
        before, run = run, schedule.run(timings, lanes, late, pressure.delays(run))
        if all(np.array_equal(a, b) for a, b in zip(before.leaves, run.leaves, strict=True)):
            break
    return run


def durations(network: Dataflow, schedule: "Schedule") -> tuple[list[StageTiming], dict[Edge, int]]:
    """The timings of all stages, and the latencies of all streams, of a plan."""
    timings = [network.designs[stage.name].timing for stage in network.plan.stages]
    late = {edge: edge.passing for edge in network.edges}
    for n, window in enumerate(schedule.windows):
        for edge in schedule.inputs[n][:1]:  # the input that the stage stores
            if window is not None and edge.converts:
                timings[n] = replace(
                    timings[n], writing=max(timings[n].writing, edge.cycles() // edge.pixels_in)
                )
    return timings, late


class Schedule:
    """Which pixels of a network each pixel waits for; it holds for any timing of the stages.

    ``inputs`` and ``windows`` are in the order of the stages; a stage without a line buffer has the
    window None.
    """

    def __init__(self, network: Dataflow):
        graph, stages = network.graph, network.plan.stages
        self.channels = [graph.shape(port.value).channels for port in graph.inputs]
        place = {stage.name: n for n, stage in enumerate(stages)}
        self.inputs = [network.edges_into[stage.name] for stage in stages]
        designs = [network.designs[stage.name] for stage in stages]
        self.windows = [design.buffering.lines for design in designs]
        #: of each output of the network the stage before it (None: an input of the network), the
        #: pixels of a frame and the edge
        self.leaving = [
            (None if edge.source is None else place[edge.source], edge.pixels_in, edge)
            for edge in network.edges_into[None]
        ]
        #: the places of stages that give a pixel before they take one, and a frame
        self.delaying = [n for n, design in enumerate(designs) if design.delaying]
        self.keeping = [n for n, design in enumerate(designs) if design.keeping]
        self.steps: list[_Step] = []
        for window, edges in zip(self.windows, self.inputs, strict=True):
            inputs = []
            for edge in edges:
                source = None if edge.source is None else place[edge.source]
                # the last pixel that a pixel of ours waits for
                channels = np.arange(1, edge.pixels_in + 1) * edge.channels_in
                inputs.append((source, -(-channels // edge.channels_out) - 1, edge))
            self.steps.append(_Step(inputs, window) if window else _Step(inputs))

    def with_windows(self, windows: Mapping[int, WindowNeeds]) -> "Schedule":
        """The schedule with other windows in some of the stages."""
        other = copy(self)
        other.windows, other.steps = [*self.windows], [*self.steps]
        for n, window in windows.items():
            other.windows[n] = window
            other.steps[n] = replace(self.steps[n], window=window)
        return other

    def run(
        self,
        timings: Sequence[StageTiming],
        lanes_in: Sequence[int],
        through: Mapping[Edge, int] = MappingProxyType({}),
        earliest: Mapping[tuple[int | None, int], _Times] = MappingProxyType({}),
    ) -> "FrameTimes":
        """The cycles of all events, with these timings of stages, elements a beat of the network's
        inputs and latencies of streams. All inputs begin in one cycle. ``earliest``: the cycles
        before which pixels can not leave, of :meth:`.BackPressure.delays`.

        A loop is run again with the times of its states that the run before has found, until they
        stay: from time to time they only grow, and a pixel's is right after as many runs.
        """
        beats = [ceil(n / lanes) for n, lanes in zip(self.channels, lanes_in, strict=True)]
        states = {n: self._states(timings[n], n, None) for n in self.delaying}
        while True:
            run = FrameTimes(self, timings, beats, through, states, earliest)
            for step, timing in zip(self.steps, timings, strict=True):
                run.add(step, timing)
            found = {n: self._states(timings[n], n, run) for n in self.delaying}
            if all(np.array_equal(found[n], states[n]) for n in self.delaying):
                return run
            states = found

    def _states(self, timing: StageTiming, place: int, run: "FrameTimes | None") -> _Times:
        """The cycles in which the pixels of a delaying stage leave; ``run``: when those that it
        delays arrive, as far as that is known.
        """
        (source, places, edge), *given = self.steps[place].inputs
        ready = np.full(len(places), 2.0)  # a frame's first beat in is counted before
        if run is not None and place not in self.keeping:
            arrivals = run.leaving(source, places, edge)
            ready[1:] = arrivals[:-1] + timing.latency + 1 - timing.pixel
            for source, places, edge in given:
                ready[0] = run.leaving(source, places, edge)[0] + 1 - timing.pixel
        begins = _follow(ready, timing.pace, -inf) - timing.pace
        return begins + timing.pixel - 1


@dataclass(frozen=True)
class _Step:
    """A stage's pixels: of each input the stage before it (None: the network's input) and which of
    its pixels each of ours waits for, and the stage's window, if it has one.
    """

    inputs: list[tuple[int | None, _Places, Edge]]
    window: WindowNeeds | None = None


def _fits(window: WindowNeeds, room: int, begins: _Times, finish: _Times) -> bool:
    """Whether a line buffer of ``room`` rows has a free one for each row of input when the first
    pixel of that row begins to arrive.
    """
    rows = -(-int(window.needed[-1, -1]) // window.width)
    if rows <= room:
        return True
    ends = finish.reshape(window.needed.shape)[:, -1]
    before = np.searchsorted(np.cumsum(window.released), np.arange(1, rows - room + 1))
    return bool(
        (ends[before] <= begins[room * window.width : rows * window.width : window.width]).all()
    )


def _leaves(window: WindowNeeds, timing: StageTiming, finish: _Times) -> _Times:
    """When pixels of output leave, of which the computing ends in these cycles."""
    if window.complete is not None:
        ready = finish[window.complete] + timing.latency
        return _follow(ready - window.leaving, window.leaving, -inf)
    leaves = finish + timing.latency
    leaves[::2] += window.late * timing.pixel
    return leaves


def _follow(ready: _Times, each: float, before: float) -> _Times:
    """The ends of actions of ``each`` cycles, in sequence, the first not before ``before``, each
    not before it is ``ready``.
    """
    steps = each * np.arange(len(ready))
    began: _Times = np.maximum(np.maximum.accumulate(ready - steps), before) + steps
    return began + each


def _together(needed: _Places, unit: int) -> _Places:
    """The last pixel to wait for when ``needed`` pixels are needed and they count in units."""
    return -(-needed // unit) * unit - 1


def _waited(ready: _Times, each: float, before: float, last: int) -> int:
    """The last action up to ``last`` that started when it was ready; -1: none since ``before``."""
    slack = (ready - each * np.arange(len(ready)))[last::-1]
    latest = int(slack.argmax())
    return last - latest if slack[latest] >= before else -1


class FrameTimes:
    """One frame: for each stage the cycles in which its pixels of input arrive and are written, and
    in which its pixels of output leave.
    """

    def __init__(
        self,
        schedule: Schedule,
        timings: Sequence[StageTiming],
        beats: Sequence[int],
        through: Mapping[Edge, int],
        states: Mapping[int, _Times] = MappingProxyType({}),
        earliest: Mapping[tuple[int | None, int], _Times] = MappingProxyType({}),
    ):
        """``beats``: those of a pixel of each input of the network; ``states``: the cycles in which
        the pixels of each delaying stage leave; ``earliest``: see :meth:`Schedule.run`.
        """
        self.earliest = earliest
        self.states = states
        self.schedule, self.timings, self.beats = schedule, timings, beats
        self.through = through
        self.arrivals: list[list[_Times]] = []
        self.written: list[_Times | None] = []
        #: when the computing of pixels of output ends, in its order
        self.finished: list[_Times | None] = []
        #: when pixels of output are ready, and when they leave
        self.computed: list[_Times] = []
        self.leaves: list[_Times] = []

    @property
    def last(self) -> float:
        """The latency: from the first beat in to the last one out, both counted."""
        return max(self._ends()) + 1

    def _ends(self) -> list[float]:
        """The cycle of each output's last beat."""
        return [
            float(self.leaving(source, np.array([pixels - 1]), edge)[0])
            for source, pixels, edge in self.schedule.leaving
        ]

    def leaving(self, source: int | None, places: _Places, edge: Edge) -> _Times:
        """The cycles in which these pixels of a source come to the end of an edge."""
        if source is None:
            there: _Times = self.beats[edge.output] * (places + 1).astype(np.float64) - 1
            earliest = self.earliest.get((None, edge.output))
            if earliest is not None:
                there = np.maximum(there, earliest[places])
        else:
            there = self.leaves[source][places]
        return there + self.through.get(edge, 0)

    def add(self, step: "_Step", timing: StageTiming) -> None:
        """Compute the next stage in flow order."""
        place = len(self.leaves)
        if place in self.states:
            self.arrivals.append([])
            self.written.append(None)
            self.finished.append(None)
            self._leave(self.states[place])
            return
        arrivals = [self.leaving(source, places, edge) for source, places, edge in step.inputs]
        self.arrivals.append(arrivals)
        if step.window is None:
            # a pixel leaves when its last beat has come through, and after the pixel before it
            self.written.append(None)
            self.finished.append(None)
            self._leave(_follow(self._through(arrivals, timing), timing.pixel, -inf))
            return
        written, finish = _written(step.window, timing, arrivals)
        self.written.append(written)
        self.finished.append(finish)
        self._leave(_leaves(step.window, timing, finish))

    def _leave(self, computed: _Times) -> None:
        """Add the pixels of the next stage, which are ready in these cycles."""
        earliest = self.earliest.get((len(self.leaves), 0))
        self.computed.append(computed)
        self.leaves.append(computed if earliest is None else np.maximum(computed, earliest))

    @staticmethod
    def _through(arrivals: list[_Times], timing: StageTiming) -> _Times:
        """The cycles in which the pixels of a stage without a line buffer can leave."""
        complete = [times + timing.behind_of(n) for n, times in enumerate(arrivals)]
        there: _Times = np.maximum.reduce(complete) + (timing.latency - timing.pixel)
        return there

    def path(self) -> CriticalPath:
        """The chain of events that the last beat out waited for, if no line buffer was full."""
        counts, rest = [(0, 0, 0)] * len(self.timings), 1.0
        for visit in self._visits():
            rest += visit.fixed + visit.stream
            if visit.stage is not None:
                counts[visit.stage] = visit.counts
        return CriticalPath(tuple(counts), rest)

    def parts(self) -> list[LatencyPart]:
        """What the latency is made of, from the input on: see :class:`LatencyPart`."""
        found = []
        for visit in self._visits():
            if visit.stage is None or visit.stage in self.states:
                found.append(LatencyPart(visit.stage, waiting=visit.fixed, streams=visit.stream))
                continue
            pixel, out, writing = self.timings[visit.stage].durations
            pixels, passes, written = visit.counts
            found.append(
                LatencyPart(
                    visit.stage,
                    writing * written,
                    pixel * pixels,
                    visit.fixed + out * passes,
                    streams=visit.stream,
                )
            )
        found.reverse()
        # the last beat is counted too
        found[-1] = replace(found[-1], pipeline=found[-1].pipeline + 1)
        full = self.last - sum(part.cycles for part in found)
        return [*found, LatencyPart(None, waiting=full)] if full else found

    def _visits(self) -> Iterator[_Visit]:
        """The chain of events, from the output back to the input."""
        ends = self._ends()
        stage, pixels, edge = self.schedule.leaving[ends.index(max(ends))]
        pixel, stream = pixels - 1, self.through.get(edge, 0)
        while stage is not None:
            if stage in self.states:  # the times of the turns before are not any stage's alone
                yield _Visit(stage, fixed=float(self.states[stage][pixel]), stream=stream)
                return
            step, count = self.schedule.steps[stage], [0, 0, 0]
            if step.window is None:
                pixel, which = self._back_plain(stage, pixel, count)
                behind = self.timings[stage].behind_of(which)
                yield _Visit(stage, (count[0], count[1], count[2]), behind, stream)
            else:
                left = self.computed[stage][pixel]
                if step.window.complete is not None:
                    pixel = int(step.window.complete[pixel])
                finish, timing = self.finished[stage], self.timings[stage]
                assert finish is not None
                late = float(left - finish[pixel] - timing.latency)
                pixel, which = self._back_window(stage, step.window, pixel, count)
                fixed = timing.arrival + late
                yield _Visit(stage, (count[0], count[1], count[2]), fixed, stream)
            if pixel < 0:
                return
            stage, places, edge = step.inputs[which]
            pixel, stream = int(places[pixel]), self.through.get(edge, 0)
        yield _Visit(None, fixed=(pixel + 1.0) * self.beats[edge.output] - 1, stream=stream)

    def _back_plain(self, stage: int, pixel: int, count: list[int]) -> tuple[int, int]:
        """The input pixel that an output pixel waited for: its number, and which input."""
        arrivals, timing = self.arrivals[stage], self.timings[stage]
        first = _waited(self._through(arrivals, timing), timing.pixel, -inf, pixel)
        count[0] += pixel - first
        count[1] += 1
        ends = [float(times[first]) + timing.behind_of(n) for n, times in enumerate(arrivals)]
        return first, ends.index(max(ends))

    def _back_window(
        self, stage: int, window: WindowNeeds, pixel: int, count: list[int]
    ) -> tuple[int, int]:
        """The input pixel that an output pixel waited for: its number (below 0: none), and which
        input.
        """
        written, timing, others = self.written[stage], self.timings[stage], self.arrivals[stage][1:]
        assert written is not None
        wanted = _together(window.needed, timing.unit).reshape(-1)
        ready = np.maximum.reduce([written[wanted], *others])
        first = _waited(ready, timing.pixel, -inf, pixel)
        count[0] += pixel - first + 1
        count[1] += 1
        last = int(wanted[first])
        if ready[first] > written[last]:
            return first, 1 + max(range(len(others)), key=lambda n: float(others[n][first]))
        came = _waited(self.arrivals[stage][0] - timing.writing, timing.writing, 0.0, last)
        count[2] += last - came
        return came, 0


def _written(
    window: WindowNeeds, timing: StageTiming, arrivals: list[_Times]
) -> tuple[_Times, _Times]:
    """The cycles in which each pixel of the first input is written and each pixel of output is
    computed.

    A pixel is written when it arrives and a row is free, and computed when what it needs of the
    first input is written, and its pixels of the others have arrived.
    """
    ready, wanted = arrivals[0] - timing.writing, _together(window.needed, timing.unit)
    others = np.maximum.reduce(arrivals[1:]) if arrivals[1:] else np.full(wanted.size, -inf)
    others = others.reshape(wanted.shape)
    written = _follow(ready, timing.writing, 0.0)
    there = np.maximum(written[wanted], others).reshape(-1)
    finish = _follow(there + timing.arrival, timing.pixel, 0.0)
    room = timing.room
    if room == inf or _fits(window, int(room), written - timing.writing, finish):
        return written, finish
    # row after row: a row is written when its place is free
    free, came, done = [0.0] * int(timing.room), 0, 0.0
    rows = []
    for row, other, released in zip(wanted, others, window.released, strict=True):
        while came <= row[-1]:
            end = (came // window.width + 1) * window.width
            before = max(written[came - 1] if came else 0.0, free[came // window.width])
            written[came:end] = _follow(ready[came:end], timing.writing, before)
            came = end
        there = np.maximum(written[row], other) + timing.arrival
        rows.append(_follow(there, timing.pixel, done))
        done = float(rows[-1][-1])
        free += [done] * released
    return written, np.concatenate(rows)

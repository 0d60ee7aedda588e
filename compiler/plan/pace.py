"""How fast a loop turns: the cycles from a state to the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING

from .. import ir
from ..stages import Design, StagePlan, StageTiming
from .streams import Edge

if TYPE_CHECKING:
    from .dataflow import Dataflow

__all__ = ["LoopStage", "LoopStream", "paced", "paced_frames", "turn"]


def paced(
    graph: ir.Graph,
    designs: Mapping[str, Design],
    stage_of: Mapping[str, StagePlan],
    edges_into: Mapping[str | None, Sequence[Edge]],
) -> dict[str, Design]:
    """The stages that delay by a pixel, by name, with the pace of the loop that each is in.

    ``stage_of``: the stage that computes each value; ``edges_into``: the streams into each stage.

    The pace is the time of a turn when all that comes from outside is there: from the last beat of
    a state, all of which begin at once, to the last one of the next state. No turn takes longer, so
    the interval of the loop is the steps of a frame times the pace.
    """
    found: dict[str, Design] = {}
    for group in ir.loops.groups(graph):
        stages = {stage_of[op.output].name for op in group if not op.view}
        inside = {name: design for name, design in designs.items() if name in stages}
        delaying = [name for name, design in inside.items() if design.delaying]
        if delaying and ir.loops.is_loop(group):
            cycles = turn(*_loop(inside, edges_into))
            found |= {name: inside[name].paced(cycles) for name in delaying}
    return found


def paced_frames(network: Dataflow) -> dict[str, Design]:
    """The stages that delay by a frame, by name, with the pace of the loop that each is in.

    The pace is the most cycles that a pixel of a state takes from the stage that holds it to the
    same pixel of the next frame. All states begin at once. A stream from outside the loop begins
    then too, and goes on as it does in an idle network: only its first beat can wait in advance.
    """
    from .schedule import idle_frame

    idle = idle_frame(network)
    schedule, timings = idle.schedule, idle.timings
    lanes = [port.lanes for port in network.inputs]
    place = {stage.name: n for n, stage in enumerate(network.plan.stages)}
    found: dict[str, Design] = {}
    for group in ir.loops.groups(network.graph, across=True):
        stages = {network.stage_of[op.output].name for op in group if not op.view}
        kept = [name for name in stages if network.designs[name].keeping]
        if not kept or not ir.loops.is_loop(group):
            continue
        entering = {
            edge: int(
                max(timings[place[edge.source]].pixel, edge.cycles() // edge.pixels_in)
                - 1
                - idle.leaves[place[edge.source]][0]
            )
            for name in stages
            for edge in network.edges_into[name]
            if edge.source is not None and edge.source not in stages
        }
        run = schedule.run(timings, lanes, {**idle.through, **entering})
        turn = 1.0
        for name in kept:
            ((source, pixels, edge),) = schedule.steps[place[name]].inputs
            arrives = run.leaving(source, pixels, edge) + network.designs[name].latency
            turn = max(turn, float((arrives - run.leaves[place[name]]).max()))
        found |= {name: network.designs[name].paced(ceil(turn)) for name in kept}
    return found


def _loop(
    designs: Mapping[str, Design], edges_into: Mapping[str | None, Sequence[Edge]]
) -> tuple[list[LoopStage], list[list[LoopStream]]]:
    """The stages of a loop and the streams between them; what comes from outside is there early."""
    place = {name: n for n, name in enumerate(designs)}
    narrowing = dict.fromkeys(designs, 1)
    for sink, edges in edges_into.items():
        for edge in edges:
            if sink not in place and edge.source in place and not edge.frees_source:
                name = str(edge.source)
                narrowing[name] = max(narrowing[name], edge.narrowing)
    stages = [LoopStage.of(design, narrowing[name]) for name, design in designs.items()]
    streams = [
        [LoopStream.of(place[str(e.source)], e) for e in edges_into[name] if e.source in place]
        for name in designs
    ]
    return stages, streams


@dataclass(frozen=True, eq=False)
class LoopStage:
    """What a turn depends on of a stage in a loop.

    ``pixel``: cycles of a pixel's beats; ``latency``: from the last beat of a pixel in to the last
    one out; ``beats`` of a pixel out; ``delaying``: it holds a state; ``computing``: results leave
    as an array computes them; ``bursting``: one after the other, whenever their elements came;
    ``timing``: of its design; ``narrowing``: into how many beats a stream that leaves the loop cuts
    one.
    """

    pixel: float
    latency: float
    beats: int
    delaying: bool
    computing: bool
    bursting: bool
    timing: StageTiming
    narrowing: int = 1

    @classmethod
    def of(cls, design: Design, narrowing: int = 1) -> LoopStage:
        timing, computing = design.timing, design.buffering.lines is not None
        return cls(
            timing.pixel,
            timing.latency + (timing.arrival + timing.pixel if computing else 0),
            design.beats_out,
            design.delaying,
            computing,
            design.bursting,
            timing,
            narrowing,
        )

    def leaves(self, begin: float, end: float) -> float:
        """The cycle of a pixel's first beat out, if all inputs have their first one in ``begin``,
        and the last beat leaves in ``end``.
        """
        if self.computing:
            return end - self.pixel * (1 - 1 / self.beats)
        if self.bursting:
            return end - self.beats + 1
        return min(begin + self.latency, end)


@dataclass(frozen=True, eq=False)
class LoopStream:
    """A stream between two stages of a loop, as a pixel passes it.

    ``source``: the place of the stage before it; ``index``: the input of the stage after it;
    ``beats`` of a pixel at the source, ``parts`` where the stream is narrowest; ``narrowing``,
    ``widening``: how many of these a beat at the source and at the sink is; ``queued``: it does
    not slow its source down.
    """

    source: int
    index: int
    latency: int
    beats: int
    parts: int
    narrowing: int
    widening: int
    queued: bool

    @classmethod
    def of(cls, source: int, edge: Edge) -> LoopStream:
        return cls(
            source,
            edge.index,
            edge.latency,
            edge.beats,
            edge.parts,
            edge.narrowing,
            edge.lanes_in // edge.common,
            edge.frees_source,
        )

    def arrival(self, first: float, last: float) -> tuple[float, float]:
        """The cycles of the first and the last beat of a pixel at the sink, from those at the
        source.
        """
        rest = self.parts - self.narrowing * (self.beats - 1)
        end = max(last + rest, first + self.parts) - 1
        step = (end - first) / max(1, self.parts - 1)
        return first + (self.widening - 1) * step + self.latency, end + self.latency


def turn(stages: Sequence[LoopStage], streams: Sequence[Sequence[LoopStream]]) -> int:
    """The cycles of a turn: all states begin at once, and the beats of each are there again so many
    cycles later, in time for the next turn.

    ``stages`` in flow order, and the ``streams`` of the loop into each. A stage gives a beat when
    the streams that take it, but for those with a queue, have passed the one before on.
    """
    narrowing = [stage.narrowing for stage in stages]
    for each in streams:
        for stream in each:
            if not stream.queued:
                narrowing[stream.source] = max(narrowing[stream.source], stream.narrowing)
    least = [cut * (stage.beats - 1) for cut, stage in zip(narrowing, stages, strict=True)]
    first = [0.0] * len(stages)
    last = [max(stage.pixel - 1, more) for stage, more in zip(stages, least, strict=True)]
    end = 1.0
    for delaying in (False, True):
        for n, stage in enumerate(stages):
            if stage.delaying is not delaying:
                continue
            begin, done = 0.0, 0.0
            for stream in streams[n]:
                one, other = stream.arrival(first[stream.source], last[stream.source])
                behind = stage.timing.behind_of(stream.index)
                begin, done = max(begin, one), max(done, other + behind)
            done += stage.latency
            if delaying:
                end = max(end, done + 1 - stage.pixel, least[n] + 1)
            else:
                first[n] = stage.leaves(begin, done)
                last[n] = max(done, first[n] + least[n])
    return ceil(end)

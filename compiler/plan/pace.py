"""How fast a loop turns: the cycles from a state to the next one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from typing import TYPE_CHECKING

from .. import ir
from ..stages import Design, StagePlan
from .streams import Edge

if TYPE_CHECKING:
    from .dataflow import Dataflow

__all__ = ["paced", "paced_frames"]


def paced(
    graph: ir.Graph,
    designs: Mapping[str, Design],
    stage_of: Mapping[str, StagePlan],
    edges_into: Mapping[str | None, Sequence[Edge]],
) -> dict[str, Design]:
    """The stages that delay by a pixel, by name, with the pace of the loop that each is in.

    ``stage_of``: the stage that computes each value; ``edges_into``: the streams into each stage.

    The pace is the time of a turn when all that comes from outside is there: from the first beats
    of all states to the last beat of the last state, and through the stage that holds it. No turn
    takes longer, so the interval of the loop is the steps of a frame times the pace.
    """
    found: dict[str, Design] = {}
    for group in ir.loops.groups(graph):
        stages = {stage_of[op.output].name for op in group if not op.view}
        inside = {name: design for name, design in designs.items() if name in stages}
        delaying = [name for name, design in inside.items() if design.delaying]
        if delaying and ir.loops.is_loop(group):
            cycles = _turn(inside, edges_into)
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


def _turn(stages: Mapping[str, Design], edges_into: Mapping[str | None, Sequence[Edge]]) -> int:
    """The cycles of a turn through ``stages``, one pixel each."""
    leaves: dict[str | None, float] = {
        name: design.timing.pixel - 1 for name, design in stages.items() if design.delaying
    }
    for name, design in stages.items():
        if not design.delaying:
            timing = design.timing
            ready = max(_arrives(e, leaves) + timing.behind_of(e.index) for e in edges_into[name])
            stored = design.buffering.lines is not None
            leaves[name] = ready + timing.latency + (timing.arrival + timing.pixel if stored else 0)
    ends = [
        _arrives(edge, leaves) + design.latency
        for name, design in stages.items()
        if design.delaying
        for edge in edges_into[name]
    ]
    return max(1, ceil(max(ends)))


def _arrives(edge: Edge, leaves: Mapping[str | None, float]) -> float:
    """The cycle of the last beat of a pixel at the end of an edge; early from outside the loop."""
    if edge.source not in leaves:
        return 0.0
    return leaves[edge.source] + edge.passing

"""How fast a loop turns: the cycles from a state to the next one."""

from collections.abc import Mapping, Sequence
from math import ceil

from .. import ir
from ..stages import Design, StagePlan
from .streams import Edge

__all__ = ["paced"]


def paced(
    graph: ir.Graph,
    designs: Mapping[str, Design],
    stage_of: Mapping[str, StagePlan],
    edges_into: Mapping[str | None, Sequence[Edge]],
) -> dict[str, Design]:
    """The delaying stages of a network, by name, with the pace of the loop that each is in.

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


def _turn(stages: Mapping[str, Design], edges_into: Mapping[str | None, Sequence[Edge]]) -> int:
    """The cycles of a turn through ``stages``, one pixel each."""
    leaves: dict[str | None, float] = {
        name: design.timing.pixel - 1 for name, design in stages.items() if design.delaying
    }
    for name, design in stages.items():
        if not design.delaying:
            timing = design.timing
            ready = max(_arrives(edge, leaves) for edge in edges_into[name])
            stored = design.buffering.lines is not None
            leaves[name] = ready + timing.latency + (timing.arrival + timing.pixel if stored else 0)
    ends = [
        _arrives(edge, leaves) + design.latency
        for name, design in stages.items()
        if design.delaying
        for edge in edges_into[name]
    ]
    return max(1, ceil(max(ends)))


def _arrives(edge: Edge, leaves: dict[str | None, float]) -> float:
    """The cycle of the last beat of a pixel at the end of an edge; early from outside the loop."""
    if edge.source not in leaves:
        return 0.0
    narrowed = ceil(edge.lanes_out / edge.common) - 1
    return leaves[edge.source] + edge.latency + narrowed

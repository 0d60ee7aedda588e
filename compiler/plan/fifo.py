"""Queue depths where paths fork and join: computed so that no path deadlocks or slows down."""

from dataclasses import replace
from math import ceil, floor

from ..errors import PlanError
from .dataflow import Dataflow, Edge, Plan

__all__ = ["check_queues", "with_queues"]

#: pixels of slack for what is on its way in pipelines and small queues
_SLACK = 4


def with_queues(plan: Plan, network: Dataflow) -> Plan:
    """The plan with a queue before each input of a join that needs one; longer ones stay.

    Two paths part at a fork and meet at a join. With its output blocked a path takes in at most
    ``high`` pixels (counted at the fork) and surely ``low``: what its line buffers hold. If the
    shorter path with its queue takes in surely as much as the longer one at most, then the fork
    never waits for the shorter path: so the longer one runs as if it were alone, whatever the
    stalls. The last stage that all paths to the join lead through is the first fork that counts:
    up to there they are one. Depths are in pixels of the queued value.
    """
    queues: dict[tuple[str, int], int] = {}
    inside: dict[str | None, _Reach] = {None: {}}
    passed: dict[str | None, tuple[str | None, ...]] = {None: (None,)}  # by all paths to a stage
    for stage in plan.stages:
        edges = [edge for edge in network.edges if edge.sink == stage.name]
        reaches = [_reach(network, edge, 0, inside[edge.source]) for edge in edges]
        common = [s for s in passed[edges[0].source] if all(s in passed[e.source] for e in edges)]
        passed[stage.name] = (*common, stage.name)
        for index, (edge, reach) in enumerate(zip(edges, reaches, strict=True)):
            depth = max(
                (
                    _missing(network, edge, fork, reach, other)
                    for n, other in enumerate(reaches)
                    if n != index
                    for fork in set(reach) & set(other)
                    if common[-1] in passed[fork]
                ),
                default=0,
            )
            depth = max(depth, plan.queues.get((stage.name, index), 0))
            if depth > 0:
                queues[stage.name, index] = depth
        inside[stage.name] = _through(
            network,
            stage.name,
            [
                (
                    edge,
                    _reach(
                        network, edge, queues.get((stage.name, edge.index), 0), inside[edge.source]
                    ),
                )
                for edge in edges
            ],
        )
    return replace(plan, queues=queues)


def check_queues(network: Dataflow) -> None:
    """Raise :class:`PlanError` where a queue of the plan is shorter than its paths want."""
    for (stage, index), depth in with_queues(network.plan, network).queues.items():
        held = network.plan.queues.get((stage, index), 0)
        if held < depth:
            raise PlanError(
                f"the queue before input {index} of stage {stage} holds {held} pixels, "
                f"but {depth} are needed lest the paths that meet there wait for each "
                "other for good; give it so many pixels"
            )


#: for each stage upstream (None: the network's input) the least and most of its pixels that fit on
#: the way
_Reach = dict[str | None, tuple[int, int]]


def _missing(network: Dataflow, edge: Edge, fork: str | None, reach: _Reach, other: _Reach) -> int:
    """Pixels of the edge's value that its path takes in too few of."""
    pixels = _pixels(network, fork)
    shortfall = other[fork][1] - reach[fork][0]
    here = network.graph.shape(edge.value).pixels
    return ceil(shortfall * here / pixels) if shortfall > 0 else 0


def _pixels(network: Dataflow, stage: str | None) -> int:
    value = (
        network.graph.inputs[0].value
        if stage is None
        else network.designs[stage].ports.outputs[0].value
    )
    return network.graph.shape(value).pixels


def _reach(network: Dataflow, edge: Edge, depth: int, inside: _Reach) -> _Reach:
    """Up to the end of ``edge`` with a queue of ``depth`` pixels; ``inside``: up to its start."""
    here = network.graph.shape(edge.value).pixels
    found: _Reach = {edge.source: (depth, depth + _SLACK)}
    for stage, (low, high) in inside.items():
        pixels = _pixels(network, stage)
        found[stage] = (
            low + floor(depth * pixels / here),
            high + ceil((depth + _SLACK) * pixels / here),
        )
    return found


def _through(network: Dataflow, stage: str, inputs: list[tuple[Edge, _Reach]]) -> _Reach:
    """Up to the output of ``stage``, which holds some of each input."""
    held_low, held_high = _holds(network, stage)
    found: _Reach = {}
    for edge, reach in inputs:
        for before, (low, high) in reach.items():
            pixels = _pixels(network, before)
            low += floor(held_low * pixels / edge.pixels_in)
            high += ceil(held_high * pixels / edge.pixels_in)
            least, most = found.get(before, (low, high))
            found[before] = min(least, low), max(most, high)
    return found


def _holds(network: Dataflow, stage: str) -> tuple[int, int]:
    """Pixels of its input that a stage surely and at most holds."""
    buffering = network.designs[stage].buffering
    return buffering.least, buffering.most + _SLACK

"""Queue depths where paths fork and join: computed so that no path deadlocks or slows down."""

from math import ceil, floor

from ..errors import PlanError
from .dataflow import Dataflow, Edge

__all__ = ["check_queues", "with_queues"]

#: pixels of slack for those in pipelines and small queues
_SLACK = 4


def with_queues(network: Dataflow) -> Dataflow:
    """The dataflow with a queue before each input of a join that needs one; longer ones stay.

    Two paths leave a fork and meet at a join. With its output blocked a path takes at least ``low``
    and at most ``high`` pixels (counted at the fork): what its line buffers and queues hold. If
    ``low`` of the shorter path with its queue is not below ``high`` of the longer path, the fork
    never waits for the shorter path, whatever the stalls. The last stage that is on all paths to
    the join is the first fork that counts. Depths are in pixels of the queued value.
    """
    plan = network.plan
    queues: dict[tuple[str, int], int] = {}
    inside: dict[str | None, _Reach] = {None: {}}
    passed: dict[str | None, tuple[str | None, ...]] = {None: (None,)}  # by all paths to a stage
    for stage in plan.stages:
        edges = network.edges_into[stage.name]
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
    return network.replanned(queues=queues)


def check_queues(network: Dataflow) -> None:
    """Raise :class:`PlanError` where a queue of the plan is shorter than its paths need."""
    for (stage, index), depth in with_queues(network).plan.queues.items():
        held = network.plan.queues.get((stage, index), 0)
        if held < depth:
            raise PlanError(
                f"the queue before input {index} of stage {stage} holds {held} pixels, "
                f"but {depth} are needed, or the paths that meet there may deadlock; give it "
                "so many pixels"
            )


#: for each stage upstream (None: the network's input) the least and the most of its pixels that the
#: path from there holds
_Reach = dict[str | None, tuple[int, int]]


def _missing(network: Dataflow, edge: Edge, fork: str | None, reach: _Reach, other: _Reach) -> int:
    """Pixels of the edge's value that its path holds too few."""
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
    """The reach at the end of ``edge`` with a queue of ``depth`` pixels; ``inside``: before it."""
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
    """The reach at the output of ``stage``, which holds some of each input."""
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
    """The least and the most pixels of input that a stage holds."""
    buffering = network.designs[stage].buffering
    return buffering.least, buffering.most + _SLACK

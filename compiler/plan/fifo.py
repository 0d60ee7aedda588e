"""Queues where paths part and meet: deep enough, by computation, for no deadlock and no slowdown.
"""

from dataclasses import replace
from math import ceil, floor

from .. import ir
from .network import Edge, Network, Plan
from .stages import ConvDesign, PoolDesign

__all__ = ["with_queues"]

#: pixels of slack for what is on its way in pipelines and small queues
_SLACK = 4


def with_queues(graph: ir.Graph, plan: Plan, network: Network) -> Plan:
    """The plan with a queue before each input of a join that needs one.

    Two paths part at a fork and meet at a join. With its output blocked a path takes in at most
    ``high`` pixels (counted at the fork) and surely ``low``: what its line buffers hold. If the
    shorter path with its queue takes in surely as much as the longer one at most, then the fork
    never waits for the shorter path: so the longer one runs as if it were alone, whatever the
    stalls. Depths are in pixels of the queued value.
    """
    queues: dict[tuple[str, int], int] = {}
    for stage in plan.stages:
        edges = [edge for edge in network.edges if edge.sink == stage.name]
        if len(edges) < 2:
            continue
        network = Network(graph, replace(plan, queues=queues), network.device)
        reaches = [_reach(network, edge) for edge in edges]
        for index, (edge, reach) in enumerate(zip(edges, reaches, strict=True)):
            depth = max((_missing(network, edge, fork, reach, other)
                         for n, other in enumerate(reaches) if n != index
                         for fork in set(reach) & set(other)), default=0)
            if depth > 0:
                queues[stage.name, index] = depth
    return replace(plan, queues=queues)


_Reach = dict[str | None, tuple[int, int]]


def _missing(network: Network, edge: Edge, fork: str | None, reach: _Reach, other: _Reach) -> int:
    """Pixels of the edge's value that its path takes in too few of."""
    pixels = _pixels(network, fork)
    lacking = other[fork][1] - reach[fork][0]
    here = network.graph.shape(edge.value).pixels
    return ceil(lacking * here / pixels) if lacking > 0 else 0


def _pixels(network: Network, stage: str | None) -> int:
    value = network.graph.inputs[0].value if stage is None else next(
        s.ops[0] for s in network.plan.stages if s.name == stage)
    return network.graph.shape(value).pixels


def _reach(network: Network, edge: Edge) -> _Reach:
    """For each stage upstream of ``edge``: the least and most of its pixels that fit on the way."""
    depth = network.plan.queues.get((edge.sink or "", edge.index), 0)
    found: _Reach = {edge.source: (depth, depth + _SLACK)}
    if edge.source is None:
        return found
    held_low, held_high = _holds(network, edge.source)
    inside = [e for e in network.edges if e.sink == edge.source]
    here = network.graph.shape(edge.value).pixels
    for before in inside:
        for stage, (low, high) in _reach(network, before).items():
            pixels = _pixels(network, stage)
            entry = before.pixels_in
            total_low = low + floor(depth * pixels / here) + floor(held_low * pixels / entry)
            total_high = high + ceil((depth + _SLACK) * pixels / here) + ceil(
                held_high * pixels / entry)
            known = found.get(stage)
            found[stage] = ((min(known[0], total_low), max(known[1], total_high)) if known
                            else (total_low, total_high))
    return found


def _holds(network: Network, stage: str) -> tuple[int, int]:
    """Pixels of its input that a stage surely and at most holds."""
    design = network.designs[stage]
    if isinstance(design, ConvDesign | PoolDesign):
        window = design.feed.window
        under_way = ceil(design.latency / max(1, design.cycles() // (window.height * window.width)))
        return window.capacity, window.capacity + under_way + _SLACK
    return 0, 16 + _SLACK

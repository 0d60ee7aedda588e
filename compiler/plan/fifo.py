"""Queue depths where paths fork and join: computed so that no path deadlocks or slows down."""

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from math import ceil, inf

import numpy as np

from .. import ir
from ..errors import PlanError
from .dataflow import Dataflow
from .schedule import idle_frame
from .streams import Edge

__all__ = ["check_queues", "with_queues"]

#: pixels, or beats, of slack for those in pipelines and small queues
_SLACK = 4
#: pixels of a frame up to which such slack would be a large part of a frame, or several frames
_FEW = 16
#: a join takes queues of frames where those that no stall can fill are longer by this factor
_LONGER = 2
#: stands for the host, from which all inputs of the network come
_HOST = None


def with_queues(network: Dataflow) -> Dataflow:
    """The dataflow with a queue before each input of a join that needs one; longer ones stay.

    Two paths leave a fork and meet at a join. With its output blocked a path takes at least ``low``
    and at most ``high`` pixels (counted at the fork): what its line buffers and queues hold. If
    ``low`` of the shorter path with its queue is not below ``high`` of the longer path, the fork
    never waits for the shorter path, whatever the stalls. The last value that is on all paths to
    the join is the first fork that counts. Depths are in pixels of the queued value.

    Where a value has few pixels a frame, such as one after a pool over the whole map, what a stage
    can hold is several frames. There ``high`` is what the stage needs before it gives a
    result, and what comes meanwhile at the network's interval: the two paths do not deadlock, and
    do not slow down unless they are stalled.

    Paths from two inputs of the network have no fork in common. They may deadlock all the same
    where they meet twice: one join waits for the first input, another join for the second. There
    the host counts as the fork of all inputs: the input of which the smaller share was taken never
    waits for another, so one input always moves. Behind a value that all paths of a join pass, that
    value is the fork, and not the host: what feeds it moves while it does.

    An output of the network needs no queue: it is taken whatever the other outputs do, and while it
    stalls it delays the stages before it, but blocks nothing for ever. A consumer that waits for
    one output before it takes another must hold what it leaves, or the plan gives that output a
    queue (``output_queues``).

    The state of a loop is like an input of the network: its first pixel is there from the start,
    and the stage that holds it takes a whole pixel whatever its output does. Where a stream gives
    the first pixel, the state is like that stream. Within a loop a path takes one pixel at a time:
    a turn is of one pixel, whose beats find no older ones before them.

    A join that takes its inputs in turn (``Buffering.turns``) takes a pixel of the first input
    before it takes any of the next, which counts as held by the path of the first. It has a queue
    before each input for what comes during the turns of the others, whichever path is longer,
    unless the stages before it hold as much. A stream that leaves a loop and becomes narrower has a
    queue of a pixel, or each turn would wait for it.

    What such a queue holds counts as a part of its path, so queues of joins behind each other grow
    by a factor each where the paths wait for whole frames. There the joins have queues of frames
    (:func:`_in_frames`).
    """
    if all(len(network.edges_into[stage.name]) == 1 for stage in network.plan.stages):
        return network  # without a join no path waits for another
    bare = network.replanned(queues={}) if network.plan.queues else network
    queues, regions = _queues(bare, {})
    frames = _in_frames(bare, queues, regions)
    if frames or bare is not network:
        queues, _ = _queues(network, frames)
    return network.replanned(queues=queues)


#: the depth of the queue before each input of a join: name of the stage, number of the input
_Queues = Mapping[tuple[str, int], int]


def _in_frames(
    bare: Dataflow, found: _Queues, regions: Mapping[str, set[str]]
) -> dict[tuple[str, int], int]:
    """Queues of the joins that hold frames: a frame, and what comes while a pixel waits. ``found``
    and ``regions`` are what :func:`_queues` gives for a network without queues.

    With room for a frame before each input of a join there is an order of events without a
    deadlock: frame after frame, stage after stage. Which values the stages take and give does not
    depend on time, so without a deadlock in one order there is none in any. A pixel waits for as
    many cycles as in an idle network, and in each interval one frame comes, so no stage waits for
    room unless it is stalled.

    A join has such queues where the others would be longer by ``_LONGER``, and so has each join
    between its fork and itself. What is left between a fork and a join is free of them, and is like
    one stage: it takes a frame and gives a frame. None has them where they take more bits in all.
    """
    if any(design.delaying for design in bare.designs.values()):
        return {}
    pixels = {edge: bare.graph.shape(edge.value).pixels for edge in bare.edges}
    if all(depth <= _LONGER * pixels[bare.edges_into[s][i]] for (s, i), depth in found.items()):
        return {}
    depths, before = _of_schedule(bare, list(regions)), _bits(bare, found)
    chosen: set[str] = set()
    while True:
        longer = {at[0] for at, depth in found.items() if depth > _LONGER * depths[at]}
        more = longer.union(*(regions[name] for name in longer))
        more |= {name for name, inner in regions.items() if inner & (chosen | more)}
        if more <= chosen:
            less = _bits(bare, found) < before
            return {at: depths[at] for at in depths if at[0] in chosen} if less else {}
        chosen |= more
        found, _ = _queues(bare, {at: depths[at] for at in depths if at[0] in chosen})


def _bits(network: Dataflow, queues: _Queues) -> int:
    """What all queues hold."""
    graph, total = network.graph, 0
    for (name, index), depth in queues.items():
        value = network.edges_into[name][index].value
        total += depth * graph.shape(value).channels * graph.quant(value).dtype.bits
    return total


def _of_schedule(network: Dataflow, joins: list[str]) -> dict[tuple[str, int], int]:
    """For each input of ``joins`` the pixels of a frame, and those that come while one waits in an
    idle network.
    """
    at = [(name, index) for name in joins for index, _ in enumerate(network.edges_into[name])]
    pixels = {
        (name, index): network.graph.shape(network.edges_into[name][index].value).pixels
        for name, index in at
    }
    network = network.replanned(queues=pixels)
    run = idle_frame(network)
    place = {stage.name: n for n, stage in enumerate(network.plan.stages)}
    found = {}
    for name, index in at:
        written, arrivals = run.written[place[name]], run.arrivals[place[name]][index]
        taken = run.leaves[place[name]] if written is None or index else written
        waits = max(0.0, float((taken - arrivals).max()))
        frame = pixels[name, index]
        found[name, index] = frame + ceil(waits * frame / network.interval)
    return found


def _queues(
    network: Dataflow, frames: _Queues
) -> tuple[dict[tuple[str, int], int], dict[str, set[str]]]:
    """The queues of :func:`with_queues`, where those in ``frames`` are given; and of each join the
    other joins between its fork and itself.
    """
    plan = network.plan
    queues: dict[tuple[str, int], int] = {}
    regions: dict[str, set[str]] = {}
    inside: dict[str | None, _Reach] = {_HOST: {}}
    passed: dict[str | None, tuple[str | None, ...]] = {_HOST: (_HOST,)}  # by all paths to a value
    for port in network.graph.inputs:
        inside[port.value] = {_HOST: (0, 0)}
        passed[port.value] = (_HOST, port.value)
    meetings, loop_of = _Meetings(network), _loop_of(network)
    for stage in plan.stages:
        edges = network.edges_into[stage.name]
        if network.designs[stage.name].delaying:  # a pixel is there before any comes in
            (value,) = (output.value for output in network.designs[stage.name].ports.outputs)
            inside[value], passed[value] = {_HOST: (0, 0)}, (_HOST, value)
            for edge in edges[1:]:
                inside[value] = _reach(network, edge, 0, inside[edge.value])
                passed[value] = (*passed[edge.value], value)
            continue
        reaches = [_reach(network, edge, 0, inside[edge.value]) for edge in edges]
        if network.designs[stage.name].buffering.lines is not None:
            # its inputs meet where they are stored
            reaches = [_held(network, *each) for each in zip(edges, reaches, strict=True)]
        common = [s for s in passed[edges[0].value] if all(s in passed[e.value] for e in edges)]
        depths = [
            max(
                plan.queues.get((stage.name, index), 0),
                _in_turns(network, edge),
                _out_of_loop(edge, loop_of),
            )
            for index, edge in enumerate(edges)
        ]
        for one, other in combinations(range(len(edges)), 2):
            forks: set[str | None] = {
                fork
                for fork in set(reaches[one]) & set(reaches[other])
                if fork is not _HOST and common[-1] in passed[fork]
            }
            if common[-1] is _HOST and meetings.elsewhere(edges[one], edges[other]):
                forks.add(_HOST)
            for here, there in ((one, other), (other, one)):
                loop = loop_of.get(stage.name)
                if loop and loop_of.get(edges[here].source) == loop:
                    missing = _missing_in_turn(loop, forks, reaches[here], reaches[there])
                else:
                    ahead = _taken_first(network, edges[there], edges[here])
                    missing = [
                        _missing(network, edges[here], fork, reaches[here], reaches[there], ahead)
                        for fork in forks
                    ]
                depths[here] = max([depths[here], *missing])
        if len(edges) > 1:
            upstream = set().union(*reaches)
            regions[stage.name] = {
                name
                for name in regions
                for port in network.designs[name].ports.outputs
                if port.value in upstream
                and (common[-1] is _HOST or common[-1] in inside[port.value])
            }
        if (stage.name, 0) in frames:
            depths = [
                max(plan.queues.get((stage.name, index), 0), frames[stage.name, index])
                for index, _ in enumerate(edges)
            ]
        queues |= {(stage.name, index): depth for index, depth in enumerate(depths) if depth > 0}
        paths = [
            (edge, _reach(network, edge, depth, inside[edge.value]))
            for edge, depth in zip(edges, depths, strict=True)
        ]
        reach = _through(network, paths)
        for output in network.designs[stage.name].ports.outputs:
            passed[output.value] = (*common, output.value)
            inside[output.value] = reach
    return queues, regions


def check_queues(network: Dataflow) -> None:
    """Raise :class:`PlanError` where a queue of the plan is too short for its paths."""
    for (stage, index), depth in with_queues(network).plan.queues.items():
        held = network.plan.queues.get((stage, index), 0)
        if held < depth:
            raise PlanError(
                f"the queue before input {index} of stage {stage} holds {held} pixels, "
                f"but {depth} are needed, or the paths that meet there may deadlock or slow down; "
                "give it so many pixels"
            )


@dataclass(frozen=True)
class _LoopValues:
    """The values of a loop within a frame, among them its states."""

    values: frozenset[str]
    states: frozenset[str]


def _loop_of(network: Dataflow) -> dict[str | None, _LoopValues]:
    """The loop that each stage is in, where it is in one."""
    found: dict[str | None, _LoopValues] = {}
    for group in ir.loops.groups(network.graph):
        if ir.loops.is_loop(group):
            states = frozenset(op.output for op in group if op.delaying)
            loop = _LoopValues(frozenset(op.output for op in group), states)
            stages = (network.stage_of[op.output].name for op in group if not op.view)
            found |= dict.fromkeys(stages, loop)
    return found


def _out_of_loop(edge: Edge, loop_of: Mapping[str | None, _LoopValues]) -> int:
    """The pixel that a narrower stream out of a loop holds, so that the loop does not wait."""
    leaves = edge.source in loop_of and loop_of[edge.source] is not loop_of.get(edge.sink)
    return 1 if leaves and edge.forked and edge.narrowing > 1 else 0


class _Meetings:
    """Where streams of different inputs of the network meet."""

    def __init__(self, network: Dataflow):
        self.network = network
        #: the network's inputs that a value depends on
        self.inputs = {port.value: frozenset({port.value}) for port in network.graph.inputs}
        for name, design in network.designs.items():
            if design.delaying:
                given = network.edges_into[name][1:]
                for port in design.ports.outputs:
                    first = [self.inputs[edge.value] for edge in given]
                    self.inputs[port.value] = frozenset({port.value}).union(*first)
                continue
            joint: frozenset[str] = frozenset()
            for edge in network.edges_into[name]:
                joint |= self.inputs[edge.value]
            self.inputs |= {port.value: joint for port in design.ports.outputs}

    def elsewhere(self, one: Edge, other: Edge) -> bool:
        """Whether two edges into one join carry different inputs of the network that are connected
        without that join too.
        """
        if len(self.inputs[one.value] | self.inputs[other.value]) == 1:
            return False
        return other.value in self._connected(one.value, str(one.sink))

    def _connected(self, start: str, without: str) -> set[str]:
        """The values that streams and stages, all but one, connect with ``start`` either way."""
        network = self.network
        found, pending = {start}, [start]
        while pending:
            value = pending.pop()
            touching = {edge.sink for edge in network.edges if edge.value == value}
            touching.add(network.producer(value))
            for stage in touching - {None, without}:
                near = {edge.value for edge in network.edges_into[stage]}
                near |= {port.value for port in network.designs[str(stage)].ports.outputs}
                pending += near - found
                found |= near
        return found


#: for each value upstream, and the host, the least and the most of its pixels that the path from
#: there holds
_Reach = dict[str | None, tuple[int, int]]


def _missing(
    network: Dataflow,
    edge: Edge,
    fork: str | None,
    reach: _Reach,
    other: _Reach,
    ahead: Fraction,
) -> int:
    """Pixels of the edge's value that its path holds too few; ``ahead``: the part of a frame that
    the join takes of the other path before.
    """
    pixels = network.pixels[fork]
    shortfall = other[fork][1] + ahead * pixels - reach[fork][0]
    here = network.graph.shape(edge.value).pixels
    return ceil(shortfall * here / pixels) if shortfall > 0 else 0


def _taken_first(network: Dataflow, edge: Edge, other: Edge) -> Fraction:
    """The part of a frame that a join in turns takes from ``edge`` before it takes the same from
    ``other``; 0 where it has so many pixels that the slack covers one.
    """
    turns = network.designs[str(edge.sink)].buffering.turns
    first = bool(turns) and edge.index < other.index and edge.pixels_in <= _FEW
    return Fraction(first, edge.pixels_in)


def _in_turns(network: Dataflow, edge: Edge) -> int:
    """Pixels of the edge's value that come while a stage takes its other inputs; 0 where the stages
    before it hold them: a few beats of one pixel, for they may compute a large pixel beat by beat.
    """
    design = network.designs[str(edge.sink)]
    if not design.buffering.turns:
        return 0
    part = Fraction(design.buffering.turns[edge.index], network.interval)
    arriving = part * network.graph.shape(edge.value).pixels
    beats = part * edge.pixels_in * -(-edge.channels_in // edge.lanes_in)
    return ceil(arriving) if max(arriving, beats / _SLACK) > 1 else 0


def _missing_in_turn(
    loop: "_LoopValues", forks: set[str | None], reach: _Reach, other: _Reach
) -> list[int]:
    """The same for a path within a loop: there is one pixel of each value at a time. A fork outside
    waits for the path no more than a state does, for the path begins at the states.
    """
    missing = [min(1, other[fork][1]) - reach[fork][0] for fork in forks & loop.values]
    if forks - loop.values:
        missing += [1 - reach[state][0] for state in loop.states & reach.keys()]
    return missing


def _reach(network: Dataflow, edge: Edge, depth: int, inside: _Reach) -> _Reach:
    """The reach at the end of ``edge`` with a queue of ``depth`` pixels; ``inside``: before it."""
    here = network.graph.shape(edge.value).pixels
    slack = _SLACK if here > _FEW else Fraction(edge.queued_latency * here, network.interval)
    found: _Reach = {edge.value: (depth, ceil(depth + slack))}
    return found | _longer(network, inside, depth, depth + slack, here)


def _through(network: Dataflow, inputs: list[tuple[Edge, _Reach]]) -> _Reach:
    """The reach at the output of the stage of these inputs, which holds some of each."""
    found: _Reach = {}
    for edge, reach in inputs:
        for before, (low, high) in _held(network, edge, reach).items():
            least, most = found.get(before, (low, high))
            found[before] = min(least, low), max(most, high)
    return found


def _held(network: Dataflow, edge: Edge, reach: _Reach) -> _Reach:
    """The reach with what the stage at the end of ``edge`` holds of it."""
    held_low, held_high = network.designs[str(edge.sink)].buffering.held(edge.index)
    slack = min(_SLACK + held_high, _ahead(network, edge))
    return _longer(network, reach, min(held_low, slack), slack, edge.pixels_in)


def _longer(
    network: Dataflow, reach: _Reach, low: float | Fraction, high: float | Fraction, of: int
) -> _Reach:
    """``reach`` and at least ``low``, at most ``high`` more pixels of a value that has ``of`` in a
    frame.
    """
    # in integers, for there are many of them, and fractions are slow
    (low, less), (high, more) = low.as_integer_ratio(), high.as_integer_ratio()
    less, more = less * of, more * of
    pixels = network.pixels
    return {
        value: (
            least + low * pixels[value] // less,
            most - (-high * pixels[value] // more),
        )
        for value, (least, most) in reach.items()
    }


def _ahead(network: Dataflow, edge: Edge) -> Fraction | float:
    """Where the stage at the end of ``edge`` takes or gives few pixels: the pixels of input that it
    needs beyond those that its result stands for, and that arrive until the result leaves.
    """
    design = network.designs[str(edge.sink)]
    if min(edge.pixels_in, design.pixels_out) > _FEW:
        return inf
    timing, lines, needs = design.timing, design.buffering.lines, 1
    cycles = timing.pixel + timing.latency + timing.arrival
    if lines is not None and edge.index == 0:
        given = np.arange(1, design.pixels_out + 1) * edge.pixels_in // design.pixels_out
        units = -(-lines.needed.reshape(-1) // timing.unit) * timing.unit
        if lines.complete is not None:
            units = units[lines.complete]
            cycles += lines.needed.shape[1] * (timing.pixel + lines.leaving)
        needs = max(0, int((units - given).max()))
    return needs + Fraction(ceil(cycles) * edge.pixels_in, network.interval)

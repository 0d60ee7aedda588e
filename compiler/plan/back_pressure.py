"""Forks that wait: where a value has several takers, the slowest of them delays the others."""

from collections.abc import Mapping
from itertools import combinations
from math import inf
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .dataflow import Dataflow
from .streams import Edge

if TYPE_CHECKING:
    from .schedule import FrameTimes

__all__ = ["BackPressure"]

_Times = NDArray[np.float64]


class BackPressure:
    """What the streams and the stages of ``network`` hold while their takers are busy.

    A stage that stores its first input takes it when that is written: that its results wait does
    not delay it. Readers whose paths meet again do not delay each other, for the queues before
    joins are computed so (:mod:`.fifo`). Stages of a loop take a pixel a turn, whatever they hold:
    networks with loops have no fork that counts.
    """

    def __init__(self, network: Dataflow):
        looped = any(design.delaying for design in network.designs.values())
        #: the values with readers whose paths never meet
        self.forks = set() if looped else _parting(network)
        #: for each stage and input the most pixels that it holds while its output waits
        self._most = [
            [design.buffering.held(n)[1] for n, _ in enumerate(design.ports.inputs)]
            for design in (network.designs[stage.name] for stage in network.plan.stages)
        ]

    def delays(self, run: "FrameTimes") -> Mapping[tuple[int | None, int], _Times]:
        """The earliest cycles in which the pixels of each stage, or input of the network, leave, so
        that all that take them have room, as far as ``run`` tells when they take them.
        """
        found: dict[tuple[int | None, int], _Times] = {}
        for place, step in enumerate(run.schedule.steps):
            for which, (source, places, edge) in enumerate(step.inputs):
                if edge.forked and edge.value not in self.forks:
                    continue
                key = (source, edge.output if source is None else 0)
                pixels = int(places[-1]) + 1 if source is None else len(run.leaves[source])
                taken = self._taken(run, place, which)
                # by pixels of the source: of those in one of the input only the last one surely
                # leaves when that is taken, the others after the one before
                number = np.arange(pixels)
                at = np.searchsorted(places, number)
                before = np.where(at > 0, taken[at - 1], 0.0)
                there = np.where(number == places[at], taken[at], before)
                least = _leaves(edge, there, run.through.get(edge, 0))
                found[key] = np.maximum(found[key], least) if key in found else least
        return found

    def _taken(self, run: "FrameTimes", place: int, which: int) -> _Times:
        """The cycles in which a stage has taken the pixels of one of its inputs."""
        written, timing = run.written[place], run.timings[place]
        if written is not None and which == 0:
            return written
        taken = run.computed[place] - timing.latency - timing.behind_of(which)
        most = self._most[place][which]
        later = taken[most:]
        taken[most:] = np.maximum(later, run.leaves[place][: len(later)])
        return taken


def _parting(network: Dataflow) -> set[str]:
    """The values with two readers that no stage is behind both of."""
    behind: dict[str | None, frozenset[str]] = {None: frozenset()}
    readers: dict[str, list[frozenset[str]]] = {}
    after: dict[str, set[str | None]] = {}
    for edge in network.edges:
        if edge.source is not None:
            after.setdefault(edge.source, set()).add(edge.sink)
    for stage in reversed(network.plan.stages):
        name = stage.name
        behind[name] = frozenset({name}).union(*(behind[s] for s in after.get(name, ())))
    for edge in network.edges:
        readers.setdefault(edge.value, []).append(behind[edge.sink])
    return {
        value
        for value, paths in readers.items()
        if any(one.isdisjoint(other) for one, other in combinations(paths, 2))
    }


def _leaves(edge: Edge, taken: _Times, passing: int) -> _Times:
    """The earliest cycles in which pixels leave a source whose sink takes them in these cycles, at
    least ``passing`` cycles later: what the stream holds follows behind.
    """
    behind = edge.held / edge.channels_out
    pixels = np.arange(len(taken))
    freed = np.interp(pixels - behind, pixels, taken, left=-inf)
    least: _Times = np.minimum(freed, taken - passing)
    return least

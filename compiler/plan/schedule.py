"""When each row passes: the latency of one frame through an idle network."""

from bisect import bisect_left
from dataclasses import dataclass
from functools import singledispatch
from math import ceil

from .. import ir
from .network import Edge, Network
from .stages import ConvDesign, Design, PoolDesign, SimpleDesign

__all__ = ["latency"]

#: a beat accepted, written, counted as a row and seen by the reader
_ARRIVAL = 3
#: into the output queue and out of it
_QUEUE = 2


@dataclass(frozen=True)
class _Times:
    """When a value's elements have left its stage: after ``elements[i]`` elements it is
    ``cycle[i]``.
    """

    elements: list[int]
    cycle: list[int]

    def after(self, elements: int) -> int:
        """The cycle in which that many elements have left, to the row (a beat, for the input)."""
        return self.cycle[bisect_left(self.elements, elements)]


def latency(network: Network) -> int:
    """Cycles from the first beat in to the last beat out, both counted."""
    graph = network.graph
    times: dict[str | None, _Times] = {None: _source(network)}
    for stage in network.plan.stages:
        edges = [edge for edge in network.edges if edge.sink == stage.name]
        arrivals = [(edge, times[edge.source]) for edge in edges]
        shape = graph.shape(network.op(stage).output)
        leaves = _leaves(network.designs[stage.name], arrivals, shape, graph)
        row = shape.width * shape.channels
        times[stage.name] = _Times([(n + 1) * row for n in range(len(leaves))], leaves)
    output = network.edges[-1]
    return times[output.source].cycle[-1] + output.latency + 1


def _source(network: Network) -> _Times:
    shape = network.graph.values[network.graph.inputs[0].value].shape
    a_pixel = ceil(shape.channels / network.plan.lanes_in)
    pixels = range(1, shape.pixels + 1)
    return _Times([n * shape.channels for n in pixels], [n * a_pixel - 1 for n in pixels])


@singledispatch
def _leaves(design: Design, arrivals: list[tuple[Edge, _Times]], shape: ir.Shape,
            graph: ir.Graph) -> list[int]:
    """The cycle in which each row of the output has left."""
    raise NotImplementedError


@_leaves.register(ConvDesign)
@_leaves.register(PoolDesign)
def _(design: ConvDesign | PoolDesign, arrivals: list[tuple[Edge, _Times]], shape: ir.Shape,
      graph: ir.Graph) -> list[int]:
    feed = design.feed
    window = feed.window
    (edge, times), = arrivals
    elements = edge.pixels_in * edge.channels_in // window.height
    writing = max(window.width * window.words,
                  edge.cycles() // window.height if edge.converts else 0)
    busy = window.width_out * window.groups * feed.passes * feed.folds
    written: list[int] = []
    free = [0] * window.rows
    finish, leaves = 0, []
    for row in range(shape.height):
        while len(written) < window.needed(row):
            n = len(written)
            began = max(written[-1] if written else 0, free[n])
            written.append(max(times.after((n + 1) * elements) + edge.latency, began + writing))
        start = max(finish, written[window.needed(row) - 1] + _ARRIVAL)
        finish = start + busy
        free += [finish] * window.releases()[row]
        leaves.append(finish + design.latency)
    return leaves


@_leaves.register
def _(design: SimpleDesign, arrivals: list[tuple[Edge, _Times]], shape: ir.Shape,
      graph: ir.Graph) -> list[int]:
    row = design.beats // shape.height
    leaves: list[int] = []
    for n in range(shape.height):
        there = max(times.after(ceil((n + 1) * edge.pixels_in * edge.channels_in / shape.height))
                    + edge.latency for edge, times in arrivals)
        leaves.append(max(there + design.latency, leaves[-1] + row if leaves else 0))
    return leaves

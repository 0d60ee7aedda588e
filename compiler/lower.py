"""From a plan to hardware: every stage's component with its constants, and the streams between
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import singledispatch

import numpy as np
from amaranth import Elaboratable
from numpy.typing import NDArray

from .. import hw
from . import ir
from .plan.dataflow import Edge, Network
from .plan.stages import ConvDesign, Design, PoolDesign, SimpleDesign, hw_shape
from .quantize.proofs.requantizer import (
    Adder,
    Requantizer,
    average_counts,
    for_add,
    for_average_pool,
    for_conv,
    for_unary,
    taps_inside,
)

__all__ = ["accelerator", "component"]

#: cycles that something is on its way beyond a stage's latency: in converters and their queues
_MORE = 32

#: a stage's name ("" for the accelerator's own ends), its port, and which one of several
_Port = tuple[str, str] | tuple[str, str, int]


def accelerator(network: Network) -> hw.Accelerator:
    """The whole network as one component with AXI4-Stream ends."""
    stages: dict[str, Elaboratable] = {}
    for stage in network.plan.stages:
        op = network.op(stage)
        stages[stage.name] = component(op, network.graph, network.designs[stage.name])
    connections = _connect(network, stages)
    graph = network.graph
    first, last = graph.inputs[0].value, network.edges[-1]
    lanes_out, beats_out = network.outputs
    return hw.Accelerator(
        stages,
        connections,
        hw.AxiStreamConfig(
            network.plan.lanes_in, hw_shape(graph.quant(first).dtype), network.beats_in
        ),
        hw.AxiStreamConfig(lanes_out, hw_shape(graph.quant(last.value).dtype), beats_out),
        hold=_MORE
        + max(_run_out(stages[name], design) for name, design in network.designs.items()),
    )


def _run_out(stage: Elaboratable, design: Design) -> int:
    """Cycles after which nothing is on its way in a stage that starts nothing more, nor in its
    queue, which a word leaves each cycle.
    """
    waiting = stage.queue_depth(design.latency) if isinstance(stage, hw.WindowStage) else 0
    return max(design.latency, waiting)


def _connect(network: Network, stages: dict[str, Elaboratable]) -> list[hw.Connection]:
    """Add forks, queues, converters and register slices of all edges; return the connections."""
    connections: list[hw.Connection] = []
    for source in [None, *(stage.name for stage in network.plan.stages)]:
        takers = [edge for edge in network.edges if edge.source == source]
        element = hw_shape(network.graph.quant(takers[0].value).dtype)
        path = _Path(stages, connections, (source or "", "o"), element, network.device.family)
        path.slice(f"{source or 'input'}_slice", takers[0].lanes_out)
        if len(takers) > 1:
            path.insert(
                f"{source or 'input'}_fork", hw.Fork(takers[0].lanes_out, element, len(takers))
            )
        for n, edge in enumerate(takers):
            branch = replace(path, port=(*path.port, n)) if len(takers) > 1 else path
            _edge(network, edge, branch)
    return connections


@dataclass
class _Path:
    """A stream on its way: the port that it has come to, and what is put into it."""

    stages: dict[str, Elaboratable]
    connections: list[hw.Connection]
    port: _Port
    element: hw.Shape
    family: str

    def insert(self, name: str, part: Elaboratable) -> None:
        self.stages[name] = part
        self.end((name, "i"))
        self.port = (name, "o")

    def slice(self, name: str, lanes: int) -> None:
        self.insert(name, hw.RegisterSlice(lanes, self.element, self.family))

    def end(self, port: _Port) -> None:
        self.connections.append(hw.Connection(self.port, port))


def _edge(network: Network, edge: Edge, path: _Path) -> None:
    """From a stage's slice or fork to another's input, with a register slice between any two parts
    that look at the handshake, and one before a join (:attr:`Edge.latency` counts them).
    """
    before = f"{edge.sink or 'output'}_{edge.index}"
    if edge.depth:
        path.insert(
            f"{before}_queue", hw.Fifo(edge.lanes_out, path.element, edge.depth, path.family)
        )
    if edge.sliced:
        path.slice(f"{before}_slice", edge.lanes_out)
    for n, config in enumerate(edge.conversions(path.element)):
        path.insert(f"{before}_width_{n}", hw.WidthConverter(config))
        path.slice(f"{before}_width_{n}_slice", config.lanes_out)
    if edge.joined:
        path.slice(f"{before}_join_slice", edge.lanes_in)
    path.end(_input(network, edge))


def _input(network: Network, edge: Edge) -> _Port:
    """The port that an edge ends at."""
    if edge.sink is None:
        return ("", "i")
    stage = next(stage for stage in network.plan.stages if stage.name == edge.sink)
    op = network.op(stage)
    if isinstance(op, ir.Add):
        return (edge.sink, "ab"[edge.index])
    return (edge.sink, "i", edge.index) if isinstance(op, ir.Concat) else (edge.sink, "i")


# Stages.


@singledispatch
def component(op: ir.Op, graph: ir.Graph, design: Design) -> Elaboratable:
    """The hardware stage that computes ``op``, folded as ``design`` says."""
    raise NotImplementedError(f"{op.name}: no hardware for {type(op).__name__}")


def _rounding(exact: Requantizer | Adder) -> hw.Rounding:
    return hw.Rounding(exact.shift, exact.tie_bits, exact.low, exact.high, exact.tie_parity)


@component.register
def _(op: ir.Conv, graph: ir.Graph, design: ConvDesign) -> Elaboratable:
    exact = for_conv(graph, op)
    array = design.array
    channels = _channels(op, design)
    kept = [channel if channel is not None else 0 for channel in channels]
    lanes = array.lanes
    requantize = hw.RequantizeConfig(
        lanes,
        array.acc,
        hw_shape(graph.quant(op.output).dtype),
        tuple(exact.mult[c] for c in kept),
        tuple(exact.offset[c] for c in kept),
        tuple(
            any(c is not None for c in channels[i : i + lanes])
            for i in range(0, len(channels), lanes)
        ),
        _rounding(exact),
        initiation_interval=array.initiation_interval,
        family=array.family,
    )
    return hw.MatMul(
        hw.MatMulConfig(design.feed, array, requantize), _weights(op, design, channels)
    )


def _channels(op: ir.Conv, design: ConvDesign) -> Sequence[int | None]:
    """Output channel of each result of a pixel in the order in which they leave; None: none."""
    pe = design.array.pe
    if op.depthwise:
        return [c if c < op.channels else None for c in range(design.feed.window.groups * pe)]
    columns = op.channels // op.groups
    return [
        group * columns + c if c < columns else None
        for group in range(op.groups)
        for c in range(design.feed.passes * pe)
    ]


def _weights(op: ir.Conv, design: ConvDesign, channels: Sequence[int | None]) -> NDArray[np.int64]:
    """Weights as the array holds them: [pe, simd, words in the order of use]."""
    array, order = design.array, design.feed.order()
    runs = len(channels) // array.pe
    packed = np.zeros((array.pe, array.simd, runs, array.folds), np.int64)
    flat = op.weight.reshape(op.channels, -1).astype(np.int64)
    for n, channel in enumerate(channels):
        if channel is None:
            continue
        run, column = divmod(n, array.pe)
        if op.depthwise:
            taken = order.reshape(array.folds, array.simd, array.pe)[:, :, column]
            depth = design.feed.window.channels // design.feed.window.groups
            taken = np.where(taken < 0, -1, taken // depth)
        else:
            taken = order
        packed[column, :, run] = np.where(taken < 0, 0, flat[channel][taken]).T
    return packed.reshape(array.pe, array.simd, runs * array.folds)


@component.register
def _(op: ir.MaxPool, graph: ir.Graph, design: PoolDesign) -> Elaboratable:
    return hw.MaxPool(
        hw.PoolConfig(design.feed, design.stage.pe, hw_shape(graph.quant(op.output).dtype))
    )


@component.register
def _(op: ir.Pad, graph: ir.Graph, design: PoolDesign) -> Elaboratable:
    return hw.MaxPool(
        hw.PoolConfig(design.feed, design.stage.pe, hw_shape(graph.quant(op.output).dtype))
    )


@component.register
def _(op: ir.AveragePool, graph: ir.Graph, design: PoolDesign) -> Elaboratable:
    assert design.acc is not None, f"{op.name}: an average without an accumulator"
    exact, lanes = for_average_pool(graph, op), design.stage.pe
    shape = graph.shape(op.inputs[0])
    counts = average_counts(op, shape)
    if len(counts) == 1:
        entries, repeat = [0], 1
    else:
        rows, columns = taps_inside(op, shape)
        entries = [counts.index(row * column) for row in rows for column in columns]
        repeat = design.feed.window.groups
    requantize = hw.RequantizeConfig(
        lanes,
        hw_shape(design.acc),
        hw_shape(graph.quant(op.output).dtype),
        tuple(exact.mult[e] for e in entries for _ in range(lanes)),
        tuple(exact.offset[e] for e in entries for _ in range(lanes)),
        (True,) * len(entries),
        _rounding(exact),
        repeat,
        design.initiation_interval,
        design.feed.window.family,
    )
    return hw.AveragePool(hw.PoolConfig(design.feed, lanes, requantize.out, requantize))


@component.register
def _(op: ir.Add, graph: ir.Graph, design: SimpleDesign) -> Elaboratable:
    exact = for_add(graph, op)
    a, b = (hw_shape(graph.quant(name).dtype) for name in op.inputs)
    return hw.Add(
        hw.AddConfig(
            design.stage.pe,
            a,
            b,
            hw_shape(graph.quant(op.output).dtype),
            exact.mult_a,
            exact.mult_b,
            exact.offset,
            _rounding(exact),
            design.cycles(),
            design.family,
        )
    )


@component.register
def _(op: ir.Unary, graph: ir.Graph, design: SimpleDesign) -> Elaboratable:
    x = graph.quant(op.inputs[0]).dtype
    table = for_unary(graph, op)
    # the table starts at the least integer; hardware looks it up by the integer's bits
    by_bits = np.roll(table, x.low)
    return hw.Lookup(
        hw.LookupConfig(
            design.stage.pe,
            hw_shape(x),
            hw_shape(graph.quant(op.output).dtype),
            tuple(int(y) for y in by_bits),
            design.cycles(),
            design.family,
        )
    )


@component.register
def _(op: ir.Concat, graph: ir.Graph, design: Design) -> Elaboratable:
    channels = tuple(graph.shape(name).channels for name in op.inputs)
    return hw.Concat(
        hw.ConcatConfig(
            channels,
            design.stage.pe,
            hw_shape(graph.quant(op.output).dtype),
            graph.shape(op.output).pixels,
        )
    )


@component.register
def _(op: ir.ArgMax, graph: ir.Graph, design: Design) -> Elaboratable:
    return hw.ArgMax(
        hw.ArgMaxConfig(graph.shape(op.inputs[0]).size, hw_shape(graph.quant(op.inputs[0]).dtype))
    )

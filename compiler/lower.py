"""From a plan to hardware: the components of all stages, and the streams between them."""

from dataclasses import dataclass, replace

from amaranth import Elaboratable

from .. import hw
from .plan.dataflow import Dataflow
from .plan.streams import Edge, NetworkPort
from .stages import hw_shape

__all__ = ["accelerator"]

#: cycles that beats are in flight beyond a stage's latency: in converters and their queues
_MORE = 32

#: a stage's name ("" for the accelerator itself), its port, and which one of several
_Port = tuple[str, str] | tuple[str, str, int]


def accelerator(network: Dataflow) -> hw.Accelerator:
    """The whole network as one component with AXI4-Stream ports, called as the model calls them."""
    stages: dict[str, Elaboratable] = {
        name: design.build(design.constants()) for name, design in network.designs.items()
    }
    connections = _connect(network, stages)
    return hw.Accelerator(
        stages,
        connections,
        {port.name: _axi_stream(network, port) for port in network.inputs},
        {port.name: _axi_stream(network, port) for port in network.outputs},
        hold=_MORE + max(design.drain_cycles for design in network.designs.values()),
    )


def _axi_stream(network: Dataflow, port: NetworkPort) -> hw.AxiStreamConfig:
    element = hw_shape(network.graph.quant(port.value).dtype)
    return hw.AxiStreamConfig(port.lanes, element, port.beats)


def _connect(network: Dataflow, stages: dict[str, Elaboratable]) -> list[hw.Connection]:
    """Add forks, queues, converters and register slices of all edges; return the connections."""
    connections: list[hw.Connection] = []
    for source, output in network.sources:
        takers = [edge for edge in network.edges if (edge.source, edge.output) == (source, output)]
        element = hw_shape(network.graph.quant(takers[0].value).dtype)
        port: _Port
        if source is None:
            port = ("", network.inputs[output].name)
            name = f"input_{output}" if len(network.inputs) > 1 else "input"
        else:
            outputs = network.designs[source].ports.outputs
            port = (source, *outputs[output].path)
            name = source if len(outputs) == 1 else f"{source}_{output}"
        path = _Path(stages, connections, port, element, network.device.target)
        path.slice(f"{name}_slice", takers[0].lanes_out)
        if len(takers) > 1:
            path.insert(f"{name}_fork", hw.Fork(takers[0].lanes_out, element, len(takers)))
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
    target: hw.Target

    def insert(self, name: str, part: Elaboratable) -> None:
        self.stages[name] = part
        self.end((name, "i"))
        self.port = (name, "o")

    def slice(self, name: str, lanes: int) -> None:
        self.insert(name, hw.RegisterSlice(lanes, self.element, self.target))

    def queue(self, name: str, edge: Edge) -> None:
        self.insert(name, hw.Fifo(edge.queue_lanes, self.element, edge.depth, self.target))

    def end(self, port: _Port) -> None:
        self.connections.append(hw.Connection(self.port, port))


def _edge(network: Dataflow, edge: Edge, path: _Path) -> None:
    """From a stage's slice or fork to another's input, with a register slice between any two parts
    that look at the handshake, and one before a join (:attr:`Edge.latency` counts them).
    """
    before = f"{edge.sink or 'output'}_{edge.index}"
    if edge.depth and not edge.queued_wide:
        path.queue(f"{before}_queue", edge)
    if edge.sliced:
        path.slice(f"{before}_slice", edge.lanes_out)
    for n, config in enumerate(edge.conversions(path.element)):
        path.insert(f"{before}_width_{n}", hw.WidthConverter(config))
        path.slice(f"{before}_width_{n}_slice", config.lanes_out)
    if edge.depth and edge.queued_wide:
        path.queue(f"{before}_queue", edge)
    if edge.joined:
        path.slice(f"{before}_join_slice", edge.lanes_in)
    path.end(_input(network, edge))


def _input(network: Dataflow, edge: Edge) -> _Port:
    """The port that an edge ends at."""
    if edge.sink is None:
        return ("", network.outputs[edge.index].name)
    return (edge.sink, *network.designs[edge.sink].ports.inputs[edge.index].path)

"""The dataflow of a plan: stages, the streams and queues between them, and their cost."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import ceil
from typing import Any

from ... import hw
from ...hw.target.base import Device
from .. import ir
from ..brief import Brief
from ..errors import PlanError
from ..stages import Design, StagePlan, hw_shape, kind_named, reshaped, stage_ops
from .pace import paced, paced_frames
from .resources import Resources, cells, link, total
from .streams import Edge, NetworkPort

__all__ = ["Plan", "Dataflow"]

#: share of a device's block RAMs that may be used when the link buffers whole frames: with 206 of
#: an 85F's 208 the last ones are placed far from their logic, which costs a seventh of the clock
_BUFFERED_SHARE = 0.985


@dataclass(frozen=True, repr=False)
class Plan(Brief):
    """The stages of a network, in flow order, and the depths of the queues between them.

    ``lanes_in`` is the number of elements a beat of each of the network's inputs, by name; one
    where none is given. ``queues`` maps (stage, input index) to the depth in pixels of the queue
    before that input; inputs without one are not listed. ``output_queues``: the same before the
    network's outputs, by name. ``argmax``: the hardware gives the winning class instead of all
    scores. ``bound_interval`` and ``bound_latency`` are the search's lower bounds for any plan of
    the network on this board (cycles; None: not computed); that on the latency may be for plans
    that save no block RAM.
    """

    board: str
    stages: tuple[StagePlan, ...]
    queues: dict[tuple[str, int], int]
    lanes_in: dict[str, int] = field(default_factory=dict)
    argmax: bool = False
    output_queues: dict[str, int] = field(default_factory=dict)
    bound_interval: int | None = field(default=None, compare=False)
    bound_latency: int | None = field(default=None, compare=False)

    def facts(self) -> dict[str, object]:
        return {"board": self.board, "stages": len(self.stages), "queues": len(self.queues)}


class Dataflow(Brief):
    """A graph under a plan: the designs of all stages, the streams between them, and their cost.

    Raises :class:`PlanError` when the plan does not cover the graph, breaks a rule of a stage, or
    lists the stages in another order than that of the flow. ``designs``: those of the stages, if
    they are known already.
    """

    def __init__(
        self,
        graph: ir.Graph,
        plan: Plan,
        device: Device,
        designs: Mapping[str, Design] | None = None,
    ):
        self.graph, self.plan, self.device = graph, plan, device
        self._alias = reshaped(graph)
        self.stage_of = {value: stage for stage in plan.stages for value in stage.ops}
        self._check_cover()
        self._check_borders()
        self.designs: Mapping[str, Design] = designs or self._designed()
        self._check_streams()
        self._check_queues()
        self._check_sites()
        if any(design.delaying for design in self.designs.values()):
            self.designs = {
                **self.designs,
                **paced(self.graph, self.designs, self.stage_of, self.edges_into),
            }
        if any(design.keeping for design in self.designs.values()):
            self.designs = {**self.designs, **paced_frames(self)}

    def facts(self) -> dict[str, object]:
        cost, unit = self.linked, self.device.target.logic_unit
        return {
            "network": self.graph.name,
            "board": self.plan.board,
            "stages": len(self.plan.stages),
            "interval": f"{self.interval:,} cycles a frame",
            "multipliers": self.multipliers,
            "estimate": f"{cells(cost, self.device):,} {unit}, {cost.dsp} DSP blocks, "
            f"{cost.bram} block RAMs, with the link to the host",
        }

    @cached_property
    def pixels(self) -> dict[str | None, int]:
        """Pixels of a frame of each value; those of the host (None) as of the largest input."""
        shapes = {name: value.shape.pixels for name, value in self.graph.values.items()}
        return shapes | {None: max(shapes[port.value] for port in self.graph.inputs)}

    def replanned(self, **changes: Any) -> "Dataflow":
        """The same stages under a plan with ``changes`` to its other fields."""
        assert "stages" not in changes
        return Dataflow(self.graph, replace(self.plan, **changes), self.device, self.designs)

    def _designed(self) -> dict[str, Design]:
        producers = {op.output: op for op in self.graph}
        designs = {}
        for stage in self.plan.stages:
            ops = tuple(producers[value] for value in stage.ops)
            kind = kind_named(stage, ops)
            designs[stage.name] = kind.design(stage, ops, self.graph, self.device)
        return designs

    def _check_cover(self) -> None:
        wanted = [op.output for op in stage_ops(self.graph)]
        names = [stage.name for stage in self.plan.stages]
        if len(set(names)) != len(names):
            raise PlanError("two stages of the plan have one name; give each its own")
        counts = Counter(value for stage in self.plan.stages for value in stage.ops)
        twice = [value for value, count in counts.items() if count > 1]
        if twice:
            raise PlanError(f"the plan computes {twice[0]} twice; list each value once")
        missing = [value for value in wanted if value not in self.stage_of]
        extra = [value for value in self.stage_of if value not in wanted]
        if missing or extra:
            raise PlanError(
                "the plan is not of this network: "
                + ", ".join(
                    [
                        *(f"no stage computes {v}" for v in missing),
                        *(f"the network has no {v}" for v in extra),
                    ]
                )
                + "; compile without --plan to make a new one"
            )

    def _check_borders(self) -> None:
        channels = {port.name: self.graph.shape(port.value).channels for port in self.graph.inputs}
        for name, lanes in self.plan.lanes_in.items():
            if name not in channels:
                raise PlanError(
                    f"the plan has an input {name}, which the network does not have; its inputs "
                    f"are {', '.join(channels)}"
                )
            if lanes > channels[name]:
                raise PlanError(
                    f"input {name}: {lanes} elements a beat, but it has {channels[name]} channels; "
                    f"choose 1 to {channels[name]}"
                )

    def _check_streams(self) -> None:
        """Each stage takes what earlier stages give, or delays what any stage gives."""
        known = {port.value for port in self.graph.inputs}
        given = {port.value for d in self.designs.values() for port in d.ports.outputs} | known
        for name, design in self.designs.items():
            there = given if design.delaying else known
            for port in design.ports.inputs:
                self._check_known(self.root(port.value), there, f"stage {name}")
            known |= {port.value for port in design.ports.outputs}
        for output in self.graph.outputs:
            self._check_known(self.root(output.value), known, f"the output {output.name}")

    def _check_known(self, value: str, known: set[str], taker: str) -> None:
        if value in known:
            return
        source = self.stage_of[value]
        if any(port.value == value for port in self.designs[source.name].ports.outputs):
            raise PlanError(
                f"{taker} stands before {source.name}, whose output it takes; list the "
                "stages of the plan in the order in which data passes them"
            )
        raise PlanError(
            f"{taker} takes {value}, which stage {source.name} uses only within; give its "
            "operators stages of their own"
        )

    def _check_queues(self) -> None:
        inputs = {
            (name, n)
            for name, design in self.designs.items()
            for n in range(len(design.ports.inputs))
        }
        for name, index in self.plan.queues:
            if (name, index) not in inputs:
                raise PlanError(
                    f"a queue stands before input {index} of stage {name}, which the "
                    "network does not have"
                )
        outputs = {port.name for port in self.graph.outputs}
        for name in self.plan.output_queues:
            if name not in outputs:
                raise PlanError(
                    f"a queue stands before the output {name}, which the network does not have; "
                    f"its outputs are {', '.join(sorted(outputs))}"
                )

    def _check_sites(self) -> None:
        taken: dict[int, str] = {}
        for stage in self.plan.stages:
            if stage.site is None:
                continue
            blocks = self.designs[stage.name].blocks(stage.dsp_multipliers)
            for site in range(stage.site, stage.site + blocks):
                if site in taken:
                    raise PlanError(
                        f"stage {stage.name}: its DSP blocks begin at site "
                        f"{stage.site}, but site {site} is taken by stage "
                        f"{taken[site]}; choose another, or leave it out"
                    )
                taken[site] = stage.name

    def check_multipliers(self) -> None:
        """Raises PlanError where a plan puts more multipliers into DSP blocks than a stage has."""
        for stage in self.plan.stages:
            most = self.designs[stage.name].multipliers
            if stage.dsp_multipliers > most:
                raise PlanError(
                    f"stage {stage.name}: dsp_multipliers is {stage.dsp_multipliers}, but the "
                    f"stage has {most} multipliers; choose 0 to {most}"
                )

    def root(self, value: str) -> str:
        """The value whose stream carries ``value``: itself, or the one it reshapes."""
        while value in self._alias:
            value = self._alias[value]
        return value

    @cached_property
    def edges(self) -> tuple[Edge, ...]:
        """All streams, in the order of the stages that take them; the outputs' last."""
        between = [
            self._edge(
                port.value,
                name,
                index,
                port.lanes,
                self.plan.queues.get((name, index), 0),
                joined=len(design.ports.inputs) > 1 and not design.delaying,
                in_turn=bool(design.buffering.turns),
            )
            for name, design in self.designs.items()
            for index, port in enumerate(design.ports.inputs)
        ]
        leaving = [
            self._edge(
                self.root(port.value),
                None,
                index,
                self._lanes(self.root(port.value)),
                self.plan.output_queues.get(port.name, 0),
            )
            for index, port in enumerate(self.graph.outputs)
        ]
        return (*between, *leaving)

    def _edge(
        self,
        name: str,
        sink: str | None,
        index: int,
        lanes_in: int,
        pixels: int,
        *,
        joined: bool = False,
        in_turn: bool = False,
    ) -> Edge:
        """The stream that carries value ``name`` to a sink, through a queue of ``pixels``."""
        value = self.root(name)
        stage, output = self._sources[value]
        lanes_out = self._lanes(value)
        source, there = self.graph.shape(value), self.graph.shape(name)
        return Edge(
            stage,
            output,
            sink,
            index,
            value,
            lanes_out,
            lanes_in,
            source.channels,
            there.channels,
            there.pixels,
            pixels,
            self._takers[value] > 1,
            joined,
            in_turn,
            stage is None or self.designs[stage].bursting,
        )

    def _lanes(self, value: str) -> int:
        """Elements a beat of the stream of a value."""
        stage, output = self._sources[value]
        if stage is None:
            return self.plan.lanes_in.get(self.graph.inputs[output].name, 1)
        return self.designs[stage].ports.outputs[output].lanes

    @property
    def sources(self) -> list[tuple[str | None, int]]:
        """Where streams begin, in flow order: a stage and which of its outputs; for the network's
        inputs None and their number.
        """
        return list(self._sources.values())

    def producer(self, value: str) -> str | None:
        """The stage that the stream of a value leaves; None for an input of the network."""
        return self._sources[value][0]

    @cached_property
    def _sources(self) -> dict[str, tuple[str | None, int]]:
        """The source of the stream of each value."""
        found: dict[str, tuple[str | None, int]] = {
            port.value: (None, n) for n, port in enumerate(self.graph.inputs)
        }
        for name, design in self.designs.items():
            found |= {port.value: (name, n) for n, port in enumerate(design.ports.outputs)}
        return found

    @cached_property
    def _takers(self) -> Counter[str]:
        """How many stage inputs and network outputs take each stream."""
        inputs = (port.value for d in self.designs.values() for port in d.ports.inputs)
        outputs = (port.value for port in self.graph.outputs)
        return Counter(self.root(value) for value in (*inputs, *outputs))

    @cached_property
    def edges_into(self) -> Mapping[str | None, list[Edge]]:
        """The streams into each stage (None: into the network's outputs), by input."""
        found: dict[str | None, list[Edge]] = {name: [] for name in (*self.designs, None)}
        for edge in self.edges:
            found[edge.sink].append(edge)
        return found

    @cached_property
    def inputs(self) -> tuple[NetworkPort, ...]:
        """The network's inputs, in the model's order."""
        return tuple(
            self._network_port(port.name, port.value, self._lanes(port.value))
            for port in self.graph.inputs
        )

    @cached_property
    def outputs(self) -> tuple[NetworkPort, ...]:
        """The network's outputs, in the model's order."""
        return tuple(
            self._network_port(port.name, edge.value, edge.lanes_out)
            for port, edge in zip(self.graph.outputs, self.edges_into[None], strict=True)
        )

    def _network_port(self, name: str, value: str, lanes: int) -> NetworkPort:
        shape = self.graph.shape(value)
        return NetworkPort(name, value, lanes, shape.pixels * ceil(shape.channels / lanes))

    # Cost

    @cached_property
    def interval(self) -> int:
        """Cycles from frame to frame: those of the slowest stage, converter or border."""
        return max(
            [d.cycles() for d in self.designs.values()]
            + [edge.cycles() for edge in self.edges if edge.converts]
            + [port.beats for port in (*self.inputs, *self.outputs)]
        )

    @cached_property
    def resources(self) -> Resources:
        """An estimate of everything, queues and converters included."""
        return total([*(d.resources(self.device) for d in self.designs.values()), self._streams])

    @property
    def outside_stages(self) -> Resources:
        """What counts against a plan's budget and is no stage's."""
        return self._streams + self._held

    @cached_property
    def _streams(self) -> Resources:
        """Register slices, width converters and queues between the stages."""
        parts: list[Resources] = []
        target = self.device.target
        for edge in self.edges:
            element = hw_shape(self.graph.quant(edge.value).dtype)
            leaving = hw.RegisterSlice.estimate(edge.lanes_out * element.width, target)
            parts.append(leaving * (1 + edge.sliced))
            if edge.joined:
                parts.append(hw.RegisterSlice.estimate(edge.lanes_in * element.width, target))
            for conversion in edge.conversions(element):
                parts += [
                    conversion.resources(),
                    hw.RegisterSlice.estimate(conversion.lanes_out * element.width, target),
                ]
            if edge.depth:
                width = edge.queue_lanes * element.width
                parts.append(hw.Fifo.estimate(edge.depth, width, target))
        return total(parts)

    @property
    def budgeted(self) -> Resources:
        """What counts against a plan's budget: the accelerator, and what its link needs more than
        :func:`.resources.link`.
        """
        return self.resources + self._held

    @property
    def linked(self) -> Resources:
        """The same with the link to the host, as :mod:`gatewright.boards` builds it."""
        least = link(self.device)
        if self.buffered:
            return self.budgeted + replace(least, bram=self._frame.bram - self._held.bram)
        return self.budgeted + least

    @property
    def buffered(self) -> bool:
        """Whether block RAM is left for the link to hold a whole frame either way, and a little
        more: placement gets slower and its clock lower where nearly all are taken.
        """
        most = _BUFFERED_SHARE * self.device.bram
        return self.resources.bram + self._frame.bram <= most

    @property
    def _frame(self) -> Resources:
        """Block RAM for a frame's beats in and out."""
        queues = [self._frame_queue(port) for port in (*self.inputs, *self.outputs)]
        return Resources(bram=total(queues).bram)

    @cached_property
    def _held(self) -> Resources:
        """What the link needs more than :func:`.resources.link`: block RAMs for beats of more than
        a byte; where there are several inputs, or several outputs, a queue of a whole frame and a
        register slice for each.
        """
        beats = [self._width(way[0]) for way in (self.inputs, self.outputs) if len(way) == 1]
        wide = link(self.device, beats).bram - link(self.device, [8] * len(beats)).bram
        ports = [port for way in (self.inputs, self.outputs) if len(way) > 1 for port in way]
        slices = [
            hw.RegisterSlice.estimate(self._width(port), self.device.target) for port in ports
        ]
        queues = [self._frame_queue(port) for port in ports]
        return total([*slices, *queues, Resources(bram=max(0, wide))])

    def _frame_queue(self, port: NetworkPort) -> Resources:
        return hw.Fifo.estimate(port.beats, self._width(port), self.device.target)

    def _width(self, port: NetworkPort) -> int:
        """Data bits of a beat."""
        return port.lanes * self.graph.quant(port.value).dtype.bits

    @property
    def multipliers(self) -> int:
        return sum(d.multipliers for d in self.designs.values())

    @property
    def products_per_cycle(self) -> int:
        """Products that all multipliers give in a cycle."""
        return sum(d.products_per_cycle for d in self.designs.values())

    @property
    def device_multipliers(self) -> int:
        """Products a cycle that all of the device's blocks give: of integers of the usual width, or
        of the stage that gets the most from a block.
        """
        most = max((d.products_per_block for d in self.designs.values()), default=0)
        return max(self.device.multipliers, int(self.device.dsp * most))

"""What each stage does while frames pass: computes, waits for its input, or waits to be taken from.

The bench counts handshakes at the ports of stages and queues, span by span of cycles, and
:func:`activity` makes of the counts what ``simulate.json`` says.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from ..compiler.emit import Names
from ..compiler.plan import latency
from ..compiler.plan.dataflow import Dataflow
from ..compiler.plan.streams import Edge

__all__ = [
    "NO_PROBES",
    "Counts",
    "Handshake",
    "Probes",
    "QueueProbe",
    "StageProbe",
    "activity",
    "probes",
]

#: spans in the recorded part of a run
SPANS = 240
#: intervals that are recorded after the first frame has left
INTERVALS = 3


@dataclass(frozen=True)
class Handshake:
    """The two signals of a stream: paths below the top module."""

    valid: str
    ready: str


@dataclass(frozen=True)
class StageProbe:
    """The streams of a stage; it computes ``cycles_per_beat`` for each beat of its first output."""

    name: str
    inputs: tuple[Handshake, ...]
    outputs: tuple[Handshake, ...]
    cycles_per_beat: float


@dataclass(frozen=True)
class QueueProbe:
    """A queue of ``depth`` beats before input ``index`` of a stage, or before an output of the
    network (``stage`` None).
    """

    stage: str | None
    index: int
    value: str
    depth: int
    into: Handshake
    out: Handshake


@dataclass(frozen=True)
class Probes:
    """What is recorded: ``spans`` lines of counts, each of ``span`` cycles, and one of the rest."""

    stages: tuple[StageProbe, ...] = ()
    queues: tuple[QueueProbe, ...] = ()
    span: int = 1
    spans: int = 0


NO_PROBES = Probes()


@dataclass(frozen=True)
class Counts:
    """What the bench wrote, span by span; the last line is the rest of the run.

    ``stages``: beats out, cycles with an output that waits, cycles with an input that waits.
    ``queues``: the most beats, and the sum of the beats over the cycles.
    """

    stages: tuple[tuple[tuple[int, ...], ...], ...] = ()
    queues: tuple[tuple[tuple[int, ...], ...], ...] = ()

    @classmethod
    def read(cls, folder: Path, probes: Probes) -> "Counts":
        """The counts that a run left in ``folder``."""

        def lines(name: str) -> tuple[tuple[int, ...], ...]:
            text = (folder / f"{name}.counts").read_text()
            return tuple(tuple(map(int, line.split())) for line in text.splitlines())

        return cls(
            tuple(lines(f"probe_{at}") for at in range(len(probes.stages))),
            tuple(lines(f"level_{at}") for at in range(len(probes.queues))),
        )


def probes(network: Dataflow, stall: float, names: Names) -> Probes:
    """Probes of all stages and queues; they record until some frames have left, where a port
    stalls in a cycle with the chance ``stall``.
    """

    def handshake(part: str, signal: Names) -> Handshake:
        valid, ready = (names(f"{part}.{signal(name)}") for name in ("valid", "ready"))
        return Handshake(valid, ready)

    def queue(edge: Edge) -> QueueProbe:
        part = f"{edge.sink or 'output'}_{edge.index}_queue"
        into, out = (handshake(part, f"{way}__{{}}".format) for way in "io")
        return QueueProbe(edge.sink, edge.index, edge.value, edge.depth, into, out)

    stages = tuple(
        StageProbe(
            name,
            tuple(handshake(name, port.signal) for port in design.ports.inputs),
            tuple(handshake(name, port.signal) for port in design.ports.outputs),
            design.cycles() / _beats(network, name),
        )
        for name, design in network.designs.items()
    )
    queues = tuple(queue(edge) for edge in network.edges if edge.depth)
    cycles = (latency(network) + INTERVALS * network.interval) / (1 - stall)
    return Probes(stages, queues, ceil(cycles / SPANS), SPANS)


def _beats(network: Dataflow, stage: str) -> int:
    """Beats of a frame at a stage's first output."""
    port = network.designs[stage].ports.outputs[0]
    shape = network.graph.shape(port.value)
    return shape.pixels * ceil(shape.channels / port.lanes)


def activity(
    probes: Probes, counts: Counts, cycles: int, marks: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The key ``activity`` of ``simulate.json`` for a run of that many ``cycles``; None where
    nothing was counted. ``marks`` are its moments.
    """
    if not counts.stages:
        return None
    # The bench counts in the cycle that ends the run as well, which may complete a span.
    recorded = len(counts.stages[0]) - 1
    lengths = [probes.span] * recorded + [max(0, cycles - recorded * probes.span)]
    return {
        "span": probes.span,
        "spans": recorded,
        "cycles": cycles,
        **marks,
        "stages": [
            _stage(stage, lines, lengths)
            for stage, lines in zip(probes.stages, counts.stages, strict=True)
        ],
        "queues": [
            _level(queue, lines, cycles)
            for queue, lines in zip(probes.queues, counts.queues, strict=True)
        ],
    }


def _stage(
    probe: StageProbe, lines: Sequence[Sequence[int]], lengths: Sequence[int]
) -> dict[str, Any]:
    """Cycles of each span that the stage computed, and waited to be taken from; the rest it waited
    for its input. The computation of a beat lies in the cycles before it leaves.
    """
    busy, owed = [0] * len(lines), 0.0
    for at in reversed(range(len(lines))):
        owed += lines[at][0] * probe.cycles_per_beat
        busy[at] = min(lengths[at], round(owed))
        owed = max(0.0, owed - busy[at])
    stalled = [
        min(length - b, line[1]) for length, b, line in zip(lengths, busy, lines, strict=True)
    ]
    return {
        "name": probe.name,
        "busy": busy[:-1],
        "stalled": stalled[:-1],
        "busy_cycles": sum(busy),
        "stalled_cycles": sum(stalled),
        "starved_cycles": sum(lengths) - sum(busy) - sum(stalled),
        "beats": sum(line[0] for line in lines),
        "output_waits": sum(line[1] for line in lines),
        "input_waits": sum(line[2] for line in lines),
    }


def _level(probe: QueueProbe, lines: Sequence[Sequence[int]], cycles: int) -> dict[str, Any]:
    return {
        "stage": probe.stage,
        "input": probe.index,
        "value": probe.value,
        "depth": probe.depth,
        "peak": max(line[0] for line in lines),
        "mean": round(sum(line[1] for line in lines) / max(1, cycles), 2),
        "peaks": [line[0] for line in lines[:-1]],
    }

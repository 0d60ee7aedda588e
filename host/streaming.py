"""Samples that come one by one through a board, real or emulated: each is answered at once."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boards import Board
from ..boards.link.driver import Host, open_port
from ..boards.link.run import check_ports, frame_beats, frame_values
from ..compiler import ir
from ..compiler.brief import Brief
from ..compiler.driver import Compiled
from ..compiler.progress import Progress, silent
from ..sim import golden
from ..sim.plausibility import InputRanges
from .on_board import classes, link_of, model_outputs, opened
from .sources import Sample

__all__ = ["Answer", "stream"]


@dataclass(frozen=True, eq=False, repr=False)
class Answer(Brief):
    """What a board made of the sample ``name``: the model's ``outputs`` by name, [*shape], host
    steps included, and the class where they are scores. ``mismatches``: values that differ from the
    golden model. ``cycles``: on the board; ``seconds``: from the sample to its answer.
    ``warnings``: of the samples up to this one, where they do not fit the calibration.
    """

    name: str
    outputs: dict[str, NDArray[np.generic]]
    winner: int | None
    mismatches: int
    cycles: int
    seconds: float
    warnings: list[str]

    def facts(self) -> dict[str, object]:
        winner = {} if self.winner is None else {"class": self.winner}
        return {"sample": self.name, **winner, "differing values": self.mismatches}

    @property
    def summary(self) -> dict[str, Any]:
        """A line of ``gatewright run --stream --json``."""
        return {
            "sample": self.name,
            "class": self.winner,
            "mismatches": self.mismatches,
            "latency_cycles": self.cycles,
            "seconds": self.seconds,
            "outputs": {name: output.tolist() for name, output in self.outputs.items()},
            "warnings": self.warnings,
        }


def stream(
    compiled: Compiled,
    board: Board,
    samples: Iterable[Sample],
    port: str | None = None,
    progress: Progress = silent,
) -> Iterator[Answer]:
    """Run each of ``samples`` on the ``board`` when it comes, after a reset of what a network keeps
    between frames, and compare with the golden model.

    ``port``: as of :func:`.on_board.run`. Raises ``LinkError``, and ``DataError`` where there is no
    bitstream for a real board.
    """
    graph, network = compiled.graph, compiled.network
    config, ranges = link_of(compiled, board), InputRanges(compiled.graph)
    with opened(compiled, board, config, port, progress) as (name, patience):
        check_ports(compiled, config)
        with Host(open_port(name, config.baud), config, patience) as host:
            host.ping()
            if graph.keeps:
                host.reset()
            progress("waiting for samples")
            for sample in samples:
                began = time.monotonic()
                given = compiled.before(sample.x[None])
                inside = compiled.inside(given)
                ranges.add(inside)
                raw = golden.host_input(graph, inside)
                beats = frame_beats(network, {name: frames[0] for name, frames in raw.items()})
                result = host.run(beats)
                values = golden.run(graph, raw)
                seen = {k: v[None] for k, v in frame_values(network, result.beats).items()}
                outputs = model_outputs(compiled, given, values, seen)
                winners = classes(outputs)
                yield Answer(
                    sample.name,
                    {name: output[0] for name, output in outputs.items()},
                    None if winners is None else int(winners[0]),
                    sum(
                        int((values[sink.value] != seen[sink.name]).sum())
                        for sink in network.outputs
                    ),
                    result.cycles,
                    time.monotonic() - began,
                    ranges.warnings(),
                )
                graph = _continued(graph, values)


def _continued(graph: ir.Graph, values: dict[str, NDArray[np.int64]]) -> ir.Graph:
    """The graph whose states begin with what the only frame in ``values`` left in them."""
    if not graph.keeps:
        return graph
    return replace(
        graph,
        ops=tuple(
            replace(op, initial=graph.quant(op.output).dequantize(values[op.inputs[0]][0]))
            if isinstance(op, ir.FrameDelay)
            else op
            for op in graph.ops
        ),
    )

"""The run step: samples through a real board."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ...compiler import ir
from ...compiler.driver import Compiled
from ...compiler.errors import DataError
from ...compiler.ir.feeds import count, take
from ...compiler.plan import Dataflow
from ...compiler.progress import Progress
from .driver import PATIENCE, Host, LinkError, open_port
from .protocol import LinkConfig

__all__ = ["Measured", "check_ports", "frame_beats", "frame_values", "measure", "run_on_board"]

_BATCH_SECONDS = 1.0


@dataclass(frozen=True, eq=False)
class Measured:
    """Frames that ran on a board.

    ``values``: the frames of each output's stream. ``cycles``: for each frame, from its first beat
    in to its last beat out, counted on the board. ``first_seconds``: from sending the first frame
    to its result. ``seconds``: all frames. ``batched``: how many were sent without waiting for the
    answer to the one before.
    """

    values: dict[str, NDArray[np.int64]]
    cycles: list[int]
    first_seconds: float
    seconds: float
    batched: int


def run_on_board(
    compiled: Compiled,
    config: LinkConfig,
    port: str,
    frames: ir.Feeds,
    progress: Progress,
    patience: float = PATIENCE,
) -> Measured:
    """Run raw ``frames`` [n, h, w, c] of each input, by name, on the board at serial ``port``.

    The first frame goes alone; its cycles say how to send the others back to back. Where that fails
    they are sent one by one. The frames of a network that keeps states follow a reset, one by one,
    because a frame can not be sent a second time. Raises :class:`.driver.LinkError`.
    """
    check_ports(compiled, config)
    with Host(open_port(port, config.baud), config, patience) as host:
        return measure(compiled, host, frames, progress)


def measure(compiled: Compiled, host: Host, frames: ir.Feeds, progress: Progress) -> Measured:
    """:func:`run_on_board` at an open port."""
    network, total = compiled.network, count(frames)
    keeps = network.graph.keeps
    host.ping()
    if keeps:
        host.reset()

    def report(before: int, more: int = 0) -> None:
        done = before + more
        progress(f"{done} of {total} frames on the board", done / total)

    report(0)
    started = time.monotonic()
    results = [host.run(frame_beats(network, take(frames, 0)))]
    first = time.monotonic() - started
    size, batched = 1 if keeps else _batch_size(host.config), 0
    while len(results) < total:
        done = len(results)
        report(done)
        here = range(done, min(total, done + size))
        beats = [frame_beats(network, take(frames, n)) for n in here]
        if size > 1:
            try:
                longest = max(result.cycles for result in results)
                results += host.run_batch(beats, longest, partial(report, done))
                batched += len(beats)
                continue
            except LinkError:
                size = 1  # slower, and each frame is looked at by itself
        results.append(host.run(beats[0]))
    seconds = time.monotonic() - started
    report(total)
    values = [frame_values(network, result.beats) for result in results]
    return Measured(
        {sink.name: np.stack([one[sink.name] for one in values]) for sink in network.outputs},
        [result.cycles for result in results],
        first,
        seconds,
        batched,
    )


def _batch_size(config: LinkConfig) -> int:
    """Frames that take about a second on the line, so that progress shows."""
    each = 10 * (config.request_bytes + config.reply_bytes) / config.baud
    return min(256, max(2, int(_BATCH_SECONDS / each)))


def check_ports(compiled: Compiled, config: LinkConfig) -> None:
    """Raises DataError where the bitstream has other ports than the network."""
    for built, ports in (
        (config.inputs, compiled.network.inputs),
        (config.outputs, compiled.network.outputs),
    ):
        if [(p.name, p.beats) for p in built] != [(p.name, p.beats) for p in ports]:
            here, there = (", ".join(p.name for p in each) for each in (built, ports))
            raise DataError(
                f"{compiled.directory}: build.json has the ports {here}, the network has {there}; "
                "run `gatewright build` again"
            )


def frame_beats(
    network: Dataflow, frame: Mapping[str, NDArray[np.integer]]
) -> dict[str, list[int]]:
    """The beats of one frame [h, w, c] of each input, by name."""
    return {
        source.name: _to_beats(
            frame[source.name], source.lanes, network.graph.quant(source.value).dtype.bits
        )
        for source in network.inputs
    }


def frame_values(
    network: Dataflow, beats: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[np.int64]]:
    """The frame [h, w, c] of each output's stream, by name, that ``beats`` hold."""
    graph = network.graph
    return {
        sink.name: _from_beats(
            beats[sink.name], graph.shape(sink.value), sink.lanes, graph.quant(sink.value).dtype
        )
        for sink in network.outputs
    }


def _to_beats(pixels: NDArray[np.integer], lanes: int, bits: int) -> list[int]:
    """A frame [h, w, c] as integers, one a beat, element j at bits ``j * bits``."""
    height, width, channels = pixels.shape
    padded = np.zeros((height * width, -(-channels // lanes) * lanes), np.int64)
    padded[:, :channels] = pixels.reshape(-1, channels)
    mask = (1 << bits) - 1
    return [
        sum((int(value) & mask) << (j * bits) for j, value in enumerate(beat))
        for beat in padded.reshape(-1, lanes)
    ]


def _from_beats(
    beats: tuple[int, ...], shape: ir.Shape, lanes: int, dtype: ir.Int
) -> NDArray[np.int64]:
    """The frame [h, w, c] that ``beats`` hold."""
    mask = (1 << dtype.bits) - 1
    elements = np.array(
        [[beat >> (j * dtype.bits) & mask for j in range(lanes)] for beat in beats], np.int64
    )
    if dtype.signed:
        elements = np.where(elements > dtype.high, elements - (1 << dtype.bits), elements)
    return elements.reshape(shape.pixels, -1)[:, : shape.channels].reshape(shape.array)

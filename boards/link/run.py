"""The run step: samples through a real board."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiler import ir
from ...compiler.driver import Compiled
from ...compiler.errors import DataError
from ...compiler.ir.feeds import count, take
from ...compiler.plan import Dataflow
from ...compiler.progress import Progress
from .driver import Host, open_port
from .protocol import LinkConfig, link_config

__all__ = ["frame_beats", "frame_values", "run_on_board"]


def run_on_board(
    compiled: Compiled,
    built: Mapping[str, Any],
    port: str,
    frames: ir.Feeds,
    progress: Progress,
) -> tuple[dict[str, NDArray[np.int64]], list[int]]:
    """Run raw ``frames`` [n, h, w, c] of each input, by name, on the board at serial ``port``.

    ``built`` is the content of ``build.json``. Returns the frames of each output's stream and, for
    each frame, the cycles from its first beat in to its last beat out, counted on the board. Raises
    :class:`.driver.LinkError`.
    """
    network, total = compiled.network, count(frames)
    outputs: dict[str, list[NDArray[np.int64]]] = {sink.name: [] for sink in network.outputs}
    cycles = []
    config = link_config(compiled.directory / "build.json", built)
    _check_ports(compiled, config)
    with Host(open_port(port, config.baud), config) as host:
        host.ping()
        for n in range(total):
            progress(f"frame {n + 1} of {total}", n / total)
            answer = host.run(frame_beats(network, take(frames, n)))
            for name, frame in frame_values(network, answer.beats).items():
                outputs[name].append(frame)
            cycles.append(answer.cycles)
    return {name: np.stack(each) for name, each in outputs.items()}, cycles


def _check_ports(compiled: Compiled, config: LinkConfig) -> None:
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

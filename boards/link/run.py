"""The run step: samples through a real board."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...compiler import ir
from ...compiler.driver import Compiled
from .driver import Host, open_port
from .protocol import link_config

__all__ = ["run_on_board"]


def run_on_board(
    compiled: Compiled,
    built: Mapping[str, Any],
    port: str,
    frames: NDArray[np.integer],
    progress: Callable[[str, float | None], None],
) -> tuple[NDArray[np.int64], list[int]]:
    """Run raw ``frames`` [n, h, w, c] on the board at serial ``port``.

    ``built`` is the content of ``build.json``. Returns the output frames and, for each, the cycles
    from its first beat in to its last beat out, counted on the board. Raises
    :class:`.host.LinkError`.
    """
    graph, network = compiled.graph, compiled.network
    (source,), (last,) = network.inputs, network.outputs
    bits = graph.quant(source.value).dtype.bits
    outputs, cycles = [], []
    config = link_config(compiled.directory / "build.json", built)
    with Host(open_port(port, config.baud), config) as host:
        host.ping()
        for n, frame in enumerate(frames):
            progress(f"frame {n + 1} of {len(frames)}", n / len(frames))
            answer = host.run(_to_beats(frame, source.lanes, bits))
            outputs.append(
                _from_beats(
                    answer.beats,
                    graph.shape(last.value),
                    last.lanes,
                    graph.quant(last.value).dtype,
                )
            )
            cycles.append(answer.cycles)
    return np.stack(outputs), cycles


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

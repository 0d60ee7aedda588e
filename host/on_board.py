"""Samples through a board, real or emulated, and what came of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..boards import Board
from ..boards.link.design import CompiledDesign
from ..boards.link.driver import PATIENCE
from ..boards.link.emulate import EmulatedBoard, Faults
from ..boards.link.ports import find_port
from ..boards.link.protocol import LinkConfig, link_config
from ..boards.link.run import run_on_board
from ..boards.link.verilated import Timing, compile_board
from ..compiler import ir
from ..compiler.brief import Brief
from ..compiler.data import Samples, class_numbers
from ..compiler.driver import Compiled
from ..compiler.errors import DataError
from ..compiler.ir.feeds import count, take
from ..compiler.progress import Progress, silent
from ..compiler.report.summary import read_summary
from ..sim import golden
from ..sim.plausibility import InputRanges

__all__ = [
    "EMULATE",
    "OnBoard",
    "bitstream",
    "classes",
    "emulated",
    "link_of",
    "model_outputs",
    "opened",
    "run",
]

EMULATE = "emulate"
"""The port that stands for a board which is emulated for the time of a run."""

#: frames that the golden model computes at a time
_BATCH = 32
_EMULATED_PATIENCE = 600.0
_TERMINALS = "/dev/pts/"


@dataclass(frozen=True, eq=False, repr=False)
class OnBoard(Brief):
    """What ran on a board: the model's ``outputs`` by name, [frames, *shape], host steps included,
    and the ``summary`` that ``gatewright run --json`` prints.
    """

    outputs: dict[str, NDArray[np.generic]]
    summary: dict[str, Any]

    def facts(self) -> dict[str, object]:
        found = self.summary
        right = {} if found["top1"] is None else {"right": f"{found['top1']:.2%}"}
        return {
            "how": found["how"],
            "frames": found["frames"],
            "differing values": found["mismatches"],
            "rate": f"{found['frames_per_second']:,.1f} frames/s",
            **right,
        }


def run(
    compiled: Compiled,
    board: Board,
    samples: Samples,
    port: str | None = None,
    frames: int | None = None,
    progress: Progress = silent,
) -> OnBoard:
    """Run samples on the ``board`` at serial ``port`` and compare with the golden model.

    ``port``: None looks for the one board that is plugged in, :data:`EMULATE` emulates it. Raises
    ``LinkError``, and ``DataError`` where there is no bitstream for a real board.
    """
    given = ir.feeds(compiled.ports, samples.x)
    labels = class_numbers(samples)
    given = compiled.before(take(given, slice(frames)))
    ranges = InputRanges(compiled.graph)
    ranges.add(compiled.inside(given))
    raw = golden.host_input(compiled.graph, compiled.inside(given))
    config = link_of(compiled, board)
    with opened(compiled, board, config, port, progress) as (name, patience):
        seen = run_on_board(compiled, config, name, raw, progress, patience)
    values = _expected(compiled, raw, progress)
    pairs = [
        (values[output.value], seen.values[output.name]) for output in compiled.network.outputs
    ]
    outputs = model_outputs(compiled, given, values, seen.values)
    total = len(seen.cycles)
    winners = classes(outputs)
    summary = {
        "frames": total,
        "values": sum(expected.size for expected, _ in pairs),
        "mismatches": sum(int((expected != found).sum()) for expected, found in pairs),
        "latency_cycles": seen.cycles,
        "how": "emulated" if patience != PATIENCE else "measured",
        "port": name,
        "classes": None if winners is None else winners.tolist(),
        "top1": None,
        "right": None,
        "frames_per_second": total / seen.seconds,
        "frame_ms": 1e3 * seen.first_seconds,
        "compute_ms": 1e3 * max(seen.cycles) / config.clock_hz,
        "baud": config.baud,
        "link_frames_per_second": config.frames_per_second(max(seen.cycles)),
        "back_to_back": seen.batched,
        "warnings": ranges.warnings(),
    }
    if labels is not None and winners is not None:
        right = int((winners == labels[:total]).sum())
        summary |= {"top1": right / total, "right": right}
    return OnBoard(outputs, summary)


def _expected(
    compiled: Compiled, raw: ir.Feeds, progress: Progress
) -> dict[str, NDArray[np.int64]]:
    """The golden model's values at the outputs of the hardware, by value."""
    graph, total = compiled.graph, count(raw)
    names = {port.value for port in graph.outputs}
    names |= {port.value for port in compiled.network.outputs}
    size = total if graph.keeps else _BATCH
    parts = []
    for start in range(0, total, size):
        progress(f"{start} of {total} frames by the golden model", start / total)
        values = golden.run(graph, take(raw, slice(start, start + size)))
        parts.append({name: values[name] for name in names})
    progress(f"{total} of {total} frames by the golden model", 1.0)
    return {name: np.concatenate([part[name] for part in parts]) for name in names}


def model_outputs(
    compiled: Compiled,
    given: ir.Feeds,
    values: dict[str, NDArray[np.int64]],
    seen: ir.Feeds,
) -> dict[str, NDArray[np.generic]]:
    """The model's outputs by name, [frames, *shape], host steps included, of the output streams
    ``seen`` by name. ``given`` is what :meth:`.Compiled.before` gave, ``values`` are the golden
    model's.
    """
    streams = {
        port.value: seen[port.name].reshape(values[port.value].shape)
        for port in compiled.graph.outputs
    }
    return compiled.after(given, golden.host_output(compiled.graph, values | streams))


def classes(outputs: dict[str, NDArray[np.generic]]) -> NDArray[np.int64] | None:
    """The class of each frame: the place of the largest of a lone output's scores, or its only
    value where that is a whole number; None for other outputs.
    """
    if len(outputs) != 1:
        return None
    (lone,) = outputs.values()
    flat = lone.reshape(len(lone), -1)
    if flat.shape[1] == 1:
        return flat[:, 0].astype(np.int64) if flat.dtype.kind in "iu" else None
    if max(lone.shape[1:]) == flat.shape[1]:
        best: NDArray[np.int64] = np.argmax(flat, axis=1)
        return best
    return None


def bitstream(directory: Path) -> Path:
    """The bitstream in a compiled directory; raises ``DataError`` where there is none."""
    built = read_summary(directory, "build") if (directory / "build.json").exists() else {}
    name = built.get("bitstream")
    if not isinstance(name, str):
        raise DataError(
            f"{directory}: holds no bitstream; run `gatewright build {directory}` first"
        )
    return directory / name


def link_of(compiled: Compiled, board: Board) -> LinkConfig:
    """The link of the bitstream in the directory or, before there is one, the one that a build at
    the board's usual clock would get.
    """
    directory = compiled.directory
    if (directory / "build.json").exists():
        return link_config(directory / "build.json", read_summary(directory, "build"))
    design = CompiledDesign(directory)
    return design.link(
        clock_hz=round(board.target_mhz * 1e6),
        link_hz=0,
        baud=board.uart_baud,
        buffered=design.buffer_planned,
    )


@contextmanager
def emulated(
    compiled: Compiled,
    board: Board,
    *,
    timing: str = Timing.FAST,
    faults: str = "",
    progress: Progress = silent,
) -> Iterator[EmulatedBoard]:
    """The compiled network on an emulated ``board``; its ``port`` is a pseudo-terminal.

    ``timing``: "fast", or "exact" with the bits of the bitstream. ``faults``: as in
    ``noise=0.001,loss=1e-4``, see :class:`.Faults`.
    """
    wrong = Faults.parse(faults)
    chip = compile_board(compiled, link_of(compiled, board), Timing(timing), progress)
    with EmulatedBoard(chip, wrong) as running:
        yield running


@contextmanager
def opened(
    compiled: Compiled, board: Board, config: LinkConfig, port: str | None, progress: Progress
) -> Iterator[tuple[str, float]]:
    """The port's name, and the seconds to wait for its answers; ``port`` as of :func:`run`."""
    if port == EMULATE:
        with emulated(compiled, board, progress=progress) as running:
            yield running.port, _EMULATED_PATIENCE
    else:
        if port is None:
            bitstream(compiled.directory)
        name = port or find_port(board)
        slow = str(Path(name).resolve()).startswith(_TERMINALS)
        if not slow:
            bitstream(compiled.directory)
        yield name, _EMULATED_PATIENCE if slow else PATIENCE

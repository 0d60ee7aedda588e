"""The steps of the command line as functions."""

from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import boards, on_board
from .boards.flow.build import BuildResult
from .boards.flow.build import build as _build
from .boards.flow.flash import flash as _flash
from .boards.link.emulate import EmulatedBoard
from .compiler import ir
from .compiler.data import Samples
from .compiler.driver import Compiled, compile_model
from .compiler.frontend import load as _load
from .compiler.plan import Dataflow, Goal, make_dataflow
from .compiler.quantize import DEFAULT_BITS, Policy, Rounding, equalized
from .compiler.quantize import quantize as _quantize
from .on_board import OnBoard
from .sim.simulate import Simulated
from .sim.simulate import simulate as _simulate

__all__ = [
    "build",
    "compile",
    "emulate",
    "flash",
    "load",
    "plan",
    "quantize",
    "run",
    "simulate",
]


def load(path: str | Path) -> ir.Graph:
    """The network in an ONNX file, float or QDQ; :class:`~.errors.ModelError` when it can not be
    had.
    """
    return _load(Path(path))


def quantize(
    graph: ir.Graph,
    samples: NDArray[np.generic] | ir.Feeds,
    method: str = "mse",
    activation_bits: int = DEFAULT_BITS,
    weight_bits: int = DEFAULT_BITS,
    rounding: str = "auto",
    equalize: bool = False,
) -> ir.Graph:
    """The integer network of a float one, calibrated on ``samples``: an array
    [n, *input shape] for each input, by name, or that of a lone input.

    Activations have 1 to 16 bits, weights 2 to 16. ``rounding``: "auto", "nearest" or
    "compensated". ``equalize``: divide channels where that lowers the error.
    """
    if graph.quantized:
        return graph
    policy = Policy(activation_bits, weight_bits)
    if equalize:
        graph = equalized(graph, samples, method, policy).graph
    return _quantize(graph, samples, method=method, policy=policy, rounding=Rounding(rounding))


def plan(
    graph: ir.Graph, board: str, goal: str = "balanced", interval: int | None = None
) -> Dataflow:
    """A quantized network folded for a board: ``.plan``, ``.interval``, ``.resources``,
    ``.designs``.

    ``goal``: "balanced", "latency", "area", or "fps" with the ``interval`` in cycles that suffices.
    """
    device = boards.get(board).device
    return make_dataflow(graph, device, board, Goal(goal, interval))


def compile(
    model: str | Path,
    out: str | Path,
    *,
    board: str,
    samples: NDArray[np.generic] | ir.Feeds | None = None,
    goal: str = "balanced",
    interval: int | None = None,
    method: str = "mse",
    activation_bits: int = DEFAULT_BITS,
    weight_bits: int = DEFAULT_BITS,
    rounding: str = "auto",
    equalize: bool = False,
    argmax: bool = False,
) -> Compiled:
    """Compile a model file into the directory ``out``, as ``gatewright compile`` does."""
    return compile_model(
        Path(model),
        Path(out),
        boards.get(board).device,
        board,
        samples=samples,
        goal=Goal(goal, interval),
        method=method,
        policy=Policy(activation_bits, weight_bits),
        rounding=Rounding(rounding),
        equalize=equalize,
        argmax=argmax,
    )


def simulate(
    compiled: Compiled,
    samples: NDArray[np.generic] | ir.Feeds,
    frames: int | None = None,
    *,
    stall: float = 0.0,
) -> Simulated:
    """Run the RTL on ``samples`` (an array [n, *input shape] for each input, by name, or that of a
    lone input) and compare all values with the golden model.
    """
    return _simulate(compiled, samples, frames, stall=stall)


def build(compiled: Compiled, mhz: float | None = None, *, seeds: int | None = None) -> BuildResult:
    """A bitstream whose timing is met, or :class:`~.errors.TimingError`."""
    return _build(compiled.directory, boards.get(compiled.plan.board), mhz, seeds=seeds)


def flash(compiled: Compiled, *, permanent: bool = False) -> None:
    """Load the bitstream into the board's chip or, if ``permanent``, into its flash memory;
    :class:`~.errors.ToolError` says what is missing.
    """
    board, file = boards.get(compiled.plan.board), on_board.bitstream(compiled.directory)
    _flash(board, file, compiled.directory / "flash.log", permanent=permanent)


def run(
    compiled: Compiled,
    samples: NDArray[np.generic] | ir.Feeds,
    port: str | None = None,
    frames: int | None = None,
    *,
    labels: NDArray[np.generic] | None = None,
) -> OnBoard:
    """Run ``samples`` on the board at serial ``port`` (None: look for it; "emulate": without one)
    and compare its outputs with the golden model.
    """
    board = boards.get(compiled.plan.board)
    return on_board.run(compiled, board, Samples(samples, labels), port, frames)


def emulate(
    compiled: Compiled, *, uart: str = "fast", faults: str = ""
) -> AbstractContextManager[EmulatedBoard]:
    """The compiled network on an emulated board, for a ``with`` statement: its ``port`` is a
    pseudo-terminal. See :func:`.on_board.emulated`.
    """
    board = boards.get(compiled.plan.board)
    return on_board.emulated(compiled, board, timing=uart, faults=faults)

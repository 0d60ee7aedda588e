"""The steps of the command line as functions.

What they return prints as a line, and in a notebook as a table; its ``summary``, where it has one,
is the content of the step's JSON file. Errors are :class:`~.errors.GatewrightError`.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from . import boards
from .boards.flow.build import BuildResult, build_fastest
from .boards.flow.build import build as _build
from .boards.flow.flash import flash as _flash
from .boards.link.emulate import EmulatedBoard
from .compiler import check as check_module
from .compiler import ir
from .compiler.data import Samples
from .compiler.driver import Compiled, Quantization, compile_model, open_compiled
from .compiler.frontend import load as _load
from .compiler.frontend.states import State, write_with_states
from .compiler.plan import Dataflow, Goal, make_dataflow
from .compiler.plan.explore import Point
from .compiler.plan.explore import explore as _explore
from .compiler.quantize import DEFAULT_BITS, Policy, Rounding, equalized
from .compiler.quantize import quantize as _quantize
from .compiler.report.html import write_report
from .host import on_board
from .host.on_board import OnBoard
from .host.sources import samples_from
from .host.streaming import Answer
from .host.streaming import stream as _stream
from .sim.accuracy import Accuracy
from .sim.accuracy import accuracy as _accuracy
from .sim.bench import BenchmarkResult
from .sim.bench import bench as _bench
from .sim.simulate import Simulated
from .sim.simulate import simulate as _simulate

__all__ = [
    "accuracy",
    "bench",
    "build",
    "check",
    "compile",
    "emulate",
    "explore",
    "flash",
    "load",
    "open",
    "plan",
    "quantize",
    "report",
    "run",
    "simulate",
    "stream",
    "with_states",
]

Array = NDArray[np.generic]


def check(
    model: str | Path, board: str | None = None, goal: str = "balanced"
) -> check_module.Checked:
    """What computes each node of a model file, and which boards it fits, before any work.

    ``board``: also plan it for this one; by default for the largest. ``.summary`` has ``nodes`` and
    ``boards``; ``.error`` says why the model can not be compiled, None when it can be.
    """
    known = boards.all_boards()
    chosen = max(known, key=lambda b: b.device.lut) if board is None else boards.get(board)
    return check_module.check(
        Path(model), known, chosen, goal_of=lambda _: Goal(goal), alone=board is not None
    )


def with_states(
    model: str | Path,
    target: str | Path,
    states: Mapping[str, str],
    initial: Mapping[str, NDArray[np.generic]] | None = None,
) -> Path:
    """Write the model to the file ``target`` with the states that hardware keeps: by an input's
    name the output of the frame before that it is. ``initial``: their values at a reset, zero where
    nothing is given. Returns ``target``, a model for all other functions.
    """
    kept = [State(source, sink) for source, sink in states.items()]
    write_with_states(Path(model), kept, Path(target), initial)
    return Path(target)


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
    graph: ir.Graph,
    board: str,
    goal: str = "balanced",
    interval: int | None = None,
    *,
    fast_inner_product: bool = True,
    minimal_filtering: bool = True,
) -> Dataflow:
    """A quantized network folded for a board: ``.plan``, ``.interval``, ``.resources`` (of the
    accelerator alone), ``.linked`` (with the link to the host, as ``compile`` counts them),
    ``.designs``.

    ``goal``: "balanced", "latency", "area", or "fps" with the ``interval`` in cycles that suffices.
    ``fast_inner_product``: stages may get two products from each multiplier;
    ``minimal_filtering``: two outputs of three taps from four products, or four of 3 x 3 taps from
    16.
    """
    wanted = Goal(goal, interval, fast_inner_product, minimal_filtering)
    return make_dataflow(graph, boards.get(board).device, board, wanted)


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
    fast_inner_product: bool = True,
    minimal_filtering: bool = True,
    plan: str | Path | None = None,
) -> Compiled:
    """Compile a model file into the directory ``out``, as ``gatewright compile`` does.

    A float model needs ``samples`` to be quantized with. ``fast_inner_product``: the plan may get
    two products from each multiplier of a stage; ``minimal_filtering``: two outputs of three taps
    from four products, or four of 3 x 3 taps from 16. ``plan``: a plan.json to use, instead of a
    search for ``goal``.
    """
    return compile_model(
        Path(model),
        Path(out),
        boards.get(board).device,
        board,
        samples=samples,
        quantization=Quantization(
            method, Policy(activation_bits, weight_bits), Rounding(rounding), equalize
        ),
        goal=Goal(goal, interval, fast_inner_product, minimal_filtering),
        argmax=argmax,
        plan=None if plan is None else Path(plan),
        target_mhz=boards.get(board).target_mhz,
    )


def open(directory: str | Path) -> Compiled:
    """What ``compile`` left in a directory."""
    return open_compiled(Path(directory), lambda name: boards.get(name).device)


def explore(
    graph: ir.Graph,
    board: str,
    points: int = 12,
    *,
    jobs: int = 1,
    scheduler: str | None = None,
    cache: str | Path | None = None,
) -> list[Point]:
    """Plans from the fastest to the smallest that fits a board, those on the Pareto front marked.

    ``jobs`` processes share the work, or a Dask ``scheduler``. Points that the file ``cache`` holds
    already are not computed again.
    """
    return _explore(
        graph,
        boards.get(board).device,
        board,
        points=points,
        jobs=jobs,
        scheduler=scheduler,
        cache=None if cache is None else Path(cache),
    )


def simulate(
    compiled: Compiled,
    samples: NDArray[np.generic] | ir.Feeds,
    frames: int | None = None,
    *,
    stall: float = 0.0,
    energy: bool = False,
) -> Simulated:
    """Run the RTL on ``samples`` (an array [n, *input shape] for each input, by name, or that of a
    lone input) and compare all values with the golden model. ``energy``: estimate the energy of a
    frame from how often registers change.
    """
    return _simulate(compiled, samples, frames, stall=stall, energy=energy)


def accuracy(
    compiled: Compiled,
    samples: Array | ir.Feeds,
    labels: Array | None = None,
    *,
    calibration: Array | ir.Feeds | None = None,
) -> Accuracy:
    """The integer network against the float one and ONNX Runtime; ``.top1``, ``.outputs``.

    ``labels`` [n]: the class of each sample. ``calibration``: samples for ONNX Runtime's own int8
    networks, by default these.
    """
    known = samples if calibration is None else calibration
    return _accuracy(compiled, Samples(samples, labels), calibration=known)


def build(
    compiled: Compiled,
    mhz: float | Literal["max"] | None = None,
    *,
    seeds: int | None = None,
    jobs: int = 1,
) -> BuildResult:
    """A bitstream whose timing is met, or :class:`~.errors.TimingError`.

    ``mhz``: its clock, by default the board's; "max" looks for the highest that is met. ``jobs`` of
    the ``seeds`` are placed and routed at a time.
    """
    board = boards.get(compiled.plan.board)
    if mhz == "max":
        return build_fastest(compiled.directory, board, seeds=seeds, jobs=jobs)
    return _build(compiled.directory, board, mhz, seeds=seeds, jobs=jobs)


def bench(compiled: Compiled, samples: Array | ir.Feeds | None = None) -> BenchmarkResult:
    """The FPGA (simulated cycles, the bitstream's clock) against this computer's CPU.

    Without ``samples`` the frames are random.
    """
    given = None if samples is None else Samples(samples)
    return _bench(compiled, given, boards.get(compiled.plan.board).target_mhz)


def report(compiled: Compiled) -> Path:
    """Write ``report.html`` over all steps that were taken; returns its path."""
    return write_report(compiled.directory)


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


def stream(compiled: Compiled, source: str, port: str | None = None) -> Iterator[Answer]:
    """An answer for each sample of ``source`` when it comes: "camera", a device, a video, a folder
    of images (also those that are put there later), or "-" for ``.npy`` arrays from standard input.
    ``port``: as of :func:`run`.
    """
    samples = samples_from(source, compiled.ports)
    return _stream(compiled, boards.get(compiled.plan.board), samples, port)


def emulate(
    compiled: Compiled, *, uart: str = "fast", faults: str = ""
) -> AbstractContextManager[EmulatedBoard]:
    """The compiled network on an emulated board, for a ``with`` statement: its ``port`` is a
    pseudo-terminal. See :func:`.host.on_board.emulated`.
    """
    board = boards.get(compiled.plan.board)
    return on_board.emulated(compiled, board, timing=uart, faults=faults)

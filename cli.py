"""The command line: a function a command, in the order of the flow.

A command's docstring is what ``--help`` prints: a sentence, more if needed, and an example on a
line that begins with ``$``.
"""

import inspect
import json
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from functools import wraps
from itertools import islice
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.text import Text

from .compiler.errors import (
    DataError,
    FitError,
    GatewrightError,
    SimulationError,
    TimingError,
    printable,
)
from .compiler.progress import Progress

__all__ = ["main", "shown_on_board"]

_CLASSES_SHOWN = 32

#: columns of a table where neither a terminal nor the variable COLUMNS tells
_WIDTH = 120

#: the words of the command line from the command on, in the context of a command
_ARGUMENTS = "gatewright.arguments"

out = Console(soft_wrap=True)
if not out.is_terminal and "COLUMNS" not in os.environ:
    out.width = _WIDTH
err = Console(stderr=True, soft_wrap=True)

_DIRECTORY = click.argument("directory", type=click.Path(path_type=Path))
_JSON = click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="Print the result as JSON, also when the command fails: then with the key error.",
)
_GOAL = click.option(
    "--goal",
    default=None,
    metavar="latency|fps|fps=N|area",
    help="Shortest time for a frame, most frames a second, N frames a second with little hardware, "
    "or the least hardware (default: most frames a second from the DSP blocks alone).",
)
_SAMPLES = "Samples: .npz with x (or an array for each input, by name), .npy, or a folder of images"


def _model(function: Callable[..., int | None]) -> Any:
    """The argument MODEL, and the options that give sizes which it leaves open and the states that
    it keeps; the command takes the path of a file in which they are fixed.
    """

    @wraps(function)
    def command(
        model: Path,
        input_shape: tuple[str, ...],
        state: tuple[str, ...],
        initial: Path | None,
        **more: Any,
    ) -> Any:
        shaped = _with_shapes(model, input_shape)
        return function(model=_with_states(shaped, state, initial), **more)

    shape = click.option(
        "--input-shape",
        multiple=True,
        metavar="NAME=SIZES",
        help="Shape of an input that the model leaves open, as in x=1,3,96,96; may be repeated.",
    )
    state = click.option(
        "--state",
        multiple=True,
        metavar="INPUT=OUTPUT",
        help="An input that is an output of the frame before: the hardware keeps it; zero at a "
        "reset. May be repeated.",
    )
    initial = click.option(
        "--initial",
        type=click.Path(path_type=Path),
        default=None,
        help="States at a reset instead of zero: .npz with an array by the name of each input.",
    )
    argument = click.argument("model", type=click.Path(path_type=Path))
    return argument(shape(state(initial(command))))


def _with_states(model: Path, texts: tuple[str, ...], initial: Path | None) -> Path:
    """The model, or a copy of it, for as long as the command runs, which keeps the states."""
    from .compiler.frontend.states import parse_states, read_initial, write_with_states

    if initial is not None and not texts:
        raise DataError(f"--initial {initial}: no state is named; give --state INPUT=OUTPUT too")
    if not texts:
        return model
    states = parse_states(texts)
    first = read_initial(initial, states) if initial else {}
    folder = click.get_current_context().with_resource(TemporaryDirectory(prefix="gatewright-"))
    copy = Path(folder) / model.name
    write_with_states(model, states, copy, first)
    return copy


def _with_shapes(model: Path, texts: tuple[str, ...]) -> Path:
    """The model, or a copy of it, for as long as the command runs, whose inputs have the shapes."""
    from .compiler.frontend.input_shapes import parse_shapes, write_with_shapes

    if not texts:
        return model
    shapes = parse_shapes(texts)
    folder = click.get_current_context().with_resource(TemporaryDirectory(prefix="gatewright-"))
    copy = Path(folder) / model.name
    write_with_shapes(model, shapes, copy)
    return copy


def _bits(function: Callable[..., int | None]) -> Any:
    """The options that choose widths for a float model; the command takes them as ``policy``."""

    @wraps(function)
    def command(
        *args: Any,
        bits: tuple[str, ...],
        activation_bits: int | None,
        weight_bits: int | None,
        **more: Any,
    ) -> Any:
        return function(*args, policy=_policy(bits, activation_bits, weight_bits), **more)

    options = (
        ("--activation-bits", "Width of a float model's activations, 1 to 16 (default: 8)."),
        (
            "--weight-bits",
            "Width of its weights, 2 to 16 (default: 8); narrow ones share DSP blocks.",
        ),
    )
    result: Any = command
    for name, text in reversed(options):
        result = click.option(name, type=int, default=None, help=text)(result)
    return click.option(
        "--bits",
        multiple=True,
        metavar="N|wNaM|NAME=N",
        help="Widths of a float model: of all tensors, of weights and activations (w4a8), or of "
        "one operator's weights or one value by name; may be repeated.",
    )(result)


def _policy(bits: tuple[str, ...], activation_bits: int | None, weight_bits: int | None) -> Any:
    from .compiler.quantize import ACTIVATION_BITS, DEFAULT_BITS, WEIGHT_BITS, Policy

    named: dict[str, int] = {}
    option = {"activation": f"--activation-bits {activation_bits}"}
    option["weight"] = f"--weight-bits {weight_bits}"

    def every(given: str, weight: int, activation: int) -> tuple[int, int]:
        """The widths of all tensors, as ``--bits given`` says."""
        for what, before in (("weight", weight_bits), ("activation", activation_bits)):
            if before is not None:
                raise DataError(
                    f"--bits {given}: {option[what]} gives all {what}s a width too; leave out one "
                    "of them"
                )
        option.update(dict.fromkeys(option, f"--bits {given}"))
        return weight, activation

    for given in bits:
        name, equals, number = given.rpartition("=")
        both = re.fullmatch(r"w(\d+)a(\d+)", given)
        if not equals and both:
            weight_bits, activation_bits = every(given, int(both[1]), int(both[2]))
        elif number.isdecimal() and not equals:
            weight_bits, activation_bits = every(given, int(number), int(number))
        elif number.isdecimal() and name:
            named[name] = int(number)
        else:
            raise DataError(
                f"--bits {given}: give a number of bits, widths as in w4a8, or NAME=N for the "
                "operator or the value of that name"
            )
    for name, number_of in named.items():
        if number_of not in WEIGHT_BITS:
            raise DataError(
                f"--bits {name}={number_of}: tensors have {WEIGHT_BITS[0]} to {WEIGHT_BITS[-1]} "
                "bits; choose one of those"
            )
    legal = {"activation": (activation_bits, ACTIVATION_BITS), "weight": (weight_bits, WEIGHT_BITS)}
    for what, (chosen, widths) in legal.items():
        if chosen is not None and chosen not in widths:
            raise DataError(
                f"{option[what]}: {what}s have {widths[0]} to {widths[-1]} bits; choose one of "
                "those"
            )
    usual = (activation_bits or DEFAULT_BITS, weight_bits or DEFAULT_BITS)
    return Policy(*usual, activations=named, weights=named)


def _check_drop(max_drop: float | None, policy: Any) -> None:
    from .compiler.quantize import Policy

    if max_drop is not None and not 0 < max_drop < 100:
        raise DataError(f"--max-drop {max_drop:g}: points of accuracy are above 0 and below 100")
    if max_drop is not None and policy != Policy():
        raise DataError("--max-drop chooses widths by itself; leave out the options that give bits")


def _note_ignored(
    model: Path, quantization: Any, calibration: Path | None, max_drop: float | None
) -> None:
    """Say which of the options for float models do nothing for one that is quantized."""
    from .compiler.quantize import Rounding

    asked = click.get_current_context().params
    given = {
        "--calibration": calibration is not None,
        "--activation-bits": asked["activation_bits"] is not None,
        "--weight-bits": asked["weight_bits"] is not None,
        "--rounding": quantization.rounding is not Rounding.AUTO,
        "--bits": bool(asked["bits"]),
        "--equalize": quantization.equalize,
        "--max-drop": max_drop is not None,
    }
    for option in (option for option in given if given[option]):
        err.print(
            f"note: {model} is quantized already; {option} is ignored",
            highlight=False,
            markup=False,
        )


class _Flow(click.Group):
    """Lists the commands in the order in which they are defined, each with its example; a command
    that does not exist is JSON, too.
    """

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        with _usage_as_json("--json" in args):
            return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        widest = max(map(len, self.commands))
        with formatter.section("Commands, in the order of the flow"):
            for name in self.list_commands(ctx):
                command = self.commands[name]
                sentence = command.get_short_help_str(limit=200)
                formatter.write_dl([(name.ljust(widest), sentence)])
                if isinstance(command, _Command):
                    indent = " " * (formatter.current_indent + 2)
                    formatter.write(f"{indent}$ {command.example}\n")


class _Command(click.Command):
    """A command with an ``example``; a command line that can not be read is JSON, too."""

    example = ""

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        given = tuple(args)
        with _usage_as_json("--json" in args):
            context = super().make_context(info_name, args, parent, **extra)
        context.meta[_ARGUMENTS] = (str(info_name), *given)
        return context


@contextmanager
def _usage_as_json(as_json: bool) -> Iterator[None]:
    """Print the error of a command line that can not be read as JSON as well."""
    try:
        yield
    except click.UsageError as error:
        if as_json:
            click.echo(json.dumps({"error": _as_error(error, error.format_message())}))
        raise


@click.group(
    cls=_Flow,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Each step leaves a JSON file and the page report.html in the directory. "
    "gatewright COMMAND --help gives a command's options.",
)
@click.version_option(package_name="gatewright")
@click.option("--debug", is_flag=True, hidden=True)
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """From a trained ONNX network to a verified FPGA bitstream, with open tools alone."""
    context.obj = debug


@contextmanager
def _interrupted_by(*numbers: int) -> Iterator[None]:
    """``KeyboardInterrupt`` with the number of a signal, unless it is ignored (as by ``nohup``)."""

    def interrupt(number: int, _: object) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _command(function: Callable[..., int | None]) -> Any:
    """A subcommand of that name whose errors are one message and exit code 1.

    With ``--json`` the error is JSON on standard output as well. A signal that ends a process ends
    the command as Ctrl-C does: its tools with it, and no file half written.
    """

    @wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        as_json = bool(kwargs.get("as_json"))
        try:
            with _interrupted_by(signal.SIGTERM, signal.SIGHUP):
                sys.exit(function(*args, **kwargs) or 0)
        except Exception as error:
            if click.get_current_context().obj:
                traceback.print_exc()
            sys.exit(_show(as_json, {}, error=error))
        except KeyboardInterrupt as stop:
            why = "interrupted; what was there before is unchanged"
            if as_json:
                click.echo(json.dumps({"error": _as_error(stop, why)}, indent=1))
            err.print(why)
            sys.exit(128 + (stop.args[0] if stop.args else signal.SIGINT))

    text, _, example = inspect.cleandoc(function.__doc__ or "").partition("\n\n$ ")
    command = click.command(
        function.__name__.rstrip("_"),
        cls=_Command,
        help=text,
        epilog=f"\b\nExample:\n  $ {example}",
    )(run)
    command.example = example
    main.add_command(command)
    return command


def _message(error: BaseException) -> str:
    """The message for the user; an exception that no part of the program expects is a fault."""
    if isinstance(error, GatewrightError):
        return str(error)
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return (
            f"{where}{error.strerror or error}; check that it can be read and "
            "written and that the disk is not full"
        )
    what = (str(error).splitlines() or [""])[0]
    return (
        f"gatewright has a fault ({type(error).__name__}: {what}); please report the command, its "
        "files, and what the command prints with --debug: gatewright --debug COMMAND"
    )


def _as_error(error: BaseException, message: str) -> dict[str, str]:
    """The object ``error`` of a failed command's JSON."""
    return {"type": type(error).__name__, "message": printable(message)}


def _at_least(least: int, **options: float | None) -> None:
    """Refuse numbers below ``least``; options that were not given are None."""
    for name, value in options.items():
        if value is not None and not least <= value < inf:
            raise DataError(f"--{name.replace('_', '-')} {value:g}: at least {least}")


def _steps() -> AbstractContextManager[Progress]:
    """The progress line of a command."""
    from .compiler.report.progress_line import progress_line

    return progress_line(err)


def _show(
    as_json: bool,
    summary: dict[str, Any],
    tables: Sequence[RenderableType] = (),
    error: Exception | None = None,
) -> int:
    """Print the result of a command, the ``warnings`` in its summary, and the ``error`` that it
    ends with; returns the exit code.
    """
    if as_json:
        failed = {"error": _as_error(error, _message(error))} if error is not None else {}
        click.echo(json.dumps(summary | failed, indent=1))
    else:
        for table in tables:
            out.print(table)
    _warn(summary.get("warnings", ()))
    if error is None:
        return 0
    err.print(Text.assemble(("error: ", "bold red"), printable(_message(error))))
    return 1


def _warn(warnings: Iterable[str]) -> None:
    for text in warnings:
        err.print(f"warning: {printable(text)}", highlight=False, markup=False)


def _check_report(directory: Path, step: str) -> None:
    """Refuse damaged files of other steps before the work of this one."""
    from .compiler.report.html import check_report

    check_report(directory, step)


def _report(directory: Path) -> None:
    """Note the command in ``commands.json``, and write the page over all that there is."""
    from .compiler.report.commands import record
    from .compiler.report.html import write_report

    words = click.get_current_context().meta[_ARGUMENTS]
    record(directory, words[0], words)
    write_report(directory)


def _board(name: str) -> Any:
    from . import boards

    return boards.get(name)


def _goal(goal: str | None, clock_mhz: float) -> Any:
    from .compiler.plan import Goal

    if goal is None:
        return Goal()
    kind, _, number = goal.partition("=")
    if kind == "fps" and number:
        try:
            rate = float(number)
        except ValueError:
            rate = 0.0
        if not 0 < rate < inf:
            raise DataError(f"--goal {goal}: frames a second are a number above 0, as in fps=1000")
        return Goal("fps", int(clock_mhz * 1e6 / rate))
    if goal not in ("latency", "fps", "area"):
        raise DataError(f"--goal {goal}: choose latency, fps, fps=N or area")
    return Goal(goal)


def _open(directory: Path) -> Any:
    from .compiler.driver import open_compiled

    return open_compiled(directory, lambda name: _board(name).device)


@contextmanager
def _smallest_board(graph: Any, goal_of: Any, tried: Any, policy: Any) -> Iterator[None]:
    """Add to a :class:`FitError` for the board ``tried`` which larger one would do."""
    from . import boards
    from .compiler.check import advised
    from .compiler.driver import fit

    try:
        yield
    except FitError as error:
        larger = [b for b in boards.all_boards() if b.device.lut > tried.device.lut]
        for board in sorted(larger, key=lambda b: b.device.lut):
            try:
                fit(graph, board.device, board.name, goal_of(board), policy)
            except FitError:
                continue
            raise advised(error, board.name, goal_of(board)) from error
        raise advised(error, None, goal_of(tried)) from error


@_command
@_model
@click.option("--board", default=None, help="Board to fit (default: the largest).")
@_bits
@_GOAL
@_JSON
def check(model: Path, board: str | None, policy: Any, goal: str | None, as_json: bool) -> int:
    """Say for every node of MODEL what computes it, and which boards the network fits.

    It takes seconds and writes nothing. Nodes are computed in hardware, folded into others, left to
    the host, or unsupported; then it says what to change.

    $ gatewright check model.onnx --board ulx3s-85f
    """
    from . import boards
    from .compiler.check import check as run
    from .compiler.report import tables

    known = boards.all_boards()
    chosen = max(known, key=lambda b: b.device.lut) if board is None else _board(board)
    _goal(goal, chosen.target_mhz)  # before any work
    found = run(
        model,
        known,
        chosen,
        goal_of=lambda each: _goal(goal, each.target_mhz),
        policy=policy,
        alone=board is not None,
    )
    return _show(as_json, found.summary, tables.check(found.summary), found.error)


def _note_cut(cut: Any) -> None:
    """Say what stays on the host."""
    err.print(
        f"note: {len(cut.head)} nodes before the hardware and {len(cut.tail)} after it stay on the "
        f"host, with {cut.macs:,} of {cut.total:,} products a frame; `gatewright check` gives the "
        "reasons",
        highlight=False,
        markup=False,
    )


@_command
@_model
@click.option("--board", required=True, help="Board to plan for.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    default=None,
    help="Samples that quantize a float model; without them its types are assumed.",
)
@_bits
@click.option(
    "--points",
    type=int,
    default=12,
    show_default=True,
    help="Intervals to plan for, from the fastest to the smallest plan; equal plans are one row, "
    "and the plan of the least latency is one more.",
)
@click.option(
    "--build",
    "builds",
    type=int,
    default=0,
    metavar="N",
    help="Place and route N plans of the front (minutes each; results are kept).",
)
@click.option("--jobs", type=int, default=1, show_default=True, help="Plans at a time.")
@click.option(
    "--scheduler",
    default=None,
    metavar="ADDRESS",
    help="Dask scheduler whose workers share the work, as tcp://host:8786; needs the extra dask.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("explore"),
    show_default=True,
    help="Directory of table, plots and plans; what it holds already is not computed again.",
)
@_JSON
def explore(
    model: Path,
    board: str,
    calibration: Path | None,
    policy: Any,
    points: int,
    builds: int,
    jobs: int,
    scheduler: str | None,
    output: Path,
    as_json: bool,
) -> None:
    """Plan MODEL in many ways, from the smallest to the fastest: a table and a plot.

    Plans may use soft multipliers and adder trees, as with `compile --goal fps`; `compile` without
    a goal uses DSP blocks alone.

    $ gatewright explore model.onnx --board ulx3s-85f --jobs 2 -o space
    """
    from .boards.flow.design_space import explore_model
    from .compiler.data import read_samples
    from .compiler.report import tables

    _at_least(1, points=points, jobs=jobs)
    _at_least(0, build=builds)

    def samples(network: Any) -> Any:
        assert calibration is not None
        return read_samples(calibration, network.ports).x

    with _steps() as step:
        summary = explore_model(
            model,
            _board(board),
            output,
            samples=None if calibration is None else samples,
            policy=policy,
            points=points,
            builds=builds,
            jobs=jobs,
            scheduler=scheduler,
            arguments=_for_compile(),
            progress=step,
        )
    _show(as_json, summary, tables.explore(summary))
    err.print(
        f"plot: {output / 'explore.html'} (interactive, with the command that compiles a plan), "
        f"{output / 'explore.png'}; plans: {output / 'plans'}, for `gatewright compile --plan`",
        highlight=False,
        markup=False,
    )


def _for_compile() -> list[str]:
    """The arguments of this command that `compile` takes as well, but for the directory: network,
    board, samples and widths.
    """
    context = click.get_current_context()
    known = {each.name for each in compile_.params} - {"output", "as_json"}
    words: list[str] = []
    for each in (each for each in context.command.params if each.name in known):
        given = context.params[each.name or ""]
        for one in given if isinstance(given, tuple) else (given,):
            if one is not None:
                words += [*each.opts[: isinstance(each, click.Option)], str(one)]
    return words


@_command
@_model
@click.option("--board", required=True, help="Board to compile for.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    default=None,
    help="Samples for quantizing: .npz with x (or an array for each input, by name), .npy, or a "
    "folder of images.",
)
@click.option(
    "--method",
    type=click.Choice(["mse", "minmax", "percentile", "layer"]),
    default="mse",
    show_default=True,
    help="How calibration chooses ranges; layer: for each value the way with the least error of "
    "the layers that read it.",
)
@_bits
@click.option(
    "--rounding",
    type=click.Choice(["auto", "nearest", "compensated"]),
    default="auto",
    show_default=True,
    help="How weights are rounded: each by itself, or compensated for the least error of a layer's "
    "output; auto compensates where weights or activations are below 8 bits.",
)
@click.option(
    "--equalize",
    is_flag=True,
    help="Divide channels between layers by powers of two where that lowers the measured error "
    "(cross-layer equalization).",
)
@click.option(
    "--max-drop",
    type=float,
    default=None,
    help="Choose the width of each tensor, 2 to 8 bits (16 for activations that need it), such "
    "that at most so many points of accuracy are lost on half of the calibration samples, by "
    "their labels y, or against the float model's classes.",
)
@_GOAL
@click.option(
    "--fast-inner-product/--no-fast-inner-product",
    "fast",
    default=True,
    show_default=True,
    help="Let the plan get two products from each multiplier of a layer, where that takes fewer "
    "DSP blocks: more frames a second, or fewer blocks, for more logic.",
)
@click.option(
    "--minimal-filtering/--no-minimal-filtering",
    "filtering",
    default=True,
    show_default=True,
    help="Let the plan make two outputs of a filter three taps wide from four products instead of "
    "six, or 2 x 2 outputs of 3 x 3 taps from 16 instead of 36, where that takes fewer DSP blocks.",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path),
    default=None,
    help="Use this plan.json, of another compile or edited, instead of searching.",
)
@click.option("--argmax", is_flag=True, help="The hardware gives the number of the winning class.")
@click.option(
    "--hardware-only", is_flag=True, help="Refuse a network of which a part must stay on the host."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    required=True,
    help="Directory to write; a compiled one is replaced.",
)
@_JSON
def compile_(
    model: Path,
    board: str,
    calibration: Path | None,
    method: str,
    policy: Any,
    rounding: str,
    equalize: bool,
    max_drop: float | None,
    goal: str | None,
    fast: bool,
    filtering: bool,
    plan: Path | None,
    argmax: bool,
    hardware_only: bool,
    output: Path,
    as_json: bool,
) -> None:
    """Quantize MODEL, plan its hardware for a board and write the RTL.

    A float model needs samples to choose the ranges of its values.

    $ gatewright compile model.onnx --board ulx3s-85f --calibration x.npz -o out
    """
    from .compiler.data import class_numbers, read_samples
    from .compiler.driver import Budget, Quantization, compile_model, read_network
    from .compiler.quantize import Rounding
    from .compiler.report import tables

    chosen = _board(board)

    def goal_of(each: Any) -> Any:
        found = _goal(goal, each.target_mhz)
        return replace(found, fast_inner_product=fast, minimal_filtering=filtering)

    wanted = goal_of(chosen)
    _check_drop(max_drop, policy)
    quantization = Quantization(method, policy, Rounding(rounding), equalize)
    network = read_network(model, hardware_only=hardware_only)
    if network.cut is not None:
        _note_cut(network.cut)
    samples = None
    if network.graph.quantized:
        _note_ignored(model, quantization, calibration, max_drop)
    elif calibration is not None:
        data = read_samples(calibration, network.ports)
        samples = data.x
        if max_drop is not None:
            budget = Budget(max_drop, class_numbers(data))
            quantization = replace(quantization, budget=budget)
    with _steps() as step, _smallest_board(network.graph, goal_of, chosen, policy):
        compile_model(
            model,
            output,
            chosen.device,
            chosen.name,
            samples=samples,
            quantization=quantization,
            goal=wanted,
            plan=plan,
            target_mhz=chosen.target_mhz,
            argmax=argmax,
            read=network,
            progress=step,
        )
    _report(output)
    summary = _summary(output, "compile")
    _show(as_json, summary, tables.compile(summary))
    if not summary["fits"]:
        _warn([f"this plan does not fit {chosen.name}: build will end with an error"])


@_command
@_DIRECTORY
@click.option(
    "--input",
    "samples",
    type=click.Path(path_type=Path),
    required=True,
    help=f"{_SAMPLES}.",
)
@click.option(
    "--frames",
    type=int,
    default=None,
    help="How many of them (default: all); three run at least, for a steady interval.",
)
@click.option(
    "--stall",
    type=float,
    default=0.0,
    show_default=True,
    help="Chance that a stream pauses in a cycle, at both ends, from 0 to below 1.",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    show_default=True,
    help="Seed of the random numbers that place the stalls.",
)
@click.option(
    "--level",
    type=click.Choice(["rtl", "netlist"]),
    default="rtl",
    show_default=True,
    help="Simulate the RTL, or the chip's cells after synthesis (slower).",
)
@click.option(
    "--waves",
    type=click.Path(path_type=Path),
    default=None,
    help="Write waves into this file (.fst or .vcd), for Surfer or GTKWave; or (.saif) only how "
    "often each bit changes.",
)
@click.option(
    "--energy",
    is_flag=True,
    help="Count how often registers change, and estimate the energy of a frame (slower).",
)
@click.option(
    "--simulator",
    type=click.Choice(["verilator", "icarus"]),
    default="verilator",
    show_default=True,
    help="Verilator is compiled first and then fast; Icarus needs no C++ compiler.",
)
@_JSON
def simulate(
    directory: Path,
    samples: Path,
    frames: int | None,
    stall: float,
    seed: int,
    level: str,
    waves: Path | None,
    energy: bool,
    simulator: str,
    as_json: bool,
) -> int:
    """Run the RTL on samples and compare every value with the golden model.

    Without stalls the cycles are those of the hardware; with --stall the streams pause at random,
    which proves that no value depends on when it comes.

    $ gatewright simulate out --input x.npz --frames 8
    """
    from .compiler.data import read_samples
    from .compiler.report import tables
    from .sim.simulate import check_counting, check_stimulus
    from .sim.simulate import simulate as run

    check_stimulus(frames, stall)
    if energy:
        check_counting(stall, waves, simulator, level)
    _at_least(0, seed=seed)
    compiled = _open(directory)
    _check_report(directory, "simulate")
    x = read_samples(samples, compiled.ports).x
    with _steps() as step:
        netlist = None
        if level == "netlist":
            from .boards.flow.cell_netlist import netlist as synthesized

            netlist = synthesized(directory, _board(compiled.plan.board), step)
        step("building and running the simulator")
        done = run(
            compiled,
            x,
            frames,
            stall=stall,
            seed=seed,
            waves=waves,
            simulator=simulator,
            netlist=netlist,
            energy=energy,
            progress=step,
        )
    _report(directory)
    shown = tables.simulate(done.summary, _summary(directory, "compile"))
    return _show(as_json, done.summary, shown, _difference(done.summary))


def _difference(summary: dict[str, Any]) -> SimulationError | None:
    """The error for values that differ from the golden model's; None if all are equal."""
    if not summary["mismatches"]:
        return None
    first = summary.get("first_mismatch") or {}
    where = f", the first in {first['text']}" if "text" in first else ""
    return SimulationError(
        f"{summary['mismatches']:,} of {summary['values']:,} values differ from the golden "
        f"model{where}. Please report this network"
    )


@_command
@_DIRECTORY
@click.option(
    "--data",
    "samples",
    type=click.Path(path_type=Path),
    required=True,
    help="Samples x and labels y.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    default=None,
    help="Samples that calibrate ONNX Runtime's own int8 networks (default: some of the data).",
)
@_JSON
def accuracy(directory: Path, samples: Path, calibration: Path | None, as_json: bool) -> int:
    """Compare the integer network with the float one, and with ONNX Runtime's int8.

    Also the noise that each layer adds, and where ONNX Runtime rounds differently.

    $ gatewright accuracy out --data x.npz
    """
    from .compiler.data import read_samples
    from .compiler.report import tables
    from .sim.accuracy import accuracy as run

    compiled = _open(directory)
    _check_report(directory, "accuracy")
    data = read_samples(samples, compiled.ports)
    known = read_samples(calibration, compiled.ports) if calibration else data
    with _steps() as step:
        result = run(compiled, data, progress=step, calibration=known.x)
    _report(directory)
    error = None
    if result.violations:
        error = SimulationError(
            "ONNX Runtime contradicts the golden model on model.int8.onnx: "
            f"{'; '.join(result.violations)}. Please report this network"
        )
    return _show(as_json, result.summary, tables.accuracy(result.summary), error)


@_command
@_DIRECTORY
@click.option(
    "--seeds",
    type=int,
    default=None,
    help="Place and route with so many seeds, take the best (default: until one meets the clock, 8 "
    "at most; 2 for each clock of --target-mhz max).",
)
@click.option("--jobs", type=int, default=1, show_default=True, help="Seeds at a time.")
@click.option(
    "--target-mhz",
    "target",
    default=None,
    metavar="F|max",
    help="Clock to reach, or the highest that is found to be met: the bitstream's PLL makes it "
    "(default: the board's).",
)
@click.option(
    "--baud", type=int, default=None, help="Rate of the serial link (default: the board's)."
)
@_JSON
def build(
    directory: Path,
    seeds: int | None,
    jobs: int,
    target: str | None,
    baud: int | None,
    as_json: bool,
) -> int:
    """Make the bitstream: synthesis, place and route, and a check that the clock is met.

    $ gatewright build out --target-mhz 100
    """
    from .boards.flow.build import build as make
    from .boards.flow.build import build_fastest
    from .compiler.report import tables

    mhz = _clock(target)
    _at_least(1, seeds=seeds, jobs=jobs, target_mhz=mhz)
    compiled = _open(directory)
    _check_report(directory, "build")
    board, missed = _board(compiled.plan.board), None
    with _steps() as step:
        try:
            more: dict[str, Any] = {"seeds": seeds, "jobs": jobs, "baud": baud, "progress": step}
            if target == "max":
                build_fastest(directory, board, **more)
            else:
                make(directory, board, mhz, **more)
        except TimingError as error:
            missed = error
    _report(directory)
    summary = _summary(directory, "build")
    shown = tables.build(summary, _summary(directory, "compile"))
    return _show(as_json, summary, shown if missed is None else (), missed)


def _clock(target: str | None) -> float | None:
    """The clock of ``--target-mhz``; None for the board's own and for ``max``."""
    if target is None or target == "max":
        return None
    try:
        return float(target)
    except ValueError:
        raise DataError(f"--target-mhz {target}: give a number of MHz, or max") from None


@_command
@_DIRECTORY
@click.option(
    "--input",
    "samples",
    type=click.Path(path_type=Path),
    default=None,
    help=f"{_SAMPLES} (default: random frames).",
)
@_JSON
def bench(directory: Path, samples: Path | None, as_json: bool) -> None:
    """Compare the FPGA (simulated cycles, the bitstream's clock) with this computer's CPU.

    $ gatewright bench out --input x.npz
    """
    from .compiler.data import read_samples
    from .compiler.report import tables
    from .sim.bench import bench as run

    compiled = _open(directory)
    _check_report(directory, "bench")
    x = read_samples(samples, compiled.ports) if samples else None
    with _steps() as step:
        result = run(compiled, x, _board(compiled.plan.board).target_mhz, progress=step)
    _report(directory)
    _show(as_json, result.summary, tables.bench(result.summary))


@_command
@_DIRECTORY
@click.argument("other", type=click.Path(path_type=Path), required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    help="The page (default: report.html, or compare.html for two, in the first directory).",
)
@click.option("--open", "show", is_flag=True, help="Open the page in the browser.")
def report(directory: Path, other: Path | None, output: Path | None, show: bool) -> None:
    """Write the page over all that the steps left, or compare two compiled directories on one.

    $ gatewright report out --open
    """
    from .compiler.report.compare import write_comparison
    from .compiler.report.html import write_report

    if other is None:
        page = write_report(directory, output)
    else:
        page = write_comparison(directory, other, output or directory / "compare.html")
    out.print(str(page), highlight=False, markup=False)
    if show and click.launch(page.resolve().as_uri()):
        raise DataError(f"no browser could be started; open {page} in one")


@_command
@_DIRECTORY
@click.option(
    "--permanent",
    is_flag=True,
    help="Write it into the board's flash memory: the board starts with it from now on.",
)
def flash(directory: Path, permanent: bool) -> None:
    """Load the bitstream into the board's chip, until it is switched off.

    $ gatewright flash out --permanent
    """
    from .boards.flow.flash import flash as load_bitstream
    from .host.on_board import bitstream

    board, file = _board(_open(directory).plan.board), bitstream(directory)
    with _steps() as step:
        step("loading the bitstream")
        load_bitstream(
            board,
            file,
            directory / "flash.log",
            permanent=permanent,
        )


@_command
@_DIRECTORY
@click.option(
    "--port",
    default=None,
    help="The board's serial port (default: look for the board), or emulate for a run without one.",
)
@click.option(
    "--input",
    "samples",
    type=click.Path(path_type=Path),
    default=None,
    help=f"{_SAMPLES}; with labels y the accuracy is shown.",
)
@click.option(
    "--stream",
    "source",
    default=None,
    metavar="-|FOLDER|camera|FILE",
    help="Samples as they come, one answer a line: .npy arrays from standard input, the images of "
    "a folder and those that are put there, a camera (or /dev/videoN), a video.",
)
@click.option("--frames", type=int, default=None, help="How many of them (default: all).")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    help="Write the model's outputs into this .npz.",
)
@_JSON
def run(
    directory: Path,
    port: str | None,
    samples: Path | None,
    source: str | None,
    frames: int | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Run samples on the board and compare its outputs with the golden model.

    Those of --input are sent back to back, so that the serial line is the only limit; those of
    --stream when they come, until Ctrl-C or the end.

    $ gatewright run out --input x.npz -o outputs.npz
    """
    from .compiler.data import read_samples
    from .compiler.numpy_file import write_arrays
    from .host.on_board import run as on_board

    _at_least(1, frames=frames)
    if (samples is None) == (source is None):
        raise DataError("give the samples: --input FILE, or --stream for those that come, not both")
    compiled = _open(directory)
    if samples is None:
        if output is not None:
            raise DataError("--output goes with --input; --stream prints, also as --json")
        return _stream(compiled, source, port, frames, as_json)
    data = read_samples(samples, compiled.ports)
    with _steps() as step:
        done = on_board(compiled, _board(compiled.plan.board), data, port, frames, step)
    if compiled.border is not None:
        write_arrays(directory / "outputs.npz", done.outputs)
    if output is not None:
        write_arrays(output, done.outputs)
    return _show(as_json, done.summary, shown_on_board(done.summary), _difference(done.summary))


def _stream(compiled: Any, source: Any, port: str | None, frames: int | None, as_json: bool) -> int:
    """A line an answer, until the samples end or Ctrl-C; warnings with the first answer that has
    some.
    """
    from .host.sources import samples_from
    from .host.streaming import stream

    samples = islice(samples_from(source, compiled.ports), frames)
    total = wrong = 0
    warned = False
    with _steps() as step, suppress(KeyboardInterrupt):
        board = _board(compiled.plan.board)
        for answer in stream(compiled, board, samples, port, step):
            total, wrong = total + 1, wrong + (answer.mismatches > 0)
            if answer.warnings and not warned:
                _warn(answer.warnings)
                warned = True
            if as_json:
                click.echo(json.dumps(answer.summary))
                continue
            found = "" if answer.winner is None else f"class {answer.winner}  "
            equal = f"{answer.mismatches} values differ" if answer.mismatches else "equal"
            out.print(
                f"{answer.name}  {found}{answer.cycles:,} cycles  {1e3 * answer.seconds:.1f} ms  "
                f"{equal}",
                highlight=False,
                markup=False,
            )
    if not as_json:
        out.print(f"{total:,} frames, {wrong:,} of them differ from the golden model")
    return 1 if wrong else 0


def shown_on_board(summary: dict[str, Any]) -> list[RenderableType]:
    """What ran on a board, in words; one table a subject."""
    frames, cycles = summary["frames"], summary["latency_cycles"]
    spread = (
        f"{min(cycles):,}" if min(cycles) == max(cycles) else f"{min(cycles):,}-{max(cycles):,}"
    )
    emulated = summary["how"] == "emulated"
    board = "the emulated board" if emulated else "the board"
    rows = [
        {"": "port", "value": summary["port"]},
        {"": "frames", "value": f"{frames:,}, {summary['back_to_back']:,} of them back to back"},
        {
            "": "values",
            "value": f"{summary['values']:,}, {summary['mismatches']:,} differ from the golden "
            "model",
        },
        {
            "": "computation",
            "value": f"{spread} cycles, counted by {board}; computed: {summary['compute_ms']:.3f} "
            "ms at the bitstream's clock",
        },
        {
            "": "link",
            "value": f"computed: {summary['link_frames_per_second']:,.1f} frames/s at most, at "
            f"{summary['baud']:,} baud",
        },
        {
            "": "this run",
            "value": f"measured: {summary['frames_per_second']:,.1f} frames/s"
            + (" of the emulation" if emulated else "")
            + f", the first frame in {summary['frame_ms']:.1f} ms",
        },
    ]
    if summary["classes"] is not None:
        shown = " ".join(map(str, summary["classes"][:_CLASSES_SHOWN]))
        more = " ..." if frames > _CLASSES_SHOWN else ""
        rows.append({"": "classes", "value": shown + more})
    if summary["right"] is not None:
        right = f"{summary['right']:,} of {frames:,} right, {100 * summary['top1']:.1f} %"
        rows.append({"": "accuracy", "value": right})
    return [_listing(f"On {board}", rows)]


@_command
@_DIRECTORY
@click.option("--web", is_flag=True, help="Serve a page on which to draw or upload a sample.")
@click.option(
    "--web-port", type=int, default=8000, show_default=True, help="Port of the page; 0: any."
)
@click.option(
    "--uart",
    type=click.Choice(["fast", "exact"]),
    default="fast",
    show_default=True,
    help="Short bits while a request comes in, or the clocks and bits of the bitstream (slow).",
)
@click.option(
    "--faults",
    default="",
    metavar="NAME=CHANCE,...",
    help="Faults for each byte on the line: noise, loss, extra, reset, unplug; and a seed.",
)
def emulate(directory: Path, web: bool, web_port: int, uart: str, faults: str) -> None:
    """Serve a pseudo-terminal that behaves as the board: the compiled gateware behind its bytes.

    Needs no bitstream and no board. Link and accelerator are compiled with Verilator; `gatewright
    run` works on the port that is printed. Ctrl-C ends it.

    $ gatewright emulate out --web
    """
    from .host.on_board import emulated

    compiled = _open(directory)
    board = _board(compiled.plan.board)
    with _steps() as step:
        running = click.get_current_context().with_resource(
            emulated(compiled, board, timing=uart, faults=faults, progress=step)
        )
    out.print(f"{board.title} at {running.port}", highlight=False)
    out.print(f"  gatewright run {directory} --port {running.port} --input x.npz", highlight=False)
    if web:
        from .host.page import serve

        serve(compiled, running, web_port, lambda at: out.print(f"  {at}", highlight=False))
    else:
        running.wait()


def _summary(directory: Path, step: str) -> dict[str, Any]:
    """What a step left in its JSON file; nothing when it has not run."""
    from .compiler.report.summary import read_summary

    return read_summary(directory, step) if (directory / f"{step}.json").exists() else {}


def _listing(title: str, rows: list[dict[str, Any]], notes: Sequence[str] = ()) -> RenderableType:
    """A table of a row an entry; all have the same keys."""
    from .compiler.report.tables import table
    from .compiler.report.views import View

    words = frozenset(key for row in rows for key, cell in row.items() if isinstance(cell, str))
    return table(
        View(
            title,
            tuple(rows[0]),
            tuple(tuple(map(_cell, row.values())) for row in rows),
            words,
            tuple(notes),
        )
    )


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


@_command
@_JSON
def boards(as_json: bool) -> None:
    """List the boards that gatewright knows, and what their chips have.

    $ gatewright boards
    """
    from .boards import all_boards

    rows = [
        {
            "name": b.name,
            "title": b.title,
            "part": b.part,
            "lut": b.device.lut,
            "dsp": b.device.dsp,
            "products": b.device.multipliers,
            "bram": b.device.bram,
            "target_mhz": b.target_mhz,
        }
        for b in all_boards()
    ]
    columns = ("board", "title", "part", "LUTs", "DSP blocks", "multipliers", "block RAMs", "MHz")
    shown = [dict(zip(columns, row.values(), strict=True)) for row in rows]
    _show(as_json, {"boards": rows}, [_listing("Boards", shown)])


@_command
@_JSON
def tools(as_json: bool) -> None:
    """List the outside tools: which were found, which are missing and how to get them.

    $ gatewright tools
    """
    from dataclasses import asdict

    from .compiler.tools import report

    rows = [asdict(status) for status in report()]
    shown = [
        {
            key: row[key] or "missing" if key == "version" else row[key]
            for key in row
            if key != "problem"
        }
        for row in rows
    ]
    problems = [row["problem"] for row in rows if row["problem"]]
    _show(as_json, {"tools": rows}, [_listing("Tools", shown, problems)])

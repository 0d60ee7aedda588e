"""The compile step: from a model file to a directory with everything that later steps need."""

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import emit, ir, lower, passes, tools
from .brief import Brief
from .errors import DataError, FitError, ModelError, PlanError
from .frontend import Border, Cut, copy_model, divide, in_qonnx, load, survey, write_qdq
from .ir.feeds import Ports
from .json_file import read_json, shortened
from .plan import (
    CandidatePool,
    Dataflow,
    Device,
    Goal,
    LatencyPart,
    Plan,
    check_queues,
    idle_frame,
    make_dataflow,
    read_plan,
    shortfall,
    write_plan,
)
from .plan.resources import cells, weight_bits
from .plan.streams import NetworkPort
from .progress import Progress, silent
from .quantize import Policy, Rounding, equalized, quantize
from .quantize.assume import assume_types
from .quantize.budget import Found, search
from .quantize.policy import DEFAULT

__all__ = [
    "CYCLES",
    "Budget",
    "Compiled",
    "Network",
    "Quantization",
    "compile_model",
    "directory_for",
    "fit",
    "layers",
    "open_compiled",
    "read_network",
    "write_integers",
]

#: what is lacking where the fastest plan is slower than the goal
CYCLES = "cycles a frame"


@dataclass(frozen=True, eq=False, repr=False)
class Compiled(Brief):
    """A compiled network in its ``directory``: the integer graph, the plan and what it comes to.

    ``border``: what of the model stays on the host; None where all of it is in hardware.
    ``factors``: of the float network's values whose channels were divided, by name.
    """

    directory: Path
    graph: ir.Graph
    network: Dataflow
    border: Border | None = None
    factors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)

    def facts(self) -> dict[str, object]:
        host = {"on the host": "parts of the model"} if self.border else {}
        return {"directory": self.directory, **self.network.facts(), **host}

    @property
    def plan(self) -> Plan:
        return self.network.plan

    @property
    def ports(self) -> Ports:
        """What has the model's inputs."""
        return self.border or self.graph

    def before(self, x: NDArray[np.generic] | ir.Feeds) -> dict[str, NDArray[Any]]:
        """The model's inputs, and what the head makes of them, by name."""
        given = ir.feeds(self.ports, x)
        return given if self.border is None else self.border.before(given)

    def inside(self, given: ir.Feeds) -> dict[str, NDArray[Any]]:
        """The inputs of the hardware among what :meth:`before` gives."""
        return {port.name: given[port.name] for port in self.graph.inputs}

    def after(self, given: ir.Feeds, found: ir.Feeds) -> dict[str, NDArray[Any]]:
        """The model's outputs from those of the hardware, by name."""
        return {**found} if self.border is None else self.border.after(given, found)


@dataclass(frozen=True, eq=False)
class Network:
    """A model that has been read: the ``graph`` of what has hardware, and the ``cut`` where that is
    not all of it.
    """

    graph: ir.Graph
    cut: Cut | None = None

    @property
    def ports(self) -> Ports:
        """What has the model's inputs."""
        return self.cut.border if self.cut else self.graph


def read_network(model: Path, *, hardware_only: bool = False) -> Network:
    """The network in a file, cut where parts of it have no hardware.

    Raises :class:`~.errors.ModelError` where nothing is left, or ``hardware_only`` of it would not
    be all.
    """
    try:
        whole = Network(load(model))
    except ModelError:
        if hardware_only:
            raise
        cut = divide(model, survey(model))
        if cut is None:
            raise
        return Network(cut.graph, cut)
    if not whole.graph.open_values or hardware_only:
        return whole
    first = survey(model)  # pre-processing before the first quantized value is the host's
    cut = divide(model, first) if first.graph is None else None
    return whole if cut is None else Network(cut.graph, cut)


@dataclass(frozen=True, eq=False)
class Budget:
    """How many points of accuracy narrower tensors may cost: ``most``, on half of the samples that
    calibrate; ``labels``: their classes, None to compare with the float network's.
    """

    most: float
    labels: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Quantization:
    """How a float network becomes integers.

    ``method``: how calibration chooses ranges; ``policy``: the width of each tensor; ``rounding``:
    of weights; ``equalize``: divide channels where that lowers the error; ``budget``: choose the
    widths tensor by tensor in place of the policy's.
    """

    method: str = "mse"
    policy: Policy = DEFAULT
    rounding: Rounding = Rounding.AUTO
    equalize: bool = False
    budget: Budget | None = None


@dataclass(frozen=True, eq=False)
class _Integers:
    """A quantized ``graph``; the ``factors`` of equalized values and the ``widths`` that a budget
    chose, as ``compile.json`` has them.
    """

    graph: ir.Graph
    factors: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    widths: Mapping[str, Any] = field(default_factory=dict)

    def described(self) -> dict[str, Any]:
        if not self.factors:
            return {**self.widths}
        even = {name: each.tolist() for name, each in self.factors.items()}
        return {**self.widths, "equalized": even}


class _Costs:
    """What widths cost in the folding that 8-bit tensors have for a goal."""

    def __init__(self, graph: ir.Graph, device: Device, board: str, goal: Goal) -> None:
        self.graph, self.device, self.board, self.goal = graph, device, board, goal

    @cached_property
    def plan(self) -> Plan | None:
        try:
            return fit(self.graph, self.device, self.board, self.goal).plan
        except FitError:  # narrower tensors may fit
            return None

    def need(self, policy: Policy) -> dict[str, int] | None:
        """Units of logic, DSP blocks and block RAMs; None where that folding is none of these
        widths.
        """
        if self.plan is None:
            return None
        try:
            network = Dataflow(assume_types(self.graph, policy), self.plan, self.device)
        except PlanError:
            return None
        found = network.budgeted
        return {"lut": cells(found, self.device), "dsp": found.dsp, "bram": found.bram}

    def share(self, policy: Policy) -> float:
        """The shares of the board's logic, DSP blocks and block RAMs together; without a folding
        the bits of all weights and of a map of each activation, in megabits.
        """
        need = self.need(policy)
        if need is not None:
            shares = (number / max(1, getattr(self.device, what)) for what, number in need.items())
            return float(sum(shares))
        if self.plan is not None:
            return inf
        weights = (op for op in self.graph if isinstance(op, ir.Conv) and not op.quantized)
        bits = sum(op.weight.size * policy.weight(op.name).bits for op in weights)
        maps = self.graph.values.values()
        bits += sum(one.shape.size * policy.activation(one.name).bits for one in maps)
        return bits / 1e6


def fit(
    graph: ir.Graph,
    device: Device,
    board: str,
    goal: Goal,
    policy: Policy = DEFAULT,
    pool: CandidatePool | None = None,
) -> Dataflow:
    """A plan for a network before any work: a float network's types are assumed as ``policy``
    gives them; ``pool``: what other searches have built for a network of integers.
    """
    if not graph.quantized:
        graph = assume_types(graph, policy)
    return _planned(graph, device, board, goal, pool)


def _planned(
    graph: ir.Graph, device: Device, board: str, goal: Goal, pool: CandidatePool | None = None
) -> Dataflow:
    """A plan for ``goal``; the error says how fast the board is where that is not enough."""
    pool = pool or CandidatePool(graph)
    if goal.interval is None:
        return make_dataflow(graph, device, board, goal, pool)
    try:
        found = make_dataflow(graph, device, board, goal, pool)
        if found.interval <= goal.interval:
            return found
    except FitError:
        pass
    fastest = make_dataflow(graph, device, board, replace(goal, interval=None), pool)
    if fastest.interval > goal.interval:
        allowed = f"{goal.interval} cycles" if goal.interval else "less than a cycle"
        raise FitError(
            f"the goal allows {allowed} a frame, but the fastest plan that fits "
            f"{board} takes {fastest.interval}; ask for fewer frames a second, or for --goal fps",
            [(CYCLES, fastest.interval, goal.interval)],
        )
    return fastest


def compile_model(
    model: Path,
    out: Path,
    device: Device,
    board: str,
    *,
    samples: NDArray[np.generic] | ir.Feeds | None = None,
    quantization: Quantization | None = None,
    goal: Goal | None = None,
    plan: Path | None = None,
    target_mhz: float | None = None,
    argmax: bool = False,
    read: Network | None = None,
    progress: Progress = silent,
) -> Compiled:
    """Compile ``model`` into the directory ``out``, written whole or not at all.

    ``samples`` (an array [n, *input shape] for each input, by name, or that of a lone input)
    calibrate a float model, quantized as ``quantization`` says; ``plan`` is a plan file to use in
    place of the search for ``goal``; ``target_mhz`` is the board's usual clock, for the frames a
    second of the summary; ``read`` is what :func:`read_network` returned, if the file
    has been read already. Raises a :class:`~.errors.GatewrightError` that says what to do.
    """
    check_output(out)
    goal = goal or Goal()
    given = _given(plan, board) if plan else None
    if read is None:
        progress("reading the model")
        read = read_network(model)
    integers = _Integers(read.graph)
    if not read.graph.quantized:
        costs = _Costs(read.graph, device, board, goal)
        how = quantization or Quantization()
        integers = _quantized(model, read, samples, how, progress, costs)
    with directory_for(out) as directory:
        graph = _write_networks(model, read, integers.graph, directory)
        if argmax or (given and given.argmax):
            graph = passes.run(graph, passes.BEFORE_PLAN)
        progress("planning")
        if given:
            network = Dataflow(graph, given, device)
            network.check_multipliers()
            check_queues(network)
        else:
            network = _planned(graph, device, board, goal).replanned(argmax=argmax)
        write_plan(network.plan, directory / "plan.json")
        progress("proving the requantizers")
        accelerator = lower.accelerator(network)
        progress(f"writing RTL{tools.first_use('yosys')}")
        emit.emit(accelerator, directory / "rtl")
        summary = (
            describe(network, model.name, None if given else goal, target_mhz)
            | _outside(read.cut)
            | integers.described()
        )
        (directory / "compile.json").write_text(json.dumps(summary, indent=1) + "\n")
    return Compiled(out, graph, network, read.cut.border if read.cut else None, integers.factors)


def _quantized(
    model: Path,
    network: Network,
    samples: NDArray[np.generic] | ir.Feeds | None,
    how: Quantization,
    progress: Progress,
    costs: _Costs | None = None,
) -> _Integers:
    """The integers of a float network, calibrated on samples of the model's inputs. A budget needs
    the ``costs`` of widths.
    """
    graph, cut = network.graph, network.cut
    if samples is None:
        raise DataError(
            f"{model}: {_lacking(graph)}; give some dozens with --calibration X.npz, in Python "
            "as samples"
        )
    progress("quantizing")
    if cut is not None:
        known = cut.border.before(ir.feeds(cut.border, samples))
        samples = {port.name: known[port.name] for port in graph.inputs}
    policy = how.policy
    factors: Mapping[str, NDArray[np.float32]] = {}
    widths: Mapping[str, Any] = {}
    if how.equalize:
        even = equalized(graph, samples, how.method, policy, progress)
        graph, factors = even.graph, even.factors
    if how.budget is not None and costs is not None:
        found = search(
            graph,
            samples,
            how.budget.labels,
            how.budget.most,
            costs.share,
            method=how.method,
            rounding=how.rounding,
            progress=progress,
        )
        policy, widths = found.chosen.policy, _widths(how.budget, found, costs)
    graph = quantize(
        graph,
        samples,
        method=how.method,
        policy=policy,
        rounding=how.rounding,
        progress=progress,
    )
    return _Integers(graph, factors, widths)


def _write_networks(model: Path, read: Network, integers: ir.Graph, directory: Path) -> ir.Graph:
    """Write the float network, the integers and what stays on the host; the graph of the integers'
    file, which is what the hardware computes.
    """
    (directory / "rtl").mkdir()
    target = directory / "model.int8.onnx"
    if read.cut is not None:
        read.cut.border.write(directory)
    if not read.graph.quantized and not in_qonnx(model):  # which ONNX Runtime does not compute
        _copy(model, read.cut, directory / "model.float.onnx")
    return _write(model, read, integers, target)


def _write(model: Path, read: Network, integers: ir.Graph, target: Path) -> ir.Graph:
    """Write the integers to a file, as they were given where they were; the graph of it."""
    if read.graph.quantized and read.graph.verbatim:
        _copy(model, read.cut, target)
        return integers
    write_qdq(integers, target)
    return load(target)


def write_integers(
    model: Path,
    network: Network,
    target: Path,
    samples: NDArray[np.generic] | ir.Feeds | None = None,
    *,
    policy: Policy = DEFAULT,
    progress: Progress = silent,
) -> ir.Graph:
    """Write the integer network that has hardware of ``model`` to ``target``; the graph of it.

    ``samples`` calibrate a float network, as :class:`Quantization` has it by default.
    """
    integers = network.graph
    if not integers.quantized:
        how = Quantization(policy=policy)
        integers = _quantized(model, network, samples, how, progress).graph
    return _write(model, network, integers, target)


def _widths(budget: Budget, found: Found, costs: _Costs) -> dict[str, Any]:
    """What ``compile.json`` says of widths that were searched for."""
    chosen = found.chosen
    return {
        "widths": {
            "max_drop": budget.most,
            "drop": chosen.drop,
            "usual_drop": found.usual.drop,
            "calibrated": found.calibrated,
            "tested": found.tested,
            "labelled": found.labelled,
            "need": costs.need(chosen.policy),
            "usual_need": costs.need(found.usual.policy),
            "weights": dict(chosen.policy.weights),
            "activations": dict(sorted(chosen.policy.activations.items())),
        }
    }


def _copy(model: Path, cut: Cut | None, target: Path) -> None:
    """Write what has hardware of the model as it was given."""
    if cut is None:
        copy_model(model, target)
    else:
        target.write_bytes(cut.body.SerializeToString())


def _outside(cut: Cut | None) -> dict[str, Any]:
    """What ``compile.json`` says of the parts on the host; nothing where there are none."""
    if cut is None:
        return {}
    host = {"head": list(cut.head), "tail": list(cut.tail), "macs": cut.macs}
    return {"host": host | cut.border.described()}


#: how many values a message names
_NAMED = 8


def _lacking(graph: ir.Graph) -> str:
    """Why a network can not do without samples."""
    if not any(value.quant for value in graph.values.values()):
        return "a float network needs samples to find the ranges of its values"
    open_weights = (f"the weights of {op.name}" for op in graph.ops if not op.quantized)
    names = sorted(graph.open_values) or sorted(open_weights)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return (
        f"the network is quantized but for {', '.join(names[:_NAMED])}{more}, without "
        "QuantizeLinear and DequantizeLinear; samples can show the range"
    )


def _given(file: Path, board: str) -> Plan:
    """The plan in ``file``, which must be for ``board``."""
    plan = read_plan(file)
    if plan.board != board:
        raise DataError(
            f"{file}: made for the board {plan.board}, not for {board}; compile for {plan.board}, "
            "or without --plan"
        )
    return plan


def open_compiled(directory: Path, device_of: Callable[[str], Device]) -> Compiled:
    """What :func:`compile_model` left in ``directory``; ``device_of`` gives a board's device."""
    if not (directory / "compile.json").exists():
        raise DataError(
            f"{directory}: not a directory that `gatewright compile` wrote (no compile.json); "
            "compile a model with -o first"
        )
    plan = read_plan(directory / "plan.json")
    file, remedy = directory / "compile.json", "run `gatewright compile` again"
    summary = read_json(file, remedy)
    described = summary if isinstance(summary, dict) else {}
    board = described.get("board")
    if board != plan.board:
        raise DataError(
            f"{file}: is of the board {shortened(board)}, but plan.json is of {plan.board!r}; "
            f"{remedy}"
        )
    graph = load(directory / "model.int8.onnx")
    if plan.argmax:
        graph = passes.run(graph, passes.BEFORE_PLAN)
    host = described.get("host")
    border = Border.open(directory, host) if isinstance(host, dict) else None
    try:
        divided = (described.get("equalized") or {}).items()
        factors = {str(name): np.array(each, np.float32).reshape(-1) for name, each in divided}
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{file}: equalized holds no numbers by value; {remedy}") from error
    network = Dataflow(graph, plan, device_of(plan.board))
    return Compiled(directory, graph, network, border, factors)


def layers(network: Dataflow) -> list[dict[str, Any]]:
    """A row an operator, in flow order: the keys of ``compile.json``.

    Several operators may share a stage. Their cycles add up to the stage's; its hardware is in the
    row of the first one, and None in the others.
    """
    rows = []
    for stage in network.plan.stages:
        design = network.designs[stage.name]
        need = design.resources(network.device)
        hardware: dict[str, int | None] = {
            "multipliers": design.multipliers,
            "memory_bits": design.memory_bits,
            "block_rams": need.bram,
            "lut": need.lut,
            "ff": need.ff,
            "dsp": need.dsp,
        }
        for op in design.ops:
            rows.append(
                {
                    "name": op.name,
                    "op": type(op).__name__,
                    "output": op.output,
                    "stage": stage.name,
                    "kind": stage.kind,
                    "macs": design.products_of(op),
                    "simd": stage.simd,
                    "pe": stage.pe,
                    "products": stage.products.name.lower(),
                    "cycles": design.cycles_of(op),
                    "shape": list(network.graph.shape(op.output).array),
                    "type": str(network.graph.quant(op.output).dtype),
                    "weight_bits": weight_bits(op) if isinstance(op, ir.Conv) else None,
                    **hardware,
                }
            )
            hardware = dict.fromkeys(hardware)
    return rows


def _streams(network: Dataflow) -> list[dict[str, Any]]:
    """The streams between stages and ports of the network: its drawing."""
    graph = network.graph
    return [
        {
            "source": edge.source,
            "output": edge.output,
            "sink": edge.sink,
            "input": edge.index,
            "value": edge.value,
            "shape": list(graph.shape(edge.value).array),
            "type": str(graph.quant(edge.value).dtype),
            "bits": graph.quant(edge.value).dtype.bits,
            "lanes": edge.lanes_out,
            "queue": edge.depth,
        }
        for edge in network.edges
    ]


def describe(
    network: Dataflow, model: str, goal: Goal | None = None, target_mhz: float | None = None
) -> dict[str, Any]:
    """The content of ``compile.json``. ``goal``: what the plan was searched for; None where it was
    given. ``target_mhz``: the clock for its frames a second.
    """
    need, device = network.linked, network.device
    short = shortfall(network.budgeted, device)
    rows, frame = layers(network), idle_frame(network)
    return {
        "model": model,
        "board": network.plan.board,
        "inputs": _ports(network, network.graph.inputs, network.inputs),
        "outputs": _ports(network, network.graph.outputs, network.outputs),
        "layers": rows,
        "streams": _streams(network),
        "macs": sum(row["macs"] for row in rows),
        "goal": goal and goal.kind,
        "interval_cycles": network.interval,
        "bound_cycles": network.plan.bound_interval,
        "target_mhz": target_mhz,
        "fps": target_mhz and target_mhz * 1e6 / network.interval,
        "latency_cycles": int(frame.last),
        "latency_parts": _latency_parts(network, frame.parts()),
        "bound_latency_cycles": network.plan.bound_latency,
        "multipliers": network.multipliers,
        "products_per_cycle": network.products_per_cycle,
        "device_multipliers": network.device_multipliers,
        "memory_bits_per_cycle": device.bram * device.target.widest_memory,
        "estimate": asdict(need) | {"lut": cells(need, device)},
        "logic_unit": device.target.logic_unit,
        "frame_buffer": network.buffered,
        "available": device.available,
        "fits": not short,
        "shortfall": [
            {"what": what, "needed": needed, "available": there} for what, needed, there in short
        ],
    }


def _latency_parts(
    network: Dataflow, parts: Sequence[LatencyPart]
) -> list[dict[str, str | int | None]]:
    """A row for each stage that a frame's last beat waits for: its name, and cycles by kind."""
    names = [stage.name for stage in network.plan.stages]
    rows = []
    for part in parts:
        cycles = {key: int(value) for key, value in asdict(part).items() if key != "stage"}
        rows.append({"stage": None if part.stage is None else names[part.stage], **cycles})
    return rows


def _ports(
    network: Dataflow,
    models: Sequence[ir.InputPort | ir.OutputPort],
    streams: Sequence[NetworkPort],
) -> list[dict[str, Any]]:
    """A row for each input or output: the model's port and the stream that it is in hardware."""
    return [
        {
            "name": port.name,
            "shape": list(port.shape),
            "dtype": port.dtype,
            "stream": str(network.graph.quant(stream.value).dtype),
            "lanes": stream.lanes,
            "beats": stream.beats,
        }
        for port, stream in zip(models, streams, strict=True)
    ]


def check_output(out: Path) -> None:
    """Raises DataError when ``out`` is something that a compile must not replace."""
    if (
        out.exists()
        and not (out / "compile.json").exists()
        and (not out.is_dir() or any(out.iterdir()))
    ):
        raise DataError(
            f"{out}: exists and is not a directory that `gatewright compile` wrote; name "
            "another with -o, or remove it"
        )
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise DataError(
            f"{out}: can not be written ({above} is a file); name another directory with -o"
        )


@contextmanager
def directory_for(out: Path) -> Iterator[Path]:
    """A new directory that becomes ``out`` when the block ends well, and vanishes otherwise."""
    check_output(out)
    out = out.resolve()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise DataError(
            f"{out}: can not be written ({error.strerror}); name another directory with -o"
        ) from error
    old = work.with_name(f"{work.name}.old")
    try:
        work.chmod(0o755)
        yield work
        if out.exists():
            out.rename(old)
        work.rename(out)
    except BaseException:
        if old.exists() and not out.exists():
            old.rename(out)
        shutil.rmtree(work, ignore_errors=True)
        raise
    shutil.rmtree(old, ignore_errors=True)

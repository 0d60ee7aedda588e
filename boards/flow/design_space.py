"""A model's design space on a board: plans, the clocks of those that are built, table and plots."""

import hashlib
import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from numpy.typing import NDArray

from ...compiler import ir, tools
from ...compiler.driver import Network, compile_model, read_network, write_integers
from ...compiler.errors import DataError, FitError, TimingError
from ...compiler.json_file import write_json
from ...compiler.plan.explore import Point, append_row, explore, network_key
from ...compiler.plan.workers import spread
from ...compiler.progress import Progress, silent
from ...compiler.quantize.policy import DEFAULT, Policy
from ...compiler.report.design_space import write_page
from ...compiler.report.plot import design_space
from ..board import Board
from . import flow_of
from .build import build

__all__ = ["explore_model"]


def explore_model(
    model: Path,
    board: Board,
    out: Path,
    *,
    samples: Callable[[Network], NDArray[Any] | ir.Feeds] | None = None,
    policy: Policy = DEFAULT,
    points: int = 12,
    builds: int = 0,
    jobs: int = 1,
    scheduler: str | None = None,
    arguments: Sequence[str] | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Explore ``model`` on ``board`` into the directory ``out``; the content of ``explore.json``.

    ``samples`` gives the samples that calibrate a float network; without them its types are
    assumed, and costs can differ a little from those of the compiled network. ``builds`` plans of
    the front, evenly spaced, are built: synthesis, place and route. ``arguments`` of `gatewright
    compile` give it the same network, board and samples, for the page. Whatever ``out`` holds
    already of the same network, device, sources and tools is not computed again.

    Raises a :class:`~.errors.GatewrightError` that says what to do.
    """
    network = read_network(model)
    if builds and not network.graph.quantized and samples is None:
        raise DataError(
            f"{model}: --build builds the integer network, and a float network needs samples for "
            "that; give some dozens with --calibration X.npz, or leave --build out"
        )
    out.mkdir(parents=True, exist_ok=True)
    graph, integers = network.graph, out / "model.int8.onnx"
    if graph.quantized or samples is not None:
        given = samples(network) if samples and not graph.quantized else None
        graph = write_integers(model, network, integers, given, policy=policy, progress=progress)
    found = explore(
        graph,
        board.device,
        board.name,
        points=points,
        jobs=jobs,
        scheduler=scheduler,
        cache=out / "points.jsonl",
        policy=policy,
        progress=progress,
    )
    built = _built(found, graph, integers, board, out, builds, jobs, scheduler, progress)
    device = board.device
    rows = [_row(point, board, built.get(point.plan), out) for point in found]
    summary = {
        "model": model.name,
        "board": board.name,
        "clock_mhz": board.target_mhz,
        "available": device.available,
        "logic_unit": device.target.logic_unit,
        "points": rows,
    }
    title = f"Plans of {model.name} for {board.title}"
    design_space(
        rows,
        out / "explore.png",
        title=title,
        available=device.available,
        logic_unit=device.target.logic_unit,
    )
    words = [*(arguments or (f"{model}", "--board", board.name))]
    if not graph.quantized:
        words += "--calibration", "X.npz"
    command = f"gatewright compile {shlex.join(words)} --plan {{plan}} -o out"
    write_page(summary, out / "explore.html", title=title, command=command)
    write_json(out / "explore.json", summary)
    return summary


def _row(point: Point, board: Board, built: Mapping[str, Any] | None, out: Path) -> dict[str, Any]:
    """A point of ``explore.json``; its plan is written to a file."""
    row = asdict(point)
    text = row.pop("plan")
    file = None
    if text:
        name = hashlib.sha256(text.encode()).hexdigest()[:6]
        path = out / "plans" / f"{point.interval}-{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        file = path.relative_to(out).as_posix()
    fps = round(board.target_mhz * 1e6 / point.interval, 3)
    return row | {"fps": fps, "plan": file, "built": dict(built) if built else None}


# Plans that are built.


@dataclass(frozen=True)
class _Builder:
    """Compiles and builds a plan of ``model`` (a quantized ONNX file's content) on any machine.

    In ``folder``, or, where that is None, in a directory that does not stay.
    """

    model: bytes
    board: Board
    folder: Path | None

    def __call__(self, plan: str) -> dict[str, Any]:
        """The figures of ``build.json`` that a design space shows."""
        with TemporaryDirectory(prefix="gatewright-") as scratch:
            work = Path(scratch)
            model, file = work / "model.int8.onnx", work / "plan.json"
            model.write_bytes(self.model)
            file.write_text(plan)
            out = work / "out"
            if self.folder is not None:
                out = self.folder / hashlib.sha256(plan.encode()).hexdigest()[:12]
            compiled = compile_model(model, out, self.board.device, self.board.name, plan=file)
            try:
                build(out, self.board)
            except TimingError:
                pass  # build.json has the clock that is reached
            except FitError as error:
                return {"error": str(error), "timing_met": False}
            done = json.loads((out / "build.json").read_text())
            clock = done["clock_mhz"]
            used = {what: use["used"] for what, use in done["utilization"].items()}
            return {
                "timing_met": done["timing_met"],
                "clock_mhz": clock,
                "fmax_mhz": done["fmax_mhz"],
                "fps": clock * 1e6 / compiled.network.interval if done["timing_met"] else None,
                "used": used,
                "tools": done["tools"],
                "directory": str(out) if self.folder is not None else None,
            }


def _built(
    points: Sequence[Point],
    graph: ir.Graph,
    integers: Path,
    board: Board,
    out: Path,
    count: int,
    jobs: int,
    scheduler: str | None,
    progress: Progress,
) -> dict[str, dict[str, Any]]:
    """By plan: what the builds in ``out`` came to, after ``count`` of the front have been built."""
    cache = out / "builds.jsonl"
    known = _known(cache)
    chosen = _promising(points, count)
    if not chosen and not known:
        return {}
    base = network_key(graph, board.device, board.name) + _tools(board)
    keys = {point.plan: _digest(base + repr(board) + point.plan) for point in points if point.plan}
    todo = [point.plan for point in chosen if keys[point.plan] not in known]
    folder = None if scheduler else out / "builds"
    task = _Builder(integers.read_bytes(), board, folder) if todo else None
    if task is not None:
        progress(f"building 1 of {len(todo)} plans: synthesis, place and route take minutes each")
        for number, (plan, result) in enumerate(spread(task, todo, jobs, scheduler), 1):
            known[keys[plan]] = result
            append_row(cache, {"key": keys[plan], "result": result})
            progress(f"built {number} of {len(todo)} plans")
    return {plan: known[key] for plan, key in keys.items() if key in known}


def _promising(points: Sequence[Point], count: int) -> list[Point]:
    """``count`` points of the front, spread evenly over the logarithm of the interval."""
    front = [point for point in points if point.pareto]
    if count < 1 or not front:
        return []
    if count >= len(front):
        return front
    first, last = log(front[0].interval), log(front[-1].interval)
    wanted = [first + (last - first) * n / max(1, count - 1) for n in range(count)]
    chosen: list[Point] = []
    for place in wanted:
        left = [point for point in front if point not in chosen]
        chosen.append(min(left, key=lambda point: abs(log(point.interval) - place)))
    return sorted(chosen, key=lambda point: point.interval)


def _tools(board: Board) -> str:
    """The tools that build for ``board``, and the source of the flow."""
    flow = flow_of(board.device.target)
    found = [tools.find(name) for name in ("yosys", flow.place, flow.pack)]
    files = sorted(Path(__file__).parents[1].rglob("*.py"))
    source = "".join(_digest(file.read_text()) for file in files)
    return "".join(f"{tool.name} {tool.version} " for tool in found) + _digest(source)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _known(cache: Path) -> dict[str, dict[str, Any]]:
    """Results by key; lines that can not be read are those of an interrupted write."""
    found: dict[str, dict[str, Any]] = {}
    if not cache.exists():
        return found
    for line in cache.read_text().splitlines():
        try:
            row = json.loads(line)
            found[str(row["key"])] = dict(row["result"])
        except (ValueError, KeyError, TypeError):
            continue
    return found

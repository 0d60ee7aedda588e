"""The design space: plans from the fastest that fits to the smallest, and the best of them."""

import hashlib
import importlib
import json
import multiprocessing
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, fields, replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from ... import hw
from ...hw.target.base import Device
from .. import ir, plan, stages
from ..errors import FitError, ToolError
from ..progress import Progress, silent
from ..quantize.assume import assume_types
from ..quantize.policy import DEFAULT, Policy
from .schedule import latency
from .search import Goal, make_dataflow

__all__ = ["Point", "explore", "pareto"]


@dataclass(frozen=True)
class Point:
    """One plan: for ``target`` cycles a frame it takes ``interval``; costs are estimates.

    ``dsp`` counts blocks. ``pareto``: the point is not dominated by another one. A target that no
    plan reaches on the device does not fit; then only ``target`` and ``interval``, which are equal,
    have a meaning.
    """

    target: int
    interval: int
    latency: int
    multipliers: int
    lut: int
    ff: int
    dsp: int
    bram: int
    fits: bool = True
    pareto: bool = False


def explore(
    graph: ir.Graph,
    device: Device,
    board: str,
    *,
    points: int = 24,
    jobs: int = 1,
    scheduler: str | None = None,
    cache: Path | None = None,
    policy: Policy = DEFAULT,
    progress: Progress = silent,
) -> list[Point]:
    """Plans for ``points`` intervals, evenly spaced in their logarithm, the fastest first.

    The intervals lie between those of the fastest plan that fits ``device`` and of the smallest
    plan. Equal plans are one point; those on the Pareto front are marked. ``jobs`` local processes
    share the work, or the workers of the Dask ``scheduler`` (an address). Each point is appended to
    the file ``cache`` as a line of JSON when it is computed. Points of this network that the file
    already has are not computed again, so an interrupted exploration can be continued. ``policy``
    gives the widths of a float network.

    Raises :class:`FitError` when nothing fits, :class:`ToolError` when the scheduler can not be
    used.
    """
    if not graph.quantized:
        graph = assume_types(graph, policy)
    task = _Task(graph, device, board)
    store = _Store(cache, task.key)
    ends = [
        store.known.get(kind) or store.keep(kind, task.end(kind))
        for kind in ("fps", "latency", "area")
    ]
    fastest, slowest = ends[0].interval, ends[-1].interval
    found = {end.interval: end for end in ends}
    targets = [target for target in _spaced(fastest, slowest, points) if target not in found]
    todo = [target for target in targets if str(target) not in store.known]
    for number, (target, point) in enumerate(_computed(task, todo, jobs, scheduler)):
        store.keep(str(target), point)
        progress(f"exploring: {number + 1} of {len(todo)} plans")
    all_points = [*ends, *(store.known[str(target)] for target in targets)]
    return pareto(_distinct(all_points))


def pareto(points: Iterable[Point]) -> list[Point]:
    """The points by interval, with those marked that are not dominated."""
    points = sorted(points, key=lambda point: (point.interval, _goodness(point)))
    return [
        replace(point, pareto=point.fits and not any(_beats(other, point) for other in points))
        for point in points
    ]


def _goodness(point: Point) -> tuple[int, ...]:
    """The figures to minimize."""
    return (point.interval, point.latency, point.lut, point.ff, point.dsp, point.bram)


def _beats(one: Point, other: Point) -> bool:
    a, b = _goodness(one), _goodness(other)
    return one.fits and a != b and all(x <= y for x, y in zip(a, b, strict=True))


def _distinct(points: Iterable[Point]) -> list[Point]:
    """One point for each plan."""
    return list({(point.fits, *_goodness(point)): point for point in points}.values())


def _spaced(first: int, last: int, count: int) -> list[int]:
    """``count`` intervals from ``first`` to ``last``, evenly spaced in their logarithm."""
    if count < 2 or last <= first:
        return sorted({first, last})
    spaced = np.exp(np.linspace(log(first), log(last), count))
    return sorted({first, last, *(round(float(x)) for x in spaced[1:-1])})


# One plan.


@dataclass(frozen=True, eq=False)
class _Task:
    """The input of a worker that computes points."""

    graph: ir.Graph
    device: Device
    board: str

    @property
    def key(self) -> str:
        """A hash of the network, the device and the planner's own source."""
        digest = hashlib.sha256(repr(self.device).encode() + self.board.encode())
        digest.update(ir.to_text(self.graph).encode())
        for op in self.graph:
            for value in vars(op).values():
                if isinstance(value, np.ndarray):
                    digest.update(np.ascontiguousarray(value).tobytes())
        folders = [Path(module.__file__ or "").parent for module in (plan, stages, hw)]
        for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
            digest.update(path.read_bytes())
        return digest.hexdigest()[:16]

    def end(self, kind: str) -> Point:
        """The plan of the least interval or latency, or the smallest."""
        return self._point(None, Goal(kind))

    def __call__(self, target: int) -> Point:
        try:
            return self._point(target, Goal("fps", target))
        except FitError:
            return Point(target, target, 0, 0, 0, 0, 0, 0, fits=False)

    def _point(self, target: int | None, goal: Goal) -> Point:
        network = make_dataflow(self.graph, self.device, self.board, goal)
        need = network.resources
        return Point(
            target or network.interval,
            network.interval,
            latency(network),
            network.multipliers,
            need.lut,
            need.ff,
            need.dsp,
            need.bram,
        )


# Execution: in this process, in local ones, or on a Dask cluster.


def _computed(
    task: _Task, targets: Sequence[int], jobs: int, scheduler: str | None
) -> Iterator[tuple[int, Point]]:
    """The points, each as soon as it is known."""
    if not targets:
        return iter(())
    if scheduler is not None:
        return _by_dask(task, targets, scheduler)
    if jobs > 1 and len(targets) > 1:
        return _by_processes(task, targets, jobs)
    return ((target, task(target)) for target in targets)


_task: _Task | None = None


def _start(task: _Task) -> None:
    """Give a new worker process the task, once."""
    global _task
    _task = task


def _work(target: int) -> Point:
    assert _task is not None
    return _task(target)


def _by_processes(task: _Task, targets: Sequence[int], jobs: int) -> Iterator[tuple[int, Point]]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(targets)), context, _start, (task,)) as pool:
        waiting = {pool.submit(_work, target): target for target in targets}
        try:
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _by_dask(task: _Task, targets: Sequence[int], address: str) -> Iterator[tuple[int, Point]]:
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise ToolError(
            "--scheduler needs Dask, which is not installed; install it with "
            'pip install "dask[distributed]", or leave --scheduler out to use this '
            "machine"
        ) from error
    try:
        client = distributed.Client(address, timeout="10s")
    except (OSError, ValueError) as error:
        raise ToolError(
            f"no Dask scheduler answers at {address} ({error}); start one with "
            "dask scheduler, and workers with dask worker, where gatewright is "
            "installed too"
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise ToolError(
                f"the Dask scheduler at {address} has no workers; start some with "
                f"dask worker {address}, where gatewright is installed too"
            )
        shared = client.scatter(task, broadcast=True, hash=False)
        waiting = {client.submit(_apply, shared, target, pure=False): target for target in targets}
        for done in distributed.as_completed(list(waiting)):
            yield waiting[done], done.result()


def _apply(task: _Task, target: int) -> Point:
    return task(target)


# Points computed earlier.


class _Store:
    """Points of one network in a file of JSON lines, which may hold those of other networks."""

    def __init__(self, path: Path | None, key: str) -> None:
        self.path, self.key = path, key
        self.known: dict[str, Point] = dict(self._read())

    def _read(self) -> Iterator[tuple[str, Point]]:
        if self.path is None or not self.path.exists():
            return
        names = {field.name for field in fields(Point)}
        for line in self.path.read_text().splitlines():
            try:
                row: dict[str, Any] = json.loads(line)
                if row["key"] == self.key and set(row["point"]) == names:
                    yield str(row["for"]), Point(**row["point"])
            except (ValueError, KeyError, TypeError):
                continue  # a line that was being written when the last exploration ended

    def keep(self, what: str, point: Point) -> Point:
        self.known[what] = point
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            row = json.dumps({"key": self.key, "for": what, "point": asdict(point)})
            with self.path.open("a", encoding="utf-8") as file:
                if file.tell() and not self._ends_with_newline():
                    file.write("\n")
                file.write(row + "\n")
                file.flush()
                os.fsync(file.fileno())
        return point

    def _ends_with_newline(self) -> bool:
        assert self.path is not None
        with self.path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) == b"\n"

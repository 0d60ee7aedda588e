"""The design space: plans from the fastest that fits to the smallest, and the best of them."""

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from math import log
from pathlib import Path
from typing import Any

import numpy as np

from ... import hw
from ...hw.target.base import Device
from .. import ir, plan, stages
from ..errors import FitError
from ..progress import Progress, silent
from ..quantize.assume import assume_types
from ..quantize.policy import DEFAULT, Policy
from .plan_file import plan_text
from .resources import cells
from .schedule import latency
from .search import Goal, make_dataflow
from .workers import spread

__all__ = ["Point", "append_row", "explore", "network_key", "pareto"]


#: the plans at the ends of a design space, by the goal of their search
_ENDS = {"fps": "highest rate", "latency": "least latency", "area": "least hardware"}


@dataclass(frozen=True)
class Point:
    """One plan: for ``target`` cycles a frame it takes ``interval``; costs are estimates.

    Costs are those of ``compile.json`` for the same plan, with the link to the host; ``dsp`` counts
    blocks. ``share``: the mean share of the device's LUTs, flip-flops, DSP blocks and block RAMs.
    ``plan``: the text of its ``plan.json``. ``pareto``: the point is on the front, see
    :func:`pareto`. A target that no plan reaches on the device does not fit; then only ``target``
    and ``interval``, which are equal, have a meaning.
    """

    target: int
    interval: int
    latency: int
    multipliers: int
    lut: int
    ff: int
    dsp: int
    bram: int
    share: float = 0.0
    plan: str = field(default="", repr=False)
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
    plan; multipliers in soft logic and adder trees are allowed. The plan of the least latency is
    one more point. Equal plans are one point; those on the Pareto front are marked. ``jobs`` local
    processes share the work, or the workers of the Dask ``scheduler`` (an address). Each point is
    appended to the file ``cache`` as a line of JSON when it is computed. Points of this network
    that the file already has are not computed again, so an interrupted exploration can be
    continued. ``policy`` gives the widths of a float network.

    Raises :class:`FitError` when nothing fits, :class:`ToolError` when the scheduler can not be
    used.
    """
    if not graph.quantized:
        graph = assume_types(graph, policy)
    task = _Task(graph, device, board)
    store = _Store(cache, task.key)
    ends = []
    for kind, what in _ENDS.items():
        if kind not in store.known:
            progress(f"exploring: the plan of the {what}")
            store.keep(kind, task.end(kind))
        ends.append(store.known[kind])
    fastest, slowest = ends[0].interval, ends[-1].interval
    found = {end.interval: end for end in ends}
    targets = [target for target in _spaced(fastest, slowest, points) if target not in found]
    todo = [target for target in targets if str(target) not in store.known]
    every = len(ends) + len(targets)
    done = every - len(todo)
    for number, (target, point) in enumerate(spread(task, todo, jobs, scheduler), done + 1):
        store.keep(str(target), point)
        progress(f"exploring: {number} of {every} plans")
    all_points = [*ends, *(store.known[str(target)] for target in targets)]
    return pareto(_distinct(all_points))


def pareto(points: Iterable[Point]) -> list[Point]:
    """The points by interval, with those on the front marked.

    A plan is on the front if no other plan is better for some exchange rate of speed against chip:
    it maximizes ``frames a second ** a / share`` for some a >= 0 (the lower convex hull over the
    logarithms of interval and share). So it is not dominated, and a plan between two others that
    is slower for next to no saving is not on it. The plan of the least latency is on it as well.
    """
    points = sorted(points, key=lambda point: (point.interval, point.share, *_goodness(point)))
    hull: list[Point] = []
    for point in points:
        if not point.fits or (hull and point.share >= hull[-1].share):
            continue
        while len(hull) > 1 and not _below(hull[-2], hull[-1], point):
            hull.pop()
        hull.append(point)
    shortest = min((point for point in points if point.fits), key=_latency_order, default=None)
    best = {id(point) for point in (*hull, shortest)}
    return [replace(point, pareto=id(point) in best) for point in points]


def _below(first: Point, middle: Point, last: Point) -> bool:
    """Whether ``middle`` is below the line from ``first`` to ``last``."""
    (x0, y0), (x1, y1), (x2, y2) = (
        (log(point.interval), log(point.share)) for point in (first, middle, last)
    )
    return (y1 - y0) * (x2 - x0) < (y2 - y0) * (x1 - x0)


def _latency_order(point: Point) -> tuple[float, ...]:
    return (point.latency, point.interval, point.share)


def _goodness(point: Point) -> tuple[int, ...]:
    """The figures to minimize."""
    return (point.interval, point.latency, point.lut, point.ff, point.dsp, point.bram)


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
        return network_key(self.graph, self.device, self.board)

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
        need = network.linked
        costs = {"lut": cells(need, self.device), "ff": need.ff, "dsp": need.dsp, "bram": need.bram}
        shares = [costs[what] / max(1, there) for what, there in self.device.available.items()]
        return Point(
            target=target or network.interval,
            interval=network.interval,
            latency=latency(network),
            multipliers=network.multipliers,
            lut=costs["lut"],
            ff=costs["ff"],
            dsp=costs["dsp"],
            bram=costs["bram"],
            share=round(sum(shares) / len(shares), 4),
            plan=plan_text(network.plan),
        )


def network_key(graph: ir.Graph, device: Device, board: str) -> str:
    """A hash of a network, a device and the source of planner and gateware."""
    digest = hashlib.sha256(repr(device).encode() + board.encode())
    digest.update(ir.to_text(graph).encode())
    for op in graph:
        for value in vars(op).values():
            if isinstance(value, np.ndarray):
                digest.update(np.ascontiguousarray(value).tobytes())
    folders = [Path(module.__file__ or "").parent for module in (plan, stages, hw)]
    for path in (path for folder in folders for path in sorted(folder.rglob("*.py"))):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


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
            append_row(self.path, {"key": self.key, "for": what, "point": asdict(point)})
        return point


def append_row(path: Path, row: Mapping[str, Any]) -> None:
    """Append a line of JSON to ``path``, on disk when this returns; a line before it that was cut
    off stays a line of its own.
    """
    with path.open("ab+") as file:
        torn = False
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write((b"\n" if torn else b"") + json.dumps(row).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())

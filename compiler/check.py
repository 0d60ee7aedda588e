"""The check step: every node's verdict, and which boards the network fits, before any work."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from . import ir
from .brief import Brief
from .driver import CYCLES, describe, fit
from .errors import FitError, GatewrightError
from .frontend import Survey, Verdict, divide, load, survey
from .plan import (
    CandidatePool,
    Device,
    Goal,
    available,
    least_interval,
    make_dataflow,
    refuse_too_large,
)
from .plan.candidates import least_designs
from .quantize import Policy
from .quantize.assume import assume_types
from .quantize.policy import DEFAULT
from .stages import stage_ops

__all__ = ["Checked", "advised", "check"]

#: share of a device, without queues, above which only a search shows whether a network fits
_TIGHT = 0.85


class Target(Protocol):
    """A board, as far as the check needs it."""

    @property
    def name(self) -> str: ...
    @property
    def device(self) -> Device: ...
    @property
    def target_mhz(self) -> float: ...


@dataclass(frozen=True, eq=False, repr=False)
class Checked(Brief):
    """``summary``: what `check --json` prints. ``error``: why the network can not be compiled, None
    when it can be.
    """

    summary: dict[str, Any]
    error: GatewrightError | None

    def facts(self) -> dict[str, object]:
        verdicts = Counter(node["verdict"] for node in self.summary["nodes"])
        fitting = [row["name"] for row in self.summary["boards"] if row["fits"]]
        return {
            "model": self.summary["model"],
            "nodes": ", ".join(f"{number} {verdict}" for verdict, number in verdicts.items()),
            "fits": ", ".join(fitting) or "no board",
            **({"error": self.error} if self.error else {}),
        }


def check(
    model: Path,
    boards: Sequence[Target],
    chosen: Target,
    *,
    goal_of: Callable[[Target], Goal],
    policy: Policy = DEFAULT,
    alone: bool = False,
) -> Checked:
    """The verdicts on the nodes of ``model``, and how it fits each of ``boards``.

    ``goal_of``: the goal for a board; that of a rate depends on the board's clock. For ``chosen`` a
    plan is searched; the summary then has the keys of ``compile.json`` too. For the others a search
    is made only where a bound does not tell whether they are large and fast enough. ``alone``: it
    is an error when the network does not fit ``chosen``, whatever other boards it fits.
    """
    summary: dict[str, Any] = {
        "model": model.name,
        "nodes": [],
        "macs": None,
        "parameters": None,
        "boards": [],
    }
    try:
        found = survey(model)
        summary["nodes"] = [_entry(verdict) for verdict in found.verdicts]
        summary |= {"macs": found.macs, "parameters": found.parameters}
        graph = found.graph or _divided(model, found, summary)
        if not graph.quantized:
            graph = assume_types(graph, policy)
        summary |= _memory(graph) | {"macs": _macs(graph, chosen.device)}
        return _fitted(summary, graph, boards, chosen, goal_of, alone)
    except GatewrightError as error:
        return Checked(summary, error)


def _divided(model: Path, found: Survey, summary: dict[str, Any]) -> ir.Graph:
    """The network of what has hardware, the verdicts on the rest; or the error for the whole."""
    cut = divide(model, found)
    if cut is None:
        return load(model)
    summary["nodes"] = [_entry(verdict) for verdict in cut.verdicts]
    summary["host_macs"] = cut.macs
    return cut.graph


def _entry(verdict: Verdict) -> dict[str, str]:
    """What JSON says of a node."""
    return {
        "name": verdict.name,
        "op": verdict.op,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "change": verdict.change,
    }


def _fitted(
    summary: dict[str, Any],
    graph: ir.Graph,
    boards: Sequence[Target],
    chosen: Target,
    goal_of: Callable[[Target], Goal],
    alone: bool,
) -> Checked:
    """The summary with the plan for the chosen board, and a row a board."""
    error = plan = None
    pool, goal = CandidatePool(graph), goal_of(chosen)
    failed: list[tuple[Device, FitError]] = []
    try:
        plan = fit(graph, chosen.device, chosen.name, goal, pool=pool)
    except FitError as found:
        error = found
        failed.append((chosen.device, error))
    rows: dict[str, dict[str, Any]] = {}
    for board in boards:
        wanted = goal_of(board)
        if plan is not None and board.name == chosen.name:
            rows[board.name] = _row(board, plan.interval, "planned")
            continue
        try:
            smaller = (e for other, e in failed if _lacks_too(board.device, wanted, other, e))
            known = error if board.name == chosen.name else next(smaller, None)
            if known and CYCLES in [what for what, *_ in known.lacking]:
                refuse_too_large(graph, board.device, pool)  # it may be too small as well
            rows[board.name] = (
                _refused(board, wanted, known) if known else _estimated(pool, board, wanted)
            )
        except FitError as found:
            failed.append((board.device, found))
            rows[board.name] = _refused(board, wanted, found)
    summary["boards"] = list(rows.values())
    if plan is not None:
        return Checked(
            {**summary, **describe(plan, summary["model"], goal, chosen.target_mhz)}, None
        )
    smallest = _smallest(pool, boards, goal_of, rows)
    summary["boards"] = list(rows.values())
    if smallest and not alone:
        return Checked(summary, None)
    return Checked(summary, advised(error, smallest, goal) if error else None)


def _smallest(
    pool: CandidatePool,
    boards: Sequence[Target],
    goal_of: Callable[[Target], Goal],
    rows: dict[str, dict[str, Any]],
) -> str | None:
    """The smallest board of those that fit; for a rate the first one of which a plan shows it. The
    ``rows`` of the boards that are planned are replaced.
    """
    for board in sorted(boards, key=lambda board: board.device.lut):
        goal, row = goal_of(board), rows[board.name]
        if row["fits"] and row["how"] == "estimated" and goal.interval is not None:
            try:
                row = _searched(pool, board, goal, row["interval_cycles"])
            except FitError as error:
                row = _refused(board, goal, error)
            rows[board.name] = row
        if row["fits"]:
            return board.name
    return None


def _lacks_too(device: Device, goal: Goal, other: Device, error: FitError) -> bool:
    """Whether a device has no more of anything than one that lacks something for the network; its
    own estimate does not see all that a plan takes.
    """
    smaller = all(device.available[what] <= there for what, there in other.available.items())
    limit = goal.interval
    lacks = (what != CYCLES or (limit is not None and n > limit) for what, n, _ in error.lacking)
    return any(lacks) and device.target == other.target and smaller


def advised(error: FitError, smallest: str | None, goal: Goal) -> FitError:
    """The error with the smallest board that would do, None where there is none."""
    rate = goal.interval is not None
    if smallest is None:
        enough = "large and fast enough" if rate else "large enough"
        advice = f"no board that gatewright knows is {enough}"
    else:
        does = "reaches that rate" if rate else "fits"
        advice = f"the smallest board that {does} is {smallest}"
    return FitError(f"{error}; {advice}", error.lacking)


def _estimated(pool: CandidatePool, board: Target, goal: Goal) -> dict[str, Any]:
    """The row of a board: by a bound, or by a search where the network hardly fits, or needs more
    than the DSP blocks for the rate of ``goal``. Raises :class:`FitError` where it does not fit.
    """
    tight = refuse_too_large(pool.graph, board.device, pool).share >= _TIGHT
    if tight and goal.interval is None:
        return _searched(pool, board, Goal())
    least = least_interval(pool.graph, board.device, board.name, pool)
    if tight or (goal.interval is not None and least > goal.interval):
        return _searched(pool, board, goal, least)
    return _row(board, least, "estimated")


def _searched(pool: CandidatePool, board: Target, goal: Goal, least: int = 0) -> dict[str, Any]:
    """The row of a board by a plan. Raises :class:`FitError` where none keeps the rate of ``goal``;
    by the DSP blocks alone it takes ``least`` cycles a frame.
    """
    found = make_dataflow(pool.graph, board.device, board.name, goal, pool)
    limit = goal.interval
    if limit is not None and found.interval > limit:
        raise FitError(f"{board.name} is too slow", [(CYCLES, max(least, limit + 1), limit)])
    return _row(board, found.interval, "planned")


def _refused(board: Target, goal: Goal, error: FitError) -> dict[str, Any]:
    """The row of a board that is too small or too slow by what ``error`` says of this or of a
    larger one.
    """
    there = {**available(board.device), CYCLES: goal.interval or 0}
    lacking = [(what, needed, there[what]) for what, needed, _ in error.lacking]
    return _row(board, None, "planned", lacking)


def _row(
    board: Target, interval: int | None, how: str, lacking: Sequence[tuple[str, int, int]] = ()
) -> dict[str, Any]:
    return {
        "name": board.name,
        "fits": interval is not None,
        "interval_cycles": interval,
        "fps": board.target_mhz * 1e6 / interval if interval else None,
        "how": how,
        "lacking": [
            {"what": what, "needed": needed, "available": there} for what, needed, there in lacking
        ],
    }


def _macs(graph: ir.Graph, device: Device) -> int:
    """Products of a frame."""
    return sum(least_designs(op, graph, device)[0].products_of(op) for op in stage_ops(graph))


def _memory(graph: ir.Graph) -> dict[str, int]:
    """Bytes of the feature maps: of all in a frame, and of the largest."""
    sizes = [
        -(-value.shape.size * (value.quant.dtype.bits if value.quant else 32) // 8)
        for value in graph.values.values()
    ]
    return {"activation_bytes": sum(sizes), "largest_activation_bytes": max(sizes)}

"""The check step: every node's verdict, and which boards the network fits, before any work."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from . import ir
from .brief import Brief
from .driver import describe, fit
from .errors import FitError, GatewrightError
from .frontend import Survey, Verdict, divide, load, survey
from .plan import CandidatePool, Device, Goal, available, least_interval, refuse_too_large
from .plan.candidates import least_designs
from .quantize import Policy
from .quantize.assume import assume_types
from .quantize.policy import DEFAULT
from .stages import stage_ops

__all__ = ["Checked", "check"]

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
    goal: Goal,
    policy: Policy = DEFAULT,
    alone: bool = False,
) -> Checked:
    """The verdicts on the nodes of ``model``, and how it fits each of ``boards``.

    For ``chosen`` a plan for ``goal`` is searched; the summary then has the keys of
    ``compile.json`` too. For the others a search is made only where a bound does not tell whether
    they are large enough. ``alone``: it is an error when the network does not fit ``chosen``,
    whatever other boards it fits.
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
        return _fitted(summary, graph, boards, chosen, goal, alone)
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
    goal: Goal,
    alone: bool,
) -> Checked:
    """The summary with the plan for the chosen board, and a row a board."""
    error = plan = None
    pool = CandidatePool(graph)
    failed: list[tuple[Device, FitError]] = []
    try:
        plan = fit(graph, chosen.device, chosen.name, goal, pool=pool)
    except FitError as found:
        error = found
        failed.append((chosen.device, error))
    rows = []
    for board in boards:
        if plan is not None and board.name == chosen.name:
            rows.append(_row(board, plan.interval, "planned"))
            continue
        try:
            smaller = (e for other, e in failed if _lacks_too(board.device, other, e))
            known = error if board.name == chosen.name else next(smaller, None)
            rows.append(_refused(board, known) if known else _estimated(pool, board))
        except FitError as found:
            failed.append((board.device, found))
            rows.append(_refused(board, found))
    summary["boards"] = rows
    if plan is not None:
        return Checked({**summary, **describe(plan, summary["model"], goal)}, None)
    fitting = [b for b, row in zip(boards, rows, strict=True) if row["fits"]]
    if fitting and not alone:
        return Checked(summary, None)
    return Checked(summary, _advised(error, fitting) if error else None)


def _lacks_too(device: Device, other: Device, error: FitError) -> bool:
    """Whether a device has no more of anything than one that lacks something for the network; its
    own estimate does not see all that a plan takes.
    """
    smaller = all(device.available[what] <= there for what, there in other.available.items())
    return bool(error.lacking) and device.target == other.target and smaller


def _advised(error: FitError, fitting: Sequence[Target]) -> FitError:
    """The error with the smallest board that would do."""
    if not fitting:
        advice = "no board that gatewright knows is large enough"
    else:
        smallest = min(fitting, key=lambda board: board.device.lut)
        advice = f"the smallest board that fits is {smallest.name}"
    return FitError(f"{error}; {advice}", error.lacking)


def _estimated(pool: CandidatePool, board: Target) -> dict[str, Any]:
    """The row of a board: by a bound, or by a search where the network hardly fits. Raises
    :class:`FitError` where it does not.
    """
    graph, device, name = pool.graph, board.device, board.name
    if refuse_too_large(graph, device, pool).share < _TIGHT:
        return _row(board, least_interval(graph, device, name, pool), "estimated")
    return _row(board, fit(graph, device, name, Goal(), pool=pool).interval, "planned")


def _refused(board: Target, error: FitError) -> dict[str, Any]:
    """The row of a board that is too small by what ``error`` says of this or of a larger one."""
    there = available(board.device)
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

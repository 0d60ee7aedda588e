"""``plan.json``: a plan as people read and edit it."""

import json
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from ..errors import PlanError
from ..stages import StagePlan
from .dataflow import Plan

__all__ = ["read_plan", "write_plan"]

_T = TypeVar("_T")


def write_plan(plan: Plan, path: Path) -> None:
    """Write ``plan``: a line a stage, in flow order."""
    stages = ",\n".join("  " + json.dumps(asdict(stage)) for stage in plan.stages)
    queues = ",\n".join(
        "  " + json.dumps({"stage": stage, "input": index, "pixels": depth})
        for (stage, index), depth in plan.queues.items()
    )
    path.write_text(
        f'{{"board": {json.dumps(plan.board)},\n "lanes_in": {plan.lanes_in},\n'
        f' "argmax": {json.dumps(plan.argmax)},\n'
        f' "stages": [\n{stages}],\n "queues": [{queues and chr(10)}{queues}]}}\n'
    )


def read_plan(path: Path) -> Plan:
    """The plan in ``path``; :class:`PlanError` says which part of the file is not one."""
    try:
        text = path.read_text()
    except OSError as error:
        raise PlanError(
            f"{path}: can not be read ({error.strerror}); name a plan.json that "
            "`gatewright compile` wrote"
        ) from error
    try:
        table = json.loads(text)
    except json.JSONDecodeError as error:
        raise PlanError(f"{path}:{error.lineno}: not JSON ({error.msg})") from error
    if not isinstance(table, dict) or not isinstance(table.get("stages"), list):
        raise PlanError(
            f'{path}: a plan is an object with "board", "lanes_in", "stages" and "queues"'
        )
    stages = tuple(_stage(path, n, entry) for n, entry in enumerate(table["stages"]))
    queues = {}
    for n, entry in enumerate(table.get("queues", [])):
        where = f"{path}: queue {n}"
        queues[_take(where, entry, "stage", str), _take(where, entry, "input", int)] = _number(
            where, entry, "pixels", 1
        )
    return Plan(
        _take(str(path), table, "board", str),
        stages,
        queues,
        _number(str(path), table, "lanes_in", 1),
        bool(table.get("argmax", False)),
    )


def _stage(path: Path, number: int, entry: Any) -> StagePlan:
    where = f"{path}: stage {number}"
    known = {field.name for field in fields(StagePlan)}
    unknown = set(entry) - known if isinstance(entry, dict) else set()
    if unknown:
        raise PlanError(
            f"{where}: unknown {', '.join(sorted(unknown))}; a stage has {', '.join(sorted(known))}"
        )
    ops = _take(where, entry, "ops", list)
    weights = _take(where, entry, "weights", str)
    if weights not in ("block_ram", "packed_rows", "logic"):
        raise PlanError(
            f'{where}: weights={weights!r}; choose "block_ram" (block RAM), "packed_rows" (in as '
            'little of it as can be) or "logic"'
        )
    return StagePlan(
        _take(where, entry, "name", str),
        _take(where, entry, "kind", str),
        tuple(str(op) for op in ops),
        _number(where, entry, "simd", 1),
        _number(where, entry, "pe", 1),
        _number(where, entry, "dsp_multipliers", 0),
        weights,
        "minimal_rows" in entry and _take(where, entry, "minimal_rows", bool),
        None if entry.get("site") is None else _number(where, entry, "site", 0),
    )


def _number(where: str, entry: Any, key: str, least: int) -> int:
    value = _take(where, entry, key, int)
    if value < least:
        raise PlanError(f'{where}: "{key}" is {value}; it must be at least {least}')
    return value


def _take(where: str, entry: Any, key: str, kind: type[_T]) -> _T:
    if not isinstance(entry, dict) or key not in entry:
        raise PlanError(f'{where}: lacks "{key}"')
    value = entry[key]
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise PlanError(f'{where}: "{key}" is {value!r}; it must be of type {kind.__name__}')
    return value

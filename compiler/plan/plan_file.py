"""``plan.json``: a plan as people read and edit it."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .. import limits
from ..errors import PlanError
from ..json_file import Key, Keys, read_json, shortened, take
from ..stages import StagePlan
from .dataflow import Plan

__all__ = ["FORMAT", "plan_text", "read_plan", "write_plan"]

#: the version of the format; a file without one is of version 1
FORMAT = 2
#: what version 2 calls otherwise than version 1
_RENAMED = (
    '"hard" is "dsp_multipliers" now, "tight" is "minimal_rows", the weights "block" and "dense" '
    'are "block_ram" and "packed_rows", a stage has a "kind", and "inputs" give each input\'s '
    "elements a beat"
)
_REMEDY = "give a plan.json that `gatewright compile` wrote"

_FOLDING = 1 << 20
_BLOCKS = 1 << 16

_PLAN: Keys = {
    "format": Key(int, FORMAT, FORMAT),
    "board": Key(str),
    "inputs": Key(dict),
    "argmax": Key(bool, default=False),
    "stages": Key(list),
    "queues": Key(list, default=()),
    "output_queues": Key(dict, default=None),
}
_STAGE: Keys = {
    "name": Key(str),
    "kind": Key(str),
    "ops": Key(list, 1, of=str),
    "simd": Key(int, 1, _FOLDING),
    "pe": Key(int, 1, _FOLDING),
    "dsp_multipliers": Key(int, 0, _BLOCKS),
    "weights": Key(str, choices=("block_ram", "packed_rows", "logic")),
    "minimal_rows": Key(bool, default=False),
    "fast_inner_product": Key(bool, default=False),
    "minimal_filtering": Key(int, 0, 2, default=0),
    "adder_trees": Key(bool, default=False),
    "site": Key(int, 0, _BLOCKS, default=None, null=True),
}
_QUEUE: Keys = {
    "stage": Key(str),
    "input": Key(int, 0, _FOLDING),
    "pixels": Key(int, 1, limits.MAP_ELEMENTS),
}

# A stage's name is a module, a clock domain and the prefix of signals in the RTL. What the
# accelerator itself has there are ``comb`` and ``sync``, parts called after an input, and parts
# called after a stage with one of these endings.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")
_OWN = re.compile(r"comb|sync|(input|[sm]_axis).*|.*_(slice|queue|width_\d+|reset|source|sink)")


def write_plan(plan: Plan, path: Path) -> None:
    """Write ``plan`` as :func:`plan_text`."""
    path.write_text(plan_text(plan))


def plan_text(plan: Plan) -> str:
    """The content of ``plan.json``: a line a stage, in flow order."""
    stages = ",\n".join("  " + json.dumps(asdict(stage)) for stage in plan.stages)
    queues = ",\n".join(
        "  " + json.dumps({"stage": stage, "input": index, "pixels": depth})
        for (stage, index), depth in plan.queues.items()
    )
    outputs = plan.output_queues and f' "output_queues": {json.dumps(plan.output_queues)},\n'
    return (
        f'{{"format": {FORMAT},\n "board": {json.dumps(plan.board)},\n'
        f' "inputs": {json.dumps(plan.lanes_in)},\n "argmax": {json.dumps(plan.argmax)},\n'
        f"{outputs or ''}"
        f' "stages": [\n{stages}],\n "queues": [{queues and chr(10)}{queues}]}}\n'
    )


def read_plan(path: Path) -> Plan:
    """The plan in ``path``; :class:`PlanError` says which part of the file is not one."""
    content = read_json(path, _REMEDY, PlanError)
    if isinstance(content, dict):
        _check_format(path, content.get("format", 1))
    table = take(str(path), content, _PLAN, PlanError)
    stages = tuple(
        _stage(f"{path}: stage {number}", entry) for number, entry in enumerate(table["stages"])
    )
    queues: dict[tuple[str, int], int] = {}
    for number, entry in enumerate(table["queues"]):
        where = f"{path}: queue {number}"
        queue = take(where, entry, _QUEUE, PlanError)
        place = queue["stage"], queue["input"]
        if place in queues:
            raise PlanError(
                f"{where}: a second queue before input {place[1]} of stage {place[0]}; give one"
            )
        queues[place] = queue["pixels"]
    return Plan(
        table["board"],
        stages,
        queues,
        _numbers(f"{path}: inputs", table["inputs"], _FOLDING),
        table["argmax"],
        _numbers(f"{path}: output_queues", table["output_queues"] or {}, limits.MAP_ELEMENTS),
    )


def _numbers(where: str, table: Mapping[str, Any], most: int) -> dict[str, int]:
    """An object of a number from 1 to ``most`` for each name."""
    return take(where, table, dict.fromkeys(table, Key(int, 1, most)), PlanError)


def _check_format(path: Path, found: Any) -> None:
    if found == 1:
        raise PlanError(
            f'{path}: a plan of an older gatewright, without a "format"; accepted: format '
            f"{FORMAT}, in which {_RENAMED}; compile the model again, and set the same folding "
            "in its new plan"
        )
    if isinstance(found, bool) or found != FORMAT:
        raise PlanError(
            f'{path}: "format" is {shortened(found)}; accepted: {FORMAT}; compile the model again '
            "with this gatewright"
        )


def _stage(where: str, entry: Mapping[str, Any]) -> StagePlan:
    table = take(where, entry, _STAGE, PlanError)
    name = table["name"]
    if not _NAME.fullmatch(name) or _OWN.fullmatch(name.lower()):
        raise PlanError(
            f'{where}: "name" is {shortened(name)}; accepted: a letter, then at most 63 letters, '
            "digits and underscores, and no name of the accelerator's own parts, as s00_conv"
        )
    return StagePlan(**{**table, "ops": tuple(table["ops"])})

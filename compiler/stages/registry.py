"""The kinds of stages that are known, and which one runs an operator."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, fields

from .. import ir
from ..errors import PlanError
from .argmax import ArgMax
from .base import StageKind, StagePlan
from .concat import Concat
from .elementwise import Elementwise
from .gather import Gather
from .lookup import Lookup
from .pool import Pool
from .state import State
from .stream_matmul import StreamMatMul
from .window_matmul import WindowMatmul

__all__ = ["KINDS", "kind_named", "kind_of", "registered", "reshaped", "stage_ops"]

_kinds: dict[str, StageKind] = {
    kind.name: kind
    for kind in (
        WindowMatmul(),
        Pool(),
        StreamMatMul(),
        Elementwise(),
        Lookup(),
        Concat(),
        Gather(),
        State(),
        ArgMax(),
    )
}
#: the kinds by their names in plan files, the preferred ones first
KINDS: Mapping[str, StageKind] = _kinds


def kind_of(ops: Sequence[ir.Op]) -> StageKind:
    """The first kind one of whose stages can run ``ops``."""
    for kind in KINDS.values():
        if kind.matches(ops):
            return kind
    names = ", ".join(f"{op.name} ({type(op).__name__})" for op in ops)
    raise NotImplementedError(f"no kind of stage runs {names}")


def kind_named(stage: StagePlan, ops: Sequence[ir.Op]) -> StageKind:
    """The kind that ``stage`` names; :class:`PlanError` when it can not run ``ops``, or when the
    plan sets a field that the kind does not use.
    """
    kind = KINDS.get(stage.kind)
    if kind is None:
        raise PlanError(
            f"stage {stage.name}: no kind of stage is named {stage.kind!r}; choose one of "
            + ", ".join(KINDS)
        )
    if not kind.matches(ops):
        names = ", ".join(f"{op.name} ({type(op).__name__})" for op in ops)
        raise PlanError(
            f"stage {stage.name}: a stage of kind {stage.kind} can not run {names}; choose another "
            "kind, or give each operator a stage of its own"
        )
    _check_fields(stage, kind)
    return kind


def _check_fields(stage: StagePlan, kind: StageKind) -> None:
    """Refuse a value that would change nothing."""
    for field in fields(stage):
        found = getattr(stage, field.name)
        if field.default is MISSING or field.name in kind.fields or found == field.default:
            continue
        raise PlanError(
            f"stage {stage.name}: {field.name} is {json.dumps(found)}, but a stage of kind "
            f"{kind.name} has no use for it; set it to {json.dumps(field.default)}"
        )


@contextmanager
def registered(kind: StageKind) -> Iterator[None]:
    """Know one more kind for a while."""
    assert kind.name not in _kinds, f"two kinds of stages are named {kind.name}"
    _kinds[kind.name] = kind
    try:
        yield
    finally:
        del _kinds[kind.name]


def stage_ops(graph: ir.Graph) -> list[ir.Op]:
    """The operators that need hardware, in flow order: a reshape is another view of a stream."""
    return [op for op in graph if not op.view]


def reshaped(graph: ir.Graph) -> dict[str, str]:
    """Values that are another one's stream under another shape: their names, and the other's."""
    return {op.output: op.inputs[0] for op in graph if op.view}

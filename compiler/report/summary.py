"""The JSON summaries that the steps leave in a directory, read back."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..errors import DataError, GatewrightError
from ..json_file import read_json
from . import views

__all__ = ["STEPS", "consistent", "read_extra", "read_summary"]

#: the steps, and the views that show what each of them left
STEPS: Mapping[str, tuple[Callable[[Mapping[str, Any]], Any], ...]] = {
    "compile": (
        views.plan,
        views.widths,
        views.ports,
        views.layers,
        views.resources,
        views.shortfall,
    ),
    "simulate": (views.simulation,),
    "build": (views.timing, views.versions),
    "bench": (views.benchmark, views.machine),
    "accuracy": (views.accuracy, views.outputs, views.accuracy_layers),
}


def read_summary(directory: Path, step: str) -> dict[str, Any]:
    """The content of ``step``'s JSON file in ``directory``.

    Raises DataError when a value that a report shows is missing, or is of another type.
    """
    file, remedy = directory / f"{step}.json", f"run `gatewright {step}` again"
    found = read_json(file, remedy)
    if not isinstance(found, dict):
        raise DataError(f"{file}: holds no object; {remedy}")
    for view in STEPS[step]:
        with consistent(f"{file}: what it says of {view.__name__.replace('_', ' ')}", remedy):
            view(found)
    return found


def read_extra(directory: Path, name: str) -> dict[str, dict[str, Any]]:
    """``name`` and the object in its JSON file in ``directory``; nothing where there is none."""
    file, remedy = directory / f"{name}.json", "run `gatewright build` again"
    if not file.exists():
        return {}
    found = read_json(file, remedy)
    if not isinstance(found, dict):
        raise DataError(f"{file}: holds no object; {remedy}")
    return {name: found}


@contextmanager
def consistent(what: str, remedy: str) -> Iterator[None]:
    """Raise DataError for ``what`` stands in edited files when the body can not use it."""
    try:
        yield
    except GatewrightError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise DataError(
            f"{what} holds a value of a type or size that gatewright never writes there; {remedy}"
        ) from error

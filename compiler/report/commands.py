"""The commands that made a directory, and the versions that ran them: ``commands.json``."""

import platform
import shlex
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ..errors import DataError
from ..json_file import read_json, write_json

__all__ = ["read_commands", "record"]

#: distributions whose versions decide the results
PACKAGES = ("gatewright", "amaranth", "numpy", "onnx", "onnxruntime")


def record(directory: Path, step: str, arguments: Sequence[str]) -> None:
    """Note that ``step`` ran as ``gatewright`` with ``arguments``, in place of an earlier run."""
    file = directory / "commands.json"
    found = read_commands(directory) if step != "compile" else {}
    found.pop(step, None)
    found[step] = {
        "command": shlex.join(["gatewright", *arguments]),
        "versions": {name: _version(name) for name in PACKAGES}
        | {"python": platform.python_version(), "system": platform.system()},
    }
    write_json(file, found)


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # run from its folder
        return "not installed"


def read_commands(directory: Path) -> dict[str, Any]:
    """The command and the versions of each step, in the order in which they ran."""
    file, remedy = directory / "commands.json", "remove it"
    if not file.exists():
        return {}
    found = read_json(file, remedy)
    fine = isinstance(found, dict) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("command"), str)
        and isinstance(entry.get("versions"), dict)
        for entry in found.values()
    )
    if not fine:
        raise DataError(f"{file}: holds no commands by step; {remedy}")
    return dict(found)

"""Results kept by the hash of what they were made from, and the files that say what they are."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

__all__ = ["digest", "read_json", "write_json"]


def digest(*parts: str | bytes) -> str:
    """What a result is kept by: a short hash of all that it was made from."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:16]


def read_json(path: Path) -> Any:
    """What the file holds."""
    return json.loads(path.read_text())


def write_json(path: Path, value: object) -> None:
    """The whole file, or none of it."""
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(value, indent=2) + "\n")
    os.replace(unfinished, path)

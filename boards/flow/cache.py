"""The cache of intermediate results: keys, and the files that the tools exchange."""

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["digest", "read_json"]


def digest(*parts: str | bytes) -> str:
    """The cache key of a result: a hash of everything that it was made from."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        whole.update(len(data).to_bytes(8, "little") + data)
    return whole.hexdigest()[:16]


def read_json(path: Path) -> Any:
    """The content of a file that a tool or an earlier step of the flow wrote."""
    return json.loads(path.read_text())

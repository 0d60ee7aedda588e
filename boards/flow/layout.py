"""Where the cells of a routed design lie on the chip and which stage they belong to."""

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .cache import read_json

__all__ = ["LINK", "OTHER", "STREAMS", "layout", "part_of"]

#: parts of the chip that are no stage: the streams that join them, the link to the host, and the
#: rest: clock, pins, and cells that nextpnr adds where a carry leaves its chain
STREAMS, LINK, OTHER = "between stages", "link", "clock and pins"

_ACCELERATOR = re.compile(r"(?:accelerator\.)+([^.$\[]+)")
_BEL = re.compile(r"X(\d+)/Y(\d+)/")


def part_of(cell: str, stages: frozenset[str]) -> str:
    """The stage that a cell of the flat netlist belongs to, or another part of the chip."""
    inside = _ACCELERATOR.match(cell)
    if inside:
        # a stage's reset is named after it, and is a register of the accelerator
        return inside[1] if inside[1] in stages else STREAMS
    return LINK if cell.startswith(("link", "uart")) else OTHER


def layout(
    routed: Path,
    paths: Sequence[Mapping[str, Any]],
    stages: Sequence[str],
    sites: Mapping[str, str],
) -> dict[str, Any]:
    """The content of ``layout.json`` for a design that nextpnr wrote with ``--write``.

    ``paths`` are the slowest paths of the accelerator's clock by nextpnr's report; ``sites`` maps
    types of cells to our names.
    """
    known = frozenset(stages)
    parts = (*stages, STREAMS, LINK, OTHER)
    number = {part: at for at, part in enumerate(parts)}
    counts: dict[str, Counter[str]] = {part: Counter() for part in parts}
    tiles: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for name, cell in _cells(routed).items():
        part = part_of(name, known)
        if cell["type"] in sites:
            counts[part][sites[cell["type"]]] += 1
        place = _BEL.match(cell["attributes"].get("NEXTPNR_BEL", ""))
        if place:
            tiles[int(place[1]), int(place[2])][number[part]] += 1
    return {
        "parts": list(parts),
        "columns": 1 + max((x for x, _ in tiles), default=0),
        "rows": 1 + max((y for _, y in tiles), default=0),
        "tiles": [[x, y, *owners.most_common(1)[0]] for (x, y), owners in sorted(tiles.items())],
        "cells": {part: dict(found) for part, found in counts.items()},
        "critical_path": _path(paths, known),
        "how": "routed",
    }


def _cells(routed: Path) -> Mapping[str, Any]:
    modules: Mapping[str, Any] = read_json(routed)["modules"]
    top = max(modules.values(), key=lambda module: len(module.get("cells", ())))
    found: Mapping[str, Any] = top["cells"]
    return found


def _path(paths: Sequence[Mapping[str, Any]], stages: frozenset[str]) -> list[dict[str, Any]]:
    """The steps of the slowest of ``paths``; none if there is none."""
    slowest = max(
        (path["path"] for path in paths),
        key=lambda steps: sum(step["delay"] for step in steps),
        default=(),
    )
    return [
        {
            "part": part_of(step["to"]["cell"], stages),
            "cell": step["to"]["cell"],
            "at": list(step["to"]["loc"]),
            "delay_ns": round(step["delay"], 3),
            "type": step["type"],
        }
        for step in slowest
    ]

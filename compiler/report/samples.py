"""Samples with their classes, and the confusion matrix, from ``accuracy.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Confusion", "Sample", "Samples", "confusion", "samples"]

Summary = Mapping[str, Any]

#: classes of a matrix that is shown whole; of a larger one the classes that are confused most
CLASSES = 24


@dataclass(frozen=True)
class Sample:
    """A sample as a picture (PNG in base 64) or as the path of a curve, and what was said of it."""

    index: int
    image: str
    curve: str
    integer: int
    text: str
    wrong: bool


@dataclass(frozen=True)
class Samples:
    """Some samples."""

    shown: tuple[Sample, ...]


@dataclass(frozen=True)
class Confusion:
    """A row a label: its cells are (samples, share of the label's samples, whether it is right)."""

    columns: tuple[int, ...]
    rows: tuple[tuple[int, tuple[tuple[int, float, bool], ...]], ...]


def samples(found: Summary) -> Samples | None:
    """The examples of ``accuracy.json``; None without any."""
    rows = found.get("examples")
    return Samples(tuple(_sample(row) for row in rows)) if rows else None


def _sample(row: Summary) -> Sample:
    said = []
    if row["label"] is not None:
        said.append(f"label {row['label']}")
    if row["float"] is not None:
        said.append("float alike" if row["float"] == row["integer"] else f"float {row['float']}")
    wrong = row["label"] is not None and row["label"] != row["integer"]
    levels = row.get("curve", ())
    return Sample(
        row["index"], row.get("image", ""), _curve(levels), row["integer"], ", ".join(said), wrong
    )


def _curve(levels: Sequence[float]) -> str:
    step = 100 / max(1, len(levels) - 1)
    points = (f"{step * at:.1f} {57 - 54 * level:.1f}" for at, level in enumerate(levels))
    return "M" + "L".join(points) if levels else ""


def confusion(found: Summary) -> Confusion | None:
    """The matrix of ``accuracy.json``; None without labels."""
    matrix = found.get("confusion")
    if not matrix:
        return None
    classes = list(range(len(matrix)))
    if len(classes) > CLASSES:
        classes = sorted(sorted(classes, key=lambda at: -_confused(matrix, at))[:CLASSES])
    rows = []
    for label in classes:
        total = max(1, sum(matrix[label]))
        cells = tuple((matrix[label][at], matrix[label][at] / total, at == label) for at in classes)
        rows.append((label, cells))
    return Confusion(tuple(classes), tuple(rows))


def _confused(matrix: Sequence[Sequence[int]], at: int) -> int:
    """Wrong answers that the class is part of."""
    return sum(matrix[at]) + sum(row[at] for row in matrix) - 2 * matrix[at][at]

"""The pipeline over time: what each stage did in each span of cycles of a simulation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from .names import fitting, labels

__all__ = ["Gantt", "Row", "gantt"]

Summary = Mapping[str, Any]

#: sizes in the drawing: labels on the left, the strip, a row, and the space for frames above
LEFT, STRIP, ROW, BAR, TOP = 150, 760, 24, 18, 20
RIGHT = 150
#: marks on the axis, about
MARKS = 8


@dataclass(frozen=True)
class Row:
    """A stage: the outlines of busy (from below) and stalled (from above), and its shares."""

    label: str
    y: int
    busy: str
    stalled: str
    share: str
    title: str
    slowest: bool


@dataclass(frozen=True)
class Gantt:
    """The whole chart; ``marks`` are ticks (x, text), ``frames`` are (x, y, width, text)."""

    rows: tuple[Row, ...]
    marks: tuple[tuple[float, str], ...]
    frames: tuple[tuple[float, int, float, str], ...]
    first: tuple[float, str]
    width: int
    height: int
    left: int = LEFT
    strip: int = STRIP
    bar: int = BAR
    top: int = TOP


def gantt(activity: Summary, compiled: Summary) -> Gantt:
    """The chart of the recorded part of a run."""
    span, spans = activity["span"], activity["spans"]
    end = max(1, span * spans)
    names = {row["stage"]: row["name"] for row in reversed(compiled["layers"])}
    cycles: dict[str, int] = {}
    for row in compiled["layers"]:
        cycles[row["stage"]] = cycles.get(row["stage"], 0) + row["cycles"]
    most = max(cycles.values(), default=0)
    top = TOP * _lanes(activity["frames"], end)
    rows = tuple(
        _row(stage, names, span, top + at * ROW, cycles.get(stage["name"]) == most)
        for at, stage in enumerate(activity["stages"])
    )
    height = top + ROW * len(rows)
    first = activity["first_beat"]
    return Gantt(
        rows,
        tuple((_x(mark, end), f"{mark:,}") for mark in _marks(end)),
        tuple(_frames(activity["frames"], end)),
        (_x(min(first, end), end), f"first output, cycle {first:,}"),
        LEFT + STRIP + RIGHT,
        height,
        top=top,
    )


def _x(cycle: float, end: int) -> float:
    return round(LEFT + STRIP * cycle / end, 1)


def _row(stage: Summary, names: Mapping[str, str], span: int, y: int, slowest: bool) -> Row:
    name = names.get(stage["name"], stage["name"])
    total = max(1, stage["busy_cycles"] + stage["stalled_cycles"] + stage["starved_cycles"])
    shares = {
        "busy": stage["busy_cycles"] / total,
        "starved": stage["starved_cycles"] / total,
        "stalled": stage["stalled_cycles"] / total,
    }
    text = ", ".join(f"{what} {100 * share:.0f} %" for what, share in shares.items())
    return Row(
        fitting(labels(names.values()).get(name, name), 21),
        y,
        _area([count / span for count in stage["busy"]], y + BAR, -BAR),
        _area([count / span for count in stage["stalled"]], y, BAR),
        f"{100 * shares['busy']:.0f} % busy",
        f"{name}: {text} of the {total:,} cycles of the run",
        slowest,
    )


def _area(shares: Sequence[float], base: int, height: int) -> str:
    """The outline of steps of these heights upon a base; nothing where all are 0."""
    if not any(shares):
        return ""
    step = STRIP / len(shares)
    path, last = [f"M{LEFT} {base}"], None
    for at, share in enumerate(shares):
        level = f"{base + height * share:.1f}"
        if level != last:
            if last is not None:
                path.append(f"H{LEFT + at * step:.1f}")
            path.append(f"V{level}")
            last = level
    return "".join([*path, f"H{LEFT + STRIP}V{base}Z"])


def _marks(end: int) -> list[int]:
    raw = end / MARKS
    unit = 10 ** floor(log10(max(1.0, raw)))
    step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= raw)
    return list(range(0, end + 1, int(step)))


def _lanes(frames: Sequence[Sequence[int]], end: int) -> int:
    """Lines that brackets of frames need, so that no two on a line overlap, and one for a text."""
    return 1 + max((lane for lane, _ in _laid(frames, end)), default=-1) + 1


def _laid(frames: Sequence[Sequence[int]], end: int) -> list[tuple[int, Sequence[int]]]:
    free: list[int] = []
    found = []
    for frame in frames:
        if frame[0] >= end:
            continue
        lane = next((at for at, until in enumerate(free) if until <= frame[0]), len(free))
        if lane == len(free):
            free.append(0)
        free[lane] = frame[1]
        found.append((lane, frame))
    return found


def _frames(frames: Sequence[Sequence[int]], end: int) -> list[tuple[float, int, float, str]]:
    found = []
    for number, (lane, frame) in enumerate(_laid(frames, end)):
        start, stop = _x(frame[0], end), _x(min(frame[1], end), end)
        found.append((start, TOP * (lane + 1), round(stop - start, 1), f"frame {number}"))
    return found

"""The pipeline over time: what each stage did in each span of cycles of a simulation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10
from typing import Any

from .names import fitting, labels
from .widths import NARROW, WIDE

__all__ = ["Gantt", "Row", "gantt"]

Summary = Mapping[str, Any]

#: sizes in the drawing: a row, its bar, and the space for a line of frames above
ROW, BAR, TOP = 24, 18, 20
#: pixels for each mark on the axis, at least, and of a letter, half of the text below the axis
MARK, LETTER, FIRST = 72, 9, 78


@dataclass(frozen=True)
class Size:
    """Pixels from left to right: labels, the strip over time, and the shares."""

    left: int
    strip: int
    right: int

    def x(self, cycle: float, end: int) -> float:
        return round(self.left + self.strip * cycle / end, 1)

    def says(self, slowest: bool) -> str:
        """What is written behind a share, where there is room."""
        if self.right < 100:
            return ""
        return " busy · slowest" if slowest else " busy"

    @property
    def letters(self) -> int:
        """Letters of a label."""
        return self.left // LETTER


_SIZES = {WIDE: Size(180, 708, 172), NARROW: Size(112, 216, 46)}


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
    """The whole chart; ``marks`` are ticks (x, text), ``frames`` are (x, y, width, text);
    ``first`` is the first output: its x, that of its text, and the text.
    """

    rows: tuple[Row, ...]
    marks: tuple[tuple[float, str], ...]
    frames: tuple[tuple[float, int, float, str], ...]
    first: tuple[float, float, str]
    size: Size
    height: int
    top: int
    bar: int = BAR

    @property
    def width(self) -> int:
        return self.size.left + self.size.strip + self.size.right


def gantt(activity: Summary, compiled: Summary, width: float = WIDE) -> Gantt:
    """The chart of the recorded part of a run."""
    size = _SIZES[width]
    span, spans = activity["span"], activity["spans"]
    end = max(1, span * spans)
    names = {row["stage"]: row["name"] for row in reversed(compiled["layers"])}
    cycles: dict[str, int] = {}
    for row in compiled["layers"]:
        cycles[row["stage"]] = cycles.get(row["stage"], 0) + row["cycles"]
    most = max(cycles.values(), default=0)
    top = TOP * _lanes(activity["frames"], end)
    rows = tuple(
        _row(stage, names, span, top + at * ROW, cycles.get(stage["name"]) == most, size)
        for at, stage in enumerate(activity["stages"])
    )
    height = top + ROW * len(rows)
    first = activity["first_beat"]
    x = size.x(min(first, end), end)
    right = size.left + size.strip + size.right - FIRST
    return Gantt(
        rows,
        tuple(
            (size.x(mark, end), f"{mark:,}" if mark else "cycle 0")
            for mark in _marks(end, size.strip // MARK)
        ),
        tuple(_frames(activity["frames"], end, size)),
        (x, min(max(x, FIRST), right), f"first output, cycle {first:,}"),
        size,
        height,
        top,
    )


def _row(
    stage: Summary, names: Mapping[str, str], span: int, y: int, slowest: bool, size: Size
) -> Row:
    name = names.get(stage["name"], stage["name"])
    total = max(1, stage["busy_cycles"] + stage["stalled_cycles"] + stage["starved_cycles"])
    shares = {
        "busy": stage["busy_cycles"] / total,
        "starved": stage["starved_cycles"] / total,
        "stalled": stage["stalled_cycles"] / total,
    }
    text = ", ".join(f"{what} {100 * share:.0f} %" for what, share in shares.items())
    return Row(
        fitting(labels(names.values()).get(name, name), size.letters),
        y,
        _area([count / span for count in stage["busy"]], y + BAR, -BAR, size),
        _area([count / span for count in stage["stalled"]], y, BAR, size),
        f"{100 * shares['busy']:.0f} %{size.says(slowest)}",
        f"{name}: {text} of the {total:,} cycles of the run",
        slowest,
    )


def _area(shares: Sequence[float], base: int, height: int, size: Size) -> str:
    """The outline of steps of these heights upon a base; nothing where all are 0."""
    if not any(shares):
        return ""
    step = size.strip / len(shares)
    path, last = [f"M{size.left} {base}"], None
    for at, share in enumerate(shares):
        level = f"{base + height * share:.1f}"
        if level != last:
            if last is not None:
                path.append(f"H{size.left + at * step:.1f}")
            path.append(f"V{level}")
            last = level
    return "".join([*path, f"H{size.left + size.strip}V{base}Z"])


def _marks(end: int, most: int) -> list[int]:
    raw = end / most
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


def _frames(
    frames: Sequence[Sequence[int]], end: int, size: Size
) -> list[tuple[float, int, float, str]]:
    found = []
    for number, (lane, frame) in enumerate(_laid(frames, end)):
        start, stop = size.x(frame[0], end), size.x(min(frame[1], end), end)
        room = (stop - start) // LETTER
        text = next((text for text in (f"frame {number}", f"{number}") if len(text) < room), "")
        found.append((start, TOP * (lane + 1), round(stop - start, 1), text))
    return found

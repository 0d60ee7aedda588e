"""The roofline of a board, with every layer of a network on it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, NullLocator

from .drawing import ACCENT, GOOD, INK, PAPER, SOFT, WARN, canvas, legend, root, settle, svg, tip
from .names import fitting, labels
from .widths import WIDE

__all__ = ["roofline"]

Summary = Mapping[str, Any]
#: of a layer: operations a byte, operations a cycle, its row
_Point = tuple[float, float, Summary]

#: inches: height of the figure, a letter and a line of a label, half of a mark and of a stroke
_HEIGHT, _LETTER, _LINE, _MARK, _STROKE = 4.2, 0.065, 0.12, 0.06, 0.02
#: lines that a label may be away from its mark, and points on a line that labels do not cover
_FAR, _POINTS = 6, 200
#: points from the flat roof up to its text, further where marks are in the way
_ABOVE_ROOF = (5, 17, 29)


@dataclass(frozen=True)
class _Box:
    """A rectangle of the figure, in inches."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: "_Box") -> bool:
        return (
            self.left < other.right
            and other.left < self.right
            and self.bottom < other.top
            and other.bottom < self.top
        )

    def within(self, other: "_Box") -> bool:
        return (
            other.left <= self.left
            and self.right <= other.right
            and other.bottom <= self.bottom
            and self.top <= other.top
        )


@dataclass(frozen=True)
class _Label:
    """Where a label begins, from its mark, and its alignment; ``far``: a line leads to the mark."""

    over: float
    up: float
    align: str
    far: bool = False

    def box(self, x: float, y: float, wide: float) -> _Box:
        """The place that it takes, of the mark at ``x`` and ``y``."""
        before = {"left": 0.0, "center": wide / 2, "right": wide}[self.align]
        left, bottom = x + self.over - before, y + self.up
        return _Box(left, bottom, left + wide, bottom + _LINE)


_GAP = _MARK + 0.03
_BESIDE = (_Label(_GAP, -_LINE / 2, "left"), _Label(-_GAP, -_LINE / 2, "right"))
_ABOVE = (_Label(0.0, _GAP, "center"), _Label(0.0, -_GAP - _LINE, "center"))
_AWAY = tuple(
    _Label(over, up, align, far=True)
    for lines in range(1, _FAR)
    for up in (_GAP + lines * _LINE, -_GAP - (lines + 1) * _LINE)
    for over, align in ((0.0, "center"), (_GAP, "left"), (-_GAP, "right"))
)


@dataclass
class _Labels:
    """Places for labels within the plot that cover no mark and no other label, in inches. They may
    cover the roofs, where all other places are worse.
    """

    plot: _Box
    taken: list[_Box] = field(default_factory=list)
    roofs: list[_Box] = field(default_factory=list)

    def mark(self, x: float, y: float) -> None:
        """Keep the mark at that place free."""
        self.taken.append(_Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK))

    def place(self, marks: Mapping[tuple[float, float], int]) -> dict[tuple[float, float], _Label]:
        """The label of each mark that has one, by the letters of each: beside as many marks as
        possible, then above and below, then away. The rest would cover something.
        """
        found: dict[tuple[float, float], _Label] = {}
        near = (*_BESIDE, *_ABOVE)
        every = [(_BESIDE, True), (_ABOVE, True), (near, False), (_AWAY, True), (_AWAY, False)]
        for ways, roofs in every:
            for at, letters in marks.items():
                if at not in found and (label := self._first(ways, at, letters, roofs)):
                    found[at] = label
        return found

    def _first(
        self, ways: Sequence[_Label], at: tuple[float, float], letters: int, roofs: bool
    ) -> _Label | None:
        """The first of ``ways`` that covers nothing, with ``roofs`` no roof either."""
        avoided = [*self.taken, *self.roofs] if roofs else self.taken
        for label in ways:
            box = label.box(*at, letters * _LETTER)
            covered = [box, *(_way(*at, box) if label.far else ())]
            if box.within(self.plot) and not any(
                other.meets(part) for other in avoided for part in covered
            ):
                self.taken += covered
                return label
        return None


def _spot(x: float, y: float) -> _Box:
    """A place on a line."""
    return _Box(x - _STROKE, y - _STROKE, x + _STROKE, y + _STROKE)


def _way(x: float, y: float, box: _Box) -> list[_Box]:
    """Places on the line from a mark to its label, outside of both."""
    to = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    steps = [(x + at * (to[0] - x), y + at * (to[1] - y)) for at in np.linspace(0, 1, 25)]
    mark = _Box(x - 2 * _MARK, y - 2 * _MARK, x + 2 * _MARK, y + 2 * _MARK)
    spots = [_spot(*step) for step in steps]
    return [spot for spot in spots if not spot.meets(mark) and not spot.meets(box)]


@dataclass(frozen=True)
class _Roofs:
    """The limits in operations a cycle: ``peak``, products of the DSP blocks; ``memory`` bytes a
    cycle of the block RAMs; ``link`` bytes a cycle of the serial line of ``baud``, None where it is
    not known. ``left`` and ``right``, the range of operations a byte; ``lowest`` of all points.
    """

    peak: float
    memory: float
    link: float | None
    baud: float | None
    left: float
    right: float
    lowest: float

    @property
    def ridge(self) -> float:
        """Operations a byte from which on the DSP blocks are the limit."""
        return self.peak / self.memory

    def draw(self, axes: Axes) -> Annotation:
        """The lines; returns the text at the flat one."""
        left, right, lowest, peak = self.left, self.right, self.lowest, self.peak
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(lowest / 4, peak * 4))
        x = np.sort([*np.geomspace(left, right, 40), self.ridge])
        axes.plot(x, np.minimum(peak, self.memory * x), color=INK, lw=1.6)
        if self.link and self.baud:
            axes.plot(x, self.link * x, color=WARN, lw=1.2, ls="--")
        return axes.annotate(
            f"{peak:,.0f} products a cycle in DSP blocks",
            (right, peak),
            (-4, _ABOVE_ROOF[0]),
            textcoords="offset points",
            ha="right",
            color=INK,
        )


def roofline(
    compiled: Summary, clock_mhz: float | None, baud: float | None, width: float = WIDE
) -> Markup | None:
    """Operations a cycle of each layer over operations a byte that passes its ports.

    Roofs: products that the device's DSP blocks give, bytes that its block RAMs read in a cycle,
    and bytes of the serial link; None where the directory is of an older version.
    """
    if not compiled.get("streams") or not compiled.get("device_multipliers"):
        return None
    interval, points = compiled["interval_cycles"], list(_points(compiled))
    ends = [_bytes(s) for s in compiled["streams"] if s["source"] is None or s["sink"] is None]
    whole = max(1, compiled["macs"]) / max(1.0, sum(ends))
    peak, memory = float(compiled["device_multipliers"]), compiled["memory_bits_per_cycle"] / 8
    link = baud / 10 / (clock_mhz * 1e6) if baud and clock_mhz else None
    xs = [x for x, _, _ in points] + [whole]
    left, right = min(xs) / 4, max(*xs, peak / memory) * 4
    lowest = min([y for _, y, _ in points] + ([whole * link] if link else []))
    roofs = _Roofs(peak, memory, link, baud, left, right, lowest)
    with canvas(width, _HEIGHT, "roof") as figure:
        axes = figure.subplots()
        roof = roofs.draw(axes)
        star = axes.plot([whole], [compiled["macs"] / interval], "*", ms=13, color=ACCENT)[0]
        tip(star, f"the whole network: {compiled['macs'] / interval:.3g} products a cycle")
        _draw_scales(axes, clock_mhz, baud)
        settle(figure)
        marks = _marks(axes, points)
        free = _Labels(_box(axes))
        for at in (*marks, _inches(axes, whole, compiled["macs"] / interval)):
            free.mark(*at)
        for up in _ABOVE_ROOF:
            roof.set_position((-4, up))
            if not any(mark.meets(_box(roof)) for mark in free.taken):
                break
        free.taken.extend(_box(text) for text in axes.texts)
        free.roofs.extend(_along(axes, left, right, lambda x: min(peak, memory * x)))
        if link:
            free.roofs.extend(_along(axes, left, right, lambda x: link * x))
        _draw_points(axes, marks, free, interval)
        return svg(figure, "Roofline: operations a cycle over operations a byte, by layer")


def _points(compiled: Summary) -> Iterator[_Point]:
    """Of each layer the operations a byte and a cycle."""
    traffic = _traffic(compiled)
    for row in compiled["layers"]:
        if passing := traffic.get(row["stage"]):
            # what a layer does in a frame: its products, or the elements that it gives
            operations = int(row["macs"]) or int(np.prod(row["shape"]))
            yield operations / passing, operations / compiled["interval_cycles"], row


def _box(artist: Artist) -> _Box:
    """Where an artist is."""
    box, dpi = artist.get_window_extent(), root(artist).dpi
    return _Box(box.x0 / dpi, box.y0 / dpi, box.x1 / dpi, box.y1 / dpi)


def _inches(axes: Axes, x: float, y: float) -> tuple[float, float]:
    """Where a point is."""
    across, up = axes.transData.transform((x, y)) / root(axes).dpi
    return float(across), float(up)


def _along(axes: Axes, left: float, right: float, line: Callable[[float], float]) -> Iterator[_Box]:
    """Places on a line, close to each other."""
    for x in np.geomspace(left, right, _POINTS):
        yield _spot(*_inches(axes, float(x), line(float(x))))


def _marks(axes: Axes, points: Sequence[_Point]) -> dict[tuple[float, float], list[_Point]]:
    """The points at each place, those that cover each other together; from above."""
    found: dict[tuple[float, float], list[_Point]] = {}
    for point in sorted(points, key=lambda point: -point[1]):
        x, y = _inches(axes, point[0], point[1])
        near = (at for at in found if abs(at[0] - x) < _MARK and abs(at[1] - y) < _MARK)
        found.setdefault(next(near, (x, y)), []).append(point)
    return found


def _draw_points(
    axes: Axes,
    marks: Mapping[tuple[float, float], Sequence[_Point]],
    free: _Labels,
    interval: int,
) -> None:
    """A mark for the layers of each place, with the name of the first where there is room; the
    pointer shows all.
    """
    names = labels(row["name"] for points in marks.values() for _, _, row in points)
    texts = {at: _text(points, names) for at, points in marks.items()}
    placed = free.place({at: len(text) for at, text in texts.items()})
    for at, points in marks.items():
        x, y, first = points[0]
        style: dict[str, Any] = {"color": GOOD} if first["macs"] else {"color": SOFT, "mfc": "none"}
        slowest = any(row["cycles"] == interval for _, _, row in points)
        point = axes.plot([x], [y], "o", ms=8 if slowest else 6, **style)[0]
        tip(point, "; ".join(map(_facts, points)))
        if label := placed.get(at):
            lead = {"arrowstyle": "-", "color": SOFT, "lw": 0.6, "shrinkA": 0, "shrinkB": 4}
            axes.annotate(
                texts[at],
                (x, y),
                (72 * label.over, 72 * label.up + 2),
                textcoords="offset points",
                ha=label.align,
                fontsize=8,
                color=INK,
                bbox={"facecolor": PAPER, "edgecolor": "none", "pad": 0.5},
                arrowprops=lead if label.far else None,
            )


def _text(points: Sequence[_Point], names: Mapping[str, str]) -> str:
    """The label of the points at a place: the name of the first."""
    more = f" +{len(points) - 1}" if len(points) > 1 else ""
    return fitting(names[points[0][2]["name"]], 20) + more


def _facts(point: _Point) -> str:
    x, y, row = point
    what = "products" if row["macs"] else "elements"
    return f"{row['name']}: {y:.3g} {what} a cycle, {x:.3g} a byte"


def _draw_scales(axes: Axes, clock_mhz: float | None, baud: float | None) -> None:
    link = []
    if clock_mhz and baud:
        text = f"serial link, {baud / 1e6:g} Mbaud"
        link.append(Line2D([], [], color=WARN, lw=1.2, ls="--", label=text))
    legend(
        axes,
        [
            Line2D([], [], marker="o", ls="", color=GOOD, label="layer with products"),
            Line2D([], [], marker="o", ls="", mfc="none", color=SOFT, label="without"),
            Line2D([], [], marker="*", ls="", ms=10, color=ACCENT, label="whole network"),
            Line2D([], [], color=INK, label="DSP blocks and block RAM"),
            *link,
        ],
    )
    axes.set_xlabel("operations for each byte that passes the layer's ports")
    axes.set_ylabel("operations a cycle")
    axes.grid(alpha=0.6)
    scales = [axes.xaxis, axes.yaxis]
    if clock_mhz:
        scale = clock_mhz / 1e3
        ways = partial(np.multiply, scale), partial(np.multiply, 1 / scale)
        second = axes.secondary_yaxis("right", functions=ways)
        second.set_ylabel(f"billions a second at {clock_mhz:.0f} MHz")
        scales.append(second.yaxis)
    for axis in scales:
        axis.set_major_formatter(FuncFormatter(_plain))
        axis.set_minor_locator(NullLocator())  # a decade has nine, which take most of the time


def _plain(value: float, _: object = None) -> str:
    return f"{value:,.10g}"


def _bytes(stream: Summary) -> float:
    return float(np.prod(stream["shape"]) * stream["bits"]) / 8


def _traffic(compiled: Summary) -> dict[str, float]:
    """Bytes a frame that enter and leave each stage."""
    found: dict[str, float] = {}
    for stream in compiled["streams"]:
        for end in (stream["source"], stream["sink"]):
            if end is not None:
                found[end] = found.get(end, 0.0) + _bytes(stream)
    return found

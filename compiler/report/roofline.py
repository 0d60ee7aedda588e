"""The roofline of a board, with every layer of a network on it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from .drawing import ACCENT, GOOD, INK, SOFT, WARN, canvas, legend, root, settle, svg, tip
from .names import fitting, labels
from .widths import WIDE

__all__ = ["roofline"]

Summary = Mapping[str, Any]
#: of a layer: operations a byte, operations a cycle, its row
_Point = tuple[float, float, Summary]

#: inches: height of the figure, a letter and a line of a label, and half of a mark
_HEIGHT, _LETTER, _LINE, _MARK = 4.2, 0.065, 0.14, 0.06


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


@dataclass
class _Labels:
    """Places for labels within the plot that cover no mark and no other label, in inches."""

    plot: _Box
    taken: list[_Box] = field(default_factory=list)

    def mark(self, x: float, y: float) -> None:
        """Keep the mark at that place free."""
        self.taken.append(_Box(x - _MARK, y - _MARK, x + _MARK, y + _MARK))

    def place(self, x: float, y: float, letters: int) -> tuple[float, float, str] | None:
        """Where the label of the mark there begins, from the mark, and its alignment: beside it,
        else above or below; None where all would cover something.
        """
        wide, gap = letters * _LETTER, _MARK + 0.03
        ways = (
            (gap, -_LINE / 2, "left", gap),
            (-gap, -_LINE / 2, "right", -gap - wide),
            (0.0, gap, "center", -wide / 2),
            (0.0, -gap - _LINE, "center", -wide / 2),
        )
        for over, up, align, left in ways:
            box = _Box(x + left, y + up, x + left + wide, y + up + _LINE)
            if box.within(self.plot) and not any(map(box.meets, self.taken)):
                self.taken.append(box)
                return over, up, align
        return None


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

    def draw(self, axes: Axes) -> None:
        left, right, lowest, peak = self.left, self.right, self.lowest, self.peak
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(lowest / 4, peak * 4))
        x = np.sort([*np.geomspace(left, right, 40), self.ridge])
        axes.plot(x, np.minimum(peak, self.memory * x), color=INK, lw=1.6)
        axes.annotate(
            f"{peak:,.0f} products a cycle in DSP blocks",
            (right, peak),
            (-4, 5),
            textcoords="offset points",
            ha="right",
            color=INK,
        )
        if self.link and self.baud:
            axes.plot(x, self.link * x, color=WARN, lw=1.2, ls="--")
            axes.annotate(
                f"serial link, {self.baud / 1e6:g} Mbaud",
                (right, self.link * right),
                (-4, 6),
                textcoords="offset points",
                ha="right",
                color=WARN,
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
        roofs.draw(axes)
        star = axes.plot([whole], [compiled["macs"] / interval], "*", ms=13, color=ACCENT)[0]
        tip(star, f"the whole network: {compiled['macs'] / interval:.3g} products a cycle")
        _draw_scales(axes, clock_mhz)
        settle(figure)
        marks = _marks(axes, points)
        free = _Labels(_box(axes))
        for at in (*marks, _inches(axes, whole, compiled["macs"] / interval)):
            free.mark(*at)
        free.taken.extend(_box(text) for text in axes.texts)
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
    for at, points in marks.items():
        x, y, first = points[0]
        style: dict[str, Any] = {"color": GOOD} if first["macs"] else {"color": SOFT, "mfc": "none"}
        slowest = any(row["cycles"] == interval for _, _, row in points)
        point = axes.plot([x], [y], "o", ms=8 if slowest else 6, **style)[0]
        tip(point, "; ".join(map(_facts, points)))
        more = f" +{len(points) - 1}" if len(points) > 1 else ""
        text = fitting(names[first["name"]], 20) + more
        if where := free.place(*at, len(text)):
            over, up, align = where
            axes.annotate(
                text,
                (x, y),
                (72 * over, 72 * up + 2),
                textcoords="offset points",
                ha=align,
                fontsize=8,
                color=INK,
            )


def _facts(point: _Point) -> str:
    x, y, row = point
    what = "products" if row["macs"] else "elements"
    return f"{row['name']}: {y:.3g} {what} a cycle, {x:.3g} a byte"


def _draw_scales(axes: Axes, clock_mhz: float | None) -> None:
    legend(
        axes,
        [
            Line2D([], [], marker="o", ls="", color=GOOD, label="layer with products"),
            Line2D([], [], marker="o", ls="", mfc="none", color=SOFT, label="without"),
            Line2D([], [], marker="*", ls="", ms=10, color=ACCENT, label="whole network"),
            Line2D([], [], color=INK, label="DSP blocks and block RAM"),
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

"""The roofline of a board, with every layer of a network on it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from .drawing import ACCENT, GOOD, INK, SOFT, WARN, WIDTH, canvas, legend, svg, tip
from .names import fitting, labels

__all__ = ["roofline"]

Summary = Mapping[str, Any]


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
            (max(left, self.ridge), peak),
            (6, 5),
            textcoords="offset points",
            color=INK,
        )
        if self.link and self.baud:
            axes.plot(x, self.link * x, color=WARN, lw=1.2, ls="--")
            axes.annotate(
                f"serial link, {self.baud / 1e6:g} Mbaud",
                (right, self.link * right),
                (-4, -24),
                textcoords="offset points",
                ha="right",
                va="top",
                color=WARN,
            )

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a point is, in parts of the plot's width and height."""
        return (
            float(np.log(x) / np.log(self.right / self.left)),
            float(np.log(y) / np.log(16 * self.peak / self.lowest)),
        )


def roofline(compiled: Summary, clock_mhz: float | None, baud: float | None) -> Markup | None:
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
    with canvas(WIDTH, 4.6, "roof") as figure:
        axes = figure.subplots()
        roofs.draw(axes)
        _draw_points(axes, roofs, points, interval)
        star = axes.plot([whole], [compiled["macs"] / interval], "*", ms=13, color=ACCENT)[0]
        tip(star, f"the whole network: {compiled['macs'] / interval:.3g} products a cycle")
        _draw_scales(axes, clock_mhz)
        return svg(figure, "Roofline: operations a cycle over operations a byte, by layer")


def _points(compiled: Summary) -> Iterator[tuple[float, float, Summary]]:
    """Of each layer the operations a byte and a cycle."""
    traffic = _traffic(compiled)
    for row in compiled["layers"]:
        if passing := traffic.get(row["stage"]):
            # what a layer does in a frame: its products, or the elements that it gives
            operations = int(row["macs"]) or int(np.prod(row["shape"]))
            yield operations / passing, operations / compiled["interval_cycles"], row


def _draw_points(
    axes: Axes, roofs: _Roofs, points: list[tuple[float, float, Summary]], interval: int
) -> None:
    """Of points that are close together one is named, and the others where the pointer is."""
    names = labels(row["name"] for _, _, row in points)
    taken: list[tuple[float, float]] = []
    for x, y, row in sorted(points, key=lambda point: -point[1]):
        products = bool(row["macs"])
        style: dict[str, Any] = {"color": GOOD} if products else {"color": SOFT, "mfc": "none"}
        point = axes.plot([x], [y], "o", ms=8 if row["cycles"] == interval else 6, **style)[0]
        what = "products" if products else "elements"
        tip(point, f"{row['name']}: {y:.3g} {what} a cycle, {x:.3g} a byte")
        at = roofs.place(x, y)
        if all(abs(at[0] - u) > 0.15 or abs(at[1] - v) > 0.035 for u, v in taken):
            taken.append(at)
            axes.annotate(
                fitting(names[row["name"]], 20),
                (x, y),
                (6, -3),
                textcoords="offset points",
                fontsize=8,
                color=INK,
            )


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
        axis.set_minor_formatter(NullFormatter())


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

"""The design space as a picture: speed against cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from .views import LUTS, resource_names

__all__ = ["design_space"]


def design_space(
    points: Sequence[Mapping[str, Any]],
    path: Path,
    *,
    title: str = "",
    available: Mapping[str, int] | None = None,
    logic_unit: str = LUTS,
) -> Path:
    """Draw cost over frames a second into ``path`` (.png, .svg or .pdf), a panel a resource.

    The front is a line through full marks, other plans are hollow ones. ``available``: what the
    device has, a dashed line where plans come near it. ``logic_unit``: what ``lut`` of the points
    counts.
    """
    shown = [point for point in points if point["fits"]]
    figure = Figure(figsize=(9, 6.2), layout="constrained")
    if title:
        figure.suptitle(title)
    names = resource_names(logic_unit).items()
    for axes, (key, name) in zip(figure.subplots(2, 2, sharex=True).flat, names, strict=True):
        front = [point for point in shown if point["pareto"]]
        front.sort(key=lambda point: (point["fps"], point["share"]))
        others = [point for point in shown if not point["pareto"]]
        axes.plot(
            [p["fps"] for p in front],
            [p[key] for p in front],
            "o-",
            ms=4,
            lw=1,
            color="#2f6fb3",
            label="front",
        )
        if others:
            axes.plot(
                [p["fps"] for p in others],
                [p[key] for p in others],
                "o",
                ms=4,
                mfc="none",
                color="#8a94a3",
                label="other plans",
            )
        limit = (available or {}).get(key)
        highest = max((p[key] for p in shown), default=0)
        if limit and highest > 0.4 * limit:
            axes.axhline(limit, ls="--", lw=1, color="#b3382f", label="available")
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_ylim(bottom=0)
        axes.set_ylabel(name)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(alpha=0.3)
    for axes in figure.axes[-2:]:
        axes.set_xlabel("frames a second at the target clock")
    figure.axes[0].legend(frameon=False)
    figure.savefig(path, dpi=150)
    return path

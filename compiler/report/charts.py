"""The plots of the page, each made of one summary or two."""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from .drawing import (
    ACCENT,
    GOOD,
    INK,
    LINE,
    PAPER,
    ROW,
    SOFT,
    WARN,
    abreast,
    bare,
    canvas,
    entry_width,
    legend,
    series,
    svg,
    tip,
)
from .names import fitting, labels
from .views import EXACT_DB
from .widths import WIDE

__all__ = [
    "clocks",
    "critical_path",
    "floorplan",
    "histograms",
    "most_cells",
    "queues",
    "resources_by_stage",
    "sqnr",
    "stage_cells",
]

Summary = Mapping[str, Any]

RESOURCES = {"lut": "LUTs", "ff": "flip-flops", "dsp": "DSP blocks", "bram": "block RAMs"}
#: pixels of a tile of the floorplan, each way
_PIXELS = 8
#: inches of the floorplan, and the parts of it that colours alone tell apart
_CHIP, _COLOURS = 4.6, 12
#: inches that the text of a clock takes
_CLOCK = 0.6
#: rows of a chart by layer, at most; a longer network shows the largest
_ROWS = 48


def _letters(width: float) -> int:
    """Letters of a layer's name beside a figure of that width."""
    return 24 if width == WIDE else 14


def _thousands(value: float, _: object = None) -> str:
    return f"{value:,.0f}"


# The plan.


def stage_cells(compiled: Summary, layout: Summary | None) -> list[tuple[str, dict[str, Any]]]:
    """A row a stage, and one for each other part of the chip: estimate and actual of each resource;
    None where nothing is known.
    """
    rows: dict[str, dict[str, Any]] = {}
    names: dict[str, str] = {}
    for layer in compiled["layers"]:
        if layer.get("lut") is not None:
            names[layer["stage"]] = layer["name"]
            estimate = {key: layer["block_rams" if key == "bram" else key] for key in RESOURCES}
            rows[layer["stage"]] = {key: (value, None) for key, value in estimate.items()}
    if not rows:
        return []
    for part, cells in (layout or {"cells": {}})["cells"].items():
        before = rows.get(part, dict.fromkeys(RESOURCES, (None, None)))
        rows[part] = {
            key: (before[key][0], cells.get(key, 0) if _counted(layout, key) else None)
            for key in RESOURCES
        }
    return [(names.get(part, part), row) for part, row in rows.items()]


def most_cells(both: Iterable[tuple[Summary, Summary | None]]) -> dict[str, int]:
    """By resource the most that a bar has in any of the directories."""
    rows = [row for one in both for _, row in stage_cells(*one)]
    return {key: max((n or 0 for row in rows for n in row[key]), default=0) for key in RESOURCES}


def _counted(layout: Summary | None, key: str) -> bool:
    """Whether place and route counts a resource by itself."""
    return layout is not None and any(key in cells for cells in layout["cells"].values())


def resources_by_stage(
    compiled: Summary,
    layout: Summary | None,
    width: float = WIDE,
    ends: Mapping[str, int] | None = None,
) -> Markup | None:
    """Four panels of bars, estimate beside actual; None where nothing is known by stage. ``ends``:
    by resource what the scale reaches at least.
    """
    rows = stage_cells(compiled, layout)[:_ROWS]
    if not rows:
        return None
    across = 4 if width == WIDE else 2
    down = len(RESOURCES) // across
    height = 0.4 + down * (0.5 + 0.24 * len(rows))
    with canvas(width, height, "cells") as figure:
        panels = figure.subplots(down, across, sharey=True).flat
        # one bar in the middle, or two side by side
        thick, apart = (0.36, 0.2) if layout is not None else (0.6, 0.0)
        for axes, (key, title) in zip(panels, RESOURCES.items(), strict=True):
            for at, (name, row) in enumerate(rows):
                estimate, actual = row[key]
                bars = axes.barh(at - apart, estimate or 0, thick, color=SOFT, alpha=0.45)
                tip(bars[0], f"{name}: {estimate or 0:,} {title} estimated")
                if layout is not None:
                    bars = axes.barh(at + apart, actual or 0, thick, color=ACCENT)
                    tip(bars[0], f"{name}: {actual or 0:,} {title} routed")
            axes.set_title(title, loc="left")
            most = max(axes.get_xlim()[1], 1.05 * (ends or {}).get(key, 0))
            axes.set_xlim(0, most)
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
            axes.grid(axis="x", alpha=0.5)
            bare(axes, "left", "bottom")
        names = labels(name for name, _ in rows)
        texts = [fitting(names[name], _letters(width)) for name, _ in rows]
        figure.axes[0].set_yticks(range(len(rows)), texts)
        figure.axes[0].set_ylim(len(rows) - 0.4, -0.6)
        for axes in figure.axes[::across]:
            axes.tick_params(axis="y", labelcolor=INK)
        entries = [Patch(color=SOFT, alpha=0.45, label="estimated")]
        if layout is not None:
            entries.append(Patch(color=ACCENT, label="routed"))
        figure.legend(handles=entries, ncols=2, loc="outside upper right")
        return svg(figure, "LUTs, flip-flops, DSP blocks and block RAMs by layer")


# The simulation.


def queues(activity: Summary, names: Mapping[str, str], width: float = WIDE) -> Markup | None:
    """The most beats in each queue, and their mean, against its depth; None without queues."""
    rows = sorted(activity["queues"], key=lambda row: -row["depth"])[:_ROWS]
    if not rows:
        return None
    with canvas(width, 0.9 + 0.27 * len(rows), "queue") as figure:
        axes = figure.subplots()
        for at, row in enumerate(rows):
            axes.barh(at, row["depth"], 0.62, color="none", edgecolor=SOFT, lw=0.8)
            bars = axes.barh(at, row["peak"], 0.62, color=ACCENT, alpha=0.8)
            tip(bars[0], f"at most {row['peak']:,} of {row['depth']:,} beats")
            axes.plot([row["mean"]] * 2, [at - 0.31, at + 0.31], color=INK, lw=1.5)
        short = labels(names.values())
        ends = [names.get(row["stage"] or "", row["stage"] or "output") for row in rows]
        texts = [
            f"before {fitting(short.get(end, end), _letters(width))}, {row['input']}"
            for end, row in zip(ends, rows, strict=True)
        ]
        axes.set_yticks(range(len(rows)), texts, color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.set_xlabel("beats")
        axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
        axes.grid(axis="x", alpha=0.5)
        bare(axes, "left")
        legend(
            axes,
            [
                Patch(facecolor="none", edgecolor=SOFT, label="depth"),
                Patch(color=ACCENT, label="most at a time"),
                Line2D([], [], color=INK, label="mean"),
            ],
        )
        return svg(figure, "Beats in each queue against its depth")


# Accuracy.


def sqnr(found: Summary, width: float = WIDE) -> Markup | None:
    """Signal to noise of each layer, and of the noise that it adds by itself, in flow order."""
    rows = [row for row in (found.get("sqnr") or {"layers": []})["layers"]]
    rows = [row for row in rows if row["sqnr_db"] is not None]
    if len(rows) > _ROWS:
        worst = sorted(rows, key=lambda row: row["sqnr_db"])[:_ROWS]
        rows = [row for row in rows if row in worst]
    if not rows:
        return None
    with canvas(width, 0.9 + 0.25 * len(rows), "sqnr") as figure:
        axes = figure.subplots()
        for at, row in enumerate(rows):
            bars = axes.barh(at, row["sqnr_db"], 0.6, color=ACCENT, alpha=0.85)
            own = row.get("own_db")
            exact = own is not None and own > EXACT_DB
            tip(bars[0], f"{row['name']}: {row['sqnr_db']:.1f} dB against the float network")
            alone = "" if own is None else ", \u25c6 exact" if exact else f", \u25c6 {own:.1f}"
            own = None if exact else own
            axes.annotate(
                f"{row['sqnr_db']:.1f}{alone}",
                (max(0.0, row["sqnr_db"], own or 0.0), at),  # behind the bar and the mark
                (7, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=8,
            )
            if own is not None:
                axes.plot([own], [at], "D", ms=5, color=INK)
        names = labels(row["name"] for row in rows)
        texts = [fitting(names[row["name"]], _letters(width)) for row in rows]
        axes.set_yticks(range(len(rows)), texts, color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.margins(x=0.05 + 0.9 / width)  # for the numbers behind the longest bar
        axes.set_xlim(left=0)
        axes.set_xlabel("dB; 6 dB are one bit")
        axes.grid(axis="x", alpha=0.5)
        bare(axes, "left")
        legend(
            axes,
            [
                Patch(color=ACCENT, label="up to this layer"),
                Line2D([], [], marker="D", ls="", ms=5, color=INK, label="of the layer alone"),
            ],
        )
        return svg(figure, "Signal to quantization noise ratio by layer")


def histograms(found: Summary, width: float = WIDE) -> Markup | None:
    """A small histogram a layer: integers as bars, the float network's numbers as a line."""
    rows = found.get("histograms", ())[:_ROWS]
    if not rows:
        return None
    most = 5 if width == WIDE else 2
    columns = min(most, len(rows))
    lines = ceil(len(rows) / columns)
    with canvas(width * columns / most, 1.4 * lines + 0.2, "hist") as figure:
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat[len(rows) :]:
            axes.set_visible(False)
        names = labels(row["name"] for row in rows)
        for axes, row in zip(panels.flat, rows, strict=False):
            _histogram(axes, row, fitting(names[row["name"]], 20))
        return svg(figure, "Histograms of the values of each layer")


def _histogram(axes: Any, row: Summary, title: str) -> None:
    counts = np.array(row["integer"][1:-1], float)
    edges = np.linspace(row["low"] - 0.5, row["high"] + 0.5, len(counts) + 1)
    total = max(1.0, counts.sum())
    # a logarithm shows the tails, where values saturate
    axes.stairs(np.maximum(counts / total, 1e-9), edges, fill=True, color=ACCENT, alpha=0.75)
    beyond = 0.0
    if row["float"]:
        real = np.array(row["float"], float)
        beyond = float((real[0] + real[-1]) / max(1.0, real.sum()))
        axes.stairs(np.maximum(real[1:-1] / max(1.0, real.sum()), 1e-9), edges, color=INK, lw=0.9)
    axes.set_yscale("log")
    axes.set_ylim(1e-5, 1.5)
    axes.set_yticks([])
    axes.minorticks_off()
    axes.set_xticks([row["low"], row["high"]])
    axes.set_title(title, loc="left")
    if beyond:
        axes.set_xlabel(f"{100 * beyond:.2g} % clipped", color=WARN, fontsize=8)
    bare(axes, "left")


# Place and route.


def clocks(built: Summary, width: float = WIDE) -> Markup:
    """The routed clock of every seed against the clock that is needed, and the documented limit."""
    clock, limit = built.get("clock_mhz", built["target_mhz"]), built.get("limit_mhz")
    seeds = sorted(built["seeds"].items(), key=lambda seed: seed[1])
    least, most = min(clock, seeds[0][1]), max(clock, seeds[-1][1], limit or 0)
    pad = max(4.0, 0.1 * (most - least))
    left, right = least - pad, most + pad
    levels = _levels([mhz for _, mhz in seeds], _CLOCK * (right - left) / width)
    with canvas(width, 1.5 + 0.32 * max(levels), "clock") as figure:
        axes = figure.subplots()
        box = {"boxstyle": "square,pad=0.1", "facecolor": PAPER, "edgecolor": "none"}
        for (seed, mhz), level in zip(seeds, levels, strict=True):
            taken = int(seed) == built["seed"]
            colour = INK if taken else SOFT
            axes.plot([mhz, mhz], [0, level + 0.3], color=LINE, lw=0.8)
            point = axes.plot([mhz], [0], "o", ms=11 if taken else 8, color=GOOD if taken else SOFT)
            tip(point[0], f"seed {seed}: {mhz:.1f} MHz")
            text = f"seed {seed}\n{mhz:.1f}"
            axes.text(
                mhz, level + 0.35, text, ha="center", size=8, color=colour, bbox=box, zorder=5
            )  # above the lines of clock and limit
        lines = (
            (clock, f"clock of the PLL {clock:.1f}", ACCENT, -0.9),
            (limit, "limit", WARN, -0.55),
        )
        for mhz, text, colour, at in lines:
            if mhz:
                axes.axvline(mhz, color=colour, lw=1.2, ls="--")
                near = mhz < (left + right) / 2
                axes.annotate(
                    text if mhz == clock else f"{text} {mhz:.0f}",
                    (mhz, at),
                    (4 if near else -4, 0),
                    textcoords="offset points",
                    ha="left" if near else "right",
                    color=colour,
                    fontsize=8,
                )
        axes.set(ylim=(-1, max(levels) + 1.4), yticks=[], xlim=(left, right))
        axes.set_xlabel("MHz")
        axes.grid(axis="x", alpha=0.5)
        bare(axes, "left")
        return svg(figure, "Routed clock of every seed")


def _levels(places: Sequence[float], wide: float) -> list[int]:
    """The row of each text that is ``wide`` and lies at a place of these, which ascend: the lowest
    where it covers no other.
    """
    ends: list[float] = []
    found = []
    for place in places:
        level = next((at for at, end in enumerate(ends) if end <= place - wide / 2), len(ends))
        ends[level : level + 1] = [place + wide / 2]
        found.append(level)
    return found


def critical_path(layout: Summary, names: Mapping[str, str], width: float = WIDE) -> Markup | None:
    """The steps of the slowest path, one behind the other, in the colours of their parts."""
    steps = layout["critical_path"]
    if not steps:
        return None
    with canvas(width, 1.5, "path") as figure:
        axes = figure.subplots()
        short = _part_names(layout, names)
        start, seen = 0.0, {}
        for step in steps:
            colour = series(layout["parts"].index(step["part"]))
            routing = step["type"] == "routing"
            bars = axes.barh(
                0,
                step["delay_ns"],
                left=start,
                color=colour,
                alpha=0.45 if routing else 1,
                height=0.9,
            )
            tip(bars[0], f"{step['type']}, {step['delay_ns']:.2f} ns, to {step['cell']}")
            start += step["delay_ns"]
            seen[step["part"]] = colour
        axes.set(yticks=[], xlim=(0, start), ylim=(-0.5, 0.5))
        axes.set_xlabel(f"ns; {start:.2f} in all, {1e3 / start:.1f} MHz; faint: on wires")
        legend(
            axes,
            [
                Patch(color=colour, label=fitting(short.get(part, part), 26))
                for part, colour in seen.items()
            ],
        )
        bare(axes, "left")
        return svg(figure, "Critical path by layer")


def _part_names(layout: Summary, names: Mapping[str, str]) -> dict[str, str]:
    """The label of each part of the chip: of a stage that of its layer."""
    layers = labels(names.values())
    whole = {part: names.get(part, part) for part in layout["parts"]}
    return {part: layers.get(name, name) for part, name in whole.items()}


def floorplan(layout: Summary, names: Mapping[str, str], width: float = WIDE) -> Markup | None:
    """The chip from above: the part that has most cells in each tile, and the critical path."""
    tiles = layout["tiles"]
    if not tiles:
        return None
    columns, rows = layout["columns"], layout["rows"]
    short = _part_names(layout, names)
    path = [step["at"] for step in layout["critical_path"]]
    places = _places(tiles)
    numbers = {part: f"{part + 1}" for part in places if layout["parts"][part] in names}
    if len(places) <= _COLOURS:
        numbers = {}
    entries: list[Any] = [
        Patch(
            color=series(part),
            label=f"{numbers.get(part, '')} {fitting(short[layout['parts'][part]], 26)}".strip(),
        )
        for part in sorted(places)
    ]
    if path:
        entries.append(Line2D([], [], color=INK, lw=2.2, label="critical path"))
    # the legend is beside the chip, or below it
    abreast_aside = ceil(ROW * len(entries) / _CHIP)
    aside = abreast_aside * entry_width(entries)
    room = width - aside if width - aside >= _CHIP else width
    across = min(room, _CHIP * columns / rows)
    chip = across, across * rows / columns
    if room < width:
        size = across + aside, max(chip[1], ROW * ceil(len(entries) / abreast_aside) + 0.1)
    else:
        size = width, chip[1] + ROW * ceil(len(entries) / abreast(entries, width)) + 0.2
    with canvas(*size, "floor") as figure:
        figure.set_layout_engine("none")
        axes = figure.add_axes((0, 1 - chip[1] / size[1], chip[0] / size[0], chip[1] / size[1]))
        ground = np.zeros((rows, columns, 4))
        for x, y, part, _ in tiles:
            ground[y, x] = to_rgba(series(part))
        # several pixels a tile, since printers smooth what they enlarge
        fine = ground.repeat(_PIXELS, 0).repeat(_PIXELS, 1)
        axes.imshow(fine, interpolation="none", extent=(-0.5, columns - 0.5, rows - 0.5, -0.5))
        if path:
            axes.plot([x for x, _ in path], [y for _, y in path], "-", lw=2.2, color=INK)
            axes.plot([path[0][0]], [path[0][1]], "o", ms=5, color=INK)
        box = {"boxstyle": "round,pad=0.15", "facecolor": PAPER, "edgecolor": "none"}
        for part, text in numbers.items():
            axes.text(*places[part], text, size=6.5, ha="center", va="center", bbox=box)
        axes.set(xlim=(-1, columns), ylim=(rows, -1), xticks=[], yticks=[], aspect="equal")
        axes.set_anchor("NW")
        for spine in axes.spines.values():
            spine.set_visible(True)
        if room < width:
            axes.legend(
                handles=entries, loc="upper left", bbox_to_anchor=(1.01, 1), ncols=abreast_aside
            )
        else:
            legend(axes, entries, loc="upper left", bbox_to_anchor=(0, -0.01))
        return svg(figure, "Floorplan: where the cells of each stage lie")


def _places(tiles: Sequence[Sequence[int]]) -> dict[int, tuple[int, int]]:
    """Of each part the tile that is next to the middle of its tiles."""
    own: dict[int, list[tuple[int, int]]] = {}
    for x, y, part, _ in tiles:
        own.setdefault(part, []).append((x, y))
    found = {}
    for part, places in own.items():
        middle = np.median(places, axis=0)
        found[part] = min(
            places, key=lambda at: (abs(at[0] - middle[0]) + abs(at[1] - middle[1]), at)
        )
    return found

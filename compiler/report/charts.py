"""The plots of the page, each made of one summary or two."""

from collections.abc import Mapping
from functools import partial
from math import ceil
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.colors import to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from .drawing import ACCENT, GOOD, INK, LINE, SOFT, WARN, bare, canvas, legend, series, svg, tip
from .names import fitting, labels

__all__ = [
    "clocks",
    "critical_path",
    "floorplan",
    "histograms",
    "queues",
    "resources_by_stage",
    "roofline",
    "sqnr",
    "stage_cells",
]

Summary = Mapping[str, Any]

RESOURCES = {"lut": "LUTs", "ff": "flip-flops", "dsp": "DSP blocks", "bram": "block RAMs"}
_WIDTH = 11.6
#: rows of a chart by layer, at most; a longer network shows the largest
_ROWS = 48


def _thousands(value: float, _: object = None) -> str:
    return f"{value:,.0f}"


def _plain(value: float, _: object = None) -> str:
    return f"{value:,.10g}"


# The plan.


def operations(row: Summary) -> int:
    """What a layer does in a frame: its products, or the elements that it gives."""
    return int(row["macs"]) or int(np.prod(row["shape"]))


def roofline(compiled: Summary, clock_mhz: float | None, baud: float | None) -> Markup | None:
    """Operations a cycle of each layer over operations a byte that passes its ports.

    Roofs: products that the device's DSP blocks give, bytes that its block RAMs read in a cycle,
    and bytes of the serial link; None where the directory is of an older version.
    """
    if not compiled.get("streams") or not compiled.get("device_multipliers"):
        return None
    interval, traffic = compiled["interval_cycles"], _traffic(compiled)
    rows = [row for row in compiled["layers"] if traffic.get(row["stage"])]
    points = [
        (operations(row) / traffic[row["stage"]], operations(row) / interval, row) for row in rows
    ]
    ends = [_bytes(s) for s in compiled["streams"] if s["source"] is None or s["sink"] is None]
    whole = max(1, compiled["macs"]) / max(1.0, sum(ends))
    peak = float(compiled["device_multipliers"])
    memory = compiled["memory_bits_per_cycle"] / 8
    link = baud / 10 / (clock_mhz * 1e6) if baud and clock_mhz else None
    xs = [x for x, _, _ in points] + [whole]
    left, right = min(xs) / 4, max(*xs, peak / memory) * 4
    lowest = min([y for _, y, _ in points] + ([whole * link] if link else []))
    with canvas(_WIDTH, 4.6, "roof") as figure:
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=(lowest / 4, peak * 4))
        x = np.sort([*np.geomspace(left, right, 40), peak / memory])
        axes.plot(x, np.minimum(peak, memory * x), color=INK, lw=1.6)
        axes.annotate(
            f"{peak:,.0f} products a cycle in DSP blocks",
            (max(left, peak / memory), peak),
            (6, 5),
            textcoords="offset points",
            color=INK,
        )
        if link and baud:
            axes.plot(x, link * x, color=WARN, lw=1.2, ls="--")
            axes.annotate(
                f"serial link, {baud / 1e6:g} Mbaud",
                (right, link * right),
                (-4, -24),
                textcoords="offset points",
                ha="right",
                va="top",
                color=WARN,
            )
        names = labels(row["name"] for row in rows)
        taken: list[tuple[float, float]] = []
        for x_at, y_at, row in sorted(points, key=lambda point: -point[1]):
            _point(axes, x_at, y_at, row, row["cycles"] == interval)
            at = np.log(x_at) / np.log(right / left), np.log(y_at) / np.log(16 * peak / lowest)
            # of points that are close together one is named, and the others where the pointer is
            if all(abs(at[0] - u) > 0.15 or abs(at[1] - v) > 0.035 for u, v in taken):
                taken.append(at)
                axes.annotate(
                    fitting(names[row["name"]], 20),
                    (x_at, y_at),
                    (6, -3),
                    textcoords="offset points",
                    fontsize=8,
                    color=INK,
                )
        star = axes.plot([whole], [compiled["macs"] / interval], "*", ms=13, color=ACCENT)[0]
        tip(star, f"the whole network: {compiled['macs'] / interval:.3g} products a cycle")
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
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(_plain))
            axis.set_minor_formatter(NullFormatter())
        if clock_mhz:
            scale = clock_mhz / 1e3
            ways = partial(np.multiply, scale), partial(np.multiply, 1 / scale)
            second = axes.secondary_yaxis("right", functions=ways)
            second.yaxis.set_major_formatter(FuncFormatter(_plain))
            second.yaxis.set_minor_formatter(NullFormatter())
            second.set_ylabel(f"billions a second at {clock_mhz:.0f} MHz")
        return svg(figure, "Roofline: operations a cycle over operations a byte, by layer")


def _point(axes: Any, x: float, y: float, row: Summary, slowest: bool) -> None:
    products = bool(row["macs"])
    style = {"color": GOOD} if products else {"color": SOFT, "mfc": "none"}
    point = axes.plot([x], [y], "o", ms=8 if slowest else 6, **style)[0]
    what = "products" if products else "elements"
    tip(point, f"{row['name']}: {y:.3g} {what} a cycle, {x:.3g} a byte")


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


def _counted(layout: Summary | None, key: str) -> bool:
    """Whether place and route counts a resource by itself."""
    return layout is not None and any(key in cells for cells in layout["cells"].values())


def resources_by_stage(compiled: Summary, layout: Summary | None) -> Markup | None:
    """Four panels of bars, estimate beside actual; None where nothing is known by stage."""
    rows = stage_cells(compiled, layout)[:_ROWS]
    if not rows:
        return None
    with canvas(_WIDTH, 0.9 + 0.27 * len(rows), "cells") as figure:
        panels = figure.subplots(1, 4, sharey=True)
        places = np.arange(len(rows))
        for axes, (key, title) in zip(panels, RESOURCES.items(), strict=True):
            for at, (name, row) in enumerate(rows):
                estimate, actual = row[key]
                bars = axes.barh(at - 0.2, estimate or 0, 0.36, color=LINE)
                tip(bars[0], f"{name}: {estimate or 0:,} {title} estimated")
                bars = axes.barh(at + 0.2, actual or 0, 0.36, color=ACCENT)
                tip(bars[0], f"{name}: {actual or 0:,} {title} routed")
            axes.set_title(title, loc="left")
            axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
            axes.xaxis.set_major_formatter(FuncFormatter(_thousands))
            axes.grid(axis="x", alpha=0.5)
            bare(axes, "left", "bottom")
        names = labels(name for name, _ in rows)
        panels[0].set_yticks(places, [fitting(names[name], 24) for name, _ in rows], color=INK)
        panels[0].set_ylim(len(rows) - 0.4, -0.6)
        entries = [Patch(color=LINE, label="estimated")]
        if layout is not None:
            entries.append(Patch(color=ACCENT, label="routed"))
        figure.legend(handles=entries, ncols=2, loc="outside upper right")
        return svg(figure, "LUTs, flip-flops, DSP blocks and block RAMs by layer")


# The simulation.


def queues(activity: Summary, names: Mapping[str, str]) -> Markup | None:
    """The most beats in each queue, and their mean, against its depth; None without queues."""
    rows = sorted(activity["queues"], key=lambda row: -row["depth"])[:_ROWS]
    if not rows:
        return None
    with canvas(_WIDTH, 0.9 + 0.3 * len(rows), "queue") as figure:
        axes = figure.subplots()
        for at, row in enumerate(rows):
            axes.barh(at, row["depth"], 0.62, color="none", edgecolor=SOFT, lw=0.8)
            bars = axes.barh(at, row["peak"], 0.62, color=ACCENT, alpha=0.8)
            tip(bars[0], f"at most {row['peak']:,} of {row['depth']:,} beats")
            axes.plot([row["mean"]] * 2, [at - 0.31, at + 0.31], color=INK, lw=1.5)
        short = labels(names.values())
        ends = [names.get(row["stage"] or "", row["stage"] or "output") for row in rows]
        texts = [
            f"before {fitting(short.get(end, end), 22)}, {row['input']}"
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


def sqnr(found: Summary) -> Markup | None:
    """Signal to noise of each layer, and of the noise that it adds by itself, in flow order."""
    rows = [row for row in (found.get("sqnr") or {"layers": []})["layers"]]
    rows = [row for row in rows if row["sqnr_db"] is not None]
    if len(rows) > _ROWS:
        worst = sorted(rows, key=lambda row: row["sqnr_db"])[:_ROWS]
        rows = [row for row in rows if row in worst]
    if not rows:
        return None
    with canvas(_WIDTH, 0.9 + 0.28 * len(rows), "sqnr") as figure:
        axes = figure.subplots()
        for at, row in enumerate(rows):
            bars = axes.barh(at, row["sqnr_db"], 0.6, color=ACCENT, alpha=0.85)
            own = row.get("own_db")
            tip(bars[0], f"{row['name']}: {row['sqnr_db']:.1f} dB against the float network")
            axes.annotate(
                f"{row['sqnr_db']:.1f}",
                (row["sqnr_db"], at),
                (-4, 0),
                textcoords="offset points",
                ha="right",
                va="center",
                color="#ffffff",
                fontsize=8,
            )
            if own is not None:
                axes.plot([own], [at], "D", ms=5, color=INK)
        names = labels(row["name"] for row in rows)
        texts = [fitting(names[row["name"]], 26) for row in rows]
        axes.set_yticks(range(len(rows)), texts, color=INK)
        axes.set_ylim(len(rows) - 0.4, -0.6)
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


def histograms(found: Summary) -> Markup | None:
    """A small histogram a layer: integers as bars, the float network's numbers as a line."""
    rows = found.get("histograms", ())[:_ROWS]
    if not rows:
        return None
    columns = min(5, len(rows))
    lines = ceil(len(rows) / columns)
    with canvas(
        _WIDTH * columns / 5 if columns < 4 else _WIDTH, 1.5 * lines + 0.2, "hist"
    ) as figure:
        panels = figure.subplots(lines, columns, squeeze=False)
        for axes in panels.flat[len(rows) :]:
            axes.set_visible(False)
        names = labels(row["name"] for row in rows)
        for axes, row in zip(panels.flat, rows, strict=False):
            _histogram(axes, row, fitting(names[row["name"]], 22))
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


def clocks(built: Summary) -> Markup:
    """The routed clock of every seed against the clock that is needed, and the documented limit."""
    with canvas(_WIDTH, 1.7, "clock") as figure:
        axes = figure.subplots()
        for seed, mhz in built["seeds"].items():
            taken = int(seed) == built["seed"]
            point = axes.plot([mhz], [0], "o", ms=11 if taken else 8, color=GOOD if taken else SOFT)
            tip(point[0], f"seed {seed}: {mhz:.1f} MHz")
            axes.annotate(
                f"seed {seed}\n{mhz:.1f}",
                (mhz, 0),
                (0, 9),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=INK if taken else SOFT,
            )
        clock = built.get("clock_mhz", built["target_mhz"])
        for mhz, text, colour in (
            (clock, f"clock of the PLL {clock:.1f}", ACCENT),
            (built.get("limit_mhz"), f"limit {built.get('limit_mhz') or 0:.0f}", WARN),
        ):
            if mhz:
                axes.axvline(mhz, color=colour, lw=1.2, ls="--")
                axes.annotate(
                    text, (mhz, -0.95), (4, 0), textcoords="offset points", color=colour, fontsize=8
                )
        most = max([*built["seeds"].values(), clock, built.get("limit_mhz") or 0])
        least = min([*built["seeds"].values(), clock])
        pad = max(4.0, 0.14 * (most - least))
        axes.set(ylim=(-1, 1), yticks=[], xlim=(least - pad, most + pad))
        axes.set_xlabel("MHz")
        axes.grid(axis="x", alpha=0.5)
        bare(axes, "left")
        return svg(figure, "Routed clock of every seed")


def critical_path(layout: Summary, names: Mapping[str, str]) -> Markup | None:
    """The steps of the slowest path, one behind the other, in the colours of their parts."""
    steps = layout["critical_path"]
    if not steps:
        return None
    with canvas(_WIDTH, 1.5, "path") as figure:
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
        axes.set_xlabel(f"ns; {start:.2f} in all, {1e3 / start:.1f} MHz; pale: on wires")
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


def floorplan(layout: Summary, names: Mapping[str, str]) -> Markup | None:
    """The chip from above: the part that has most cells in each tile, and the critical path."""
    tiles = layout["tiles"]
    if not tiles:
        return None
    columns, rows = layout["columns"], layout["rows"]
    width = min(8.0, 5.2 * columns / rows)
    used = sorted({part for _, _, part, _ in tiles})
    with canvas(width + 2.4, width * rows / columns + 0.3, "floor") as figure:
        axes = figure.subplots()
        short = _part_names(layout, names)
        ground = np.zeros((rows, columns, 4))
        for x, y, part, _ in tiles:
            ground[y, x] = to_rgba(series(part))
        axes.imshow(ground, interpolation="none")
        path = [step["at"] for step in layout["critical_path"]]
        if path:
            axes.plot([x for x, _ in path], [y for _, y in path], "-", lw=2.2, color=INK)
            axes.plot([path[0][0]], [path[0][1]], "o", ms=5, color=INK)
        axes.set(xlim=(-1, columns), ylim=(rows, -1), xticks=[], yticks=[], aspect="equal")
        for spine in axes.spines.values():
            spine.set_visible(True)
        entries: list[Any] = [
            Patch(
                color=series(part),
                label=fitting(short[layout["parts"][part]], 26),
            )
            for part in used
        ]
        if path:
            entries.append(Line2D([], [], color=INK, lw=2.2, label="critical path"))
        axes.legend(handles=entries, loc="upper left", bbox_to_anchor=(1.01, 1))
        return svg(figure, "Floorplan: where the cells of each stage lie")

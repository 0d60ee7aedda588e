"""One page over all that was done in a directory: ``report.html``, which needs no other file."""

import os
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..errors import DataError
from . import views
from .summary import STEPS, consistent, read_summary
from .views import Share, View

__all__ = ["check_report", "render", "write_report"]

Summaries = dict[str, dict[str, Any]]


def write_report(directory: Path) -> Path:
    """Write ``report.html`` over the steps' summaries in ``directory``; returns its path."""
    text = _page(directory)
    page = directory / "report.html"
    partial = directory / ".report.html"
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, page)
    return page


def check_report(directory: Path, step: str) -> None:
    """Raise DataError when no report can be made over the summaries that ``step`` leaves as they
    are: a damaged file is found before the work of the step.
    """
    _page(directory, step)


def _page(directory: Path, without: str | None = None) -> str:
    """The page over the summaries in ``directory``, but that of one step."""
    summaries = {
        step: read_summary(directory, step)
        for step in STEPS
        if step != without and (directory / f"{step}.json").exists()
    }
    if "compile" not in summaries:
        raise DataError(f"{directory}: holds no compile.json; compile a model with -o first")
    files = ", ".join(str(directory / f"{step}.json") for step in summaries)
    with consistent(f"one of {files}", "run the steps again"):
        return render(summaries)


def render(summaries: Summaries) -> str:
    """The page for the summaries of steps, by name; only ``compile`` must be there."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests["share"] = lambda cell: isinstance(cell, Share)
    compiled = summaries["compile"]
    return environment.get_template("report.html").render(
        model=compiled.get("model", ""),
        board=compiled["board"],
        headline=_headline(summaries),
        views=_views(summaries),
        zip=zip,
    )


def _views(summaries: Summaries) -> list[View]:
    """In the order of the flow."""
    compiled = summaries["compile"]
    simulated, built = summaries.get("simulate"), summaries.get("build")
    measured, found = summaries.get("bench"), summaries.get("accuracy")
    shown = [
        views.shortfall(compiled),
        views.widths(compiled),
        views.ports(compiled),
        views.layers(compiled),
        views.resources(compiled, built),
        views.cycles(compiled, simulated),
        simulated and views.simulation(simulated),
        built and views.timing(built),
        measured and views.benchmark(measured),
        found and views.accuracy(found),
        found and views.outputs(found),
        found and views.accuracy_layers(found),
        measured and views.machine(measured),
        built and views.versions(built),
    ]
    return [view for view in shown if isinstance(view, View) and view.rows]


def _headline(summaries: Summaries) -> list[tuple[str, str, str]]:
    """The figures at the top of the page: number, what it is, and its source."""
    compiled = summaries["compile"]
    found = [(f"{compiled['interval_cycles']:,}", "cycles a frame", "plan")]
    if "bench" in summaries:
        fpga = summaries["bench"]["fpga"]
        source = f"{fpga['how']}, {fpga['clock_mhz']:.0f} MHz ({fpga['clock_source']})"
        found = [
            (f"{fpga['fps']:,.0f}", "frames a second", source),
            (f"{fpga['latency_us']:,.0f} µs", "latency", source),
        ]
    if "build" in summaries:
        built = summaries["build"]
        met = "timing met" if built["timing_met"] else "timing NOT met"
        source = f"PLL, {met}; routed {built['fmax_mhz']:.0f} MHz"
        found.append((f"{built['clock_mhz']:.0f} MHz", "clock", source))
    if "simulate" in summaries:
        wrong = summaries["simulate"]["mismatches"]
        values = f"{summaries['simulate']['values']:,} values simulated"
        found.append((f"{wrong:,}", "mismatches with the golden model", values))
    integer = summaries.get("accuracy", {}).get("integer")
    if integer:
        found.append((f"{100 * integer['top1']:.2f} %", "right classes", "measured"))
    return found

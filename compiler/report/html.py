"""One page over all that was done in a directory: ``report.html``, which needs no other file."""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..errors import DataError
from . import views
from .commands import read_commands
from .gantt import Gantt, gantt
from .graph import Drawing, drawing
from .names import labels
from .samples import Confusion, Samples, confusion, samples
from .summary import STEPS, consistent, read_extra, read_summary
from .terms import HOW, TERMS
from .views import LUTS, Share, View, logic_unit
from .widths import Both, both

__all__ = [
    "Figure",
    "Group",
    "Section",
    "Summaries",
    "check_report",
    "files",
    "groups",
    "headline",
    "page",
    "render",
    "summaries_of",
    "write_page",
    "write_report",
]

Summaries = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Figure:
    """A figure at the top of the page: ``number`` and ``what`` it is, ``how`` it is known."""

    number: str
    what: str
    how: str
    source: str


@dataclass(frozen=True)
class Section:
    """A part of the page: a table, a drawing, or an SVG element; ``how`` its figures are known."""

    title: str
    content: Any
    how: tuple[str, ...] = ()
    lead: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """The sections of a step; ``name`` is the anchor."""

    name: str
    title: str
    sections: tuple[Section, ...]


def write_report(directory: Path, target: Path | None = None) -> Path:
    """Write ``report.html`` (or ``target``) over the steps' summaries in ``directory``; returns its
    path.
    """
    found = summaries_of(directory)
    with consistent(files(directory, found), "run the steps again"):
        text = render(found)
    return write_page(target or directory / "report.html", text)


def write_page(page: Path, text: str) -> Path:
    """Replace ``page`` at once, whoever else writes it; returns it."""
    partial = page.with_name(f".{page.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, page)
    return page


def check_report(directory: Path, step: str) -> None:
    """Raise DataError when no report can be made over the summaries that ``step`` leaves as they
    are: a damaged file is found before the work of the step.
    """
    found = summaries_of(directory, step)
    with consistent(files(directory, found), "run the steps again"):
        render(found, plots=False)


def summaries_of(directory: Path, without: str | None = None) -> Summaries:
    """What the steps left in ``directory``, by their names, but that of one step."""
    found = {
        step: read_summary(directory, step)
        for step in STEPS
        if step != without and (directory / f"{step}.json").exists()
    }
    if "compile" not in found:
        raise DataError(f"{directory}: holds no compile.json; compile a model with -o first")
    if "build" in found:
        found |= read_extra(directory, "layout")
    commands = read_commands(directory)
    return found | ({"commands": commands} if commands else {})


def files(directory: Path, found: Summaries) -> str:
    """The files of the summaries, as a message names them."""
    return f"one of {', '.join(str(directory / f'{step}.json') for step in found)}"


def page(template: str, **values: Any) -> str:
    """A template of this folder with what all of them use."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    kinds = {
        "both": Both,
        "share": Share,
        "view": View,
        "drawing": Drawing,
        "gantt": Gantt,
        "confusion": Confusion,
        "samples": Samples,
    }
    environment.tests |= {
        name: (lambda cell, kind=kind: isinstance(cell, kind)) for name, kind in kinds.items()
    }
    environment.globals["labels"] = labels
    return environment.get_template(template).render(**values, terms=TERMS, hows=HOW, zip=zip)


def render(summaries: Summaries, *, plots: bool = True) -> str:
    """The page for the summaries of steps, by name; only ``compile`` must be there."""
    compiled = summaries["compile"]
    return page(
        "report.html",
        model=compiled.get("model", ""),
        board=compiled["board"],
        headline=headline(summaries),
        groups=groups(summaries, plots=plots),
    )


# Sections, in the order of the flow.


def groups(summaries: Summaries, *, plots: bool = True) -> tuple[Group, ...]:
    """All that is known; without ``plots`` those parts only that take no time to draw. ``ends`` of
    the summaries: by resource what the scale of the bars reaches at least.
    """
    made: Sequence[tuple[str, str, Callable[[Summaries, bool], Iterator[Section]], str]] = (
        ("network", "Network and plan", _network, "compile"),
        ("simulation", "Simulation", _simulation, "simulate"),
        ("build", "Place and route", _build, "build"),
        ("bench", "Speed", _bench, "bench"),
        ("accuracy", "Accuracy", _accuracy, "accuracy"),
        ("made", "How this was made", _made, "compile"),
    )
    found = []
    for name, title, sections, step in made:
        if step in summaries:
            shown = tuple(
                section
                for section in sections(summaries, plots)
                if section.content is not None
                and not (isinstance(section.content, View) and not section.content.rows)
            )
            if shown:
                found.append(Group(name, title, shown))
    return tuple(found)


def _table(view: View | None, *how: str) -> Section:
    if view is None:
        return Section("", None)
    return Section(view.title, view, how, notes=view.notes)


def _network(summaries: Summaries, plots: bool) -> Iterator[Section]:
    compiled, built = summaries["compile"], summaries.get("build")
    routed = ("routed",) if built else ()
    yield _table(views.shortfall(compiled), "estimated")
    yield Section(
        "Network",
        both(partial(drawing, compiled)),
        ("estimated",),
        "A box is a stage: a layer in hardware of its own. The bar is its share of the interval; "
        "the slowest is marked. A thick stream has a queue.",
    )
    yield _table(views.widths(compiled), "computed")
    yield _table(views.ports(compiled))
    yield _table(views.resources(compiled, built), "estimated", *routed)
    yield _table(views.layers(compiled), "estimated")
    yield _table(views.latency_parts(compiled), "estimated")
    if plots:
        from . import charts
        from .roofline import roofline

        layout = summaries.get("layout")
        yield Section(
            "Resources by layer",
            both(partial(charts.resources_by_stage, compiled, layout, ends=summaries.get("ends"))),
            ("estimated", *(("routed",) if layout else ())),
            "What each stage takes of the chip." + _cells(compiled, layout),
        )
        clock, baud, source = _clock(summaries)
        peak = compiled.get("device_multipliers") or 0
        over = compiled["macs"] / max(1, compiled["interval_cycles"]) > peak > 0
        yield Section(
            "Roofline",
            both(partial(roofline, compiled, clock, baud)),
            ("estimated",),
            "How far each layer is below what the board could do. To the right, a byte that "
            "arrives is used more often; the flat roof is the DSP blocks' and the slope the block "
            "RAMs'. Layers run at the same time, and each is only as fast as the slowest needs. A "
            "number behind a name: so many more layers are at the same place.",
            (
                *((source,) if source else ()),
                *((_OVER,) if over else ()),
            ),
        )


_OVER = (
    "The star is above the roof: this plan makes products in logic, in addition to the DSP blocks."
)


def _cells(compiled: dict[str, Any], layout: dict[str, Any] | None) -> str:
    """What the bars of LUTs count, where the chip's cells hold a flip-flop as well."""
    unit = logic_unit(compiled)
    if unit == LUTS or layout is None:
        return ""
    return f" Estimated are LUTs; routed are {unit}, those with only a flip-flop as well."


def _clock(summaries: Summaries) -> tuple[float | None, float | None, str]:
    """The clock, the link's rate, and where they come from."""
    built = summaries.get("build")
    if built:
        link = built.get("link") or {}
        return built.get("clock_mhz"), link.get("baud"), "Clock and link: those of the bitstream."
    if "bench" in summaries:
        fpga = summaries["bench"]["fpga"]
        return fpga["clock_mhz"], None, f"Clock: {fpga['clock_source']}."
    return None, None, ""


def _simulation(summaries: Summaries, plots: bool) -> Iterator[Section]:
    compiled, simulated = summaries["compile"], summaries["simulate"]
    yield _table(views.cycles(compiled, simulated), "estimated", "simulated")
    yield _table(views.simulation(simulated), "simulated")
    yield _table(views.energy(compiled, simulated, _clock(summaries)[0]), "simulated", "estimated")
    activity = simulated.get("activity")
    if activity and activity["spans"]:
        stalls = simulated.get("stall")
        yield Section(
            "Pipeline over time",
            both(partial(gantt, activity, compiled)),
            ("simulated",),
            "All stages work at once, on different rows and frames. The height of a colour is its "
            "share of that moment.",
            (
                *_first_beats(activity),
                "Busy: the cycles that a stage needs to compute the beats that have left it, by "
                "the cycle formula of the plan. Stalled: an output is valid and not ready. "
                "Starved: the rest."
                + (
                    f" Both ends were stalled on purpose in {100 * stalls:.0f} % of cycles."
                    if stalls
                    else ""
                ),
            ),
        )
    if activity and plots:
        from . import charts

        names = {row["stage"]: row["name"] for row in reversed(compiled["layers"])}
        yield Section(
            "Queues",
            both(partial(charts.queues, activity, names)),
            ("simulated",),
            "A queue lets one branch run ahead of another where they meet again. Its depth is what "
            "the other branch can hold at most, so that they can not deadlock: it must not be made "
            "smaller, also where a run never fills it.",
        )


def _first_beats(activity: dict[str, Any]) -> Iterator[str]:
    """Where the first frame lies among the cycles of the run."""
    if activity["frames"]:
        entered, left = activity["frames"][0][0], activity["first_beat"]
        yield (
            f"Cycle 0 is the end of the reset. The first beat enters in cycle {entered:,}, from "
            f"which the latency counts; the first one leaves {left - entered:,} cycles later."
        )


def _build(summaries: Summaries, plots: bool) -> Iterator[Section]:
    built, layout = summaries["build"], summaries.get("layout")
    yield _table(views.timing(built), "routed")
    if plots:
        from . import charts

        yield Section("Clocks of all seeds", both(partial(charts.clocks, built)), ("routed",))
        if layout:
            compiled = summaries["compile"]
            names = {row["stage"]: row["name"] for row in reversed(compiled["layers"])}
            yield Section(
                "Critical path",
                both(partial(charts.critical_path, layout, names)),
                ("routed",),
                "The slowest way from register to register limits the clock.",
            )
            yield Section(
                "Floorplan",
                both(partial(charts.floorplan, layout, names)),
                ("routed",),
                "The chip from above. A tile has the colour of the stage with most cells in it. "
                "Where there are many stages, a number is in the middle of each.",
            )


def _bench(summaries: Summaries, plots: bool) -> Iterator[Section]:
    measured = summaries["bench"]
    yield _table(views.benchmark(measured), "computed", "measured")
    yield _table(views.machine(measured))


def _accuracy(summaries: Summaries, plots: bool) -> Iterator[Section]:
    found = summaries["accuracy"]
    yield _table(views.accuracy(found), "computed")
    yield Section(
        "Samples",
        samples(found),
        ("computed",),
        "The class that the hardware gives, those first that are wrong or that the float network "
        "sees differently.",
    )
    yield Section(
        "Confusion matrix",
        confusion(found),
        ("computed",),
        "A row is a label, a column the class that the hardware gives.",
    )
    yield _table(views.outputs(found), "computed")
    if plots:
        from . import charts

        yield Section(
            "Quantization noise by layer",
            both(partial(charts.sqnr, found)),
            ("computed",),
            "Signal to noise against the float network. Where a layer alone is much worse than "
            "its neighbours, more bits or another calibration help.",
        )
        yield Section(
            "Values by layer",
            both(partial(charts.histograms, found)),
            ("computed",),
            "Integers as bars, the float network's numbers as a line on the same scale (the "
            "heights are logarithms). Unused ends waste bits; what is clipped saturates.",
        )
    yield _table(views.accuracy_layers(found), "computed")


def _made(summaries: Summaries, plots: bool) -> Iterator[Section]:
    commands = summaries.get("commands")
    if commands:
        yield _table(views.commands(commands))
        yield _table(views.made_with(commands))
    if "build" in summaries:
        yield _table(views.versions(summaries["build"]))


def headline(summaries: Summaries) -> list[Figure]:
    """The figures at the top of the page."""
    found = _speed(summaries)
    if "build" in summaries:
        built = summaries["build"]
        met = "timing met" if built["timing_met"] else "timing NOT met"
        source = f"PLL, {met}; {built['fmax_mhz']:.0f} MHz allowed"
        found.append(Figure(f"{built['clock_mhz']:.0f} MHz", "clock", "routed", source))
    if "simulate" in summaries:
        wrong = summaries["simulate"]["mismatches"]
        values = f"of {summaries['simulate']['values']:,} values"
        found.append(Figure(f"{wrong:,}", "mismatches with the golden model", "simulated", values))
    integer = summaries.get("accuracy", {}).get("integer")
    if integer:
        samples = f"on {summaries['accuracy']['samples']:,} samples"
        right = f"{100 * integer['top1']:.2f} %"
        found.append(Figure(right, "right classes", "computed", samples))
    return found


def _speed(summaries: Summaries) -> list[Figure]:
    """Rate and latency; without a benchmark those of the simulation, or of the plan."""
    if "bench" in summaries:
        fpga = summaries["bench"]["fpga"]
        clock = f"{fpga['clock_mhz']:.0f} MHz ({fpga['clock_source']})"
        source = f"{fpga['how']} cycles, {clock}"
        return [
            Figure(f"{fpga['fps']:,.0f}", "frames a second", "computed", source),
            Figure(f"{fpga['latency_us']:,.0f} µs", "latency", "computed", source),
        ]
    compiled, simulated = summaries["compile"], summaries.get("simulate", {})
    stalled_or_wrong = simulated.get("stall") or simulated.get("mismatches")
    seen = bool(simulated.get("interval_cycles")) and not stalled_or_wrong
    cycles = simulated if seen else compiled
    how, plan = ("simulated", "") if seen else ("estimated", "plan")
    found = [
        Figure(f"{cycles['interval_cycles']:,}", "cycles a frame", how, plan),
        Figure(f"{cycles['latency_cycles']:,}", "cycles of latency", how, plan),
        Figure(f"{compiled['multipliers']:,}", "multipliers", "estimated", "plan"),
    ]
    mhz, whose = compiled.get("target_mhz"), "the board's usual clock"
    if summaries.get("build", {}).get("timing_met"):
        mhz, whose = summaries["build"]["clock_mhz"], "the bitstream's PLL"
    if mhz:
        rate = mhz * 1e6 / cycles["interval_cycles"]
        source = f"{how} cycles, {mhz:.4g} MHz ({whose})"
        found.insert(0, Figure(f"{rate:,.0f}", "frames a second", "computed", source))
    return found

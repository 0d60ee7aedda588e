"""Tables for the terminal, a list a command, from the summaries of the steps."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from ..errors import printable
from . import views
from .views import Share, View

__all__ = ["accuracy", "bench", "build", "check", "compile", "explore", "simulate", "table"]

Summary = Mapping[str, Any]

_BAR = 12


def table(view: View) -> Table:
    """A view as the terminal shows it."""
    caption = Text(printable("\n".join(view.notes))) if view.notes else None
    found = Table(
        title=view.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        caption=caption,
        caption_justify="left",
        show_header=any(view.columns[1:]) and view.columns != ("", "value"),
        pad_edge=False,
    )
    for column in view.columns:
        words = column in view.text
        found.add_column(
            column,
            justify="left" if words else "right",
            no_wrap=not words,
            overflow="ellipsis" if column == "layer" else "fold",
            max_width=40 if column == "layer" else None,
        )
    for row in view.rows:
        found.add_row(
            *(_bar(cell) if isinstance(cell, Share) else Text(printable(cell)) for cell in row)
        )
    return found


def _bar(share: Share) -> Text:
    full = round(_BAR * min(share.value, 1.0))
    text = Text("█" * full, style="red" if share.warn else "cyan")
    text.append("░" * (_BAR - full), style="dim")
    return text.append(f" {share!s:>5}", style="")


def _tables(*shown: View | None) -> list[Table]:
    return [table(view) for view in shown if view is not None and view.rows]


def check(found: Summary) -> list[Table]:
    """For what `check --json` prints."""
    planned = compile(found) if "layers" in found else []
    return [*_tables(views.verdicts(found), views.size(found), views.boards(found)), *planned]


def compile(compiled: Summary) -> list[Table]:
    """For ``compile.json``."""
    return _tables(
        views.plan(compiled),
        views.widths(compiled),
        views.ports(compiled),
        views.layers(compiled),
        views.resources(compiled),
        views.shortfall(compiled),
    )


def simulate(simulated: Summary, compiled: Summary) -> list[Table]:
    """For ``simulate.json`` and ``compile.json``."""
    return _tables(views.simulation(simulated), views.cycles(compiled, simulated))


def build(built: Summary, compiled: Summary) -> list[Table]:
    """For ``build.json`` and ``compile.json``."""
    return _tables(views.timing(built), views.resources(compiled, built))


def bench(measured: Summary) -> list[Table]:
    """For ``bench.json``."""
    return _tables(views.benchmark(measured), views.machine(measured))


def accuracy(found: Summary) -> list[Table]:
    """For ``accuracy.json``."""
    return _tables(views.accuracy(found), views.outputs(found), views.accuracy_layers(found))


def explore(points: Sequence[Summary]) -> list[Table]:
    """For the points of a design space, each as a dictionary."""
    return _tables(views.explored(points))

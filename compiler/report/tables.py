"""Tables for the terminal, a list a command, from the summaries of the steps."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from textwrap import fill
from typing import Any

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.table import Table
from rich.text import Text

from ..errors import printable
from . import views
from .views import Cell, Share, View

__all__ = [
    "accuracy",
    "bench",
    "build",
    "check",
    "compile",
    "explore",
    "simulate",
    "table",
    "Shown",
]

Summary = Mapping[str, Any]

#: characters of a bar, and between two columns
_BAR, _GAP = 12, 2
#: columns of names, which are shortened to a width between these
_NAMES, _NAME_LEAST, _NAME_MOST = frozenset({"layer", "node"}), 16, 40


@dataclass(frozen=True)
class Shown:
    """A view as the terminal shows it, laid out for the width that it has.

    Columns are as wide as their contents if there is room. Otherwise columns of text are wrapped
    between words, then bars are left out, headings are the short ones, and columns that the view
    can do without are left out. At last each row is a block of lines, one for each column. No word
    is broken that is shorter than the space it has.
    """

    view: View

    @property
    def title(self) -> str:
        return self.view.title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        found, left_out = _laid_out(self.view, options.max_width)
        yield found
        notes = self.view.notes
        if left_out:
            notes += (f"{_listed(left_out)}: in a wider terminal.",)
        for note in notes:
            yield Text(
                fill(
                    printable(note),
                    options.max_width,
                    break_long_words=False,
                    break_on_hyphens=False,
                ),
                style="italic dim",
            )
        yield Text("")


def table(view: View) -> Shown:
    """A view as the terminal shows it."""
    return Shown(view)


def _laid_out(view: View, width: int) -> tuple[Table, tuple[str, ...]]:
    """The table, and the columns that it lacks."""
    for fewer, left_out, bars in _versions(view):
        columns = [_column(fewer, place, bars) for place in range(len(fewer.columns))]
        widths = _widths(columns, width - _GAP * (len(columns) - 1))
        if widths is not None:
            return _side_by_side(fewer, columns, widths, bars), left_out
    return _stacked(view), ()


def _versions(view: View) -> Iterator[tuple[View, tuple[str, ...], bool]]:
    """The view in less and less room, the columns left out, and whether bars are drawn."""
    yield view, (), True
    yield view, (), False
    if not view.short and not view.omitted:
        return
    for number in range(len(view.omitted) + 1):
        yield _narrowed(view, view.omitted[:number]), view.omitted[:number], False


def _narrowed(view: View, without: Sequence[str]) -> View:
    """The view with its short headings, and without some columns."""
    kept = [place for place, heading in enumerate(view.columns) if heading not in without]
    short = {heading: view.short.get(heading, heading) for heading in view.columns}
    return replace(
        view,
        columns=tuple(short[view.columns[place]] for place in kept),
        rows=tuple(tuple(row[place] for place in kept) for row in view.rows),
        text=frozenset(short.get(heading, heading) for heading in view.text),
    )


def _listed(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


@dataclass(frozen=True)
class _Column:
    """A column's least and natural width in cells of the terminal."""

    least: int
    natural: int


def _column(view: View, place: int, bars: bool) -> _Column:
    heading = view.columns[place] if _has_header(view) else ""
    cells = [_text(row[place], bars) for row in view.rows]
    longest = max(map(cell_len, cells), default=0)
    if view.columns[place] in _NAMES:
        least = min(longest, _NAME_LEAST)
        longest = min(longest, _NAME_MOST)
    elif view.columns[place] in view.text and not _has_bar(view, place):
        least = max((_longest_word(cell) for cell in cells), default=0)
    else:
        least = longest
    return _Column(max(least, _longest_word(heading)), max(longest, cell_len(heading)))


def _text(cell: Cell, bars: bool) -> str:
    if not isinstance(cell, Share):
        return printable(cell)
    return f"{' ' * _BAR} {cell!s:>5}" if bars else f"{cell!s:>5}"


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _has_bar(view: View, place: int) -> bool:
    return any(isinstance(row[place], Share) for row in view.rows)


def _has_header(view: View) -> bool:
    return any(view.columns[1:]) and view.columns != ("", "value")


def _widths(columns: Sequence[_Column], room: int) -> list[int] | None:
    """The widths of ``columns``, the widest made narrower until there is room; None if there is
    too little.
    """
    widths = [column.natural for column in columns]
    while sum(widths) > room:
        wider = [n for n, column in enumerate(columns) if widths[n] > column.least]
        if not wider:
            return None
        widths[max(wider, key=lambda n: widths[n])] -= 1
    return widths


def _side_by_side(
    view: View, columns: Sequence[_Column], widths: Sequence[int], bars: bool
) -> Table:
    found = _empty(view, show_header=_has_header(view))
    for heading, width in zip(view.columns, widths, strict=True):
        words = heading in view.text
        found.add_column(heading, justify="left" if words else "right", width=width)
    for row in view.rows:
        found.add_row(
            *(
                _bar(cell, bars)
                if isinstance(cell, Share)
                else Text(
                    _shortened(printable(cell), width) if heading in _NAMES else _text(cell, bars)
                )
                for cell, heading, width in zip(row, view.columns, widths, strict=True)
            )
        )
    return found


def _stacked(view: View) -> Table:
    """A line for each column of each row, below the row's first cell."""
    found = _empty(view, show_header=False)
    found.add_column("", no_wrap=True)
    found.add_column("", overflow="fold")
    for row in view.rows:
        for heading, cell in zip(view.columns, row, strict=True):
            if text := _text(cell, bars=False).strip():
                found.add_row(heading, Text(text))
        found.add_section()
    return found


def _empty(view: View, *, show_header: bool) -> Table:
    """A table without rows, whose box takes one of the characters between columns."""
    return Table(
        title=view.title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        show_header=show_header,
        show_edge=False,
        pad_edge=False,
        padding=(0, _GAP - 1, 0, 0),
    )


def _shortened(name: str, width: int) -> str:
    """The end of a long name, which tells it from the others of its module."""
    return name if len(name) <= width else f"…{name[len(name) - width + 1 :]}"


def _bar(share: Share, bars: bool) -> Text:
    if not bars:
        return Text(_text(share, bars), style="red" if share.warn else "")
    full = round(_BAR * min(share.value, 1.0))
    text = Text("█" * full, style="red" if share.warn else "cyan")
    text.append("░" * (_BAR - full), style="dim")
    return text.append(f" {share!s:>5}", style="")


def _tables(*shown: View | None) -> list[Shown]:
    return [table(view) for view in shown if view is not None and view.rows]


def check(found: Summary) -> list[Shown]:
    """For what `check --json` prints."""
    planned = compile(found) if "layers" in found else []
    return [*_tables(views.verdicts(found), views.size(found), views.boards(found)), *planned]


def compile(compiled: Summary) -> list[Shown]:
    """For ``compile.json``."""
    return _tables(
        views.plan(compiled),
        views.widths(compiled),
        views.ports(compiled),
        views.layers(compiled),
        views.resources(compiled),
        views.shortfall(compiled),
    )


def simulate(simulated: Summary, compiled: Summary) -> list[Shown]:
    """For ``simulate.json`` and ``compile.json``."""
    return _tables(
        views.simulation(simulated),
        views.cycles(compiled, simulated),
        views.energy(compiled, simulated),
    )


def build(built: Summary, compiled: Summary) -> list[Shown]:
    """For ``build.json`` and ``compile.json``."""
    return _tables(views.timing(built), views.resources(compiled, built))


def bench(measured: Summary) -> list[Shown]:
    """For ``bench.json``."""
    return _tables(views.benchmark(measured), views.machine(measured))


def accuracy(found: Summary) -> list[Shown]:
    """For ``accuracy.json``."""
    return _tables(views.accuracy(found), views.outputs(found), views.accuracy_layers(found))


def explore(found: Summary) -> list[Shown]:
    """For ``explore.json``."""
    return _tables(views.explored(found["points"], views.logic_unit(found)))

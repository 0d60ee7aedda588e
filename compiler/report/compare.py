"""Two compiled directories side by side: ``compare.html``."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .html import Section, Summaries, files, groups, page, summaries_of, write_page
from .summary import consistent
from .views import Cell, Summary, View, count, error, logic_unit, resource_names

__all__ = ["compare", "write_comparison"]

_UNKNOWN = "-"


@dataclass(frozen=True)
class Pair:
    """The same section of both directories; None where one has none."""

    title: str
    how: tuple[str, ...]
    sides: tuple[Section | None, Section | None]


def write_comparison(first: Path, second: Path, target: Path) -> Path:
    """Write the page that shows two compiled directories side by side; returns its path."""
    found = [summaries_of(directory) for directory in (first, second)]
    names = files(first, found[0]), files(second, found[1])
    with consistent(" or ".join(names), "run the steps again"):
        text = compare((first.name, second.name), (found[0], found[1]))
    return write_page(target, text)


def compare(names: tuple[str, str], both: tuple[Summaries, Summaries]) -> str:
    """The page for the summaries of two directories that are called ``names``."""
    shown = names if names[0] != names[1] else (f"{names[0]} (first)", f"{names[1]} (second)")
    tables = [view for view in (figures(shown, both), layers(shown, both)) if view.rows]
    return page(
        "compare.html",
        names=shown,
        about=[f"{one['compile'].get('model', '')} on {one['compile']['board']}" for one in both],
        tables=[Section(view.title, view, notes=view.notes) for view in tables],
        pairs=list(_pairs(both)),
    )


def _pairs(both: tuple[Summaries, Summaries]) -> Iterator[Pair]:
    """The drawings of both; the tables are compared row by row instead. Bars of resources have the
    same scale.
    """
    from .charts import most_cells

    ends = most_cells([(each["compile"], each.get("layout")) for each in both])
    found = [
        {
            section.title: section
            for group in groups({**summaries, "ends": ends})
            for section in group.sections
            if not isinstance(section.content, View)
        }
        for summaries in both
    ]
    for title in dict.fromkeys([*found[0], *found[1]]):
        sides = found[0].get(title), found[1].get(title)
        known = sides[0] or sides[1]
        if known is not None:
            yield Pair(title, known.how, sides)


def figures(names: tuple[str, str], both: tuple[Summaries, Summaries]) -> View:
    """Every figure that one of them has, and how far the second is from the first. Boards of
    families that count logic in different units have a row each for it.
    """
    rows: list[tuple[Cell, ...]] = []
    for what, keys, how in _FIGURES:
        found = [(_name(what, summaries), _find(summaries, keys)) for summaries in both]
        for name in dict.fromkeys(name for name, _ in found):
            a, b = (value if own == name else None for own, value in found)
            if a is not None or b is not None:
                shares = keys[0] == "accuracy"
                cells = (
                    (_percent(a), _percent(b), _points(a, b))
                    if shares
                    else (_number(a), _number(b), error(b, a))
                )
                rows.append((name, *cells, how))
    clocks = tuple(
        f"Frames a second and latency of {name}: at {fpga['clock_mhz']:.1f} MHz, "
        f"{fpga['clock_source']}."
        for name, fpga in zip(
            names, (one.get("bench", {}).get("fpga") for one in both), strict=True
        )
        if fpga
    )
    columns = ("", *names, "second to first", "how")
    return View("Figures", columns, tuple(rows), frozenset({"", "how"}), clocks)


_LOGIC = "logic"

_FIGURES: Sequence[tuple[str, tuple[str, ...], str]] = (
    ("interval, cycles", ("compile", "interval_cycles"), "estimated"),
    ("interval, cycles", ("simulate", "interval_cycles"), "simulated"),
    ("latency, cycles", ("compile", "latency_cycles"), "estimated"),
    ("latency, cycles", ("simulate", "latency_cycles"), "simulated"),
    ("mismatches", ("simulate", "mismatches"), "simulated"),
    ("energy a frame without idle power, nJ", ("simulate", "energy", "dynamic_nj"), "estimated"),
    ("multipliers", ("compile", "multipliers"), "estimated"),
    *(
        (name, ("compile", "estimate", key), "estimated")
        for key, name in resource_names(_LOGIC).items()
    ),
    *(
        (name, ("build", "utilization", key, "used"), "routed")
        for key, name in resource_names(_LOGIC).items()
    ),
    ("routed clock, MHz", ("build", "routed_mhz"), "routed"),
    ("allowed clock, MHz", ("build", "fmax_mhz"), "routed"),
    ("clock of the bitstream, MHz", ("build", "clock_mhz"), "routed"),
    ("frames a second", ("bench", "fpga", "fps"), "computed"),
    ("latency, µs", ("bench", "fpga", "latency_us"), "computed"),
    ("right classes, float", ("accuracy", "float", "top1"), "computed"),
    ("right classes, integer", ("accuracy", "integer", "top1"), "computed"),
    ("same class as the float network", ("accuracy", "agreement"), "computed"),
)


def _name(what: str, summaries: Summaries) -> str:
    """What a figure is called; logic has the name that its unit has on the board."""
    return logic_unit(summaries["compile"]) if what == _LOGIC else what


def _find(summaries: Mapping[str, Any], keys: Sequence[str]) -> float | None:
    found: Any = summaries
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return None if found is None else float(found)


def _percent(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{100 * share:.2f} %"


def _points(first: float | None, second: float | None) -> str:
    """How far the second of two shares is from the first."""
    if first is None or second is None:
        return _UNKNOWN
    return f"{100 * (second - first):+.2f} points"


def _number(value: float | None) -> str:
    if value is None or value == int(value):
        return count(value)
    return f"{value:,.4f}" if abs(value) < 10 else f"{value:,.1f}"


def layers(names: tuple[str, str], both: tuple[Summaries, Summaries]) -> View:
    """A row a layer that one of them has: folding and cycles in both."""
    rows: list[tuple[Cell, ...]] = []
    sides = [{row["name"]: row for row in one["compile"]["layers"]} for one in both]
    for name in dict.fromkeys([*sides[0], *sides[1]]):
        pair = [side.get(name) for side in sides]
        folds = [_folding(row) if row else _UNKNOWN for row in pair]
        cycles = [row["cycles"] if row else None for row in pair]
        types = [row.get("type", _UNKNOWN) if row else _UNKNOWN for row in pair]
        rows.append((name, *types, *folds, *map(count, cycles), error(cycles[1], cycles[0])))
    columns = [f"{what}, {name}" for what in ("type", "simd x pe", "cycles") for name in names]
    notes = ("Behind simd x pe: how the products are made, as `products` in compile.json.",)
    heads = ("layer", *columns, "second to first")
    return View("Layers", heads, tuple(rows), frozenset({"layer"}), notes)


def _folding(row: Summary) -> str:
    """The products that a layer computes in a cycle, and how, if not one in each multiplier."""
    way = row.get("products", "single")
    return f"{row['simd']} x {row['pe']}" + ("" if way == "single" else f", {way}")

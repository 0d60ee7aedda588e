"""Matplotlib figures as SVG elements of a page, in the page's own colours, light and dark."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

__all__ = [
    "ACCENT",
    "GOOD",
    "INK",
    "LINE",
    "PAPER",
    "ROW",
    "SOFT",
    "WARN",
    "abreast",
    "bare",
    "canvas",
    "entry_width",
    "legend",
    "root",
    "series",
    "settle",
    "svg",
    "tip",
]

#: colours that stand for those of the page's style sheet
INK, SOFT, LINE, ACCENT, GOOD, WARN, PAPER = (f"#0{n}010{n}" for n in range(1, 8))
_NAMES = ("ink", "soft", "line", "accent", "good", "warn", "paper")
_PAGE = dict(zip((INK, SOFT, LINE, ACCENT, GOOD, WARN, PAPER), _NAMES, strict=True))
#: colours of parts, on light and dark ground
SERIES = (
    *("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2"),
    *("#d9b01c", "#9d755d", "#ff8f9a", "#79808c", "#2f8f83", "#8c6bb1"),
)
#: further parts have shades of them: mixed with so much white or black; then all repeat
_SHADES = ((0.0, 1.0), (0.5, 1.0), (0.4, 0.0))
#: inches that a letter takes in a legend, its mark, and a row
_LETTER, _MARK, ROW = 0.068, 0.6, 0.2
_TIP = "tip:"


def series(number: int) -> str:
    """The colour of the part of that number; no two of the first 36 are the same."""
    share, other = _SHADES[number // len(SERIES) % len(_SHADES)]
    red, green, blue = to_rgb(SERIES[number % len(SERIES)])
    kept, added = 1 - share, share * other
    return to_hex((kept * red + added, kept * green + added, kept * blue + added))


@contextmanager
def canvas(width: float, height: float, salt: str) -> Iterator[Figure]:
    """A figure of so many inches whose ids begin with ``salt``; to be drawn within."""
    salt = f"{salt}{width:.0f}"
    style: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": salt,
        "svg.id": salt,
        "font.size": 8.5,
        "text.parse_math": False,  # a layer may be called a$b$
        "text.color": INK,
        "axes.edgecolor": LINE,
        "axes.labelcolor": SOFT,
        "axes.titlesize": 9,
        "axes.titlecolor": INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "xtick.color": LINE,
        "ytick.color": LINE,
        "xtick.labelcolor": SOFT,
        "ytick.labelcolor": SOFT,
        "grid.color": LINE,
        "legend.frameon": False,
        "legend.labelcolor": INK,
        "axes.facecolor": "none",
    }
    with mpl.rc_context(style):
        yield Figure(figsize=(width, height), layout="constrained", facecolor="none")


def settle(figure: Figure) -> None:
    """Lay the figure out: where its artists are is known from here on."""
    engine = figure.get_layout_engine()
    assert engine is not None
    engine.execute(figure)
    figure.set_layout_engine("none")


def tip(artist: Artist, text: str) -> None:
    """Show ``text`` where the pointer rests on an artist."""
    artist.set_gid(_TIP + text)


def svg(figure: Figure, label: str) -> Markup:
    """The figure as an element of a page; ``label`` says what it shows to those who see it not."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(rf'id="{_TIP}([^"]*)">', r"><title>\1</title>", text)
    for colour, name in _PAGE.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r'width="[\d.]+pt"', "", text, count=1)
    text = re.sub(r'height="[\d.]+pt"', "", text, count=1)
    width = round(figure.get_figwidth() * 96)
    head = f'<svg role="img" aria-label="{escape(label)}" style="--width: {width}px"'
    return Markup(text.replace("<svg", head, 1))


def bare(axes: Axes, *sides: str) -> None:
    """Hide the lines at ``sides`` of the axes, and its ticks."""
    for side in sides:
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)


def root(artist: Artist) -> Figure:
    """The figure that an artist is in."""
    figure = artist.get_figure(root=True)
    assert figure is not None
    return figure


def legend(axes: Axes, entries: Sequence[Any], **where: Any) -> None:
    """A legend above the axes, in as few rows as the figure's width allows."""
    where = {"loc": "lower right", "bbox_to_anchor": (1, 1)} | where
    columns = abreast(entries, root(axes).get_figwidth())
    axes.legend(handles=entries, ncols=columns, **where)


def abreast(entries: Sequence[Any], width: float) -> int:
    """Entries of a legend beside each other in so many inches."""
    return min(len(entries), max(1, int(width / entry_width(entries))))


def entry_width(entries: Sequence[Any]) -> float:
    """Inches of the widest entry of a legend."""
    return _MARK + _LETTER * max(len(entry.get_label()) for entry in entries)

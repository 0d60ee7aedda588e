"""The network as a drawing: a box a stage, in columns or rows by its distance from the inputs.

A stream to the next rank is a curve between two boxes. Any other one leaves its box sideways, runs
in a channel beside all boxes that it passes, and enters its sink from there. Where another box is
in the way, it leaves or enters through the gap between two ranks.
"""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from .names import fitting, labels
from .widths import WIDE

__all__ = ["Drawing", "Edge", "Node", "drawing"]

Summary = Mapping[str, Any]

#: size of a box and the gaps along and across the flow
HEIGHT, GAP, ASIDE = 92, 34, 22
#: width of a box in a drawing from left to right, or beside another one where there is little room,
#: and of one in a drawing downwards, where names may be long
SLIM, BROAD = 148, 236
#: between columns at least; from the boxes to the first channel, and from one to the next
BEND, BESIDE, APART = 60, 18, 14
#: radius of a corner of a stream; part of a side of a box at which a stream enters or leaves it
CORNER, PLACE = 10, 0.8
#: steps of a network that is drawn from left to right; a longer one is drawn downwards, in columns
ACROSS = 7
#: width of the page, and steps of a column that are worth another one
PAGE, STEPS = 1170, 3
#: pixels of a letter
LETTER = 8


@dataclass(frozen=True)
class Node:
    """A stage, or a port of the network (``stage`` None): its lines, and where its box is.

    ``share``: its cycles of the interval, None for a port; ``slowest``: no stage takes more.
    """

    stage: str | None
    lines: tuple[str, ...]
    title: str
    x: int
    y: int
    share: float | None = None
    slowest: bool = False


@dataclass(frozen=True)
class Edge:
    """A stream between two boxes; ``path`` is that of an SVG element."""

    path: str
    title: str
    queue: int


@dataclass(frozen=True)
class Drawing:
    """All boxes and streams, and the size of it all."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int
    node_width: int
    node_height: int = HEIGHT


#: a place by its distance along the flow and across it
_Point = tuple[float, float]


@dataclass(frozen=True)
class _Layout:
    """Where the boxes are: from left to right, or downwards in columns. ``tops``: the first rank
    of each column.
    """

    across: bool
    width: int
    rank: Mapping[str, int]
    column: Mapping[str, int]
    places: Mapping[str, tuple[int, int]]
    tops: Sequence[int]

    def passes(self, source: str, sink: str) -> bool:
        """Whether a stream passes boxes, or goes back or to another column."""
        return self.rank[sink] - self.rank[source] != 1 or self.column[source] != self.column[sink]

    def curve(self, source: str, sink: str) -> str:
        """The path of a stream to the next rank."""
        (x, y), (u, v) = self.places[source], self.places[sink]
        if self.across:
            x, y, v = x + self.width, y + HEIGHT // 2, v + HEIGHT // 2
            bend = max(GAP // 2, (u - x) // 2)
            return f"M{x} {y}C{x + bend} {y} {u - bend} {v} {u} {v}"
        x, y, u = x + self.width // 2, y + HEIGHT, u + self.width // 2
        bend = max(GAP // 2, (v - y) // 2)
        return f"M{x} {y}C{x} {y + bend} {u} {v - bend} {u} {v}"

    @property
    def size(self) -> _Point:
        """Of a box, along the flow and across it."""
        return (self.width, HEIGHT) if self.across else (HEIGHT, self.width)

    def place(self, key: str) -> _Point:
        x, y = self.places[key]
        return (x, y) if self.across else (y, x)

    def row(self, key: str) -> int:
        """The steps from the top of its column."""
        return self.rank[key] - self.tops[self.column[key]]

    def outer(self, key: str) -> bool:
        """Whether no box of its rank is nearer to the channels."""
        return self.place(key)[1] == max(self.place(other)[1] for other in self._beside(key))

    def inner(self, key: str) -> bool:
        """Whether no box of its rank is nearer to the channels of the column before."""
        return self.place(key)[1] == min(self.place(other)[1] for other in self._beside(key))

    def _beside(self, key: str) -> list[str]:
        return [other for other, rank in self.rank.items() if rank == self.rank[key]]

    def side(self, source: str, sink: str) -> float:
        """The outer side of all boxes that a stream passes in the column of its source."""
        low, high = sorted((self.row(source), self.row(sink)))
        passed = [
            self.place(key)[1]
            for key in self.places
            if self.column[key] == self.column[source] and low <= self.row(key) <= high
        ]
        return max(passed) + self.size[1]


@dataclass
class _Channels:
    """Streams that pass boxes, each in a channel of its own; ``taken``: the first and last place
    along the flow of each, and where it is across.
    """

    layout: _Layout
    taken: list[tuple[float, float, float]] = field(default_factory=list)
    entered: dict[str, int] = field(default_factory=dict)

    def path(self, source: str, sink: str) -> str:
        """The path of a stream."""
        out, into = self._out(source), self._into(source, sink)
        channel = self._channel(self.layout.side(source, sink), out[-1][0], into[0][0])
        points = [*out, (out[-1][0], channel), (into[0][0], channel), *into]
        return _rounded(points if self.layout.across else [(x, y) for y, x in points])

    def _out(self, source: str) -> list[_Point]:
        (along, across), (length, width) = self.layout.place(source), self.layout.size
        if self.layout.outer(source):
            return [(along + length / 2, across + width)]
        start = across + PLACE * width
        return [(along + length, start), (along + length + GAP / 2, start)]

    def _into(self, source: str, sink: str) -> list[_Point]:
        layout = self.layout
        (along, across), (length, width) = layout.place(sink), layout.size
        ahead = layout.column[sink] - layout.column[source]
        if (ahead == 0 and layout.outer(sink)) or (ahead == 1 and layout.inner(sink)):
            number = self.entered[sink] = self.entered.get(sink, -1) + 1
            aside = APART * ((number + 1) // 2) * (-1) ** number
            middle = min(max(along + length / 2 + aside, along + 8), along + length - 8)
            return [(middle, across + (0 if ahead else width))]
        end = across + (PLACE if ahead == 0 else 1 - PLACE) * width
        return [(along - GAP / 2, end), (along, end)]

    def _channel(self, side: float, start: float, end: float) -> float:
        """The nearest channel to the boxes that is free from start to end."""
        low, high = sorted((start, end))
        found = side + BESIDE
        while any(
            low < to and begin < high and abs(found - at) < APART for begin, to, at in self.taken
        ):
            found += APART
        self.taken.append((low, high, found))
        return found


def _rounded(points: Sequence[_Point]) -> str:
    """The path along ``points``, x and y, with round corners."""
    path = [f"M{points[0][0]:g} {points[0][1]:g}"]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        ends = [_towards(corner, other) for other in (before, after)]
        path.append("L{:g} {:g}Q{:g} {:g} {:g} {:g}".format(*ends[0], *corner, *ends[1]))
    return "".join([*path, f"L{points[-1][0]:g} {points[-1][1]:g}"])


def _towards(corner: _Point, other: _Point) -> _Point:
    """The point from which on the way from a corner is straight."""
    over, down = other[0] - corner[0], other[1] - corner[1]
    length = abs(over) + abs(down)
    share = min(CORNER, length / 2) / length if length else 0.0
    return corner[0] + share * over, corner[1] + share * down


def drawing(compiled: Summary, width: float = WIDE) -> Drawing | None:
    """The network of ``compile.json``; None where an older version wrote it."""
    streams = compiled.get("streams")
    if not streams:
        return None
    ends = [(_source(stream), _sink(stream)) for stream in streams]
    layout = _layout(_order(compiled, ends), ends, width != WIDE)
    places, texts = layout.places, _texts(compiled)
    nodes = tuple(_node(key, texts[key], places[key], layout.width) for key in places)
    paths, channels = _paths(layout, ends)
    edges = tuple(
        Edge(path, _stream_text(stream), stream["queue"])
        for path, stream in zip(paths, streams, strict=True)
    )
    beside = ceil(max((at for _, _, at in channels), default=0)) + 4
    right = max(x for x, _ in places.values()) + layout.width + 2
    bottom = max(y for _, y in places.values()) + HEIGHT + 2
    if layout.across:
        bottom = max(bottom, beside)
    else:
        right = max(right, beside)
    return Drawing(nodes, edges, right, bottom, layout.width)


def _paths(
    layout: _Layout, ends: Sequence[tuple[str, str]]
) -> tuple[list[str], list[tuple[float, float, float]]]:
    """The path of each stream, and the channels; short streams get those near to the boxes."""
    channels = _Channels(layout)
    far = [number for number, pair in enumerate(ends) if layout.passes(*pair)]
    rank = layout.rank
    far.sort(key=lambda number: abs(rank[ends[number][1]] - rank[ends[number][0]]))
    routed = {number: channels.path(*ends[number]) for number in far}
    return [
        routed.get(number) or layout.curve(*pair) for number, pair in enumerate(ends)
    ], channels.taken


def _source(stream: Summary) -> str:
    return stream["source"] or f" in {stream['output']}"


def _sink(stream: Summary) -> str:
    return stream["sink"] or f" out {stream['input']}"


def _order(compiled: Summary, ends: Sequence[tuple[str, str]]) -> list[str]:
    """Inputs, stages in flow order, outputs."""
    inputs = dict.fromkeys(source for source, _ in ends if source.startswith(" "))
    outputs = dict.fromkeys(sink for _, sink in ends if sink.startswith(" "))
    stages = dict.fromkeys(row["stage"] for row in compiled["layers"])
    return [*inputs, *stages, *outputs]


def _ranks(order: Sequence[str], ends: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Steps from the inputs, along the longest way; a stream back to an earlier box counts not."""
    place = {key: at for at, key in enumerate(order)}
    rank = dict.fromkeys(order, 0)
    before: dict[str, list[str]] = {key: [] for key in order}
    for source, sink in ends:
        if place[source] < place[sink]:
            before[sink].append(source)
    for key in order:
        rank[key] = max((rank[source] + 1 for source in before[key]), default=0)
    return rank


def _layout(order: Sequence[str], ends: Sequence[tuple[str, str]], narrow: bool) -> _Layout:
    """Boxes of a rank lie beside each other, in the middle of the others."""
    rank = _ranks(order, ends)
    ranks: dict[int, list[str]] = {}
    for key in order:
        ranks.setdefault(rank[key], []).append(key)
    most = max(map(len, ranks.values()))
    across = len(ranks) <= ACROSS and not narrow
    width = SLIM if across or (narrow and most > 1) else BROAD
    along, aside = (width, HEIGHT) if across else (HEIGHT, width)
    spans = [(rank[source], rank[sink]) for source, sink in ends]
    room = max(BEND, 2 * BESIDE + APART * (1 + _most_passing(spans)))
    column = most * (aside + ASIDE) - ASIDE + room
    columns = 1
    if not across and not narrow:
        columns = min((PAGE + room) // column or 1, ceil(len(ranks) / STEPS))
    tops = _tops(spans, len(ranks), columns)
    # a stream may enter a box of the first row from above
    above = 1 if across else 1 + GAP // 2
    places, columns_of = {}, {}
    for step, keys in ranks.items():
        at = bisect(tops, step) - 1
        start = at * column + (most - len(keys)) * (aside + ASIDE) // 2
        for number, key in enumerate(keys):
            first = above + (step - tops[at]) * (along + GAP)
            second = 1 + start + number * (aside + ASIDE)
            places[key] = (first, second) if across else (second, first)
            columns_of[key] = at
    return _Layout(across, width, rank, columns_of, {key: places[key] for key in order}, tops)


def _most_passing(spans: Sequence[tuple[int, int]]) -> int:
    """The most streams that pass boxes of the same rank."""
    far = [sorted(span) for span in spans if span[1] - span[0] != 1]
    return max((sum(low <= at <= high for low, high in far) for at, _ in far), default=0)


def _tops(spans: Sequence[tuple[int, int]], ranks: int, columns: int) -> list[int]:
    """The first rank of each column: of those near to equal heights where fewest streams cross."""
    tops = [0]
    for column in range(1, columns):
        even = ranks * column // columns
        near = range(max(tops[-1] + 1, even - 2), min(even + 3, ranks))
        crossed = {top: sum(source < top <= sink for source, sink in spans) for top in near}
        tops.append(min(near, key=lambda top: (crossed[top], abs(top - even))))
    return tops


def _node(
    key: str,
    text: tuple[tuple[str, ...], str, float | None, bool],
    at: tuple[int, int],
    width: int,
) -> Node:
    lines, title, share, slowest = text
    cut = tuple(fitting(line, (width - 16) // LETTER) for line in lines)
    return Node(None if key.startswith(" ") else key, cut, title, *at, share, slowest)


def _texts(compiled: Summary) -> dict[str, tuple[tuple[str, ...], str, float | None, bool]]:
    """Of each box its lines, what the pointer shows, its share of the interval, and whether it is
    the slowest.
    """
    found: dict[str, tuple[tuple[str, ...], str, float | None, bool]] = {}
    for way, key in (("in", "inputs"), ("out", "outputs")):
        for at, port in enumerate(compiled[key]):
            lines = (
                port["name"],
                _shape(port["shape"]),
                f"{port['stream']} · {port['lanes']} a beat",
            )
            found[f" {way} {at}"] = (lines, f"{way}put {port['name']}", None, False)
    stages: dict[str, list[Summary]] = {}
    for row in compiled["layers"]:
        stages.setdefault(row["stage"], []).append(row)
    cycles = {stage: sum(row["cycles"] for row in rows) for stage, rows in stages.items()}
    most = max(cycles.values(), default=0)
    interval = max(1, compiled["interval_cycles"])
    names = labels(row["name"] for row in compiled["layers"])
    for stage, rows in stages.items():
        found[stage] = (
            _lines(rows, names),
            _title(rows, cycles[stage]),
            cycles[stage] / interval,
            cycles[stage] == most,
        )
    return found


def _lines(rows: Sequence[Summary], names: Mapping[str, str]) -> tuple[str, ...]:
    last = rows[-1]
    more = f" +{len(rows) - 1}" if len(rows) > 1 else ""
    weights = f" · w{last['weight_bits']}" if last.get("weight_bits") else ""
    fold = f"simd {last['simd']} x pe {last['pe']}"
    return (
        f"{names[rows[0]['name']]}{more}",
        last["op"],
        f"{_shape(last['shape'])} {last['type']}{weights}",
        fold,
    )


def _title(rows: Sequence[Summary], cycles: int) -> str:
    names = ", ".join(f"{row['name']} ({row['op']})" for row in rows)
    products = sum(row["macs"] for row in rows)
    return (
        f"{names}; {products:,} products and {cycles:,} cycles a frame, "
        f"{rows[0]['multipliers'] or 0} multipliers"
    )


def _stream_text(stream: Summary) -> str:
    queue = f", a queue of {stream['queue']:,} beats" if stream["queue"] else ""
    shape = _shape(stream["shape"])
    return f"{stream['value']}: {shape} {stream['type']}, {stream['lanes']} elements a beat{queue}"


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))

"""The network as a drawing: a box a stage, in columns or rows by its distance from the inputs."""

from bisect import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from .names import fitting, labels
from .widths import WIDE

__all__ = ["Drawing", "Edge", "Node", "drawing"]

Summary = Mapping[str, Any]

#: size of a box and the gaps along and across the flow
HEIGHT, GAP, ASIDE = 92, 34, 22
#: width of a box in a drawing from left to right, and in one downwards, where names may be long
SLIM, BROAD = 148, 236
#: how far a stream that passes over boxes bends aside
BEND = 60
#: steps of a network that is drawn from left to right; a longer one is drawn downwards, in columns
ACROSS = 7
#: width of the page, and steps of a column that are worth another one
PAGE, STEPS = 1170, 6
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


@dataclass(frozen=True)
class _Layout:
    """Where the boxes are: from left to right, or downwards in columns."""

    across: bool
    width: int
    rank: Mapping[str, int]
    column: Mapping[str, int]
    places: Mapping[str, tuple[int, int]]

    def bends(self, source: str, sink: str) -> bool:
        """Whether a stream would pass over boxes, or back, and goes round them."""
        lane = 1 if self.across else 0
        steps = self.rank[sink] - self.rank[source]
        return steps != 1 and self.places[source][lane] == self.places[sink][lane]

    def curve(self, source: str, sink: str) -> str:
        """The path of a stream from box to box."""
        (x, y), (u, v) = self.places[source], self.places[sink]
        half, middle = self.width // 2, HEIGHT // 2
        if self.bends(source, sink):
            if self.across:
                x, u, y = x + half, u + half, y + HEIGHT
                return f"M{x} {y}C{x} {y + BEND} {u} {y + BEND} {u} {y}"
            x, y, v = x + self.width, y + middle, v + middle
            return f"M{x} {y}C{x + BEND} {y} {x + BEND} {v} {x} {v}"
        if self.across or self.column[source] != self.column[sink]:
            x, y, v = x + self.width, y + middle, v + middle
            bend = max(GAP // 2, (u - x) // 2)
            return f"M{x} {y}C{x + bend} {y} {u - bend} {v} {u} {v}"
        x, y, u = x + half, y + HEIGHT, u + half
        bend = max(GAP // 2, (v - y) // 2)
        return f"M{x} {y}C{x} {y + bend} {u} {v - bend} {u} {v}"


def drawing(compiled: Summary, width: float = WIDE) -> Drawing | None:
    """The network of ``compile.json``; None where an older version wrote it."""
    streams = compiled.get("streams")
    if not streams:
        return None
    ends = [(_source(stream), _sink(stream)) for stream in streams]
    layout = _layout(_order(compiled, ends), ends, width != WIDE)
    places, texts = layout.places, _texts(compiled)
    nodes = tuple(_node(key, texts[key], places[key], layout.width) for key in places)
    edges = tuple(
        Edge(layout.curve(source, sink), _stream_text(stream), stream["queue"])
        for (source, sink), stream in zip(ends, streams, strict=True)
    )
    room = BEND if any(layout.bends(*pair) for pair in ends) else 2
    return Drawing(
        nodes,
        edges,
        max(x for x, _ in places.values()) + layout.width + (2 if layout.across else room),
        max(y for _, y in places.values()) + HEIGHT + (room if layout.across else 2),
        layout.width,
    )


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
    width = SLIM if across else BROAD
    along, aside = (width, HEIGHT) if across else (HEIGHT, width)
    column = most * (aside + ASIDE) - ASIDE + BEND
    columns = 1
    if not across and not narrow:
        columns = min((PAGE + BEND) // column or 1, ceil(len(ranks) / STEPS))
    tops = _tops([(rank[source], rank[sink]) for source, sink in ends], len(ranks), columns)
    places, columns_of = {}, {}
    for step, keys in ranks.items():
        at = bisect(tops, step) - 1
        start = at * column + (most - len(keys)) * (aside + ASIDE) // 2
        for number, key in enumerate(keys):
            first = 1 + (step - tops[at]) * (along + GAP)
            second = 1 + start + number * (aside + ASIDE)
            places[key] = (first, second) if across else (second, first)
            columns_of[key] = at
    return _Layout(across, width, rank, columns_of, {key: places[key] for key in order})


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

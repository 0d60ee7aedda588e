"""The network as a drawing: a box a stage, in columns or rows by its distance from the inputs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .names import fitting, labels

__all__ = ["Drawing", "Edge", "Node", "drawing"]

Summary = Mapping[str, Any]

#: size of a box and the gaps along and across the flow
HEIGHT, GAP, ASIDE = 92, 34, 22
#: width of a box in a drawing from left to right, and in one downwards, where names may be long
NARROW, WIDE = 148, 236
#: how far a stream that passes over boxes bends aside
BEND = 60
#: steps of a network that is drawn from left to right; a longer one is drawn downwards
ACROSS = 8
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


def drawing(compiled: Summary) -> Drawing | None:
    """The network of ``compile.json``; None where an older version wrote it."""
    streams = compiled.get("streams")
    if not streams:
        return None
    ends = [(_source(stream), _sink(stream)) for stream in streams]
    order = _order(compiled, ends)
    rank = _ranks(order, ends)
    across = 1 + max(rank.values()) <= ACROSS
    width = NARROW if across else WIDE
    places = _places(order, rank, across, width)
    texts = _texts(compiled)
    nodes = tuple(_node(key, texts[key], places[key], width) for key in order)
    edges = tuple(
        Edge(
            _curve(places[source], places[sink], across, rank[sink] - rank[source], width),
            _stream_text(stream),
            stream["queue"],
        )
        for (source, sink), stream in zip(ends, streams, strict=True)
    )
    return Drawing(
        nodes,
        edges,
        max(x for x, _ in places.values()) + width + (2 if across else BEND),
        max(y for _, y in places.values()) + HEIGHT + (BEND if across else 2),
        width,
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


def _places(
    order: Sequence[str], rank: Mapping[str, int], across: bool, width: int
) -> dict[str, tuple[int, int]]:
    """The upper left corner of each box; boxes of a rank lie beside each other, in the middle."""
    ranks: dict[int, list[str]] = {}
    for key in order:
        ranks.setdefault(rank[key], []).append(key)
    most = max(map(len, ranks.values()))
    along, aside = (width, HEIGHT) if across else (HEIGHT, width)
    places = {}
    for step, keys in ranks.items():
        start = (most - len(keys)) * (aside + ASIDE) // 2
        for at, key in enumerate(keys):
            first, second = 1 + step * (along + GAP), 1 + start + at * (aside + ASIDE)
            places[key] = (first, second) if across else (second, first)
    return places


def _curve(a: tuple[int, int], b: tuple[int, int], across: bool, steps: int, width: int) -> str:
    """A curve from box to box; one that passes other boxes leaves and arrives at the side."""
    if across and steps > 1 and a[1] == b[1]:
        x, u, y = a[0] + width // 2, b[0] + width // 2, a[1] + HEIGHT
        return f"M{x} {y}C{x} {y + BEND} {u} {y + BEND} {u} {y}"
    if not across and steps > 1 and a[0] == b[0]:
        x, y, v = a[0] + width, a[1] + HEIGHT // 2, b[1] + HEIGHT // 2
        return f"M{x} {y}C{x + BEND} {y} {x + BEND} {v} {x} {v}"
    if across:
        x, y, u, v = a[0] + width, a[1] + HEIGHT // 2, b[0], b[1] + HEIGHT // 2
        bend = max(GAP // 2, (u - x) // 2)
        return f"M{x} {y}C{x + bend} {y} {u - bend} {v} {u} {v}"
    x, y, u, v = a[0] + width // 2, a[1] + HEIGHT, b[0] + width // 2, b[1]
    bend = max(GAP // 2, (v - y) // 2)
    return f"M{x} {y}C{x} {y + bend} {u} {v - bend} {u} {v}"


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

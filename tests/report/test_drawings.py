"""The drawings of the page: all there, by themselves, readable on a phone."""

import copy
import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from gatewright.compiler.report import charts, html
from gatewright.compiler.report.compare import compare, figures
from gatewright.compiler.report.drawing import series
from gatewright.compiler.report.gantt import gantt
from gatewright.compiler.report.graph import drawing
from gatewright.compiler.report.names import fitting, labels
from gatewright.compiler.report.roofline import _Box, _Labels
from gatewright.compiler.report.widths import NARROW, WIDE

from .summaries import ALL, DRAWN
from .test_html import Text

TITLES = (
    "Network",
    "Resources by layer",
    "Roofline",
    "Pipeline over time",
    "Queues",
    "Clocks of all seeds",
    "Critical path",
    "Floorplan",
    "Samples",
    "Confusion matrix",
    "Quantization noise by layer",
    "Values by layer",
    "Commands",
    "Versions",
)


@pytest.fixture(scope="module")
def page():
    return html.render(DRAWN)


class Tags(HTMLParser):
    """Checks that every element that is opened is closed, in order."""

    EMPTY = frozenset({"meta", "img", "br"})

    def __init__(self, page):
        super().__init__()
        self.open = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_every_drawing_is_there(page):
    titles = Text(page).found["h2"]
    for title in TITLES:
        assert any(found.startswith(title) for found in titles), title


def test_every_drawing_says_where_its_figures_come_from(page):
    for title in Text(page).found["h2"]:
        drawn = any(title.startswith(name) for name in TITLES[:-2])
        assert not drawn or re.search(r"estimated|simulated|routed|measured|computed", title), title


def test_the_page_with_drawings_needs_no_other_file_and_is_well_formed(page):
    assert not re.search(r"https?:|<script|<link|@import", page)
    assert Tags(page).open == []


def test_names_in_drawings_are_text(page):
    assert "conv &lt;1&gt;" in page
    assert "conv $&lt;1&gt;$" in page
    assert "conv <1>" not in page


def test_colours_are_those_of_the_style_sheet(page):
    assert "var(--ink)" in page
    assert not re.search(r"#0[1-7]010[1-7]", page)


def test_the_slowest_stage_and_the_first_output_are_marked():
    chart = gantt(DRAWN["simulate"]["activity"], DRAWN["compile"])
    assert [row.slowest for row in chart.rows] == [True, False]
    x = chart.size.left + chart.size.strip * 0.4
    assert chart.first == (x, x, "first output, cycle 120")
    assert [node.slowest for node in drawing(DRAWN["compile"]).nodes] == [False, True, False, False]


def test_a_stage_behind_two_branches_is_drawn_after_the_longer_one():
    compiled = copy.deepcopy(DRAWN["compile"])
    add = compiled["layers"][1] | {"name": "add", "stage": "s02_add"}
    compiled["layers"].append(add)
    conv, pool = compiled["streams"][1], compiled["streams"][2]
    compiled["streams"] = [
        *compiled["streams"][:2],
        conv | {"sink": "s02_add", "input": 1},
        pool | {"sink": "s02_add"},
        pool | {"source": "s02_add"},
    ]
    x = {node.stage: node.x for node in drawing(compiled).nodes}
    assert x["s00_conv"] < x["s01_maxpool"] < x["s02_add"]


SKIPS = (("a", "c"), ("a", "e"), ("b", "l"), ("f", "h"), ("k", "d"))


def residual(names="abcdefghijklm", skips=SKIPS):
    """A network with streams that pass boxes, and one back."""
    compiled = copy.deepcopy(DRAWN["compile"])
    layer, (first, stream, last) = compiled["layers"][1], compiled["streams"]
    compiled["layers"] = [layer | {"name": name, "stage": name} for name in names]
    compiled["streams"] = [
        first | {"sink": names[0]},
        *(stream | {"source": source, "sink": sink} for source, sink in pairwise(names)),
        *(stream | {"source": source, "sink": sink} for source, sink in skips),
        last | {"source": names[-1]},
    ]
    return compiled


def short():
    """A network that is drawn from left to right."""
    return residual("abcde", (("a", "c"), ("a", "e"), ("b", "d")))


def points(path):
    """Places along the path of a stream, close to each other."""
    here = None
    for command, text in re.findall(r"([MLQC])([^MLQC]*)", path):
        numbers = [float(number) for number in text.split()]
        ends = list(zip(numbers[::2], numbers[1::2], strict=True))
        curve = ends if command == "M" else [here, *ends]
        for step in range(41):
            yield bezier(curve, step / 40)
        here = ends[-1]


def bezier(points, at):
    while len(points) > 1:
        points = [
            tuple(a + at * (b - a) for a, b in zip(*pair, strict=True)) for pair in pairwise(points)
        ]
    return points[0]


def aside():
    """The residual network, and a branch of one stage beside two others."""
    compiled = residual()
    layer, stream = compiled["layers"][1], compiled["streams"][1]
    compiled["layers"].insert(3, layer | {"name": "n", "stage": "n"})
    compiled["streams"] += [
        stream | {"source": "b", "sink": "n"},
        stream | {"source": "n", "sink": "g"},
    ]
    return compiled


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("network", [residual, aside, short])
def test_no_stream_runs_behind_a_box(network, width):
    found = drawing(network(), width)
    for edge in found.edges:
        for x, y in points(edge.path):
            assert 0 <= x <= found.width
            assert 0 <= y <= found.height
            for node in found.nodes:
                inside = (
                    node.x < x < node.x + found.node_width
                    and node.y < y < node.y + found.node_height
                )
                assert not inside, (edge.path, node.stage)


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_streams_beside_the_boxes_have_channels_of_their_own(width):
    paths = [edge.path for edge in drawing(aside(), width).edges if "Q" in edge.path]
    assert len(paths) == len(SKIPS) + 1 + (width == WIDE)  # and the one to the next column
    runs = []
    for path in paths:
        ends = re.findall(r"([-\d.]+) ([-\d.]+)(?=[MLQC]|$)", path)
        for (x, y), (u, v) in pairwise((float(a), float(b)) for a, b in ends):
            if x == u:
                runs.append((x, min(y, v), max(y, v)))
    for number, (x, low, high) in enumerate(runs):
        for other, begin, end in runs[:number]:
            assert x != other or end <= low or high <= begin


def test_estimate_and_actual_of_each_stage():
    rows = dict(charts.stage_cells(DRAWN["compile"], DRAWN["layout"]))
    assert rows["conv <1>"]["lut"] == (900, 1000)
    assert rows["link"]["lut"] == (None, 0)
    assert rows["pool"]["ff"] == (800, None)  # place and route did not count flip-flops


def test_a_comparison_has_shares_in_percent_and_points():
    second = DRAWN | {"accuracy": DRAWN["accuracy"] | {"float": {"top1": 0.9}}}
    first = DRAWN | {"accuracy": DRAWN["accuracy"] | {"float": {"top1": 0.925}}}
    rows = {row[0]: row[1:] for row in figures(("a", "b"), (first, second)).rows}
    assert rows["right classes, float"] == ("92.50 %", "90.00 %", "-2.50 points", "computed")


def test_logic_of_different_units_has_a_row_each():
    cells = DRAWN | {"compile": DRAWN["compile"] | {"logic_unit": "logic cells"}}
    logic = f"{DRAWN['compile']['estimate']['lut']:,}"
    rows = {row[0]: row[1:] for row in reversed(figures(("a", "b"), (DRAWN, cells)).rows)}
    assert rows["LUTs"] == (logic, "-", "-", "estimated")
    assert rows["logic cells"] == ("-", logic, "-", "estimated")
    alike = {row[0]: row[1:] for row in reversed(figures(("a", "b"), (cells, cells)).rows)}
    assert alike["logic cells"][:2] == (logic, logic)
    assert "LUTs" not in alike


def test_a_comparison_names_the_clock_of_each_rate():
    other = DRAWN | {"bench": {"fpga": {"clock_mhz": 100.0, "clock_source": "the bitstream's PLL"}}}
    assert figures(("a", "b"), (DRAWN, other)).notes == (
        "Frames a second and latency of a: at 150.0 MHz, board target (not built).",
        "Frames a second and latency of b: at 100.0 MHz, the bitstream's PLL.",
    )


def test_bars_of_resources_reach_the_most_of_both():
    larger = copy.deepcopy(DRAWN["compile"])
    larger["layers"][0]["lut"] = 9_000
    ends = charts.most_cells([(DRAWN["compile"], DRAWN["layout"]), (larger, None)])
    assert ends["lut"] == 9_000
    assert ">8,000</text>" not in charts.resources_by_stage(DRAWN["compile"], None)
    assert ">8,000</text>" in charts.resources_by_stage(DRAWN["compile"], None, ends=ends)


def test_a_comparison_has_both_sides():
    page = compare(("a", "b"), (DRAWN, ALL))
    assert Tags(page).open == []
    assert page.count("Not known: a step did not run") == len(TITLES) - 4
    assert "second to first" in page


def test_labels_are_short_and_no_two_alike():
    names = ["net/a/Relu;net/a/Bias", "net/b/Relu;net/b/Bias", "net/b/Relu;net/c"]
    assert labels(names) == {
        names[0]: "a/Relu",
        names[1]: names[1],
        names[2]: names[2],
    }
    assert fitting("a" * 12 + "end", 12) == "aaaaaaa…aend"


@pytest.mark.parametrize(("products", "above"), [(20, False), (30, True)])
def test_a_star_above_the_roof_is_explained(products, above):
    compiled = DRAWN["compile"] | {"macs": products * DRAWN["compile"]["interval_cycles"]}
    page = html.render({**DRAWN, "compile": compiled})
    assert ("The star is above the roof" in page) == above


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_labels_of_the_roofline_cover_nothing(width):
    """Marks in a row, so close that their labels would cover each other."""
    free = _Labels(_Box(0, 0, width, 3))
    marks = {(0.5 + 0.15 * at, 1.5): 12 for at in range(12)}
    for at in marks:
        free.mark(*at)
    covered = len(free.taken)
    placed = free.place(marks)
    assert len(placed) > 6
    assert any(label.far for label in placed.values())
    boxes = [label.box(*at, 12 * 0.065) for at, label in placed.items()]
    for number, box in enumerate(boxes):
        assert not any(box.meets(other) for other in (*boxes[:number], *free.taken[:covered]))


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize(("count", "numbered"), [(9, False), (20, True), (33, True)])
def test_many_stages_of_the_floorplan_have_numbers_and_colours_of_their_own(count, numbered, width):
    stages = [f"s{n:02}_conv" for n in range(count)]
    layout = DRAWN["layout"] | {
        "parts": [*stages, "link"],
        "columns": 8,
        "rows": 6,
        "tiles": [[n % 8, n // 8, n, 1] for n in range(count + 1)],
        "critical_path": [],
    }
    text = charts.floorplan(layout, {stage: f"layer{stage}" for stage in stages}, width)
    drawn = re.findall(r">([^<>\n]+)</text>", text)
    assert [str(n + 1) in drawn for n in range(count)] == [numbered] * count
    assert any(text.startswith(f"{count} ") for text in drawn) == numbered
    assert "link" in drawn
    assert len({series(n) for n in range(count + 1)}) == count + 1


@pytest.mark.parametrize("steps", range(8, 30))
def test_a_long_chain_is_drawn_across_the_page(steps):
    found = drawing(residual([f"s{n:02}" for n in range(steps)], skips=()), WIDE)
    assert 800 <= found.width <= 1170


def test_the_pipeline_says_where_its_cycles_begin():
    page = html.render(DRAWN)
    assert "The first beat enters in cycle 0, from which the latency counts" in page
    assert "the first one leaves 120 cycles later" in page

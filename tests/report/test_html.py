"""The page: complete, by itself, and safe whatever a layer is called."""

import json
import re
from html.parser import HTMLParser

import pytest
from gatewright.compiler.errors import DataError
from gatewright.compiler.report import html

from .summaries import ALL


class Text(HTMLParser):
    """Titles of the sections, and every cell."""

    def __init__(self, page):
        super().__init__()
        self.found, self.open = {"h2": [], "td": []}, []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        if tag in self.found:
            self.found[tag].append("")
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open and tag == self.open[-1]:
            self.open.pop()

    def handle_data(self, data):
        if self.open:
            self.found[self.open[-1]][-1] += data


def test_all_steps_make_all_sections_in_the_order_of_the_flow():
    assert [title.split("  ")[0].strip() for title in Text(html.render(ALL)).found["h2"]] == [
        "Inputs and outputs",
        "Resources estimated routed",
        "Layers estimated",
        "Latency by layer estimated",
        "Cycles estimated simulated",
        "Simulation simulated",
        "Timing routed",
        "Clocks of all seeds routed",
        "Benchmark computed measured",
        "Machine",
        "Accuracy computed",
        "Quantization noise by layer computed",
        "Layers: float against integer, and the reference runtime computed",
        "Tools",
    ]


def test_the_figures_at_the_top_are_the_simulations_once_it_has_run():
    plan = {"compile": ALL["compile"] | {"target_mhz": 100.0}}
    figures = {figure.what: figure for figure in html.headline(plan)}
    assert (figures["cycles of latency"].number, figures["cycles of latency"].how) == (
        "6,000",
        "estimated",
    )
    seen = ALL["simulate"] | {"interval_cycles": 5000}
    figures = {figure.what: figure for figure in html.headline(plan | {"simulate": seen})}
    assert (figures["cycles a frame"].number, figures["cycles a frame"].how) == (
        "5,000",
        "simulated",
    )
    assert figures["cycles of latency"].number == "6,001"
    assert figures["frames a second"].number == "20,000"
    (rate, *_) = html.headline(plan | {"simulate": seen, "build": ALL["build"]})
    assert (rate.number, rate.source) == (
        "30,000",
        "simulated cycles, 150 MHz (the bitstream's PLL)",
    )
    stalled = html.headline(plan | {"simulate": seen | {"stall": 0.3}})
    assert {figure.what: figure.how for figure in stalled}["cycles a frame"] == "estimated"


@pytest.mark.parametrize("step", ["simulate", "build", "bench", "accuracy"])
def test_each_step_may_be_missing(step):
    page = html.render({name: summary for name, summary in ALL.items() if name != step})
    assert len(Text(page).found["h2"]) < 14
    assert "Layers" in page


def test_estimate_and_actual_stand_side_by_side():
    cells = Text(html.render(ALL)).found["td"]
    start = cells.index("LUTs")
    assert cells[start : start + 6] == ["LUTs", "5,000", "6,250", "-20.0 %", "24,288", "26 %"]


def test_the_page_needs_no_other_file():
    page = html.render(ALL)
    assert not re.search(r"https?:|<script|<link|@import", page)
    # pictures are part of it, and arrows refer to it
    assert not re.search(r"""src=["'](?!data:)|href=["'](?!#|data:)|url\((?!#)""", page)


def test_names_are_text_whatever_they_hold():
    page = html.render(ALL)
    assert "conv &lt;1&gt;" in page
    assert "conv <1>" not in page


def test_a_network_that_does_not_fit_says_what_is_lacking():
    short = {"what": "LUTs", "needed": 30_000, "available": 19_430}
    page = html.render({"compile": ALL["compile"] | {"fits": False, "shortfall": [short]}})
    assert "Too much for the board" in page
    assert "30,000" in page


def test_it_is_written_over_what_the_directory_holds(tmp_path):
    for step in ("compile", "build"):
        (tmp_path / f"{step}.json").write_text(json.dumps(ALL[step]))
    page = html.write_report(tmp_path)
    assert page == tmp_path / "report.html"
    assert "161.2 MHz" in page.read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_directory_that_was_not_compiled_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no compile\.json; compile a model with -o first"):
        html.write_report(tmp_path)


def test_a_missed_timing_is_nowhere_shown_as_met():
    page = html.render(ALL | {"build": ALL["build"] | {"timing_met": False, "bitstream": None}})
    assert "NOT met" in page
    assert "timing met" not in page

"""The pages as a browser shows them: across a screen, on a phone, dark, and on paper."""

import base64
import json

import pytest
from gatewright.compiler.report import html
from gatewright.compiler.report.compare import compare
from gatewright.compiler.report.design_space import write_page

from . import browser as chromium
from .summaries import ALL, DRAWN, POINTS

#: pixels: a screen, a tablet, half of a screen, a phone, a small phone
WIDTHS = (1280, 800, 640, 390, 320)
#: pixels between the margins of a sheet of A4
PAPER = 703

LONG = "network/block_12/batch_normalization_7/FusedBatchNormV3"
SPACE = {
    "clock_mhz": 100.0,
    "available": {"lut": 24288, "ff": 24288, "dsp": 28, "bram": 56},
    "logic_unit": "LUTs",
    "points": POINTS,
}

TEXTS = """
[...document.querySelectorAll("svg")].filter(s => s.getClientRects().length).map(s => ({
  name: s.ariaLabel, box: s.getBoundingClientRect().toJSON(),
  texts: [...s.querySelectorAll("text")].filter(t => t.textContent.trim()).map(t =>
    ({text: t.textContent.trim(), ...t.getBoundingClientRect().toJSON()}))}))
"""
CONTRAST = """
(() => {
  const pen = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const light = colour => { pen.clearRect(0, 0, 1, 1); pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data; if (a < 255) return null;
    const part = c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
    return 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b) + 0.05; };
  const ground = e => { for (; e; e = e.parentElement) { const found = e instanceof SVGElement ?
    null : light(getComputedStyle(e).backgroundColor); if (found) return found; } return 1.05; };
  const found = [];
  for (const e of document.querySelectorAll("body *")) {
    const text = [...e.childNodes].filter(n => n.nodeType === 3 && n.data.trim());
    if (!text.length || !e.getClientRects().length || e.closest("title, script, style")) continue;
    const style = getComputedStyle(e), svg = e instanceof SVGElement;
    const a = light(svg ? style.fill : style.color), b = ground(e);
    if (a) found.push([Math.max(a, b) / Math.min(a, b), e.textContent.trim().slice(0, 40)]);
  }
  return found;
})()
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    path = chromium.find()
    if path is None:
        pytest.skip(f"none of {', '.join(chromium.NAMES)} is installed: no page is opened")
    found = chromium.Browser(path, tmp_path_factory.mktemp("browser"))
    yield found
    found.close()


@pytest.fixture(
    scope="module", params=["report", "long names", "some steps", "comparison", "design space"]
)
def file(request, tmp_path_factory):
    """A page of each kind, in a file."""
    made = tmp_path_factory.mktemp("page") / "page.html"
    match request.param:
        case "report":
            made.write_text(html.render(DRAWN), encoding="utf-8")
        case "long names":
            text = (
                json.dumps(DRAWN)
                .replace('"pool"', f'"{LONG}"')
                .replace('"conv $<1>$"', f'"{LONG}s"')
            )
            made.write_text(html.render(json.loads(text)), encoding="utf-8")
        case "some steps":
            made.write_text(html.render({"compile": ALL["compile"]}), encoding="utf-8")
        case "comparison":
            made.write_text(compare(("a", "b"), (DRAWN, ALL)), encoding="utf-8")
        case "design space":
            write_page(SPACE, made, title="net on a board", command="gatewright compile {plan}")
    return made


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_window(browser, file, width):
    browser.open(file, width)
    root = browser.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    assert root[0] <= root[1]


@pytest.mark.parametrize("width", WIDTHS)
def test_texts_of_drawings_are_whole_and_cover_no_other(browser, file, width):
    browser.open(file, width)
    for drawing in browser.evaluate(TEXTS):
        for text in drawing["texts"]:
            assert within(text, drawing["box"]), f"{drawing['name']}: {text['text']} is cut"
        for at, text in enumerate(drawing["texts"]):
            for other in drawing["texts"][at + 1 :]:
                apart = not meet(text, other)
                assert apart, f"{drawing['name']}: {text['text']} covers {other['text']}"


def within(text, box, slack=3):
    across = box["left"] - slack <= text["left"] and text["right"] <= box["right"] + slack
    return across and box["top"] - slack <= text["top"] and text["bottom"] <= box["bottom"] + slack


def meet(one, other):
    """Whether two texts overlap, but for the space that a line has above and below its letters."""
    across = min(one["right"], other["right"]) - max(one["left"], other["left"])
    down = min(one["bottom"], other["bottom"]) - max(one["top"], other["top"])
    return across > 1 and down > 0.4 * min(one["height"], other["height"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_stand_out_from_their_ground(browser, file, scheme):
    browser.open(file, 1280, scheme=scheme)
    found = browser.evaluate(CONTRAST)
    assert found
    for contrast, text in found:
        assert contrast >= 4.5, text


def test_the_page_fits_on_paper(browser, file):
    browser.open(file, PAPER, media="print", scheme="dark")
    assert browser.evaluate("document.documentElement.scrollWidth") <= PAPER
    assert (
        browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    )
    printed = browser.do("Page.printToPDF", printBackground=True, preferCSSPageSize=True)
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")


def test_the_page_loads_nothing_and_no_script_fails(browser, file):
    browser.open(file, 1280)
    assert browser.complaints() == []

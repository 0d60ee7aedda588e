"""Write the drawings of the explanations, ``img/*.svg``: ``python docs/drawings.py``.

Colours are classes of a style sheet in each file, which follows the reader's scheme, light or dark.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

__all__ = ["DRAWINGS", "FOLDER"]

FOLDER = Path(__file__).with_name("img")

STYLE = """
text { font: 14px system-ui, "Segoe UI", Roboto, sans-serif; fill: #1c2430; }
.soft { fill: #5a6574; } .small { font-size: 12px; } .bold { font-weight: 600; }
.mono { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: 12.5px; }
.box { fill: #ffffff; stroke: #8894a5; } .a { fill: #cfe2f8; stroke: #2d6cb5; }
.b { fill: #d3eedd; stroke: #2b8a5f; } .c { fill: #fbe3bf; stroke: #b7791f; }
.idle { fill: #f1f3f6; stroke: #c9d0da; } .line { stroke: #5a6574; fill: none; }
.dash { stroke: #b7791f; fill: none; stroke-dasharray: 5 4; } .tip { fill: #5a6574; }
.accent { stroke: #2d6cb5; fill: none; stroke-width: 2; } .lit { fill: #2d6cb5; }
.warn { stroke: #c2413b; fill: none; } .dot { fill: #c2413b; } .paper { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
text { fill: #e6eaf0; } .soft { fill: #a3aebc; } .box { fill: #222a35; stroke: #7d8999; }
.a { fill: #1f4066; stroke: #5b9be0; } .b { fill: #1d4a35; stroke: #45b383; }
.c { fill: #573d13; stroke: #e0a94f; } .idle { fill: #1b212a; stroke: #3a4452; }
.line { stroke: #a3aebc; } .dash { stroke: #e0a94f; } .tip { fill: #a3aebc; }
.accent { stroke: #5b9be0; } .lit { fill: #5b9be0; } .warn { stroke: #ef7b72; }
.dot { fill: #ef7b72; } .paper { fill: #14191f; } }
"""


class Drawing:
    """Shapes of an SVG file of ``width`` by ``height``; ``title`` says what it shows."""

    def __init__(self, width: int, height: int, title: str) -> None:
        self.size, self.title = (width, height), title
        self.shapes: list[str] = []

    def box(
        self, x: float, y: float, w: float, h: float, kind: str = "box", text: str = ""
    ) -> None:
        self.shapes.append(
            f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="4"/>'
        )
        for number, line in enumerate(text.split("\n") if text else ()):
            middle = y + h / 2 + 5 + 17 * (number - text.count("\n") / 2)
            self.text(x + w / 2, middle, line, anchor="middle")

    def text(self, x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> None:
        for found, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
            text = text.replace(found, written)
        self.shapes.append(
            f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{text}</text>'
        )

    def path(self, points: Sequence[tuple[float, float]], kind: str = "line") -> None:
        places = " ".join(f"{x:g},{y:g}" for x, y in points)
        self.shapes.append(f'<polyline class="{kind}" points="{places}"/>')

    def arrow(self, *points: tuple[float, float], kind: str = "line") -> None:
        """A line of horizontal and vertical parts with a tip at its end."""
        self.path(points, kind)
        (x0, y0), (x, y) = points[-2:]
        across, down = (x > x0) - (x < x0), (y > y0) - (y < y0)
        back = [
            (x - 8 * across - 4 * down, y - 8 * down - 4 * across),
            (x - 8 * across + 4 * down, y - 8 * down + 4 * across),
        ]
        places = " ".join(f"{px:g},{py:g}" for px, py in [(x, y), *back])
        self.shapes.append(f'<polygon class="tip" points="{places}"/>')

    def dot(self, x: float, y: float, kind: str = "dot", radius: float = 4) -> None:
        self.shapes.append(f'<circle class="{kind}" cx="{x:g}" cy="{y:g}" r="{radius:g}"/>')

    def svg(self) -> str:
        width, height = self.size
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" role="img">\n<title>{self.title}</title>\n<style>{STYLE}</style>\n'
            f'<rect class="paper" width="{width}" height="{height}"/>\n'
            + "\n".join(self.shapes)
            + "\n</svg>\n"
        )


def flow() -> Drawing:
    """What goes in, what comes out, and what is compared with what."""
    d = Drawing(900, 330, "From an ONNX file to a bitstream, with the proofs on the way")
    steps = (
        ("model.onnx", "PyTorch, Keras,\nscikit-learn", "box"),
        ("quantize", "model.int8.onnx\n1 to 16 bits", "a"),
        ("plan", "a folding for each\nlayer, exact cycles", "a"),
        ("lower", "systolic arrays\nin RTL", "b"),
        ("build", "yosys, nextpnr:\nbitstream", "c"),
    )
    for number, (head, text, kind) in enumerate(steps):
        x = 15 + 177 * number
        d.box(x, 45, 145, 84, kind)
        d.text(x + 72, 70, head, "bold", "middle")
        for row, line in enumerate(text.split("\n")):
            d.text(x + 72, 94 + 17 * row, line, "small", "middle")
        if number:
            d.arrow((x - 31, 87), (x - 2, 87))
    d.box(192, 210, 145, 64, "b", "golden model\nin NumPy")
    d.box(546, 210, 145, 64, "b", "simulation\n(Verilator)")
    d.arrow((264, 129), (264, 208))
    d.arrow((618, 129), (618, 208))
    d.path([(340, 236), (543, 236)], "accent")
    d.path([(340, 246), (543, 246)], "accent")
    d.text(442, 222, "equal, bit for bit", "bold", "middle")
    d.text(442, 268, "every value of every layer", "small soft", "middle")
    d.text(87, 160, "float weights", "small soft", "middle")
    d.text(420, 160, "every rounding proven", "small soft", "middle")
    d.text(795, 160, "timing met, or no file", "small soft", "middle")
    d.text(15, 24, "One command a step; each writes a file that you can read and edit.", "soft")
    d.text(15, 312, "LUTs, DSP blocks and block RAMs are estimated before anything runs.", "soft")
    return d


def systolic() -> Drawing:
    """Six cycles of a small array: which word each PE multiplies."""
    d = Drawing(900, 470, "A systolic array of three rows and three columns, cycle by cycle")
    d.text(10, 22, "Row r and column g multiply word w in cycle w + r + g.", "bold")
    for cycle in range(6):
        left, top = 45 + 292 * (cycle % 3), 62 + 212 * (cycle // 3)
        d.text(left, top - 10, f"cycle {cycle}", "bold")
        for row in range(3):
            y = top + 52 * row
            d.text(left - 30, y + 26, f"x{row}", "mono")
            d.arrow((left - 12, y + 21), (left - 1, y + 21))
            for column in range(3):
                x = left + 74 * column
                word = cycle - row - column
                busy = 0 <= word < 3
                d.box(x, y, 56, 42, "abc"[word] if busy else "idle", f"w{word}" if busy else "")
                if column < 2:
                    d.arrow((x + 57, y + 21), (x + 72, y + 21))
                if row < 2:
                    d.arrow((x + 28, y + 43), (x + 28, y + 51))
        for column in range(3):
            word = cycle - 3 - column
            x = left + 74 * column + 28
            d.arrow((x, top + 147), (x, top + 161))
            if 0 <= word < 3:
                d.text(x + 8, top + 160, f"Σ w{word}", "small")
    return d


def folding() -> Drawing:
    """The products of one output pixel, cut into folds."""
    d = Drawing(900, 400, "A layer's products, folded onto an array of 6 rows and 4 columns")
    cell, left, top = 17, 70, 86
    colours = ("a", "b", "c")
    for row in range(18):
        for column in range(8):
            kind = colours[row // 6]
            d.box(left + cell * column, top + cell * row * 0.86, cell - 2, cell * 0.86 - 2, kind)
    d.text(left, 40, "One output pixel: K·K·Cin = 18 products", "bold")
    d.text(left, 60, "for each of Cout = 8 channels", "bold")
    d.text(left + 34, top - 8, "pass 0", "small soft", "middle")
    d.text(left + 34 + 4 * cell, top - 8, "pass 1", "small soft", "middle")
    for fold in range(3):
        d.text(left - 8, top + 47 + 88 * fold, f"fold {fold}", "small soft", "end")
    d.path([(left + 4 * cell - 1, top - 4), (left + 4 * cell - 1, top + 266)], "accent")
    d.arrow((left + 150, 210), (left + 220, 210))
    d.text(left + 185, 200, "in time", "small soft", "middle")
    for step in range(6):
        x = 310 + 95 * step
        d.box(x, 130, 80, 110, colours[step % 3], f"fold {step % 3}\nof\npass {step // 3}")
        d.text(x + 40, 262, f"cycle {step}", "small soft", "middle")
    d.text(310, 116, "simd = 6 rows, pe = 4 columns: 24 multipliers, all busy in every cycle")
    d.text(
        310, 306, "cycles a frame = pixels · ceil(K·K·Cin / simd) · ceil(Cout / pe)", "mono bold"
    )
    d.text(310, 330, "= pixels · ceil(18 / 6) · ceil(8 / 4) = 6 · pixels", "mono")
    d.text(310, 360, "Half of the rows: half of the multipliers, twice the cycles.", "soft")
    return d


def streams() -> Drawing:
    """Pixels as beats, and two stalls that lose none."""
    d = Drawing(900, 380, "A feature map as a stream: raster order, lanes, valid and ready")
    d.text(20, 26, "A map of 2 by 3 pixels of 4 channels, lanes = 2: two beats a pixel", "bold")
    for pixel in range(6):
        x, y = 20 + 92 * (pixel % 3), 46 + 58 * (pixel // 3)
        d.box(x, y, 84, 48, "idle")
        d.box(x + 6, y + 8, 34, 32, "a", f"{2 * pixel}")
        d.box(x + 44, y + 8, 34, 32, "b", f"{2 * pixel + 1}")
    d.text(330, 72, "blue: channels 0 and 1, green: channels 2 and 3", "soft")
    d.text(330, 96, "The number is the beat's place in the stream.", "soft")
    left, step = 120, 62
    valid = (1, 1, 1, 0, 1, 1, 1, 1, 1, 1, 1, 0)
    ready = (1, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1)
    for name, y, signal in (("valid", 210, valid), ("ready", 260, ready)):
        d.text(left - 14, y + 4, name, "mono", "end")
        points = []
        for cycle, level in enumerate(signal):
            points += [
                (left + step * cycle, y - 14 * level + 8),
                (left + step * (cycle + 1), y - 14 * level + 8),
            ]
        d.path(points, "accent")
    d.text(left - 14, 310, "payload", "mono", "end")
    d.text(left - 14, 352, "cycle", "mono soft", "end")
    beat = 0
    for cycle in range(12):
        x = left + step * cycle
        d.text(x + step / 2, 352, str(cycle), "mono soft", "middle")
        if valid[cycle]:
            d.box(x + 3, 290, step - 6, 32, "ab"[beat % 2], str(beat))
        if valid[cycle] and ready[cycle]:
            beat += 1
    d.text(
        left,
        376,
        "A beat passes where valid and ready are both high; in cycles 5 and 6 beat 4 waits.",
        "small soft",
    )
    return d


def credits() -> Drawing:
    """Where backpressure ends and credits begin."""
    d = Drawing(900, 300, "Credits: work starts only when the queue has room for its results")
    row = (
        (30, "line buffer,\nwindow", "a"),
        (240, "systolic array", "a"),
        (440, "requantize", "a"),
        (640, "queue", "b"),
    )
    for x, text, kind in row:
        d.box(x, 60, 140, 76, kind, text)
    d.arrow((2, 98), (28, 98))
    for x in (170, 380, 580):
        d.arrow((x, 98), (x + 58, 98))
    d.arrow((780, 98), (880, 98))
    d.text(790, 88, "o, ready", "small soft")
    d.text(375, 40, "fixed latency, no ready signal, no clock enable", "small soft", "middle")
    d.path([(172, 50), (172, 46), (638, 46), (638, 50)], "dash")
    d.box(330, 210, 180, 56, "c", "credit counter")
    d.arrow((330, 238), (100, 238), (100, 138))
    d.text(115, 228, "grant: start a reduction", "small soft")
    d.arrow((710, 136), (710, 238), (512, 238))
    d.text(524, 228, "freed: a beat has left", "small soft")
    d.arrow((510, 136), (510, 180), (460, 180), (460, 208))
    d.text(520, 176, "dropped: a column past the last channel", "small soft")
    d.text(
        30,
        290,
        "credits = free places - results under way; never negative, so the queue never overflows",
        "small",
    )
    return d


def proof() -> Drawing:
    """The exact staircase, the line of the hardware between its corners, and the polygon."""
    d = Drawing(985, 400, "The proof of a requantizer: one line between all corners of a staircase")
    left, bottom, step, rise = 60, 350, 74, 44
    d.arrow((left, bottom), (540, bottom))
    d.arrow((left, bottom), (left, 40))
    d.text(500, bottom + 24, "accumulator", "small soft")
    d.text(left + 8, 46, "output", "small soft")
    edges = [left + 30 + step * n for n in range(7)]  # where the output steps
    points: list[tuple[float, float]] = [(left, bottom - 10)]
    for number, x in enumerate(edges[:-1]):
        y = bottom - 10 - rise * number
        points += [(x, y), (x, y - rise)]
    points.append((edges[-1] - 20, points[-1][1]))
    d.path(points, "accent")
    slope = rise / step
    d.path(
        [(left, bottom - 38.5), (edges[-1] - 20, bottom - 38.5 - slope * (edges[-1] - 20 - left))],
        "dash",
    )
    for number, x in enumerate(edges[:-1]):
        d.dot(x, bottom - 10 - rise * (number + 1), "lit")
        d.dot(x - 9, bottom - 10 - rise * (number + 1), "dot")
    d.text(left + 24, 74, "solid: round_half_even(alpha · acc + beta), exact", "small")
    d.text(
        left + 24, 94, "dashed: (acc · mult + offset) >> shift, before the shift cuts it", "small"
    )
    d.text(590, 50, "Two conditions a step k, with T its first acc:", "bold")
    d.dot(600, 74, "lit")
    d.text(614, 79, "T · mult + offset ≥ k << shift", "mono")
    d.dot(600, 98, "dot")
    d.text(614, 103, "(T-1) · mult + offset < k << shift", "mono")
    d.text(590, 134, "All steps together: a polygon of legal constants", "bold")
    d.arrow((610, 340), (880, 340))
    d.arrow((610, 340), (610, 160))
    d.text(850, 362, "mult", "small soft")
    d.text(618, 168, "offset", "small soft")
    d.shapes.append('<polygon class="b" points="660,300 700,200 780,180 850,240 800,310"/>')
    for x in range(630, 880, 24):
        for y in range(190, 340, 24):
            d.dot(x, y, "tip", 1.5)
    d.dot(750, 238, "lit", 5)
    d.text(690, 262, "chosen, then checked", "small")
    d.text(
        590,
        390,
        "An empty polygon for a shift: the next shift. No solution: no build.",
        "small soft",
    )
    return d


DRAWINGS: dict[str, Callable[[], Drawing]] = {
    "flow": flow,
    "systolic": systolic,
    "folding": folding,
    "streams": streams,
    "credits": credits,
    "proof": proof,
}

if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in DRAWINGS.items():
        (FOLDER / f"{name}.svg").write_text(make().svg())

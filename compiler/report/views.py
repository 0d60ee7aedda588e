"""What the reports show: tables of text, from the summaries that the steps leave as JSON.

The page and the terminal show the same views; neither computes anything.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor, inf, log10
from typing import Any

__all__ = [
    "EXACT_DB",
    "LUTS",
    "Cell",
    "Share",
    "View",
    "accuracy",
    "accuracy_layers",
    "benchmark",
    "boards",
    "commands",
    "count",
    "cycles",
    "energy",
    "error",
    "explored",
    "shortfall",
    "layers",
    "logic_unit",
    "machine",
    "made_with",
    "outputs",
    "plan",
    "ports",
    "resource_names",
    "resources",
    "simulation",
    "size",
    "timing",
    "verdicts",
    "versions",
]

Summary = Mapping[str, Any]

_UNKNOWN = "-"
#: what ``lut`` counts on families that count LUTs and flip-flops separately
LUTS = "LUTs"
#: noise that a layer adds by itself, in dB, above which it is only that of computing the float
#: network in float32: 16 bits have about 98
EXACT_DB = 120.0


@dataclass(frozen=True)
class Share:
    """A part of a whole, drawn as a bar. ``warn``: more than there is."""

    value: float

    @property
    def warn(self) -> bool:
        return self.value > 1

    def __str__(self) -> str:
        return f"{100 * self.value:.0f} %"


Cell = str | Share


@dataclass(frozen=True)
class View:
    """A table: ``columns`` are headings, those in ``text`` are words and not numbers.

    Where there is little room, ``short`` has other headings for some columns, and those of
    ``omitted`` may be left out, the first of them first.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    short: Mapping[str, str] = field(default_factory=dict)
    omitted: tuple[str, ...] = ()


def _facts(title: str, facts: Iterable[tuple[str, str]], *notes: str) -> View:
    return View(title, ("", "value"), tuple(facts), frozenset({"", "value"}), notes)


# Numbers as people read them.


def count(number: float | None) -> str:
    """A number with separators."""
    return _UNKNOWN if number is None else f"{number:,.0f}"


def _large(number: float | None) -> str:
    """With a unit prefix: 12.5 M."""
    if number is None:
        return _UNKNOWN
    for size, prefix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g} {prefix}"
    return f"{number:.0f}"


def _percent(part: float | None, digits: int = 1) -> str:
    return _UNKNOWN if part is None else f"{100 * part:.{digits}f} %"


def _rare(part: float | None) -> str:
    """A fraction that is small: in parts per million."""
    if part is None:
        return _UNKNOWN
    return "0" if part == 0 else f"{1e6 * part:.3g} ppm" if part < 1e-3 else _percent(part, 2)


def _micro(microseconds: float | None) -> str:
    if microseconds is None:
        return _UNKNOWN
    large = microseconds >= 1000
    return f"{_three(microseconds / 1000)} ms" if large else f"{_three(microseconds)} µs"


def _times(ratio: float | None) -> str:
    return _UNKNOWN if ratio is None else f"{_three(ratio)}x"


def _three(number: float) -> str:
    """A number with three digits that count, or all before the point."""
    if not number:
        return "0"
    digits = 2 - floor(log10(abs(float(f"{number:.2e}"))))
    return f"{number:,.{max(0, digits)}f}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


def error(estimate: float | None, actual: float | None) -> str:
    """How far the estimate is off, of the actual amount."""
    if not actual or estimate is None:
        return _UNKNOWN
    return f"{100 * (estimate - actual) / actual:+.1f} %"


# Check.


def verdicts(found: Summary) -> View:
    """A row a node of the model."""
    columns = ("node", "operator", "verdict", "reason", "change")
    keys = ("name", "op", "verdict", "reason", "change")
    rows = tuple(tuple(node[key] for key in keys) for node in found["nodes"])
    return View("Nodes", columns, rows, frozenset(columns))


def size(found: Summary) -> View | None:
    """The network in a few numbers; None where not even its nodes could be read."""
    if not found["nodes"]:
        return None
    facts = [
        ("products a frame", _large(found["macs"])),
        ("parameters", _large(found["parameters"])),
    ]
    if "activation_bytes" in found:
        facts += [
            ("feature maps", f"{count(found['activation_bytes'])} bytes a frame"),
            ("largest feature map", f"{count(found['largest_activation_bytes'])} bytes"),
        ]
    return _facts("Network", facts)


def boards(found: Summary) -> View:
    """A row a board: whether the network fits, how fast, and what is lacking."""
    return View(
        "Boards",
        ("board", "fits", "cycles a frame", "frames a second", "how", "lacking"),
        tuple(
            (
                row["name"],
                "yes" if row["fits"] else "no",
                count(row["interval_cycles"]),
                count(row["fps"]),
                row["how"],
                ", ".join(map(_lack, row["lacking"])),
            )
            for row in found["boards"]
        ),
        frozenset({"board", "fits", "how", "lacking"}),
        notes=tuple(_about_boards(found["boards"])),
    )


_CYCLES = "cycles a frame"
_MAY_TAKE = (
    "what a plan may take. That is less than the chip has: placement needs room, and the link to "
    "the host is in every bitstream."
)


def _about_boards(rows: Sequence[Summary]) -> Iterator[str]:
    """What the words of the table mean, those that are in it."""
    if any(row["how"] == "estimated" for row in rows):
        yield (
            "Planned: by a plan for that board. Estimated: what its DSP blocks alone allow at "
            "best; a plan may take more cycles, or fewer with products in logic."
        )
    if any(lack["what"] != _CYCLES for row in rows for lack in row["lacking"]):
        yield f"Lacking: what the network needs, of {_MAY_TAKE}"


def _lack(lack: Summary) -> str:
    """What a board has too little of."""
    needed, available = count(lack["needed"]), count(lack["available"])
    if lack["what"] == _CYCLES:
        allowed = f"{available} {_CYCLES}" if lack["available"] else "less than a cycle a frame"
        return f"the goal is {allowed}, a plan takes at least {needed}"
    return f"{needed} {lack['what']} of {available}"


# Compile.


def plan(compiled: Summary) -> View:
    """The plan in a few numbers."""
    goal = _GOALS.get(compiled.get("goal") or "", "this goal")
    facts = [
        ("model", compiled.get("model", _UNKNOWN)),
        ("board", compiled["board"]),
        ("products a frame", _large(compiled.get("macs"))),
        ("multipliers", count(compiled.get("multipliers"))),
        ("interval", f"{count(compiled['interval_cycles'])} cycles a frame"),
        *_bound("interval", compiled["interval_cycles"], compiled.get("bound_cycles"), goal),
        ("latency", f"{count(compiled['latency_cycles'])} cycles"),
        *_bound("latency", compiled["latency_cycles"], compiled.get("bound_latency_cycles"), goal),
    ]
    if compiled.get("fps") is not None:
        clock = f"{compiled['target_mhz']:g} MHz, the board's usual clock"
        facts.append(("frames a second", f"{count(compiled['fps'])} at {clock}"))
    bounded = any(name.endswith("bound") for name, _ in facts)
    notes = ["Bound: no plan for the goal has fewer cycles; proven."] if bounded else []
    return _facts("Plan", [*facts, ("fits the board", "yes" if compiled["fits"] else "no")], *notes)


#: what a plan was searched for
_GOALS = {
    "balanced": "the default goal, DSP blocks alone",
    "fps": "--goal fps",
    "latency": "--goal latency",
}


def _bound(name: str, cycles: int, bound: int | None, goal: str) -> list[tuple[str, str]]:
    """What the search has proven of all plans for ``goal``, if it looked for a bound."""
    if bound is None:
        return []
    apart = f"{_percent((cycles - bound) / cycles)} less" if bound < cycles else "reached"
    return [(f"{name} bound", f"{count(bound)} cycles, {apart} ({goal})")]


def shortfall(compiled: Summary) -> View | None:
    """What there is too little of on the board; None when it fits."""
    short = compiled.get("shortfall") or []
    if not short:
        return None
    return View(
        "Too much for the board",
        ("resource", "needed", "available"),
        tuple((row["what"], count(row["needed"]), count(row["available"])) for row in short),
        frozenset({"resource"}),
        notes=(f"Needed: by the network alone. Available: {_MAY_TAKE}",),
    )


def ports(compiled: Summary) -> View:
    """A row for each input and output of the network."""
    rows = [
        (
            way,
            port["name"],
            " x ".join(map(str, port["shape"])),
            port["dtype"],
            port["stream"],
            count(port["lanes"]),
            count(port["beats"]),
        )
        for way, key in (("in", "inputs"), ("out", "outputs"))
        for port in compiled.get(key, ())
    ]
    return View(
        "Inputs and outputs",
        ("", "name", "shape", "type", "in hardware", "elements a beat", "beats a frame"),
        tuple(rows),
        frozenset({"", "name", "shape", "type", "in hardware"}),
    )


def layers(compiled: Summary) -> View:
    """A row a layer, in flow order; the bar is its share of the frame interval."""
    interval = compiled["interval_cycles"]
    return View(
        "Layers",
        (
            "layer",
            "operator",
            "MACs",
            "simd",
            "pe",
            "multipliers",
            "block RAMs",
            "cycles",
            "of the interval",
        ),
        tuple(
            (
                row["name"],
                row["op"],
                _large(row["macs"]),
                str(row["simd"]),
                str(row["pe"]),
                count(row["multipliers"]),
                count(row.get("block_rams")),
                count(row["cycles"]),
                Share(row["cycles"] / interval if interval else 0.0),
            )
            for row in compiled["layers"]
        ),
        frozenset({"layer", "operator", "of the interval"}),
        notes=tuple(_products(compiled["layers"])),
        short={"multipliers": "mult.", "block RAMs": "BRAM", "of the interval": "share"},
        omitted=("MACs", "operator", "block RAMs"),
    )


#: how a stage makes its products, if not one in each multiplier
_PRODUCTS = {
    "pairs": "the fast inner product has ceil(simd / 2) x (pe + 1) multipliers, most of which give "
    "two products",
    "filtered": "minimal filtering makes two outputs of three taps from four products, not six",
    "filtered_pairs": "minimal filtering and the fast inner product give up to three products a "
    "multiplier",
    "square_filtered": "minimal filtering makes 2 x 2 outputs of 3 x 3 taps from 16 products, not "
    "36",
    "square_filtered_pairs": "minimal filtering of 3 x 3 taps and the fast inner product give up "
    "to four and a half products a multiplier",
    "trees": "trees of adders sum the products; there are no multipliers in hardware, and the "
    "products of a cycle are counted",
}


def _products(layers: Iterable[Summary]) -> Iterator[str]:
    """A sentence for each way to have other multipliers than simd x pe, with a layer that does."""
    explained = set()
    for row in layers:
        how = row.get("products")
        if how in _PRODUCTS and how not in explained and row["multipliers"]:
            explained.add(how)
            yield (
                f"{row['name']}, {count(row['multipliers'])} multipliers for simd {row['simd']} x "
                f"pe {row['pe']}: {_PRODUCTS[how]}."
            )


def latency_parts(compiled: Summary) -> View | None:
    """What a frame's last value waits for, stage by stage; None: not known."""
    parts = compiled.get("latency_parts")
    if not parts:
        return None
    names = {row["stage"]: row["name"] for row in reversed(compiled["layers"])}
    every = ("waiting", "writing", "computing", "pipeline", "streams")
    kinds = tuple(kind for kind in every if any(part[kind] for part in parts))
    rows: list[tuple[Cell, ...]] = []
    for number, part in enumerate(parts):
        outside = "full line buffers" if number else "input"
        cycles = sum(part[kind] for kind in kinds)
        rows.append(
            (
                names.get(part["stage"], outside),
                *(count(part[kind]) if part[kind] else "" for kind in kinds),
                count(cycles),
                Share(cycles / compiled["latency_cycles"]),
            )
        )
    return View(
        "Latency by layer",
        ("layer", *kinds, "cycles", "of the latency"),
        tuple(rows),
        frozenset({"layer", "of the latency"}),
        (
            "The chain that the last value of a frame waits for in an idle network; the cycles add "
            "up to the latency. Computing: until a stage has computed what the next stage needs to "
            "begin (some rows for a window, or the whole map); at the slowest stage, until it has "
            "computed all pixels. Pipeline: from the last pixel in to the multipliers, through "
            "them, and the drain. Streams: converters, registers and queues between stages.",
        ),
    )


def logic_unit(found: Summary) -> str:
    """What ``lut`` counts in a summary that is ``compile.json`` or ``explore.json``."""
    return str(found.get("logic_unit", LUTS))


def resource_names(logic_unit: str) -> dict[str, str]:
    """What the figures of a cost are called, by their keys. ``logic_unit``: what ``lut`` counts on
    the board's family.
    """
    return {"lut": logic_unit, "ff": "flip-flops", "dsp": "DSP blocks", "bram": "block RAMs"}


def resources(compiled: Summary, built: Summary | None = None) -> View:
    """Estimate next to what place and route used."""
    estimate, available = compiled["estimate"], compiled.get("available", {})
    unit = logic_unit(compiled)
    used = {} if built is None else built["utilization"]
    rows: list[tuple[Cell, ...]] = []
    for key, name in resource_names(unit).items():
        actual = used[key]["used"] if key in used else None
        there = used[key]["available"] if key in used else available.get(key)
        amount = estimate[key] if actual is None else actual
        share: Cell = Share(amount / there) if there else _UNKNOWN
        rows.append(
            (
                name,
                count(estimate[key]),
                count(actual),
                error(estimate[key], actual),
                count(there),
                share,
            )
        )
    notes = [] if built else ["Actual numbers come with gatewright build."]
    if unit != LUTS:
        notes.append(
            "A logic cell holds a LUT, a flip-flop or both: more cells are in use than LUTs."
        )
    return View(
        "Resources",
        ("resource", "estimate", "actual", "error", "available", "used"),
        tuple(rows),
        frozenset({"resource", "used"}),
        tuple(notes),
    )


# Simulate.


def cycles(compiled: Summary, simulated: Summary | None = None) -> View:
    """The plan's formula next to what the simulation counted."""
    seen = simulated or {}
    names = {"interval_cycles": "interval", "latency_cycles": "latency"}
    notes = () if simulated else ("Simulated numbers come with gatewright simulate.",)
    if seen.get("stall"):
        notes = (
            f"The streams were stalled on purpose ({_percent(seen['stall'], 0)} of cycles), so the "
            "simulated cycles may be higher.",
        )
    return View(
        "Cycles",
        ("", "formula", "simulated", "error"),
        tuple(
            (
                name,
                count(compiled[key]),
                count(seen.get(key)),
                error(compiled[key], seen.get(key)),
            )
            for key, name in names.items()
        ),
        frozenset({""}),
        notes,
    )


def simulation(simulated: Summary) -> View:
    """RTL against the golden model."""
    first = simulated["first_mismatch"]
    verdict = (
        "all values equal the golden model"
        if not simulated["mismatches"]
        else (f"{count(simulated['mismatches'])} values differ")
    )
    facts = [
        ("verdict", verdict),
        ("frames", _frames(simulated)),
        ("values", count(simulated["values"])),
        ("latency", f"{count(simulated['latency_cycles'])} cycles"),
        ("interval", f"{count(simulated['interval_cycles'])} cycles a frame"),
        ("simulator", f"{simulated['simulator']}, {simulated['level']}"),
        ("rate", f"{_large(simulated['cycles_per_second'])} cycles a second"),
        ("time", _seconds(simulated["wall_seconds"])),
    ]
    if first:
        where = f"{first['layer']}, frame {first['frame']}, index {first['index']}"
        facts.insert(1, ("first mismatch", first.get("text", where)))
    return _facts("Simulation", facts)


def _frames(simulated: Summary) -> str:
    """How many ran, and how many were asked for where those are fewer."""
    asked, ran = simulated["frames"], simulated.get("frames_run", simulated["frames"])
    return f"{count(ran)}, {count(asked)} asked for" if ran > asked else count(asked)


_ENERGY = {
    "registers_nj": "registers, wires",
    "logic_nj": "look-up tables",
    "multipliers_nj": "multipliers",
    "block_ram_nj": "block RAM",
}


def energy(compiled: Summary, simulated: Summary, clock_mhz: float | None = None) -> View | None:
    """Where the energy of a frame goes, where the simulation counted what changes.

    ``clock_mhz``: of the bitstream, by default what the plan asks for.
    """
    found = simulated.get("energy")
    if found is None:
        return None
    names = {row["stage"]: row["name"] for row in reversed(compiled["layers"])}
    whole = found["dynamic_nj"]

    def row(name: str, toggles: float, shares: Iterable[float]) -> tuple[Cell, ...]:
        nanojoules = tuple(shares)
        each = (_energy(share) for share in nanojoules)
        return (
            name,
            count(toggles),
            *each,
            _energy(sum(nanojoules)),
            Share(sum(nanojoules) / whole if whole else 0.0),
        )

    parts = found["parts"]
    rows = [
        row(
            names.get(part["stage"], part["stage"] or "between the layers"),
            part["toggles"],
            (part[share] for share in _ENERGY),
        )
        for part in parts
    ]
    sums = (sum(part[share] for part in parts) for share in _ENERGY)
    rows.append(row("all", sum(part["toggles"] for part in parts), sums))
    return View(
        "Energy a frame",
        ("layer", "changes", *_ENERGY.values(), "sum", "share"),
        tuple(rows),
        frozenset({"layer"}),
        tuple(_about_energy(compiled, simulated, clock_mhz or compiled.get("target_mhz"))),
        omitted=("changes", *_ENERGY.values()),
    )


def _energy(nanojoules: float) -> str:
    large = nanojoules >= 1000
    return f"{_three(nanojoules / 1000)} µJ" if large else f"{_three(nanojoules)} nJ"


def _about_energy(compiled: Summary, simulated: Summary, clock_mhz: float | None) -> Iterator[str]:
    found = simulated["energy"]
    dynamic, idle_mw = found["dynamic_nj"], found["idle_mw"]
    rate = f"a frame with frames back to back at {clock_mhz:.1f} MHz" if clock_mhz else "a frame"
    microseconds = compiled["interval_cycles"] / clock_mhz if clock_mhz else None
    if microseconds and idle_mw is not None:
        idle = idle_mw * microseconds
        yield (
            f"{_energy(dynamic + idle)} {rate}: {_energy(dynamic)} of this table and "
            f"{_energy(idle)} for {idle_mw:.0f} mW, what a board with such a chip takes in reset; "
            f"{(dynamic + idle) / microseconds:.0f} mW in all."
        )
    else:
        power = f", {dynamic / microseconds:.0f} mW" if microseconds else ""
        yield f"{_energy(dynamic)} {rate}{power}, without what the chip takes when idle."
    yield (
        f"An estimate, nothing is measured here. Changes of registers, counted in simulation, take "
        f"{found['toggle_pj']:.3f} pJ each, what {found['source']} was measured to take; look-up "
        "tables are taken to change as often as the registers of their layer do. A multiplication "
        f"takes {found['multiply_pj']:.1f} pJ and an access to a block RAM "
        f"{found['access_pj']:.1f} pJ, by figures for 45 nm (Horowitz, ISSCC 2014). Not included: "
        "wires longer than in that chain, and glitches."
    )


# Build.


def timing(built: Summary) -> View:
    """The clock asked for, and what the routed design and the chip allow."""
    facts = [
        ("timing", "met" if built["timing_met"] else "NOT met"),
        ("asked for", f"{built['target_mhz']:.1f} MHz"),
    ]
    if "clock_mhz" in built:
        facts.append(("made by the PLL", f"{built['clock_mhz']:.1f} MHz"))
    routed = float(built.get("routed_mhz", built["fmax_mhz"]))
    facts.append(("routed", f"{routed:.1f} MHz by place and route"))
    if built.get("limit_mhz"):
        facts += [
            (
                "limit of the chip",
                f"{built['limit_mhz']:.1f} MHz by the data sheet ({built.get('limit_reason', '')})",
            ),
            ("allowed", f"{built['fmax_mhz']:.1f} MHz, the smaller of the two"),
        ]
    if built.get("highest_mhz"):
        more = built["timing_met"] and built["highest_mhz"] > built.get("clock_mhz", inf)
        facts.append(
            (
                "highest PLL clock",
                f"{built['highest_mhz']:.1f} MHz of those allowed"
                + ("; build --target-mhz max searches from there" if more else ""),
            )
        )
    facts.append(("seed", str(built["seed"])))
    if len(built.get("seeds", {})) > 1:
        facts.append(("median of the seeds", f"{built['median_mhz']:.1f} MHz"))
    facts += [
        ("bitstream", built["bitstream"] or "none"),
        ("time", f"{built['wall_seconds']:.0f} s"),
    ]
    return _facts("Timing", facts)


# Bench.


_NO_FLOATS = (
    "Nothing is compared with the float network: the directory was compiled from a quantized one."
)


def benchmark(measured: Summary) -> View:
    """The FPGA, then each reference, with what the FPGA gains over it."""
    fpga = measured["fpga"]
    rows = [_fpga("FPGA", fpga["latency_us"], fpga["fps"], f"computed, {fpga['how']} cycles")]
    if (fpga.get("highest_mhz") or 0) > fpga["clock_mhz"]:
        rows.append(
            _fpga(
                f"FPGA at {fpga['highest_mhz']:.0f} MHz",
                fpga["highest_latency_us"],
                fpga["highest_fps"],
                "computed, not this bitstream",
            )
        )
    if fpga.get("link_fps") is not None:
        rows.append(
            _fpga("FPGA through the serial link", None, fpga["link_fps"], "computed, serial line")
        )
    for entry, gain in zip(measured["cpu"], measured["speedup"], strict=True):
        rows.append(
            (
                entry["name"],
                str(entry["threads"]),
                _micro(entry["latency_us"]),
                count(entry["fps"]),
                _times(gain["latency"]),
                _times(gain["fps"]),
                entry["how"],
            )
        )
    notes = (
        f"FPGA: cycles: {fpga['cycles_source']}; clock: {fpga['clock_mhz']:.1f} MHz "
        f"({fpga['clock_source']}){_highest(fpga)}.",
        f"Products: {fpga['gmacs']:.3g} billion a second (GMAC/s). MAC utilization: "
        f"{_percent(fpga['mac_utilization'])} of what its multipliers could give, "
        f"{_percent(fpga['device_utilization'])} of what all DSP blocks of the device could"
        f"{_above(fpga['device_utilization'])}.",
        "CPU: latency is the median of one frame at a time, frames a second the better of that and "
        f"batches (the golden model: one at a time); {measured['inputs']}.",
        "Gain: how many times faster the FPGA of the first row is; below 1 the CPU is faster.",
        *(() if measured.get("float_network", True) else (_NO_FLOATS,)),
    )
    return View(
        "Benchmark",
        ("", "threads", "latency", "frames/s", "latency gain", "rate gain", "how"),
        tuple(rows),
        frozenset({"", "how"}),
        notes,
    )


def _above(share: float | None) -> str:
    """Why a plan may give more than all DSP blocks."""
    return "" if share is None or share <= 1 else "; it makes products in logic too"


def _fpga(name: str, latency_us: float | None, fps: float, how: str) -> tuple[Cell, ...]:
    """A row of the benchmark for the FPGA."""
    return (name, _UNKNOWN, _micro(latency_us), count(fps), _UNKNOWN, _UNKNOWN, how)


def _highest(fpga: Summary) -> str:
    """What the routed design allows, if it was routed."""
    if fpga.get("highest_mhz") is None:
        return ""
    return (
        f"; the highest clock of the PLL that the routed design and the chip allow is "
        f"{fpga['highest_mhz']:.1f} MHz"
    )


# Accuracy.


def accuracy(found: Summary) -> View:
    """Classes: float, integer, and the reference runtime."""
    floats, integer, reference = found["float"], found["integer"], found["reference_runtime"]
    whole, layer = reference["end_to_end"], reference["layer_by_layer"]
    label = f"on {count(found['samples'])} samples"
    facts = []
    if floats:
        facts.append(("float", f"{_percent(floats['top1'], 2)} right {label} ({floats['model']})"))
    if integer:
        facts.append(
            ("integer", f"{_percent(integer['top1'], 2)} right {label} ({integer['model']})")
        )
    facts += _static(found.get("runtime_int8"), label)
    if found["agreement"] is not None:
        facts.append(("float and integer agree", f"{_percent(found['agreement'], 2)} {label}"))
    if whole["agreement"] is not None:
        facts.append(
            ("reference runtime, winning class", f"{_percent(whole['agreement'], 2)} alike {label}")
        )
    if whole["fraction"] is not None:
        apart = (
            f"{_rare(whole['fraction'])} of the values differ, by at most {whole['largest']:.3g}"
        )
        facts.append(
            ("reference runtime, outputs", apart if whole["fraction"] else "all values are equal")
        )
    facts.append(
        (
            "reference runtime, layer by layer",
            f"{_differing(layer)} ({layer['frames']} frames)",
        )
    )
    notes = [f"Reference runtime: {reference['runtime']}, on model.int8.onnx."]
    if layer["missing"]:
        notes.append(
            "Not a separate part of the file, so seen end to end only: "
            + ", ".join(layer["missing"])
            + "."
        )
    if found["sqnr"] is None:
        notes.append(_NO_FLOATS)
    if not found["labelled"]:
        notes.append("The samples have no labels (y), so there is no accuracy.")
    return _facts("Accuracy", facts, *notes)


def _differing(layer: Summary) -> str:
    """How many values of all layers differ, and by how much."""
    if layer["fraction"] == 0:
        return f"all {_large(layer['values'])} values are equal"
    steps = "1 step" if layer["largest"] == 1 else f"{layer['largest']} steps"
    return (
        f"{_rare(layer['fraction'])} of {_large(layer['values'])} values differ, by at most {steps}"
    )


def _static(found: Summary | None, label: str) -> list[tuple[str, str]]:
    """A fact for each of ONNX Runtime's own int8 networks."""
    if found is None:
        return []
    facts = []
    for row in found["rows"]:
        said = [f"{_percent(row['top1'], 2)} right {label}"] if row.get("top1") is not None else []
        if row.get("agreement") is not None:
            said.append(f"{_percent(row['agreement'], 2)} the class of the float network")
        if "failed" in row:
            said = [row["failed"]]
        facts.append((f"{found['runtime']} int8", f"{', '.join(said)} ({row['recipe']})"))
    if "failed" in found:
        facts.append((f"{found['runtime']} int8", found["failed"]))
    return facts


def widths(compiled: Summary) -> View | None:
    """What a search for widths came to; None where there was none."""
    found = compiled.get("widths")
    if found is None:
        return None
    against = "labels" if found["labelled"] else "classes of the float network"
    need, usual = found["need"], found["usual_need"]
    facts = [
        (
            "accuracy",
            f"{found['drop']:.2f} points lost, {found['max_drop']:g} allowed, "
            f"{found['usual_drop']:.2f} with 8 bits ({count(found['tested'])} samples, {against})",
        ),
        ("bits of weights", _bits(found["weights"])),
        ("bits of activations", _bits(found["activations"])),
    ]
    if need and usual:
        facts += [
            (name, f"{count(need[key])} instead of {count(usual[key])}")
            for key, name in resource_names(logic_unit(compiled)).items()
            if key in need
        ]
    return _facts("Widths", facts, "Resources: in the folding that 8 bits have for this goal.")


def _bits(by_name: Mapping[str, int]) -> str:
    """How many tensors have which width; all others have 8."""
    numbers = Counter(by_name.values())
    return ", ".join(f"{bits}: {number}" for bits, number in sorted(numbers.items())) or "8"


def outputs(found: Summary) -> View:
    """A row for each output, where there are several."""
    several = found.get("outputs", ())
    rows = [
        (
            row["name"],
            _percent(row["agreement"], 2),
            _percent(row["end_to_end"]["agreement"], 2),
            _rare(row["end_to_end"]["fraction"]),
            _UNKNOWN
            if row["end_to_end"]["largest"] is None
            else f"{row['end_to_end']['largest']:.3g}",
        )
        for row in several
    ]
    return View(
        "Outputs",
        ("name", "classes as float", "classes as runtime", "runtime differs", "by at most"),
        tuple(rows) if len(rows) > 1 else (),
        frozenset({"name"}),
    )


def accuracy_layers(found: Summary) -> View:
    """Noise against the float network, and the reference runtime, a row a layer; the layer that
    adds most noise by itself is the first.
    """
    noise = {row["output"]: row for row in (found["sqnr"] or {"layers": []})["layers"]}
    seen = {row["output"]: row for row in found["reference_runtime"]["layer_by_layer"]["layers"]}
    own = {output: db for output, row in noise.items() if (db := row.get("own_db")) is not None}
    rows = []
    for output in sorted(dict.fromkeys([*seen, *noise]), key=lambda name: own.get(name, inf)):
        row, db = seen.get(output), noise.get(output, {}).get("sqnr_db")
        any_row = row or noise[output]
        rows.append(
            (
                any_row["name"],
                any_row["op"],
                _own(own.get(output)),
                _UNKNOWN if db is None else f"{db:.1f} dB",
                _rare(row["fraction"]) if row else _UNKNOWN,
                str(row["largest"]) if row else _UNKNOWN,
            )
        )
    return View(
        "Layers: float against integer, and the reference runtime",
        ("layer", "operator", "own SQNR", "SQNR", "runtime differs", "largest step"),
        tuple(rows),
        frozenset({"layer", "operator"}),
        tuple(_about_own(own.values())),
    )


def _own(db: float | None) -> str:
    """The noise that a layer adds by itself."""
    return _UNKNOWN if db is None else "exact" if db > EXACT_DB else f"{db:.1f} dB"


def _about_own(found: Collection[float]) -> Iterator[str]:
    """What the column means, where it is known."""
    if found:
        yield "Own SQNR: the noise that a layer adds by itself; the largest first."
    if any(db > EXACT_DB for db in found):
        yield "Exact: but for the float network's own rounding in float32."


# Design space.


def explored(points: Sequence[Summary], unit: str, title: str = "Design space") -> View:
    """A row a plan, the fastest first; ``*`` marks those on the front. ``unit``: what ``lut`` of
    the points counts.
    """
    built = any(point.get("built") for point in points)
    rows = tuple(
        (
            "*" if point.get("pareto") else "",
            _plan_name(point.get("plan")),
            count(round(point["fps"])),
            count(point["interval"]),
            *(_costs(point) if point["fits"] else (_UNKNOWN,) * 6 + ("does not fit",)),
            *(_clock(point.get("built")) if built else ()),
        )
        for point in points
    )
    return View(
        title,
        (
            "",
            "plan",
            "frames/s",
            "interval",
            "latency",
            "mult.",
            unit,
            "FFs",
            "DSP",
            "BRAM",
            "chip",
            *(("allowed", "built frames/s") if built else ()),
        ),
        rows,
        frozenset({"", "plan"}),
        (
            "Plan: its file in plans/, called after the interval in cycles and a hash of the plan. "
            "Intervals that lead to the same plan are one row. Plans may have soft multipliers and "
            "adder trees, as with compile --goal fps.",
            f"Frames/s: at the board's target clock. Chip: mean share of {unit}, flip-flops, DSP "
            "blocks and block RAMs, by estimate.",
            "* front: the best for some exchange rate of speed against chip, or the least latency.",
        ),
        omitted=("FFs", "latency"),
    )


def _plan_name(file: str | None) -> str:
    """The name of a plan's file, without the folder and the suffix."""
    return _UNKNOWN if file is None else file.rpartition("/")[2].removesuffix(".json")


def _costs(point: Summary) -> tuple[str, ...]:
    figures = ("latency", "multipliers", "lut", "ff", "dsp", "bram")
    return (*(count(point[what]) for what in figures), f"{100 * point['share']:.1f} %")


def _clock(built: Summary | None) -> tuple[str, str]:
    """The clock that a built plan allows, and its rate at the clock of the bitstream."""
    if built is None:
        return _UNKNOWN, _UNKNOWN
    if built.get("fmax_mhz") is None:
        return "does not fit", _UNKNOWN
    allowed = f"{built['fmax_mhz']:.1f} MHz"
    return allowed, count(round(built["fps"])) if built["timing_met"] else "too slow"


# Versions.


def machine(measured: Summary) -> View:
    """Where the CPU was measured."""
    names = {
        "cpu": "CPU",
        "cores": "cores",
        "python": "Python",
        "onnxruntime": "ONNX Runtime",
        "numpy": "NumPy",
    }
    return _facts(
        "Machine",
        [
            (name, str(measured["machine"][key]))
            for key, name in names.items()
            if key in measured["machine"]
        ],
    )


def commands(ran: Summary) -> View:
    """What was typed, in the order in which it ran."""
    return _facts("Commands", [(step, str(entry["command"])) for step, entry in ran.items()])


def made_with(ran: Summary) -> View:
    """Versions of what ran the commands; those of one name that differ by step are all named."""
    found: dict[str, dict[str, None]] = {}
    for entry in ran.values():
        for name, version in entry["versions"].items():
            found.setdefault(name, {})[str(version)] = None
    return _facts("Versions", [(name, ", ".join(numbers)) for name, numbers in found.items()])


def versions(built: Summary) -> View:
    """The tools that made the bitstream."""
    return _facts("Tools", [(name, str(version)) for name, version in built["tools"].items()])

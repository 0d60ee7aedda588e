"""Write ``results.md``: our table, the CPU's table, and figures that others published."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gatewright.benchmarks.icarus import PART
from gatewright.benchmarks.networks import SEED

__all__ = ["QUOTED", "Quoted", "page"]

Record = Mapping[str, Any]

_NONE = "-"
_NOT_ROUTED = "not routed"


@dataclass(frozen=True)
class Quoted:
    """Microseconds a frame, and frames a second, that somebody else published, and under which
    conditions; None: not given.
    """

    benchmark: str
    who: str
    latency_us: float | None
    conditions: str
    fps: float | None = None


_GAP9, _SNAPDRAGON = "processor at 370 MHz", "next-generation Snapdragon, mobile"
QUOTED = (
    Quoted("image classification", "NN2FPGA", 46, "KV260, 8 bits, 6.67 W", 30_153),
    Quoted("image classification", "NN2FPGA", None, "KV260, 4 bits", 61_035),
    Quoted("image classification", "FINN", None, "K26, 4 bits", 13_475),
    Quoted("image classification", "Qualcomm", 95.8, _SNAPDRAGON),
    Quoted("image classification", "fpgaConvNet", 147, "ZC706, 525 DSPs"),
    Quoted("image classification", "fpgaConvNet", 411, "ZedBoard, 211 DSPs"),
    Quoted("image classification", "GAP9", 616, _GAP9),
    Quoted("image classification", "Vitis AI", 955, "K26, DPU B4096", 1_024),
    Quoted("image classification", "FINN", 1_512, "1 bit"),
    Quoted("image classification", "hls4ml", 7_643, "PYNQ-Z2"),
    Quoted("keywords", "FINN", 17.5, "MLP of 3 bits, 82.5 % right"),
    Quoted("keywords", "Qualcomm", 65.0, _SNAPDRAGON),
    Quoted("keywords", "fpgaConvNet", 324, "DS-CNN"),
    Quoted("keywords", "GAP9", 476, _GAP9),
    Quoted("wake words", "Qualcomm", 114, _SNAPDRAGON),
    Quoted("wake words", "ANPU", 216, "VCU128"),
    Quoted("wake words", "fpgaConvNet", 720, "ZC706"),
    Quoted("wake words", "GAP9", 1_125, _GAP9),
    Quoted("wake words", "fpgaConvNet", 9_487, "ZedBoard"),
    Quoted("anomalies", "hls4ml", 18.7, "AUC 0.83"),
    Quoted("anomalies", "Qualcomm", 68.4, _SNAPDRAGON),
    Quoted("anomalies", "GAP9", 176, _GAP9),
)


def page(records: Sequence[Record], source: str) -> str:
    """The page; ``source`` is the hash of the sources as they are."""
    return (
        "\n\n".join(
            [
                "# Benchmark results",
                "Made by `make bench`; do not edit. Networks: `benchmarks/networks.py` (the "
                f"topologies of MLPerf Tiny with weights drawn from seed {SEED}, 8 bits; trained "
                "digits). Nothing here was measured on a board: **FPGA figures are cycles counted "
                "in simulation over the routed clock**, from the first beat of a frame in to its "
                "last beat out, without the link to a host. CPU figures are measured.",
                "## FPGA",
                _fpga(records),
                *_fpga_notes(records, source),
                "## Simulation",
                _simulation(records),
                _SIMULATION_NOTE,
                "## CPU",
                _cpu(records),
                *_cpu_notes(records),
                "## Published by others",
                _quoted(),
                "## Where",
                _where(records),
            ]
        )
        + "\n"
    )


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]], words: int) -> str:
    """In Markdown; the first ``words`` columns are text, the others numbers."""
    rule = ["---"] * words + ["--:"] * (len(columns) - words)
    lines = [columns, rule, *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- numbers as people read them ----------------------------------------------------------------


def _count(number: float | None) -> str:
    return _NONE if number is None else f"{number:,.0f}"


def _micro(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _percent(part: float | None) -> str:
    return _NONE if part is None else f"{100 * part:.1f} %"


def _pair(values: Sequence[str]) -> str:
    """Alike ones once."""
    return " / ".join(dict.fromkeys(values))


# --- FPGA ---------------------------------------------------------------------------------------


_COLUMNS = (
    "network",
    "variant",
    "board",
    "bit-exact",
    "interval, cycles",
    "latency, cycles",
    "Fmax median / best, MHz",
    "asked, MHz",
    "latency median / best, µs",
    "frames/s median / best",
    "MAC utilization",
    "of the device",
    "DSP",
    "LUT",
    "block RAM",
    "energy ≈ µJ",
    "compile / simulate / build / bench, s",
)


def _fpga(records: Sequence[Record]) -> str:
    return _table(_COLUMNS, [_row(record) for record in records], 4)


def _row(record: Record) -> list[str]:
    names = [record["title"], record["variant"], record["board"]]
    if not record["compile"]:
        return [
            *names,
            "not compiled" if record["failed"] else "not run",
            *[_NONE] * (len(_COLUMNS) - 4),
        ]
    exact, interval, latency = _cycles(record)
    macs, products = record["compile"]["macs"], record["compile"]["products_per_cycle"]
    whole = record["bench"].get("fpga", {}).get("device_multipliers")
    return [
        *names,
        exact,
        _count(interval),
        _count(latency),
        *_clocked(record, interval, latency),
        _percent(_share(macs, products, interval)),
        _percent(_share(macs, whole, interval)),
        _used(record, "dsp", share=True),
        _used(record, "lut"),
        _used(record, "bram"),
        _energy(record, interval),
        _seconds(record),
    ]


def _cycles(record: Record) -> tuple[str, int, int]:
    """Whether RTL equals the golden model; interval and latency, simulated if it does."""
    seen, planned = record["simulate"], record["compile"]
    if not seen:
        return "not simulated", planned["interval_cycles"], planned["latency_cycles"]
    if seen["mismatches"]:
        return (
            f"NO: {seen['mismatches']} of {seen['values']}",
            planned["interval_cycles"],
            planned["latency_cycles"],
        )
    return (
        f"yes, {seen['values']:,} values of {seen['frames_run']} frames",
        seen["interval_cycles"],
        seen["latency_cycles"],
    )


def _clocks(record: Record) -> list[float]:
    """Median and best of the routed seeds, neither above the documented limit."""
    built = record["build"]
    if not built:
        return []
    return [min(built["median_mhz"], built["limit_mhz"]), built["fmax_mhz"]]


def _clocked(record: Record, interval: int, latency: int) -> list[str]:
    """The columns of the clock: Fmax, what was asked for, and what follows from both."""
    clocks, built = _clocks(record), record["build"]
    if not clocks:
        asked = record["target_mhz"]
        return [
            "build failed" if "build" in record["failed"] else _NOT_ROUTED,
            f"{asked:g}",
            f"({_micro(latency / asked)})",
            f"({_count(asked * 1e6 / interval)})",
        ]
    seeds = len(built["seeds"])
    met = "met" if built["timing_met"] else "NOT met"
    return [
        f"{_pair([f'{mhz:.1f}' for mhz in clocks])}, {seeds} seed{'s' if seeds > 1 else ''}",
        f"{built['target_mhz']:g}, {met}",
        _pair([_micro(latency / mhz) for mhz in clocks]),
        _pair([_count(mhz * 1e6 / interval) for mhz in clocks]),
    ]


def _share(macs: int, products: int | None, interval: int) -> float | None:
    return macs / (products * interval) if products else None


def _used(record: Record, resource: str, share: bool = False) -> str:
    """What place and route used; the plan's estimate, marked, before."""
    routed = record["build"].get("utilization", {}).get(resource)
    if routed:
        used, there, mark = routed["used"], routed["available"], ""
    else:
        used, there = (
            record["compile"]["estimate"][resource],
            record["compile"]["available"][resource],
        )
        mark = "≈ "
    return f"{mark}{_count(used)}" + (f" ({100 * used / there:.0f} %)" if share else "")


def _energy(record: Record, interval: int) -> str:
    """Microjoules a frame, estimated: what changes, and what the board takes when idle."""
    found = record["energy"]
    if not found:
        return _NONE
    dynamic, idle = found["dynamic_nj"] / 1000, found["idle_mw"]
    if idle is None:
        return _micro(dynamic)
    clock = (_clocks(record) or [record["target_mhz"]])[0]
    return f"{_micro(dynamic)} + {_micro(idle * interval / clock / 1000)}"


def _seconds(record: Record) -> str:
    return " / ".join(
        f"{record['seconds'][step]:.0f}" if step in record["seconds"] else _NONE
        for step in ("compile", "simulate", "build", "bench")
    )


def _fpga_notes(records: Sequence[Record], source: str) -> list[str]:
    lines = [
        "Bit-exact: every value of the network's output equals the golden model's. A classifier "
        "has few of them a frame, and the layers before are not compared one by one here.",
        "Variants: `fast`, the default, multiplies in DSP blocks only and gets two products from "
        "each where a layer allows it (fast inner product), three where its filters are three taps "
        "wide too (minimal filtering), four and a half where they are 3 x 3; `small` is the same "
        "for a board with 28 DSP blocks and 56 block RAMs. `latency` is for the least latency, "
        "`rate` and `w4a4` for the least interval, with multipliers and adder trees in soft logic "
        "too; `w4a4` has 4-bit weights and activations but for the first and the last layer, which "
        "`--bits w4a4` alone narrows too. "
        "MAC utilization: products of a frame over those that "
        "its multipliers give in an interval; of the device: over those that its DSP blocks would "
        "give, packed like the stage that gets the most from a block, so that soft ones can lift "
        "it above 100 %.",
    ]
    lines.append(
        "Energy of a frame: an estimate, nothing is measured. The first number is of what changes: "
        "changes of registers, counted in the simulation of the accelerator, times the energy that "
        "others measured for one in such a chip; look-up tables, multiplications and block RAM by "
        "published figures too ([formula](../docs/explain/energy.md)). The second is what a board "
        "with such a chip takes in reset, 202 mW (25F: 147 mW), for an interval; iCE40: without."
    )
    lines.append("Seconds are wall-clock time of each step, other work on the machine included.")
    if any(not record["build"] for record in records):
        lines.append(
            "Not routed: figures in brackets are for the clock that is asked for, and "
            "≈ marks the plan's estimate."
        )
    old = [
        f"{record['network']}-{record['variant']}"
        for record in records
        if record["compile"] and record["source"] != source
    ]
    if old:
        lines.append(f"Of an earlier state of the sources: {', '.join(old)}.")
    lines += [
        f"{record['network']}-{record['variant']}, {step} failed: {why}"
        for record in records
        for step, why in record["failed"].items()
    ]
    return ["\n".join(f"- {line}" for line in lines)]


# --- simulation ---------------------------------------------------------------------------------

_SIMULATION_NOTE = (
    "- RTL of the whole network under cocotb, every stage at work, every value of the output "
    "compared; cycles a second on one core, other work on the machine included. HDL sources and "
    "sinks move the beats. Icarus, an interpreter, runs the same RTL and bench for the first "
    f"{_percent(PART)} of a frame; stages far from the input are idle for much of that, to its "
    "advantage."
)


def _simulation(records: Sequence[Record]) -> str:
    """A row an entry: Verilator's pace, and Icarus' where it was run."""
    rows = []
    for record in records:
        seen, slow = record["simulate"], record["icarus"]
        if not seen:
            continue
        pace = seen["cycles_per_second"]
        rows.append(
            [
                record["title"],
                record["variant"],
                _count(seen["cycles"]),
                _count(seen["build_seconds"]),
                _count(pace),
                _count(slow["cycles_per_second"]) if slow else _NONE,
                f"{pace / slow['cycles_per_second']:.0f}x" if slow else _NONE,
            ]
        )
    return _table(
        [
            "network",
            "variant",
            "cycles simulated",
            "build, s",
            "Verilator, cycles/s",
            "Icarus, cycles/s",
            "ratio",
        ],
        rows,
        2,
    )


# --- CPU ----------------------------------------------------------------------------------------

#: measured along, but nobody would deploy it
_GOLDEN = "NumPy golden model"


def _cpu(records: Sequence[Record]) -> str:
    """A row a network: microseconds a frame alone, and the better rate of that and batches."""
    measured: dict[str, dict[tuple[str, int], str]] = {}
    for record in records:
        for entry in (*record["bench"].get("cpu", []), *record["litert"].get("cpu", [])):
            if entry["name"] != _GOLDEN:
                measured.setdefault(record["title"], {}).setdefault(
                    (entry["name"], entry["threads"]),
                    f"{_micro(entry['latency_us'])} ({_count(entry['fps'])}/s)",
                )
    if not measured:
        return "Not measured."
    kinds = list(dict.fromkeys(kind for row in measured.values() for kind in row))
    heads = [f"{name}, {threads} thread{'s' if threads > 1 else ''}" for name, threads in kinds]
    rows = [[title, *(row.get(kind, _NONE) for kind in kinds)] for title, row in measured.items()]
    return _table(["network", *heads], rows, 1)


def _cpu_notes(records: Sequence[Record]) -> list[str]:
    lines = [
        "Microseconds a frame, one at a time (median); in brackets frames a second, the better of "
        "that and batches of 32 (LiteRT: no batches). The networks are those of the first variant "
        "of each, the frames test frames in turn."
    ]
    if any(record["litert"] for record in records):
        lines.append(
            "LiteRT (XNNPACK) runs the same integer network, written as a .tflite by "
            "`benchmarks/litert.py`; without the conversions to and from float and "
            "without Softmax, which ONNX Runtime's figures have."
        )
    else:
        lines.append("LiteRT: not installed (`pip install ai-edge-litert`).")
    noted = [
        record["load"].get(step)
        for record in records
        for step in ("bench", "litert")
        if record[step]
    ]
    if noted:
        known = [load for load in noted if load is not None]
        seen = (
            f"{min(known):g} to {max(known):g}" if len(known) == len(noted) else "not noted for all"
        )
        cores = max(record["bench"]["machine"]["cores"] for record in records if record["bench"])
        lines.append(
            "Other work on the machine counts against the CPU, most of all with several "
            f"threads and in batches. Load average before each measurement: {seen}, on "
            f"{cores} cores. At rest, `--again bench --again litert` measures anew."
        )
    return ["\n".join(f"- {line}" for line in lines)]


# --- others -------------------------------------------------------------------------------------


def _quoted() -> str:
    rows = [
        [
            one.benchmark,
            one.who,
            one.conditions,
            _NONE if one.latency_us is None else _micro(one.latency_us),
            _count(one.fps),
        ]
        for one in QUOTED
    ]
    return (
        _table(["MLPerf Tiny benchmark", "who", "conditions", "latency, µs", "frames/s"], rows, 3)
        + "\n\nQuoted, not measured here. Most are results of MLPerf Tiny, single stream: a frame "
        "at a time on a whole board with its input and output. Those of NN2FPGA, FINN on a K26 and "
        "Vitis AI are of ResNet-8 outside of it, with frames following each other. Ours is the "
        "accelerator alone, in simulation, with weights that are not trained. GAP9's figures and "
        "hls4ml's of image classification follow from the median rates in the result files of "
        "MLPerf Tiny 1.0 (closed and open division), Qualcomm's from those of 1.3 (closed); the "
        "others are quoted as given."
    )


# --- where --------------------------------------------------------------------------------------


def _where(records: Sequence[Record]) -> str:
    facts: dict[str, str] = {}
    for record in records:
        facts |= {name: str(value) for name, value in record["bench"].get("machine", {}).items()}
        facts |= {name: str(value) for name, value in record["build"].get("tools", {}).items()}
        if record["litert"]:
            facts["ai-edge-litert"] = record["litert"]["version"]
        if record["simulate"]:
            facts["simulator"] = record["simulate"]["simulator"]
    facts["seed of weights"] = str(SEED)
    return _table(["", "value"], facts.items(), 2)

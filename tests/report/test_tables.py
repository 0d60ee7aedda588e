"""The terminal shows the numbers of the summaries, with their units."""

import io

import pytest
from gatewright.compiler.report import tables, views
from rich.console import Console

from .summaries import ALL, POINTS

COMPILE, SIMULATE, BUILD = ALL["compile"], ALL["simulate"], ALL["build"]

CHECK = {
    "nodes": [
        {"name": "n", "op": "Det", "verdict": "unsupported", "reason": "why", "change": "what"}
    ],
    "macs": 2_000_000,
    "parameters": 1500,
    "boards": [
        {
            "name": "small",
            "fits": False,
            "interval_cycles": None,
            "fps": None,
            "how": "planned",
            "lacking": [{"what": "block RAMs", "needed": 30, "available": 26}],
        }
    ],
}


def shown(*found):
    console = Console(file=io.StringIO(), width=150)
    for table in found:
        console.print(table)
    return console.file.getvalue()


def row(text, start):
    return next(line.split() for line in text.splitlines() if line.strip().startswith(start))


@pytest.mark.parametrize(
    ("found", "titles"),
    [
        (tables.check(CHECK), ["Nodes", "Network", "Boards"]),
        (
            tables.check(COMPILE | CHECK),
            ["Nodes", "Network", "Boards", "Plan", "Inputs and outputs", "Layers", "Resources"],
        ),
        (tables.compile(COMPILE), ["Plan", "Inputs and outputs", "Layers", "Resources"]),
        (tables.simulate(SIMULATE, COMPILE), ["Simulation", "Cycles"]),
        (tables.build(BUILD, COMPILE), ["Timing", "Resources"]),
        (tables.bench(ALL["bench"]), ["Benchmark", "Machine"]),
        (
            tables.accuracy(ALL["accuracy"]),
            ["Accuracy", "Layers: float against integer, and the reference runtime"],
        ),
        (tables.explore({"points": POINTS}), ["Design space"]),
    ],
)
def test_each_command_has_its_tables(found, titles):
    assert [table.title for table in found] == titles
    shown(*found)


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_word_is_broken(width):
    found = [
        *tables.check(CHECK | COMPILE),
        *tables.simulate(SIMULATE, COMPILE),
        *tables.build(BUILD, COMPILE),
        *tables.bench(ALL["bench"]),
        *tables.accuracy(ALL["accuracy"]),
        *tables.explore({"points": POINTS}),
        *tables.explore({"points": POINTS, "logic_unit": "logic cells"}),
    ]
    for each in found:
        console = Console(file=io.StringIO(), width=width, soft_wrap=True)
        console.print(each)
        text = console.file.getvalue()
        assert max(map(len, text.splitlines())) <= width
        words = {
            word
            for row in each.view.rows
            for heading, cell in zip(each.view.columns, row, strict=True)
            if heading not in each.view.omitted
            for word in str(cell).split()
        }
        assert words <= set(text.split())


def test_a_table_that_is_too_wide_has_a_line_for_each_cell():
    console = Console(file=io.StringIO(), width=40)
    console.print(tables.table(views.ports(COMPILE)))
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["name", "scores"] in lines
    assert ["beats", "a", "frame", "5"] in lines


@pytest.mark.parametrize(
    ("width", "left_out"), [(78, ()), (68, ("MACs",)), (56, ("MACs", "operator"))]
)
def test_layers_are_a_table_in_a_narrow_terminal(width, left_out):
    first, second = COMPILE["layers"]
    rows = [first | {"name": "/model/features/conv"}, second | {"op": "AveragePool"}]
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    console.print(tables.table(views.layers(COMPILE | {"layers": rows})))
    text = console.file.getvalue()
    header = next(line for line in text.splitlines() if "simd" in line).split()
    full = ["layer", "operator", "MACs", "simd", "pe", "mult.", "BRAM", "cycles", "share"]
    assert header == [heading for heading in full if heading not in left_out]
    assert f"{' and '.join(left_out)}: in a wider terminal." in text or not left_out


def test_a_check_shows_every_verdict_and_what_is_lacking():
    text = shown(*tables.check(CHECK))
    assert row(text, "n ") == ["n", "Det", "unsupported", "why", "what"]
    assert row(text, "products")[-2:] == ["2", "M"]
    assert row(text, "small")[1:] == ["no", "-", "-", "planned", "30", "block", "RAMs", "of", "26"]


def test_a_check_explains_what_a_plan_may_take_and_a_goal_that_is_missed():
    assert "of what a plan may take" in shown(*tables.check(CHECK))
    slow = {"what": "cycles a frame", "needed": 4608, "available": 1200}
    boards = [CHECK["boards"][0] | {"lacking": [slow]}]
    text = shown(*tables.check(CHECK | {"boards": boards}))
    assert "the goal is 1,200 cycles a frame, a plan takes at least 4,608" in text
    assert "of what a plan may take" not in text


def test_a_port_shows_its_type_and_its_beats():
    line = row(shown(*tables.compile(COMPILE)), "in ")
    assert line == ["in", "image", "<in>", "1", "x", "8", "x", "8", "float32", "i8", "1", "64"]


def test_several_outputs_are_compared_one_by_one():
    end_to_end = {"agreement": 0.5, "fraction": 0.25, "largest": 2.0}
    rows = [
        {"name": "scores", "agreement": 0.75, "end_to_end": end_to_end},
        {"name": "map", "agreement": None, "end_to_end": end_to_end | {"agreement": None}},
    ]
    found = tables.accuracy(ALL["accuracy"] | {"outputs": rows})
    assert [table.title for table in found][1] == "Outputs"
    text = shown(*found)
    assert row(text, "scores")[1:] == ["75.00", "%", "50.00", "%", "25.00", "%", "2"]
    assert row(text, "map")[1:] == ["-", "-", "25.00", "%", "2"]
    lone = tables.accuracy(ALL["accuracy"] | {"outputs": rows[:1]})
    assert "Outputs" not in [table.title for table in lone]


def test_a_layer_shows_its_folding_and_its_share_of_the_interval():
    line = row(shown(*tables.compile(COMPILE)), "pool")
    assert line[:8] == ["pool", "MaxPool", "0", "1", "2", "0", "0", "1,000"]
    assert line[-2:] == ["25", "%"]


def test_estimates_are_held_against_the_build():
    text = shown(*tables.build(BUILD, COMPILE))
    assert row(text, "LUTs")[:6] == ["LUTs", "5,000", "6,250", "-20.0", "%", "24,288"]
    assert row(text, "block")[:5] == ["block", "RAMs", "7", "-", "-"]


def test_a_mismatch_is_named():
    first = {
        "layer": "conv",
        "frame": 1,
        "index": [2, 3],
        "text": "conv, frame 1 at [2, 3]: 4 not 5",
    }
    text = shown(*tables.simulate(SIMULATE | {"mismatches": 7, "first_mismatch": first}, COMPILE))
    assert "7 values differ" in text
    assert "conv, frame 1 at [2, 3]: 4 not 5" in text


def test_stalled_cycles_are_not_taken_for_the_formula():
    text = shown(*tables.simulate(SIMULATE | {"stall": 0.5}, COMPILE))
    assert "stalled on purpose (50 % of cycles)" in " ".join(text.split())


CLOCKED = COMPILE | {"target_mhz": 100.0}


def energy(**change):
    """What a simulation says of two parts, with ``change``."""
    part = {"registers_nj": 200.0, "logic_nj": 100.0, "multipliers_nj": 40.0, "block_ram_nj": 60.0}
    stage = COMPILE["layers"][0]["stage"]
    return SIMULATE | {
        "energy": {
            "toggle_pj": 0.251,
            "multiply_pj": 1.51,
            "access_pj": 4.42,
            "idle_mw": 200.0,
            "source": "a chain",
            "dynamic_nj": 1_600.0,
            "parts": [
                {"stage": stage, "toggles": 8_000, **{name: 3 * nj for name, nj in part.items()}},
                {"stage": None, "toggles": 2_000, **part},
            ],
        }
        | change
    }


def test_the_energy_of_a_frame_is_shown_part_by_part():
    text = shown(*tables.simulate(energy(), CLOCKED))
    name = COMPILE["layers"][0]["name"]
    assert " 8,000 600 nJ 300 nJ 120 nJ 180 nJ 1.20 µJ " in " ".join(row(text, name))
    assert row(text, name)[-2:] == ["75", "%"]
    assert row(text, "between the layers")[3:5] == ["2,000", "200"]
    assert row(text, "all")[1:3] == ["10,000", "800"]
    assert "1.60 µJ" in text
    assert "An estimate, nothing is measured here." in text


def test_the_idle_power_is_that_of_an_interval_at_the_clock_of_the_bitstream():
    """200 mW for an interval of I cycles at F MHz are 0.2 I / F µJ."""
    cycles = COMPILE["interval_cycles"]
    for clock in (None, 2 * CLOCKED["target_mhz"]):
        note = views.energy(CLOCKED, energy(), clock).notes[0]
        mhz = clock or CLOCKED["target_mhz"]
        assert f"at {mhz:.1f} MHz" in note
        idle = 0.2 * cycles / mhz
        whole = f"{1.6 + idle:.2f}" if 1.6 + idle < 10 else f"{1.6 + idle:.1f}"
        assert note.startswith(f"{whole} µJ a frame")


def test_without_a_figure_the_idle_power_is_left_out_and_said_to_be():
    note = views.energy(CLOCKED, energy(idle_mw=None)).notes[0]
    assert note.startswith("1.60 µJ a frame with frames back to back at 100.0 MHz, ")
    assert note.endswith(" mW, without what the chip takes when idle.")
    unclocked = views.energy(COMPILE, energy()).notes[0]
    assert unclocked == "1.60 µJ a frame, without what the chip takes when idle."
    assert views.energy(CLOCKED, SIMULATE) is None


def test_bench_tells_where_its_numbers_come_from():
    text = " ".join(shown(*tables.bench(ALL["bench"])).split())
    assert "cycles: simulated; clock: 150.0 MHz (board target (not built))" in text
    assert "2.00x" in text
    assert "2.50x" in text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.47, "0.470x"), (0.0383, "0.0383x"), (9.996, "10.0x"), (99.96, "100x"), (1234, "1,234x")],
)
def test_gains_have_three_digits(ratio, text):
    gain = ALL["bench"]["speedup"][0] | {"fps": ratio}
    assert views.benchmark(ALL["bench"] | {"speedup": [gain]}).rows[-1][5] == text


def test_accuracy_without_labels_or_floats_still_shows_the_reference_runtime():
    found = ALL["accuracy"] | {
        "labelled": False,
        "float": None,
        "integer": None,
        "agreement": None,
        "sqnr": None,
    }
    text = " ".join(shown(*tables.accuracy(found)).split())
    assert "3 ppm of 1 M values differ, by at most 1 step (50 frames)" in text
    assert "no labels" in text
    assert "Nothing is compared with the float network" in text


def test_a_layer_with_only_the_noise_of_float32_is_exact():
    layer = {"name": "conv <1>", "op": "Conv", "output": "a", "sqnr_db": 33.25, "own_db": 141.8}
    view = views.accuracy_layers(ALL["accuracy"] | {"sqnr": {"frames": 50, "layers": [layer]}})
    assert view.rows[0][2:4] == ("exact", "33.2 dB")
    assert "Exact: " in " ".join(view.notes)


def notes(measured):
    return " ".join(views.benchmark(measured).notes)


def test_more_than_all_dsp_blocks_is_explained():
    fpga = ALL["bench"]["fpga"]
    assert "products in logic too" not in notes({**ALL["bench"], "fpga": fpga})
    more = {**ALL["bench"], "fpga": fpga | {"device_utilization": 1.1}}
    assert "110.0 % of what all DSP blocks of the device could; it makes prod" in notes(more)


def test_a_benchmark_without_the_float_network_says_so():
    assert "the float network" in notes(ALL["bench"] | {"float_network": False})
    assert "the float network" not in notes(ALL["bench"] | {"float_network": True})


def test_what_does_not_fit_is_listed():
    short = {"what": "block RAMs", "needed": 71, "available": 56}
    found = tables.compile(COMPILE | {"fits": False, "shortfall": [short]})
    assert found[-1].title == "Too much for the board"
    assert row(shown(found[-1]), "block") == ["block", "RAMs", "71", "56"]


def test_the_front_is_marked():
    text = shown(*tables.explore({"points": POINTS}))
    assert row(text, "*")[:4] == ["*", "4000-abc", "25,000", "4,000"]
    assert row(text, "8000-abc")[:3] == ["8000-abc", "12,500", "8,000"]
    assert row(text, "*")[-3:] == ["131.5", "MHz", "25,000"]


def test_a_missed_timing_is_shown_as_missed():
    met, missed = (views.timing(BUILD | {"timing_met": met}) for met in (True, False))
    assert dict(met.rows)["timing"] == "met"
    assert dict(missed.rows)["timing"] == "NOT met"


def test_the_routed_clock_the_limit_and_what_is_allowed_are_separate():
    limited = {"routed_mhz": 58.3, "limit_mhz": 50.0, "limit_reason": "SB_MAC16"}
    clocks = {"fmax_mhz": 50.0, "highest_mhz": 49.5, "clock_mhz": 24.0, "target_mhz": 24.0}
    text = shown(*tables.build(BUILD | limited | clocks, COMPILE))
    assert "58.3 MHz by place and route" in text
    assert "50.0 MHz by the data sheet (SB_MAC16)" in text
    assert "50.0 MHz, the smaller of the two" in text
    assert "49.5 MHz of those allowed" in text


def test_the_benchmark_has_the_highest_clock_if_it_is_above_the_bitstreams():
    fpga = ALL["bench"]["fpga"]
    higher = {"highest_mhz": 160.0, "highest_fps": 40_000.0, "highest_latency_us": 37.5}
    text = shown(*tables.bench(ALL["bench"] | {"fpga": fpga | higher}))
    assert "FPGA at 160 MHz" in text
    assert "FPGA at" not in shown(
        *tables.bench(ALL["bench"] | {"fpga": fpga | {"highest_mhz": 150.0}})
    )


def test_cells_of_a_lut_and_a_flip_flop_are_called_so_and_explained():
    text = shown(*tables.compile(COMPILE | {"logic_unit": "logic cells"}))
    assert row(text, "logic")[:3] == ["logic", "cells", "5,000"]
    assert "A logic cell holds a LUT, a flip-flop or both" in text
    assert "logic cell" not in shown(*tables.compile(COMPILE | {"logic_unit": "LUTs"}))


def test_a_plan_has_its_rate_and_how_far_the_bound_is():
    bounds = {"goal": "fps", "bound_cycles": 4000, "bound_latency_cycles": 4500}
    text = shown(*tables.compile(COMPILE | bounds | {"fps": 25_000.0, "target_mhz": 100.0}))
    assert "4,000 cycles, reached (--goal fps)" in text
    assert "4,500 cycles, 25.0 % less (--goal fps)" in text
    assert "25,000 at 100 MHz, the board's usual clock" in text
    assert "bound" not in shown(*tables.compile(COMPILE))


def test_multipliers_other_than_simd_by_pe_are_explained():
    first, second = COMPILE["layers"]
    rows = [first | {"simd": 2, "pe": 4, "multipliers": 5, "products": "pairs"}, second]
    text = " ".join(shown(*tables.compile(COMPILE | {"layers": rows})).split())
    assert "5 multipliers for simd 2 x pe 4: the fast inner product has ceil(simd / 2) x" in text
    assert "fast inner product" not in shown(*tables.compile(COMPILE))


def test_a_plan_of_a_design_space_has_the_name_of_its_file():
    console = Console(file=io.StringIO(), width=80, soft_wrap=True)
    console.print(*tables.explore({"points": [point | {"built": None} for point in POINTS]}))
    assert "8000-abc" in console.file.getvalue()
    assert "interval  latency" in console.file.getvalue()


@pytest.mark.parametrize("unit", ["LUTs", "logic cells"])
def test_a_design_space_names_the_unit_of_logic(unit):
    text = " ".join(shown(*tables.explore({"points": POINTS, "logic_unit": unit})).split())
    assert f"Chip: mean share of {unit}, flip-flops" in text
    assert ("LUTs" in text) == (unit == "LUTs")


def test_the_cost_of_widths_names_the_unit_of_logic():
    need = {"lut": 900, "dsp": 4, "bram": 3}
    widths = {
        **{"max_drop": 1.0, "drop": 0.5, "usual_drop": 0.0, "tested": 60, "labelled": True},
        **{"need": need, "usual_need": need, "weights": {}, "activations": {}},
    }
    rows = dict(views.widths(COMPILE | {"widths": widths, "logic_unit": "logic cells"}).rows)
    assert rows["logic cells"] == "900 instead of 900"
    assert "flip-flops" not in rows
    assert "LUTs" in dict(views.widths(COMPILE | {"widths": widths}).rows)

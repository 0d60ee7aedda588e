"""The benchmark keeps finished steps, and its page says what was and what was not done."""

import copy
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner
from gatewright.benchmarks import run as command
from gatewright.benchmarks import steps
from gatewright.benchmarks.networks import NETWORKS
from gatewright.benchmarks.page import page
from gatewright.compiler.errors import FitError, TimingError
from gatewright.compiler.plan import Goal
from gatewright.compiler.progress import silent

from ..conftest import unchanged
from ..report.summaries import BENCH, BUILD, COMPILE, SIMULATE

ENTRY = next(entry for entry in command.ENTRIES if entry.network == "digits_small")


def fake(**change):
    """A record as the steps leave it; ``change`` replaces keys."""
    return copy.deepcopy(
        {
            "network": "net",
            "variant": "fast",
            "board": "ulx3s-25f",
            "target_mhz": 150.0,
            "title": "the net",
            "source": "now",
            "failed": {},
            "seconds": {"compile": 1.2, "simulate": 3.4, "build": 567.8, "bench": 9.0},
            "compile": COMPILE,
            "build": BUILD,
            "simulate": SIMULATE | {"frames_run": 3, "cycles": 18_000, "build_seconds": 12.0},
            "energy": {},
            "icarus": {},
            "litert": {},
            "load": {"bench": 0.4},
            "bench": BENCH | {"fpga": BENCH["fpga"] | {"device_multipliers": 28}},
        }
        | change
    )


def row(text, title="the net"):
    """The cells of the FPGA table's row, by column."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = next(line for line in lines if "bit-exact" in line)
    cells = next(line for line in lines if line.startswith(f"| {title} |"))
    return dict(
        zip(
            *([cell.strip() for cell in line.strip("|").split("|")] for line in (heads, cells)),
            strict=True,
        )
    )


# The page.


def test_a_routed_row_has_median_and_best():
    found = row(page([fake()], "now"))
    assert found["bit-exact"] == "yes, 12,345 values of 3 frames"
    assert (found["interval, cycles"], found["latency, cycles"]) == ("4,000", "6,001")
    assert found["Fmax median / best, MHz"] == "150.6 / 161.2, 2 seeds"
    assert found["asked, MHz"] == "150, met"
    assert found["latency median / best, µs"] == "39.8 / 37.2"
    assert found["frames/s median / best"] == "37,650 / 40,312"
    assert found["MAC utilization"] == f"{100 * 1_500_000 / (20 * 4000):.1f} %"
    assert found["of the device"] == f"{100 * 1_500_000 / (28 * 4000):.1f} %"
    assert (found["DSP"], found["LUT"]) == ("20 (71 %)", "6,250")
    assert found["compile / simulate / build / bench, s"] == "1 / 3 / 568 / 9"


@pytest.mark.parametrize(
    ("found", "shown"),
    [
        ({}, "-"),
        ({"dynamic_nj": 104_400.0, "idle_mw": None}, "104"),
        # 202 mW for the 4,000 cycles of an interval at the median of 150.6 MHz
        ({"dynamic_nj": 1_250.0, "idle_mw": 202.0}, "1.25 + 5.37"),
    ],
)
def test_energy_is_what_changes_and_what_is_taken_in_reset(found, shown):
    assert row(page([fake(energy=found)], "now"))["energy ≈ µJ"] == shown


def test_a_clock_above_the_documented_limit_does_not_count():
    found = row(page([fake(build=BUILD | {"fmax_mhz": 140.0, "limit_mhz": 140.0})], "now"))
    assert found["Fmax median / best, MHz"] == "140.0, 2 seeds"


def test_a_missed_clock_is_shown_all_the_same():
    found = row(page([fake(build=BUILD | {"timing_met": False, "target_mhz": 200.0})], "now"))
    assert found["asked, MHz"] == "200, NOT met"
    assert "161.2" in found["Fmax median / best, MHz"]


def test_what_is_not_routed_is_in_brackets():
    text = page([fake(build={}, seconds={"compile": 1.0})], "now")
    found = row(text)
    assert found["Fmax median / best, MHz"] == "not routed"
    assert found["latency median / best, µs"] == f"({6001 / 150:.3g})"
    assert found["LUT"] == "≈ 5,000"
    assert found["compile / simulate / build / bench, s"] == "1 / - / - / -"
    assert "Not routed: figures in brackets" in text


def test_mismatches_are_not_hidden():
    wrong = fake()["simulate"] | {"mismatches": 7}
    found = row(page([fake(simulate=wrong)], "now"))
    assert found["bit-exact"] == "NO: 7 of 12345"
    assert found["latency, cycles"] == "6,000", "the plan's, as the simulation is not to be trusted"


def test_failures_and_earlier_sources_are_told():
    broken = fake(
        compile={},
        simulate={},
        build={},
        bench={},
        seconds={},
        failed={"compile": "it does not fit"},
    )
    text = page([broken, fake(title="old", source="before", network="old")], "now")
    assert row(text)["bit-exact"] == "not compiled"
    assert "net-fast, compile failed: it does not fit" in text
    assert "Of an earlier state of the sources: old-fast." in text


def test_icarus_is_compared_where_it_was_run():
    text = page([fake(icarus=SIMULATE | {"cycles_per_second": 500.0}), fake(variant="rate")], "now")
    assert "| the net | fast | 18,000 | 12 | 150,000 | 500 | 300x |" in text
    assert "| the net | rate | 18,000 | 12 | 150,000 | - | - |" in text


def test_the_cpu_has_a_row_a_network():
    text = page([fake(), fake(variant="latency")], "now")
    assert "| network | ONNX Runtime int8, 1 thread |" in text
    assert text.count("| the net | 80 (15,000/s) |") == 1
    assert "NumPy" not in text.partition("## Published")[0].partition("## CPU")[2]


def test_the_load_beside_the_measurements_is_told():
    text = page([fake(), fake(variant="latency", load={"bench": 7.5})], "now")
    assert "before each measurement: 0.4 to 7.5, on 4 cores" in text


def test_a_load_that_was_not_noted_is_not_made_up():
    measured = {"version": "2.3.0", "cpu": []}
    text = page([fake(), fake(variant="latency", litert=measured, load={"litert": 0.2})], "now")
    assert "before each measurement: not noted for all, on 4 cores" in text


def test_litert_is_a_further_column_or_not_installed():
    row_of = {"name": "LiteRT int8", "threads": 1, "latency_us": 42.0, "fps": 23_800.0}
    text = page([fake(litert={"version": "2.3.0", "cpu": [row_of]})], "now")
    assert "| LiteRT int8, 1 thread |" in text
    assert "| 80 (15,000/s) | 42 (23,800/s) |" in text
    assert "| ai-edge-litert | 2.3.0 |" in text
    assert "LiteRT: not installed" in page([fake()], "now")


# The steps.


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The smallest network after all steps but place and route. Tests share it and do not write
    into it.
    """
    folder = tmp_path_factory.mktemp("bench")
    code = CliRunner().invoke(
        command.main,
        [
            "--only",
            ENTRY.name,
            "--no-build",
            "--frames",
            "1",
            "--seconds",
            "0.01",
            "-o",
            str(folder),
            "--results",
            str(folder / "results.md"),
        ],
    )
    assert code.exit_code == 0, code.output
    yield from unchanged(folder)


@pytest.fixture
def out(finished, tmp_path):
    """``finished``, copied for one test to write into."""
    return shutil.copytree(finished, tmp_path / "out")


@pytest.mark.skipif(not shutil.which("iverilog"), reason="Icarus is not installed")
def test_icarus_runs_beside_verilator_and_leaves_its_results_alone(out):
    kept = steps.record(ENTRY, out)
    assert kept["icarus"]["beats_in"] == 21 * 28
    assert 0 < kept["icarus"]["cycles_per_second"] < kept["simulate"]["cycles_per_second"]
    assert kept["simulate"]["simulator"].startswith("verilator")


def test_the_smallest_network_is_run_and_the_page_written(out):
    found = row((out / "results.md").read_text(), "digits_small (trained)")
    assert found["bit-exact"].startswith("yes, ")
    assert found["Fmax median / best, MHz"] == "not routed"
    kept = steps.record(ENTRY, out)
    assert set(kept["seconds"]) >= {"compile", "simulate", "energy", "bench"}
    assert kept["source"] == steps.source_hash()


def settings(**change):
    return steps.Settings(**({"frames": 1, "seconds": 0.01, "build": False} | change))


def again(out, **change):
    """What is done when it runs once more."""
    said = []
    steps.run(
        ENTRY,
        command.VARIANTS[ENTRY.variant],
        out,
        settings(**change),
        lambda what, _=None: said.append(what),
    )
    return said


def test_finished_steps_are_kept(out):
    done = [f"{ENTRY.name}: {step} (cached)" for step in ("compile", "simulate", "energy", "bench")]
    assert [what for what in again(out) if "litert" not in what and "icarus" not in what] == done
    assert f"{ENTRY.name}: simulate" in again(out, again=("simulate",))


def test_only_what_changed_is_done_again(out):
    said = again(out, seconds=0.02)
    assert f"{ENTRY.name}: simulate (cached)" in said
    assert f"{ENTRY.name}: bench" in said


def test_a_missed_clock_is_a_result_and_its_seconds_add_up(out, monkeypatch):
    def build(directory, *_args, **_kwargs):
        (directory / "build.json").write_text(json.dumps(BUILD | {"timing_met": False}))
        raise TimingError("too slow")

    monkeypatch.setattr(steps, "build", build)
    clock = iter([0.0, 0.0, 5.0, 5.0, *range(100, 10_000, 100)])
    monkeypatch.setattr(steps, "perf_counter", lambda: float(next(clock)))
    again(out, build=True, seeds=2, seconds=0.02)
    first = steps.record(ENTRY, out)
    assert first["build"]["timing_met"] is False
    assert not first["failed"]
    assert first["seconds"]["build"] == 5.0
    again(out, build=True, seeds=3, seconds=0.02)
    assert steps.record(ENTRY, out)["seconds"]["build"] > 5.0


def test_a_design_that_does_not_fit_is_told(out, monkeypatch):
    def build(*_args, **_kwargs):
        raise FitError("no room")

    monkeypatch.setattr(steps, "build", build)
    again(out, build=True, seconds=0.02)
    kept = steps.record(ENTRY, out)
    assert kept["failed"] == {"build": "no room"}
    assert row(page([kept], "now"), kept["title"])["Fmax median / best, MHz"] == "build failed"


def test_new_sources_that_give_the_same_hardware_keep_its_results(out, monkeypatch):
    hashed = steps.source_hash
    monkeypatch.setattr(steps, "source_hash", lambda *some: hashed(*some) if some else "changed")
    said = again(out)
    assert f"{ENTRY.name}: compile" in said
    assert f"{ENTRY.name}: simulate (cached)" in said
    assert steps.record(ENTRY, out)["source"] == "changed"


def test_other_hardware_keeps_nothing_but_routed_seeds(out, monkeypatch):
    seed = out / ENTRY.name / "build" / "seed-1.json"
    seed.parent.mkdir(exist_ok=True)
    seed.write_text("{}")
    done = SimpleNamespace(summary={"energy": {}})
    for step in ("simulate", "bench"):
        monkeypatch.setattr(steps, step, lambda *_args, **_kwargs: done)
    for other in (steps.icarus, steps.litert):
        monkeypatch.setattr(other, "available", lambda: False)
    smaller = steps.Variant("small", Goal("area"))
    steps.run(ENTRY, smaller, out, settings(), silent)
    assert seed.exists()
    assert not (out / ENTRY.name / "simulate.json").exists()
    assert set(steps.record(ENTRY, out)["seconds"]) == {"compile", "simulate", "energy", "bench"}


def test_a_compile_that_fails_leaves_no_results(out, monkeypatch):
    def compile_model(*_args, **_kwargs):
        raise FitError("no room")

    again(out)
    monkeypatch.setattr(steps, "source_hash", lambda *_: "another")
    monkeypatch.setattr(steps, "compile_model", compile_model)
    again(out)
    kept = steps.record(ENTRY, out)
    assert kept["failed"] == {"compile": "no room"}
    assert not kept["seconds"]
    assert not kept["simulate"]


def test_unknown_names_are_refused(tmp_path):
    done = CliRunner().invoke(command.main, ["--only", "resnet9", "-o", str(tmp_path)])
    assert done.exit_code == 2
    assert "resnet9; choose from resnet8-fast, " in done.output


def test_results_belong_to_the_table():
    """The committed page has a row for each entry."""
    text = (Path(command.__file__).parent / "results.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|")]
    for entry in command.ENTRIES:
        title = NETWORKS[entry.network].title
        assert any(
            line.startswith(f"| {title} | {entry.variant} | {entry.board} |") for line in rows
        ), entry.name

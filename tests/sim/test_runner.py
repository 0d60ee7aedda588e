"""A small accelerator, right and wrong in known ways, through both simulators."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from gatewright.compiler.errors import DataError, SimulationError
from gatewright.sim.agents import StreamFormat, Tap
from gatewright.sim.runner import Deadlock, simulate, verify
from numpy.testing import assert_array_equal

TWO_STAGES = Path(__file__).with_name("two_stages.v")
SIMULATORS = [
    "verilator",
    pytest.param(
        "icarus",
        marks=pytest.mark.skipif(
            shutil.which("iverilog") is None, reason="Icarus Verilog is not on PATH"
        ),
    ),
]

# 2 x 5 pixels of five channels, three lanes: two beats a pixel, the second padded; 20 a frame.
SHAPE = (2, 5, 5)
SIGNED = StreamFormat("output", SHAPE, lanes=3, bits=6, signed=True)
UNSIGNED = StreamFormat("output", SHAPE, lanes=3, bits=6, signed=False)
FRAME = SIGNED.frame_beats


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """One folder for all runs, so that what is built once is built once."""
    return tmp_path_factory.mktemp("simulation")


def samples(frames, stream=SIGNED, seed=1):
    rng = np.random.default_rng(seed)
    return rng.integers(stream.low, stream.high, (frames, *stream.shape), endpoint=True)


def plus(frames, amount, stream=SIGNED):
    """``frames + amount`` in the stream's wrapping arithmetic."""
    return (frames + amount - stream.low) % (1 << stream.bits) + stream.low


def arguments(work, frames, stream=SIGNED, broken=(), **more):
    defines = {
        "LANES": str(stream.lanes),
        "BITS": str(stream.bits),
        "FRAME": str(stream.frame_beats),
        **dict.fromkeys(broken, "1"),
    }
    return {
        "verilog": TWO_STAGES,
        "sources": {"s_axis": stream},
        "sinks": {"m_axis": stream},
        "frames": {stream.name: frames},
        "work": work,
        "defines": defines,
        "timeout_cycles": 200,
        **more,
    }


def tap(name, stream=SIGNED):
    inner = StreamFormat(name, stream.shape, stream.lanes, stream.bits, stream.signed)
    return Tap(inner, f"{name}.o__valid", f"{name}.o__ready", f"{name}.o__payload")


TAPS = (tap("first"), tap("second"))


def golden(frames):
    return {"first": plus(frames, 1), "second": plus(frames, 2), "output": plus(frames, 2)}


def run(*args, **more):
    return simulate(**arguments(*args, **more))


def check(work, frames, **more):
    return verify(**arguments(work, frames, golden=golden(frames), taps=TAPS, **more))


# --- what comes out ----------------------------------------------------------------------------


@pytest.mark.parametrize("simulator", SIMULATORS)
@pytest.mark.parametrize(("stall", "hold"), [(0.0, 1), (0.5, 1), (0.9, 1), (0.5, 64)])
def test_outputs_are_bit_exact(work, simulator, stall, hold):
    x = samples(7)
    seen = run(work, x, stall=stall, hold=hold, simulator=simulator, timeout_cycles=2000)
    assert_array_equal(seen.outputs["output"], plus(x, 2))
    assert seen.outputs["output"].dtype == np.int8


def test_the_same_beats_are_unsigned_in_an_unsigned_stream(work):
    x = samples(2, UNSIGNED)
    assert_array_equal(run(work, x, UNSIGNED).outputs["output"], plus(x, 2, UNSIGNED))


def test_a_beat_may_be_wider_than_a_machine_word(work):
    wide = StreamFormat("wide", (3, 3, 150), lanes=100, bits=9, signed=True)
    x = samples(2, wide)
    assert_array_equal(run(work, x, wide).outputs["wide"], plus(x, 2, wide))


def test_taps_show_the_layers(work):
    x = samples(3)
    seen = run(work, x, taps=TAPS, stall=0.5).taps
    assert_array_equal(seen["first"], plus(x, 1))
    assert_array_equal(seen["second"], plus(x, 2))


# --- what is measured --------------------------------------------------------------------------


@pytest.mark.parametrize("simulator", SIMULATORS)
def test_latency_and_interval_of_a_beat_a_cycle(work, simulator):
    seen = run(work, samples(4), simulator=simulator)
    assert seen.latency_cycles == FRAME - 1 + 2
    assert seen.interval_cycles == FRAME
    first_in, last_out = zip(*seen.frame_cycles, strict=True)
    assert np.diff(first_in).tolist() == np.diff(last_out).tolist() == [FRAME] * 3
    assert seen.stalled_cycles == (0, 0)


def test_latency_and_interval_of_a_beat_every_third_cycle(work):
    seen = run(work, samples(3), broken=["SLOW"])
    assert seen.latency_cycles == 3 * (FRAME - 1) + 2
    assert seen.interval_cycles == 3 * FRAME


def test_the_interval_is_that_of_the_last_frames(work):
    """The second frame is half as fast as those after it."""
    seen = run(work, samples(4), broken=["SETTLES"])
    slow, *others = np.diff([last for _, last in seen.frame_cycles]).tolist()
    assert slow > 1.5 * FRAME
    assert others == [FRAME, FRAME]
    assert seen.interval_cycles == FRAME


def test_one_frame_has_no_interval(work):
    assert run(work, samples(1)).interval_cycles is None


def test_stalls_really_stall(work):
    free, stalled = run(work, samples(50)), run(work, samples(50), stall=0.5)
    assert stalled.interval_cycles > 1.5 * free.interval_cycles
    assert min(stalled.stalled_cycles) > 50 * FRAME / 5


def test_the_seed_decides_the_stalls(work):
    cycles = [run(work, samples(5), stall=0.5, seed=seed).frame_cycles for seed in (1, 1, 2)]
    assert cycles[0] == cycles[1] != cycles[2]


@pytest.mark.skipif(shutil.which("iverilog") is None, reason="Icarus Verilog is not on PATH")
def test_both_simulators_agree_on_every_cycle(work):
    runs = [
        run(work, samples(5), stall=0.4, hold=16, timeout_cycles=1000, simulator=simulator)
        for simulator in ("verilator", "icarus")
    ]
    assert runs[0].frame_cycles == runs[1].frame_cycles
    assert runs[0].stalled_cycles == runs[1].stalled_cycles


def test_progress_ends_with_all_frames(work):
    told = []
    run(work, samples(3), progress=lambda *step: told.append(step))
    assert told[-1] == ("simulating frame 3 of 3", 1.0)


# --- what goes wrong ---------------------------------------------------------------------------


def test_a_deadlock_is_found_and_located(work):
    with pytest.raises(Deadlock) as error:
        check(work, samples(3), broken=["STOPS"])
    message = str(error.value)
    assert "stands still: no beat moved for 200 cycles" in message
    assert "22 of 60 beats had gone in and 22 of 60 had come out" in message
    assert "first: 22 of 60 beats" in message
    assert "waves: " in message


def test_a_dropped_beat_shows_under_stall_only(work):
    x = samples(20)
    assert_array_equal(run(work, x, broken=["DROPS"]).outputs["output"], plus(x, 2))
    with pytest.raises(SimulationError):
        run(work, x, broken=["DROPS"], stall=0.5)


def test_a_beat_too_many_is_found(work):
    with pytest.raises(SimulationError, match="repeats beats: 40 were due"):
        run(work, samples(2), broken=["REPEATS", "LAST"])


def test_a_beat_taken_back_is_found(work):
    with pytest.raises(SimulationError, match="took back or changed a beat"):
        run(work, samples(5), broken=["RETRACTS"], stall=0.5)


def test_a_wrong_tlast_is_found(work):
    with pytest.raises(SimulationError, match="tlast is wrong in 2 beats, first in beat 19"):
        run(work, samples(2), broken=["LAST"])


@pytest.mark.parametrize("stall", [0.0, 0.5])
def test_a_wrong_value_is_located_in_its_layer(work, stall):
    x = samples(3)
    report = check(work, x, broken=["WRONG"], stall=stall)
    assert not report.passed
    assert (report.mismatches, report.values) == (1, x.size)
    first = report.first_mismatch
    assert (first.layer, first.frame, first.index) == ("first", 1, (0, 0, 0))
    assert (first.expected, first.seen) == (plus(x, 1)[1, 0, 0, 0], plus(x, 1)[1, 0, 0, 0] ^ 1)
    assert report.waves == work / "mismatch.fst"
    assert report.waves.stat().st_size > 100


def test_a_right_design_passes(work):
    report = check(work, samples(3), stall=0.5, probe=True)
    assert report.passed
    assert set(report.run.taps) == {"first", "second"}
    assert str(report) == "150 values, all equal to the golden model"


def test_samples_that_do_not_fit_are_refused(work):
    with pytest.raises(DataError, match="0 to 200 were given; the stream carries -32 to 31"):
        run(work, np.full((1, *SHAPE), 200) * (np.arange(5) > 2))


# --- what is kept ------------------------------------------------------------------------------


def test_a_simulator_is_built_once(work):
    run(work, samples(1))
    assert run(work, samples(2), stall=0.5).build_seconds < 1


def test_a_changed_source_is_built_anew(work, tmp_path):
    changed = tmp_path / "changed.v"
    changed.write_text(TWO_STAGES.read_text().replace("+ 1'b1;", "+ 2'd2;"))
    x = samples(2)
    assert_array_equal(run(work, x).outputs["output"], plus(x, 2))
    assert_array_equal(
        simulate(**{**arguments(work, x), "verilog": changed}).outputs["output"], plus(x, 4)
    )


def test_a_source_that_changed_in_its_place_is_built_anew(work, tmp_path):
    """The same name, size and time of change: only the content tells."""
    source, x = tmp_path / "accelerator.v", samples(2)
    source.write_text(TWO_STAGES.read_text())
    before = source.stat()
    first = simulate(**{**arguments(work, x), "verilog": source})
    source.write_text(TWO_STAGES.read_text().replace("+ 1'b1;", "- 1'b1;"))
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    second = simulate(**{**arguments(work, x), "verilog": source})
    assert source.stat().st_size == before.st_size
    assert_array_equal(first.outputs["output"], plus(x, 2))
    assert_array_equal(second.outputs["output"], plus(x, -2))


def test_waves_are_written(work, tmp_path):
    run(work, samples(1), waves=tmp_path / "waves.fst")
    assert (tmp_path / "waves.fst").stat().st_size > 100


def test_counts_of_changes_are_written_by_verilator(work, tmp_path):
    run(work, samples(1), waves=tmp_path / "changes.saif")
    assert "(TC " in (tmp_path / "changes.saif").read_text()
    with pytest.raises(SimulationError, match="only Verilator writes SAIF"):
        run(work, samples(1), waves=tmp_path / "changes.saif", simulator="icarus")


def test_nothing_is_left_behind(tmp_path):
    run(tmp_path, samples(1))
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"simulators", "simulation.log", "simulator.log"}


def test_a_missing_tap_is_the_tools_error_with_its_name(work):
    with pytest.raises(Exception, match="nowhere"):
        run(work, samples(1), taps=[tap("nowhere")])

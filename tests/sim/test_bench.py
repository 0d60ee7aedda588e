"""Benchmarks say where each of their figures comes from."""

import json

import numpy as np
import pytest
from gatewright.compiler.data import Samples
from gatewright.compiler.plan import latency
from gatewright.sim.bench import bench

SIMULATED = {"interval_cycles": 5000, "latency_cycles": 7000, "mismatches": 0, "stall": 0.0}


def leave(compiled, step, **summary):
    (compiled.directory / f"{step}.json").write_text(json.dumps(summary))


def run(compiled, samples=None, **more):
    return bench(compiled, samples, 100.0, seconds=0.005, **more).summary


def test_without_simulation_and_build_it_is_an_estimate(compiled):
    found = run(compiled)["fpga"]
    assert found["how"] == "estimated"
    assert found["cycles_source"] == "plan formula (not simulated)"
    assert found["clock_source"] == "board target (not built)"
    assert found["interval_cycles"] == compiled.network.interval
    assert found["latency_us"] == latency(compiled.network) / 100.0


def test_simulated_cycles_and_the_clock_of_the_bitstream_are_used(compiled):
    leave(compiled, "simulate", **SIMULATED)
    leave(compiled, "build", clock_mhz=120.0, highest_mhz=125.0, timing_met=True, link_fps=124.0)
    found = run(compiled)["fpga"]
    assert found["link_fps"] == 124.0
    assert found["highest_latency_us"] == 7000 / 125.0
    assert (found["how"], found["cycles_source"], found["clock_source"]) == (
        "simulated",
        "simulated",
        "the bitstream's PLL",
    )
    assert found["latency_us"] == 7000 / 120.0
    assert found["fps"] == 120e6 / 5000
    assert (found["highest_mhz"], found["highest_fps"]) == (125.0, 125e6 / 5000)
    macs = json.loads((compiled.directory / "compile.json").read_text())["macs"]
    assert found["gmacs"] == pytest.approx(macs * 120e6 / 5000 / 1e9)
    assert found["mac_utilization"] == macs / (compiled.network.products_per_cycle * 5000)
    # 28 blocks, with three products each in a stage with minimal filtering
    assert found["device_utilization"] == macs / (84 * 5000)


def test_without_a_bitstream_the_requested_clock_is_quoted_and_marked(compiled):
    leave(compiled, "build", clock_mhz=120.0, highest_mhz=80.0, timing_met=False)
    found = run(compiled)["fpga"]
    assert found["clock_mhz"] == 120.0
    assert "no bitstream" in found["clock_source"]
    assert found["highest_mhz"] == 80.0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stall": 0.5}, "stalled"),
        ({"mismatches": 3}, "mismatches"),
        ({"interval_cycles": None}, "one frame"),
    ],
)
def test_a_simulation_that_tells_no_true_cycles_is_not_used(compiled, change, reason):
    leave(compiled, "simulate", **SIMULATED | change)
    found = run(compiled)["fpga"]
    assert found["how"] == "estimated"
    assert reason in found["cycles_source"]
    assert found["interval_cycles"] == compiled.network.interval


def test_every_reference_is_measured_and_compared(compiled):
    found = run(compiled)
    names = {entry["name"] for entry in found["cpu"]}
    assert names == {"ONNX Runtime float32", "ONNX Runtime int8", "NumPy golden model"}
    for entry, gain in zip(found["cpu"], found["speedup"], strict=True):
        assert entry["how"] == "measured"
        assert entry["fps"] >= 1e6 / entry["latency_us"] * 0.999
        assert (gain["name"], gain["threads"]) == (entry["name"], entry["threads"])
        assert gain["fps"] == found["fpga"]["fps"] / entry["fps"]
    assert {"cpu", "cores", "python", "onnxruntime", "numpy"} == set(found["machine"])


def test_without_the_float_model_there_is_no_float_reference(compiled):
    (compiled.directory / "model.float.onnx").unlink()
    found = run(compiled)
    assert "ONNX Runtime float32" not in {entry["name"] for entry in found["cpu"]}
    assert found["float_network"] is False


def test_it_says_what_the_inputs_were(compiled, images):
    assert "random frames, seed 0" in run(compiled)["inputs"]
    assert run(compiled, Samples(images[:3]))["inputs"] == "3 samples"


def test_the_summary_is_written_and_each_measurement_announced(compiled):
    seen = []
    found = run(compiled, progress=seen.append)
    assert json.loads((compiled.directory / "bench.json").read_text()) == found
    assert seen[-1] == "measuring the golden model"
    assert found["cpu"][-1]["fps_batch"] == 1  # rates of its batches are not steady
    assert np.isfinite(found["fpga"]["fps"])

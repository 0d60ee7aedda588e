"""The example, from its trained ONNX file to a bitstream."""

import json
from pathlib import Path

import numpy as np
import pytest
from gatewright import boards
from gatewright.boards.flow.build import build
from gatewright.compiler.driver import compile_model
from gatewright.compiler.plan.search import Goal
from gatewright.hw.target import ICE40
from gatewright.sim import golden
from gatewright.sim.simulate import simulate

EXAMPLE = Path(__file__).parents[2] / "examples" / "mnist"


@pytest.fixture(scope="module")
def samples():
    with np.load(EXAMPLE / "digits_test.npz") as file:
        return file["x"], file["y"]


@pytest.fixture(
    scope="module",
    params=[
        ("digits", "ulx3s-85f", "balanced"),
        ("digits_medium", "ulx3s-25f", "fps"),
        ("digits_small", "icebreaker", "balanced"),
    ],
    ids=lambda case: case[0],
)
def compiled(request, tmp_path_factory):
    name, board, goal = request.param
    with np.load(EXAMPLE / "digits_calibration.npz") as file:
        x = file["x"]
    out = tmp_path_factory.mktemp(name) / "out"
    model, device = EXAMPLE / f"{name}.onnx", boards.get(board).device
    return compile_model(model, out, device, board, samples=x, goal=Goal(goal))


def test_the_integers_recognise_digits_as_well(compiled, samples):
    x, y = samples
    graph = compiled.graph
    values = golden.run(graph, golden.host_input(graph, x))
    (scores,) = golden.host_output(graph, values).values()
    assert (scores.argmax(1) == y).mean() >= 0.96


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_the_rtl_equals_the_golden_model(compiled, samples, stall):
    done = simulate(compiled, samples[0], 4, stall=stall)
    assert done.passed
    if not stall:
        assert done.summary["interval_cycles"] == compiled.network.interval
        assert done.summary["latency_cycles"] == pytest.approx(
            done.summary["planned_latency_cycles"], rel=0.02
        )


def test_the_network_of_the_demo_takes_a_pixel_a_cycle_with_all_dsp_blocks(compiled):
    if compiled.graph.name != "digits_medium":
        pytest.skip("its plan is another one")
    assert compiled.network.interval == 28 * 28
    assert compiled.network.resources.dsp == compiled.network.device.dsp


def test_the_small_network_reaches_a_bitstream(compiled):
    board = boards.get(compiled.plan.board)
    if board.device.target != ICE40:
        pytest.skip("minutes of place and route: `make demo` does it")
    result = build(compiled.directory, board)
    assert result.timing_met
    assert (compiled.directory / result.bitstream).stat().st_size > 10_000
    assert json.loads((compiled.directory / "build.json").read_text())["timing_met"]

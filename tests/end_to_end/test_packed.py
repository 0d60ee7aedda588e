"""A network of narrow weights, several products in a DSP block, from a float file to its RTL."""

import numpy as np
import pytest
from gatewright import boards
from gatewright.boards.flow.cell_netlist import netlist
from gatewright.compiler import ir
from gatewright.compiler.driver import Quantization, compile_model
from gatewright.compiler.quantize import Policy
from gatewright.sim.simulate import simulate

from ..conftest import cnn

BOARD = boards.get("ulx3s-25f")


@pytest.fixture(scope="module")
def frames(samples):
    return np.load(samples)["x"]


def packed(model, out, frames, weight_bits):
    return compile_model(
        model,
        out,
        BOARD.device,
        BOARD.name,
        samples=frames,
        quantization=Quantization(policy=Policy(weight_bits=weight_bits)),
    )


@pytest.fixture(scope="module", params=[3, 5])
def compiled(request, floats, frames, tmp_path_factory):
    return packed(floats, tmp_path_factory.mktemp("packed") / "out", frames, request.param)


def test_blocks_give_two_products_each(compiled):
    network = compiled.network
    convolutions = [
        design for design in network.designs.values() if isinstance(design.ops[0], ir.Conv)
    ]
    packed = [design for design in convolutions if design.products_per_block == 2]
    assert packed
    assert network.resources.dsp < network.multipliers
    verilog = (compiled.directory / "rtl" / "accelerator.v").read_text()
    assert verilog.count("MULT18X18D") == network.resources.dsp


@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_the_rtl_equals_the_golden_model(compiled, frames, stall):
    done = simulate(compiled, frames, 3, stall=stall)
    assert done.passed, done.report
    if not stall:
        assert done.summary["interval_cycles"] == compiled.network.interval


def test_what_synthesis_makes_of_it_equals_the_golden_model(frames, tmp_path):
    """Of a smaller network: its cells, one by one, take minutes to become a simulator."""
    model = cnn(tmp_path / "small.onnx", hidden=2, kernel=1)
    compiled = packed(model, tmp_path / "out", frames, weight_bits=5)
    assert compiled.network.resources.dsp < compiled.network.multipliers
    cells = netlist(compiled.directory, BOARD, lambda *_: None)
    done = simulate(compiled, frames, 3, stall=0.3, netlist=cells)
    assert done.passed, done.report

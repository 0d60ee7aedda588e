"""The search for the highest clock, with made-up builds, and one netlist for all clocks."""

from types import SimpleNamespace

import pytest
from amaranth import Const, Signal
from amaranth.hdl import ClockSignal
from gatewright import boards
from gatewright.boards.flow import build as flow_build
from gatewright.boards.flow.clock import choose, constant, highest, tuned
from gatewright.boards.flow.fastest import MOST_CLOCKS, search
from gatewright.boards.flow.result import ClockMissed
from gatewright.boards.flow.route import Advance

BOARD = boards.get("ulx3s-85f")


def below(mhz):
    return highest(BOARD, mhz)


def builds(routed, tried):
    """Builds whose routed clock is a function of the clock asked for."""

    def attempt(mhz):
        tried.append(mhz)
        result = SimpleNamespace(clock_mhz=mhz, fmax_mhz=routed(mhz))
        if result.fmax_mhz < mhz:
            raise ClockMissed("missed", result)
        return result

    return attempt


@pytest.mark.parametrize("first", [25.0, 100.0, 200.0])
@pytest.mark.parametrize(
    "routed",
    [lambda mhz: 163.2, lambda mhz: 180 - mhz / 10, lambda mhz: 97.0 + mhz % 7, lambda mhz: 12.7],
    ids=["steady", "falling", "noisy", "slow"],
)
def test_the_highest_clock_that_is_met_is_the_last_that_is_built(first, routed):
    tried = []
    found = search(builds(routed, tried), below, first)
    assert found.clock_mhz == tried[-1] == max(mhz for mhz in tried if routed(mhz) >= mhz)
    assert len(tried) <= MOST_CLOCKS + 2
    assert all(below(mhz) == mhz for mhz in tried[1:])


def test_nothing_above_a_steady_routed_clock_is_tried():
    tried = []
    assert search(builds(lambda mhz: 163.2, tried), below, 100.0).clock_mhz == below(163.2)
    assert tried == [100.0, below(163.2)]


def test_a_board_that_makes_no_clock_that_is_met_is_refused():
    with pytest.raises(ClockMissed):
        search(builds(lambda mhz: 2.0, []), below, 100.0)


def test_only_the_loop_of_a_netlist_is_set():
    other = {"type": "LUT4", "parameters": {"INIT": "01"}, "attributes": {}}
    loop = {
        "type": "EHXPLLL",
        "parameters": {"CLKI_DIV": "0" * 32, "FEEDBK_PATH": "CLKOP"},
        "attributes": {"src": "here"},
        "connections": {"CLKI": [2]},
    }
    netlist = {"creator": "yosys", "modules": {"top": {"cells": {"a": other, "pll": loop}}}}
    pll = choose(BOARD, 163.0)
    cells = tuned(netlist, BOARD, pll)["modules"]["top"]["cells"]
    assert cells["a"] == other
    assert cells["pll"]["connections"] == loop["connections"]
    wanted = pll.instance(BOARD, Signal(), ClockSignal(), Signal())
    assert int(cells["pll"]["parameters"]["CLKOS_DIV"], 2) == wanted.parameters["CLKOS_DIV"]
    assert cells["pll"]["attributes"]["src"] == "here"
    assert float(cells["pll"]["attributes"]["FREQUENCY_PIN_CLKOS"]) == round(pll.output_mhz, 6)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (5, "0" * 29 + "101"),
        ("1", "1 "),
        ("10 ", "10  "),
        ("CLKOP", "CLKOP"),
        (Const(2, 4), "0010"),
    ],
)
def test_a_parameter_is_written_as_yosys_writes_it(value, written):
    """A string that could be bits ends in a space."""
    assert constant(value) == written


def test_place_and_route_says_how_far_it_is():
    seen = []
    advance = Advance("seed 1", 100.0, lambda *step: seen.append(step))
    for line in (
        "Info: iter=12 steplen=0.482 a=7.1 penalty=[0.05, 0.05]",
        "Info:     at iteration #7, type ALL: wirelen solved = 4682, spread = 19079; time = 5.90s",
        "Info: Max frequency for clock 'link': 80.00 MHz (PASS at 25.00 MHz)",
        "Info: Max frequency for clock 'accelerator': 148.91 MHz (PASS at 100.00 MHz)",
        "Info: Routing 12000 arcs.",
        "Info:       1000 |       36        938 |   36   938 |      9000|       3.17       3.17|",
    ):
        advance(line)
    assert seen == [
        ("seed 1: placement, iteration 12", 0.0),
        ("seed 1: placement, iteration 7", 0.0),
        ("seed 1: placed, 149 MHz estimated", 0.5),
        ("seed 1: routing, 9,000 wires left, 149 MHz estimated", 0.5 + 0.49 * 0.25),
    ]


def test_the_time_of_the_search_is_that_of_all_its_clocks(monkeypatch, tmp_path):
    started = []

    def attempt(directory, board, mhz, **options):
        started.append(options["started"])
        return SimpleNamespace(fmax_mhz=mhz * 1.3 if len(started) == 1 else mhz)

    monkeypatch.setattr(flow_build, "build", attempt)
    flow_build.build_fastest(tmp_path, BOARD)
    assert len(started) > 1
    assert len(set(started)) == 1

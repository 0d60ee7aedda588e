"""PLL settings: inside the data sheets' ranges, and as near to the wish as those allow."""

import pytest
from gatewright import boards
from gatewright.boards.flow import FLOWS
from gatewright.boards.flow.base import Bypass
from gatewright.boards.flow.clock import check_reachable, choose
from gatewright.boards.flow.ecp5 import Ecp5Pll
from gatewright.boards.flow.ice40 import Ice40Pll
from gatewright.compiler.errors import PlanError

TARGETS = [12, 16, 24, 25, 33.3, 48, 50, 62.5, 100, 133, 150, 199.9, 231, 249, 275, 300, 399, 400]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["ulx3s-85f", "icebreaker"])
def test_settings_are_legal(name, target):
    pll = choose(boards.get(name), target)
    if isinstance(pll, Bypass):
        assert pll.output_mhz == boards.get(name).clock_mhz
    else:
        check_legal(pll)


@pytest.mark.parametrize("board_mhz", [10, 12, 25, 50, 100, 133, 400])
@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.target.name)
def test_all_settings_are_legal(flow, board_mhz):
    for pll in flow.pll_settings(board_mhz):
        check_legal(pll)


def check_legal(pll):
    match pll:
        case Ecp5Pll() as pll:
            assert 10 <= pll.detector_mhz <= 400
            assert 400 <= pll.vco_mhz <= 800
            assert 3.125 <= pll.output_mhz <= 400
            assert 3.125 <= pll.vco_mhz / pll.primary_div <= 400
            dividers = (pll.ref_div, pll.feedback_div, pll.primary_div, pll.output_div)
            assert all(1 <= divider <= 128 for divider in dividers)
        case Ice40Pll() as pll:
            assert 10 <= pll.detector_mhz <= 133
            assert 533 <= pll.vco_mhz <= 1066
            assert 16 <= pll.output_mhz <= 275
            assert 0 <= pll.divr <= 15
            assert 0 <= pll.divf <= 127
            assert 1 <= pll.divq <= 6
        case _:
            pytest.fail(f"the ranges of {type(pll).__name__} are not listed here")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", ["ulx3s-85f", "icebreaker"])
def test_the_clock_is_never_more_than_half_a_percent_too_fast(name, target):
    assert choose(boards.get(name), target).output_mhz <= target * 1.005


@pytest.mark.parametrize(
    ("name", "target", "expected"),
    [
        ("ulx3s-85f", 25, 25),
        ("ulx3s-85f", 100, 100),
        ("ulx3s-85f", 150, 150),
        ("ulx3s-85f", 400, 400),
        ("icebreaker", 12, 12),
        ("icebreaker", 24, 24),
        ("icebreaker", 48, 48),
        ("ulx3s-85f", 231, 231.25),  # 0.11 % above
        ("icebreaker", 20, 19.875),  # 20.25 would be 1.25 % above
        ("icebreaker", 15, 12),  # below the PLL's range
    ],
)
def test_the_nearest_clock_is_found(name, target, expected):
    assert choose(boards.get(name), target).output_mhz == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("name", "highest"), [("ulx3s-85f", "400.000"), ("icebreaker", "270.000")])
def test_a_clock_above_the_boards_range_says_so(name, highest):
    board = boards.get(name)
    check_reachable(board, float(highest))
    with pytest.raises(PlanError, match=f"clocked at 1e.09 MHz: .* the highest {highest} MHz"):
        check_reachable(board, 1e9)


def test_a_clock_below_the_boards_range_says_so():
    with pytest.raises(PlanError, match=r"can not be clocked at 2 MHz: .* lowest clock is 12"):
        choose(boards.get("icebreaker"), 2)

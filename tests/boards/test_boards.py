"""Boards are data, and the data is right."""

import importlib

import pytest
from gatewright import boards
from gatewright.boards.flow import FLOWS, flow_of
from gatewright.boards.flow.base import Cell
from gatewright.compiler.errors import PlanError
from gatewright.hw.target import ECP5, ICE40

PLATFORMS = {
    "ulx3s-12f": ("ulx3s", "ULX3S_12F_Platform"),
    "ulx3s-25f": ("ulx3s", "ULX3S_25F_Platform"),
    "ulx3s-45f": ("ulx3s", "ULX3S_45F_Platform"),
    "ulx3s-85f": ("ulx3s", "ULX3S_85F_Platform"),
    "icebreaker": ("icebreaker", "ICEBreakerPlatform"),
}


@pytest.mark.parametrize("board", boards.all_boards(), ids=lambda board: board.name)
def test_pins_are_those_of_amaranth_boards(board):
    pytest.importorskip("amaranth_boards")
    module, name = PLATFORMS[board.name]
    platform = getattr(importlib.import_module(f"amaranth_boards.{module}"), name)
    resources = {(resource.name, resource.number): resource for resource in platform.resources}
    clock = resources[platform.default_clk, 0]
    uart = {
        io.name: io.ios[0].names
        for io in resources["uart", 0].ios
        if hasattr(io, "ios") and hasattr(io.ios[0], "names")
    }
    leds = [resource.ios[0].names[0] for (kind, _), resource in resources.items() if kind == "led"]
    assert clock.ios[0].names == [board.clock_pin]
    assert clock.clock.frequency == board.clock_mhz * 1e6
    assert uart["rx"] == [board.uart_rx]
    assert uart["tx"] == [board.uart_tx]
    assert board.led_pin in leds
    assert platform.device == board.device.name


@pytest.mark.parametrize("board", boards.all_boards(), ids=lambda board: board.name)
def test_numbers_are_plausible(board):
    device = board.device
    assert boards.get(board.name) is board
    assert device.target in [flow.target for flow in FLOWS]
    assert device.lut == device.ff > 5000
    assert device.multipliers >= 16
    assert board.target_mhz >= board.clock_mhz


def test_an_unknown_board_names_the_nearest():
    with pytest.raises(PlanError, match="no board called 'ulx3s-58f': did you mean 'ulx3s-") as e:
        boards.get("ulx3s-58f")
    assert all(board.name in str(e.value) for board in boards.all_boards())


@pytest.mark.parametrize("name", [None, 3, ["ulx3s-85f"], {}])
def test_a_board_that_is_no_name_is_unknown(name):
    with pytest.raises(PlanError, match="there is no board called"):
        boards.get(name)


@pytest.mark.parametrize(
    ("target", "speed", "cells", "mhz"),
    [
        (ECP5, "6", [], 257),
        (ECP5, "8", [], 370),
        (ECP5, "8", [Cell("MULT18X18D", {"REG_PIPELINE_CLK": "NONE"})], 287),
        (ECP5, "8", [Cell("MULT18X18D", {"REG_PIPELINE_CLK": "CLK0"})], 370),
        (ICE40, "", [], 185),
        (ICE40, "", [Cell("SB_LUT4"), Cell("SB_MAC16")], 50),
    ],
)
def test_the_lowest_documented_limit_counts(target, speed, cells, mhz):
    assert flow_of(target).lowest_limit(speed, cells).mhz == mhz

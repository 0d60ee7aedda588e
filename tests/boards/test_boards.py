"""Boards are data, and the data is right."""

import importlib
import re

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
    assert board.name in PLATFORMS, f"PLATFORMS has no platform of {board.name}"
    module, name = PLATFORMS[board.name]
    platform = getattr(importlib.import_module(f"amaranth_boards.{module}"), name)
    resources = {(resource.name, resource.number): resource for resource in platform.resources}
    clock = resources[platform.default_clk, 0]
    uart = {
        io.name: io.ios[0].names
        for io in resources["uart", 0].ios
        if hasattr(io, "ios") and hasattr(io.ios[0], "names")
    }
    leds = {
        resource.ios[0].names[0]: resource
        for (kind, _), resource in resources.items()
        if kind == "led"
    }
    assert board.led_pin in leds, f"led_pin is {board.led_pin}, not one of {list(leds)}"
    led = leds[board.led_pin]
    found = {
        "clock_pin": clock.ios[0].names[0],
        "clock_mhz": clock.clock.frequency / 1e6,
        "uart_rx": uart["rx"][0],
        "uart_tx": uart["tx"][0],
        "led_active_low": led.ios[0].invert,
    }
    wrong = {name: value for name, value in found.items() if getattr(board, name) != value}
    assert not wrong, f"amaranth-boards has {wrong}"
    assert platform.package in board.part, f"part: amaranth-boards has {platform.package}"
    assert re.findall(r"\d+", platform.package) == re.findall(r"\d+", board.package), (
        f"package: amaranth-boards has {platform.package}"
    )
    assert platform.device == board.device.name, f"device: amaranth-boards has {platform.device}"
    speed = getattr(platform, "speed", "")
    assert board.speed == speed, f"speed: amaranth-boards has {speed}"
    standards = {
        port: resource.attrs.get("IO_TYPE") or resource.attrs.get("IO_STANDARD")
        for port, resource in (
            ("clk", clock),
            ("rx", resources["uart", 0]),
            ("tx", resources["uart", 0]),
            ("led", led),
        )
    }
    ours = {port: board.standard(port) for port in standards}
    assert ours == standards, f"io_standard or io_standards: amaranth-boards has {standards}"


@pytest.mark.parametrize("board", boards.all_boards(), ids=lambda board: board.name)
def test_numbers_are_plausible(board):
    device = board.device
    assert boards.get(board.name) is board
    assert device.target in [flow.target for flow in FLOWS], f"FLOWS: {device.target.name}"
    assert device.lut == device.ff > 5000, f"lut={device.lut}, ff={device.ff}"
    assert device.multipliers >= 16, f"products of the dsp blocks: {device.multipliers}"


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
        (ECP5, "7", [], 303),
        (ECP5, "8", [Cell("MULT18X18D", {"REG_PIPELINE_CLK": "CLK0"})], 370),
        (ICE40, "", [], 185),
        (ICE40, "", [Cell("SB_LUT4"), Cell("SB_MAC16")], 50),
    ],
)
def test_the_lowest_documented_limit_counts(target, speed, cells, mhz):
    found = flow_of(target).lowest_limit(speed, cells).mhz
    assert found == mhz, f"clock_tree and limits allow {found} MHz, the data sheet {mhz}"


def test_a_speed_grade_that_the_family_has_not_is_an_error():
    with pytest.raises(ValueError, match="clock_tree has no limit for the speed grade '5'; it has"):
        flow_of(ECP5).lowest_limit("5", [])

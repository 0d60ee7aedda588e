"""Multipliers get their constants from LUTs beside them, and nothing else changes."""

import copy

import pytest
from gatewright.boards.flow.localize_constants import localize

CONSTANTS = {"CE0": "1", "RST0": "0", "SIGNEDA": "1", "SIGNEDB": "1", "SOURCEA": "0"}


def multiplier(site=None, **pins):
    pins = {"A0": 2, "A1": "0", "CLK0": 3, **CONSTANTS, **pins}
    return {
        "type": "MULT18X18D",
        "parameters": {},
        "attributes": {"BEL": site} if site else {},
        "port_directions": dict.fromkeys(pins, "input") | {"P0": "output"},
        "connections": {pin: [bit] for pin, bit in pins.items()} | {"P0": [50]},
    }


def localized(**cells):
    """The cells after it, and the new ones by the nets they drive."""
    netlist = {"modules": {"top": {"ports": {}, "netnames": {}, "cells": cells}}}
    before = copy.deepcopy(netlist)
    after, made = localize(netlist)
    assert netlist == before
    result = after["modules"]["top"]["cells"]
    luts = {
        cell["connections"]["Z"][0]: cell["parameters"]["INIT"]
        for name, cell in result.items()
        if name not in cells
    }
    assert len(luts) == made
    assert not [name for name in result if " " in name], "yosys reads the netlist again"
    return result, luts


def test_constants_keep_their_values():
    after, luts = localized(m=multiplier())
    for pin, value in CONSTANTS.items():
        assert luts[after["m"]["connections"][pin][0]] == value * 16
    assert len(luts) == 2


def test_operands_clocks_and_wires_stay():
    after, _ = localized(m=multiplier(CE0=40))
    was = multiplier(CE0=40)["connections"]
    assert {pin: after["m"]["connections"][pin] for pin in ("A0", "A1", "CLK0", "CE0", "P0")} == {
        pin: was[pin] for pin in ("A0", "A1", "CLK0", "CE0", "P0")
    }


def test_neighbours_share_and_others_do_not():
    columns = [4, 5, 8, 9, 13, 14, 17, 18]
    # rows are farther apart than columns, and numbers are no words: X13 comes after X4
    cells = {
        f"m{n}": multiplier(f"X{x}/Y{y}/MULT18_0")
        for n, (y, x) in enumerate((y, x) for y in (10, 34) for x in columns)
    }
    after, luts = localized(**cells)
    resets = [after[name]["connections"]["RST0"][0] for name in cells]
    assert len(luts) == 8
    assert [resets.index(net) // 4 for net in resets] == [n // 4 for n in range(16)]


@pytest.mark.parametrize("cells", [{}, {"gate": {"type": "LUT4", "connections": {"A": ["0"]}}}])
def test_nothing_without_multipliers(cells):
    after, luts = localized(**cells)
    assert (after, luts) == (cells, {})

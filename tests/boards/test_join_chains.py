"""Chains are joined only where that takes fewer tiles, and the sums stay what they were."""

import copy
from dataclasses import replace
from itertools import product

import pytest
from gatewright import boards
from gatewright.boards.flow.carry_chains import shorten
from gatewright.boards.flow.ecp5 import ECP5_FLOW
from gatewright.boards.flow.join_chains import join, tiles

from .cells import INPUTS, MASKED, PLAIN, carry_cell, module, outputs


def register(d, q):
    return {
        "type": "TRELLIS_FF",
        "attributes": {},
        "parameters": {},
        "port_directions": {"DI": "input", "Q": "output"},
        "connections": {"DI": [d], "Q": [q]},
    }


def adder(name, base, operands, sums, table=MASKED):
    """Adds, bit by bit, what is at A to D; a chain of half as many cells as bits, and a carry."""
    cells, link = {}, "0"
    for n in range(0, len(sums), 2):
        last = n + 2 >= len(sums)
        halves = [(table, operands[k], sums[k]) for k in (n, n + 1)]
        cells[f"{name}_{n}"] = carry_cell(halves, link, "x" if last else base + n)
        link = base + n
    return cells


def pair(first, second, *, registered=(True, True), between=False):
    """Two adders of so many bits, from registers or not, and their sum; with ``between`` their sums
    are registered.
    """
    held = [100 + n for n in range(len(INPUTS))]
    cells = {f"held_{n}": register(INPUTS[n], held[n]) for n in range(len(INPUTS))}
    totals = []
    for place, bits in enumerate((first, second)):
        source = held if registered[place] else INPUTS
        operands = [[source[(n + place + k) % 6] for k in range(4)] for n in range(bits)]
        sums = [200 + 100 * place + n for n in range(bits)]
        cells |= adder(f"adder_{place}", 400 + 100 * place, operands, sums)
        if between:
            cells |= {f"sum_{net}": register(net, 1000 + net) for net in sums}
        totals.append([1000 * between + net for net in sums])
    bits = min(first, second)
    result = [700 + n for n in range(bits)]
    operands = [[totals[0][n], totals[1][n], "0", "1"] for n in range(bits)]
    cells |= adder("total", 800, operands, result, PLAIN)
    return shorten(module(cells, result))[0]


def joined(netlist):
    before = copy.deepcopy(netlist)
    after, saved = join(netlist)
    assert netlist == before
    assert tiles(before) - tiles(after) == saved >= 0
    for values in product((0, 1), repeat=len(INPUTS)):
        right = outputs(before, values, 0)
        assert [outputs(after, values, floating) for floating in (0, 1)] == [right, right]
    return saved


@pytest.mark.parametrize("between", [False, True])
@pytest.mark.parametrize(("first", "second"), [(8, 8), (8, 18), (10, 8), (16, 18)])
def test_chains_whose_sums_meet_fill_tiles_together(first, second, between):
    assert joined(pair(first, second, between=between)) == 1


@pytest.mark.parametrize(("first", "second"), [(6, 6), (14, 14), (6, 8)])
def test_chains_stay_apart_where_that_takes_no_fewer_tiles(first, second):
    assert joined(pair(first, second)) == 0


@pytest.mark.parametrize(
    ("registered", "saved"),
    [((True, False), 1), ((False, True), 1), ((False, False), 0)],
)
def test_the_first_adds_registers(registered, saved):
    """Or a false loop might close."""
    assert joined(pair(8, 8, registered=registered)) == saved


def test_a_pair_is_joined_once():
    netlist, _ = join(pair(8, 8))
    assert join(netlist) == (netlist, 0)


@pytest.mark.parametrize("port", ["S0", "COUT"])
def test_what_is_read_stays(port):
    """The sum of a chain's first half, and a last carry."""
    netlist = pair(8, 8)
    top = netlist["modules"]["top"]
    carries = [name for name in top["cells"] if name.startswith("adder_")]
    for name in carries:
        pins = top["cells"][name]["connections"]
        ends = pins["CIN" if port == "S0" else "COUT"] == ["x"]
        if ends:
            net = 2000 + carries.index(name)
            pins[port] = [net]
            top["ports"]["o"]["bits"].append(net)
    assert join(netlist) == (netlist, 0)


def test_chains_are_joined_where_the_chip_is_crowded():
    """Two adders of five cells and one of four take five tiles of eight LUTs."""
    netlist = pair(8, 8)
    device = boards.get("ulx3s-85f").device
    for luts, crowded in ((2 * 5 * 8, False), (2 * 5 * 8 - 1, True)):
        arranged = ECP5_FLOW.arrange(netlist, replace(device, lut=luts))
        assert arranged == (join(netlist)[0] if crowded else netlist)

"""Gates move into adders only where the sums stay what they were."""

import copy
import random
from itertools import product

import pytest
from gatewright.boards.flow.absorb_gates import absorb, end

from .cells import outputs

ADDER = "1001011010101010"
BITS = 4


def lut(inputs, z, init):
    pins = dict(zip("ABCD", [[bit] for bit in [*inputs, "0", "0", "0"]], strict=False))
    return {
        "type": "LUT4",
        "parameters": {"INIT": f"{init:016b}"},
        "attributes": {},
        "port_directions": dict.fromkeys(pins, "input") | {"Z": "output"},
        "connections": pins | {"Z": [z]},
    }


def carry(pairs, invert, cin, cout, sums):
    """Two bits of an adder, or of a subtracter."""
    pins = {"CIN": [cin]} | {
        f"{pin}{half}": [bit]
        for half, (a, b) in enumerate(pairs)
        for pin, bit in zip("ABCD", (a, b, invert, "1"), strict=True)
    }
    outputs = {"COUT": [cout], "S0": [sums[0]], "S1": [sums[1]]}
    return {
        "type": "CCU2C",
        "attributes": {},
        "parameters": {"INIT0": ADDER, "INIT1": ADDER, "INJECT1_0": "NO", "INJECT1_1": "NO"},
        "port_directions": dict.fromkeys(pins, "input") | dict.fromkeys(outputs, "output"),
        "connections": pins | outputs,
    }


def adder(rng, invert="0", pins="B", shared=False):
    """A module that adds words of ``BITS`` bits, those at ``pins`` through random LUTs: each
    through one of its own, or some through the same.
    """
    inputs, sums = list(range(2, 12)), list(range(100, 100 + BITS))
    cells, nets = {}, iter(range(20, 100))

    def addend(pin):
        if pin not in pins:
            return rng.choice(inputs)
        if shared and cells and rng.random() < 0.5:
            return rng.choice(
                [cell["connections"]["Z"][0] for cell in cells.values() if cell["type"] == "LUT4"]
            )
        z = next(nets)
        some = rng.sample([*inputs, "0", "1"], rng.randint(1, 4))
        cells[f"gate_{z}"] = lut(some, z, rng.getrandbits(16))
        return z

    link = "1" if invert == "1" else "0"
    for n in range(0, BITS, 2):
        pairs = [(addend("A"), addend("B")) for _ in range(2)]
        following = next(nets)
        cells[f"carry_{n}"] = carry(pairs, invert, link, following, sums[n : n + 2])
        link = following
    return {
        "modules": {
            "top": {
                "ports": {
                    "i": {"direction": "input", "bits": inputs},
                    "o": {"direction": "output", "bits": [*sums, link]},
                },
                "cells": cells,
                "netnames": {},
            }
        }
    }


def absorbed(netlist):
    """After absorption, and how many gates went; the given netlist stays as it was."""
    before = copy.deepcopy(netlist)
    after, count = absorb(netlist)
    assert netlist == before
    gates = [
        sum(cell["type"] == "LUT4" for cell in n["modules"]["top"]["cells"].values())
        for n in (before, after)
    ]
    assert gates[0] - gates[1] == count
    return after, count


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize(
    ("invert", "pins"), [("0", "A"), ("0", "B"), ("0", "AB"), ("1", "B"), ("1", "AB"), ("1", "A")]
)
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_the_sums_stay_what_they_were(seed, invert, pins, shared):
    rng = random.Random(f"{seed} {invert} {pins}")
    before = adder(rng, invert, pins, shared)
    after, _ = absorbed(before)
    for _ in range(50):
        values = [rng.getrandbits(1) for _ in range(10)]
        assert outputs(after, values) == outputs(before, values)


def masked():
    """Two bits whose second addend is ``x & mask``."""
    cells = {f"mask_{n}": lut((2, 3 + n), 20 + n, 0x8888) for n in range(2)}
    cells["carry"] = carry([(7, 20), (8, 21)], "0", "0", 30, (100, 101))
    return {
        "modules": {
            "top": {
                "ports": {
                    "i": {"direction": "input", "bits": list(range(2, 9))},
                    "o": {"direction": "output", "bits": [100, 101, 30]},
                },
                "cells": cells,
                "netnames": {},
            }
        }
    }


def test_a_mask_costs_no_gate():
    after, count = absorbed(masked())
    assert count == 2
    assert list(after["modules"]["top"]["cells"]) == ["carry"]


def test_the_pin_without_use_needs_no_wire():
    # nextpnr makes wires of a 0 at D, but not of a 1
    pins = absorbed(masked())[0]["modules"]["top"]["cells"]["carry"]["connections"]
    assert [pins["D0"], pins["D1"]] == [["1"], ["1"]]


def test_a_gate_that_others_read_stays():
    netlist = masked()
    netlist["modules"]["top"]["ports"]["o"]["bits"].append(20)
    assert absorbed(netlist)[1] == 1


@pytest.mark.parametrize(
    ("gate", "table", "moves"),
    [("a choice", 0xCACA, True), ("of four inputs", 0xCAC0, False), ("a parity", 0x9696, False)],
)
def test_a_gate_of_three_inputs_moves_if_it_is_0_while_two_of_them_are(gate, table, moves):
    netlist = masked()
    inputs = (2, 3, 4, 5) if gate == "of four inputs" else (2, 3, 4)
    netlist["modules"]["top"]["cells"]["mask_0"] = lut(inputs, 20, table)
    assert absorbed(netlist)[1] == 1 + moves


@pytest.mark.parametrize(
    ("beside", "moves"), [("an input of the gate", True), ("a fifth input", False)]
)
def test_a_gate_of_several_addends_moves_if_all_can_take_it(beside, moves):
    netlist = masked()
    cells = netlist["modules"]["top"]["cells"]
    cells["mask_0"] = lut((2, 3, 7, 8), 20, 0x8000)
    del cells["mask_1"]
    cells["carry"] = carry([(7, 20), (8 if moves else 6, 20)], "0", "0", 30, (100, 101))
    after, count = absorbed(netlist)
    assert count == moves
    for values in product((0, 1), repeat=7):
        assert outputs(after, values) == outputs(netlist, values)


def test_a_gate_to_be_kept_stays():
    netlist = masked()
    netlist["modules"]["top"]["cells"]["mask_0"]["attributes"]["keep"] = "1"
    assert absorbed(netlist)[1] == 1


def test_an_adder_that_does_something_else_is_left_alone():
    netlist = masked()
    netlist["modules"]["top"]["cells"]["carry"]["parameters"]["INIT0"] = "0" * 16
    assert absorbed(netlist)[1] == 1


@pytest.mark.parametrize("invert", ["0", "1"])
def test_two_masks_cost_no_gate(invert):
    netlist = masked()
    cells = netlist["modules"]["top"]["cells"]
    cells |= {f"other_{n}": lut((5, 7 + n), 30 + n, 0x8888) for n in range(2)}
    cells["carry"] = carry([(30, 20), (31, 21)], invert, invert, 40, (100, 101))
    netlist["modules"]["top"]["ports"]["o"]["bits"][-1] = 40
    after, count = absorbed(netlist)
    assert count == 4
    for values in product((0, 1), repeat=7):
        assert outputs(after, values) == outputs(netlist, values)


def test_a_carry_that_nobody_reads_leads_nowhere():
    netlist = masked()
    module = netlist["modules"]["top"]
    assert end(netlist) == (netlist, 0)
    module["ports"]["o"]["bits"] = [100, 101]
    after, count = end(netlist)
    assert count == 1
    assert after["modules"]["top"]["cells"]["carry"]["connections"]["COUT"] == ["x"]

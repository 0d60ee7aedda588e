"""Carry chains get shorter only where the sums stay what they were."""

import copy
import random
from itertools import product

import pytest
from gatewright.boards.flow.carry_chains import shorten

from .cells import INPUTS, MASKED, PLAIN, carry_cell, module, outputs

OUT = 900


def chain(bits, cin, read, cout):
    """A chain of ``bits``, each a table and what is at A to D; the sums in ``read`` are outputs."""
    sums = [100 + n for n in range(len(bits))]
    cells, link = {}, cin
    for n in range(0, len(bits), 2):
        following = 300 + n
        halves = [
            (*bit, total) for bit, total in zip(bits[n : n + 2], sums[n : n + 2], strict=True)
        ]
        if len(halves) < 2:
            halves.append((PLAIN, ["0", "0", "0", "1"], 500))
        last = n + 2 >= len(bits)
        cells[f"carry_{n}"] = carry_cell(
            halves, link, (OUT if cout else "x") if last else following
        )
        link = following
    return module(cells, [sums[n] for n in read] + [OUT] * cout)


def luts(netlist):
    """What place and route takes for it: a cell before each carry in, and one behind each carry
    that leaves its chain.
    """
    cells, found = netlist["modules"]["top"]["cells"].values(), 0
    carries = [each["connections"] for each in cells if each["type"] == "CCU2C"]
    ins = {pins["CIN"][0] for pins in carries}
    made = {pins["COUT"][0] for pins in carries}
    for pins in carries:
        begins = pins["CIN"][0] != "x" and pins["CIN"][0] not in made
        leaves = pins["COUT"][0] != "x" and pins["COUT"][0] not in ins
        found += 2 * (1 + begins + leaves)
    return found + sum(each["type"] == "LUT4" for each in cells)


def shortened(netlist):
    before = copy.deepcopy(netlist)
    after, saved = shorten(netlist)
    assert netlist == before
    assert luts(before) - luts(after) == saved >= 0
    assert shorten(after) == (after, 0)
    return after, saved


def random_chain(rng):
    bits = []
    for _ in range(rng.randint(1, 7)):
        table = rng.choice([PLAIN, MASKED, f"{rng.getrandbits(16):016b}"])
        few = rng.choice([["0", "1"], [*INPUTS[:2], "0", "1"], [*INPUTS, "0", "1"]])
        bits.append((table, [rng.choice(few) for _ in range(4)]))
    read = [n for n in range(len(bits)) if rng.random() < 0.8]
    return chain(bits, rng.choice(["0", "0", "1", 7]), read, rng.random() < 0.3)


@pytest.mark.parametrize("seed", range(100))
def test_the_sums_stay_what_they_were(seed):
    before = random_chain(random.Random(seed))
    after, _ = shortened(before)
    for values in product((0, 1), repeat=len(INPUTS)):
        right = outputs(before, values, 0)
        assert [outputs(after, values, floating) for floating in (0, 1)] == [right, right]


def plain(bits, masked=0):
    """Bits of an adder, the lowest of them with two masked addends."""
    return [(MASKED, [2, 3, 4, 5])] * masked + [(PLAIN, [2, 3, "0", "1"])] * (bits - masked)


@pytest.mark.parametrize("carry", ["0", "1", 7])
@pytest.mark.parametrize(
    ("bits", "masked", "luts_more"),
    [(8, 0, 1), (9, 0, 1), (8, 1, 2), (9, 1, 1)],
    ids=["even", "odd", "even, of masked bits", "odd, of masked bits"],
)
def test_what_a_chain_takes_beside_its_bits(bits, masked, luts_more, carry):
    after, _ = shortened(chain(plain(bits, masked), carry, range(bits), False))
    wire = isinstance(carry, int) and bits % 2 == 0
    assert luts(after) == bits + (2 if wire else luts_more)


def test_no_constant_is_wired_to_a_chain():
    after, _ = shortened(chain(plain(8, 1), "1", range(8), False))
    first = after["modules"]["top"]["cells"]["carry_0"]
    assert first["connections"]["CIN"] == ["x"]
    assert {first["connections"][pin + "0"][0] for pin in "ABCD"} == {"1"}


def test_a_bit_that_passes_a_constant_on_needs_no_carry():
    bits = [(PLAIN, [2, "0", "0", "1"])] * 3 + plain(4)
    after, _ = shortened(chain(bits, "0", range(3, 7), False))
    assert luts(after) == 4 + 1


def test_a_carry_that_is_read_is_the_sum_of_a_half():
    after, saved = shortened(chain(plain(8), "0", range(8), True))
    assert luts(after) == 8 + 1 + 1
    assert saved == 2


def test_a_carry_that_is_read_on_the_way_stays():
    netlist = chain(plain(8), "0", range(8), False)
    netlist["modules"]["top"]["ports"]["o"]["bits"].append(300)
    assert shorten(netlist) == (netlist, 0)


def test_a_cell_without_a_chain_stays():
    netlist = chain(plain(8), "0", range(8), False)
    netlist["modules"]["top"]["cells"]["carry_2"]["parameters"]["INJECT1_0"] = "YES"
    assert shorten(netlist) == (netlist, 0)

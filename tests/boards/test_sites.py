"""The tables of multiplier sites are what nextpnr says."""

import itertools

import pytest
from gatewright.boards.flow.ecp5_sites import multipliers
from gatewright.hw.target import ecp5_sites

CHIPS = {
    "--25k": ecp5_sites.LFE5U_25F,
    "--45k": ecp5_sites.LFE5U_45F,
    "--85k": ecp5_sites.LFE5U_85F,
}


@pytest.mark.parametrize("chip", CHIPS)
def test_a_chip_has_the_sites_of_its_table(chip, tmp_path):
    table = CHIPS[chip]
    assert multipliers(chip, len(table), tmp_path) == set(table)


@pytest.mark.parametrize("chip", CHIPS)
def test_the_next_site_is_near(chip):
    places = [tuple(int(part[1:]) for part in site.split("/")[:2]) for site in CHIPS[chip]]
    for (x, y), (next_x, next_y) in itertools.pairwise(places):
        assert abs(x - next_x) <= 7 or (x == next_x and abs(y - next_y) <= 24)

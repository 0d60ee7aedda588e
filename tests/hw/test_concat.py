"""Concatenation puts the channels of several streams side by side, pixel by pixel."""

import numpy as np
import pytest
from amaranth import signed
from gatewright.hw import Concat, ConcatConfig
from numpy.testing import assert_array_equal

from .bench import STALLS, beats_of, exchange, pixels_of, port, random_elements

FRAMES = 2


def rtl(c, maps, stall=0.0):
    dut = Concat(c)
    count = FRAMES * c.cycles()
    sources = [(port(i), beats_of(pixels, c.lanes)) for i, pixels in zip(dut.i, maps, strict=True)]
    (seen,), _ = exchange(dut, sources, [(port(dut.o), count)], stall=stall)
    if not stall:
        assert seen.cycles == list(range(count))
    return pixels_of(seen.values, sum(c.channels))


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize(
    ("channels", "lanes"),
    [
        ((3, 5), 1),
        ((4, 4), 2),
        ((4, 5), 2),
        ((6, 2), 2),
        ((4, 8, 3), 4),
        ((3, 3, 3, 3), 3),
        ((2, 1), 2),
        ((6, 7), 6),
        ((4,), 2),
    ],
    ids=str,
)
def test_channels_lie_side_by_side(channels, lanes, stall):
    c = ConcatConfig(channels, lanes, signed(6), pixels=5)
    maps = [random_elements(c.element, (FRAMES * c.pixels, n), seed=n) for n in channels]
    assert_array_equal(rtl(c, maps, stall), np.concatenate(maps, axis=1))


def test_lanes_divide_all_inputs_but_the_last():
    with pytest.raises(ValueError, match="must divide"):
        ConcatConfig((3, 4), 2, signed(8), 1)

"""Width converters regroup the channels of each pixel and lose none."""

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.hw import WidthConfig, WidthConverter
from numpy.testing import assert_array_equal

from .bench import beats_of, interval, pixels_of, random_elements, run

PIXELS = 7


def rtl(c, pixels, stall=0.0):
    """Pixels that come out, and what was seen; padding goes in as rubbish."""
    beats = beats_of(pixels, c.lanes_in, padding=-1)
    count = len(pixels) * -(-c.channels // c.lanes_out)
    seen = run(WidthConverter(c), beats, count, stall=stall, seed=c.channels)
    return pixels_of(seen.values, c.channels), seen


@pytest.mark.parametrize("lanes_out", range(1, 7))
@pytest.mark.parametrize("lanes_in", range(1, 7))
def test_keeps_every_channel(lanes_in, lanes_out):
    for channels in (1, 4, 6, 7):
        c = WidthConfig(channels, lanes_in, lanes_out, signed(5))
        pixels = random_elements(c.element, (PIXELS, channels), seed=channels)
        assert_array_equal(rtl(c, pixels)[0], pixels)
        assert_array_equal(rtl(c, pixels, 0.5)[0], pixels)


@pytest.mark.parametrize(
    ("channels", "lanes_in", "lanes_out"),
    [
        (12, 4, 4),
        (12, 4, 1),
        (12, 1, 4),
        (12, 6, 4),
        (12, 4, 6),
        (7, 3, 2),
        (5, 5, 1),
        (5, 1, 5),
        (5, 8, 4),
        (5, 4, 8),
        (3, 6, 2),
        (1, 4, 4),
    ],
)
def test_the_narrowest_point_takes_a_beat_a_cycle(channels, lanes_in, lanes_out):
    c = WidthConfig(channels, lanes_in, lanes_out, unsigned(8))
    pixels = random_elements(c.element, (12, channels))
    _, seen = rtl(c, pixels)
    # two pixels: where they are merged and cut they may leave unevenly
    assert interval(seen, 6) == c.cycles(2)


def test_a_last_beat_is_padded_for_each_pixel():
    c = WidthConfig(5, 1, 4, unsigned(8))
    seen = run(WidthConverter(c), [[n] for n in range(1, 11)], 4)
    assert_array_equal(seen.values[[0, 2]], [[1, 2, 3, 4], [6, 7, 8, 9]])
    assert seen.values[[1, 3], 0].tolist() == [5, 10]


def test_a_beat_of_padding_alone_does_not_come():
    c = WidthConfig(3, 8, 2, unsigned(8))
    pixels = np.arange(12).reshape(4, 3)
    found, seen = rtl(c, pixels)
    assert_array_equal(found, pixels)
    assert len(seen.beats) == 8

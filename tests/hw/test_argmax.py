"""The winner is the largest element of a frame, the first of equals."""

import numpy as np
import pytest
from amaranth import signed, unsigned
from gatewright.hw import ArgMax, ArgMaxConfig
from numpy.testing import assert_array_equal

from .bench import STALLS, interval, random_elements, run


def rtl(c, frames, stall=0.0):
    seen = run(ArgMax(c), np.reshape(frames, (-1, 1)), len(frames), stall=stall)
    if not stall and len(frames) > 1:
        assert interval(seen, len(frames)) == c.cycles()
    return seen.values.reshape(-1)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("element", [signed(8), unsigned(8), signed(2)], ids=repr)
@pytest.mark.parametrize("count", [1, 2, 3, 10, 16, 17])
def test_agrees_with_numpy(count, element, stall):
    frames = random_elements(element, (12, count))
    assert_array_equal(rtl(ArgMaxConfig(count, element), frames, stall), frames.argmax(1))


@pytest.mark.parametrize(
    ("frame", "winner"),
    [
        ([5, 5, 5], 0),
        ([-128, -128, -128], 0),
        ([-1, 7, 7], 1),
        ([-128, -128, -127], 2),
        ([127, 0, 127], 0),
        ([0, -128, -1], 0),
    ],
)
def test_corner_cases(frame, winner):
    assert rtl(ArgMaxConfig(3, signed(8)), [frame, frame]).tolist() == [winner, winner]


def test_a_frame_does_not_remember_the_one_before():
    frames = [[127, 0, 0], [-128, -128, -127], [-5, -4, -6]]
    assert rtl(ArgMaxConfig(3, signed(8)), frames).tolist() == [0, 2, 1]

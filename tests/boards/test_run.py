"""Frames become beats of the link and beats become frames again, whatever the width of a value."""

import numpy as np
import pytest
from gatewright.boards.link.run import _from_beats, _to_beats
from gatewright.compiler import ir
from numpy.testing import assert_array_equal


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("bits", range(1, 17))
def test_a_frame_of_any_width_comes_back(bits, signed, lanes):
    dtype, shape = ir.Int(bits, signed), ir.Shape(2, 3, 5)
    rng = np.random.default_rng(bits)
    frame = rng.integers(dtype.low, dtype.high, shape.array, endpoint=True)
    frame[0, 0, :2] = dtype.low, dtype.high
    beats = _to_beats(frame, lanes, bits)
    assert len(beats) == 6 * -(-5 // lanes)
    assert all(0 <= beat < 1 << bits * lanes for beat in beats)
    assert_array_equal(_from_beats(tuple(beats), shape, lanes, dtype), frame)

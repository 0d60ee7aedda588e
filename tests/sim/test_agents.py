"""Beats as bits, by hand and there and back."""

import numpy as np
import pytest
from gatewright.compiler.errors import DataError, SimulationError
from gatewright.sim.agents import StreamFormat, beats_of, pack, read_beats, unpack, write_beats
from numpy.testing import assert_array_equal


def test_the_first_lane_is_in_the_low_bits_and_the_last_beat_is_padded(tmp_path):
    stream = StreamFormat("x", (1, 1, 3), lanes=2, bits=4, signed=True)
    write_beats(tmp_path / "x.hex", stream, np.array([[[[1, -1, -8]]]]))
    assert (tmp_path / "x.hex").read_text() == "f1\n08\n"


def test_a_width_that_is_no_multiple_of_four_fills_the_last_digit(tmp_path):
    stream = StreamFormat("x", (1, 1, 2), lanes=2, bits=3, signed=False)
    write_beats(tmp_path / "x.hex", stream, np.array([[[[7, 5]]]]))
    assert (tmp_path / "x.hex").read_text() == "2f\n"


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [1, 2, 7, 8, 13, 32])
@pytest.mark.parametrize(("channels", "lanes"), [(1, 1), (5, 1), (5, 3), (6, 3), (2, 7)])
def test_there_and_back(tmp_path, signed, bits, channels, lanes):
    stream = StreamFormat("x", (3, 2, channels), lanes, bits, signed)
    rng = np.random.default_rng(bits)
    x = rng.integers(stream.low, stream.high, (4, *stream.shape), endpoint=True)
    assert_array_equal(unpack(stream, pack(stream, x)).reshape(x.shape), x)
    write_beats(tmp_path / "x.hex", stream, x)
    assert beats_of(tmp_path / "x.hex", stream) == 4 * stream.frame_beats
    assert_array_equal(read_beats(tmp_path / "x.hex", stream).reshape(x.shape), x)


def test_a_beat_without_the_rest_of_its_pixel_is_left_out(tmp_path):
    stream = StreamFormat("x", (1, 2, 2), lanes=1, bits=8, signed=False)
    (tmp_path / "x.hex").write_text("01\n02\n03\n")
    assert_array_equal(read_beats(tmp_path / "x.hex", stream), [[1, 2]])


def test_undefined_bits_are_refused(tmp_path):
    (tmp_path / "x.hex").write_text("01\nxX\n")
    with pytest.raises(SimulationError, match=r"x: beat 1 has undefined bits \(xX\)"):
        read_beats(tmp_path / "x.hex", StreamFormat("x", (1, 2, 1), lanes=1, bits=8, signed=False))


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((1, 2, 2, 1), int), "a frame is 1 x 2 x 1 .*, but the samples are 2 x 2 x 1"),
        (np.zeros((1, 1, 2, 1)), "carries integers, not float64"),
        (np.full((1, 1, 2, 1), 128), "from 128 to 128 were given; the stream carries -128 to 127"),
    ],
)
def test_samples_that_do_not_fit_are_refused(samples, message):
    with pytest.raises(DataError, match=message):
        pack(StreamFormat("x", (1, 2, 1), lanes=1, bits=8, signed=True), samples)

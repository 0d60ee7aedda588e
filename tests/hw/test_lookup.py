"""Tables are looked up by the bits of the element, lane by lane."""

import numpy as np
import pytest
from amaranth import Shape, signed, unsigned
from gatewright.hw import Lookup, LookupConfig
from gatewright.hw.target import ECP5, GENERIC, ICE40
from numpy.testing import assert_array_equal

from .bench import STALLS, queue_memories, run


def rtl(c, beats, stall=0.0):
    seen = run(Lookup(c), beats, len(beats), stall=stall)
    if not stall:
        assert np.diff(seen.cycles).tolist() == [1] * (len(beats) - 1)
    return seen.values


def golden(c, beats):
    return np.array(c.table)[np.asarray(beats) % (1 << c.element.width)]


def all_elements(shape, lanes):
    """Every element on every lane, each lane in an order of its own."""
    low = -(1 << (shape.width - 1)) if shape.signed else 0
    every = np.arange(low, low + (1 << shape.width))
    return np.stack([np.roll(every, 3 * lane) for lane in range(lanes)], axis=1)


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("lanes", [1, 3])
@pytest.mark.parametrize("out", [signed(8), unsigned(8), signed(3)], ids=repr)
@pytest.mark.parametrize("element", [signed(8), unsigned(8), signed(4), unsigned(1)], ids=repr)
def test_every_entry(element, out, lanes, stall):
    rng = np.random.default_rng(element.width)
    low = -(1 << (out.width - 1)) if out.signed else 0
    table = rng.integers(low, low + (1 << out.width), 1 << element.width)
    beats = all_elements(element, lanes)
    c = LookupConfig(
        lanes,
        Shape.cast(element),
        Shape.cast(out),
        tuple(table.tolist()),
        len(beats),
        target=GENERIC,
    )
    assert_array_equal(rtl(c, beats, stall), golden(c, beats))


def test_negative_elements_take_the_upper_half_of_the_table():
    c = LookupConfig(1, signed(2), signed(8), (0, 1, -2, -1), 4, target=GENERIC)
    assert rtl(c, [[-2], [-1], [0], [1]]).reshape(-1).tolist() == [-2, -1, 0, 1]


def test_a_table_covers_all_elements():
    with pytest.raises(ValueError, match="255 entries"):
        LookupConfig(1, signed(8), signed(8), (0,) * 255, 1, target=GENERIC)


@pytest.mark.parametrize("target", [ECP5, ICE40])
def test_results_wait_in_the_memories_of_the_family(target):
    """Of which ECP5 has small ones in logic."""
    c = LookupConfig(4, signed(2), signed(8), (0, 1, -2, -1), 4, target=target)
    assert queue_memories(Lookup(c), ["i", "o"]) == {target == ECP5}

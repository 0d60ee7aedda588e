"""The first difference, told in a sentence."""

import numpy as np
from gatewright.sim.scoreboard import compare, count

RIGHT = np.arange(2 * 2 * 3 * 4).reshape(2, 2, 3, 4)


def changed(*indices):
    wrong = RIGHT.copy()
    for index in indices:
        wrong[index] = -1
    return wrong


def test_equal_layers_have_no_mismatch():
    assert compare({"a": RIGHT}, {"a": RIGHT}) is None


def test_the_first_layer_in_flow_order_is_blamed():
    expected = [("a", RIGHT), ("b", RIGHT), ("c", RIGHT)]
    seen = {"c": changed((0, 0, 0, 0)), "b": changed((1, 0, 2, 3), (1, 1, 0, 0)), "a": RIGHT}
    mismatch = compare(expected, seen)
    assert (mismatch.layer, mismatch.frame, mismatch.index) == ("b", 1, (0, 2, 3))
    assert str(mismatch) == (
        "b: frame 1, row 0, column 2, channel 3 is -1, expected 35 (2 of 48 values differ)"
    )


def test_a_layer_that_was_not_seen_is_passed_over():
    assert compare({"a": RIGHT, "b": RIGHT}, {"b": RIGHT}) is None


def test_what_never_came_differs():
    pixels = RIGHT.reshape(-1, 4)[:7]
    mismatch = compare({"a": RIGHT}, {"a": pixels})
    assert (mismatch.frame, mismatch.index, mismatch.seen) == (1, (0, 1, 0), None)
    assert str(mismatch) == (
        "a: frame 1, row 0, column 1, channel 0 never came, expected 28 (20 of 48 values differ)"
    )
    assert count(RIGHT, pixels) == 20
    assert compare({"a": RIGHT}, {"a": pixels}, missing_is_wrong=False) is None

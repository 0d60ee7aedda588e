"""Arrays of a wrong layout: the message says what differs, and what it says to give is taken."""

import re
from itertools import permutations

import numpy as np
import pytest
from gatewright.compiler.sample_layout import layout_advice

IMAGE, LAST, GREY = (3, 16, 16), (16, 16, 3), (1, 28, 28)

CASES = {
    "channels last": ((300, 16, 16, 3), IMAGE, "on the last axis", "x.transpose(0, 3, 1, 2)"),
    "channels first": ((300, 3, 16, 16), LAST, "takes them last", "x.transpose(0, 2, 3, 1)"),
    "two axes": ((9, 40, 7), (7, 40), "another order", "x.transpose(0, 2, 1)"),
    "samples last": ((3, 16, 16, 9), IMAGE, "not on the first axis", "x.transpose(3, 0, 1, 2)"),
    "flat": ((9, 768), IMAGE, "other axes", "x.reshape(-1, 3, 16, 16)"),
    "no channels": ((9, 28, 28), GREY, "axis of 1 is missing", "x[:, None]"),
    "no last channels": ((9, 28, 28), (28, 28, 1), "axis of 1 is missing", "x[..., None]"),
    "one value": ((9,), (1,), "axis of 1 is missing", "x[:, None]"),
    "one sample": (IMAGE, IMAGE, "one sample", "x[None]"),
    "one sample, last": (LAST, IMAGE, "the model takes them first", "x.transpose(2, 0, 1)[None]"),
    "one flat sample": ((768,), IMAGE, "one sample", "x.reshape(1, 3, 16, 16)"),
    "one grey sample": ((28, 28), GREY, "one sample", "x.reshape(1, 1, 28, 28)"),
    "two batches": ((4, 5, 3, 16, 16), IMAGE, "on 2 axes", "x.reshape(-1, 3, 16, 16)"),
    "one row": ((7680,), IMAGE, "10 samples", "x.reshape(-1, 3, 16, 16)"),
    "grey for colour": ((9, 1, 16, 16), IMAGE, "1 channel,", "x.repeat(3, 1)"),
    "grey for colour, last": ((9, 16, 16, 1), LAST, "1 channel,", "x.repeat(3, 3)"),
    "grey without channels": ((9, 16, 16), IMAGE, "1 channel,", "x[:, None].repeat(3, 1)"),
    "grey without channels, last": ((9, 16, 16), LAST, "1 channel,", "x[..., None].repeat(3, 3)"),
    "opacity": ((9, 4, 16, 16), IMAGE, "4 channels", "x[:, :3]"),
    "opacity last": ((9, 16, 16, 4), LAST, "4 channels", "x[..., :3]"),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_advised_has_the_shape_that_the_model_takes(case):
    shape, taken, reason, give = CASES[case]
    advice = layout_advice(shape, taken, "x")
    assert reason in advice
    assert f"give {give}" in advice
    assert eval(give, {"x": np.zeros(shape)}).shape[1:] == taken


def test_a_model_of_one_number_a_sample():
    assert "an array of one axis" in layout_advice((20, 2), (), "x")


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_every_order_of_the_axes(order):
    x = np.arange(5 * 2 * 3 * 4).reshape(5, 2, 3, 4)
    given = x.transpose(order)
    if order == (0, 1, 2, 3):
        return
    advice = layout_advice(given.shape, (2, 3, 4), "x")
    expression = re.search(r"give (x\.transpose\(.*\))", advice)
    np.testing.assert_array_equal(eval(expression[1], {"x": given}), x)


@pytest.mark.parametrize(
    ("shape", "taken", "advice"),
    [
        ((9, 3, 32, 32), IMAGE, "the samples are 32 x 32, the model takes 16 x 16; resize them"),
        (
            (9, 32, 32, 3),
            IMAGE,
            "the samples are 32 x 32, the model takes 16 x 16; resize them, and give "
            "x.transpose(0, 3, 1, 2): channels first",
        ),
        ((9, 32, 32), GREY, "the samples are 32 x 32, the model takes 28 x 28; resize them"),
        ((9, 3, 16, 16), GREY, "a sample has 768 values, the model takes 784; give samples as"),
        ((9, 3, 28, 28), GREY, "the samples have 3 channels, the model takes 1; convert them to"),
        ((9, 11), (12,), "a sample has 11 values, the model takes 12; give samples as those"),
        ((), (12,), "put the samples on the first axis"),
        ((0, 0), (12,), "a sample has 0 values"),
        ((0, 12, 1), (12,), "a sample has"),
    ],
)
def test_what_no_order_of_the_axes_makes_right(shape, taken, advice):
    assert layout_advice(shape, taken, "x").startswith(advice) or not np.prod(shape)


def test_a_name_that_is_no_python_name():
    assert "give x.transpose" in layout_advice((9, 16, 16, 3), IMAGE, "depth map")

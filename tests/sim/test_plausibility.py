"""Warnings about samples that do not fit the calibration, and about accuracies of guesses."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.data import Samples
from gatewright.sim.accuracy import accuracy
from gatewright.sim.plausibility import InputRanges, agreement_warning, chance_warning

CALIBRATED = np.linspace(-1, 1, 1000)


def warnings(x, bits=8, dtype="float32"):
    """Of an input calibrated for -1 to 1."""
    port = ir.InputPort("image", (1000,), dtype, "image", np.arange(1000))
    quant = ir.Quant(ir.Int(bits, True), 1 / ((1 << (bits - 1)) - 1), 0)
    value = ir.Value("image", ir.Shape(1, 1, 1000), quant)
    ranges = InputRanges(ir.Graph("model", (port,), (), (), {"image": value}))
    ranges.add({"image": np.asarray(x, np.float32).reshape(-1, 1000)})
    return ranges.warnings()


@pytest.mark.parametrize(
    "x",
    [CALIBRATED, 1.003 * CALIBRATED, 0.1 * CALIBRATED, 0 * CALIBRATED, np.ones(1000)],
    ids=["same", "a little more", "less", "nothing", "the limit"],
)
def test_samples_in_the_range_are_plausible(x):
    assert not warnings(x)


def test_samples_that_are_not_normalized():
    (text,) = warnings(np.linspace(0, 255, 1000))
    assert text.startswith("image: 99.6 % of the values saturate: the samples are 0 to 255, ")
    assert "the range of the calibration is -1.008 to 1; are they normalized as" in text


def test_a_share_of_values_and_a_single_one_far_outside():
    x = CALIBRATED.copy()
    x[:9] = 2
    assert not warnings(x)
    x[:11] = 2
    assert "1.1 % of the values saturate" in warnings(x)[0]
    x[:11] = 0
    x[0] = 7
    assert "0.1 % of the values saturate: the samples are -0.978 to 7," in warnings(x)[0]


def test_samples_that_are_normalized_though_the_calibration_was_not():
    (text,) = warnings(CALIBRATED / 255)
    assert text.startswith("image: the values use less than 1/50 of the range: the samples are ")


def test_narrow_types_saturate_what_calibration_has_seen():
    assert not warnings(2 * CALIBRATED, bits=4)
    assert warnings(9 * CALIBRATED, bits=4)


def test_integer_inputs_have_no_range_of_a_calibration():
    assert not warnings(100 * CALIBRATED, dtype="int8")


def test_agreement_of_less_than_half():
    assert agreement_warning(0.49, 100)[0].startswith(
        "the integer network agrees with the float one on 49.0 % of 100 samples; check that the "
    )
    assert not agreement_warning(0.5, 100)
    assert not agreement_warning(0.0, 9)
    assert not agreement_warning(None, 100)


@pytest.mark.parametrize(
    ("top1", "samples", "scores", "guessed"),
    [
        (0.10, 50, 10, True),
        (0.15, 50, 10, True),
        (0.16, 50, 10, False),
        (0.10, 49, 10, False),
        (0.55, 50, 2, True),
        (0.65, 50, 2, False),
        (0.10, 50, 1, True),
        (None, 50, 10, False),
    ],
)
def test_accuracy_of_guesses(top1, samples, scores, guessed):
    found = chance_warning("float", top1, np.arange(samples) % 10, scores)
    assert bool(found) == guessed
    if guessed:
        classes = scores if scores > 1 else 10
        assert f"of {samples} samples, as guesses among {classes} classes are; check" in found[0]


def test_accuracy_warns_of_labels_of_another_order(compiled, images):
    right = accuracy(compiled, Samples(images))
    y = right.outputs["scores"].reshape(len(images), -1).argmax(1)
    assert accuracy(compiled, Samples(images, y)).summary["warnings"] == []
    (text,) = accuracy(compiled, Samples(images, (y + 1) % 4)).summary["warnings"]
    assert text.startswith("the float network is right on ")


def test_accuracy_warns_of_samples_of_another_range(compiled, images):
    found = accuracy(compiled, Samples(100 * images)).summary["warnings"]
    assert found[0].startswith("image: 9")
    assert "of the values saturate" in found[0]

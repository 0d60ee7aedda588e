"""Pictures of samples, the confusion matrix and histograms."""

import io
from base64 import b64decode

import numpy as np
from gatewright.sim.examples import confusion, examples
from numpy.testing import assert_array_equal
from PIL import Image

CLASSES, LABELS = np.array([0, 1, 1, 2]), np.array([0, 1, 2, 2])


def test_rows_of_the_confusion_matrix_are_labels():
    assert confusion(CLASSES, LABELS) == [[1, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert confusion(CLASSES, None) is None


def test_wrong_samples_come_first_and_a_picture_is_a_picture():
    x = np.zeros((4, 1, 5, 6), np.float32)
    x[2, 0, 1, 2] = 3
    scores = np.eye(3, dtype=np.float32)[CLASSES]
    found = examples({"x": x}, scores, CLASSES, None, LABELS)
    assert [row["index"] for row in found] == [2, 0, 1, 3]
    assert (found[0]["label"], found[0]["integer"], found[0]["best"][0]) == (2, 1, [1, 1.0])
    picture = np.asarray(Image.open(io.BytesIO(b64decode(found[0]["image"]))))
    assert_array_equal(np.argwhere(picture), [[1, 2]])


def test_a_signal_is_a_curve():
    x = np.arange(4 * 600, dtype=np.float32).reshape(4, 1, 600)
    found = examples({"x": x}, np.eye(3)[CLASSES], CLASSES, None, None)
    assert found[0]["curve"][0] == 0
    assert len(found[0]["curve"]) == 200

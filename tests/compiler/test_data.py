"""Samples: numbers out of range are refused, pictures are scaled."""

import numpy as np
import pytest
from gatewright.compiler import ir
from gatewright.compiler.data import read_samples
from gatewright.compiler.errors import DataError
from PIL import Image


def graph(shape, dtype):
    """A model of one input, which nothing reads."""
    port = ir.InputPort("x", shape, dtype, "x", np.arange(int(np.prod(shape))))
    return ir.Graph("model", (port,), (), ())


@pytest.mark.parametrize(
    ("dtype", "x"), [("int8", 128), ("int8", -129), ("uint8", 256), ("uint8", -1)]
)
def test_an_integer_out_of_range_is_refused_and_not_wrapped(dtype, x, tmp_path):
    np.savez(tmp_path / "x.npz", x=np.full((2, 3), x, np.int32))
    with pytest.raises(DataError, match=r"takes integers from -?\d+ to \d+"):
        read_samples(tmp_path / "x.npz", graph((3,), dtype))


@pytest.mark.parametrize("shape", [(1, 4, 6), (4, 6, 1), (3, 4, 6), (4, 6, 3)])
def test_pictures_are_resized_and_scaled_to_one(shape, tmp_path):
    """Grey ones as well as those in colour, channels first or last."""
    grey = 1 in shape
    Image.new("L" if grey else "RGB", (12, 8), 51 if grey else (51, 51, 51)).save(
        tmp_path / "a.png"
    )
    x = read_samples(tmp_path, graph(shape, "float32")).x["x"]
    assert x.shape == (1, *shape)
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, np.full((1, *shape), np.float32(51) / np.float32(255)))


@pytest.mark.parametrize("shape", [(1, 4, 6), (3, 4, 6)])
def test_pictures_are_shrunk_and_not_cut(shape, tmp_path):
    """One that is dark on the left and bright on the right."""
    grey = shape[0] == 1
    picture = np.full((8, 12) if grey else (8, 12, 3), 51, np.uint8)
    picture[:, 6:] = 204
    Image.fromarray(picture).save(tmp_path / "a.png")
    x = read_samples(tmp_path, graph(shape, "float32")).x["x"][0]
    np.testing.assert_array_equal(x[..., 0], np.float32(51) / np.float32(255))
    np.testing.assert_array_equal(x[..., -1], np.float32(204) / np.float32(255))


def test_pictures_stay_bytes_for_an_input_of_bytes(tmp_path):
    Image.new("L", (6, 4), 51).save(tmp_path / "a.png")
    x = read_samples(tmp_path, graph((1, 4, 6), "uint8")).x["x"]
    np.testing.assert_array_equal(x, np.full((1, 1, 4, 6), 51, np.uint8))

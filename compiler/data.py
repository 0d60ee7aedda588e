"""Samples and labels from files: ``.npz``, ``.npy``, or a folder of images."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import ir, limits
from .errors import DataError
from .ir.feeds import Ports, count
from .numpy_file import read_arrays
from .sample_layout import layout_advice

__all__ = [
    "IMAGES",
    "Samples",
    "checked",
    "class_numbers",
    "image_input",
    "image_size",
    "read_image",
    "read_samples",
]

#: suffixes of the files that are images
IMAGES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".pgm"}


@dataclass(frozen=True, eq=False)
class Samples:
    """``x``: for each input of the model, by name, an array [n, *its shape] in the model's type; a
    lone input's may stand by itself. ``y`` [n]: labels, or None.
    """

    x: NDArray[np.generic] | ir.Feeds
    y: NDArray[np.generic] | None = None


def read_samples(path: Path, graph: Ports) -> Samples:
    """The samples in ``path`` for every input, checked against the model.

    ``.npz``: for each input an array of its name (of a lone input also ``x``) and, if it is there,
    ``y``, the labels. A model of one input takes two more forms: ``.npy``, the samples; a folder,
    its images in the order of their names, scaled to the input's size; where they lie in
    subfolders, these are the classes. Integer samples for a float input are taken as numbers.
    Raises :class:`DataError`.
    """
    if path.is_dir():
        samples = _folder(path, graph)
    elif not path.exists():
        raise DataError(f"{path}: no such file; give {_accepted(graph)}")
    else:
        samples = _arrays(path, graph)
    try:
        given, lone = ir.feeds(graph, samples.x), len(graph.inputs) == 1
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    arrays = {
        port.name: checked(path, given[port.name], port, "x" if lone else port.name)
        for port in graph.inputs
    }
    return Samples(arrays, samples.y)


def class_numbers(samples: Samples) -> NDArray[np.int64] | None:
    """The class of each sample, of numbers or one-hot rows in ``y``; None without labels.

    Raises :class:`DataError` where there is not one whole number a sample.
    """
    if samples.y is None:
        return None
    x = samples.x
    total = count(x) if isinstance(x, Mapping) else len(x)
    y = samples.y.reshape(len(samples.y), -1) if samples.y.ndim else samples.y.reshape(1, 1)
    if len(y) != total:
        raise DataError(f"y holds {len(y)} labels for {total} samples; give one a sample")
    numbers = y[:, 0] if y.shape[1] == 1 else np.argmax(y, axis=1)
    if numbers.dtype.kind not in "iubf" or (numbers != np.rint(numbers)).any():
        raise DataError(
            "y holds labels that are not whole numbers; give the number of each sample's class, "
            "from 0"
        )
    return numbers.astype(np.int64)


def _accepted(graph: Ports) -> str:
    """What a file of samples for the model is."""
    names = [port.name for port in graph.inputs]
    if len(names) == 1:
        return "an .npz with an array x, an .npy, or a folder of images"
    return f"an .npz with an array for each input: {', '.join(names)}"


def _folder(path: Path, graph: Ports) -> Samples:
    if len(graph.inputs) > 1:
        raise DataError(
            f"{path}: is a folder, but the model has {len(graph.inputs)} inputs; give "
            f"{_accepted(graph)}"
        )
    (port,) = graph.inputs
    return _images(path, port)


def _arrays(path: Path, graph: Ports) -> Samples:
    names = [port.name for port in graph.inputs]
    found = read_arrays(path, {"x", "y", *names}, f"give {_accepted(graph)}")
    held = ", ".join(found) or "nothing"
    labels = None if "y" in names else found.get("y")
    if len(names) == 1:
        x = next((found[key] for key in ("", "x", names[0]) if key in found), None)
        if x is None:
            own = "" if names[0] == "x" else f" (or {names[0]}, as the input)"
            raise DataError(f"{path}: holds {held}, but the samples must be called x{own}")
        return Samples({names[0]: x}, labels)
    if "" in found:
        raise DataError(
            f"{path}: is one array, but the model has {len(names)} inputs; give {_accepted(graph)}"
        )
    given = {name: array for name in names if (array := found.get(name)) is not None}
    if missing := [name for name in names if name not in given]:
        raise DataError(
            f"{path}: holds {held}, but no array for the input {missing[0]}; give "
            f"{_accepted(graph)}"
        )
    return Samples(given, labels)


def checked(
    path: Path | str, x: NDArray[np.generic], port: ir.InputPort, array: str
) -> NDArray[np.generic]:
    """The samples ``x`` for one input in its type, from the array of that name in ``path``; raises
    :class:`DataError` where they are not [samples, *its shape] of numbers that it takes.
    """
    wanted = " x ".join(str(n) for n in ("samples", *port.shape))
    if x.ndim == 0 or x.shape[1:] != port.shape:
        raise DataError(
            f"{path}: {array} is {' x '.join(map(str, x.shape)) or 'a single number'}, but "
            f"{port.name} takes {wanted}: {layout_advice(x.shape, port.shape, array)}"
        )
    if not len(x):
        raise DataError(f"{path}: {array} holds no samples")
    if x.dtype.kind not in "fiub":
        raise DataError(f"{path}: {array} is of type {x.dtype}, but {port.name} takes {port.dtype}")
    if x.dtype.kind == "f":
        with np.errstate(over="ignore"):
            finite = np.isfinite(x.astype(np.float32, copy=False))
        if not finite.all():
            bad = int(np.argmax(~finite.reshape(len(x), -1).all(1)))
            raise DataError(
                f"{path}: sample {bad} of {array} holds NaN, infinity, or a number that no float32 "
                "holds; remove it or fix it"
            )
    dtype = port.integer
    if dtype and (x.min() < dtype.low or x.max() > dtype.high or (x != np.rint(x)).any()):
        raise DataError(
            f"{path}: {array} holds numbers that are not {port.dtype} ({x.min()} to {x.max()}); "
            f"{port.name} takes integers from {dtype.low} to {dtype.high}"
        )
    return x.astype(port.array_type, copy=False)


def _images(path: Path, port: ir.InputPort) -> Samples:
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in IMAGES and f.is_file())
    if not files:
        raise DataError(f"{path}: no images; give {', '.join(sorted(IMAGES))} files")
    image_size(path, port)
    if (size := 4 * len(files) * prod(port.shape)) > limits.SAMPLE_BYTES:
        raise DataError(
            f"{path}: {len(files)} images take {size} bytes as {port.name}; accepted: at most "
            f"{limits.SAMPLE_BYTES}; give fewer images"
        )
    x = np.stack([read_image(file, port) for file in files])
    folders = sorted({f.parent for f in files})
    y = np.array([folders.index(f.parent) for f in files]) if len(folders) > 1 else None
    return Samples(x, y)


def read_image(file: Path, port: ir.InputPort) -> NDArray[np.generic]:
    """An image file, scaled to the size of an input: one sample, [*its shape]."""
    from PIL import Image

    height, width, channels = image_size(file, port)
    try:
        with Image.open(file) as image:
            pixels = image.width * image.height
            if pixels <= limits.PIXELS:
                scaled = image.convert("L" if channels == 1 else "RGB").resize((width, height))
                return image_input(np.asarray(scaled, np.uint8), port)
    except Exception as error:  # each of Pillow's readers has exceptions of its own
        raise DataError(f"{file}: not an image that can be read ({error})") from error
    raise DataError(
        f"{file}: the image has {pixels} pixels; accepted: at most {limits.PIXELS}; scale it down"
    )


def image_input(pixels: NDArray[np.uint8], port: ir.InputPort) -> NDArray[np.generic]:
    """Pixels [height, width, channels] (one channel: also [height, width]) as a sample of an input
    of that size, [*its shape]: 0 to 1 where it takes real numbers.
    """
    height, width, channels = image_size("", port)
    image: NDArray[np.generic] = pixels.reshape(height, width, channels)
    if port.shape == (channels, height, width):
        image = image.transpose(2, 0, 1)
    if port.integer is None:
        image = image.astype(np.float32) / np.float32(255)
    return image.reshape(port.shape)


def image_size(
    path: Path | str, port: ir.InputPort, other: str = "an .npz with an array x"
) -> tuple[int, int, int]:
    """Height, width and channels of an input that takes images; ``path`` is for the message, and
    ``other``, what else may be given.
    """
    shape = port.shape
    if len(shape) == 3 and shape[0] in (1, 3):
        return shape[1], shape[2], shape[0]
    if len(shape) == 3 and shape[2] in (1, 3):
        return shape[0], shape[1], shape[2]
    raise DataError(
        f"{path}: images, but {port.name} takes {shape}, which is no image; give {other}"
    )

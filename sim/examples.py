"""What ``accuracy.json`` shows of samples and values: histograms, confusion matrix, examples."""

import io
from base64 import b64encode
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..compiler import ir

__all__ = ["Histograms", "confusion", "examples"]

Array = NDArray[Any]
Classes = NDArray[np.int64] | None

#: bars of a histogram, at most
BARS = 32
#: classes of which a confusion matrix is kept, at most
CLASSES = 128
#: samples that are shown: of those that are right, and of those that are wrong
SHOWN = 8
#: pixels of a side of a sample's picture, and values of a sample's curve, at most
SIDE, CURVE = 64, 256
#: classes with their scores that a sample shows
BEST = 3


class Histograms:
    """Of every value of a graph, how often which integers occur; and where the float network has
    the value too, its numbers on the same scale.
    """

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.integers: dict[str, NDArray[np.int64]] = {}
        self.floats: dict[str, NDArray[np.int64]] = {}

    def add(self, values: Mapping[str, Array]) -> None:
        """Count the integers of each operator's output."""
        for op in self.graph:
            if not op.view:
                self._count(self.integers, op.output, values[op.output])

    def add_floats(self, name: str, numbers: Array) -> None:
        """Count numbers that stand for the value ``name``; those that no integer stands for are
        beyond the first and the last bar.
        """
        quant = self.graph.quant(name)
        steps = numbers / float(quant.scale) + int(quant.zero)
        self._count(self.floats, name, np.rint(steps))

    def _count(self, into: dict[str, NDArray[np.int64]], name: str, steps: Array) -> None:
        edges = self._edges(name)
        inner = np.histogram(steps, edges)[0]
        below, above = int((steps < edges[0]).sum()), int((steps > edges[-1]).sum())
        counts = np.array([below, *inner, above], np.int64)
        into[name] = into.get(name, np.zeros_like(counts)) + counts

    def _edges(self, name: str) -> NDArray[np.float64]:
        dtype = self.graph.quant(name).dtype
        levels = dtype.high - dtype.low + 1
        return np.linspace(dtype.low - 0.5, dtype.high + 0.5, min(BARS, levels) + 1)

    def rows(self) -> list[dict[str, Any]]:
        """A row an operator: ``integer`` and ``float`` count what lies below the range, in each
        bar of equal width from ``low`` to ``high``, and above it.
        """
        rows = []
        for op in self.graph:
            if op.output in self.integers:
                dtype = self.graph.quant(op.output).dtype
                counts = self.floats.get(op.output)
                rows.append(
                    {
                        "name": op.name,
                        "output": op.output,
                        "low": dtype.low,
                        "high": dtype.high,
                        "integer": self.integers[op.output].tolist(),
                        "float": None if counts is None else counts.tolist(),
                    }
                )
        return rows


def confusion(classes: Classes, labels: Classes) -> list[list[int]] | None:
    """How often each label (row) got each class (column); None without labels, or with too many
    classes to look at.
    """
    if classes is None or labels is None or not len(labels):
        return None
    number = int(max(classes.max(), labels.max())) + 1
    if number > CLASSES:
        return None
    matrix = np.zeros((number, number), np.int64)
    np.add.at(matrix, (labels, classes), 1)
    found: list[list[int]] = matrix.tolist()
    return found


def examples(
    x: ir.Feeds, scores: Array | None, classes: Classes, floats: Classes, labels: Classes
) -> list[dict[str, Any]]:
    """A few samples of a network that gives classes: first those that are wrong, or where the float
    network says something else.
    """
    if classes is None or scores is None or len(x) != 1:
        return []
    (samples,) = x.values()
    wrong = np.zeros(len(classes), bool)
    for other in (labels, floats):
        wrong |= other != classes if other is not None else False
    chosen = [*np.flatnonzero(wrong)[:SHOWN], *np.flatnonzero(~wrong)[:SHOWN]]
    return [
        {
            "index": int(at),
            "label": None if labels is None else int(labels[at]),
            "float": None if floats is None else int(floats[at]),
            "integer": int(classes[at]),
            "best": _best(scores[at]),
            **_look(samples[at]),
        }
        for at in chosen
    ]


def _best(scores: Array) -> list[list[float]]:
    """The classes of the highest scores; nothing where the output is a class by itself."""
    flat = scores.reshape(-1)
    if flat.size == 1:
        return []
    return [[int(at), float(flat[at])] for at in np.argsort(-flat, kind="stable")[:BEST]]


def _look(sample: Array) -> dict[str, Any]:
    """A sample as a picture (PNG in base 64) where it is one, else as a curve."""
    numbers = np.asarray(sample, np.float64)
    low, high = float(numbers.min(initial=0)), float(numbers.max(initial=0))
    levels = (numbers - low) / (high - low) if high > low else np.zeros_like(numbers)
    picture = _picture(levels)
    if picture is None:
        step = max(1, -(-levels.size // CURVE))
        return {"curve": [round(float(level), 3) for level in levels.reshape(-1)[::step]]}
    image = Image.fromarray(np.rint(255 * picture).astype(np.uint8))
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "PNG")
    return {"image": b64encode(file.getvalue()).decode("ascii")}


def _picture(levels: Array) -> Array | None:
    """[height, width] or [height, width, 3]; None where a sample is no picture."""
    shape = levels.shape
    if len(shape) == 3 and shape[0] in (1, 3):
        levels = np.moveaxis(levels, 0, -1)
    if levels.ndim == 2:
        levels = levels[..., None]
    if levels.ndim != 3 or levels.shape[2] not in (1, 3) or min(levels.shape[:2]) < 4:
        return None
    return levels[..., 0] if levels.shape[2] == 1 else levels

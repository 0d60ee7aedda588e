"""Compares what the hardware said with what the golden model says, layer by layer."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layers", "Mismatch", "compare", "count"]

Layers = Mapping[str, NDArray[np.integer]] | Iterable[tuple[str, NDArray[np.integer]]]


@dataclass(frozen=True)
class Mismatch:
    """The first value in which a layer differs; ``seen`` is ``None`` where it never came.

    ``count`` of the layer's ``values`` differ, missing ones included.
    """

    layer: str
    frame: int
    row: int
    column: int
    channel: int
    expected: int
    seen: int | None
    count: int
    values: int

    @property
    def index(self) -> tuple[int, int, int]:
        """Row, column and channel within the frame."""
        return self.row, self.column, self.channel

    def __str__(self) -> str:
        where = (
            f"{self.layer}: frame {self.frame}, row {self.row}, column {self.column}, "
            f"channel {self.channel}"
        )
        what = "never came" if self.seen is None else f"is {self.seen}"
        return (
            f"{where} {what}, expected {self.expected} "
            f"({self.count} of {self.values} values differ)"
        )


def compare(expected: Layers, seen: Layers, *, missing_is_wrong: bool = True) -> Mismatch | None:
    """The first difference of the first layer, in the order of ``expected``, that differs.

    Expected arrays are [n, h, w, c]; seen ones too, or [pixels, c] when the stream stopped within
    a frame. Layers that were not seen (no tap) are passed over.
    """
    found = dict(_pairs(seen))
    for layer, wanted in _pairs(expected):
        if layer not in found:
            continue
        mismatch = _first(layer, np.asarray(wanted), np.asarray(found[layer]))
        if mismatch is not None and (missing_is_wrong or mismatch.seen is not None):
            return mismatch
    return None


def count(expected: NDArray[np.integer], seen: NDArray[np.integer]) -> int:
    """How many of the expected values are not what was seen, missing ones included."""
    flat, got = expected.reshape(-1), seen.reshape(-1)[: expected.size]
    return int(np.count_nonzero(flat[: len(got)] != got)) + len(flat) - len(got)


def _first(layer: str, expected: NDArray[np.integer], seen: NDArray[np.integer]) -> Mismatch | None:
    assert expected.ndim == 4, f"{layer}: {expected.shape}"
    assert seen.shape[-1] == expected.shape[-1], f"{layer}: {seen.shape} against {expected.shape}"
    differing = count(expected, seen)
    if differing == 0:
        return None
    flat, got = expected.reshape(-1), seen.reshape(-1)[: expected.size]
    wrong = np.flatnonzero(flat[: len(got)] != got)
    at = int(wrong[0]) if len(wrong) else len(got)
    frame, row, column, channel = map(int, np.unravel_index(at, expected.shape))
    return Mismatch(
        layer,
        frame,
        row,
        column,
        channel,
        int(flat[at]),
        int(got[at]) if at < len(got) else None,
        differing,
        expected.size,
    )


def _pairs(layers: Layers) -> Iterable[tuple[str, NDArray[np.integer]]]:
    return layers.items() if isinstance(layers, Mapping) else layers

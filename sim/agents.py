"""What moves on a stream, and how arrays of values become beats and beats become arrays again."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..compiler.errors import DataError, SimulationError

__all__ = ["StreamFormat", "Tap", "beats_of", "pack", "read_beats", "unpack", "write_beats"]

_CHUNK_ELEMENTS = 1 << 20
_DIGITS = np.frombuffer(b"0123456789abcdef", np.uint8)
_NOT_A_DIGIT = 255


@dataclass(frozen=True)
class StreamFormat:
    """A value of ``shape`` (height, width, channels) as it moves: ``lanes`` elements a beat.

    Pixels come in raster order, a pixel as ``ceil(channels / lanes)`` beats, the last one padded;
    element ``j`` of a beat is at bits ``[j * bits, (j + 1) * bits)``. ``name`` is the layer's.
    """

    name: str
    shape: tuple[int, int, int]
    lanes: int
    bits: int
    signed: bool

    def __post_init__(self) -> None:
        assert len(self.shape) == 3, self.shape
        assert min(*self.shape, self.lanes) >= 1, (self.shape, self.lanes)
        assert 1 <= self.bits <= 64 - (not self.signed), self.bits

    @property
    def width(self) -> int:
        """Bits of a beat."""
        return self.lanes * self.bits

    @property
    def pixel_beats(self) -> int:
        return ceil(self.shape[2] / self.lanes)

    @property
    def frame_beats(self) -> int:
        return prod(self.shape[:2]) * self.pixel_beats

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1)) if self.signed else 0

    @property
    def high(self) -> int:
        return (1 << (self.bits - self.signed)) - 1

    @property
    def dtype(self) -> "np.dtype[np.integer]":
        """The narrowest NumPy type that holds every value."""
        size = next(size for size in (8, 16, 32, 64) if size >= self.bits)
        return np.dtype(f"{'i' if self.signed else 'u'}{size // 8}")


@dataclass(frozen=True)
class Tap:
    """A stream inside the accelerator: paths below the top module, such as ``conv1.o__valid``.

    The layer's beats are the low bits of ``payload``.
    """

    stream: StreamFormat
    valid: str
    ready: str
    payload: str


def pack(stream: StreamFormat, frames: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The beats of ``frames`` [n, h, w, c] as bits [beats, width], least significant first.

    Raises ``DataError`` on a value that the stream can not carry.
    """
    frames = np.asarray(frames)
    if frames.shape[1:] != stream.shape:
        raise DataError(
            f"{stream.name}: a frame is {_by(stream.shape)} (height, width, channels), "
            f"but the samples are {_by(frames.shape[1:])}"
        )
    if not np.issubdtype(frames.dtype, np.integer):
        raise DataError(
            f"{stream.name}: the stream carries integers, not {frames.dtype}; quantize "
            f"the samples first"
        )
    if frames.size and not stream.low <= frames.min() <= frames.max() <= stream.high:
        raise DataError(
            f"{stream.name}: values from {frames.min()} to {frames.max()} were given; "
            f"the stream carries {stream.low} to {stream.high}"
        )
    channels = stream.shape[2]
    pixels = frames.reshape(-1, channels).astype(np.int64, copy=False)
    padding = stream.pixel_beats * stream.lanes - channels
    elements = np.pad(pixels, ((0, 0), (0, padding))).reshape(-1, stream.lanes)
    bits = (elements[:, :, None] >> np.arange(stream.bits)) & 1
    return bits.astype(np.uint8).reshape(-1, stream.width)


def unpack(stream: StreamFormat, bits: NDArray[np.uint8]) -> NDArray[np.integer]:
    """The values of whole pixels, [pixels, channels], from beats as :func:`pack` makes them."""
    whole = len(bits) // stream.pixel_beats * stream.pixel_beats
    weights = np.int64(1) << np.arange(stream.bits, dtype=np.int64)
    if stream.signed:
        weights[-1] = -weights[-1]
    # By element, not as one product with `weights`: that would need eight bytes a bit.
    values = np.empty((whole, stream.lanes), stream.dtype)
    elements = bits[:whole].reshape(whole, stream.lanes, stream.bits)
    for lane in range(stream.lanes):
        values[:, lane] = elements[:, lane] @ weights
    return values.reshape(-1, stream.pixel_beats * stream.lanes)[:, : stream.shape[2]]


def write_beats(path: Path, stream: StreamFormat, frames: NDArray[np.integer]) -> None:
    """Write ``frames`` as ``$fscanf("%h")`` reads it: one beat a line, in hexadecimal."""
    with path.open("wb") as file:
        for some in _chunks(frames, max(1, _CHUNK_ELEMENTS // prod(stream.shape))):
            file.write(_hexadecimal(pack(stream, some)))


def read_beats(path: Path, stream: StreamFormat) -> NDArray[np.integer]:
    """The values of all whole pixels in a file that the bench wrote, [pixels, channels].

    Raises ``SimulationError`` where the hardware left bits undefined (``x``).
    """
    digits = ceil(stream.width / 4)
    text = np.fromfile(path, np.uint8)
    beats = len(text) // (digits + 1)
    lines = text[: beats * (digits + 1)].reshape(beats, digits + 1)
    step = max(1, _CHUNK_ELEMENTS // (stream.lanes * stream.pixel_beats)) * stream.pixel_beats
    parts = [
        unpack(stream, _bits(lines[at : at + step, :digits], stream, at))
        for at in range(0, beats, step)
    ]
    return np.concatenate(parts) if parts else np.empty((0, stream.shape[2]), stream.dtype)


def beats_of(path: Path, stream: StreamFormat) -> int:
    """How many beats a file that the bench wrote holds."""
    return path.stat().st_size // (ceil(stream.width / 4) + 1)


def _chunks(frames: NDArray[np.integer], size: int) -> Iterator[NDArray[np.integer]]:
    for at in range(0, len(frames), size):
        yield frames[at : at + size]


def _hexadecimal(bits: NDArray[np.uint8]) -> bytes:
    beats, width = bits.shape
    nibbles = np.pad(bits, ((0, 0), (0, -width % 4))).reshape(beats, -1, 4)
    digits = _DIGITS[nibbles @ np.array([1, 2, 4, 8], np.uint8)][:, ::-1]
    return np.pad(digits, ((0, 0), (0, 1)), constant_values=ord("\n")).tobytes()


def _bits(lines: NDArray[np.uint8], stream: StreamFormat, first_beat: int) -> NDArray[np.uint8]:
    value = np.full(256, _NOT_A_DIGIT, np.uint8)
    value[_DIGITS] = np.arange(16)
    nibbles = value[lines]
    unknown = np.flatnonzero((nibbles == _NOT_A_DIGIT).any(axis=1))
    if len(unknown):
        seen = re.sub(r"\s", "?", lines[unknown[0]].tobytes().decode(errors="replace"))
        raise SimulationError(
            f"{stream.name}: beat {first_beat + unknown[0]} has undefined bits "
            f"({seen}); a register that is read is never written or reset"
        )
    bits = (nibbles[:, ::-1, None] >> np.arange(4, dtype=np.uint8)) & np.uint8(1)
    return bits.reshape(len(lines), -1)[:, : stream.width].astype(np.uint8, copy=False)


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))

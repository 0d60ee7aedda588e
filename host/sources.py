"""Samples that come one by one: from standard input, a folder that fills, a camera or a video."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import IO

import numpy as np
from numpy.typing import NDArray

from ..compiler import ir
from ..compiler.data import IMAGES, checked, image_input, image_size, read_image
from ..compiler.errors import DataError
from ..compiler.ir.feeds import Ports
from ..compiler.numpy_file import read_stream

__all__ = ["CAMERA", "STDIN", "Sample", "samples_from"]

STDIN, CAMERA = "-", "camera"
_FIRST_CAMERA = "/dev/video0"
#: what a message says of standard input
_ARRAYS = f"{STDIN} for .npy arrays from standard input"
#: seconds between two looks into a folder
_POLL = 0.2


@dataclass(frozen=True, eq=False)
class Sample:
    """One sample ``x`` [*shape] of a model's only input, and what it is called where it is from."""

    name: str
    x: NDArray[np.generic]


def samples_from(source: str, ports: Ports, stdin: IO[bytes] | None = None) -> Iterator[Sample]:
    """The samples of ``source`` as they come, for a model of one input.

    ``-``: arrays from standard input, each as ``numpy.save`` writes it, a sample or several. A
    folder: its images, then those that are put there later, without end. ``camera`` or a device
    below ``/dev``: a camera's newest frame each time, without end. Any other file or address: the
    frames of a video. Images are scaled to the input's size. Raises :class:`DataError` before the
    first sample where the source or the model does not fit.
    """
    if len(ports.inputs) > 1:
        raise DataError(
            f"the model has {len(ports.inputs)} inputs; a stream of samples is for one input; give "
            "their samples in an .npz"
        )
    (port,) = ports.inputs
    if source == STDIN:
        return _arrays(sys.stdin.buffer if stdin is None else stdin, port)
    _check_there(source)
    image_size(source, port, _ARRAYS)
    if Path(source).is_dir():
        return _folder(Path(source), port)
    return _video(_FIRST_CAMERA if source == CAMERA else source, port)


def _check_there(source: str) -> None:
    """Refuse what is neither a folder nor a file that may be a video."""
    path = Path(source)
    if not source:
        raise DataError(
            f"--stream: is empty; give a folder of images, a video, {CAMERA}, or {_ARRAYS}"
        )
    if path.suffix in (".npz", ".npy"):
        raise DataError(f"{source}: a file of samples; give it with --input, or {_ARRAYS}")
    if source != CAMERA and "://" not in source and not path.exists():
        raise DataError(
            f"{source}: no such folder or file; give a folder of images, a video, a camera "
            f"(camera, /dev/video1), or {_ARRAYS}"
        )


def _arrays(stream: IO[bytes], port: ir.InputPort) -> Iterator[Sample]:
    number = 0
    for array in read_stream(stream, "standard input"):
        several = array if array.ndim > len(port.shape) else array[None]
        for x in checked("standard input", several, port, f"array {number + 1}"):
            yield Sample(f"{number}", x)
            number += 1


def _folder(folder: Path, port: ir.InputPort) -> Iterator[Sample]:
    """A file is read when two looks have found it of the same size, so that it is whole."""
    done: set[Path] = set()
    sizes: dict[Path, int] = {}
    while True:
        found = {
            file: file.stat().st_size
            for file in sorted(folder.iterdir())
            if file.suffix.lower() in IMAGES and file not in done and file.is_file()
        }
        for file, size in found.items():
            if size and sizes.get(file) == size:
                yield Sample(file.name, read_image(file, port))
                done.add(file)
        sizes = found
        time.sleep(_POLL)


def _video(source: str, port: ir.InputPort) -> Iterator[Sample]:
    try:
        import av
    except ImportError:
        raise DataError(
            f"{source}: a camera or a video takes PyAV: pip install '.[video]' in a "
            "clone of gatewright; or give a folder of images"
        ) from None
    height, width, channels = image_size(source, port)
    device = source.startswith("/dev/")
    try:
        container = av.open(source, format="v4l2" if device else None)
        container.streams.video[0].thread_type = "AUTO"
    except (OSError, IndexError, ValueError) as error:
        raise DataError(
            f"{source}: no camera or video that can be read ({error}); give a folder of images, a "
            f"video, a camera (camera, /dev/video1), or {_ARRAYS}"
        ) from error

    def frames() -> Iterator[Sample]:
        with container:
            for number, frame in enumerate(container.decode(video=0)):
                scaled = frame.reformat(width, height, "gray" if channels == 1 else "rgb24")
                yield Sample(
                    f"{number}", image_input(np.asarray(scaled.to_ndarray(), np.uint8), port)
                )

    return _newest(frames()) if device else frames()


def _newest(frames: Iterator[Sample]) -> Iterator[Sample]:
    """The newest of ``frames`` each time, so that a slow reader does not fall behind a camera."""
    slot: Queue[Sample | BaseException | None] = Queue(1)

    def put(item: Sample | BaseException | None) -> None:
        with suppress(Empty):
            slot.get_nowait()
        slot.put(item)

    def read() -> None:
        try:
            for frame in frames:
                put(frame)
            put(None)
        except BaseException as error:
            put(error)

    threading.Thread(target=read, daemon=True).start()
    while (item := slot.get()) is not None:
        if isinstance(item, BaseException):
            raise item
        yield item

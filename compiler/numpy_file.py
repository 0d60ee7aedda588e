"""Arrays of numbers from ``.npy`` and ``.npz`` files, whose headers are checked before any array is
allocated.
"""

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from io import BytesIO
from math import prod
from pathlib import Path
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from . import limits
from .errors import DataError

__all__ = ["read_arrays", "read_stream", "write_arrays"]

Array = NDArray[Any]

_CHUNK = 1 << 20
_ARRAYS = 1000
_ENCRYPTED = 1


class _Bad(ValueError):
    """Why a file is refused."""


def read_arrays(path: Path, wanted: Collection[str], remedy: str) -> dict[str, Array | None]:
    """The arrays in ``path`` by name; that of an ``.npy`` file has the name "". Arrays whose names
    are not ``wanted`` are not read: None stands for them. ``remedy`` ends the message of an error.

    Raises :class:`DataError` for a file that is none, is damaged, holds Python objects, or needs
    more than ``limits.SAMPLE_BYTES``, before memory for an array is allocated.
    """
    try:
        if not path.is_file():
            raise _Bad("it is not a regular file")
        with path.open("rb") as file:
            start = file.read(6)
            file.seek(0)
            if start == npy.MAGIC_PREFIX:
                return {"": _array(file, path.stat().st_size, "the array")}
            if not start.startswith(b"PK"):
                raise _Bad("it begins like neither .npy nor .npz")
            return _archive(file, wanted)
    except DataError:
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise a dozen types for a damaged file
        raise DataError(
            f"{path}: not a NumPy file of numbers, or a damaged one "
            f"({str(error) or type(error).__name__}); {remedy}"
        ) from error


def read_stream(stream: IO[bytes], name: str) -> Iterator[Array]:
    """The arrays of ``.npy`` files that come one after another, as ``numpy.save`` writes them into
    a pipe, until the stream ends. ``name`` is the stream's, for messages.

    Raises :class:`DataError` as :func:`read_arrays` does.
    """
    number = 0
    while start := stream.read(npy.MAGIC_LEN):
        number += 1
        try:
            yield _content(stream, *_header(stream, start, f"array {number}"), f"array {number}")
        except Exception as error:
            raise DataError(
                f"{name}: not .npy arrays one after another "
                f"({str(error) or type(error).__name__}); write each with numpy.save"
            ) from error


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an ``.npz`` of ``arrays``, whatever their names are; ``path`` is replaced at once.

    ``numpy.savez`` takes the names as keywords, and so no arrays ``file`` and ``allow_pickle``.
    """
    partial = path.with_name(f".{path.name}")
    with ZipFile(partial, "w", ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, np.asanyarray(array), allow_pickle=False)
    os.replace(partial, path)


def _archive(file: IO[bytes], wanted: Collection[str]) -> dict[str, Array | None]:
    """The arrays of an ``.npz``: the members whose names end in ``.npy``."""
    with ZipFile(file) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        names = Counter(info.filename for info in members)
        if twice := [name for name, count in names.items() if count > 1]:
            raise _Bad(f"it holds {twice[0]} more than once")
        if len(members) > _ARRAYS:
            raise _Bad(f"it holds {len(members)} arrays, at most {_ARRAYS} are accepted")
        found: dict[str, Array | None] = dict.fromkeys(_name(info) for info in members)
        members = [info for info in members if _name(info) in wanted]
        _check_bytes("the arrays", sum(info.file_size for info in members))
        for info in members:
            _check_member(info)
            with archive.open(info) as member:
                found[_name(info)] = _array(member, info.file_size, _name(info))
        return found


def _name(info: ZipInfo) -> str:
    return info.filename.removesuffix(".npy")


def _check_member(info: ZipInfo) -> None:
    if info.flag_bits & _ENCRYPTED:
        raise _Bad(f"{info.filename} is encrypted")
    if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise _Bad(
            f"{info.filename} is compressed by method {info.compress_type}; numpy.savez writes "
            f"methods {ZIP_STORED} and {ZIP_DEFLATED}"
        )


def _check_bytes(what: str, size: int) -> None:
    if size > limits.SAMPLE_BYTES:
        raise _Bad(f"{size} bytes for {what}, at most {limits.SAMPLE_BYTES} are accepted")


def _array(file: IO[bytes], size: int, name: str) -> Array:
    """The array in ``file``, an ``.npy`` of ``size`` bytes."""
    shape, fortran, dtype = _header(file, file.read(npy.MAGIC_LEN), name)
    header, needed = file.tell(), prod(shape) * dtype.itemsize
    if needed != size - header:
        raise _Bad(
            f"{name} is {' x '.join(map(str, shape)) or 'one number'} of {dtype}, which takes "
            f"{needed} bytes, but the file holds {size - header}"
        )
    content = _content(file, shape, fortran, dtype, name)
    if file.read(1):
        raise _Bad(f"{name} goes on after its {needed} bytes")
    return content


def _content(
    file: IO[bytes], shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], name: str
) -> Array:
    """The array of that header, whose numbers are the next bytes in ``file``."""
    needed = prod(shape) * dtype.itemsize
    content = np.empty(needed, np.uint8)
    for start in range(0, needed, _CHUNK):
        piece = file.read(min(_CHUNK, needed - start))
        if len(piece) != min(_CHUNK, needed - start):
            raise _Bad(f"{name} ends after {start + len(piece)} of {needed} bytes")
        content[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
    if not needed:
        return np.empty(shape, dtype)
    return content.view(dtype).reshape(shape, order="F" if fortran else "C")


def _header(
    file: IO[bytes], start: bytes, name: str
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran order, and type, all of which are acceptable, of the array in
    ``file`` that begins with ``start``, its version.
    """
    version = npy.read_magic(BytesIO(start))
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    if version not in readers:
        raise _Bad(f"{name} is of .npy version {version[0]}.{version[1]}; accepted: 1.0, 2.0")
    try:
        shape, fortran, dtype = readers[version](file)
    except Exception as error:
        raise _Bad(
            f"the header of {name} is damaged: {error.args[0] if error.args else error!r}"
        ) from None
    if dtype.hasobject or dtype.names is not None or dtype.subdtype is not None:
        raise _Bad(f"{name} is of type {dtype}, which holds more than numbers")
    if not all(type(n) is int and n >= 0 for n in shape) or len(shape) > limits.RANK:
        raise _Bad(f"{name} has the shape {shape}, at most {limits.RANK} axes are accepted")
    # An empty array may have one axis of any length, so its other axes are bounded too.
    _check_bytes(name, prod(max(n, 1) for n in shape) * max(dtype.itemsize, 4))
    return shape, fortran, dtype

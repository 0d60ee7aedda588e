"""JSON files that a command writes and another reads: bounded, strict, errors name file and key."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf, isfinite
from pathlib import Path
from typing import Any

from . import limits
from .errors import DataError, GatewrightError

__all__ = ["Key", "Keys", "read_json", "shortened", "take", "write_json"]

#: characters of a value that a message shows
_SHOWN = 60


class _Damaged(ValueError):
    """Why a file is refused."""


def read_json(path: Path, remedy: str, error: type[GatewrightError] = DataError) -> Any:
    """The content of ``path``, in UTF-8; ``remedy`` ends the message of an ``error``.

    Beyond JSON's own rules: no key twice in one object, no NaN or infinity, at most
    ``limits.JSON_BYTES`` bytes and ``limits.JSON_DEPTH`` levels. Objects are
    dictionaries whose missing keys raise ``error`` too.
    """
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise _Damaged("not a regular file")
        if size > limits.JSON_BYTES:
            raise _Damaged(f"{size} bytes; at most {limits.JSON_BYTES} are accepted")
        found = json.loads(
            path.read_bytes().decode("utf-8-sig"),
            object_pairs_hook=_object(path, remedy, error),
            parse_constant=_constant,
            parse_float=_number,
        )
        _check_depth(found)
    except OSError as failed:
        raise error(f"{path}: can not be read ({failed.strerror}); {remedy}") from failed
    except UnicodeDecodeError as failed:
        raise error(f"{path}: not text in UTF-8 (byte {failed.start}); {remedy}") from failed
    except json.JSONDecodeError as failed:
        raise error(f"{path}:{failed.lineno}: not JSON ({failed.msg}); {remedy}") from failed
    except (ValueError, RecursionError) as failed:
        why = "nested too deeply" if isinstance(failed, RecursionError) else failed
        raise error(f"{path}: {why}; {remedy}") from failed
    return found


def write_json(path: Path, content: Any) -> None:
    """Write ``content``; ``path`` is replaced at once, whoever else writes it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json.dumps(content, indent=1) + "\n")
    os.replace(partial, path)


def _object(
    path: Path, remedy: str, error: type[GatewrightError]
) -> Callable[[list[tuple[str, Any]]], dict[str, Any]]:
    class Object(dict[str, Any]):
        """A JSON object of the file; a key that it lacks is an error of the file."""

        def __missing__(self, key: str) -> Any:
            raise error(f'{path}: lacks "{key}"; {remedy}')

    def make(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = Object(pairs)
        if len(found) < len(pairs):
            names = [key for key, _ in pairs]
            twice = next(key for number, key in enumerate(names) if key in names[:number])
            raise _Damaged(f"has {shortened(twice)} twice in one object")
        return found

    return make


def _constant(name: str) -> Any:
    raise _Damaged(f"holds {name}, which is no JSON number")


def _number(text: str) -> float:
    if not isfinite(number := float(text)):
        raise _Damaged(f"holds the number {shortened(text)}, which is too large")
    return number


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(limits.JSON_DEPTH):
        level = [
            child
            for parent in level
            if isinstance(parent, dict | list)
            for child in (parent.values() if isinstance(parent, dict) else parent)
        ]
        if not level:
            return
    raise _Damaged(f"nested deeper than {limits.JSON_DEPTH} levels")


def shortened(value: Any) -> str:
    """``repr`` of a value from a file, cut to what a message has room for."""
    text = f"an integer of {value.bit_length()} bits" if _is_huge(value) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and value.bit_length() > 128


# -- tables of keys --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """What a key of an object may hold.

    ``kind``: the type, ``of`` that of a list's elements. ``least`` and ``most`` bound a number,
    ``least`` also the length of a list; ``choices`` are all that a string may be. A key with a
    ``default`` may be left out; ``null``: it may be null.
    """

    kind: type
    least: int = 0
    most: float = inf
    choices: tuple[str, ...] = ()
    of: type | None = None
    default: Any = ...
    null: bool = False


Keys = Mapping[str, Key]


def take(where: str, entry: Any, keys: Keys, error: type[GatewrightError]) -> dict[str, Any]:
    """The values in ``entry``, an object, by the table ``keys``; ``error`` names place and key."""
    if not isinstance(entry, dict):
        raise error(
            f"{where}: is {shortened(entry)}; accepted: an object with {', '.join(sorted(keys))}"
        )
    if unknown := sorted(set(entry) - set(keys)):
        raise error(
            f"{where}: unknown {', '.join(shortened(key)[1:-1] for key in unknown)}; accepted: "
            f"{', '.join(sorted(keys))}"
        )
    return {name: _taken(where, entry, name, key, error) for name, key in keys.items()}


def _taken(
    where: str, entry: Mapping[str, Any], name: str, key: Key, error: type[GatewrightError]
) -> Any:
    if name not in entry:
        if key.default is ...:
            raise error(f'{where}: lacks "{name}"')
        return key.default
    value = entry[name]
    if value is None and key.null:
        return None
    if not _is(value, key.kind):
        kind = key.kind.__name__
        raise error(f'{where}: "{name}" is {shortened(value)}; it must be of type {kind}')
    if key.kind in (int, float) and value < key.least:
        raise error(f'{where}: "{name}" is {shortened(value)}; it must be at least {key.least}')
    if key.kind in (int, float) and value > key.most:
        raise error(f'{where}: "{name}" is {shortened(value)}; it must be at most {key.most}')
    if key.choices and value not in key.choices:
        raise error(
            f'{where}: "{name}" is {shortened(value)}; choose one of {", ".join(key.choices)}'
        )
    if key.kind is list and len(value) < key.least:
        raise error(f'{where}: "{name}" has {len(value)} elements; at least {key.least} are needed')
    if key.of is not None:
        for number, item in enumerate(value):
            if not _is(item, key.of):
                raise error(
                    f'{where}: element {number} of "{name}" is {shortened(item)}; it must be of '
                    f"type {key.of.__name__}"
                )
    return value


def _is(value: Any, kind: type) -> bool:
    """Whether ``value`` is of ``kind``; in Python a bool is an int too, in a file it is not."""
    return isinstance(value, kind) and isinstance(value, bool) is (kind is bool)

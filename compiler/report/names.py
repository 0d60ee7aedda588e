"""Names of layers that fit into drawings."""

from collections import Counter
from collections.abc import Iterable
from itertools import takewhile

__all__ = ["fitting", "labels"]


def fitting(name: str, letters: int) -> str:
    """A name cut to so many letters; its end tells it apart from others."""
    head = letters - letters // 3 - 1
    return name if len(name) <= letters else f"{name[:head]}…{name[head + 1 - letters :]}"


def labels(names: Iterable[str]) -> dict[str, str]:
    """A short label for each name, no two alike: of names that are joined by ``;``, as fused layers
    have them, the first, and without the folder that all are in.
    """
    whole = list(dict.fromkeys(names))
    first = {name: name.split(";")[0] for name in whole}
    folder = _folder(first.values()) if len(whole) > 1 else ""
    found = {name: label[len(folder) :].lstrip("/") or label for name, label in first.items()}
    count = Counter(found.values())
    return {name: label if count[label] == 1 else name for name, label in found.items()}


def _folder(names: Iterable[str]) -> str:
    """What all names have before their last ``/``, whole parts of it."""
    levels = zip(*(name.split("/")[:-1] for name in names), strict=False)
    return "/".join(level[0] for level in takewhile(lambda level: len(set(level)) == 1, levels))

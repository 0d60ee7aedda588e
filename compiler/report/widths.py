"""Drawings in two widths, since a drawing across a page can not be read on a phone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["NARROW", "WIDE", "Both", "both"]

#: inches: across the page or a sheet of paper, and on a phone or half of a page
WIDE, NARROW = 9.6, 3.9


@dataclass(frozen=True)
class Both:
    """The same drawing for two widths of its place; the page shows the one that fits."""

    wide: Any
    narrow: Any


def both(draw: Callable[[float], Any]) -> Both | None:
    """``draw(width)`` for both widths; None where it draws nothing."""
    wide = draw(WIDE)
    return None if wide is None else Both(wide, draw(NARROW))

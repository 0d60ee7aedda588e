"""Boards: pure data, and what turns an accelerator into a bitstream that talks to a host."""

from difflib import get_close_matches

from ..compiler.errors import PlanError
from . import icebreaker, ulx3s
from .board import Board

__all__ = ["Board", "all_boards", "get"]

_BOARDS = (*ulx3s.BOARDS, *icebreaker.BOARDS)


def all_boards() -> tuple[Board, ...]:
    """Every board, the largest of a kind first."""
    return _BOARDS


def get(name: str) -> Board:
    """The board of that name; raises ``PlanError`` listing the names, the nearest one first."""
    by_name = {board.name: board for board in _BOARDS}
    name = str(name)  # a file may hold anything
    if name in by_name:
        return by_name[name]
    near = get_close_matches(name.lower(), by_name, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise PlanError(f"there is no board called {name!r}: {hint}boards are {', '.join(by_name)}")

"""How long work reports what it does and how far it is."""

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Called at the start of each step, and as it advances."""

    def __call__(self, step: str, fraction: float | None = None, /) -> None:
        """``fraction`` of the work is done, from 0 to 1; None where that is not known."""


def silent(step: str, fraction: float | None = None, /) -> None:
    """Report to nobody."""

"""Programming a board: openFPGALoader, with the right arguments."""

from collections.abc import Callable
from pathlib import Path

from ...compiler import tools
from ...compiler.errors import ToolError
from ..board import Board
from . import flow_of

__all__ = ["flash"]

_SECONDS = 300.0


def flash(
    board: Board,
    bitstream: Path,
    log: Path,
    *,
    permanent: bool = False,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Load ``bitstream`` into the board's chip or, if ``permanent``, into its flash memory.

    Raises ``ToolError`` when there is no bitstream, no programmer or no board.
    """
    if not bitstream.is_file():
        raise ToolError(f"there is no bitstream at {bitstream}: run `gatewright build` first")
    where = (
        "--write-flash" if permanent or flow_of(board.device.target).flash_only else "--write-sram"
    )
    tools.find("openFPGALoader").run(
        ["--board", board.programmer, where, bitstream.name],
        bitstream.parent,
        log.absolute(),
        on_line,
        _SECONDS,
    )

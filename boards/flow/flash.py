"""Programming a board: openFPGALoader, with the right arguments."""

import re
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
    loader = tools.find("openFPGALoader")
    try:
        loader.run(
            ["--board", board.programmer, where, bitstream.name],
            bitstream.parent,
            log.absolute(),
            on_line,
            _SECONDS,
        )
    except ToolError as error:
        raise ToolError(f"{error}{_hint(str(error), board)}") from error


def _hint(said: str, board: Board) -> str:
    """What to do about what the programmer said; nothing where that is not known."""
    ids = f"{board.usb.vendor:04x}:{board.usb.product:04x}"
    hints = {
        r"usb_open\(\) failed|LIBUSB_ERROR_ACCESS|insufficient permission|device: -4": (
            "This user may not open the USB device: write the line "
            f'SUBSYSTEM=="usb", ATTRS{{idVendor}}=="{board.usb.vendor:04x}", '
            f'ATTRS{{idProduct}}=="{board.usb.product:04x}", MODE="0660", TAG+="uaccess" '
            "into /etc/udev/rules.d/70-gatewright.rules, run `sudo udevadm control --reload`, and "
            "plug the board in again"
        ),
        r"device not found|LIBUSB_ERROR_NO_DEVICE|device: -3": (
            f"No {board.title} is plugged in: `lsusb` does not list {ids}; check the cable (some "
            "carry no data) and the connector"
        ),
        r"unable to claim|LIBUSB_ERROR_BUSY|device: -5": (
            "Another program or driver holds the USB device: close serial terminals; else "
            "`sudo rmmod ftdi_sio` frees it (plug the board in again to get the serial port back)"
        ),
    }
    found = [text for pattern, text in hints.items() if re.search(pattern, said)]
    return f"\n{found[0]}" if found else ""

"""The serial ports of this computer, and which of them leads to a board."""

from collections.abc import Sequence
from typing import Protocol

from serial.tools import list_ports

from ..board import Board
from .driver import LinkError

__all__ = ["ListedPort", "find_port"]


class ListedPort(Protocol):
    """As much as pyserial says of a port."""

    device: str
    vid: int | None
    pid: int | None
    product: str | None
    location: str | None


def find_port(board: Board, listed: Sequence[ListedPort] | None = None) -> str:
    """The port of the one ``board`` that is plugged in; raises ``LinkError`` for none or several.

    ``listed`` is what pyserial lists (default: ask it).
    """
    ports = list_ports.comports() if listed is None else listed
    likely = [port for port in ports if _is_bridge(board, port)]
    named = [port for port in likely if board.usb.called.lower() in (port.product or "").lower()]
    found = [port.device for port in named or likely]
    if len(found) == 1:
        return found[0]
    if found:
        raise LinkError(
            f"several ports may be the {board.title}: {', '.join(found)}; choose one with --port"
        )
    others = ", ".join(port.device for port in ports) or "none"
    raise LinkError(
        f"no {board.title} is plugged in: no port has its USB bridge "
        f"({board.usb.vendor:04x}:{board.usb.product:04x}); ports are: {others}. Give the port "
        "with --port, or run without a board: --port emulate"
    )


def _is_bridge(board: Board, port: ListedPort) -> bool:
    usb = board.usb
    if (port.vid, port.pid) != (usb.vendor, usb.product):
        return False
    interface = (port.location or "").rpartition(":")[2].rpartition(".")[2]
    return usb.interface is None or not interface.isdigit() or int(interface) == usb.interface

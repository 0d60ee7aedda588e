"""What host and board say to each other: the bytes, in one place for gateware, driver and emulator.

    host to board                                board to host
    SYNC PING                                    SYNC PING  design id (8)  fault (1)  CRC (2)
    SYNC FRAME  beats  CRC (2)                   SYNC FRAME  beats  cycles (4)  status (1)  CRC (2)

A beat is ``ceil(bits / 8)`` bytes, least significant first, and so are ``cycles`` (from the first
beat into the accelerator to the last one out). CRC is CRC-16/XMODEM, high byte first, over what
stands between the command byte and itself. The board ignores bytes until it sees SYNC and a
command it knows, and gives up a frame that pauses for long; a PING always ends whatever it is
doing, so a host can always get back in step.
"""

from binascii import crc_hqx
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from ...compiler.errors import DataError
from ...compiler.json_file import Key, Keys, take
from ...hw.sizes import at_least

__all__ = [
    "FRAME",
    "ID_BYTES",
    "PING",
    "STATUS_BAD_CRC",
    "STATUS_DONE",
    "SYNC",
    "Fault",
    "LinkConfig",
    "beats_from_bytes",
    "beats_to_bytes",
    "checksum",
    "frame_request",
    "link_config",
    "ping_request",
]

SYNC = 0xA5
PING = ord("P")
FRAME = ord("F")
ID_BYTES = 8
CYCLES_BYTES = 4
CRC_BYTES = 2
STATUS_DONE = 0
STATUS_BAD_CRC = 1


class Fault(IntEnum):
    """Why the board gave up the last frame; a ping tells."""

    NONE = 0
    OVERRUN = 1
    """A beat came before the accelerator had taken the one before it."""
    PAUSE = 2
    """The frame's bytes stopped coming."""
    ABANDONED = 3
    """A new command came while the accelerator was at work."""


@dataclass(frozen=True)
class LinkConfig:
    """The shape of a frame on the link, and its clocks.

    ``bits_in`` and ``bits_out`` are the data bits of a beat, before padding to bytes. A
    ``buffered`` link holds the whole frame and plays it at full speed, so that ``cycles`` is the
    accelerator's own latency; otherwise beats are passed on as the UART delivers them. A frame
    whose bytes stop coming for ``pause_seconds`` is given up. ``clock_hz`` is the accelerator's
    clock, ``link_hz`` that of the bytes; 0 where they share the accelerator's.
    """

    beats_in: int
    bits_in: int
    beats_out: int
    bits_out: int
    clock_hz: int
    baud: int
    design_id: int = 0
    buffered: bool = True
    pause_seconds: float = 0.5
    link_hz: int = 0

    def __post_init__(self) -> None:
        at_least(1, self, "beats_in", "bits_in", "beats_out", "bits_out", "clock_hz", "baud")
        at_least(0, self, "design_id", "pause_seconds", "link_hz")
        if self.design_id >= 1 << 8 * ID_BYTES:
            raise ValueError(
                f"LinkConfig: design_id={self.design_id:#x}, but it must fit {ID_BYTES} bytes"
            )

    @property
    def uart_hz(self) -> int:
        """The clock that bauds are made from."""
        return self.link_hz or self.clock_hz

    @property
    def bytes_in(self) -> int:
        """Bytes of one beat into the accelerator."""
        return -(-self.bits_in // 8)

    @property
    def bytes_out(self) -> int:
        """Bytes of one beat out of the accelerator."""
        return -(-self.bits_out // 8)

    @property
    def request_bytes(self) -> int:
        """Bytes of a whole frame request."""
        return 2 + self.beats_in * self.bytes_in + CRC_BYTES

    @property
    def reply_bytes(self) -> int:
        """Bytes of a whole frame reply."""
        return 2 + self.beats_out * self.bytes_out + CYCLES_BYTES + 1 + CRC_BYTES


_LINK: Keys = {
    "beats_in": Key(int, 1, 1 << 24),
    "bits_in": Key(int, 1, 1 << 20),
    "beats_out": Key(int, 1, 1 << 24),
    "bits_out": Key(int, 1, 1 << 20),
    "clock_hz": Key(int, 1, 1 << 32),
    "baud": Key(int, 1, 1 << 32),
    "design_id": Key(int, 0, (1 << 8 * ID_BYTES) - 1),
    "buffered": Key(bool),
    "pause_seconds": Key(float, 0, 60),
    "link_hz": Key(int, 0, 1 << 32),
}


def link_config(file: Path, built: Any) -> LinkConfig:
    """The link that a bitstream was built with: ``built`` is the content of ``file``,
    ``build.json``. Raises DataError when a value is of another type or out of bounds.
    """
    return LinkConfig(**take(f"{file}: link", built["link"], _LINK, DataError))


def checksum(data: bytes) -> bytes:
    """CRC-16/XMODEM of ``data``, high byte first."""
    return crc_hqx(data, 0).to_bytes(CRC_BYTES, "big")


def ping_request() -> bytes:
    return bytes((SYNC, PING))


def frame_request(config: LinkConfig, beats: Iterable[int]) -> bytes:
    """The bytes that send one frame."""
    data = beats_to_bytes(beats, config.bytes_in)
    return bytes((SYNC, FRAME)) + data + checksum(data)


def beats_to_bytes(beats: Iterable[int], size: int) -> bytes:
    return b"".join(beat.to_bytes(size, "little") for beat in beats)


def beats_from_bytes(data: bytes, size: int) -> tuple[int, ...]:
    return tuple(
        int.from_bytes(data[start : start + size], "little") for start in range(0, len(data), size)
    )

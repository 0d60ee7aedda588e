"""What host and board say to each other: the bytes, in one place for gateware, driver and emulator.

    host to board                                board to host
    SYNC PING                                    SYNC PING  design id (8)  fault (1)  CRC (2)
    SYNC FRAME  beats  CRC (2)                   SYNC FRAME  beats  cycles (4)  status (1)  CRC (2)

The beats of a request are those of each input, one input after the other in the order of
``LinkConfig.inputs``; the beats of a reply are those of each output in the same way. A beat is
``ceil(bits / 8)`` bytes of its port, least significant first, and so are ``cycles`` (from the first
beat into the accelerator to the last one out). CRC is CRC-16/XMODEM, high byte first, over what
stands between the command byte and itself. The board ignores bytes until it sees SYNC and a
command it knows, and gives up a frame that pauses for long; a PING always ends whatever it is
doing, so a host can always get back in step.
"""

from binascii import crc_hqx
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import ceil
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
    "LinkPort",
    "beats_from_bytes",
    "beats_to_bytes",
    "checksum",
    "frame_request",
    "link_config",
    "link_ports",
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
_CLOCKS_DIFFER = 1.05
_MARGIN_BYTES = 8


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
class LinkPort:
    """A port of the accelerator: its name, the prefix of its signals, beats of a frame and data
    bits of a beat, before padding to bytes.
    """

    name: str
    prefix: str
    beats: int
    bits: int

    def __post_init__(self) -> None:
        at_least(1, self, "beats", "bits")

    @property
    def bytes(self) -> int:
        """Bytes of one beat."""
        return -(-self.bits // 8)

    @property
    def frame_bytes(self) -> int:
        return self.beats * self.bytes


@dataclass(frozen=True)
class LinkConfig:
    """The shape of a frame on the link, and its clocks.

    A ``buffered`` link holds the whole frame and plays it at full speed, so that ``cycles`` is the
    accelerator's own latency; otherwise beats are passed on as the UART delivers them. A frame
    whose bytes stop coming for ``pause_seconds`` is given up. ``clock_hz`` is the accelerator's
    clock, ``link_hz`` that of the bytes; 0 where they share the accelerator's.
    """

    inputs: tuple[LinkPort, ...]
    outputs: tuple[LinkPort, ...]
    clock_hz: int
    baud: int
    design_id: int = 0
    buffered: bool = True
    pause_seconds: float = 0.5
    link_hz: int = 0

    def __post_init__(self) -> None:
        at_least(1, self, "clock_hz", "baud")
        at_least(0, self, "design_id", "pause_seconds", "link_hz")
        for way, ports in (("inputs", self.inputs), ("outputs", self.outputs)):
            if not ports:
                raise ValueError(f"LinkConfig: {way} has no ports; give at least one")
            if shared := repeated(ports):
                raise ValueError(
                    f"LinkConfig: {way}: {', '.join(shared)}: a name or a prefix of more than one "
                    "port; give each one of its own"
                )
        if self.design_id >= 1 << 8 * ID_BYTES:
            raise ValueError(
                f"LinkConfig: design_id={self.design_id:#x}, but it must fit {ID_BYTES} bytes"
            )

    @property
    def uart_hz(self) -> int:
        """The clock that bauds are made from."""
        return self.link_hz or self.clock_hz

    @property
    def holds_inputs(self) -> bool:
        """Whether a whole frame of every input is held before it is played. Several inputs are
        always held: their beats come one input after the other, and the accelerator may want both
        at once.
        """
        return self.buffered or len(self.inputs) > 1

    @property
    def holds_outputs(self) -> bool:
        """Whether a whole frame of every output is held. Several outputs always are: they leave one
        after the other, and the accelerator may give them in any order.
        """
        return self.buffered or len(self.outputs) > 1

    @property
    def bytes_in(self) -> int:
        """Bytes of the widest beat into the accelerator."""
        return max(port.bytes for port in self.inputs)

    @property
    def bytes_out(self) -> int:
        """Bytes of the widest beat out of the accelerator."""
        return max(port.bytes for port in self.outputs)

    @property
    def request_bytes(self) -> int:
        """Bytes of a whole frame request."""
        return 2 + sum(port.frame_bytes for port in self.inputs) + CRC_BYTES

    @property
    def result_bytes(self) -> int:
        """Bytes of all beats of a frame reply."""
        return sum(port.frame_bytes for port in self.outputs)

    @property
    def reply_bytes(self) -> int:
        """Bytes of a whole frame reply."""
        return 2 + self.result_bytes + CYCLES_BYTES + 1 + CRC_BYTES

    def filling_bytes(self, cycles: int) -> int:
        """Bytes for which the board is at work on a frame of ``cycles`` after its request has
        ended, and some more for clocks that are not quite equal.
        """
        computing = cycles * self.baud / (10 * self.clock_hz)
        return ceil((computing + self.reply_bytes) * _CLOCKS_DIFFER) + _MARGIN_BYTES

    def frames_per_second(self, cycles: int) -> float:
        """The highest rate on the line of frames of ``cycles``, sent back to back. The board takes
        no request while it computes: ``cycles``, the planned or the counted latency, are part of
        each frame's time.
        """
        return self.baud / (10 * (self.request_bytes + self.filling_bytes(cycles)))


_LINK: Keys = {
    "inputs": Key(list, 1),
    "outputs": Key(list, 1),
    "clock_hz": Key(int, 1, 1 << 32),
    "baud": Key(int, 1, 1 << 32),
    "design_id": Key(int, 0, (1 << 8 * ID_BYTES) - 1),
    "buffered": Key(bool),
    "pause_seconds": Key(float, 0, 60),
    "link_hz": Key(int, 0, 1 << 32),
}
_PORT: Keys = {
    "name": Key(str),
    "prefix": Key(str),
    "beats": Key(int, 1, 1 << 24),
    "bits": Key(int, 1, 1 << 20),
}


def link_config(file: Path, built: Any) -> LinkConfig:
    """The link that a bitstream was built with: ``built`` is the content of ``file``,
    ``build.json``. Raises DataError when a value is of another type or out of bounds.
    """
    link = built["link"]
    if isinstance(link, dict) and "beats_in" in link:
        raise DataError(
            f"{file}: link: of an older gatewright, whose accelerators had one input and one "
            "output; compile and build again"
        )
    table = take(f"{file}: link", link, _LINK, DataError)
    for way in ("inputs", "outputs"):
        table[way] = link_ports(f"{file}: link: {way}", table[way])
    return LinkConfig(**table)


def link_ports(where: str, entries: Sequence[Any]) -> tuple[LinkPort, ...]:
    """The ports in a list of a JSON file; keys that the link needs not are ignored."""
    known = [
        {key: entry[key] for key in _PORT if key in entry} if isinstance(entry, dict) else entry
        for entry in entries
    ]
    ports = tuple(
        LinkPort(**take(f"{where}: {number}", entry, _PORT, DataError))
        for number, entry in enumerate(known)
    )
    if shared := repeated(ports):
        raise DataError(
            f"{where}: {', '.join(shared)}: a name or a prefix of more than one port; accepted: "
            "one of its own for each; run `gatewright compile` again"
        )
    return ports


def repeated(ports: Sequence[LinkPort]) -> list[str]:
    """The names and the prefixes that several of ``ports`` have."""
    counts = [*Counter(port.name for port in ports).items()]
    counts += Counter(port.prefix for port in ports).items()
    return [name for name, count in counts if count > 1]


def checksum(data: bytes) -> bytes:
    """CRC-16/XMODEM of ``data``, high byte first."""
    return crc_hqx(data, 0).to_bytes(CRC_BYTES, "big")


def ping_request() -> bytes:
    return bytes((SYNC, PING))


def frame_request(config: LinkConfig, beats: Mapping[str, Iterable[int]]) -> bytes:
    """The bytes that send one frame: the beats of each input by its name."""
    data = beats_to_bytes(config.inputs, beats)
    return bytes((SYNC, FRAME)) + data + checksum(data)


def beats_to_bytes(ports: Sequence[LinkPort], beats: Mapping[str, Iterable[int]]) -> bytes:
    """The beats of each port, by name, one port after the other."""
    return b"".join(
        beat.to_bytes(port.bytes, "little") for port in ports for beat in beats[port.name]
    )


def beats_from_bytes(ports: Sequence[LinkPort], data: bytes) -> dict[str, tuple[int, ...]]:
    """The beats of each port by name."""
    found, start = {}, 0
    for port in ports:
        end = start + port.frame_bytes
        found[port.name] = tuple(
            int.from_bytes(data[at : at + port.bytes], "little")
            for at in range(start, end, port.bytes)
        )
        start = end
    return found

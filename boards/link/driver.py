"""The driver: runs frames on a board over its serial port."""

import errno
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread
from types import TracebackType
from typing import Protocol, Self

import serial

from ...compiler.errors import DataError, ToolError
from .protocol import (
    CRC_BYTES,
    CYCLES_BYTES,
    FRAME,
    ID_BYTES,
    PING,
    STATUS_BAD_CRC,
    STATUS_DONE,
    SYNC,
    Fault,
    LinkConfig,
    LinkPort,
    beats_from_bytes,
    checksum,
    frame_request,
    ping_request,
)

__all__ = ["PATIENCE", "FrameResult", "Host", "LinkError", "SerialPort", "open_port"]

PATIENCE = 2.0
"""Seconds to wait for the accelerator."""

_CHUNK = 512

_WHY = {
    Fault.NONE: "the board is alive, but heard no whole frame",
    Fault.OVERRUN: "the accelerator is slower than the serial port and the link has no frame "
    "buffer: build again with a lower baud rate (gatewright build --baud)",
    Fault.PAUSE: "some of the frame's bytes never reached the board",
    Fault.ABANDONED: "the accelerator was still at work: allow more time, or check the design",
}


class LinkError(ToolError):
    """The board did not answer, or not as agreed."""


class SerialPort(Protocol):
    """As much of a serial port as the driver uses."""

    timeout: float | None

    def read(self, size: int = 1) -> bytes: ...
    def write(self, data: bytes, /) -> int | None: ...
    def reset_input_buffer(self) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True)
class FrameResult:
    """One frame's result: the beats of each output by name. ``cycles``: from the first beat in to
    the last beat out.
    """

    beats: dict[str, tuple[int, ...]]
    cycles: int


def open_port(name: str, baud: int) -> SerialPort:
    """The serial port ``name``; raises ``LinkError`` saying why it can not be opened."""
    try:
        port: SerialPort = serial.Serial(name, baud, timeout=1.0, write_timeout=10.0)
    except Exception as error:  # pyserial lets termios.error and OverflowError through
        raise LinkError(
            f"the serial port {name} can not be opened: {error}. {_hint(error)}"
        ) from error
    return port


def _hint(error: Exception) -> str:
    """What to do about a port that can not be opened."""
    number = getattr(error, "errno", None)
    if number == errno.EACCES:
        return (
            "You may not use it: join the group that owns it (sudo usermod -a -G dialout $USER, "
            "then log in again)"
        )
    if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        return "Is the board plugged in? `gatewright run` without --port looks for it"
    if number == errno.EBUSY:
        return "Another program uses it: close that (a terminal, ModemManager)"
    return "Is the board plugged in, and may you use the port (group dialout)?"


class Host:
    """A board that runs one accelerator.

    Every request ends within the time that its bytes take and ``patience``, whatever the port
    receives meanwhile. A port that fails, or is closed, is a :class:`LinkError`.

    A reply carries no number, so after any failure the next request first pings: what the board
    said to an earlier request comes before its answer to that, and is dropped.

    Parameters
    ----------
    config : as the bitstream was built with (``build.json``, key ``link``)
    patience : seconds to wait for the accelerator, on top of the time the bytes take
    """

    def __init__(self, port: SerialPort, config: LinkConfig, patience: float = PATIENCE) -> None:
        self.port, self.config, self.patience = port, config, patience
        self._heard = 0  # bytes since the last request
        self._in_step = False  # nothing that answers an earlier request can arrive

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(Exception):  # a vanished port can not be closed, and need not be
            self.port.close()

    def ping(self) -> Fault:
        """Why the last frame was given up, if it was.

        Raises ``LinkError`` when nothing answers, or when the board runs another design.
        """
        self._in_step = False
        self._write(ping_request())
        body = self._receive(PING, ID_BYTES + 1)
        return self._pinged(body)

    def _pinged(self, body: bytes | None) -> Fault:
        """What a ping's answer says: none, or its body."""
        if body is None:
            heard = (
                f"the {self._heard} bytes that came are no answer of the board: is this its port,"
                if self._heard
                else "the board does not answer:"
            )
            raise LinkError(
                f"{heard} is it programmed with this design (gatewright flash), and the port's "
                f"rate {self.config.baud} baud?"
            )
        found = int.from_bytes(body[:ID_BYTES], "little")
        if found != self.config.design_id:
            raise LinkError(
                f"the board runs design {found:016x}, not "
                f"{self.config.design_id:016x}: program it first (gatewright flash)"
            )
        fault = body[ID_BYTES]
        if fault not in tuple(Fault):
            raise LinkError(
                f"the board reports the fault {fault}, which this gatewright does not know: "
                "program it again (gatewright build, gatewright flash)"
            )
        self._in_step = True
        return Fault(fault)

    def reset(self) -> None:
        """Reset the accelerator, so that the next frame is the first of a sequence.

        The board clears it when a frame is given up: one is begun and left. Raises ``LinkError``.
        """
        self._write(bytes((SYNC, FRAME)))
        time.sleep(2 * self.config.pause_seconds)
        if (fault := self.ping()) is not Fault.PAUSE:
            raise LinkError(f"the board did not reset the accelerator: {_WHY[fault]}")

    def run(self, beats: Mapping[str, Sequence[int]]) -> FrameResult:
        """One frame through the accelerator, the beats of each input by name; raises ``DataError``
        or ``LinkError``.
        """
        self._check(beats)
        if not self._in_step:
            self.ping()
        self._in_step = False
        self._write(frame_request(self.config, beats))
        body = self._receive(FRAME, self._body_bytes)
        if body is None:
            raise LinkError(f"no answer to a frame: {self._diagnosis()}")
        result = self._result(body)
        self._in_step = True
        return result

    def run_batch(
        self,
        frames: Sequence[Mapping[str, Sequence[int]]],
        cycles: int,
        answered: Callable[[int], None] | None = None,
    ) -> list[FrameResult]:
        """Frames back to back, each of at most ``cycles``, without waiting for answers in between.

        Between two requests the host sends bytes that the board ignores, for as long as the frame
        before takes to compute and to be answered: the line never pauses, and the board gets no
        request while it is at work. A ping ends the batch.

        The results are those of ``frames`` for certain if there is one good answer for each: a
        request has at most one, and answers keep the order. Otherwise LinkError. ``answered`` is
        called with the number of answers after each.
        """
        for beats in frames:
            self._check(beats)
        if not self._in_step:
            self.ping()
        self._in_step = False
        filling = bytes(self.config.filling_bytes(cycles))
        requests = [frame_request(self.config, beats) + filling for beats in frames]
        wire = 10.0 * sum(map(len, requests)) / self.config.baud
        results: list[FrameResult] = []
        with self._sending(b"".join((*requests, ping_request()))):
            deadline = time.monotonic() + wire + self._wire_seconds + self.patience
            while (command := self._find(deadline, PING, FRAME)) == FRAME:
                body = self._body(self._body_bytes, deadline)
                if body is None:
                    break
                results.append(self._result(body))
                if answered is not None:
                    answered(len(results))
            body = self._body(ID_BYTES + 1, deadline) if command == PING else None
        fault = self._pinged(body)
        if len(results) != len(frames) or fault is not Fault.NONE:
            self._in_step = False
            raise LinkError(
                f"{len(results)} answers to {len(frames)} frames sent back to back: {_WHY[fault]}"
            )
        return results

    @property
    def _body_bytes(self) -> int:
        """Bytes of a frame reply that its CRC covers."""
        return self.config.result_bytes + CYCLES_BYTES + 1

    @property
    def _wire_seconds(self) -> float:
        """How long a request and its reply take on the line."""
        return 10.0 * (self.config.request_bytes + self.config.reply_bytes) / self.config.baud

    def _result(self, body: bytes) -> FrameResult:
        """What the body of a frame reply holds; raises where its status is not good."""
        if body[-1] not in (STATUS_DONE, STATUS_BAD_CRC):
            raise LinkError(
                f"the board answers with the status {body[-1]}, which this gatewright does not "
                "know: program it again (gatewright build, gatewright flash)"
            )
        if body[-1] == STATUS_BAD_CRC:
            raise LinkError(
                "the frame reached the board with errors: check the cable, or build "
                "with a lower baud rate (gatewright build --baud)"
            )
        size = self.config.result_bytes
        cycles = int.from_bytes(body[size : size + CYCLES_BYTES], "little")
        return FrameResult(beats_from_bytes(self.config.outputs, body[:size]), cycles)

    def _check(self, beats: Mapping[str, Sequence[int]]) -> None:
        names = [port.name for port in self.config.inputs]
        if sorted(beats) != sorted(names):
            raise DataError(
                f"a frame has beats of {', '.join(names)}, but {', '.join(beats) or 'none'} were "
                "given"
            )
        for port in self.config.inputs:
            self._check_port(port, beats[port.name])

    @staticmethod
    def _check_port(port: LinkPort, beats: Sequence[int]) -> None:
        if len(beats) != port.beats:
            raise DataError(f"{port.name}: a frame has {port.beats} beats, not {len(beats)}")
        for index, beat in enumerate(beats):
            if not 0 <= beat < 1 << port.bits:
                raise DataError(
                    f"{port.name}: beat {index} is {beat}, which is no unsigned number of "
                    f"{port.bits} bits"
                )

    def _diagnosis(self) -> str:
        """Ask the board, once it has given up, what went wrong."""
        time.sleep(2 * self.config.pause_seconds)
        return _WHY[self.ping()]

    def _write(self, data: bytes) -> None:
        """Send a request; what has come before it is no answer to it."""
        with _port_errors():
            self.port.reset_input_buffer()
            self.port.write(data)
        self._heard = 0

    @contextmanager
    def _sending(self, data: bytes) -> Iterator[None]:
        """Send a request while the body listens; the body's error comes first."""
        failed: list[BaseException] = []
        stop = Event()

        def send() -> None:
            try:
                for at in range(0, len(data), _CHUNK):
                    if stop.is_set():
                        return
                    self.port.write(data[at : at + _CHUNK])
            except Exception as error:
                failed.append(error)

        with _port_errors():
            self.port.reset_input_buffer()
        self._heard = 0
        sender = Thread(target=send, daemon=True)
        sender.start()
        try:
            yield
        finally:
            stop.set()
            sender.join(self.patience + 1)
        with _port_errors():
            if failed:
                raise failed[0]

    def _receive(self, command: int, size: int) -> bytes | None:
        """The body of a reply, ``None`` if none came in time; raises when its CRC is wrong."""
        deadline = time.monotonic() + self._wire_seconds + self.patience
        if self._find(deadline, command) is None:
            return None
        return self._body(size, deadline)

    def _body(self, size: int, deadline: float) -> bytes | None:
        data = self._read(size + CRC_BYTES, deadline)
        if len(data) < size + CRC_BYTES:
            return None
        body, crc = data[:size], data[size:]
        if checksum(body) != crc:
            raise LinkError(
                "the board's answer arrived with errors: check the cable, or build "
                "with a lower baud rate (gatewright build --baud)"
            )
        return body

    def _find(self, deadline: float, *commands: int) -> int | None:
        """Skip to just behind the head of a reply to one of ``commands``, and return it."""
        before = b""
        while time.monotonic() < deadline and (byte := self._read(1, deadline)):
            if before == bytes((SYNC,)) and byte[0] in commands:
                return byte[0]
            before = byte
        return None

    def _read(self, size: int, deadline: float) -> bytes:
        """Up to ``size`` bytes: fewer only when ``deadline`` has passed."""
        with _port_errors():
            self.port.timeout = max(0.0, deadline - time.monotonic())
            data = self.port.read(size)
        self._heard += len(data)
        return data


@contextmanager
def _port_errors() -> Iterator[None]:
    """Raise :class:`LinkError` for whatever a failing port raises."""
    try:
        yield
    except Exception as error:  # a closed port raises TypeError, a vanished one termios.error
        raise LinkError(
            f"the serial port failed: {error}; is the board still plugged in?"
        ) from error

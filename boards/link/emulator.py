"""The board's side of the link in plain Python: the driver is tested without a board."""

import os
import threading
import time
import tty
from collections.abc import Callable, Mapping, Sequence

from .protocol import (
    CRC_BYTES,
    CYCLES_BYTES,
    FRAME,
    ID_BYTES,
    PING,
    STATUS_BAD_CRC,
    SYNC,
    Fault,
    LinkConfig,
    beats_from_bytes,
    beats_to_bytes,
    checksum,
)

__all__ = ["BoardModel", "MemoryPort", "PtyBoard"]


class BoardModel:
    """Bytes in, bytes out, as the gateware ``Link`` does it.

    ``compute`` gives a frame's beats of each output, by name, from those of each input; ``None``
    from it stands for an accelerator that never answers. ``cycles`` is the latency that is
    reported.
    """

    def __init__(
        self,
        config: LinkConfig,
        compute: Callable[[Mapping[str, Sequence[int]]], Mapping[str, Sequence[int]] | None],
        cycles: int = 0,
    ) -> None:
        self.config, self.compute, self.cycles = config, compute, cycles
        self.fault = Fault.NONE
        self.running = False
        self._pending = bytearray()

    def feed(self, data: bytes) -> bytes:
        """The answer to ``data``, which may hold parts of requests."""
        self._pending += data
        answer = b""
        while (reply := self._step()) is not None:
            answer += reply
        return answer

    def pause(self) -> None:
        """The line fell silent: give up what is half received."""
        if self._pending[:2] == bytes((SYNC, FRAME)):
            self.fault = Fault.PAUSE
            self._pending.clear()

    def _step(self) -> bytes | None:
        """Take one request off the front, or one byte of noise; ``None`` when more is needed."""
        pending = self._pending
        if len(pending) < 2:
            return None
        if pending[0] != SYNC or pending[1] not in (PING, FRAME):
            del pending[0]
            return b""
        if pending[1] == PING:
            del pending[:2]
            return self._ping()
        if len(pending) < self.config.request_bytes:
            return None
        request = bytes(pending[: self.config.request_bytes])
        del pending[: self.config.request_bytes]
        return self._frame(request[2:-CRC_BYTES], request[-CRC_BYTES:])

    def _ping(self) -> bytes:
        if self.running:
            self.fault, self.running = Fault.ABANDONED, False
        body = self.config.design_id.to_bytes(ID_BYTES, "little") + bytes((self.fault,))
        return bytes((SYNC, PING)) + body + checksum(body)

    def _frame(self, data: bytes, crc: bytes) -> bytes:
        self.fault, self.running = Fault.NONE, True
        result = self.compute(beats_from_bytes(self.config.inputs, data))
        if result is None:
            return b""
        self.running = False
        body = (
            beats_to_bytes(self.config.outputs, result)
            + self.cycles.to_bytes(CYCLES_BYTES, "little")
            + bytes((0 if checksum(data) == crc else STATUS_BAD_CRC,))
        )
        return bytes((SYNC, FRAME)) + body + checksum(body)


class MemoryPort:
    """A serial port, as far as the driver uses one, with a ``BoardModel`` at its far end.

    ``spoil`` may change what passes the wire: it is given the request's bytes and returns others.
    """

    def __init__(self, board: BoardModel, spoil: Callable[[bytes], bytes] | None = None) -> None:
        self.board, self.spoil = board, spoil
        self.timeout: float | None = None
        self._arrived = bytearray()

    def write(self, data: bytes) -> int:
        self._arrived += self.board.feed(self.spoil(data) if self.spoil else data)
        return len(data)

    def read(self, size: int = 1) -> bytes:
        taken = bytes(self._arrived[:size])
        del self._arrived[:size]
        if len(taken) < size:
            self.board.pause()
        return taken

    def reset_input_buffer(self) -> None:
        self._arrived.clear()

    def close(self) -> None:
        pass


class PtyBoard:
    """A ``BoardModel`` behind a pseudo-terminal, for programs that open a port by its name.

    Used as a context manager; ``port`` is the name to open.
    """

    def __init__(self, board: BoardModel) -> None:
        self.board = board
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.port = os.ttyname(self._theirs)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._stop = threading.Event()

    def __enter__(self) -> "PtyBoard":
        os.set_blocking(self._ours, False)
        self._thread.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._ours)
        os.close(self._theirs)

    def _serve(self) -> None:
        heard = time.monotonic()
        while not self._stop.is_set():
            try:
                self._send(self.board.feed(os.read(self._ours, 4096)))
                heard = time.monotonic()
            except BlockingIOError:
                if time.monotonic() > heard + self.board.config.pause_seconds:
                    self.board.pause()
                time.sleep(0.002)

    def _send(self, data: bytes) -> None:
        while data and not self._stop.is_set():
            try:
                data = data[os.write(self._ours, data) :]
            except BlockingIOError:
                time.sleep(0.002)

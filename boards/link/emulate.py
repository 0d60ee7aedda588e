"""A board without a board: the Verilated chip behind a pseudo-terminal, and faults on its line."""

import json
import os
import random
import selectors
import signal
import subprocess
import threading
import tty
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from ...compiler.errors import DataError, ToolError
from .verilated import VerilatedBoard

__all__ = ["EmulatedBoard", "Faults"]

_CHUNK = 4096
_KEPT_TRACES = 64


@dataclass
class Faults:
    """What goes wrong on the line: chances of a byte to be changed, lost, or followed by another
    one, each way; chance, with each byte to the board, that the board is reset or that the port is
    unplugged.
    """

    noise: float = 0.0
    loss: float = 0.0
    extra: float = 0.0
    reset: float = 0.0
    unplug: float = 0.0
    seed: int = 0
    _random: random.Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("noise", "loss", "extra", "reset", "unplug"):
            if not 0 <= getattr(self, name) <= 1:
                raise DataError(
                    f"fault {name}={getattr(self, name):g}: a probability from 0 to 1 for each byte"
                )
        self._random = random.Random(self.seed)

    @classmethod
    def parse(cls, text: str) -> "Faults":
        """From ``noise=0.001,loss=1e-4,seed=3``; raises ``DataError``."""
        given: dict[str, Any] = {}
        for part in filter(None, text.split(",")):
            name, _, number = part.partition("=")
            if name not in ("noise", "loss", "extra", "reset", "unplug", "seed"):
                raise DataError(
                    f"--faults {part}: choose noise, loss, extra, reset, unplug or seed, as in "
                    "noise=0.001"
                )
            try:
                given[name] = int(number) if name == "seed" else float(number)
            except ValueError:
                raise DataError(f"--faults {part}: {number!r} is no number") from None
        return cls(**given)

    def spoil(self, data: bytes) -> bytes:
        """What arrives of ``data``."""
        if not (self.noise or self.loss or self.extra):
            return data
        arrived = bytearray()
        for byte in data:
            if self._happens(self.loss):
                continue
            change = 1 << self._random.randrange(8) if self._happens(self.noise) else 0
            arrived.append(byte ^ change)
            if self._happens(self.extra):
                arrived.append(self._random.randrange(256))
        return bytes(arrived)

    def first_reset(self, size: int) -> int | None:
        """How many of ``size`` bytes pass before the board is reset; None where it is not."""
        return next((n for n in range(size) if self._happens(self.reset)), None)

    def unplugs(self, size: int) -> bool:
        """Whether the port is unplugged within ``size`` bytes."""
        return any(self._happens(self.unplug) for _ in range(size))

    def _happens(self, chance: float) -> bool:
        return bool(chance) and self._random.random() < chance


class EmulatedBoard:
    """A :class:`VerilatedBoard` that runs and is heard at the pseudo-terminal ``port``.

    Used as a context manager. ``traces`` keeps what the last frames did: for each the cycles and,
    for each of ``board.taps``, its beats, the first and the last cycle in which one moved, and
    their number in equal parts of the frame (``bins``).

    ``faults`` are injected between the two; after ``unplug`` the port is gone.
    """

    def __init__(self, board: VerilatedBoard, faults: Faults | None = None) -> None:
        self.board, self.faults = board, faults or Faults()
        self.traces: deque[Mapping[str, Any]] = deque(maxlen=_KEPT_TRACES)
        self.frames = 0
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        self.port = os.ttyname(self._theirs)
        self._wake, self._woken = os.pipe()
        self._to_board, self._to_host = bytearray(), bytearray()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = threading.Event()
        self._plugged = True

    def __enter__(self) -> Self:
        self._start()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the board and remove the port."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        os.write(self._woken, b"x")
        self._thread.join()
        self._kill()
        self.unplug()
        os.close(self._wake)
        os.close(self._woken)

    def unplug(self) -> None:
        """Remove the port, as where the cable is drawn."""
        if self._plugged:
            self._plugged = False
            os.close(self._ours)
            os.close(self._theirs)

    def wait(self) -> None:
        """Until the board ends or the port is unplugged."""
        self._thread.join()

    # --- the process ------------------------------------------------------------------------------

    def _start(self) -> None:
        told, tells = os.pipe()
        try:
            self._process = subprocess.Popen(
                [self.board.binary.absolute(), *self.board.arguments, str(tells)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=(tells,),
                bufsize=0,
                start_new_session=True,
            )
        except OSError as error:
            os.close(told)
            raise ToolError(f"the emulated board can not be started: {error}") from error
        finally:
            os.close(tells)
        self._told, self._line = told, b""
        for descriptor in (self._stdin, self._stdout, self._told, self._ours):
            os.set_blocking(descriptor, False)

    @property
    def _stdin(self) -> int:
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin.fileno()

    @property
    def _stdout(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def _kill(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                stream.close()
        os.close(self._told)

    def _reset(self) -> None:
        """A board that is reset forgets everything, and what was on its way is lost."""
        self._kill()
        self._to_board.clear()
        self._start()

    # --- the line ---------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._stopped.is_set() and self._plugged:
            with selectors.DefaultSelector() as selector:
                out = selectors.EVENT_WRITE
                selector.register(self._wake, selectors.EVENT_READ)
                selector.register(self._stdout, selectors.EVENT_READ)
                selector.register(self._told, selectors.EVENT_READ)
                room = len(self._to_board) < _CHUNK
                events = (selectors.EVENT_READ if room else 0) | (out if self._to_host else 0)
                if events:
                    selector.register(self._ours, events)
                if self._to_board:
                    selector.register(self._stdin, out)
                ready = {key.fd: mask for key, mask in selector.select()}
            if not self._exchange(ready):
                return

    def _exchange(self, ready: Mapping[int, int]) -> bool:
        """Move what can be moved; False once the board has ended."""
        if self._told in ready:
            self._hear_traces()
        if self._stdout in ready:
            data = _read(self._stdout)
            if data == b"":
                return False
            self._to_host += self.faults.spoil(data or b"")
        if ready.get(self._stdin, 0) & selectors.EVENT_WRITE:
            _write(self._stdin, self._to_board)
        if ready.get(self._ours, 0) & selectors.EVENT_WRITE:
            _write(self._ours, self._to_host)
        if ready.get(self._ours, 0) & selectors.EVENT_READ:
            self._hear_host()
        return True

    def _hear_host(self) -> None:
        data = _read(self._ours) or b""
        if self.faults.unplugs(len(data)):
            self.unplug()
            return
        at = self.faults.first_reset(len(data))
        if at is not None:
            self._reset()
            data = data[at:]
        self._to_board += self.faults.spoil(data)

    def _hear_traces(self) -> None:
        *lines, self._line = (self._line + (_read(self._told) or b"")).split(b"\n")
        for line in lines:
            self.traces.append(json.loads(line))
            self.frames += 1


def _read(descriptor: int) -> bytes | None:
    """What is there; nothing at the end, None where there is nothing yet."""
    try:
        return os.read(descriptor, _CHUNK)
    except BlockingIOError:
        return None
    except OSError:  # the far end of a terminal or a pipe is closed
        return b""


def _write(descriptor: int, data: bytearray) -> None:
    """Write as much as fits, and take it off ``data``."""
    try:
        del data[: os.write(descriptor, data)]
    except BlockingIOError:
        pass
    except OSError:
        data.clear()

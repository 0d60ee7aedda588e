"""A page on this computer that shows an emulated board at work."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ..boards.link.driver import Host, open_port
from ..boards.link.emulate import EmulatedBoard
from ..boards.link.run import measure
from ..compiler import ir
from ..compiler.data import read_samples
from ..compiler.driver import Compiled
from ..compiler.errors import DataError, GatewrightError
from ..compiler.ir.feeds import Ports, take
from ..compiler.numpy_file import read_arrays, write_arrays
from ..compiler.progress import silent
from ..compiler.report.names import labels
from ..compiler.report.summary import read_summary
from ..sim import golden
from .on_board import classes

__all__ = ["Page", "serve"]

_HTML = Path(__file__).with_name("page.html")
_HERE = "127.0.0.1"
_MOST_BYTES = 64 << 20
_PATIENCE = 600.0
_TRACE_SECONDS = 5.0
_SUFFIXES = {"image/png": ".png", "application/zip": ".npz", "application/octet-stream": ".npy"}
_MOST_SCORES = 1000


class Page:
    """What the page asks for: the ``network``, and the result of a sample on the ``board``."""

    def __init__(self, compiled: Compiled, board: EmulatedBoard) -> None:
        self.compiled, self.board = compiled, board
        self.last: dict[str, Any] | None = None
        self._one_at_a_time = threading.Lock()

    def network(self) -> dict[str, Any]:
        """Names, shapes and clocks, and the last result."""
        config, plan = self.board.board.config, self.compiled.plan
        described = read_summary(self.compiled.directory, "compile")
        short = labels(row["name"] for row in described["layers"])
        stages = {row["stage"]: short[row["name"]] for row in reversed(described["layers"])}
        return {
            "model": described.get("model") or self.compiled.graph.name,
            "board": plan.board,
            "inputs": [
                {
                    "name": port.name,
                    "shape": list(port.shape),
                    "white": 1 if port.integer is None else 255,
                }
                for port in self.compiled.ports.inputs
            ],
            "taps": [stages.get(tap, tap) for tap in self.board.board.taps],
            "clock_mhz": config.clock_hz / 1e6,
            "baud": config.baud,
            "interval_cycles": self.compiled.network.interval,
            "port": self.board.port,
            "last": self.last,
        }

    def frame(self, kind: str, content: bytes) -> dict[str, Any]:
        """Run the first sample in a file of the media type ``kind``, or the only one where it has
        no axis of samples; raises ``GatewrightError``.
        """
        if kind not in _SUFFIXES:
            raise DataError(f"a sample of the type {kind}; accepted: {', '.join(_SUFFIXES)}")
        with TemporaryDirectory(prefix="gatewright-") as folder:
            file = Path(folder) / f"sample{_SUFFIXES[kind]}"
            file.write_bytes(content)
            try:
                given = _samples(file, self.compiled.ports)
            except DataError as error:
                # the user knows neither the file's place nor its name
                said = str(error).replace(str(file), "the sample").replace(folder, "the sample")
                raise DataError(said) from error
        with self._one_at_a_time:
            self.last = self._run(take(given, slice(1)))
        return self.last

    def _run(self, sample: ir.Feeds) -> dict[str, Any]:
        compiled, config = self.compiled, self.board.board.config
        given = compiled.before(sample)
        raw = golden.host_input(compiled.graph, compiled.inside(given))
        frames = self.board.frames
        with Host(open_port(self.board.port, config.baud), config, _PATIENCE) as host:
            seen = measure(compiled, host, raw, silent)
        values = golden.run(compiled.graph, raw)
        streams = {
            port.value: seen.values[port.name].reshape(values[port.value].shape)
            for port in compiled.graph.outputs
        }
        equal = all(np.array_equal(values[name], found) for name, found in streams.items())
        outputs = compiled.after(given, golden.host_output(compiled.graph, values | streams))
        winner = classes(outputs)
        return {
            "class": None if winner is None else int(winner[0]),
            "outputs": {
                name: [float(score) for score in value[0].reshape(-1)[:_MOST_SCORES]]
                for name, value in outputs.items()
            },
            "cycles": seen.cycles[0],
            "compute_us": 1e6 * seen.cycles[0] / config.clock_hz,
            "link_fps": config.frames_per_second(seen.cycles[0]),
            "wall_ms": 1e3 * seen.seconds,
            "equal": equal,
            "image": _picture(sample),
            "trace": self._trace(frames),
        }

    def _trace(self, frames: int) -> Mapping[str, Any] | None:
        """What moved in the frame after ``frames``; None if the board did not tell."""
        deadline = time.monotonic() + _TRACE_SECONDS
        while self.board.frames <= frames and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.board.traces[-1] if self.board.frames > frames else None


def _samples(file: Path, ports: Ports) -> ir.Feeds:
    """The samples of a file for each input; an array without the axis of samples is one."""
    if file.suffix == ".png":
        return ir.feeds(ports, read_samples(file.parent, ports).x)
    shapes = {port.name: port.shape for port in ports.inputs}
    if len(ports.inputs) == 1:
        shapes |= dict.fromkeys(("", "x"), ports.inputs[0].shape)
    found = read_arrays(file, shapes, "give an .npy or an .npz of samples")
    alone = {
        name: array[None]
        for name, array in found.items()
        if array is not None and array.shape == shapes.get(name)
    }
    if alone:
        kept = {name: array for name, array in found.items() if array is not None}
        write_arrays(file, {name or "x": array for name, array in (kept | alone).items()})
    return ir.feeds(ports, read_samples(file, ports).x)


def _picture(sample: ir.Feeds) -> list[Any] | None:
    """The rows of a lone image in grey, from 0 to 1; None for other samples."""
    (first, *others) = sample.values()
    x = first[0].astype(np.float64)
    if others or x.ndim not in (2, 3):
        return None
    if x.ndim == 3:
        if 1 not in (x.shape[0], x.shape[2]) and 3 not in (x.shape[0], x.shape[2]):
            return None
        x = x.mean(axis=0 if x.shape[0] in (1, 3) else 2)
    low, high = min(0.0, x.min()), max(1.0, x.max())
    rows: list[Any] = np.round((x - low) / (high - low), 3).tolist()
    return rows


def serve(
    compiled: Compiled, board: EmulatedBoard, port: int, ready: Callable[[str], None]
) -> None:
    """Serve the page at ``port`` (0: any) of this computer alone, until interrupted.

    ``ready`` is called with its address.
    """
    with server(compiled, board, port) as http:
        ready(f"http://{_HERE}:{http.server_port}/")
        http.serve_forever(poll_interval=0.1)


def server(compiled: Compiled, board: EmulatedBoard, port: int) -> ThreadingHTTPServer:
    """The page's server, which does not run yet; raises ``DataError`` where the port is taken."""
    try:
        return ThreadingHTTPServer((_HERE, port), partial(_Handler, Page(compiled, board)))
    except (OSError, OverflowError) as error:
        raise DataError(
            f"--web-port {port}: the page can not be served there ({error}); choose another port, "
            "or 0 for any"
        ) from error


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, page: Page, *connection: Any) -> None:
        self.page = page
        super().__init__(*connection)

    def do_GET(self) -> None:
        if not self._is_local():
            return
        if self.path == "/":
            self._send(HTTPStatus.OK, "text/html; charset=utf-8", _HTML.read_bytes())
        elif self.path == "/network":
            self._send_json(HTTPStatus.OK, self.page.network())
        else:
            self._send_json(HTTPStatus.NOT_FOUND, {"error": f"there is no {self.path}"})

    def do_POST(self) -> None:
        if not self._is_local():
            return
        size = self.headers.get("Content-Length", "")
        if self.path != "/frame" or not size.isdecimal() or int(size) > _MOST_BYTES:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": "a sample is posted to /frame"})
            return
        content = self.rfile.read(int(size))
        try:
            self._send_json(
                HTTPStatus.OK, self.page.frame(self.headers.get("Content-Type", ""), content)
            )
        except GatewrightError as error:
            self._send_json(HTTPStatus.BAD_REQUEST, {"error": str(error)})

    def log_message(self, *about: Any) -> None:
        """Say nothing: the terminal belongs to the user."""

    def _is_local(self) -> bool:
        """Whether the browser asked for this computer: a page of another site may not."""
        host = self.headers.get("Host", "").rpartition(":")[0]
        if host in (_HERE, "localhost"):
            return True
        self._send_json(HTTPStatus.FORBIDDEN, {"error": "this page is for this computer alone"})
        return False

    def _send_json(self, status: HTTPStatus, content: Mapping[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: HTTPStatus, kind: str, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(content)

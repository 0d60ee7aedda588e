"""ECP5 netlists: move registers at block RAM outputs into the RAMs' output registers.

A block RAM's clock-to-output delay is 5.8 ns (speed grade 6) without its output register and 0.9 ns
with it. yosys does not use that register, so this pass does::

    DP16KD (NOREG).DOB0 ── d ──▶ TRELLIS_FF ── q ──▶        becomes
    DP16KD (OUTREG).DOB0 ── q ──▶

Both compute the same value in the same cycle: the RAM's register captures the same word at the same
clock edge, without a reset, under the same enable, and has the same initial value of zero.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .json_netlist import Bit, Cell

__all__ = ["Packing", "Unpacked", "pack"]

_WIDE = 36


@dataclass(frozen=True)
class Unpacked:
    """A read port whose registers were not packed, and the reason."""

    ram: str
    port: str
    reason: str

    def __str__(self) -> str:
        return f"{self.ram}, port {self.port}: {self.reason}"


@dataclass(frozen=True)
class Packing:
    """The packed read ports, the registers moved into them, and the ports that were not packed."""

    ports: int
    registers: int
    unpacked: tuple[Unpacked, ...]


@dataclass(frozen=True)
class _Port:
    """The read port ``name`` (A or B) of the RAM ``ram``, and the ``halves`` that hold its outputs.

    A RAM 36 bits wide writes through port A and reads through port B; its words span both halves.
    """

    ram: str
    name: str
    halves: str
    outputs: Mapping[str, int]  # nets of the outputs that have a load


class _Refused(Exception):
    """The reason why a port is not packed."""


def pack(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], Packing]:
    """Pack the output registers; returns yosys' JSON netlist of ECP5 cells and a summary.

    A port is packed as a whole or not at all. Each of its used outputs must drive only data inputs
    of registers that run on the port's clock, have no reset, start at zero and share one enable (or
    have none). Of a chain of registers only the first is packed.
    """
    modules, done = dict(netlist["modules"]), []
    for name, module in modules.items():
        if any(cell["type"] == "DP16KD" for cell in module["cells"].values()):
            work = _Module(module)
            modules[name] = work.packed()
            done.append(work)
    return {**netlist, "modules": modules}, Packing(
        sum(work.ports for work in done),
        sum(len(work.gone) for work in done),
        tuple(reason for work in done for reason in work.unpacked),
    )


class _Module:
    """One module being packed; ``module`` itself is not modified."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        self.module = module
        self.cells: dict[str, Cell] = dict(module["cells"])
        self.loads = self._loads()
        self.renamed: dict[Bit, Bit] = {}
        self.gone: set[str] = set()
        self.ports = 0
        self.unpacked: list[Unpacked] = []

    def packed(self) -> dict[str, Any]:
        for ram, cell in self.module["cells"].items():
            if cell["type"] != "DP16KD":
                continue
            for port in self._read_ports(ram, cell):
                try:
                    self._pack(port)
                    self.ports += 1
                except _Refused as reason:
                    self.unpacked.append(Unpacked(ram, port.name, str(reason)))
        return self._result()

    def _loads(self) -> Mapping[int, list[tuple[str, str]]]:
        """The loads of each net, as cell and port; the module's ports are cells without a name."""
        loads: defaultdict[int, list[tuple[str, str]]] = defaultdict(list)
        for name, cell in self.cells.items():
            for port, bits in cell["connections"].items():
                if cell["port_directions"][port] != "output":
                    for bit in bits:
                        loads[bit].append((name, port))
        for name, port in self.module["ports"].items():
            if port["direction"] != "input":
                for bit in port["bits"]:
                    loads[bit].append(("", name))
        return loads

    def _read_ports(self, ram: str, cell: Cell) -> Iterator[_Port]:
        """The read ports that are in use and have no output register yet."""
        wide = _number(cell, "DATA_WIDTH_A") == _WIDE
        for name, halves in {"B": "AB"}.items() if wide else {"A": "A", "B": "B"}.items():
            outputs = {
                port: bits[0]
                for port, bits in cell["connections"].items()
                if port[:2] == "DO"
                and port[2] in halves
                and bits
                and isinstance(bits[0], int)
                and self.loads.get(bits[0])
            }
            used = "".join(half for half in halves if any(port[2] == half for port in outputs))
            if used and any(_text(cell, f"REGMODE_{half}", "NOREG") == "NOREG" for half in used):
                yield _Port(ram, name, halves if "A" in used else used, outputs)

    def _pack(self, port: _Port) -> None:
        ram = self.cells[port.ram]
        for half in port.halves:
            if (
                ram["connections"].get(f"RST{half}", ["0"]) != ["0"]
                or _text(ram, f"RST{half}MUX", f"RST{half}") != f"RST{half}"
            ):
                raise _Refused(f"RST{half} is in use")
        registers = {output: self._registers(output, net) for output, net in port.outputs.items()}
        flat = [name for names in registers.values() for name in names]
        if {_clock(self.cells[name], "CLK") for name in flat} != {_clock(ram, f"CLK{port.name}")}:
            raise _Refused("its registers run on another clock")
        enables = {_enable(self.cells[name]) for name in flat}
        if len(enables) > 1:
            raise _Refused("its registers have different enables")
        self._move(port, registers, enables.pop())

    def _registers(self, output: str, net: int) -> list[str]:
        """The registers that ``output`` drives; raises :class:`_Refused` if it drives more."""
        for name, load in self.loads[net]:
            if not name:
                raise _Refused(f"{output} drives the output {load}")
            cell = self.cells[name]
            if cell["type"] != "TRELLIS_FF" or load != "DI":
                raise _Refused(f"{output} drives {load} of {name} ({cell['type']})")
            _check_plain(name, cell)
        return [name for name, _ in self.loads[net]]

    def _move(self, port: _Port, registers: Mapping[str, list[str]], enable: Bit) -> None:
        ram = self.cells[port.ram]
        # Both halves of a wide word get the same settings, whichever of them takes effect.
        connections = {**ram["connections"], **{f"OCE{half}": [enable] for half in port.halves}}
        parameters = {**ram["parameters"], **{f"REGMODE_{half}": "OUTREG" for half in port.halves}}
        directions = {**ram["port_directions"], **{f"OCE{half}": "input" for half in port.halves}}
        for output, names in registers.items():
            first, *same = [self.cells[name]["connections"]["Q"][0] for name in names]
            connections[output] = [first]
            self.renamed[port.outputs[output]] = "x"  # the net has no load any more
            self.renamed.update(dict.fromkeys(same, first))
            self.gone.update(names)
        self.cells[port.ram] = {
            **ram,
            "connections": connections,
            "parameters": parameters,
            "port_directions": directions,
        }

    def _result(self) -> dict[str, Any]:
        cells = {
            name: {
                **cell,
                "connections": {
                    port: self._now(bits) for port, bits in cell["connections"].items()
                },
            }
            for name, cell in self.cells.items()
            if name not in self.gone
        }
        named = {
            kind: {
                name: {**item, "bits": self._now(item["bits"])}
                for name, item in self.module.get(kind, {}).items()
            }
            for kind in ("ports", "netnames")
        }
        return {**self.module, **named, "cells": cells}

    def _now(self, bits: list[Bit]) -> list[Bit]:
        return [self.renamed.get(bit, bit) for bit in bits]


def _check_plain(name: str, ff: Cell) -> None:
    """Refuse a register that the RAM's own can not replace: with a reset, a one at start, kept."""
    if _number(ff, "keep", "attributes"):
        raise _Refused(f"{name} has the attribute keep")
    off = {"LSR": ["0"], "INV": ["1"]}[_text(ff, "LSRMUX", "LSR")]
    if ff["connections"].get("LSR", off) != off:
        raise _Refused(f"{name} has a reset")
    if _text(ff, "REGSET", "RESET") != "RESET":
        raise _Refused(f"{name} starts at one")
    if _text(ff, "GSR", "ENABLED") != "DISABLED":
        raise _Refused(f"{name} uses the global reset")
    if _text(ff, "CEMUX", "1") not in ("1", "CE"):
        raise _Refused(f"{name} has its enable inverted")


def _enable(ff: Cell) -> Bit:
    enable: Bit = "1" if _text(ff, "CEMUX", "1") == "1" else ff["connections"]["CE"][0]
    return enable


def _clock(cell: Cell, port: str) -> tuple[Bit, bool]:
    """The net at the clock input ``port``, and whether the falling edge is the active one."""
    return cell["connections"][port][0], _text(cell, f"{port}MUX", port) == "INV"


def _text(cell: Cell, parameter: str, default: str) -> str:
    """A string parameter; yosys pads some with a space so that they do not parse as numbers."""
    return str(cell["parameters"].get(parameter, default)).strip()


def _number(cell: Cell, name: str, kind: str = "parameters") -> int:
    return int(str(cell.get(kind, {}).get(name, "0")), 2)

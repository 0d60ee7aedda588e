"""Registers behind ECP5 block RAMs, moved into the RAMs' own output registers.

A block RAM's data appears 5.8 ns after the clock edge (speed grade 6), but within 0.9 ns when it
passes the register that the RAM itself has. yosys never uses that register, so this pass does::

    DP16KD (NOREG).DOB0 ── d ──▶ TRELLIS_FF ── q ──▶        becomes
    DP16KD (OUTREG).DOB0 ── q ──▶

Both compute the same value in the same cycle: the RAM's register takes the same word at the same
clock edge, without a reset, under the same enable, and starts at zero as the register did.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Packing", "Unpacked", "pack"]

Bit = int | str  # a net's number, or a constant: "0", "1", "x", "z"
Cell = dict[str, Any]

_WIDE = 36


@dataclass(frozen=True)
class Unpacked:
    """A read port whose register stays outside, and why."""

    ram: str
    port: str
    reason: str

    def __str__(self) -> str:
        return f"{self.ram}, port {self.port}: {self.reason}"


@dataclass(frozen=True)
class Packing:
    """What was done: how many read ports took in how many registers, and which ports did not."""

    ports: int
    registers: int
    unpacked: tuple[Unpacked, ...]


@dataclass(frozen=True)
class _Port:
    """The read port ``name`` (A or B) of the RAM ``ram``, and the ``halves`` with its outputs.

    A RAM 36 bits wide writes by port A and reads by port B, whose words come out of both halves.
    """

    ram: str
    name: str
    halves: str
    outputs: Mapping[str, int]  # the outputs with a load: their nets


class _Refused(Exception):
    """The reason why a port is left as it is."""


def pack(netlist: Mapping[str, Any]) -> tuple[dict[str, Any], Packing]:
    """yosys' JSON ``netlist`` of ECP5 cells with block RAM registers packed, and what was done.

    A port is packed as a whole or left as it is: each of its used outputs must drive nothing but
    the data input of registers on the port's clock, without reset, that start at zero and share
    one enable (or have none). Only the first register of a chain goes in.
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
    """One module under work; the given one is left as it was."""

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
        """Who reads each net: cell and port; the module's own ports are cells without a name."""
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
        """The ports that are read and have no register yet."""
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
        """The registers that ``output`` drives, if it drives nothing else."""
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
        # Both halves of a wide word get the same settings, whichever of them the chip looks at.
        connections = {**ram["connections"], **{f"OCE{half}": [enable] for half in port.halves}}
        parameters = {**ram["parameters"], **{f"REGMODE_{half}": "OUTREG" for half in port.halves}}
        directions = {**ram["port_directions"], **{f"OCE{half}": "input" for half in port.halves}}
        for output, names in registers.items():
            first, *same = [self.cells[name]["connections"]["Q"][0] for name in names]
            connections[output] = [first]
            self.renamed[port.outputs[output]] = "x"  # nobody sees this net's value any more
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
    """A register that the RAM's own can stand for: no reset, zero at first, free to be moved."""
    if _number(ff, "keep", "attributes"):
        raise _Refused(f"{name} is to be kept")
    off = {"LSR": ["0"], "INV": ["1"]}[_text(ff, "LSRMUX", "LSR")]
    if ff["connections"].get("LSR", off) != off:
        raise _Refused(f"{name} has a reset")
    if _text(ff, "REGSET", "RESET") != "RESET":
        raise _Refused(f"{name} starts at one")
    if _text(ff, "GSR", "ENABLED") != "DISABLED":
        raise _Refused(f"{name} listens to the global reset")
    if _text(ff, "CEMUX", "1") not in ("1", "CE"):
        raise _Refused(f"{name} has its enable inverted")


def _enable(ff: Cell) -> Bit:
    enable: Bit = "1" if _text(ff, "CEMUX", "1") == "1" else ff["connections"]["CE"][0]
    return enable


def _clock(cell: Cell, port: str) -> tuple[Bit, bool]:
    """The net at the clock input ``port``, and whether its falling edge counts."""
    return cell["connections"][port][0], _text(cell, f"{port}MUX", port) == "INV"


def _text(cell: Cell, parameter: str, default: str) -> str:
    """yosys pads some strings with a space, lest they read as numbers."""
    return str(cell["parameters"].get(parameter, default)).strip()


def _number(cell: Cell, name: str, kind: str = "parameters") -> int:
    return int(str(cell.get(kind, {}).get(name, "0")), 2)

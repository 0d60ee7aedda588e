"""Registers move into block RAMs only where both compute the same; where not, it is said why."""

import copy
import json

import pytest
from amaranth import Elaboratable, Module, Signal
from amaranth.back import rtlil
from amaranth.lib import memory
from gatewright.boards.flow import flow_of
from gatewright.boards.flow.pack_registers import pack
from gatewright.boards.flow.synthesis import synthesize
from gatewright.hw.target import ECP5

CLOCK, OTHER_CLOCK, ENABLE, DATA, Q = 2, 3, 4, (10, 11), (20, 21)


def ff(d, q, **changes):
    """A register without reset or enable; ``changes`` of parameters, connections, attributes."""
    given = {"parameters": {}, "connections": {}, "attributes": {}} | changes
    return {
        "type": "TRELLIS_FF",
        "parameters": {
            "CEMUX": "1 ",
            "CLKMUX": "CLK",
            "GSR": "DISABLED",
            "LSRMUX": "LSR",
            "REGSET": "RESET",
        }
        | given["parameters"],
        "attributes": given["attributes"],
        "port_directions": {
            "CLK": "input",
            "DI": "input",
            "LSR": "input",
            "CE": "input",
            "Q": "output",
        },
        "connections": {"CLK": [CLOCK], "DI": [d], "LSR": ["0"], "Q": [q]} | given["connections"],
    }


def lut(a, z):
    return {
        "type": "LUT4",
        "parameters": {"INIT": "10"},
        "attributes": {},
        "port_directions": {"A": "input", "Z": "output"},
        "connections": {"A": [a], "Z": [z]},
    }


def ram(**connections):
    """Two bits are read, at port B."""
    pins = {
        f"{pin}{half}": [value]
        for half in "AB"
        for pin, value in (("CLK", CLOCK), ("RST", "0"), ("OCE", "1"))
    }
    data = {"DOB0": [DATA[0]], "DOB1": [DATA[1]], "DOB2": [12], "DOA0": [13]}
    return {
        "type": "DP16KD",
        "parameters": {
            "CLKAMUX": "CLKA",
            "CLKBMUX": "CLKB",
            "DATA_WIDTH_A": f"{18:032b}",
            "REGMODE_A": "NOREG",
            "REGMODE_B": "NOREG",
        },
        "attributes": {},
        "port_directions": dict.fromkeys(pins, "input") | dict.fromkeys(data, "output"),
        "connections": pins | data | connections,
    }


def netlist(**cells):
    """A RAM whose two bits go to registers and from there to the output ``o``; or ``cells``."""
    plain = {"ram": ram(), "ff0": ff(DATA[0], Q[0]), "ff1": ff(DATA[1], Q[1])}
    return {
        "modules": {
            "top": {
                "ports": {
                    "clk": {"direction": "input", "bits": [CLOCK]},
                    "o": {"direction": "output", "bits": list(Q)},
                },
                "cells": plain | cells,
                "netnames": {"data": {"bits": list(DATA)}, "q": {"bits": list(Q)}},
            }
        }
    }


def packed(given):
    """The module after packing, and what was done; the given netlist stays as it was."""
    before = copy.deepcopy(given)
    result, packing = pack(given)
    assert given == before
    return result["modules"]["top"], packing


def test_registers_move_into_the_ram():
    top, packing = packed(netlist())
    assert (packing.ports, packing.registers, packing.unpacked) == (1, 2, ())
    assert set(top["cells"]) == {"ram"}
    cell = top["cells"]["ram"]
    assert (cell["parameters"]["REGMODE_A"], cell["parameters"]["REGMODE_B"]) == ("NOREG", "OUTREG")
    assert [cell["connections"][pin] for pin in ("DOB0", "DOB1", "OCEB")] == [[20], [21], ["1"]]
    assert top["netnames"] == {"data": {"bits": ["x", "x"]}, "q": {"bits": [20, 21]}}


def test_only_the_first_register_of_a_chain_moves():
    top, packing = packed(netlist(ff0=ff(DATA[0], 30), next=ff(30, Q[0])))
    assert packing.registers == 2
    assert set(top["cells"]) == {"ram", "next"}
    assert top["cells"]["ram"]["connections"]["DOB0"] == [30]


def test_equal_registers_become_one():
    top, packing = packed(netlist(twin=ff(DATA[0], 30), reader=lut(30, 31)))
    assert packing.registers == 3
    assert top["cells"]["reader"]["connections"]["A"] == [20]
    assert top["cells"]["ram"]["connections"]["DOB0"] == [20]


def test_a_shared_enable_moves_too():
    enabled = {"parameters": {"CEMUX": "CE"}, "connections": {"CE": [ENABLE]}}
    top, packing = packed(
        netlist(ff0=ff(DATA[0], Q[0], **enabled), ff1=ff(DATA[1], Q[1], **enabled))
    )
    assert packing.registers == 2
    assert top["cells"]["ram"]["connections"]["OCEB"] == [ENABLE]


def test_a_wide_word_is_read_through_both_halves():
    wide = ram(DOA0=[DATA[0]], DOB0=[13], OCEA=["0"], CLKA=[OTHER_CLOCK])
    wide["parameters"]["DATA_WIDTH_A"] = f"{36:032b}"
    top, packing = packed(netlist(ram=wide))
    assert (packing.ports, packing.registers) == (1, 2)
    cell = top["cells"]["ram"]
    assert (cell["parameters"]["REGMODE_A"], cell["parameters"]["REGMODE_B"]) == ("OUTREG",) * 2
    assert cell["connections"]["OCEA"] == cell["connections"]["OCEB"] == ["1"]


REFUSED = {
    "a second load": ({"reader": lut(DATA[1], 30)}, "DOB1 drives A of reader (LUT4)"),
    "no register": ({"ff1": lut(DATA[1], Q[1])}, "DOB1 drives A of ff1 (LUT4)"),
    "a control": (
        {"ff1": ff(30, Q[1], connections={"LSR": [DATA[1]]})},
        "DOB1 drives LSR of ff1 (TRELLIS_FF)",
    ),
    "an output": ({"ff1": ff(Q[0], 30), "ram": ram(DOB1=[Q[1]])}, "DOB1 drives the output o"),
    "a reset": ({"ff1": ff(DATA[1], Q[1], connections={"LSR": [5]})}, "ff1 has a reset"),
    "an inverted reset": (
        {"ff1": ff(DATA[1], Q[1], parameters={"LSRMUX": "INV"})},
        "ff1 has a reset",
    ),
    "the RAM's reset": ({"ram": ram(RSTB=[5])}, "RSTB is in use"),
    "a start at one": (
        {"ff1": ff(DATA[1], Q[1], parameters={"REGSET": "SET"})},
        "ff1 starts at one",
    ),
    "the global reset": (
        {"ff1": ff(DATA[1], Q[1], parameters={"GSR": "ENABLED"})},
        "ff1 uses the global reset",
    ),
    "keep": ({"ff1": ff(DATA[1], Q[1], attributes={"keep": "1"})}, "ff1 has the attribute keep"),
    "another clock": (
        {"ff1": ff(DATA[1], Q[1], connections={"CLK": [OTHER_CLOCK]})},
        "its registers run on another clock",
    ),
    "the other edge": (
        {"ff1": ff(DATA[1], Q[1], parameters={"CLKMUX": "INV"})},
        "its registers run on another clock",
    ),
    "two enables": (
        {"ff1": ff(DATA[1], Q[1], parameters={"CEMUX": "CE"}, connections={"CE": [ENABLE]})},
        "its registers have different enables",
    ),
    "an inverted enable": (
        {"ff1": ff(DATA[1], Q[1], parameters={"CEMUX": "INV"}, connections={"CE": [ENABLE]})},
        "ff1 has its enable inverted",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_port_stays_as_it_is_because_of(case):
    changes, reason = REFUSED[case]
    given = netlist(**changes)
    top, packing = packed(given)
    assert [str(port) for port in packing.unpacked] == [f"ram, port B: {reason}"]
    assert (packing.ports, packing.registers) == (0, 0)
    assert top == given["modules"]["top"]


class Rom(Elaboratable):
    """``table[address]``, two cycles later."""

    def __init__(self, width, table):
        self.width, self.table = width, table
        self.address, self.data = Signal(range(len(table))), Signal(width)

    def elaborate(self, platform):
        m = Module()
        m.submodules.rom = rom = memory.Memory(
            shape=self.width, depth=len(self.table), init=self.table
        )
        read, held = rom.read_port(), Signal(self.width, reset_less=True)
        m.d.comb += [read.addr.eq(self.address), self.data.eq(held)]
        m.d.sync += held.eq(read.data)
        return m


def test_a_rom_of_two_block_rams_loses_all_its_registers(tmp_path):
    rom = Rom(24, [n * 9_973 % (1 << 24) for n in range(1024)])
    (tmp_path / "rom.il").write_text(
        rtlil.convert(rom, name="top", ports=[rom.address, rom.data], emit_src=False)
    )
    counts = synthesize([tmp_path / "rom.il"], flow_of(ECP5).synthesis, tmp_path / "out", "top")
    assert (counts["bram"], counts["ff"]) == (2, 0)
    cells = json.loads((tmp_path / "out" / "netlist.json").read_text())["modules"]["top"]["cells"]
    assert {cell["type"] for cell in cells.values()} == {"DP16KD"}
    assert "24 registers" in (tmp_path / "out" / "packing.log").read_text()

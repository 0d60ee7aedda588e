"""What passes over yosys' JSON netlists share: bits, cells, loads, new nets and new LUTs."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Bit", "Cell", "first_unused", "loads", "lut"]

Bit = int | str  # a net's number, or a constant: "0", "1", "x", "z"
Cell = dict[str, Any]


def loads(module: Mapping[str, Any]) -> Counter[Bit]:
    """How many pins of cells and outputs of the module read each bit."""
    found = Counter(
        bit
        for cell in module["cells"].values()
        for port, bits in cell["connections"].items()
        if cell["port_directions"][port] != "output"
        for bit in bits
    )
    found.update(
        bit
        for port in module["ports"].values()
        if port["direction"] != "input"
        for bit in port["bits"]
    )
    return found


def first_unused(cells: Mapping[str, Cell]) -> int:
    """The number of a net that no cell has; those above it are free too."""
    bits = (b for cell in cells.values() for bits in cell["connections"].values() for b in bits)
    return 1 + max((bit for bit in bits if isinstance(bit, int)), default=1)


def lut(table: str, pins: Sequence[Bit], net: Bit) -> Cell:
    """A LUT of four inputs with ``table`` as its INIT and ``pins`` at A to D, which drives
    ``net``.
    """
    inputs = {name: [bit] for name, bit in zip("ABCD", pins, strict=True)}
    return {
        "hide_name": 1,
        "type": "LUT4",
        "parameters": {"INIT": table},
        "attributes": {},
        "port_directions": dict.fromkeys(inputs, "input") | {"Z": "output"},
        "connections": {**inputs, "Z": [net]},
    }

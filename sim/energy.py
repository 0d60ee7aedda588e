"""The energy of a frame, estimated: what changes in a simulation times what others measured.

    registers    changes x energy of a register that changes, with its wire
    logic        the same for look-up tables, which are taken to change as often as the registers
                 of their stage do
    multipliers  DSP blocks x cycles of work x energy of a multiplication
    block RAM    block RAMs x cycles of work x energy of an access

Energies of multiplications and accesses are those of M. Horowitz, "Computing's energy problem (and
what we can do about it)", ISSCC 2014, for 45 nm: 0.2 pJ for 8 x 8 and 3.1 pJ for 32 x 32 bits,
10 pJ for 64 bits of 8 KB and 20 pJ of 32 KB. They are taken to grow with the square of the supply.
"""

from collections.abc import Mapping
from functools import reduce
from math import sqrt
from typing import Any

from ..compiler.errors import DataError
from ..compiler.plan.dataflow import Dataflow
from ..hw import Resources
from ..hw.target.base import Device, Power
from .toggles import Registers

__all__ = ["energy", "published"]

#: supply of Horowitz's figures, in volts
_VOLTS = 0.9
#: energy of a multiplication for each bit of one operand and each of the other (pJ)
_PRODUCT_PJ = 0.2 / (8 * 8)
#: energy of reading a bit from a memory of so many (pJ); it grows with the root of the size
_BIT_PJ, _BIT_OF = 10 / 64, 8 * 1024 * 8
_SHARES = ("registers_nj", "logic_nj", "multipliers_nj", "block_ram_nj")


def published(device: Device) -> Power:
    """The published measurements of ``device``; :class:`DataError` where there are none."""
    if device.power is None:
        raise DataError(
            f"--energy: no published measurement of {device.name} is known, nor of a chip like it"
        )
    return device.power


def energy(network: Dataflow, found: Mapping[str, Registers], frames: int) -> dict[str, Any]:
    """What ``simulate.json`` says of the energy of one of ``frames`` frames (nJ).

    ``found``: the registers of each stage and of the parts between them, and how often they
    changed in all frames. The resources are those that the plan estimates.
    """
    device = network.device
    power, target = published(device), device.target
    rise = (power.core_volts / _VOLTS) ** 2
    multiply_pj = rise * _PRODUCT_PJ * target.operand_bits**2
    access_pj = rise * _BIT_PJ * target.widest_memory * sqrt(target.block_ram_bits / _BIT_OF)

    def part(stage: str | None, own: Registers, cost: Resources, cycles: int) -> dict[str, Any]:
        registers = own.changes / frames * power.toggle_pj / 1000
        return {
            "stage": stage,
            "toggles": round(own.changes / frames),
            "registers_nj": registers,
            "logic_nj": registers * cost.lut / own.bits if own.bits else 0.0,
            "multipliers_nj": cost.dsp * cycles * multiply_pj / 1000,
            "block_ram_nj": cost.bram * cycles * access_pj / 1000,
        }

    rest = dict(found)
    parts = [
        part(name, rest.pop(name, Registers()), design.resources(device), design.cycles())
        for name, design in network.designs.items()
    ]
    between = reduce(Registers.plus, rest.values(), Registers())
    parts.append(part(None, between, network.outside_stages, network.interval))
    return {
        "toggle_pj": power.toggle_pj,
        "multiply_pj": multiply_pj,
        "access_pj": access_pj,
        "idle_mw": power.idle_mw,
        "source": power.source,
        "dynamic_nj": sum(row[share] for row in parts for share in _SHARES),
        "parts": parts,
    }

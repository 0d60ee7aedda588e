"""Lattice ECP5: the multiplier block MULT18X18D, memories, and the chips."""

from dataclasses import replace
from pathlib import Path

from amaranth import C, Cat, ClockSignal, Instance, Module, Shape, Signal

from . import ecp5_sites
from .base import Device, LutRam, MemoryShape, Power, Target
from .dsp import Multiplier

__all__ = ["ECP5", "LFE5U_12F", "LFE5U_25F", "LFE5U_45F", "LFE5U_85F", "Mult18x18"]

_REGISTERS = {
    f"p_REG_{place}_{pin}": f"{pin}0"
    for place in ("INPUTA", "INPUTB", "PIPELINE", "OUTPUT")
    for pin in ("CLK", "CE", "RST")
}


class Mult18x18(Multiplier):
    """One signed or unsigned product of up to 18 x 18 bits in a MULT18X18D.

    Input, pipeline and output registers are the block's own. Lattice FPGA-TN-02205 (sysDSP).
    """

    latency = 3

    @classmethod
    def products(cls, x: Shape, w: Shape) -> int:
        return int(x.width <= 18 and w.width <= 18)

    def elaborate(self, platform):
        m = Module()
        operands, zeros = {}, 0
        for pin, value in (("A", self.x[0]), ("B", self.w[0])):
            # Zeros below are the chip's own; copies of the sign above would need wires.
            below = self.port - value.shape().width
            operands |= {f"i_{pin}{i}": bit for i, bit in enumerate(Cat(C(0, below), value))}
            zeros += below
        product = Signal(2 * self.port)
        m.d.comb += self.p[0].eq(product >> zeros)
        place = {"a_BEL": self.site} if self.site else {}
        m.submodules.block = Instance(
            "MULT18X18D",
            **_REGISTERS,
            **place,
            p_GSR="DISABLED",
            p_RESETMODE="SYNC",
            p_MULT_BYPASS="DISABLED",
            **operands,
            **{f"i_C{i}": C(0, 1) for i in range(18)},
            i_SIGNEDA=C(int(self.config.x.signed), 1),
            i_SIGNEDB=C(int(self.config.w.signed), 1),
            i_SOURCEA=C(0, 1),
            i_SOURCEB=C(0, 1),
            i_CLK0=ClockSignal(),
            i_CE0=C(1, 1),
            i_RST0=C(0, 1),
            **{f"o_P{i}": product[i] for i in range(36)},
        )
        return m


_HERE = Path(__file__).parent

ECP5 = Target(
    name="ecp5",
    dsp=Mult18x18,
    memory_shapes=(
        MemoryShape(512, 36),
        MemoryShape(1024, 18),
        MemoryShape(2048, 9),
        MemoryShape(4096, 4),
        MemoryShape(8192, 2),
        MemoryShape(16384, 1),
    ),
    block_ram_register=True,
    # TRELLIS_DPR16X4: four LUTs of memory and two of the write port
    lut_ram=LutRam(words=16, bits=4, luts=6, row_luts=2, style="distributed"),
    carry_luts=1,
    gated_adders=True,
    lone_register_cells=0.0,
    logic_unit="LUTs",
    logic_share=0.8,
    # Soft multipliers are many short carry chains, and each starts a new tile: a design that filled
    # 79 % of an 85F could not be placed. One that filled 73 %, and 82 % of the flip-flops, was
    # routed at 145.3 MHz.
    soft_logic_share=0.75,
    register_share=0.85,
    table_bits=16,
    logic_table_bits=2048,
    simulation_models=(_HERE / "ecp5_models.v",),
)

_POWER_25F = Power(0.230, 147, 1.1, "a chain of registers in an LFE5U-25F on an OrangeCrab")
_POWER_85F = Power(0.251, 202, 1.1, "a chain of registers in an LFE5U-85F on a ULX3S")

LFE5U_25F = Device(
    "LFE5U-25F",
    ECP5,
    lut=24288,
    ff=24288,
    dsp=28,
    bram=56,
    dsp_sites=ecp5_sites.LFE5U_25F,
    power=_POWER_25F,
)
LFE5U_45F = Device(
    "LFE5U-45F",
    ECP5,
    lut=43848,
    ff=43848,
    dsp=72,
    bram=108,
    dsp_sites=ecp5_sites.LFE5U_45F,
    power=_POWER_85F,
)
LFE5U_85F = Device(
    "LFE5U-85F",
    ECP5,
    lut=83640,
    ff=83640,
    dsp=156,
    bram=208,
    dsp_sites=ecp5_sites.LFE5U_85F,
    power=_POWER_85F,
)
# The same die as the 25F, with another identity code.
LFE5U_12F = replace(LFE5U_25F, name="LFE5U-12F")

"""Lattice iCE40 UltraPlus: SB_MAC16, memories, and the chip."""

from pathlib import Path

from amaranth import C, Cat, ClockSignal, Instance, Module, Shape, Signal

from .base import Device, MemoryShape, Power, Target
from .dsp import Multiplier

__all__ = ["ICE40", "ICE40UP5K", "Mac16"]


class Mac16(Multiplier):
    """Two products of up to 8 x 8 bits in an SB_MAC16, or one of up to 16 x 16.

    Input and product registers are the block's own; of the wide product the intermediate registers
    are bypassed, so that both modes have one latency. Lattice FPGA-TN-02007 (DSP function usage
    guide for iCE40).
    """

    latency = 2
    # packed into a 16-bit operand there are no more than two products either
    port = 0

    @classmethod
    def products(cls, x: Shape, w: Shape) -> int:
        widest = max(x.width, w.width)
        return 2 if widest <= 8 else int(widest <= 16)

    def elaborate(self, platform):
        m = Module()
        c = self.config
        narrow = self.products(c.x, c.w) == 2
        bits = 8 if narrow else 16
        wide = {}
        for pin, shape, values in (("A", c.x, self.x), ("B", c.w, self.w)):
            lanes = [
                Signal(Shape(bits, shape.signed), name=f"{pin.lower()}{n}")
                for n in range(16 // bits)
            ]
            for lane, value in zip(lanes, values, strict=False):
                m.d.comb += lane.eq(value)
            wide[pin] = Cat(lanes)
        product = Signal(32)
        for n, p in enumerate(self.p):
            m.d.comb += p.eq(product.word_select(n, 2 * bits)[: len(p)])
        place = {"a_BEL": self.site} if self.site else {}
        m.submodules.block = Instance(
            "SB_MAC16",
            **place,
            p_NEG_TRIGGER=C(0, 1),
            p_A_REG=C(1, 1),
            p_B_REG=C(1, 1),
            p_C_REG=C(0, 1),
            p_D_REG=C(0, 1),
            p_TOP_8x8_MULT_REG=C(narrow, 1),
            p_BOT_8x8_MULT_REG=C(narrow, 1),
            p_PIPELINE_16x16_MULT_REG1=C(0, 1),
            p_PIPELINE_16x16_MULT_REG2=C(not narrow, 1),
            p_TOPOUTPUT_SELECT=C(2 if narrow else 3, 2),
            p_TOPADDSUB_LOWERINPUT=C(0, 2),
            p_TOPADDSUB_UPPERINPUT=C(0, 1),
            p_TOPADDSUB_CARRYSELECT=C(0, 2),
            p_BOTOUTPUT_SELECT=C(2 if narrow else 3, 2),
            p_BOTADDSUB_LOWERINPUT=C(0, 2),
            p_BOTADDSUB_UPPERINPUT=C(0, 1),
            p_BOTADDSUB_CARRYSELECT=C(0, 2),
            p_MODE_8x8=C(narrow, 1),
            p_A_SIGNED=C(int(self.config.x.signed), 1),
            p_B_SIGNED=C(int(self.config.w.signed), 1),
            i_CLK=ClockSignal(),
            i_CE=C(1, 1),
            i_A=wide["A"],
            i_B=wide["B"],
            i_C=C(0, 16),
            i_D=C(0, 16),
            i_AHOLD=C(0, 1),
            i_BHOLD=C(0, 1),
            i_CHOLD=C(0, 1),
            i_DHOLD=C(0, 1),
            i_IRSTTOP=C(0, 1),
            i_IRSTBOT=C(0, 1),
            i_ORSTTOP=C(0, 1),
            i_ORSTBOT=C(0, 1),
            i_OLOADTOP=C(0, 1),
            i_OLOADBOT=C(0, 1),
            i_ADDSUBTOP=C(0, 1),
            i_ADDSUBBOT=C(0, 1),
            i_OHOLDTOP=C(0, 1),
            i_OHOLDBOT=C(0, 1),
            i_CI=C(0, 1),
            i_ACCUMCI=C(0, 1),
            i_SIGNEXTIN=C(0, 1),
            o_O=product,
        )
        return m


ICE40 = Target(
    name="ice40",
    dsp=Mac16,
    memory_shapes=(
        MemoryShape(256, 16),
        MemoryShape(512, 8),
        MemoryShape(1024, 4),
        MemoryShape(2048, 2),
    ),
    block_ram_register=False,
    lut_ram=None,
    carry_luts=2,
    gated_adders=False,
    # A LUT and a flip-flop share a cell only if the LUT drives the flip-flop.
    lone_register_cells=0.55,
    logic_unit="logic cells",
    logic_share=0.88,
    soft_logic_share=0.88,
    register_share=1.0,
    table_bits=16,
    # one chip has 176 cells for each of its block RAMs
    logic_table_bits=512,
    simulation_models=(Path(__file__).parent / "ice40_models.v",),
)

ICE40UP5K = Device(
    "iCE40UP5K",
    ICE40,
    lut=5280,
    ff=5280,
    dsp=8,
    bram=30,
    power=Power(0.92, None, 1.2, "a chain of registers in an iCE40HX1K on a Go Board"),
)

"""ECP5: MULT18X18D with all its registers."""

from amaranth import C, Cat, ClockSignal, Instance, Module, Shape, Signal

from .dsp import Multiplier

__all__ = ["Mult18x18"]

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

"""What a chip offers: the budgets that a plan must keep."""

from dataclasses import dataclass

__all__ = ["Device"]


@dataclass(frozen=True)
class Device:
    """One FPGA. ``bram`` counts block RAMs of ``bram_bits`` each; ``dsp`` counts multiplier blocks.

    ``family`` is ``"ecp5"`` or ``"ice40"`` and picks the primitives; ``products_per_dsp`` is how
    many 8-bit products one block gives (two for SB_MAC16); narrow ones may be more, which each
    stage's design knows. ``dsp_sites`` are the places of the
    blocks along a path on which the next one is always near; empty where the placer may choose.
    """

    name: str
    family: str
    lut: int
    ff: int
    dsp: int
    bram: int
    bram_bits: int
    products_per_dsp: int = 1
    dsp_sites: tuple[str, ...] = ()

    @property
    def multipliers(self) -> int:
        """How many 8-bit by 8-bit products the hard blocks give in one cycle."""
        return self.dsp * self.products_per_dsp

"""Phase-locked loops: divider settings for a wanted clock, and the clock domains made from them.

Sources: ECP5 sysCLOCK guide FPGA-TN-02200 and data sheet FPGA-DS-02012 (phase detector 10 to
400 MHz, oscillator 400 to 800 MHz, output 3.125 to 400 MHz, dividers 1 to 128); iCE40 sysCLOCK
guide FPGA-TN-02052 (phase detector 10 to 133, oscillator 533 to 1066, output 16 to 275 MHz).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from amaranth import (
    ClockDomain,
    ClockSignal,
    Const,
    Elaboratable,
    Instance,
    Module,
    ResetSignal,
    Signal,
)
from amaranth.lib.cdc import ResetSynchronizer

from ...compiler.errors import PlanError
from ..board import Board

__all__ = ["Bypass", "ClockGenerator", "Ecp5Pll", "Ice40Pll", "Pll", "choose"]

CLOSE_ENOUGH = 0.005


@dataclass(frozen=True)
class Bypass:
    """No PLL: the board's own clock."""

    input_mhz: float

    @property
    def output_mhz(self) -> float:
        return self.input_mhz

    @property
    def beside_mhz(self) -> None:
        """There is one clock only."""


@dataclass(frozen=True)
class Ecp5Pll:
    """EHXPLLL with feedback from CLKOP; the clock used is CLKOS, which has a divider of its own."""

    input_mhz: float
    ref_div: int
    feedback_div: int
    primary_div: int
    output_div: int

    @property
    def detector_mhz(self) -> float:
        return self.input_mhz / self.ref_div

    @property
    def vco_mhz(self) -> float:
        return self.detector_mhz * self.feedback_div * self.primary_div

    @property
    def output_mhz(self) -> float:
        return self.vco_mhz / self.output_div

    @property
    def beside_mhz(self) -> float:
        """The board's own clock, which other logic may use beside the PLL's."""
        return self.input_mhz


@dataclass(frozen=True)
class Ice40Pll:
    """SB_PLL40 with ``SIMPLE`` feedback; ``divr``, ``divf``, ``divq`` as the primitive has them."""

    input_mhz: float
    divr: int
    divf: int
    divq: int

    @property
    def detector_mhz(self) -> float:
        return self.input_mhz / (self.divr + 1)

    @property
    def vco_mhz(self) -> float:
        return self.detector_mhz * (self.divf + 1)

    @property
    def output_mhz(self) -> float:
        return self.vco_mhz / (1 << self.divq)

    @property
    def beside_mhz(self) -> None:
        """A PLL pad's clock goes nowhere else."""

    @property
    def filter_range(self) -> int:
        """The loop filter that the sysCLOCK guide gives for the phase detector's frequency."""
        return 1 + sum(self.detector_mhz >= limit for limit in (17, 26, 44, 66, 101))


Pll = Bypass | Ecp5Pll | Ice40Pll


def choose(board: Board, target_mhz: float) -> Pll:
    """The settings whose clock is nearest to ``target_mhz``.

    A clock up to 0.5 % above the target counts as the target; failing that, the highest below it
    is taken. Timing is to be checked against the result's ``output_mhz``. Raises ``PlanError`` when
    the board can not make a clock that low.
    """
    legal = [Bypass(board.clock_mhz), *_SETTINGS[board.family](board.clock_mhz)]
    above = [
        pll for pll in legal if target_mhz <= pll.output_mhz <= target_mhz * (1 + CLOSE_ENOUGH)
    ]
    if above:
        return min(above, key=lambda pll: (pll.output_mhz, *_calm(pll)))
    below = [pll for pll in legal if pll.output_mhz < target_mhz]
    if below:
        return min(below, key=lambda pll: (-pll.output_mhz, *_calm(pll)))
    lowest = min(pll.output_mhz for pll in legal)
    raise PlanError(
        f"{board.name} can not be clocked at {target_mhz:g} MHz: from its "
        f"{board.clock_mhz:g} MHz the lowest clock is {lowest:.3f} MHz"
    )


def _calm(pll: Pll) -> tuple[float, float]:
    """Among equals: no PLL, then the fastest phase detector and oscillator, which jitter least."""
    if isinstance(pll, Bypass):
        return (-math.inf, 0.0)
    return (-pll.detector_mhz, -pll.vco_mhz)


def _ecp5_settings(input_mhz: float) -> Iterator[Pll]:
    for ref_div in range(1, 129):
        if not 10 <= input_mhz / ref_div <= 400:
            continue
        for loop in range(1, 129):  # VCO = detector * loop: one factor for each divider
            yield from _ecp5_outputs(input_mhz, ref_div, loop)


def _ecp5_outputs(input_mhz: float, ref_div: int, loop: int) -> Iterator[Pll]:
    vco = input_mhz / ref_div * loop
    if not 400 <= vco <= 800:
        return
    # CLKOP closes the loop and must stay within its own output range.
    primary = next((div for div in range(1, 129) if loop % div == 0 and vco / div <= 400), None)
    if primary is None or vco / primary < 3.125:
        return
    for output_div in range(1, 129):
        if 3.125 <= vco / output_div <= 400:
            yield Ecp5Pll(input_mhz, ref_div, loop // primary, primary, output_div)


def _ice40_settings(input_mhz: float) -> Iterator[Pll]:
    for divr in range(16):
        if not 10 <= input_mhz / (divr + 1) <= 133:
            continue
        for divf in range(128):
            for divq in range(1, 7):
                pll = Ice40Pll(input_mhz, divr, divf, divq)
                if 533 <= pll.vco_mhz <= 1066 and 16 <= pll.output_mhz <= 275:
                    yield pll


_SETTINGS = {"ecp5": _ecp5_settings, "ice40": _ice40_settings}


class ClockGenerator(Elaboratable):
    """Drives the domain ``sync`` from the board's clock, in reset until the clock is steady.

    Parameters
    ----------
    board : whether the clock pin is a PLL pad is taken from here
    pll : from ``choose``
    clk : the board's clock pin, one bit
    beside : name of a domain to run on the board's own clock, in reset as long as ``sync`` is; for
        a ``pll`` with ``beside_mhz``
    """

    # iCE40's block RAMs read zero for about 3 us after configuration.
    POWER_ON_CYCLES = 1023

    def __init__(self, board: Board, pll: Pll, clk: Signal, beside: str | None = None) -> None:
        self.board, self.pll, self.clk, self.beside = board, pll, clk, beside

    def elaborate(self, platform: object) -> Module:
        m = Module()
        steady, clock = Signal(), ClockSignal()
        match self.pll:
            case Bypass():
                m.d.comb += clock.eq(self.clk)
                self._wait(m, steady)
            case Ecp5Pll():
                m.submodules.pll = self._ecp5(self.pll, clock, steady)
            case Ice40Pll():
                m.submodules.pll = self._ice40(self.pll, clock, steady)
        self._reset(m, "sync", steady)
        if self.beside is not None:
            m.d.comb += ClockSignal(self.beside).eq(self.clk)
            self._reset(m, self.beside, steady)
        return m

    def _reset(self, m: Module, domain: str, steady: Signal) -> None:
        name = f"{domain}_waking"
        waking = ClockDomain(name, local=True)
        m.domains += waking
        m.d.comb += waking.clk.eq(ClockSignal(domain))
        m.submodules[f"{domain}_reset"] = ResetSynchronizer(~steady, domain=name, stages=3)
        # Plain registers after it, which may lie on the way to what they reset.
        near, nearer = (
            Signal(init=1, reset_less=True, name=f"{domain}_{register}")
            for register in ("near", "nearer")
        )
        m.d[name] += [near.eq(waking.rst), nearer.eq(near)]
        m.d.comb += ResetSignal(domain).eq(nearer)

    def _wait(self, m: Module, steady: Signal) -> None:
        m.domains.por = power_on = ClockDomain("por", reset_less=True, local=True)
        m.d.comb += power_on.clk.eq(self.clk)
        left = Signal(range(self.POWER_ON_CYCLES + 1), init=self.POWER_ON_CYCLES)
        with m.If(left == 0):
            m.d.por += steady.eq(1)
        with m.Else():
            m.d.por += left.eq(left - 1)

    def _ecp5(self, pll: Ecp5Pll, clk: ClockSignal, locked: Signal) -> Instance:
        feedback = Signal()
        return Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{pll.input_mhz:g}",
            a_FREQUENCY_PIN_CLKOS=f"{pll.output_mhz:.6f}",
            a_ICP_CURRENT="12",
            a_LPF_RESISTOR="8",
            a_MFG_ENABLE_FILTEROPAMP="1",
            a_MFG_GMCREF_SEL="2",
            p_PLLRST_ENA="DISABLED",
            p_INTFB_WAKE="DISABLED",
            p_STDBY_ENABLE="DISABLED",
            p_DPHASE_SOURCE="DISABLED",
            p_OUTDIVIDER_MUXA="DIVA",
            p_OUTDIVIDER_MUXB="DIVB",
            p_FEEDBK_PATH="CLKOP",
            p_CLKI_DIV=pll.ref_div,
            p_CLKFB_DIV=pll.feedback_div,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=pll.primary_div,
            p_CLKOP_CPHASE=pll.primary_div // 2,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=pll.output_div,
            p_CLKOS_CPHASE=pll.output_div // 2,
            p_CLKOS_FPHASE=0,
            i_CLKI=self.clk,
            i_CLKFB=feedback,
            i_RST=Const(0),
            i_STDBY=Const(0),
            i_PHASESEL0=Const(0),
            i_PHASESEL1=Const(0),
            i_PHASEDIR=Const(1),
            i_PHASESTEP=Const(1),
            i_PHASELOADREG=Const(1),
            i_PLLWAKESYNC=Const(0),
            i_ENCLKOP=Const(0),
            i_ENCLKOS=Const(0),
            o_CLKOP=feedback,
            o_CLKOS=clk,
            o_LOCK=locked,
        )

    def _ice40(self, pll: Ice40Pll, clk: ClockSignal, locked: Signal) -> Instance:
        on_pad = self.board.clock_on_pll_pad
        source = {"i_PACKAGEPIN" if on_pad else "i_REFERENCECLK": self.clk}
        return Instance(
            "SB_PLL40_PAD" if on_pad else "SB_PLL40_CORE",
            p_FEEDBACK_PATH="SIMPLE",
            p_PLLOUT_SELECT="GENCLK",
            p_DIVR=Const(pll.divr, 4),
            p_DIVF=Const(pll.divf, 7),
            p_DIVQ=Const(pll.divq, 3),
            p_FILTER_RANGE=Const(pll.filter_range, 3),
            **source,
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=clk,
            o_LOCK=locked,
        )

"""Lattice iCE40 UltraPlus: synthesis, place and route, constraints, PLL, packer and clock limits.

Sources: sysCLOCK guide FPGA-TN-02052 (phase detector 10 to 133 MHz, oscillator 533 to 1066 MHz,
output 16 to 275 MHz); data sheet FPGA-DS-02008 (clock buffer, fMAX8x8SMULT and fMAX16x16SMULT).
nextpnr does not know these limits of the primitives, so they are checked here.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from amaranth import Const, Instance, Signal
from amaranth.hdl import ClockSignal

from ...hw.target import ICE40
from ..board import Board
from .base import Cell, CellModels, Flow, Limit, LoopPll, Pll, Synthesis

__all__ = ["ICE40_FLOW", "Ice40Pll"]


# --- clock ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ice40Pll(LoopPll):
    """SB_PLL40 with ``SIMPLE`` feedback; ``divr``, ``divf``, ``divq`` as the primitive has them."""

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
    def board_mhz(self) -> None:
        """A pin that drives the PLL drives nothing else."""

    @property
    def filter_range(self) -> int:
        """The loop filter that the sysCLOCK guide lists for the phase detector's frequency."""
        return 1 + sum(self.detector_mhz >= limit for limit in (17, 26, 44, 66, 101))

    def instance(self, board: Board, clk: Signal, clock: ClockSignal, locked: Signal) -> Instance:
        on_pad = board.clock_on_pll_pad
        source = {"i_PACKAGEPIN" if on_pad else "i_REFERENCECLK": clk}
        return Instance(
            "SB_PLL40_PAD" if on_pad else "SB_PLL40_CORE",
            p_FEEDBACK_PATH="SIMPLE",
            p_PLLOUT_SELECT="GENCLK",
            p_DIVR=Const(self.divr, 4),
            p_DIVF=Const(self.divf, 7),
            p_DIVQ=Const(self.divq, 3),
            p_FILTER_RANGE=Const(self.filter_range, 3),
            **source,
            i_RESETB=Const(1),
            i_BYPASS=Const(0),
            o_PLLOUTGLOBAL=clock,
            o_LOCK=locked,
        )


def _settings(input_mhz: float) -> Iterator[Pll]:
    for divr in range(16):
        if not 10 <= input_mhz / (divr + 1) <= 133:
            continue
        for divf in range(128):
            for divq in range(1, 7):
                pll = Ice40Pll(input_mhz, divr, divf, divq)
                if 533 <= pll.vco_mhz <= 1066 and 16 <= pll.output_mhz <= 275:
                    yield pll


_MULTIPLIER = Limit(50.0, "SB_MAC16")


def _limits(cells: Iterable[Cell]) -> Iterator[Limit]:
    yield from (_MULTIPLIER for cell in cells if cell.type == "SB_MAC16")


# --- place and route ------------------------------------------------------------------------------


def _pcf(board: Board) -> str:
    return "\n".join(
        (
            f"# {board.title}",
            "# the board's oscillator",
            f"set_io clk {board.clock_pin}",
            f"set_frequency clk {board.clock_mhz:g}",
            "# the serial port: rx is what the host says; it idles high",
            f"set_io -pullup yes rx {board.uart_rx}",
            f"set_io tx {board.uart_tx}",
            "# on while a frame is at work",
            f"set_io led {board.led_pin}",
            "",
        )
    )


_FLIP_FLOPS = {
    f"SB_{name}": {"ff": 1}
    for name in (
        f"DFF{edge}{kind}"
        for edge in ("", "N")
        for kind in ("", "E", "SR", "R", "SS", "S", "ESR", "ER", "ESS", "ES")
    )
}

ICE40_FLOW = Flow(
    target=ICE40,
    synthesis=Synthesis(
        # Eight registers of a tile share an enable: with more enables no placement is found.
        "synth_ice40 -device u -abc9 -dffe_min_ce_use 8 {dsp} -top {top} -json netlist.json",
        {False: "", True: "-dsp"},
        {
            "SB_LUT4": {"lut": 1},
            "SB_CARRY": {},
            "SB_MAC16": {"dsp": 1},
            "SB_PLL40_CORE": {},
            "SB_PLL40_PAD": {},
            **_FLIP_FLOPS,
            **{f"SB_RAM40_4K{kind}": {"bram": 1} for kind in ("", "NR", "NW", "NRNW")},
        },
    ),
    place="nextpnr-ice40",
    pack="icepack",
    routed_option="--asc",
    pack_options=(),
    bitstream_suffix=".bin",
    constraints_option="--pcf",
    constraints=_pcf,
    sites={
        "ICESTORM_LC": "lut",
        "ICESTORM_DSP": "dsp",
        "ICESTORM_RAM": "bram",
        "ICESTORM_SPRAM": "spram",
        "ICESTORM_PLL": "pll",
        "SB_IO": "io",
        "SB_GB": "clock_buffer",
    },
    # The supply of a bank decides: constraints do not name the standard.
    io_standards=frozenset({"SB_LVCMOS", "SB_LVTTL"}),
    pll_settings=_settings,
    clock_tree={"": Limit(185.0, "the global clock buffer")},
    limits=_limits,
    # Icarus Verilog 11 does not read inputs with default values.
    cell_models=CellModels(
        share=("ice40/cells_sim.v",),
        defines={"NO_ICE40_DEFAULT_ASSIGNMENTS": "1"},
    ),
    flash_only=True,
)

"""Lattice ECP5: synthesis, place and route, constraints, PLL, packer and clock limits.

Sources: sysCLOCK guide FPGA-TN-02200 and data sheet FPGA-DS-02012 (phase detector 10 to 400 MHz,
oscillator 400 to 800 MHz, output 3.125 to 400 MHz, dividers 1 to 128; external switching
characteristics, fMAX_PRI); MULT18X18D path delays of speed grade 6.

nextpnr has no internal arcs for a fully registered multiplier block, ignores its PIPELINE register
and does not check the limit of the clock tree, so both are checked here.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amaranth import Const, Instance, Signal
from amaranth.hdl import ClockSignal

from ...compiler.json_file import write_json
from ...hw import target
from ...hw.target import ECP5
from ..board import Board
from . import absorb_gates, carry_chains, json_netlist, localize_constants, pack_registers
from .base import Cell, CellModels, Flow, Limit, LoopPll, Pll, Synthesis
from .cache import read_json

__all__ = ["ECP5_FLOW", "SHARED", "Ecp5Pll", "synth"]


# --- clock ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ecp5Pll(LoopPll):
    """EHXPLLL with feedback from CLKOP; the clock used is CLKOS, which has a divider of its own."""

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
    def board_mhz(self) -> float:
        """The board's own clock."""
        return self.input_mhz

    def instance(self, board: Board, clk: Signal, clock: ClockSignal, locked: Signal) -> Instance:
        feedback = Signal()
        return Instance(
            "EHXPLLL",
            a_FREQUENCY_PIN_CLKI=f"{self.input_mhz:g}",
            a_FREQUENCY_PIN_CLKOS=f"{self.output_mhz:.6f}",
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
            p_CLKI_DIV=self.ref_div,
            p_CLKFB_DIV=self.feedback_div,
            p_CLKOP_ENABLE="ENABLED",
            p_CLKOP_DIV=self.primary_div,
            p_CLKOP_CPHASE=self.primary_div // 2,
            p_CLKOP_FPHASE=0,
            p_CLKOS_ENABLE="ENABLED",
            p_CLKOS_DIV=self.output_div,
            p_CLKOS_CPHASE=self.output_div // 2,
            p_CLKOS_FPHASE=0,
            i_CLKI=clk,
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
            o_CLKOS=clock,
            o_LOCK=locked,
        )


def _settings(input_mhz: float) -> Iterator[Pll]:
    for ref_div in range(1, 129):
        if not 10 <= input_mhz / ref_div <= 400:
            continue
        for loop in range(1, 129):  # VCO = detector * loop: one factor for each divider
            yield from _outputs(input_mhz, ref_div, loop)


def _outputs(input_mhz: float, ref_div: int, loop: int) -> Iterator[Pll]:
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


_CLOCK_TREE = {
    speed: Limit(mhz, f"the primary clock tree at speed grade {speed}")
    for speed, mhz in (("8", 370.0), ("7", 303.0), ("6", 257.0))
}
_MULTIPLIER_MHZ = 287.0
_PIPELINED_MULTIPLIER_MHZ = 381.0


def _limits(cells: Iterable[Cell]) -> Iterator[Limit]:
    for cell in cells:
        if cell.type != "MULT18X18D":
            continue
        if cell.parameters.get("REG_PIPELINE_CLK", "NONE") == "NONE":
            yield Limit(_MULTIPLIER_MHZ, "MULT18X18D without its PIPELINE register")
        else:
            yield Limit(_PIPELINED_MULTIPLIER_MHZ, "MULT18X18D with its PIPELINE register")


# --- synthesis ------------------------------------------------------------------------------------

#: Registers with an enable of their own need a slice of their own, and nextpnr gives the eight
#: registers of a tile one reset: an enable of fewer than three registers and a reset of fewer than
#: ten become logic. With more resets no placement is found of what fills the registers.
SHARED = "dfflegalize -mince 3 -minsrst 10 " + " ".join(
    f"-cell $_{kind}_ {init}"
    for kind, init in (
        ("DFF_?", "01"),
        ("DFF_?P?", "r"),
        ("SDFF_?P?", "r"),
        ("DFFE_??", "01"),
        ("DFFE_?P??", "r"),
        ("SDFFE_?P??", "r"),
        ("DLATCH_?", "x"),
    )
)


def synth(options: str, between: str = SHARED) -> str:
    """yosys' synthesis into ``netlist.json``, with a command ``between`` the mapping of
    adders and that of registers.
    """
    synth = f"synth_ecp5 -abc9 {options}"
    return f"{synth} -run :map_ffs; {between}; {synth} -json netlist.json -run map_ffs:"


def _improve(out: Path) -> Mapping[str, int]:
    """Make of ``netlist.json`` what is good for place and route; returns the cells saved.

    ``packing.log`` says what was done and what could not be.
    """
    given = read_json(out / "netlist.json")
    netlist, packed = pack_registers.pack(given)
    netlist, gates = absorb_gates.absorb(netlist)
    netlist, ended = absorb_gates.end(netlist)
    netlist, shorter = carry_chains.shorten(netlist)
    netlist, luts = localize_constants.localize(netlist)
    write_json(out / "netlist.json", netlist)
    (out / "packing.log").write_text(
        "".join(
            f"{line}\n"
            for line in (
                f"{packed.ports} block RAM ports took in {packed.registers} registers",
                f"adders took in {gates} gates",
                f"{ended} carry outputs are unused",
                f"carry chains take {shorter} LUTs less",
                f"multipliers got {luts} LUTs for their constants",
                *(f"not packed: {port}" for port in packed.unpacked),
            )
        )
    )
    before, after = _cells(given), _cells(netlist)
    return {
        kind: before[kind] - after[kind] for kind in before | after if before[kind] != after[kind]
    }


def _cells(netlist: Mapping[str, Any]) -> Counter[str]:
    """The number of cells of each type."""
    return Counter(
        cell["type"] for module in netlist["modules"].values() for cell in module["cells"].values()
    )


# --- place and route ------------------------------------------------------------------------------


def _lpf(board: Board) -> str:
    def pin(port: str, more: str = "") -> str:
        return (
            f'LOCATE COMP "{port}" SITE "{board.pins[port]}";\n'
            f'IOBUF PORT "{port}" IO_TYPE={board.standard(port)}{more};\n'
        )

    return "".join(
        (
            f"# {board.title}\n",
            "# the board's oscillator\n",
            pin("clk"),
            f'FREQUENCY PORT "clk" {board.clock_mhz:g} MHZ;\n',
            "# the serial port: rx is what the host says; it idles high\n",
            pin("rx", " PULLMODE=UP"),
            pin("tx"),
            "# on while a frame is at work\n",
            pin("led", " DRIVE=4"),
        )
    )


ECP5_FLOW = Flow(
    target=ECP5,
    synthesis=Synthesis(
        synth("-nowidelut {dsp} -top {top}"),
        {False: "-nodsp", True: ""},
        # A carry cell holds two LUTs; a 16x4 RAM four, and its write port two more.
        {
            "LUT4": {"lut": 1},
            "CCU2C": {"lut": 2},
            "TRELLIS_DPR16X4": {"lut": 6},
            "TRELLIS_FF": {"ff": 1},
            "MULT18X18D": {"dsp": 1},
            "DP16KD": {"bram": 1},
            "EHXPLLL": {},
        },
        improve=_improve,
        sources=(json_netlist, pack_registers, absorb_gates, carry_chains, localize_constants),
    ),
    place="nextpnr-ecp5",
    placers=("static", "heap"),
    pack="ecppack",
    routed_option="--textcfg",
    pack_options=("--compress",),
    bitstream_suffix=".bit",
    constraints_option="--lpf",
    constraints=_lpf,
    sites={
        "TRELLIS_COMB": "lut",
        "TRELLIS_FF": "ff",
        "MULT18X18D": "dsp",
        "DP16KD": "bram",
        "EHXPLLL": "pll",
        "TRELLIS_IO": "io",
        "TRELLIS_RAMW": "lut_ram_port",
        "DCCA": "clock_buffer",
    },
    io_standards=frozenset({"LVTTL33", *(f"LVCMOS{volts}" for volts in (33, 25, 18, 15, 12))}),
    pll_settings=_settings,
    clock_tree=_CLOCK_TREE,
    limits=_limits,
    # yosys' library has a block RAM without contents, so that cell is replaced by our model.
    cell_models=CellModels(
        share=("ecp5/cells_sim.v",),
        files=(*ECP5.simulation_models, Path(target.__file__).parent / "ecp5_ram.v"),
        renamed={"DP16KD": "DP16KD_MODEL"},
    ),
)

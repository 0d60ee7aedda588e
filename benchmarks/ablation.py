"""What each measure for the clock is worth: place and route without it, over several seeds.

    python benchmarks/ablation.py [--seeds N] [-o DIR]

Three subjects on an LFE5U-25F, each alone on the chip (out of context, no pins, no link to a host):
a bare array of all 28 multipliers, and two networks planned for the same chip, one with depthwise
layers. The measures are added one after the other; the last row takes one away again. Of the second
network only the floorplan is asked: with and without places, with and without kept copies.
"""

import json
import statistics
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from amaranth import Cat, Elaboratable, Module, Signal, Value, signed
from amaranth.back import rtlil
from amaranth.lib.wiring import In, Out
from gatewright.benchmarks.networks import NETWORKS
from gatewright.boards import get
from gatewright.boards.flow import ecp5
from gatewright.boards.flow.absorb_gates import absorb
from gatewright.boards.flow.cache import digest
from gatewright.boards.flow.localize_constants import localize
from gatewright.boards.flow.pack_registers import pack
from gatewright.boards.flow.synthesis import ANY_INIT, KEEP_COPIES
from gatewright.compiler import tools
from gatewright.compiler.driver import compile_model
from gatewright.hw import ArrayConfig, SystolicArray
from gatewright.hw.target import ECP5
from rich.progress import track

__all__ = ["MEASURES", "SUBJECTS", "Between", "main"]

BOARD = get("ulx3s-25f")
HERE = Path(__file__).parent
_TARGET_MHZ = 250


@dataclass(frozen=True)
class Measures:
    """``own``: the block RAMs' own output registers; ``router1`` instead of router2; ``constants``:
    registers of constants are none; ``shared``: resets and enables of a register or two are logic;
    ``narrow``: no LUTs of more than four inputs; ``gates``: those before adders go into the adders;
    ``near``: the constants of multipliers come from LUTs next to them; ``keep``: copies of
    registers stay apart; ``sites``: multipliers placed in dataflow order.
    """

    own: bool = True
    router1: bool = True
    constants: bool = True
    shared: bool = True
    narrow: bool = True
    gates: bool = True
    near: bool = True
    keep: bool = True
    sites: bool = True


_NAMES = (
    "none",
    "+ block RAMs' own registers",
    "+ router1",
    "+ constants without registers",
    "+ resets of few in logic",
    "+ no wide LUTs",
    "+ gates in adders",
    "+ constants beside multipliers",
    "+ copies of registers kept",
    "+ multipliers placed (all)",
)
MEASURES = {
    name: Measures(*(n < taken for n in range(len(_NAMES) - 1)))
    for taken, name in enumerate(_NAMES)
} | {"all but the kept copies": Measures(keep=False)}


class Between(Elaboratable):
    """A component between registers, as in a stage."""

    def __init__(self, part: Any):
        self.part = part
        members = [
            [
                Value.cast(value)
                for _, member, value in part.signature.flatten(part)
                if member.flow == flow
            ]
            for flow in (In, Out)
        ]
        self.inner_i, self.inner_o = Cat(members[0]), Cat(members[1])
        self.i, self.o = Signal(len(self.inner_i)), Signal(len(self.inner_o))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.part = self.part
        m.d.sync += [self.inner_i.eq(self.i), self.o.eq(self.inner_o)]
        return m


def _array(_out: Path) -> tuple[str, str]:
    config = ArrayConfig(
        simd=7,
        pe=4,
        folds=16,
        depth=512,
        lanes=1,
        x=signed(8),
        w=signed(8),
        acc=signed(24),
        target=ECP5,
        memory="block_ram",
        sites=BOARD.device.dsp_sites,
    )
    rng = np.random.default_rng(0)
    weights = rng.integers(-127, 128, (config.pe, config.simd, config.depth))
    top = Between(SystolicArray(config, weights))
    return rtlil.convert(top, name="subject", ports=[top.i, top.o], emit_src=False), "subject"


def _network(name: str, out: Path) -> tuple[str, str]:
    network = NETWORKS[name]
    onnx.save(network.model(), out / f"{name}.onnx")
    compile_model(
        out / f"{name}.onnx",
        out / "compiled",
        BOARD.device,
        BOARD.name,
        samples=network.calibration(),
    )
    return (out / "compiled" / "rtl" / "accelerator.il").read_text(), "accelerator"


_FLOORPLAN = (_NAMES[0], *_NAMES[-2:], "all but the kept copies")
#: what is routed, and with which measures
SUBJECTS = {
    "bare array, 7 x 4": (_array, tuple(MEASURES)),
    "digits": (partial(_network, "digits"), tuple(MEASURES)),
    "ds_cnn": (partial(_network, "ds_cnn"), _FLOORPLAN),
}


def route(il: str, top: str, measures: Measures, seeds: int, out: Path) -> Iterator[float]:
    """The routed clock, MHz, of each seed; kept in ``out`` by what is routed, and how."""
    if not measures.keep:
        il = il.replace('attribute \\keep "true"\n', "")
    (out / "subject.il").write_text(il)
    options = f"{'-nowidelut' if measures.narrow else ''} -nodsp -top {top}"
    tools.find("yosys").run(
        [
            "-q",
            "-p",
            f"read_rtlil subject.il; {ANY_INIT if measures.constants else ''}; "
            f"{KEEP_COPIES if measures.keep else ''}; "
            f"{ecp5.synth(options, ecp5.SHARED if measures.shared else '')}",
        ],
        out,
        out / "yosys.log",
    )
    netlist = json.loads((out / "netlist.json").read_text())
    if measures.own:
        netlist, _ = pack(netlist)
    if measures.gates:
        netlist, _ = absorb(netlist)
    if measures.near:
        netlist, _ = localize(netlist)
    if not measures.sites:
        for cell in netlist["modules"][top]["cells"].values():
            cell["attributes"].pop("BEL", None)
    text, router = json.dumps(netlist), "router1" if measures.router1 else "router2"
    (out / "netlist.json").write_text(text)
    for seed in range(1, seeds + 1):
        report = out / f"{digest(text, router)}-{seed}.report"
        if not report.exists():
            tools.find("nextpnr-ecp5").run(
                [
                    BOARD.chip,
                    "--package",
                    BOARD.package,
                    "--speed",
                    BOARD.speed,
                    "--json",
                    "netlist.json",
                    "--out-of-context",
                    "--lpf-allow-unconstrained",
                    "--freq",
                    str(_TARGET_MHZ),
                    "--timing-allow-fail",
                    "--router",
                    router,
                    "--seed",
                    str(seed),
                    "--report",
                    report.name,
                ],
                out,
                report.with_suffix(".log"),
            )
        clocks = json.loads(report.read_text())["fmax"].values()
        yield min(clock["achieved"] for clock in clocks)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, type=click.Choice(list(SUBJECTS)), help="A subject.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("out") / "ablation",
    show_default=True,
)
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=HERE / "ablation.md",
    show_default="ablation.md beside this file",
    help="The page to write.",
)
def main(only: tuple[str, ...], seeds: int, output: Path, results: Path) -> None:
    """Route the subjects with and without each measure, and write the page."""
    output = output.absolute()
    rows = []
    for subject, (make, names) in SUBJECTS.items():
        if only and subject not in only:
            continue
        folder = output / subject.split(",")[0].replace(" ", "-")
        folder.mkdir(parents=True, exist_ok=True)
        il, top = make(folder)
        for name in track(names, subject, transient=True):
            clocks = list(route(il, top, MEASURES[name], seeds, folder))
            rows.append(
                f"| {subject} | {name} | {statistics.median(clocks):.0f} | "
                f"{max(clocks):.0f} | {', '.join(f'{c:.0f}' for c in clocks)} |"
            )
    versions = ", ".join(f"{name} {tools.find(name).version}" for name in ("yosys", "nextpnr-ecp5"))
    results.write_text(
        f"""# What each measure for the clock is worth

Made by `python benchmarks/ablation.py --seeds {seeds}`; do not edit. LFE5U-25F, speed grade 6, 28
multipliers, each subject alone on the chip without a link to a host; {_TARGET_MHZ} MHz asked;
{versions}. MHz as routed, in the order of the seeds 1 to {seeds}.

| subject | measures | median | best | seeds |
| --- | --- | --: | --: | --- |
"""
        + "\n".join(rows)
        + "\n"
    )


if __name__ == "__main__":
    main()

"""Ask nextpnr for the sites of a chip's multipliers: the source of the site tables of ECP5."""

import json
import re
from pathlib import Path

from ...compiler import tools

__all__ = ["multipliers"]


def multipliers(chip: str, count: int, work: Path) -> frozenset[str]:
    """Names of the ``count`` MULT18X18D sites of ``chip`` (nextpnr-ecp5's option, ``--25k``).

    Places a netlist that holds that many of them and nothing else, in the folder ``work``.
    """
    cells = "\n".join(f"(* keep *) MULT18X18D m{n} ();" for n in range(count))
    (work / "bare.v").write_text(f"module top ();\n{cells}\nendmodule\n")
    tools.find("yosys").run(
        ["-q", "-p", "read_verilog bare.v; synth_ecp5 -top top -json bare.json"],
        work,
        work / "yosys.log",
    )
    tools.find("nextpnr-ecp5").run(
        [
            chip,
            "--package",
            "CABGA381",
            "--json",
            "bare.json",
            "--write",
            "placed.json",
            "--lpf-allow-unconstrained",
            "--no-route",
        ],
        work,
        work / "nextpnr.log",
    )
    text = json.dumps(json.loads((work / "placed.json").read_text()))
    return frozenset(re.findall(r"X\d+/Y\d+/MULT18_\d", text))

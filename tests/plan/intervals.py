"""Frame intervals of many small networks at once, from one compiled simulator.

The handshakes of an accelerator do not depend on its data, so yosys removes everything that only
computes values, and Verilator simulates what is left of all networks side by side.
"""

import gc
from collections import defaultdict
from os import cpu_count

from amaranth import Elaboratable, Module, Signal
from amaranth.back import rtlil
from gatewright.compiler import tools
from gatewright.compiler.lower import accelerator

__all__ = ["frame_ends"]

_PRUNE = "read_rtlil top.il; hierarchy -top top; proc; flatten; opt_clean; opt_expr; opt_clean"

_MAIN = """\
#include "Vtop.h"
#include "verilated.h"
#include <cstdio>
#include <vector>
int main() {
    Vtop top;
    std::vector<int> seen(%(count)d);
    top.rst = 0;
    for (long cycle = 0; cycle < %(cycles)d; ++cycle) {
        top.clk = 0;
        top.eval();
        for (int n = 0; n < %(count)d; ++n)
            if (top.ends[n / 32] >> (n %% 32) & 1 && seen[n]++ < %(frames)d)
                std::printf("%%d %%ld\\n", n, cycle);
        top.clk = 1;
        top.eval();
    }
}
"""


class _Saturated(Elaboratable):
    """Accelerators whose sources always offer a beat and whose sinks always take one."""

    def __init__(self, accelerators):
        self.accelerators = accelerators
        # Verilator passes ports of more than 64 bits as arrays of 32-bit words
        self.ends = Signal(max(65, len(accelerators)))

    def elaborate(self, platform):
        m = Module()
        for n, dut in enumerate(self.accelerators):
            m.submodules[f"dut_{n}"] = dut
            m.d.comb += [
                dut.s_axis_tvalid.eq(1),
                dut.m_axis_tready.eq(1),
                self.ends[n].eq(dut.m_axis_tvalid & dut.m_axis_tlast),
            ]
        return m


def frame_ends(networks, frames, cycles, folder):
    """The cycles in which the first ``frames`` frames of each network end, within ``cycles``."""
    top = _Saturated([accelerator(network) for network in networks])
    gc.disable()  # nearly everything lives to the end, and looking through it takes a third
    try:
        text = rtlil.convert(top, name="top", ports=[top.ends], emit_src=False)
    finally:
        gc.enable()
    (folder / "top.il").write_text(text)
    parameters = {"count": len(networks), "cycles": cycles, "frames": frames}
    (folder / "main.cpp").write_text(_MAIN % parameters)
    tools.find("yosys").run(
        ["-q", "-p", f"{_PRUNE}; write_verilog -noattr top.v"], folder, folder / "yosys.log"
    )
    found = defaultdict(list)
    for line in _run(folder).splitlines():
        number, cycle = map(int, line.split())
        found[number].append(cycle)
    return [found[n] for n in range(len(networks))]


def _run(folder):
    """Compile and run ``top.v`` and ``main.cpp``; return what the program prints."""
    verilator = tools.find("verilator")
    options = ["-Wno-fatal", "-Wno-lint", "-Wno-style", "--noassert", "--x-initial", "fast"]
    names = ["--prefix", "Vtop", "--top-module", "top", "-Mdir", "build", "-o", "simulator"]
    verilator.run(
        ["--cc", "--exe", *options, *names, "main.cpp", "top.v"], folder, folder / "verilator.log"
    )
    make = ("make", f"-j{cpu_count()}", "-C", "build", "-f", "Vtop.mk")
    tools.Tool("make", "", "native", make, {**verilator.env, **verilator.make_env}).run(
        ["OPT_FAST=-O0", "OPT_SLOW=-O0", "OPT_GLOBAL=-O0"], folder, folder / "make.log"
    )
    program = tools.Tool("the simulator", "", "native", (str(folder / "build" / "simulator"),))
    program.run([], folder, folder / "ends.log")
    return (folder / "ends.log").read_text()

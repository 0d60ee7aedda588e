"""Memories in block RAM compute what they do in RTL, with and without their packed registers."""

import json
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from amaranth import Elaboratable, Module, Signal
from amaranth.back import rtlil
from amaranth.lib import memory
from gatewright import boards
from gatewright.boards.flow import ecp5
from gatewright.boards.flow.cell_netlist import netlist
from gatewright.boards.flow.pack_registers import Packing
from gatewright.sim.agents import StreamFormat
from gatewright.sim.runner import simulate
from numpy.testing import assert_array_equal

BITS = 14
WIDEST = 40
FRAME = 400


@dataclass(frozen=True)
class Shape:
    """``depth`` words of ``width`` bits, all of them initialised; or written while it is read."""

    width: int
    depth: int
    written: bool = False

    @property
    def words(self):
        rng = np.random.default_rng(self.width * self.depth)
        return rng.integers(0, 1 << self.width, self.depth)

    def read(self, addresses):
        """What is read when each cycle writes ``x`` to the word after that at ``x``."""
        words, out = self.words, []
        for x in addresses:
            out.append(words[x % self.depth])
            if self.written:
                words[(x + 1) % self.depth] = x % (1 << self.width)
        return out


SHAPES = (
    Shape(1, 16384),
    Shape(2, 8192),
    Shape(4, 4096),
    Shape(9, 2048),
    Shape(18, 1024),
    Shape(36, 512),
    Shape(WIDEST, 512),
    Shape(8, 4096),
    Shape(9, 2048, written=True),
    Shape(18, 1024, written=True),
    Shape(36, 512, written=True),
    Shape(WIDEST, 256, written=True),
)


class Memories(Elaboratable):
    """A stage that gives what all memories hold under each input; ``held`` while nobody takes it.

    Unless ``held``, the registers behind the memories have no enable, and the sink must not stall.
    """

    def __init__(self, held):
        self.held = held
        widths = {"s_axis_tdata": BITS, "m_axis_tdata": WIDEST * len(SHAPES)}
        self.ports = {
            name: Signal(widths.get(name, 1), name=name)
            for name in (
                f"{side}_axis_t{part}"
                for side in "sm"
                for part in ("data", "valid", "ready", "last")
            )
        }

    def elaborate(self, platform):
        m = Module()
        port = self.ports
        # From the input: its register, the memories, the registers behind them.
        x, flags, count = Signal(BITS), [Signal() for _ in range(3)], Signal(range(FRAME))
        moves = Signal()
        m.d.comb += [
            moves.eq(~flags[-1] | port["m_axis_tready"] if self.held else 1),
            port["s_axis_tready"].eq(moves),
            port["m_axis_tvalid"].eq(flags[-1]),
            port["m_axis_tlast"].eq(count == FRAME - 1),
        ]
        with m.If(moves):
            m.d.sync += [x.eq(port["s_axis_tdata"]), flags[0].eq(port["s_axis_tvalid"])]
            m.d.sync += [after.eq(flag) for flag, after in pairwise(flags)]
        with m.If(flags[-1] & port["m_axis_tready"]):
            m.d.sync += count.eq(count + 1)
            with m.If(port["m_axis_tlast"]):
                m.d.sync += count.eq(0)
        for n, shape in enumerate(SHAPES):
            m.submodules[f"memory{n}"] = store = memory.Memory(
                shape=shape.width, depth=shape.depth, init=map(int, shape.words)
            )
            data = Signal(shape.width, reset_less=True, name=f"held{n}")
            read = store.read_port()
            m.d.comb += [
                read.addr.eq(x),
                read.en.eq(moves),
                port["m_axis_tdata"].word_select(n, WIDEST).eq(data),
            ]
            with m.If(moves):
                m.d.sync += data.eq(read.data)
            if shape.written:
                write = store.write_port()
                m.d.comb += [write.addr.eq(x + 1), write.data.eq(x), write.en.eq(moves & flags[0])]
        return m


SOURCE = StreamFormat("input", (1, FRAME, 1), lanes=1, bits=BITS, signed=False)
SINK = StreamFormat("output", (1, FRAME, len(SHAPES)), lanes=len(SHAPES), bits=WIDEST, signed=False)


def run(folder, cells, stall):
    """Values of all memories [address, memory], after addresses that hit one another often."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 1 << BITS, FRAME)
    x[100:] = rng.integers(0, 64, FRAME - 100)
    done = simulate(
        cells.verilog,
        sources={"s_axis": SOURCE},
        sinks={"m_axis": SINK},
        frames={SOURCE.name: x.reshape(1, 1, FRAME, 1)},
        work=folder,
        stall=stall,
        timeout_cycles=100,
        extra_sources=cells.cells,
    )
    return x, done.outputs[SINK.name].reshape(FRAME, len(SHAPES))


@pytest.fixture
def directory(tmp_path, request):
    """The memories' RTL; their registers have an enable where the test asks for stalls."""
    (tmp_path / "rtl").mkdir()
    design = Memories(held=request.param > 0)
    text = rtlil.convert(
        design, name="accelerator", ports=list(design.ports.values()), emit_src=False
    )
    # As the compiler says of its own memories: no word is read while it is written.
    (tmp_path / "rtl" / "accelerator.il").write_text(
        text.replace("parameter \\COLLISION_X_MASK 1'0", "parameter \\COLLISION_X_MASK 1'1")
    )
    return tmp_path


def assert_right(x, found):
    for n, shape in enumerate(SHAPES):
        assert_array_equal(found[:, n], shape.read(x), err_msg=str(shape))


def modes(folder):
    """The output registers that are used in the netlist: which widths of ports have one."""
    top = json.loads((folder / "netlist.json").read_text())["modules"]["accelerator"]
    return {
        int(cell["parameters"][f"DATA_WIDTH_{half}"], 2)
        for cell in top["cells"].values()
        for half in "AB"
        if cell["type"] == "DP16KD" and cell["parameters"][f"REGMODE_{half}"] == "OUTREG"
    }


@pytest.mark.parametrize(("directory", "stall"), [(0.0, 0.0), (0.4, 0.4)], indirect=["directory"])
def test_block_ram_and_its_registers_read_what_the_memories_hold(directory, stall):
    cells = netlist(directory, boards.get("ulx3s-85f"), lambda *_: None)
    assert modes(cells.verilog.parent) >= {1, 2, 4, 9, 18, 36}
    assert "not packed" not in (cells.verilog.parent / "packing.log").read_text()
    assert_right(*run(directory / "sim", cells, stall))


@pytest.mark.parametrize("directory", [0.0], indirect=True)
def test_block_ram_without_its_registers_reads_the_same(directory, monkeypatch):
    monkeypatch.setattr(ecp5.pack_registers, "pack", lambda netlist: (netlist, Packing(0, 0, ())))
    cells = netlist(directory, boards.get("ulx3s-85f"), lambda *_: None)
    assert modes(cells.verilog.parent) == set()
    assert_right(*run(directory / "sim", cells, 0.0))

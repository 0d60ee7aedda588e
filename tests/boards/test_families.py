"""What every family's flow and every board must have; the failure names the missing piece."""

import json
import re

import pytest
from amaranth import Signal, signed
from amaranth.back import rtlil
from amaranth.lib.memory import Memory
from gatewright import boards
from gatewright.boards.flow import FLOWS, cell_netlist, flow_of
from gatewright.boards.flow.build import build
from gatewright.boards.flow.clock import choose
from gatewright.hw.target import MultiplierConfig

from .test_build import AddOne, interface

BOARDS = pytest.mark.parametrize("board", boards.all_boards(), ids=lambda board: board.name)
FAMILIES = pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.target.name)


def smallest(flow):
    found = [board for board in boards.all_boards() if board.device.target == flow.target]
    return min(found, key=lambda board: board.device.lut)


def modules(files):
    """The modules in Verilog files, and in those that they include."""
    found, files = set(), list(files)
    for file in files:
        text = file.read_text()
        found.update(re.findall(r"^\s*module\s+\\?(\w+)", text, re.M))
        for name in re.findall(r'`include "([\w./]+)"', text):
            places = [file.parent / name, file.parent.parent / "lattice" / name]
            files += [place for place in places if place.is_file() and place not in files]
    return found


@BOARDS
def test_the_pins_of_a_board_differ_and_are_constrained(board):
    pins = {name: getattr(board, name) for name in ("clock_pin", "uart_rx", "uart_tx", "led_pin")}
    assert len(set(pins.values())) == len(pins), pins
    text = flow_of(board.device.target).constraints(board)
    lacking = [name for name, pin in pins.items() if not re.search(rf"\b{pin}\b", text)]
    assert not lacking, f"constraints do not place {lacking}"


@BOARDS
def test_the_constraints_have_the_boards_clock(board):
    text = flow_of(board.device.target).constraints(board)
    numbers = [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", text)]
    clock = board.clock_mhz, 1000 / board.clock_mhz
    assert any(n == pytest.approx(one, rel=1e-5) for n in numbers for one in clock), text


@BOARDS
def test_a_board_reaches_its_usual_clock_within_its_limits(board):
    assert choose(board, board.target_mhz).output_mhz == pytest.approx(board.target_mhz, rel=0.01)
    assert flow_of(board.device.target).lowest_limit(board.speed, []).mhz >= board.target_mhz


@FAMILIES
def test_what_nextpnr_counts_has_names(flow):
    missing = {"lut", "dsp", "bram", "pll", "io"} - set(flow.sites.values())
    assert not missing, f"sites name no {missing}"


@FAMILIES
def test_every_counted_cell_has_a_model(flow):
    models = flow.cell_models
    known = modules([*cell_netlist.shared(models.share), *models.files])
    cells = {models.renamed.get(cell, cell) for cell in flow.synthesis.cells}
    assert cells <= known, f"cell_models have no model of {sorted(cells - known)}"


@FAMILIES
def test_the_multiplier_has_a_model_for_simulation(flow):
    block = flow.target.dsp(MultiplierConfig(signed(8), signed(8)))
    text = rtlil.convert(block, name="top", emit_src=False)
    used = set(re.findall(r"^\s*cell \\(\w+)", text, re.M))
    lacking = used - modules(flow.target.simulation_models)
    assert not lacking, f"simulation_models have no model of {lacking}"


class OfEachKind(AddOne):
    """The sum of :class:`AddOne`, with a product and a block RAM on the way to it."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def elaborate(self, platform):
        m = super().elaborate(platform)
        data, shape = self.ports["s_axis_tdata"], self.target.memory_shapes[0]
        m.submodules.product = product = self.target.dsp(MultiplierConfig(signed(8), signed(8)))
        m.submodules.ram = ram = Memory(
            shape=shape.bits, depth=shape.words, init=[], attrs={"ram_style": "block"}
        )
        read, write = ram.read_port(), ram.write_port()
        address, total = Signal(range(shape.words)), Signal(24)
        word, parity = Signal(shape.bits), Signal()
        m.d.comb += [
            product.x[0].eq(data),
            product.w[0].eq(~data),
            write.addr.eq(address),
            write.data.eq(total),
            write.en.eq(1),
            read.addr.eq(address + 1),
            read.en.eq(1),
        ]
        m.d.sync += [
            address.eq(address + 1),
            total.eq(total + product.p[0]),
            word.eq(read.data),
            parity.eq(word.xor()),
        ]
        with m.If(self.ports["s_axis_tready"]):
            m.d.sync += self.ports["m_axis_tdata"].eq(data + 1 + parity)
        return m


@FAMILIES
def test_a_chip_with_a_cell_of_each_kind_is_built_as_counted(flow, tmp_path):
    board, design = smallest(flow), OfEachKind(flow.target)
    rtl = tmp_path / "out" / "rtl"
    rtl.mkdir(parents=True)
    ports = list(design.ports.values())
    text = rtlil.convert(design, name="accelerator", ports=ports, emit_src=False)
    (rtl / "accelerator.il").write_text(text)
    (rtl / "interface.json").write_text(interface(16))
    result = build(tmp_path / "out", board, seeds=1)
    assert (tmp_path / "out" / result.bitstream).stat().st_size > 10_000
    (counts,) = (tmp_path / "out" / "build").glob("netlist-*/counts.json")
    counts = json.loads(counts.read_text())
    used = {name: use.used for name, use in result.utilization.items()}
    assert counts["dsp"] == used["dsp"] == 1
    assert counts["bram"] == used["bram"] >= 1
    assert counts["ff"] == pytest.approx(used["ff"], rel=0.1)
    if not flow.target.lone_register_cells:
        assert counts["lut"] == pytest.approx(used["lut"], rel=0.1)
    for resource in ("lut", "dsp", "bram"):
        assert result.utilization[resource].available == board.device.available[resource], resource

"""What every family's flow and every board must have; the failure names the missing piece."""

import json
import random
import re
from collections import Counter
from contextlib import suppress
from dataclasses import fields, replace
from itertools import product
from math import ceil, tanh
from types import ModuleType

import numpy as np
import pytest
from amaranth import (
    Array,
    Cat,
    ClockDomain,
    ClockSignal,
    Elaboratable,
    Module,
    Mux,
    Signal,
    Value,
    signed,
)
from amaranth.back import rtlil
from amaranth.lib.memory import Memory
from gatewright import boards, hw
from gatewright.boards.flow import FLOWS, cell_netlist, flow_of
from gatewright.boards.flow.base import Bypass
from gatewright.boards.flow.build import _cells, build
from gatewright.boards.flow.cache import read_json
from gatewright.boards.flow.clock import ClockGenerator, choose
from gatewright.boards.flow.route import Router
from gatewright.boards.flow.synthesis import synthesize
from gatewright.compiler import tools
from gatewright.compiler.driver import compile_model
from gatewright.compiler.errors import ToolError
from gatewright.compiler.frontend import write_qdq
from gatewright.compiler.plan import Goal
from gatewright.compiler.progress import silent
from gatewright.hw.control.delay import delay
from gatewright.hw.target import MemoryShape, MultiplierConfig
from gatewright.sim.simulate import simulate

from ..plan.networks import Builder
from .test_build import AddOne, interface

BOARDS = pytest.mark.parametrize("board", boards.all_boards(), ids=lambda board: board.name)
FAMILIES = pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.target.name)


BYTES = MultiplierConfig(signed(8), signed(8))


def smallest(flow):
    found = [board for board in boards.all_boards() if board.device.target == flow.target]
    return min(found, key=lambda board: board.device.lut)


def loop(board):
    """The PLL of the board's usual clock, and what its primitive is connected to."""
    pll, signals = choose(board, board.target_mhz), [Signal(), ClockSignal(), Signal()]
    return pll.instance(board, *signals), signals


def said(program, *args, folder):
    """What a program of a flow says of its options."""
    with suppress(ToolError):  # icepack has no option for its help
        tools.find(program).run(args, folder, folder / "log")
    return (folder / "log").read_text()


def synthesized(flow, design, ports, folder, **options):
    """What the flow counts in a design; the netlist is in ``folder``."""
    source = folder.with_suffix(".il")
    source.write_text(rtlil.convert(design, name="top", ports=ports, emit_src=False))
    return synthesize([source], flow.synthesis, folder, "top", **options)


def read_only(m, shape):
    """Address and data of a memory of random words in block RAM."""
    rng = random.Random(2)
    words = [rng.getrandbits(shape.bits) for _ in range(shape.words)]
    rom = Memory(shape=shape.bits, depth=shape.words, init=words, attrs={"ram_style": "block"})
    m.submodules += rom
    read = rom.read_port()
    m.d.comb += read.en.eq(1)
    return read.addr, read.data


def routed(board, netlist, folder, pll=None):
    """The netlist of a design with the ports of a board, placed and routed at the board's clock."""
    flow = flow_of(board.device.target)
    pll = pll or Bypass(board.clock_mhz)
    router = Router(board, flow, pll, tools.find(flow.place), folder, silent)
    (found,) = router.route(netlist, seeds=1, jobs=1, until_met=True)
    return found.utilization


def modules(files):
    """The modules with a behaviour in Verilog files, and in those that they include."""
    found, files = set(), list(files)
    for file in files:
        text = file.read_text()
        declared = re.findall(r"^\s*(\(\*.*\*\))?\s*module\s+\\?(\w+)", text, re.M)
        found.update(name for attributes, name in declared if "blackbox" not in attributes)
        for name in re.findall(r'`include "([\w./]+)"', text):
            places = [file.parent / name, file.parent.parent / "lattice" / name]
            files += [place for place in places if place.is_file() and place not in files]
    return found


# --- the records ----------------------------------------------------------------------------------

#: what a record of some family or board is right to have empty
EMPTY = {"lut_ram", "block_ram_register", "gated_adders", "pack_options", "package", "speed"}
RECORDS = (
    *(record for flow in FLOWS for record in (flow, flow.target, flow.synthesis, flow.cell_models)),
    *(record for board in boards.all_boards() for record in (board, board.device, board.usb)),
)


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_a_record_without_one_of_its_fields_names_it(record):
    required = {field.name for field in fields(record) if field.default is field.default_factory}
    for name in required - EMPTY - {"led_active_low"}:
        with pytest.raises(ValueError, match=rf"\b{name}\b"):
            replace(record, **{name: None})


# --- a board, as data -----------------------------------------------------------------------------


def test_the_names_of_boards_differ():
    names = Counter(board.name for board in boards.all_boards())
    assert max(names.values()) == 1, f"boards share a name: {names}"


@BOARDS
def test_the_part_of_a_board_names_its_device_and_speed(board):
    found = re.fullmatch(rf"{board.device.name}-.*", board.part)
    assert found, f"part {board.part} is not of the device {board.device.name}"
    assert board.speed in board.part.removeprefix(board.device.name), (
        f"part {board.part} has not the speed {board.speed}"
    )


@BOARDS
def test_the_pins_of_a_board_differ_and_are_constrained(board):
    fields = {"clk": "clock_pin", "rx": "uart_rx", "tx": "uart_tx", "led": "led_pin"}
    shared = [fields[port] for port, pin in board.pins.items()
              if list(board.pins.values()).count(pin) > 1]  # fmt: skip
    assert not shared, f"one pin for {shared}"
    text = flow_of(board.device.target).constraints(board)
    lacking = [
        fields[port]
        for port, pin in board.pins.items()
        if not re.search(rf"\b{port}\b.*\b{pin}\b", text)
    ]
    assert not lacking, f"constraints do not place {lacking}"


@BOARDS
def test_the_constraints_have_the_boards_clock(board):
    text = flow_of(board.device.target).constraints(board)
    lines = " ".join(line for line in text.splitlines() if re.search(r"\bclk\b", line))
    numbers = [float(n) for n in re.findall(r"(?<![\w.])\d+(?:\.\d+)?(?![\w.])", lines)]
    clock = board.clock_mhz, 1000 / board.clock_mhz
    assert any(n == pytest.approx(one, rel=1e-5) for n in numbers for one in clock), (
        f"constraints have no clock_mhz of {board.clock_mhz} for clk: {text}"
    )


@BOARDS
def test_the_constraints_have_standards_of_the_family_and_a_pull_up(board):
    flow = flow_of(board.device.target)
    text = flow.constraints(board)
    assert re.search(r"(?im)^(?=.*\brx\b).*pull.*$", text), f"constraints do not pull rx up: {text}"
    used = {board.standard(port) for port in board.pins}
    strange = used - flow.io_standards
    assert not strange, f"io_standard {strange} is not one of {sorted(flow.io_standards)}"
    if any(standard in text for standard in flow.io_standards):
        assert all(standard in text for standard in used), (
            f"constraints lack an io_standard: {text}"
        )


@BOARDS
def test_a_board_reaches_its_usual_clock_within_its_limits(board):
    flow, mhz = flow_of(board.device.target), board.target_mhz
    assert mhz >= board.clock_mhz, f"target_mhz={mhz} is below clock_mhz={board.clock_mhz}"
    found = choose(board, mhz)
    assert found.output_mhz == pytest.approx(mhz, rel=0.01), (
        f"pll_settings make {found.output_mhz} MHz of clock_mhz={board.clock_mhz}, and target_mhz "
        f"is {mhz}"
    )
    limit = flow.lowest_limit(board.speed, []).mhz
    assert limit >= mhz, f"clock_tree allows {limit} MHz, and target_mhz is {mhz}"


@BOARDS
def test_the_pll_of_a_board_drives_the_clock_and_says_when_it_is_steady(board):
    pll, (clk, clock, locked) = loop(board)
    lacking = [
        name
        for name, signal in (("clk", clk), ("clock", clock), ("locked", locked))
        if not any(value is signal for value, _ in pll.ports.values())
    ]
    assert not lacking, f"the PLL's instance does not connect {lacking}"
    cells = flow_of(board.device.target).synthesis.cells
    assert pll.type in cells, f"the cells of synthesis lack {pll.type}"


# --- a flow, held against its tools ---------------------------------------------------------------


@BOARDS
def test_chip_package_and_speed_are_told_in_options_of_nextpnr(board, tmp_path):
    flow = flow_of(board.device.target)
    options = flow.chip_options(board)
    lacking = [
        name
        for name in ("chip", "package", "speed")
        if getattr(board, name) and getattr(board, name) not in options
    ]
    assert not lacking, f"chip_options do not tell {lacking} of the board"
    known = re.findall(r"--[\w-]+", said(flow.place, "--help", folder=tmp_path))
    assert board.chip in known, (
        f"chip {board.chip}, or target of {board.device.name}: no option of {flow.place}"
    )
    strange = [option for option in options if option.startswith("-") and option not in known]
    assert not strange, f"chip_options: {flow.place} has no options {strange}"


@FAMILIES
def test_place_and_pack_know_the_options_of_the_flow(flow, tmp_path):
    place, pack = (said(program, "--help", folder=tmp_path) for program in (flow.place, flow.pack))
    families = rf"place: {flow.place} does not place the chips of {flow.target.name}"
    assert smallest(flow).chip in place, families
    for name in ("routed_option", "constraints_option"):
        option = getattr(flow, name)
        assert f"{option} arg" in place, f"{name}: {flow.place} has no {option}"
    for name in ("placers", "routers"):
        for used in getattr(flow, name):
            assert re.search(rf"\b{used}[,;]", place), f"{name}: {flow.place} has no {used}"
    strange = [option for option in flow.pack_options if not re.search(rf"{option}\b", pack)]
    assert not strange, f"pack_options: {flow.pack} has no {strange}"


@FAMILIES
def test_what_nextpnr_counts_has_names(flow):
    missing = {"lut", "dsp", "bram", "pll", "io"} - set(flow.sites.values())
    assert not missing, f"sites name no {missing}"


@FAMILIES
def test_every_counted_cell_has_a_model(flow):
    models = flow.cell_models
    known = modules([*cell_netlist.shared(models.share), *models.files])
    pads = (replace(smallest(flow), clock_on_pll_pad=pad) for pad in (False, True))
    plls = {loop(board)[0].type for board in pads}
    cells = {models.renamed.get(cell, cell) for cell in flow.synthesis.cells}
    lacking = cells - known - plls
    assert not lacking, (
        f"cell_models (share, files, renamed) have no model with a behaviour of {sorted(lacking)}"
    )
    strange = models.renamed.keys() - flow.synthesis.cells.keys()
    assert not strange, f"cell_models: renamed has {sorted(strange)}, no cells of synthesis"


@FAMILIES
def test_models_have_no_default_values_of_inputs(flow, tmp_path):
    """Icarus Verilog 11 does not read them; a define takes them out of yosys' models."""
    models = flow.cell_models
    files = [*cell_netlist.shared(models.share), *models.files]
    defines = [f"-D{name}={value}" for name, value in models.defines.items()]
    text = said("verilator", "-E", *defines, *files, folder=tmp_path)
    assert "endmodule" in text, f"verilator -E: {text[-1000:]}"
    defaults = re.findall(r"\binput\b[^,;()]*=[^,;()]*", text)
    assert not defaults, f"cell_models: defines leave {defaults[0]!r}"


@FAMILIES
def test_registers_and_block_rams_of_every_kind_are_counted(flow, tmp_path):
    """On both edges of a clock; registers with and without enable and reset, to 0 and to 1."""
    m, shape = Module(), flow.target.memory_shapes[0]
    ports, number = [], 0
    for edge, reset in product(("pos", "neg"), ("none", "sync", "async")):
        domain = ClockDomain(f"{edge}_{reset}", clk_edge=edge, async_reset=reset == "async")
        m.domains += domain
        ports += [domain.clk, *([domain.rst] if reset != "none" else [])]
        for init, enabled in product((0, 0xFF), (False, True)):
            word, given, enable = Signal(8, init=init, attrs={"data": 1}), Signal(8), Signal()
            with m.If(enable | (not enabled)):
                m.d[domain.name] += word.eq(given)
            ports += [word, given, enable]
            number += len(word)
    for reader, writer in product(("pos_none", "neg_none"), ("pos_sync", "neg_sync")):
        m.submodules += (ram := Memory(shape=shape.bits, depth=shape.words, init=[]))
        read, write = ram.read_port(domain=reader), ram.write_port(domain=writer)
        m.d.comb += read.en.eq(1)
        ports += [read.addr, read.data, write.addr, write.data, write.en]
    found = synthesized(flow, m, ports, tmp_path / "top")
    assert found["ff"] == number, f"cells of {number} registers count as {found['ff']} ff"
    assert found["bram"] >= 4, f"cells of 4 block RAMs count as {found['bram']} bram"


@FAMILIES
def test_the_sources_of_synthesis_are_the_modules_that_it_calls(flow):
    improve = flow.synthesis.improve
    called = [] if improve is None else map(improve.__globals__.get, improve.__code__.co_names)
    lacking = {each for each in called if isinstance(each, ModuleType)} - {*flow.synthesis.sources}
    assert not lacking, f"sources lack {[each.__name__ for each in lacking]}, which improve calls"


@FAMILIES
def test_the_multiplier_is_a_block_of_the_chip_at_a_site_with_a_model(flow):
    dsp = flow.target.dsp
    text = rtlil.convert(dsp(BYTES, site="X1/Y2"), name="top", emit_src=False)
    used = set(re.findall(r"^\s*cell \\(\w+)", text, re.M))
    assert used, f"dsp: {dsp.__name__} instantiates no block of the chip"
    assert "X1/Y2" in text, f"dsp: {dsp.__name__} does not pass its site on"
    lacking = used - modules(flow.target.simulation_models)
    assert not lacking, f"simulation_models have no model of {lacking}"
    strange = used - flow.synthesis.cells.keys()
    assert not strange, f"dsp: the cells of the family's synthesis lack {strange}"


@FAMILIES
def test_the_port_of_a_multiplier_is_its_widest_operand(flow):
    port, products = flow.target.dsp.port, flow.target.dsp.products
    widest = [bits for bits in range(1, 65) if products(signed(bits), signed(bits))]
    assert widest, "dsp: products are 0 for all widths"
    assert widest[-1] < 64, "dsp: products are the same for all widths"
    assert port in (0, widest[-1]), f"dsp: port={port}, but products are of {widest[-1]} bits"


# --- a target, held against synthesis -------------------------------------------------------------


@FAMILIES
def test_synthesis_infers_multipliers_when_it_is_asked_to(flow, tmp_path):
    m, x, w, p = Module(), Signal(signed(8)), Signal(signed(8)), Signal(signed(16))
    m.d.sync += p.eq(x * w)
    for infer in (False, True):
        found = synthesized(flow, m, [x, w, p], tmp_path / str(infer), infer_dsp=infer)["dsp"]
        assert found == infer, f"inference[{infer}] makes {found} DSP blocks of a product"


@FAMILIES
def test_a_multiplier_limits_the_clock(flow, tmp_path):
    block = flow.target.dsp(BYTES)
    synthesized(flow, block, None, tmp_path / "top")
    cells = _cells(tmp_path / "top" / "netlist.json")
    assert list(flow.limits(cells)), f"limits yield none for {[cell.type for cell in cells]}"


@FAMILIES
def test_synthesis_takes_as_many_block_rams_as_memory_shapes_say(flow, tmp_path):
    """At each shape of the family, with a word or a bit more, and where it is doubled or halved."""
    target, m, ports = flow.target, Module(), []
    sizes = {
        size
        for words, bits in ((shape.words, shape.bits) for shape in target.memory_shapes)
        for size in (
            (words, bits),
            (words + 1, bits),
            (words, bits + 1),
            (2 * words, bits),
            (2 * words, max(2, ceil(bits / 2))),  # one bit may be written by a mask instead
            (words // 2, 2 * bits),
        )
    }
    for depth, width in sorted(sizes):
        m.submodules[f"ram_{depth}x{width}"] = ram = Memory(
            shape=width, depth=depth, init=[], attrs={"ram_style": "block"}
        )
        read, write = ram.read_port(), ram.write_port()
        m.d.comb += read.en.eq(1)
        ports += [read.addr, read.data, write.addr, write.en, write.data]
    synthesized(flow, m, ports, tmp_path / "top")
    netlist = read_json(tmp_path / "top" / "netlist.json")["modules"].values()
    (top,) = (module for module in netlist if "top" in module["attributes"])
    found = Counter(
        name.split(".")[0]
        for name, cell in top["cells"].items()
        if flow.synthesis.cells.get(cell["type"], {}).get("bram")
    )
    wrong = {
        f"{depth} x {width}": (target.block_rams(depth, width), found[f"ram_{depth}x{width}"])
        for depth, width in sorted(sizes)
        if target.block_rams(depth, width) != found[f"ram_{depth}x{width}"]
    }
    assert not wrong, f"by memory_shapes and by synthesis, block RAMs are {wrong}"


@FAMILIES
def test_memory_shapes_are_those_that_a_block_ram_has_without_logic(flow, tmp_path):
    """Synthesis makes other shapes too, with logic around the block."""
    shapes = flow.target.memory_shapes

    def counted(*shapes):
        m, name = Module(), "-".join(f"{shape.words}x{shape.bits}" for shape in shapes)
        ports = [port for shape in shapes for port in read_only(m, shape)]
        return synthesized(flow, m, ports, tmp_path / name)

    found = counted(*shapes)
    assert found == {"lut": 0, "ff": 0, "dsp": 0, "bram": len(shapes)}, (
        f"memory_shapes: read-only memories of the {len(shapes)} shapes take {found}"
    )
    deeper = MemoryShape(2 * shapes[-1].words, max(1, shapes[-1].bits // 2))
    found = counted(deeper)
    own = found["bram"] == 1 and not found["lut"] + found["ff"]
    assert not own, f"memory_shapes lack {deeper}, which a block RAM has"


@FAMILIES
def test_a_block_ram_takes_in_its_output_register(flow, tmp_path):
    m = Module()
    address, data = read_only(m, flow.target.memory_shapes[0])
    ports = [address, delay(m, data, 1)]
    own = synthesized(flow, m, ports, tmp_path / "top")["ff"] == 0
    assert own == flow.target.block_ram_register, (
        f"block_ram_register={flow.target.block_ram_register}, and after synthesis and improve "
        f"the block RAM has {'its own register' if own else 'registers of logic after it'}"
    )


@FAMILIES
def test_memory_in_luts_costs_what_lut_ram_says(flow, tmp_path):
    """A cell, two side by side and two in a row; without ``lut_ram`` there is no such memory."""
    cell = flow.target.lut_ram
    words, bits = (cell.words, cell.bits) if cell else (16, 4)
    for rows, across in ((1, 1), (1, 2), (2, 1)):
        m = Module()
        m.submodules.ram = ram = Memory(
            shape=across * bits,
            depth=rows * words,
            init=[],
            attrs={"ram_style": cell.style if cell else "distributed"},
        )
        read, write = ram.read_port(domain="comb"), ram.write_port()
        ports = [read.addr, read.data, write.addr, write.en, write.data]
        counts = None
        with suppress(ToolError):
            counts = synthesized(flow, m, ports, tmp_path / f"{rows}x{across}")
        assert (counts is None) == (cell is None), (
            f"lut_ram is {cell}, but synthesis makes {'no' if cell else 'a'} memory of LUTs"
        )
        if cell is None:
            return
        assert not counts["ff"] + counts["bram"], f"lut_ram: no memory in LUTs: {counts}"
        chosen = across * bits if rows > 1 else 0
        row_luts = (counts["lut"] - chosen) / rows - across * cell.luts
        assert 0 <= row_luts <= cell.row_luts <= row_luts + 2, (
            f"lut_ram is {cell}: {rows * words} words of {across * bits} bits take "
            f"{counts['lut']} LUTs: row_luts are {row_luts} if words, bits and luts are right"
        )


@FAMILIES
def test_a_lut_holds_table_bits(flow, tmp_path):
    bits, rng = flow.target.table_bits, random.Random(1)
    for words, luts in ((bits, 1), (2 * bits, 2)):
        m, address, word = Module(), Signal(range(words)), Signal()
        m.d.comb += word.eq(Array([1, *(rng.getrandbits(1) for _ in range(words - 1))])[address])
        found = synthesized(flow, m, [address, word], tmp_path / str(words))["lut"]
        assert found == 1 if luts == 1 else found > 1, (
            f"table_bits={bits}, but a table of {words} bits takes {found} LUTs"
        )


@FAMILIES
def test_the_table_of_a_function_is_where_its_estimate_says(flow, tmp_path):
    """Of a smooth function; the largest one in LUTs, and the next in a block RAM."""
    limit, luts = flow.target.logic_table_bits, []
    for words in (limit // 8, limit // 4):
        bits = words.bit_length() - 1
        # in the order of the bits of x: from 0 up, then the negative ones
        inputs = (*range(words // 2), *range(-words // 2, 0))
        table = tuple(round(127 * tanh(6 * x / words)) for x in inputs)
        config = hw.LookupConfig(1, signed(bits), signed(8), table, 1, target=flow.target)
        design = hw.Lookup(config)
        ports = [
            Value.cast(signal)
            for stream in (design.i, design.o)
            for signal in (stream.payload, stream.valid, stream.ready)
        ]
        found = synthesized(flow, design, ports, tmp_path / str(words))
        expected = hw.LookupConfig.estimate(1, words, 8, flow.target)
        queue = hw.Queue.estimate(8, flow.target).bram
        assert (expected.bram > queue) == (words * 8 > limit)
        assert expected.bram == found["bram"], (found, expected)
        luts.append((expected.lut, found["lut"]))
    estimated, built = (small - large for small, large in zip(*luts, strict=True))
    assert 0.5 < estimated / built < 2, (estimated, built)


@FAMILIES
def test_gates_in_front_of_an_adder_are_merged_into_it(flow, tmp_path):
    m, x, y, mask, total = Module(), Signal(16), Signal(16), Signal(), Signal(17)
    m.d.sync += total.eq(Mux(mask, x, 0) + y)
    found = synthesized(flow, m, [x, y, mask, total], tmp_path / "top")["lut"]
    assert (found < 24) == flow.target.gated_adders, (
        f"gated_adders={flow.target.gated_adders}, and after synthesis and improve an adder of 16 "
        f"bits with gates takes {found} LUTs"
    )


# --- a chip, held against place and route ---------------------------------------------------------


class Sums(Elaboratable):
    """``number`` sums of 16 bits one after the other, each with a carry in, at a board's pins."""

    def __init__(self, number):
        self.number = number
        self.ports = {name: Signal(name=name) for name in ("clk", "rx", "tx", "led")}

    def elaborate(self, platform):
        m = Module()
        word = Signal(16)
        m.domains.sync = ClockDomain(reset_less=True)
        m.d.comb += ClockSignal().eq(self.ports["clk"])
        m.d.sync += word.eq(Cat(self.ports["rx"], word))
        last = word
        for n in range(self.number):
            total = Signal(16 + n % 2, name=f"total_{n}", reset_less=True)
            m.d.sync += total.eq(last + word + last[-1])
            last = total
        m.d.comb += [self.ports["tx"].eq(last[-1]), self.ports["led"].eq(last.xor())]
        return m


@pytest.fixture(scope="module")
def sums(tmp_path_factory):
    """The folder of a netlist of so many sums in cells of a family, and what is counted in it."""
    made = {}

    def make(flow, number):
        key = flow.target.name, number
        if key not in made:
            design, folder = Sums(number), tmp_path_factory.mktemp("sums") / "netlist"
            counts = synthesized(flow, design, list(design.ports.values()), folder)
            made[key] = folder, counts
        return made[key]

    return make


@BOARDS
def test_a_chip_has_what_its_device_says(board, sums, tmp_path):
    flow, device = flow_of(board.device.target), board.device
    netlist, _ = sums(flow, 1)
    found = {flow.sites.get(site, site): count
             for site, count in routed(board, netlist, tmp_path).items()}  # fmt: skip
    found.setdefault("ff", found["lut"])  # where both are one cell
    for name, number in device.available.items():
        there = found[name]["available"]
        assert there == number, f"device {device.name}: {name}={number}; {board.chip} has {there}"
    used = found["io"]["used"]
    assert used == len(board.pins), f"sites: {used} pins are in use as io, not {len(board.pins)}"
    if device.dsp_sites:
        assert len(set(device.dsp_sites)) == device.dsp, f"dsp_sites of {device.name} are not dsp"


@FAMILIES
def test_the_carry_into_a_chain_takes_carry_luts(flow, sums, tmp_path):
    board, used = smallest(flow), {}
    (lut,) = (site for site, name in flow.sites.items() if name == "lut")
    for number in (1, 9):
        netlist, _ = sums(flow, number)
        used[number] = routed(board, netlist, tmp_path)[lut]["used"]
    found = (used[9] - used[1]) / 8 - 16.5
    assert abs(found - flow.target.carry_luts) < 1, (
        f"carry_luts={flow.target.carry_luts}, but a chain takes {found} LUTs more than its bits"
    )


class Clocks(Elaboratable):
    """A register on the clock of a PLL and, unless ``alone``, one on the board's own."""

    def __init__(self, board, pll, alone):
        self.board, self.pll, self.alone = board, pll, alone
        self.ports = {name: Signal(name=name) for name in board.pins}

    def elaborate(self, platform):
        m = Module()
        names = ["sync"] if self.alone else ["sync", "board"]
        m.domains += map(ClockDomain, names)
        m.submodules.clocks = ClockGenerator(self.board, self.pll, self.ports["clk"], *names[1:])
        m.d.sync += self.ports["led"].eq(self.ports["rx"])
        m.d[names[-1]] += self.ports["tx"].eq(self.ports["rx"])
        return m


@FAMILIES
def test_logic_uses_the_boards_clock_beside_the_pll_if_board_mhz_says_so(flow, tmp_path):
    board = smallest(flow)
    pll = choose(board, board.target_mhz)
    assert pll.board_mhz in (None, board.clock_mhz), (
        f"{type(pll).__name__}: board_mhz={pll.board_mhz}, and clock_mhz={board.clock_mhz}"
    )
    why = {}
    for alone in (True, False):
        design, folder = Clocks(board, pll, alone), tmp_path / f"alone-{alone}"
        synthesized(flow, design, list(design.ports.values()), folder)
        try:
            routed(board, folder, tmp_path, pll)
        except ToolError as error:
            why[alone] = error
    placed = f"{type(pll).__name__}: instance, or clock_on_pll_pad={board.clock_on_pll_pad}"
    assert True not in why, f"{placed} of {board.name}: the PLL is not routed: {why[True]}"
    assert (False in why) == (pll.board_mhz is None), (
        f"{type(pll).__name__}: board_mhz={pll.board_mhz}, but registers on both clocks are "
        f"{f'not routed: {why[False]}' if why else 'routed'}"
    )


class OfEachKind(AddOne):
    """The sum of :class:`AddOne`, with a product and a block RAM on the way to it."""

    def __init__(self, target):
        super().__init__()
        self.target = target

    def elaborate(self, platform):
        m = super().elaborate(platform)
        data, shape = self.ports["s_axis_tdata"], self.target.memory_shapes[0]
        m.submodules.product = product = self.target.dsp(BYTES)
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
    unnamed = used.keys() - set(flow.sites.values()) - {"ff"}
    assert not unnamed, f"sites have no name for {unnamed}, which nextpnr counts"
    lone = flow.target.lone_register_cells
    expected = counts | {"lut": counts["lut"] + lone * counts["ff"]}
    near = {"lut": 0.15, "ff": 0.02, "dsp": 0, "bram": 0}
    wrong = [name for name in near if expected[name] != pytest.approx(used[name], rel=near[name])]
    assert not wrong, (
        f"{wrong}: the cells of synthesis and improve make it {counts}, nextpnr by sites {used}, "
        f"with lone_register_cells={lone}"
    )
    assert used["dsp"] == 1, f"sites: nextpnr counts {used['dsp']} dsp, not 1"
    assert used["bram"] >= 1, "sites: nextpnr counts no bram"
    (report,) = (tmp_path / "out" / "build").glob("route-*/seed-1.json")
    clocks = [clock["constraint"] for clock in read_json(report)["fmax"].values()]
    for mhz in {result.clock_mhz, result.link.link_hz / 1e6 or result.clock_mhz}:
        assert any(clock == pytest.approx(mhz, rel=1e-3) for clock in clocks), (
            f"pll_settings: output_mhz or board_mhz is {mhz}; nextpnr has {clocks} of the PLL"
        )


@FAMILIES
def test_a_netlist_with_weights_in_block_ram_computes_what_the_golden_model_does(flow, tmp_path):
    """With the flow's models of the cells, one of which has the contents of a block RAM."""
    builder, board = Builder(6, 6, 8, seed=2), smallest(flow)
    builder.conv(builder.input, 8, (3, 3), pads=(1, 1, 1, 1))
    write_qdq(builder.graph(), tmp_path / "model.onnx")
    given = board.device, board.name
    compile_model(tmp_path / "model.onnx", tmp_path / "first", *given, goal=Goal("area"))
    plan = json.loads((tmp_path / "first" / "plan.json").read_text())
    plan["stages"][0]["weights"] = "block_ram"
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    compiled = compile_model(
        tmp_path / "model.onnx", tmp_path / "out", *given, plan=tmp_path / "plan.json"
    )
    assert compiled.network.resources.bram, "the weights are in no block RAM"
    cells = cell_netlist.netlist(compiled.directory, board, silent)
    found = simulate(compiled, builder.frames(2).astype(np.float32), netlist=cells, record=False)
    why = "the netlist computes something else: cell_models (files, renamed, defines)"
    assert found.summary["mismatches"] == 0, why

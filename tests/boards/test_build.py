"""Real, small builds: the accelerator adds one to each byte."""

import json
from dataclasses import replace

import pytest
from amaranth import Cat, Elaboratable, Module, Mux, Signal, signed
from amaranth.back import rtlil
from gatewright import boards
from gatewright.boards.flow import FLOWS, flow_of, route
from gatewright.boards.flow import build as build_module
from gatewright.boards.flow.base import Limit
from gatewright.boards.flow.build import build
from gatewright.boards.flow.flash import flash
from gatewright.boards.flow.result import check_fit
from gatewright.boards.flow.route import clock_speeds, paths_within
from gatewright.boards.flow.synthesis import synthesize
from gatewright.compiler import tools
from gatewright.compiler.errors import DataError, FitError, TimingError, ToolError
from gatewright.hw import RegisterSlice
from gatewright.hw.control.delay import delay, duplicate
from gatewright.hw.target import ECP5, ICE40, MultiplierConfig

TARGETS = [flow.target for flow in FLOWS]
WIDTHS = {
    "s_axis_tdata": 8,
    "s_axis_tvalid": 1,
    "s_axis_tready": 1,
    "s_axis_tlast": 1,
    "m_axis_tdata": 8,
    "m_axis_tvalid": 1,
    "m_axis_tready": 1,
    "m_axis_tlast": 1,
}


class AddOne(Elaboratable):
    def __init__(self):
        self.ports = {name: Signal(width, name=name) for name, width in WIDTHS.items()}

    def elaborate(self, platform):
        m = Module()
        port = self.ports
        m.d.comb += port["s_axis_tready"].eq(~port["m_axis_tvalid"] | port["m_axis_tready"])
        with m.If(port["s_axis_tready"]):
            m.d.sync += [
                port["m_axis_tvalid"].eq(port["s_axis_tvalid"]),
                port["m_axis_tdata"].eq(port["s_axis_tdata"] + 1),
                port["m_axis_tlast"].eq(port["s_axis_tlast"]),
            ]
        return m


def interface(beats):
    """``interface.json`` of an input and an output of a byte a beat."""
    return json.dumps(
        {
            f"{way}puts": [{"name": name, "prefix": prefix, "beats": beats, "bits": 8, "lanes": 1}]
            for way, name, prefix in (("in", "x", "s_axis"), ("out", "y", "m_axis"))
        }
    )


@pytest.fixture
def directory(tmp_path):
    rtl = tmp_path / "out" / "rtl"
    rtl.mkdir(parents=True)
    design = AddOne()
    (rtl / "accelerator.il").write_text(
        rtlil.convert(design, name="accelerator", ports=list(design.ports.values()), emit_src=False)
    )
    (rtl / "interface.json").write_text(interface(16))
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("name", "mhz", "suffix"), [("icebreaker", 24, ".bin"), ("ulx3s-25f", 100, ".bit")]
)
def test_a_bitstream_is_built_and_then_kept(directory, name, mhz, suffix):
    stages = []
    result = build(directory, boards.get(name), mhz, progress=lambda *stage: stages.append(stage))
    written = json.loads((directory / "build.json").read_text())
    assert result.timing_met
    assert result.fmax_mhz >= result.clock_mhz == mhz
    assert result.link.link_hz == (25_000_000 if name.startswith("ulx3s") else 0)
    assert result.bitstream == f"build/{name}{suffix}"
    assert (directory / result.bitstream).stat().st_size > 10_000
    assert 0 < result.utilization["lut"].used < result.utilization["lut"].available
    assert written["fmax_mhz"] == result.fmax_mhz
    assert set(written["utilization"]) >= {"lut", "ff", "dsp", "bram"}
    assert set(written["tools"]) > {"yosys"}
    assert stages[0] == ("synthesis", None)
    assert not any("seed 2" in stage[0] for stage in stages)

    again = build(directory, boards.get(name), mhz)
    assert (again.seed, again.fmax_mhz) == (result.seed, result.fmax_mhz)
    assert again.wall_seconds < result.wall_seconds / 2


@pytest.mark.parametrize(("planned", "brams", "syntheses"), [(False, 30, 1), (True, 8, 2)])
def test_a_frame_is_not_buffered_without_block_ram(directory, planned, brams, syntheses):
    """By the plan's word; and where that is wrong, by the count."""
    board, stages = boards.get("icebreaker"), []
    board = replace(board, device=replace(board.device, bram=brams))
    (directory / "rtl" / "interface.json").write_text(interface(2048))
    (directory / "compile.json").write_text(
        json.dumps({"frame_buffer": planned, "latency_cycles": 24_000})
    )
    result = build(directory, board, 24, progress=lambda *stage: stages.append(stage))
    assert not result.link.buffered
    assert result.link_fps == round(result.link.frames_per_second(24_000), 3)
    assert stages.count(("synthesis", None)) == syntheses


def test_a_clock_out_of_reach_leaves_no_bitstream(directory):
    board = boards.get("icebreaker")
    built = build(directory, board, 24)
    with pytest.raises(TimingError, match=r"[0-9.]+ MHz was reached, 204.0 MHz is needed"):
        build(directory, board, 204)
    assert not (directory / built.bitstream).exists()
    written = json.loads((directory / "build.json").read_text())
    assert written["timing_met"] is False
    assert written["bitstream"] is None


@pytest.mark.parametrize(("slow", "met"), [(31.0, True), (24.9, False)])
def test_the_links_clock_is_held_against_itself(slow, met):
    clocks = [{"achieved": 180.5, "constraint": 200.0}, {"achieved": slow, "constraint": 25.0}]
    assert clock_speeds(clocks, 200.0, 25.0) == (180.5, met)


def test_one_clock_is_the_accelerators():
    clocks = [{"achieved": 31.0, "constraint": 24.0}, {"achieved": 29.0, "constraint": 24.0}]
    assert clock_speeds(clocks, 24.0, None) == (29.0, True)


def from_to(start, end):
    return {"from": start, "to": end, "path": []}


def test_the_paths_of_the_accelerators_clock_on_ice40_begin_and_end_with_its_name():
    # nextpnr-ice40 0.11, of the digits of the tutorial, whose slowest path lies in the link
    clock = "accelerator.accelerator.clk"
    clocks = {clock: {"achieved": 48.633399963378906, "constraint": 24.001535415649414}}
    paths = [
        from_to(f"posedge {clock}", f"posedge {clock}"),
        from_to("<async>", f"posedge {clock}"),
        from_to(f"posedge {clock}", "<async>"),
    ]
    assert paths_within(clocks, paths, 24.0, None) == paths[:1]


def test_the_paths_of_the_links_clock_are_not_the_accelerators():
    clocks = {
        "$glbnet$accelerator.accelerator.clk": {"achieved": 180.5, "constraint": 200.0},
        "$glbnet$clk$TRELLIS_IO_IN": {"achieved": 90.0, "constraint": 25.0},
    }
    paths = [
        from_to("posedge $glbnet$clk$TRELLIS_IO_IN", "posedge $glbnet$clk$TRELLIS_IO_IN"),
        from_to(
            "posedge $glbnet$accelerator.accelerator.clk",
            "posedge $glbnet$accelerator.accelerator.clk",
        ),
        from_to("posedge $glbnet$clk$TRELLIS_IO_IN", "posedge $glbnet$accelerator.accelerator.clk"),
    ]
    assert paths_within(clocks, paths, 200.0, 25.0) == paths[1:2]


def test_a_link_that_misses_its_own_clock_leaves_no_bitstream(directory, monkeypatch):
    monkeypatch.setattr(route, "clock_speeds", lambda *_: (150.0, False))
    with pytest.raises(TimingError, match=r"the link misses its own clock of 25 MHz"):
        build(directory, boards.get("ulx3s-25f"), 100, seeds=1)
    assert not list((directory / "build").glob("*.bit"))


def test_every_seed_that_was_asked_for_is_tried(directory):
    result = build(directory, boards.get("icebreaker"), 24, seeds=3, jobs=2)
    assert list(result.seeds) == [1, 2, 3]
    assert result.fmax_mhz == max(result.seeds.values())


@pytest.mark.parametrize(
    ("fails", "seeds", "tried"),
    [
        ([], 3, ["1 sa router1", "2 heap router1", "3 sa router1"]),
        ([tools.Stuck("nothing said")], 1, ["1 sa router1", "1001 heap router1"]),
        ([ToolError("no more Bels")], 1, ["1 sa router1", "1001 heap router1"]),
        ([tools.Stuck("")] * 2, 1, ["1 sa router1", "1001 heap router1", "1 heap router2"]),
    ],
    ids=["none", "stuck", "full", "stuck twice"],
)
def test_seeds_take_placers_in_turn_and_what_has_no_end_is_given_up(
    fails, seeds, tried, directory, monkeypatch
):
    used = []

    def run(tool, args, *files, **options):
        if "--router" in args:
            chosen = (args[args.index(flag) + 1] for flag in ("--seed", "--placer", "--router"))
            used.append(" ".join(chosen))
            assert options["patience"] > 0
            if len(used) <= len(fails):
                raise fails[len(used) - 1]
        return original(tool, args, *files, **options)

    original = tools.Tool.run
    monkeypatch.setattr(tools.Tool, "run", run)
    board = boards.get("icebreaker")
    two = replace(flow_of(board.device.target), placers=("sa", "heap"))
    monkeypatch.setattr(build_module, "flow_of", lambda target: two)
    result = build(directory, board, 24, seeds=seeds)
    assert used == tried
    assert result.timing_met


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_design_that_no_attempt_places_is_refused_with_what_to_do(seeds, directory, monkeypatch):
    def run(tool, args, *files, **options):
        if "--router" in args:
            raise tools.Stuck(f"{tool.name} has said nothing for {options['patience']:g} s.")
        return original(tool, args, *files, **options)

    original = tools.Tool.run
    monkeypatch.setattr(tools.Tool, "run", run)
    with pytest.raises(FitError, match=r"too full for icebreaker.*--goal area.*nothing for 1800 s"):
        build(directory, boards.get("icebreaker"), 24, seeds=seeds)
    assert not list((directory / "build").glob("*.bin"))


def test_resources_are_counted(directory):
    il = directory / "rtl" / "accelerator.il"
    for target in TARGETS:
        counts = synthesize([il], flow_of(target).synthesis, directory / target.name, "accelerator")
        assert counts["ff"] == 10
        assert 8 <= counts["lut"] <= 24
        assert counts["dsp"] == counts["bram"] == 0


class Delayed(Elaboratable):
    """``value``, which synthesis has to find constant, some cycles late."""

    def __init__(self, value):
        self.i, self.o = Signal(8), Signal(8)
        self.value = value

    def elaborate(self, platform):
        m = Module()
        chosen = Signal(8)
        with m.Switch(self.i):
            for case in range(4):
                with m.Case(case):
                    m.d.comb += chosen.eq(self.value)
            with m.Default():
                m.d.comb += chosen.eq(self.value)
        m.d.comb += self.o.eq(delay(m, chosen, 3))
        return m


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("value", [0, 0x5A, 0xFF])
def test_a_delayed_constant_is_a_constant(target, value, tmp_path):
    part = Delayed(value)
    il = tmp_path / "top.il"
    il.write_text(rtlil.convert(part, name="top", ports=[part.i, part.o], emit_src=False))
    counts = synthesize([il], flow_of(target).synthesis, tmp_path / "out", "top")
    assert counts["ff"] == counts["lut"] == 0


@pytest.mark.parametrize("target", TARGETS)
def test_copies_of_a_register_stay_apart(target, tmp_path):
    m, i, o = Module(), Signal(8), Signal(24)
    m.d.comb += o.eq(Cat(duplicate(m, i) for _ in range(3)))
    il = tmp_path / "design.il"
    il.write_text(rtlil.convert(m, name="top", ports=[i, o], emit_src=False))
    assert synthesize([il], flow_of(target).synthesis, tmp_path / "netlist", "top")["ff"] == 24


@pytest.mark.parametrize(("registers", "resets"), [(9, 0), (10, 1)])
def test_a_reset_of_few_registers_is_logic_on_ecp5(registers, resets, tmp_path):
    # the eight registers of a tile have one reset
    m, clear, i = Module(), Signal(), Signal(registers)
    o = Signal(registers, reset_less=True)
    m.d.sync += o.eq(Mux(clear, 0, i))
    il = tmp_path / "design.il"
    il.write_text(rtlil.convert(m, name="top", ports=[clear, i, o], emit_src=False))
    counts = synthesize([il], flow_of(ECP5).synthesis, tmp_path / "netlist", "top")
    assert counts["ff"] == registers
    netlist = json.loads((tmp_path / "netlist" / "netlist.json").read_text())
    nets = {
        cell["connections"].get("LSR", ["0"])[0]
        for cell in netlist["modules"]["top"]["cells"].values()
        if cell["type"] == "TRELLIS_FF"
    }
    assert len(nets - {"0", "1", "x"}) == resets


def test_ports_with_elements_are_no_bits_of_each_other(tmp_path):
    # `x[1]` beside a bit 1 of `x`: yosys made one of both, and failed
    part, il = RegisterSlice(2, signed(8), ECP5), tmp_path / "top.il"
    il.write_text(rtlil.convert(part, name="top", emit_src=False))
    assert "\\i__payload[1]" in il.read_text()
    assert synthesize([il], flow_of(ECP5).synthesis, tmp_path / "out", "top")["ff"] > 2 * 8 * 2


def test_a_design_too_large_says_what_is_short():
    counts = {"lut": 9000, "ff": 10, "dsp": 9, "bram": 0}
    with pytest.raises(FitError, match="needs 9,000 LUT of 5,280, 9 DSP of 8"):
        check_fit(counts, boards.get("icebreaker"))


def test_a_folder_without_an_accelerator_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no rtl/accelerator.il: run `gatewright compile`"):
        build(tmp_path, boards.get("icebreaker"), 24)


@pytest.mark.parametrize("shared", ["name", "prefix"])
def test_two_ports_of_one_name_are_refused(directory, shared):
    file = directory / "rtl" / "interface.json"
    content = json.loads(file.read_text())
    twin = {"name": "other", "prefix": "s_axis_other", "beats": 16, "bits": 8}
    twin[shared] = content["inputs"][0][shared]
    content["inputs"].append(twin)
    file.write_text(json.dumps(content))
    with pytest.raises(DataError, match=f"inputs: {twin[shared]}: a name or a prefix of more"):
        build(directory, boards.get("icebreaker"), 24)


def test_a_missing_tool_says_how_to_get_it(directory, monkeypatch):
    monkeypatch.setattr(tools, "_native", lambda recipe: (None, "not installed"))
    monkeypatch.setattr(tools, "_wheel", lambda name, recipe: None)
    with pytest.raises(ToolError, match=r"yosys .* is not installed. To get it: pip"):
        build(directory, boards.get("icebreaker"), 24)


def test_flashing_needs_a_bitstream(tmp_path):
    with pytest.raises(ToolError, match=r"no bitstream at .*: run `gatewright build` first"):
        flash(boards.get("icebreaker"), tmp_path / "none.bin", tmp_path / "log")


def test_a_documented_limit_below_the_clock_leaves_no_bitstream(directory, monkeypatch):
    """Whatever nextpnr reports: it does not know the limits of the data sheets."""
    board = boards.get("icebreaker")
    flow = replace(
        flow_of(board.device.target),
        limits=lambda cells: [Limit(20.0, "a block") for _ in cells],
    )
    monkeypatch.setattr(build_module, "flow_of", lambda target: flow)
    with pytest.raises(TimingError, match=r"allows 20.0 MHz \(a block; [0-9.]+ MHz was routed\)"):
        build(directory, board, 24)
    written = json.loads((directory / "build.json").read_text())
    assert written["fmax_mhz"] == 20.0
    assert written["seeds"]["1"] == written["routed_mhz"] > 24
    assert written["bitstream"] is None


@pytest.mark.parametrize(("target", "limits"), [(ECP5, {381}), (ICE40, {50})])
def test_the_multipliers_of_a_netlist_limit_its_clock(target, limits, tmp_path):
    part, il = target.dsp(MultiplierConfig(signed(8), signed(8))), tmp_path / "top.il"
    il.write_text(rtlil.convert(part, name="top", emit_src=False))
    flow = flow_of(target)
    synthesize([il], flow.synthesis, tmp_path / "out", "top")
    cells = build_module._cells(tmp_path / "out" / "netlist.json")
    assert {limit.mhz for limit in flow.limits(cells)} == limits


@pytest.mark.parametrize("resource", ["lut", "ff", "dsp", "bram"])
def test_a_netlist_too_large_in_any_resource_does_not_fit(resource):
    counts = {"lut": 1, "ff": 1, "dsp": 1, "bram": 1} | {resource: 10**6}
    with pytest.raises(FitError, match=f"1,000,000 {resource.upper()} of"):
        check_fit(counts, boards.get("ulx3s-25f"))

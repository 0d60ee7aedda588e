"""A chip family is one object: a family that only these tests know takes the whole way."""

import ast
import importlib
import pickle
import pkgutil
from dataclasses import replace
from pathlib import Path

import gatewright
import pytest
from amaranth import Module, signed, unsigned
from gatewright import boards
from gatewright.boards.flow import FLOWS, flow_of
from gatewright.compiler import tools
from gatewright.compiler.errors import PlanError
from gatewright.compiler.plan import Goal, make_dataflow
from gatewright.hw import target as family_files
from gatewright.hw.control.delay import delay
from gatewright.hw.target import ECP5, GENERIC, Device, MemoryShape, Target
from gatewright.hw.target.dsp import Multiplier
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from ..hw.bench import STALLS
from .networks import Builder, measure


class Multiplier12x9(Multiplier):
    """One product of up to 12 x 9 bits, two cycles later."""

    latency = 2
    port = 12

    @classmethod
    def products(cls, x, w):
        return int(min(x.width, w.width) <= 9 and max(x.width, w.width) <= 12)

    def elaborate(self, platform):
        m = Module()
        (x,), (w,), (p,) = self.x, self.w, self.p
        m.d.comb += p.eq(delay(m, delay(m, x, 1) * delay(m, w, 1), 1))
        return m


#: other memories, another multiplier, no memory in LUTs, few registers
MADE_UP = Target(
    name="made up",
    dsp=Multiplier12x9,
    memory_shapes=(MemoryShape(1024, 20), MemoryShape(2048, 10), MemoryShape(16384, 1)),
    block_ram_register=False,
    lut_ram=None,
    carry_luts=1,
    gated_adders=False,
    lone_register_cells=0.25,
    logic_unit="logic elements",
    logic_share=0.7,
    soft_logic_share=0.5,
    register_share=0.9,
    table_bits=64,
    logic_table_bits=256,
)
CHIP = Device("MU-8", MADE_UP, lut=8000, ff=8000, dsp=12, bram=40)


def network(**more):
    """A residual block with padding, a depthwise layer, a table, pools and a dense layer."""
    builder = Builder(6, 6, 2, seed=5, **more)
    x = builder.conv(builder.input, 4, (3, 3), pads=(1, 1, 1, 1))
    y = builder.conv(x, 4, (3, 3), pads=(1, 1, 1, 1), groups=4)
    x = builder.add(x, builder.conv(y, 4, (1, 1)))
    x = builder.unary(builder.max_pool(x))
    builder.dense(builder.average_pool(x, (3, 3)), 3)
    return builder


def families():
    """The targets that the files of ``hw/target`` hold, each of one family."""
    files = (
        importlib.import_module(f"{family_files.__name__}.{found.name}")
        for found in pkgutil.iter_modules(family_files.__path__)
    )
    named = {value.name: value for file in files for value in vars(file).values()
             if isinstance(value, Target) and value is not GENERIC}  # fmt: skip
    return tuple(named.values())


BALANCED = Goal()


def planned(graph, device=CHIP, goal=BALANCED):
    return make_dataflow(graph, device, "a board", goal)


@pytest.mark.parametrize("kind", ["balanced", "fps", "area", "latency"])
def test_a_plan_keeps_the_budget_of_the_family(kind):
    found = planned(network().graph(), goal=Goal(kind))
    need = found.resources
    assert 0 < need.dsp <= CHIP.dsp
    assert 0 < need.bram <= CHIP.bram
    assert need.lut + 0.25 * need.ff <= MADE_UP.logic_share * CHIP.lut
    assert need.ff <= MADE_UP.register_share * CHIP.ff


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("kind", ["balanced", "area"])
def test_the_rtl_of_the_family_equals_golden_at_the_planned_interval(kind, stall):
    builder = network()
    graph, frames = builder.graph(), builder.frames(3)
    found = planned(graph, goal=Goal(kind))
    seen = measure(found, frames, stall=stall)
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])
    if not stall:
        assert seen.intervals[-1] == found.interval


def test_memories_have_the_shapes_of_the_family():
    assert MADE_UP.widest_memory == 20
    assert MADE_UP.block_ram_bits == 20480
    assert MADE_UP.block_rams(1024, 40) == 2
    assert MADE_UP.block_rams(2048, 10) == 1
    graph = network().graph()
    ours, ecp5 = (planned(graph, replace(CHIP, target=t)).resources for t in (MADE_UP, ECP5))
    assert ours.bram > ecp5.bram, "without memory in LUTs the queues are block RAMs"


def test_products_follow_from_both_widths():
    products = MADE_UP.dsp.products
    assert [products(signed(8), signed(n)) for n in (8, 9, 12, 13)] == [1, 1, 1, 0]
    assert products(unsigned(10), signed(10)) == 0
    assert CHIP.multipliers == 12


def test_a_plan_that_does_not_fit_names_the_familys_logic():
    with pytest.raises(gatewright.GatewrightError, match="logic elements"):
        make_dataflow(network().graph(), replace(CHIP, lut=1500), "a board", Goal())


def test_a_family_without_a_flow_is_an_error():
    with pytest.raises(PlanError, match="no flow to a bitstream for made up; families: ecp5"):
        flow_of(MADE_UP)
    with pytest.raises(PlanError):
        flow_of(GENERIC)


@pytest.mark.parametrize("target", families(), ids=lambda target: target.name)
def test_every_family_has_all_its_pieces(target):
    flows = [flow for flow in FLOWS if flow.target == target]
    assert len(flows) == 1, (
        f"boards/flow/__init__.py: FLOWS has {len(flows)} flows of {target.name}"
    )
    (flow,) = flows
    for step in ("place", "pack"):
        program = getattr(flow, step)
        assert program in tools.names(), f"{step}: compiler/tools.py does not find {program}"
    suffixes = [each.bitstream_suffix for each in FLOWS]
    assert suffixes.count(flow.bitstream_suffix) == 1, (
        f"bitstream_suffix {flow.bitstream_suffix} is another family's too"
    )
    for model in (*target.simulation_models, *flow.cell_models.files):
        assert model.is_file(), f"simulation_models or cell_models: no file {model}"
    chips = [board.device for board in boards.all_boards() if board.device.target == target]
    assert chips, f"boards/__init__.py: no board has a chip of {target.name}"
    assert {"lut", "ff", "dsp", "bram"} == {
        kind for counted in flow.synthesis.cells.values() for kind in counted
    }, "the cells of its synthesis do not say what counts as which resource"
    names = [each.target.name for each in FLOWS]
    assert names.count(target.name) == 1, f"the name {target.name} is another family's too"


def test_a_target_is_the_same_in_another_process():
    for target in (*families(), GENERIC, MADE_UP):
        copy = pickle.loads(pickle.dumps(target))
        assert copy == target
        assert hash(copy) == hash(target)
    assert replace(ECP5, carry_luts=3) != ECP5


SHALLOW_FIRST = (MemoryShape(1024, 8), MemoryShape(512, 16))


@pytest.mark.parametrize(
    ("field", "value", "accepted"),
    [
        ("name", "", "it must be given"),
        ("dsp", None, "it must be given"),
        ("memory_shapes", (), "it must be given"),
        ("memory_shapes", SHALLOW_FIRST, "accepted: the widest first"),
        ("carry_luts", -1, "it must be 0 or more"),
        ("lone_register_cells", 55.0, "it must be 0 to 1"),
        ("logic_share", 80.0, "it must be 0.1 to 1"),
        ("soft_logic_share", 0.8, "it must be 0.1 to 0.7"),
        ("register_share", 0.0, "it must be 0.1 to 1"),
        ("table_bits", 0, "it must be given"),
        ("logic_table_bits", -1, "it must be 0 or more"),
    ],
)
def test_a_field_out_of_range_is_named(field, value, accepted):
    with pytest.raises(ValueError, match=f"{field}.*{accepted}"):
        replace(MADE_UP, **{field: value})


def test_no_familys_name_stands_outside_its_own_files():
    """Families are objects; a string that names one is a comparison in the making."""
    root = Path(gatewright.__file__).parent
    names = {target.name for target in families()}
    found = []
    for folder in ("hw", "compiler", "boards", "sim", "benchmarks", "examples", "docs", "."):
        for path in (root / folder).glob("*.py" if folder == "." else "**/*.py"):
            place = path.relative_to(root)
            if place.parts[:2] in (("hw", "target"), ("boards", "flow")):
                continue
            tree = ast.parse(path.read_text())
            found += [
                f"{place}:{node.lineno}"
                for node in ast.walk(tree)
                if isinstance(node, ast.Constant) and node.value in names
            ]
    assert not found

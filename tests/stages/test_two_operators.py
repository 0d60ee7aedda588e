"""A stage that runs two operators on one piece of hardware, from the plan file to the report."""

import json

import numpy as np
import onnx
import pytest
from gatewright import boards
from gatewright.compiler import ir, passes
from gatewright.compiler.driver import compile_model, layers, open_compiled
from gatewright.compiler.errors import PlanError
from gatewright.compiler.frontend import write_qdq
from gatewright.compiler.frontend.importer import read_graph
from gatewright.compiler.passes.fuse_functions import fuse_functions
from gatewright.compiler.plan import Dataflow, Plan, StagePlan, latency
from gatewright.compiler.plan.fifo import with_queues
from gatewright.compiler.quantize import quantize
from gatewright.compiler.report.html import write_report
from gatewright.compiler.report.tables import compile as compile_tables
from gatewright.compiler.stages import kind_of, registered
from gatewright.sim import golden
from gatewright.sim.simulate import simulate
from numpy.testing import assert_array_equal
from onnx import TensorProto, helper, numpy_helper

from ..hw.bench import STALLS
from ..plan.networks import GENERIC_DEVICE, Builder, measure
from .in_turn import InTurn

BOARD = boards.get("ulx3s-85f")


@pytest.fixture(autouse=True)
def _known():
    with registered(InTurn()):
        yield


# The network alone.


def branches(pe, queues=True, height=4):
    """Two functions in turn beside their input, under a plan with a stage for both."""
    b = Builder(height, 3, 5, seed=3)
    x = b.conv(b.input, 5)
    first = b.unary(x, ir.Identity())
    second = b.unary(first, ir.functions.Selu())
    b.add(second, x)
    graph = b.graph()
    conv, *_, add = graph
    stages = (
        StagePlan("conv", kind_of((conv,)).name, (x,), 5, 5),
        StagePlan("both", "in_turn", (first, second), pe=pe),
        StagePlan("add", kind_of((add,)).name, (add.output,), pe=5),
    )
    network = Dataflow(graph, Plan("test", stages, {}, {"x": 5}), GENERIC_DEVICE)
    return b, with_queues(network) if queues else network


@pytest.mark.parametrize("stall", STALLS)
@pytest.mark.parametrize("pe", [1, 2, 5])
def test_equals_golden_in_the_interval_of_its_formula(pe, stall):
    b, network = branches(pe)
    frames = b.frames(4)
    seen = measure(network, frames, stall=stall)
    graph = network.graph
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])
    beats = 12 * -(-5 // pe)
    assert network.interval == network.designs["both"].cycles() == 2 * (beats + 1)
    if not stall:
        assert seen.intervals[1:] == [network.interval] * 2
    if not stall and 5 % pe == 0:  # the schedule leaves out width converters after a stage
        assert latency(network) == pytest.approx(seen.latency, rel=0.05)


def test_its_queue_holds_the_frame_that_it_waits_for():
    _, network = branches(1)
    assert network.plan.queues["add", 1] >= 12


def test_without_that_queue_the_network_stands_still():
    b, network = branches(5, queues=False, height=12)
    with pytest.raises(AssertionError, match="no beat moved"):
        measure(network, b.frames(2))


def test_a_value_that_others_take_may_not_stay_inside():
    b = Builder(2, 2, 3)
    first = b.unary(b.input)
    second = b.unary(first)
    b.add(second, first)
    graph = b.graph()
    stages = (
        StagePlan("both", "in_turn", (first, second)),
        StagePlan("add", "elementwise", (graph.ops[-1].output,)),
    )
    with pytest.raises(PlanError, match=f"stage add takes {first}, which stage both uses only"):
        Dataflow(graph, Plan("test", stages, {}), GENERIC_DEVICE)


# From the model's file to the report.


def model(path, images):
    """A convolution, two functions, the sum of both ends, and a dense layer; in integers, for the
    functions of a float network would become one.
    """
    rng = np.random.default_rng(5)
    constants = {"w": rng.normal(size=(4, 3, 3, 3)), "d": rng.normal(size=(5, 4))}
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["map"], "conv", pads=[1, 1, 1, 1]),
        helper.make_node("Tanh", ["map"], ["wide"], "tanh"),
        helper.make_node("Sigmoid", ["wide"], ["narrow"], "sigmoid"),
        helper.make_node("Add", ["narrow", "map"], ["sum"], "add"),
        helper.make_node("GlobalAveragePool", ["sum"], ["mean"], "mean"),
        helper.make_node("Flatten", ["mean"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "d"], ["scores"], "dense", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 6, 6])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 5])],
        [numpy_helper.from_array(v.astype(np.float32), k) for k, v in constants.items()],
    )
    onnx.save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)]), path
    )
    apart = [each for each in passes.ON_READ if each is not fuse_functions]
    write_qdq(quantize(passes.run(read_graph(path), apart), images), path)


def merged(table):
    """The plan with a stage for both functions, and a queue for what waits for them."""
    stages = table["stages"]
    first, second = (stage for stage in stages if stage["kind"] == "lookup")
    first |= {"name": "both", "kind": "in_turn", "ops": [*first["ops"], *second["ops"]]}
    stages.remove(second)
    (add,) = (stage["name"] for stage in stages if stage["kind"] == "elementwise")
    table["queues"] = [{"stage": add, "input": n, "pixels": 100} for n in range(2)]
    return table


@pytest.fixture
def compiled(tmp_path):
    path, images = tmp_path / "two.onnx", np.random.default_rng(1).normal(size=(20, 3, 6, 6))
    model(path, images.astype(np.float32))
    compile_model(path, tmp_path / "apart", BOARD.device, BOARD.name)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(merged(json.loads((tmp_path / "apart" / "plan.json").read_text()))))
    out = tmp_path / "together"
    return compile_model(path, out, BOARD.device, BOARD.name, plan=plan)


def test_from_the_plan_file_to_the_report(compiled):
    images = np.random.default_rng(2).normal(size=(3, 3, 6, 6)).astype(np.float32)
    for stall in STALLS:
        done = simulate(compiled, images, stall=stall)
        assert done.passed, done.report
        if not stall:
            assert done.summary["interval_cycles"] == compiled.network.interval
    rows = layers(compiled.network)
    assert [row["name"] for row in rows] == ["conv", "tanh", "sigmoid", "add", "mean", "dense"]
    first, second = (row for row in rows if row["stage"] == "both")
    design = compiled.network.designs["both"]
    assert first["kind"] == second["kind"] == "in_turn"
    assert first["cycles"] + second["cycles"] == design.cycles()
    assert (first["memory_bits"], second["memory_bits"]) == (design.memory_bits, None)
    found = json.loads((compiled.directory / "compile.json").read_text())
    assert found["layers"] == rows
    page = write_report(compiled.directory).read_text()
    assert all(row["name"] in page for row in rows)
    assert compile_tables(found)
    again = open_compiled(compiled.directory, lambda name: boards.get(name).device)
    assert again.plan == compiled.plan

"""Any graph: the golden model equals an independent evaluation, and the hardware equals both.

``make fuzz`` draws graphs for hours.
"""

from dataclasses import replace
from math import ceil
from pathlib import Path
from tempfile import TemporaryDirectory

from gatewright.compiler import ir
from gatewright.compiler.frontend import load, write_qdq
from gatewright.compiler.frontend.element_types import OPSETS, array_of, whole_bytes
from gatewright.compiler.frontend.writer import tensor_names
from gatewright.compiler.plan import latency
from gatewright.sim import golden
from numpy.testing import assert_array_equal

from ..plan.networks import measure
from .exact import Exact
from .graphs import examples
from .running import generated, saved

FRAMES = 3


def written(graph, path):
    """The graph as a file: inputs of a width that ONNX has no type for are real numbers, outputs
    are of whole bytes.
    """
    inputs = [
        port if dtype.bits in OPSETS else replace(port, dtype="float32")
        for port in graph.inputs
        for dtype in [graph.quant(port.value).dtype]
    ]
    outputs = [
        replace(port, dtype=whole_bytes(graph.quant(port.value).dtype).name)
        for port in graph.outputs
    ]
    graph = replace(graph, inputs=tuple(inputs), outputs=tuple(outputs))
    write_qdq(graph, path)
    return graph


def compare_with_exact(example):
    """Value by value, each from the golden ones before it; and the file, read again, computes the
    same outputs.
    """
    graph = example.graph
    values = golden.run(graph, ir.feeds(graph, example.frames(FRAMES)))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        held = written(graph, path)
        again = load(path)
        names = tensor_names(held)
        known = {
            names[op.output]: values[op.output].transpose(0, 3, 1, 2) for op in graph if not op.view
        }
        feeds = given(held, values)
        outputs = Exact(path).run(feeds, known)
    read = golden.host_output(again, golden.run(again, golden.host_input(again, feeds)))
    for port in graph.outputs:
        assert_array_equal(outputs[port.name].astype(int), values[port.value].astype(int))
        assert_array_equal(read[port.name].astype(int), values[port.value].astype(int))


def given(graph, values):
    """What the file takes for each input: its integers, or the real numbers that they stand for."""
    return {
        port.name: graph.quant(port.value).dequantize(values[port.value]).astype(float)
        if port.dtype == "float32"
        else array_of(values[port.value], graph.quant(port.value).dtype)
        for port in graph.inputs
    }


@generated(examples(), few=60)
def test_golden_equals_an_independent_evaluation(example):
    with keeping(example, "golden"):
        compare_with_exact(example)


def keeping(example, name):
    frames = ir.feeds(example.graph, example.frames(FRAMES))
    return saved(name, lambda path: written(example.graph, path), **frames)


def check_rtl(example):
    """The hardware equals golden and, without stalls, takes the planned cycles a frame."""
    network = example.network()
    count = FRAMES
    if not example.stall:
        count += min(12, ceil(2 * latency(network) / network.interval))
    frames = example.frames(count)
    seen = measure(network, frames, stall=example.stall, seed=example.seed)
    wanted = golden.run(example.graph, frames)
    for port in example.graph.outputs:
        assert_array_equal(seen.outputs[port.name], wanted[port.value], str(network.plan))
    if not example.stall:
        assert seen.intervals[-1] == network.interval, str(network.plan)


@generated(examples(), few=40)
def test_hardware_equals_golden_in_the_planned_cycles(example):
    with keeping(example, "hardware"):
        check_rtl(example)

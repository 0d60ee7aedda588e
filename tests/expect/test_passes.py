"""Every pass alone, and the whole pipeline, by the printed graph.

A folder holds the cases of one pass. ``pytest tests/expect --refresh`` writes what is expected
anew; read the difference before you commit it.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from gatewright.compiler import ir, passes
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from gatewright.compiler.frontend.importer import read_graph
from gatewright.compiler.quantize import quantize
from gatewright.compiler.quantize.float_model import apply
from numpy.testing import assert_allclose

from ..evaluation import leave
from .cases import check, network

FOLDER = Path(__file__).parent
PASSES = {each.__name__: each for each in (*passes.ON_READ, *passes.BEFORE_PLAN)}
CASES = [file for name in PASSES for file in sorted((FOLDER / name).glob("*.txt"))]


def name(file):
    return f"{file.parent.name}-{file.stem}"


@pytest.fixture
def refresh(request):
    return request.config.getoption("--refresh")


@pytest.mark.parametrize("file", CASES, ids=name)
def test_what_a_pass_makes_of_a_graph(file, refresh, tmp_path):
    rewrite = PASSES[file.parent.name]
    before = read_graph(network(file, tmp_path))
    parts = {"before": ir.to_text(before)}
    try:
        after = passes.run(before, [rewrite])
    except ModelError as error:
        parts["refused"] = f"{error}\n"
    else:
        parts["after"] = ir.to_text(after) if ir.to_text(after) != parts["before"] else "the same\n"
        computes_the_same(before, after)
    check(file, parts, refresh)


def computes_the_same(before, after):
    """On random samples, up to the rounding of float32; the class of scores is their argmax."""
    (port,) = before.inputs
    x = np.random.default_rng(5).normal(size=(4, *port.shape)).astype(np.float32)
    wanted, found = (outputs(graph, x) for graph in (before, after))
    if before.outputs[0].dtype != after.outputs[0].dtype:
        wanted = wanted.argmax(axis=-1)[:, None]
    assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def outputs(graph, x):
    """What leaves a graph, whose values may be integers in part; all are held as real numbers."""
    (port,), (last,) = graph.inputs, graph.outputs
    shape = graph.shape(port.value).array
    entering = x.reshape(len(x), -1)[:, port.order].reshape(len(x), *shape)
    reals = {port.value: rounded(graph, port.value, entering)}
    for op in graph:
        result = apply(real(op), *(reals[name] for name in op.inputs))
        result = result.reshape(len(x), *graph.shape(op.output).array)
        reals[op.output] = rounded(graph, op.output, result)
    quant = graph.values[last.value].quant
    return leave(last, {last.value: (quant.quantize if quant else np.asarray)(reals[last.value])})


def rounded(graph, value, reals):
    quant = graph.values[value].quant
    return quant.dequantize(quant.quantize(reals)) if quant else reals


def real(op):
    """The operator with float weights."""
    if not isinstance(op, ir.Conv) or op.weight_scale is None:
        return op
    weight = op.weight * op.weight_scale[:, None, None, None]
    return replace(op, weight=weight, weight_scale=None)


@pytest.mark.parametrize("rewrite", PASSES)
def test_every_pass_has_cases_and_one_that_it_changes_or_refuses(rewrite):
    expected = [file.read_text() for file in CASES if file.parent.name == rewrite]
    assert any("the same\n" not in text for text in expected), f"tests/expect/{rewrite} is empty"


@pytest.mark.parametrize("file", sorted((FOLDER / "pipeline").glob("*.txt")), ids=name)
def test_the_pipeline_from_the_reader_to_the_planner(file, refresh, tmp_path):
    path = network(file, tmp_path)
    graph = read_graph(path)
    parts = {"read": ir.to_text(graph)}
    for each in passes.ON_READ:
        graph = passes.run(graph, [each])
        parts[each.__name__] = ir.to_text(graph)
    assert ir.to_text(load(path)) == parts[each.__name__]
    (port,) = graph.inputs
    x = np.random.default_rng(5).integers(-8, 9, (8, *port.shape)) / np.float32(8)
    graph = quantize(graph, x.astype(np.float32), method="minmax")
    parts["quantize"] = ir.to_text(graph)
    parts["argmax_in_hardware"] = ir.to_text(passes.run(graph, passes.BEFORE_PLAN))
    check(file, {title: _unless_same(parts, title) for title in parts}, refresh)


def _unless_same(parts, title):
    """The text of a part, or that it is the same as the one before."""
    titles = list(parts)
    at = titles.index(title)
    return "the same\n" if at and parts[titles[at - 1]] == parts[title] else parts[title]

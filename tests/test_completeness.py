"""Every operator and every function has all its pieces; a test's name says which one is missing.

To add an operator or a function, declare it in ``compiler/ir`` and follow the failures here.
"""

from dataclasses import fields, replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.frontend import elementwise, load, write_qdq, writer
from gatewright.compiler.frontend.element_types import whole_bytes
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.ir.text import describe
from gatewright.compiler.ir.verify import output_shape
from gatewright.compiler.quantize import float_model
from gatewright.compiler.quantize.proofs.table import for_unary
from gatewright.compiler.stages import KINDS, kind_of, stage_ops
from gatewright.sim import golden
from hypothesis import HealthCheck, Phase, find, settings
from numpy.testing import assert_array_equal

from .fuzz.graphs import LAYERS, graphs
from .operators import functions, operators
from .plan.networks import Builder, fold, measure

OPERATORS, FUNCTIONS = operators(), functions()
DOCS = (Path(__file__).parents[1] / "docs" / "operators.md").read_text()
#: fields that the general rule prints
PRINTED = {f.name for f in (*fields(ir.Op), *fields(ir.Windowed), *fields(ir.Clampable))}

#: a network with an operator of the kind; elementwise operators need none
EXAMPLES = {
    ir.Conv: lambda b: b.conv(b.input, 5, (3, 2), pads=(1, 0, 1, 1)),
    ir.MaxPool: lambda b: b.max_pool(b.input),
    ir.AveragePool: lambda b: b.average_pool(b.input, (3, 2), (1, 2), pads=(1, 0, 0, 0)),
    ir.Pad: lambda b: b.pad(b.input, (1, 0, 2, 1), 0.4),
    ir.ops.MatMul: lambda b: product(b),
    ir.Concat: lambda b: b.concat(b.input, b.max_pool(b.input, (1, 1))),
    ir.Gather: lambda b: b.conv(b.gather(b.conv(b.input, 4), (3, 4, 5), np.arange(60)[::-1]), 4),
    ir.Delay: lambda b: looped(b),
    ir.FrameDelay: lambda b: kept(b),
    ir.Reshape: lambda b: b.dense(b.conv(b.input, 3), 4),
    ir.ArgMax: lambda b: b.argmax(b.conv(b.input, 3)),
}


def product(b):
    """Two products of [20, 4] and [4, 20], whose operands are the maps of convolutions."""
    left, right = b.conv(b.input, 8), b.conv(b.input, 8)
    return b.matmul(b.reshape(left, 40, 1), b.reshape(right, 8, 1), products=2)


def looped(b):
    """A state of twenty steps a frame that becomes a sum with its own convolution."""
    state = b.state(20, 2)
    rows = b.reshape(b.conv(b.input, 2), 20, 1)
    return b.close(state, b.add(rows, b.conv(state, 2)))


def kept(b):
    """A map that becomes its sum with a convolution of the input, frame after frame."""
    state = b.kept(4, 5, 2)
    return b.close(state, b.add(b.conv(b.input, 2), state))


def example(subject):
    """A small integer network with an operator, or a function; its frames."""
    builder = Builder(4, 5, 3, seed=3)
    if isinstance(subject, ir.Function):
        builder.unary(builder.input, subject)
    elif subject in EXAMPLES:
        EXAMPLES[subject](builder)
    else:
        assert issubclass(subject, ir.Elementwise), f"give {__file__} an example of {subject}"
        others = [builder.max_pool(builder.input, (1, 1)) for _ in range((subject.arity or 2) - 1)]
        builder.elementwise(subject, builder.input, *others)
    graph, frames = builder.graph(), builder.frames(3)
    (port,) = graph.outputs
    held = whole_bytes(graph.quant(port.value).dtype)
    return replace(graph, outputs=(replace(port, dtype=held.name),)), frames


def of(subject, graph):
    """The operator of a kind, or with a function, in its example."""
    return next(
        (
            op
            for op in reversed(graph.ops)
            if type(op) is subject or getattr(op, "function", None) == subject
        ),
        None,
    )


def name(subject):
    return subject.__name__ if isinstance(subject, type) else type(subject).__name__


def every(*subjects):
    return pytest.mark.parametrize("subject", [s for group in subjects for s in group], ids=name)


def has_rule(dispatcher, kind):
    return dispatcher.dispatch(kind) is not dispatcher.dispatch(object)


# What each is.


@every(OPERATORS)
def test_golden_rule(subject):
    assert has_rule(golden.step, subject), "sim/golden.py: step has no rule"
    graph, frames = example(subject)
    values = golden.run(graph, frames)
    assert values[graph.outputs[0].value].shape[1:] == graph.shape(graph.outputs[0].value).array


@every(FUNCTIONS)
def test_golden_rule_of_a_function(subject):
    assert has_rule(golden._exactly, type(subject)), "sim/golden.py: _exactly has no rule"
    points = [Fraction(n, 16) for n in (*range(-200, 200, 7), -32, -16, 0, 16)]
    exact = [float(golden._exactly(subject, x)) for x in points]
    with np.errstate(all="ignore"):
        estimate = subject(np.array(points, float))
    np.testing.assert_allclose(exact, estimate, rtol=1e-12, atol=1e-12)


@every(OPERATORS, FUNCTIONS)
def test_float_rule(subject):
    graph, frames = example(subject)
    op = of(subject, graph)
    if isinstance(op, ir.Elementwise):
        assert type(op).compute is not ir.Elementwise.compute, "compiler/ir/ops.py: no compute"
    assert has_rule(float_model.apply, type(op)), "compiler/quantize/float_model.py: no rule"
    values = golden.run(graph, frames)
    reals = [graph.quant(n).dequantize(values[n]) for n in op.inputs]
    if isinstance(op, ir.Conv):
        weight = op.weight * op.weight_scale[:, None, None, None]
        op = replace(op, weight=weight, weight_scale=None)
    found = float_model.apply(op, *reals).reshape(values[op.output].shape)
    steps = graph.quant(op.output).quantize(found).astype(int) - values[op.output]
    assert abs(steps).max() <= 1
    assert (steps != 0).mean() < 0.01


@every(FUNCTIONS)
def test_proof(subject):
    """The enclosure is that of the function, and the table that it proves is golden's."""
    kind = type(subject)
    assert kind.exact is not ir.Function.exact, "compiler/ir/functions.py: exact is missing"
    for x in (Fraction(n, 8) for n in (*range(-90, 90, 7), -16, -8, 0, 8)):
        for digits in (40, 300):
            low, high = subject.enclosure(x, digits)
            assert low <= finite(golden._exactly(subject, x)) <= high
            assert high - low <= Fraction(1, 10**digits)
    for dtype, scale in (
        (ir.Int(8, True), 0.04),
        (ir.Int(6, False), 0.3),
        (ir.Int(12, True), 0.01),
    ):
        graph, _ = example(subject)
        op = of(subject, graph)
        x = ir.Value("x", ir.Shape(1, 1, 1), ir.Quant(dtype, float(np.float32(scale)), 3))
        graph = graph.replace(graph.ops, [x, replace(graph.values[op.output], shape=x.shape)])
        raws = np.arange(dtype.low, dtype.high + 1)
        wanted = golden.step(op, graph, raws.reshape(-1, 1, 1, 1)).reshape(-1)
        assert_array_equal(for_unary(graph, op), wanted)


def finite(y):
    """A result of golden's rules, with what stands for an infinity, and for what is undefined."""
    if not isinstance(y, float):
        return y
    return ir.functions.INFINITE if y > 0 else -ir.functions.INFINITE


@every(FUNCTIONS)
def test_image(subject):
    """The bounds are those of the results, far out and over some turns of a circle."""
    x = np.array([-1e6, -1e3, -1.0, 0.0, 1.0, 1e3, 1e6, *np.linspace(-30, 30, 24001)])
    with np.errstate(all="ignore"):
        y = subject(x)
    y = y[~np.isnan(y)]
    if subject.image is None:
        assert np.abs(y).max() > 10, "compiler/ir/functions.py: image is missing"
    else:
        low, high = subject.image
        assert low <= y.min() <= low + 1e-5
        assert high - 1e-5 <= y.max() <= high


@every(FUNCTIONS)
def test_partial(subject):
    """Whether it is undefined for some numbers; an expression may be, by its parts."""
    x = np.linspace(-8, 8, 6001)
    with np.errstate(all="ignore"):
        undefined = np.isnan(subject(x)).any() or np.isnan(replaced(subject, 0.5)(x)).any()
    assert subject.partial == (undefined or isinstance(subject, ir.Expression))


def replaced(function, number):
    """The function with all its numbers replaced."""
    numbers = [f.name for f in fields(function) if isinstance(getattr(function, f.name), float)]
    return replace(function, **dict.fromkeys(numbers, number))


@every(FUNCTIONS)
def test_integral(subject):
    with np.errstate(all="ignore"):
        y = subject(np.linspace(-8, 8, 6001))
    y = y[~np.isnan(y)]
    assert subject.integral == (np.rint(y) == y).all(), "compiler/ir/functions.py: integral"


# The graph.


@every(OPERATORS)
def test_traits(subject):
    """Declared traits are true of the example."""
    graph, frames = example(subject)
    op, values = of(subject, graph), golden.run(graph, frames)
    assert subject.arity is None or len(op.inputs) == subject.arity
    assert op.outputs == (op.output,)
    adds_a_number = isinstance(op, ir.Pad | ir.Delay | ir.FrameDelay)
    if subject.selecting and not adds_a_number:
        assert set(values[op.output].flat) <= {v for n in op.inputs for v in values[n].flat}
    if subject.passes_clamp:
        inside = [np.clip(values[n], -40, 30) for n in op.inputs]
        assert_array_equal(
            golden.step(op, graph, *inside), np.clip(values[op.output], -40, 30), "passes_clamp"
        )


@every(OPERATORS)
def test_printed_form(subject):
    own = {f.name for f in fields(subject)} - PRINTED
    assert not own or has_rule(describe, subject), f"compiler/ir/text.py: nothing prints {own}"
    graph, _ = example(subject)
    op = of(subject, graph)
    assert all(f"%{value}" in describe(op) for value in op.inputs)


@every(FUNCTIONS)
def test_printed_form_of_a_function(subject):
    graph, _ = example(subject)
    assert str(subject) in ir.to_text(graph)


@every(OPERATORS)
def test_shape_rule(subject):
    assert has_rule(output_shape, subject), "compiler/ir/verify.py: output_shape has no rule"
    graph, _ = example(subject)
    ir.verify(graph, after="the example")


# The file.


@every(OPERATORS, FUNCTIONS)
def test_onnx_form(subject, tmp_path):
    """Valid in its opset, and ONNX Runtime computes what golden does."""
    kind = subject if isinstance(subject, type) else ir.Unary
    assert has_rule(writer._write, kind), "compiler/frontend/writer.py: _write has no rule"
    spelled = not isinstance(subject, type) and ir.expressions.spelled(subject)
    if not isinstance(subject, type) and subject != ir.Identity() and not spelled:
        tables = (*elementwise.FUNCTIONS.values(), *elementwise.BY_CONSTANT.values())
        assert type(subject) in tables, "compiler/frontend/elementwise.py: FUNCTIONS, BY_CONSTANT"
    elif issubclass(kind, ir.Elementwise) and kind is not ir.Unary:
        assert kind in elementwise.OPERATORS.values(), "compiler/frontend/elementwise.py: OPERATORS"
    graph, frames = example(subject)
    path = tmp_path / "model.onnx"
    write_qdq(graph, path)
    onnx.checker.check_model(str(path), full_check=True)
    x = frames.astype(graph.inputs[0].array_type)
    (seen,) = Runtime(path, optimize=False).run(x).values()
    (wanted,) = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x))).values()
    assert np.abs(seen.astype(int) - wanted.astype(int)).max() <= 1


@every(OPERATORS, FUNCTIONS)
def test_read_from_onnx(subject, tmp_path):
    """A written network is read as it was; an ArgMax as the host's, with the same results."""
    graph, frames = example(subject)
    write_qdq(graph, tmp_path / "model.onnx")
    again = load(tmp_path / "model.onnx")
    if subject is not ir.ArgMax:
        assert [describe(op) for op in again] == [describe(op) for op in graph]
    x = frames.astype(graph.inputs[0].array_type)
    ours, theirs = (
        golden.host_output(g, golden.run(g, golden.host_input(g, x)))["y"] for g in (graph, again)
    )
    assert_array_equal(ours, theirs)


# The hardware.


@every(OPERATORS)
def test_stage_kind(subject):
    found = [key for key, kind in KINDS.items() if kind.matches((object.__new__(subject),))]
    assert len(found) == (not subject.view), f"compiler/stages: {found} run it, exactly one must"


@every(OPERATORS, FUNCTIONS)
def test_hardware_with_proven_constants(subject):
    graph, frames = example(subject)
    seen = measure(fold(graph), frames, stall=0.3)
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])


# The rest.


@every(OPERATORS)
def test_row_in_the_docs(subject):
    row = f"\n| `{subject.__name__}` |"
    assert (row in DOCS) == (not subject.view), "run `python docs/generate.py`"


@every(FUNCTIONS)
def test_row_of_a_function_in_the_docs(subject):
    assert f"`Unary {name(subject)}" in DOCS, "run `python docs/generate.py`"


@every(OPERATORS)
def test_generated(subject):
    wanted = subject in LAYERS or issubclass(subject, ir.Elementwise)
    assert wanted, "tests/fuzz/graphs.py: LAYERS has no strategy"
    graph, _ = drawn(graphs(kind=subject), lambda found: of(subject, found[0]))
    assert of(subject, graph)


@every(FUNCTIONS)
def test_generated_function(subject):
    kind = type(subject)
    graph, _ = drawn(
        graphs(of=kind), lambda found: any(type(fn) is kind for fn in functions_in(found[0]))
    )
    assert kind in map(type, functions_in(graph))


def functions_in(graph):
    return [op.function for op in graph if isinstance(op, ir.Unary)]


@pytest.mark.parametrize("key", KINDS)
def test_every_kind_of_stage_is_generated(key):
    def runs_in_one(found):
        return any(kind_of((op,)).name == key for op in stage_ops(found[0]))

    assert runs_in_one(drawn(graphs(), runs_in_one))


def drawn(strategy, fitting):
    """The first example that fits; raises NoSuchExample."""
    few = settings(
        max_examples=400,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return find(strategy, fitting, settings=few)

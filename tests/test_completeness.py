"""Every operator and every function has all its pieces; a test's name says which one is missing.

To add an operator or a function, declare it in ``compiler/ir`` and follow the failures here.
"""

import sys
from dataclasses import fields, replace
from fractions import Fraction
from math import isnan, nan
from pathlib import Path

import numpy as np
import onnx
import pytest
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import elementwise, load, write_qdq, writer
from gatewright.compiler.frontend.element_types import whole_bytes
from gatewright.compiler.frontend.reference_runtime import Runtime
from gatewright.compiler.ir.intervals import Interval
from gatewright.compiler.ir.text import describe
from gatewright.compiler.ir.verify import output_shape
from gatewright.compiler.quantize import float_model
from gatewright.compiler.quantize.proofs.table import for_unary
from gatewright.compiler.stages import KINDS, kind_of, stage_ops
from gatewright.sim import golden
from hypothesis import HealthCheck, Phase, find, settings
from hypothesis.errors import NoSuchExample
from numpy.testing import assert_array_equal

from .fuzz.graphs import LAYERS, functions_of, graphs
from .operators import (
    FUNCTIONS,
    OPERATORS,
    PAIRS,
    VARIANTS,
    blamed,
    class_of,
    every,
    file_of,
    name,
)
from .plan.networks import (
    LFE5U_25F,
    Builder,
    design,
    fold,
    foldings,
    measure,
    stage_plan,
)

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
    """A small integer network with an operator, or a function; its frames. Two operands differ in
    values, scale and zero point; a result is clamped, where it can be, to an odd zero point.
    """
    builder = Builder(4, 5, 3, seed=3)
    if isinstance(subject, ir.Function):
        builder.unary(builder.input, subject)
    elif subject in EXAMPLES:
        EXAMPLES[subject](builder)
    else:
        assert issubclass(subject, ir.Elementwise), f"give {__file__} an example of {subject}"
        others = [builder.conv(builder.input, 3) for _ in range((subject.arity or 2) - 1)]
        builder.elementwise(subject, builder.input, *others)
    graph, frames = clamped(builder), builder.frames(3)
    (out,) = graph.outputs
    held = whole_bytes(graph.quant(out.value).dtype)
    return replace(graph, outputs=(replace(out, dtype=held.name),)), frames


def clamped(builder):
    """The network, whose result is limited to most of its range and has an odd zero point."""
    graph = builder.graph()
    op = graph.ops[-1]
    if not isinstance(op, ir.Clampable):
        return graph
    y = graph.values[op.output]
    low, high = (
        float(np.float32(y.quant.dequantize(np.percentile(builder.trial[op.output], share))))
        for share in (10, 75)
    )
    if low < high:
        op = replace(op, clamp=ir.Clamp(low, high))
    y = replace(y, quant=replace(y.quant, zero=y.quant.zero | 1))
    return graph.replace([*graph.ops[:-1], op], [y])


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


def has_rule(dispatcher, kind):
    return dispatcher.dispatch(kind) is not dispatcher.dispatch(object)


# What each is.


@every(OPERATORS, FUNCTIONS)
def test_public_and_described(subject):
    kind = class_of(subject)
    piece = f"{file_of(kind)}: {kind.__name__}"
    assert kind.__name__ in sys.modules[kind.__module__].__all__, f"{piece} is not in __all__"
    generated = f"{kind.__name__}("  # what dataclasses write
    assert not (kind.__doc__ or generated).startswith(generated), f"{piece} has no docstring"


@every(OPERATORS)
def test_golden_rule(subject):
    assert has_rule(golden.step, subject), "sim/golden.py: step has no rule"
    graph, frames = example(subject)
    values = golden.run(graph, frames)
    assert values[graph.outputs[0].value].shape[1:] == graph.shape(graph.outputs[0].value).array


@every(FUNCTIONS, VARIANTS)
def test_golden_rule_of_a_function(subject):
    assert has_rule(golden._exactly, type(subject)), "sim/golden.py: _exactly has no rule"
    points = [Fraction(n, 16) for n in (*range(-200, 200, 7), -32, -24, -16, 0, 6, 16, 48)]
    exact = [float(golden._exactly(subject, x)) for x in points]
    with np.errstate(all="ignore"):
        estimate = subject(np.array(points, float))
    np.testing.assert_allclose(
        exact, estimate, 1e-12, 1e-12, err_msg="sim/golden.py, compiler/ir/functions.py: __call__"
    )


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


@every(FUNCTIONS, VARIANTS)
def test_enclosure(subject):
    """It holds golden's result, is as narrow as asked for, and a point where that is rational."""
    wrong = "compiler/ir/functions.py: exact"
    for x in (Fraction(n, 8) for n in (*range(-90, 90, 7), -16, -12, -8, 0, 3, 8, 24)):
        y = finite(golden._exactly(subject, x))
        for digits in (40, 300):
            low, high = subject.enclosure(x, digits)
            assert low <= y <= high, wrong
            assert high - low <= Fraction(1, 10**digits), wrong
            assert low == high or y.denominator >> DIGITS, f"{wrong}, of a rational result"


#: bits of the denominator of a result that is not rational, of which golden computes digits
DIGITS = 100


@every(FUNCTIONS, VARIANTS)
def test_undefined(subject):
    """What is computed of an undefined number, in both arithmetics."""
    with np.errstate(all="ignore"):
        (y,) = subject(np.array([nan]))
    found = subject.exact(Interval(nan, nan, 64))
    same = found.undefined if isnan(y) else found.low == found.high == y
    assert same, "compiler/ir/functions.py: exact of what is undefined"


@every(FUNCTIONS, VARIANTS)
def test_table(subject):
    """The table that is proven is golden's."""
    for dtype, scale in TABLES if subject in FUNCTIONS else TABLES[:1]:
        graph, _ = example(subject)
        op = of(subject, graph)
        x = ir.Value("x", ir.Shape(1, 1, 1), ir.Quant(dtype, float(np.float32(scale)), 3))
        graph = graph.replace(graph.ops, [x, replace(graph.values[op.output], shape=x.shape)])
        raws = np.arange(dtype.low, dtype.high + 1)
        wanted = golden.step(op, graph, raws.reshape(-1, 1, 1, 1)).reshape(-1)
        assert_array_equal(for_unary(graph, op), wanted, "compiler/quantize/proofs/table.py")


#: types and scales of the input
TABLES = [(ir.Int(6, True), 0.1875), (ir.Int(8, False), 0.07), (ir.Int(12, True), 0.01)]


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
        wrong = f"compiler/ir/functions.py: image, of results from {y.min()} to {y.max()}"
        assert low <= y.min() <= low + 1e-5, wrong
        assert high - 1e-5 <= y.max() <= high, wrong


@every(FUNCTIONS)
def test_partial(subject):
    """Whether it is undefined for some numbers; an expression may be, by its parts."""
    x = np.linspace(-8, 8, 6001)
    with np.errstate(all="ignore"):
        undefined = np.isnan(subject(x)).any() or np.isnan(replaced(subject, 0.5)(x)).any()
    undefined |= isinstance(subject, ir.Expression)
    assert subject.partial == undefined, "compiler/ir/functions.py: partial"


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


@every(FUNCTIONS)
def test_homogeneous(subject):
    x = np.linspace(-8, 8, 6001)
    with np.errstate(all="ignore"):
        found = np.array_equal(subject(4 * x), 4 * subject(x))
    assert subject.homogeneous == found, "compiler/ir/functions.py: homogeneous"


@every(FUNCTIONS, VARIANTS)
def test_jumps(subject):
    assert subject.jumps == jumps(subject), "compiler/ir/functions.py: jumps"
    assert ir.Unary("op", ("x",), "y", subject).jumps == subject.jumps


@every(PAIRS)
def test_jumps_of_two_operands(subject):
    op = subject("op", ("a", "b"), "y")
    found = any(
        jumps(lambda x, b=other: op.compute(x, b)) or jumps(lambda x, a=other: op.compute(a, x))
        for other in (-1.5, 0.375)
    )
    assert op.jumps == found, "compiler/ir/ops.py: jumps"


def jumps(function):
    """Whether a function goes from one number to another within the least interval, beside 0 or
    beside another multiple of 1 / 128, from -20 to 20.
    """
    grid = np.linspace(-20, 20, 5121)
    low, high = grid[:-1], grid[1:]
    with np.errstate(all="ignore"):
        for _ in range(40):
            middle = (low + high) / 2
            first, between, last = (function(x) for x in (low, middle, high))
            left = np.abs(between - first) >= np.abs(last - between)
            low, high = np.where(left, low, middle), np.where(left, middle, high)
        ends = np.array([function(low), function(high)])
        apart = np.abs(ends[1] - ends[0]) > 1e-3
    return bool((apart & (np.abs(ends) < 1e6).all(0)).any())  # others are poles


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
        chosen = set(values[op.output].flat) <= {v for n in op.inputs for v in values[n].flat}
        assert chosen, f"{file_of(subject)}: selecting"
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


#: functions that no operator of ONNX is
WITHOUT_OPERATOR = (ir.Identity, ir.Expression)


@every(OPERATORS, FUNCTIONS, VARIANTS)
def test_onnx_form(subject, tmp_path):
    """Valid in its opset, and ONNX Runtime computes what golden does."""
    kind = subject if isinstance(subject, type) else ir.Unary
    assert has_rule(writer._write, kind), "compiler/frontend/writer.py: _write has no rule"
    graph, frames = example(subject)
    path = tmp_path / "model.onnx"
    file = "compiler/frontend/elementwise.py"
    with blamed(f"{file}: FUNCTIONS, BY_CONSTANT or OPERATORS", NotImplementedError):
        if subject in (*FUNCTIONS, *VARIANTS) and class_of(subject) not in WITHOUT_OPERATOR:
            elementwise._function_nodes(subject, (0,), 1)  # also of one that is written otherwise
        write_qdq(graph, path)
    onnx.checker.check_model(str(path), full_check=True)
    x = frames.astype(graph.inputs[0].array_type)
    (seen,) = Runtime(path, optimize=False).run(x).values()
    (wanted,) = golden.host_output(graph, golden.run(graph, golden.host_input(graph, x))).values()
    apart = np.abs(seen.astype(int) - wanted.astype(int)).max()
    assert apart <= 1, f"{file}, compiler/ir: {name(subject)} is another operator in ONNX"


@every(OPERATORS, FUNCTIONS, VARIANTS)
def test_read_from_onnx(subject, tmp_path):
    """A written network is read as it was; an ArgMax as the host's, with the same results."""
    graph, frames = example(subject)
    write_qdq(graph, tmp_path / "model.onnx")
    with blamed(f"compiler/frontend: HANDLERS read no {name(subject)}", ModelError):
        again = load(tmp_path / "model.onnx")
    if subject is not ir.ArgMax:
        wrong = f"compiler/frontend: HANDLERS read {name(subject)} as something else"
        assert [describe(op) for op in again] == [describe(op) for op in graph], wrong
    x = frames.astype(graph.inputs[0].array_type)
    ours, theirs = (
        golden.host_output(g, golden.run(g, golden.host_input(g, x)))["y"] for g in (graph, again)
    )
    assert_array_equal(ours, theirs)


# The hardware.


@every(OPERATORS)
def test_stage_kind(subject):
    found = [key for key, kind in KINDS.items() if kind.matches((object.__new__(subject),))]
    piece = "stages/elementwise.py: DESIGNS" if subject in PAIRS else "stages: a kind"
    assert len(found) == (not subject.view), (
        f"compiler/{piece} must run {name(subject)}; found {found}"
    )


@every(OPERATORS, FUNCTIONS)
def test_hardware_with_proven_constants(subject):
    graph, frames = example(subject)
    with blamed("compiler/stages, compiler/quantize/proofs", NotImplementedError):
        seen = measure(fold(graph), frames, stall=0.3)
    assert_array_equal(seen.values, golden.run(graph, frames)[graph.outputs[0].value])


@every(kind for kind in OPERATORS if not kind.view)
def test_resources(subject):
    """They are more than none, and more for more channels a beat."""
    graph, _ = example(subject)
    op = of(subject, graph)
    folds = sorted(foldings(op, graph), key=lambda each: (each[1], each[0]))
    stages = [
        design(op, graph, stage_plan("stage", op, *folding), LFE5U_25F)
        for folding in (folds[0], folds[-1])
    ]
    kind = type(stages[0])
    wrong = f"{file_of(kind)}: {kind.__name__}, its component: resources"
    with blamed(wrong, AttributeError, NotImplementedError):
        narrow, wide = (stage.resources(LFE5U_25F) for stage in stages)
    assert narrow.lut > 0 < narrow.ff, wrong
    assert folds[0] == folds[-1] or narrow.lut < wide.lut, wrong
    assert folds[0] == folds[-1] or narrow.ff < wide.ff, wrong


# The rest.


@every(OPERATORS)
def test_row_in_the_docs(subject):
    row = f"\n| `{subject.__name__}` |"
    assert (row in DOCS) == (not subject.view), "run `python docs/generate.py`"
    if subject in PAIRS:
        assert f" | `{name(subject)}` | `hw." in DOCS, "USES of docs/generate.py, or run it"


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
    piece = f"tests/fuzz/graphs.py: PARAMETERS has no strategy for {kind.__name__}"
    with blamed(piece, ValueError), pytest.raises(NoSuchExample):
        drawn(functions_of(kind), lambda found: False, most=60)
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


def drawn(strategy, fitting, most=400):
    """The first example that fits; raises NoSuchExample."""
    few = settings(
        max_examples=most,
        phases=[Phase.generate],
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    return find(strategy, fitting, settings=few)

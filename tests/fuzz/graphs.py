"""Hypothesis strategies of quantized graphs: every operator and function, any widths, branches,
several ports; with frames and a folding.

``LAYERS`` has a strategy for each operator. A strategy takes ``draw``, a builder and one of its
values, appends the operator (and what it needs before it) and returns the new value. Operators of
several activations that are computed element by element, and functions, need none of their own.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from gatewright.compiler import ir
from gatewright.compiler.ir import expressions
from gatewright.compiler.plan import Dataflow
from hypothesis import strategies as st

from ..operators import functions, leaves, operators
from ..plan.networks import Builder, random_folding

__all__ = ["LAYERS", "Example", "examples", "function", "functions_of", "graphs"]

#: elements of a feature map, so that a simulation takes about a second
MOST = 128
INT8 = ir.Int(8, True)

booleans, integers, sampled = st.booleans(), st.integers, st.sampled_from


def types(most: int) -> st.SearchStrategy[ir.Int]:
    """Integers of 1 to ``most`` bits; half of them have 8, and a sign."""
    return st.just(INT8) | st.builds(ir.Int, integers(1, most), booleans)


# Functions.

#: a number that a function may have for a parameter
NUMBERS = sampled([1.0, 0.5, 0.0, -1.0, 2.0, 0.1]) | st.floats(-4, 4, width=32)
#: parameters that are no such number, by class and name
PARAMETERS = {
    (ir.functions.Celu, "alpha"): st.floats(0.0625, 4, width=32),
    (ir.functions.Mod, "divisor"): NUMBERS.filter(lambda n: abs(n) > 1e-3),
    (ir.functions.Pow, "exponent"): sampled([2.0, 3.0, 0.5, -1.0, -0.5, 0.0, 1.0, 1.5, -2.0, 4.0]),
    (ir.functions.Gelu, "approximate"): sampled(["none", "tanh"]),
}


def functions_of(kind: type[ir.Function]) -> st.SearchStrategy[ir.Function]:
    """Functions of one class, with any parameters."""
    if kind is ir.Expression:
        return _expressions()
    numbers = {
        each.name: PARAMETERS.get((kind, each.name), NUMBERS.map(_float32)) for each in fields(kind)
    }
    return st.builds(kind, **numbers)


def function() -> st.SearchStrategy[ir.Function]:
    """Any function."""
    return sampled(leaves(ir.Function)).flatmap(functions_of)


def _float32(number: float) -> float:
    return float(np.float32(number))


@st.composite
def _expressions(draw: Any) -> ir.Function:
    """One to four steps, of operations and of functions that are smooth nearly everywhere: beside a
    jump the golden model is exact, and float64 is not.
    """
    smooth = [each for each in functions() if not each.integral and not each.partial]
    smooth = [
        each
        for each in smooth
        if not isinstance(each, ir.Expression | ir.functions.Mod | ir.functions.Reciprocal)
    ]
    steps: list[expressions.Step] = []
    for place in range(draw(integers(1, 4))):
        kind = draw(sampled([*leaves(expressions.Operation), ir.Function]))
        if kind is ir.Function:
            operation = draw(sampled(smooth))
        elif kind is expressions.Limit:
            low, high = sorted((draw(NUMBERS), draw(NUMBERS)))
            operation = kind(_float32(low), _float32(high))
        else:
            operation = kind(*(_float32(draw(NUMBERS)) for _ in fields(kind)))
        count = 1 if kind is ir.Function else kind.arity
        operands = [draw(integers(0, place)) for _ in range(count - 1)]
        steps.append(expressions.Step(operation, (*operands, place)))
    return ir.Expression(tuple(steps))


# Values and windows.


class Drawn(Builder):
    """A builder whose types, clamps, scales and zero points Hypothesis draws."""

    def __init__(self, draw: Any, shape: tuple[int, int, int], most: int) -> None:
        self.draw, self.most = draw, most
        super().__init__(*shape, seed=draw(integers(0, 999)), simple=False)

    def _dtype(self) -> ir.Int:
        return self.draw(types(self.most))

    def _quant(self, largest: float, dtype: ir.Int | None = None) -> ir.Quant:
        """For reals up to about ``largest``, or an eighth of it, or eight times as much."""
        dtype = dtype or self._dtype()
        share = self.draw(sampled([1.0, 0.7, 1.4, 1.1, 0.125, 8.0]))
        scale = min(max(largest, 1e-6), 1e6) * share / (1 << (dtype.bits - 1))
        if self.draw(booleans):
            scale = 2.0 ** np.round(np.log2(scale))
        zero = self.draw(
            st.just((dtype.low + dtype.high) // 2)
            | integers(dtype.low, dtype.high)
            | sampled([dtype.low, dtype.high])
        )
        return ir.Quant(dtype, float(np.float32(scale)), zero)

    def _clamp(self) -> ir.Clamp:
        return self.draw(sampled([ir.Clamp(), ir.Clamp(0), ir.Clamp(-0.5, 2), ir.Clamp(high=1)]))

    def like(self, shape: ir.Shape) -> list[str]:
        """The values of that shape."""
        return [name for name, value in self.values.items() if value.shape == shape]


@st.composite
def windows(draw: Any, shape: ir.Shape, blind: bool = False) -> dict[str, Any]:
    """A window that fits ``shape``; ``blind``: it may see nothing but padding."""
    pair = st.tuples(integers(1, 3), integers(1, 3))
    kernel, stride, dilation = draw(pair), draw(pair), draw(st.tuples(*[integers(1, 2)] * 2))
    span = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    most = [2, 2] if blind else [min(2, n - 1) for n in span]
    pads = []
    for side, extent in enumerate((shape.height, shape.width) * 2):
        # the pads before an axis, or after it so many that the window fits
        least = max(0, span[side % 2] - extent - pads[side - 2]) if side > 1 else 0
        pads.append(draw(integers(least, max(least, most[side % 2]))))
    window = ir.Window(kernel, stride, dilation, tuple(pads))
    if not blind and _sees_nothing(window, shape):
        return {"kernel": (1, 1), "stride": stride}
    return {"kernel": kernel, "stride": stride, "dilation": dilation, "pads": window.pads}


def _sees_nothing(window: ir.Window, shape: ir.Shape) -> bool:
    """Whether some window lies in the padding, with all its taps."""
    out = window.output(shape, 1)
    for axis, (extent, count) in enumerate(
        zip((shape.height, shape.width), (out.height, out.width), strict=True)
    ):
        taps = np.arange(window.kernel[axis]) * window.dilation[axis] - window.pads[axis]
        places = np.arange(count)[:, None] * window.stride[axis] + taps
        if not ((places >= 0) & (places < extent)).any(axis=1).all():
            return True
    return False


# Layers.


def _conv(draw: Any, b: Drawn, x: str) -> str:
    shape = b.shape(x)
    groups = draw(sampled([n for n in range(1, shape.channels + 1) if shape.channels % n == 0]))
    channels = groups * draw(integers(1, max(1, 6 // groups)))
    bits = draw(st.just(8) | integers(2, b.most))
    if draw(booleans):
        return b.conv(x, channels, groups=groups, weight_bits=bits)
    window = draw(windows(shape, blind=True))
    if window.get("kernel") and channels * shape.size > 6 * MOST:
        channels = groups
    return b.conv(x, channels, groups=groups, weight_bits=bits, **window)


def _max_pool(draw: Any, b: Drawn, x: str) -> str:
    return b.max_pool(x, **draw(windows(b.shape(x))))


def _average_pool(draw: Any, b: Drawn, x: str) -> str:
    return b.average_pool(x, count_padding=draw(booleans), **draw(windows(b.shape(x))))


def _pad(draw: Any, b: Drawn, x: str) -> str:
    return b.pad(x, tuple(draw(st.tuples(*[integers(0, 2)] * 4))), draw(NUMBERS))


def _unary(draw: Any, b: Drawn, x: str) -> str:
    return b.unary(x, draw(function()))


def _matmul(draw: Any, b: Drawn, x: str) -> str:
    """A product of two reshaped values; the right one is made of the left where none fits."""
    size = b.shape(x).size
    products = draw(sampled([n for n in (1, 2, 3) if size % n == 0]))
    inner = draw(sampled([n for n in range(1, 9) if size // products % n == 0]))
    columns = draw(integers(1, 4))
    left = b.reshape(x, size // inner, 1)
    right = b.dense(draw(sampled(list(b.values))), products * inner * columns)
    return b.matmul(left, b.reshape(right, products * inner, 1), products)


def _concat(draw: Any, b: Drawn, x: str) -> str:
    """``x``, and one or two of the values whose map has the same extent."""
    shape = b.shape(x)
    there = [n for n, v in b.values.items() if v.shape.pixels == shape.pixels]
    fitting = [n for n in there if b.shape(n).height == shape.height]
    return b.concat(*draw(st.permutations([x, *draw(st.lists(sampled(fitting), min_size=1,
                                                               max_size=2))])))  # fmt: skip


def _gather(draw: Any, b: Drawn, x: str) -> str:
    """A permutation of axes, a part, a repetition, a border, or any elements."""
    shape = b.shape(x)
    labels = np.arange(shape.size).reshape(shape.array)
    way = draw(integers(0, 5))
    if way == 0:
        order = labels.transpose(draw(st.permutations(range(3))))
    elif way == 1:
        steps = draw(st.tuples(*[sampled([1, -1, 2])] * 3))
        order = labels[tuple(slice(None, None, step) for step in steps)]
    elif way == 2:
        order = labels.repeat(2, axis=draw(integers(0, 2)))
    elif way == 3:
        order = np.pad(labels, draw(st.tuples(*[st.tuples(*[integers(0, 1)] * 2)] * 3)),
                       constant_values=-1)  # fmt: skip
    elif way == 4:
        start = draw(integers(0, shape.channels - 1))
        order = labels[:, :, start:]
    else:
        extent = draw(st.tuples(*[integers(1, 3)] * 3))
        elements = integers(-1, shape.size - 1)
        count = int(np.prod(extent))
        order = draw(st.lists(elements, min_size=count, max_size=count))
        order = np.array(order).reshape(extent)
    return b.gather(x, order.shape, order, draw(NUMBERS))


def _reshape(draw: Any, b: Drawn, x: str) -> str:
    size = b.shape(x).size
    height = draw(sampled(_divisors(size)))
    return b.reshape(x, height, draw(sampled(_divisors(size // height))))


def _divisors(n: int) -> list[int]:
    return [each for each in range(1, n + 1) if n % each == 0]


def _delay(draw: Any, b: Drawn, x: str) -> str:
    """Of the rows of ``x``, or in a loop: a state that becomes a function of itself and a row, and
    begins with numbers or with a function of ``x``.
    """
    size = b.shape(x).size
    steps = draw(sampled([n for n in (2, 3, 4) if size % n == 0] or [1]))
    rows = b.reshape(x, steps, 1)
    if draw(booleans):
        return b.delay(rows, _float32(draw(NUMBERS)))
    channels = draw(integers(1, 3))
    if draw(booleans):
        state = b.state(steps, channels, first=b.dense(x, channels))
    else:
        state = b.state(steps, channels, [_float32(draw(NUMBERS)) for _ in range(channels)])
    kind = draw(sampled([ir.Add, ir.ops.Sub, ir.ops.Mul]))
    return b.close(state, b.elementwise(kind, b.conv(rows, channels), b.conv(state, channels)))


def _frame_delay(draw: Any, b: Drawn, x: str) -> str:
    """A map that becomes a function of itself and ``x``, frame after frame."""
    shape = b.shape(x)
    state = b.kept(*shape.array, _float32(draw(NUMBERS)))
    kind = draw(sampled([ir.Add, ir.ops.Sub, ir.ops.Mul]))
    return b.close(state, b.elementwise(kind, b.conv(x, shape.channels), state))


def _argmax(draw: Any, b: Drawn, x: str) -> str:
    return b.argmax(x)


Layer = Callable[[Any, Drawn, str], str]

LAYERS: dict[type[ir.Op], Layer] = {
    ir.Conv: _conv,
    ir.MaxPool: _max_pool,
    ir.AveragePool: _average_pool,
    ir.Pad: _pad,
    ir.Unary: _unary,
    ir.ops.MatMul: _matmul,
    ir.Concat: _concat,
    ir.Gather: _gather,
    ir.Delay: _delay,
    ir.FrameDelay: _frame_delay,
    ir.Reshape: _reshape,
    ir.ArgMax: _argmax,
}


def layer(kind: type[ir.Op]) -> Layer:
    """The strategy of an operator."""
    if kind in LAYERS or not issubclass(kind, ir.Elementwise) or kind.arity is None:
        return LAYERS[kind]

    def elementwise(draw: Any, b: Drawn, x: str) -> str:
        others = [draw(sampled(b.like(b.shape(x)))) for _ in range(kind.arity - 1)]
        return b.elementwise(kind, *draw(st.permutations([x, *others])))

    return elementwise


# Graphs.

#: operators that a network may hold more than once, and that another may follow
INNER = [kind for kind in operators() if kind not in (ir.ArgMax, ir.FrameDelay)]


@st.composite
def graphs(
    draw: Any,
    most_bits: int = 16,
    kind: type[ir.Op] | None = None,
    of: type[ir.Function] | None = None,
    ports: int = 2,
) -> tuple[ir.Graph, Builder]:
    """A graph, and its builder; with an operator of ``kind``, or a function ``of`` a class."""
    extent = integers(1, 5)
    b = Drawn(draw, (draw(extent), draw(extent), draw(extent)), most_bits)
    if ports > 1 and draw(integers(0, 3)) == 0:
        b.add_input(
            "z", *(b.shape("x").array if draw(booleans) else draw(st.tuples(*[extent] * 3)))
        )
    for _ in range(draw(integers(0, 3))):
        _grow(draw, b, draw(sampled(INNER)))
    if kind is not None:
        _grow(draw, b, kind)
    if of is not None:
        b.unary(_last(b), draw(functions_of(of)))
    if all(op.selecting for op in b.ops):
        _grow(draw, b, ir.Conv)
    if kind is None and draw(integers(0, 5)) == 0:
        b.argmax(_last(b))
    return b.graph(*_outputs(draw, b)), b


def _grow(draw: Any, b: Drawn, kind: type[ir.Op]) -> None:
    """Append an operator behind the newest value, or behind an older one: a branch."""
    names = [name for name in b.values if b.shape(name).size <= MOST]
    x = names[-1 - draw(integers(0, len(names) - 1))]
    layer(kind)(draw, b, x)


def _last(b: Drawn) -> str:
    return next(reversed([name for name in b.values if b.shape(name).size <= MOST]))


def _outputs(draw: Any, b: Drawn) -> list[str]:
    """What nothing reads, and at times a value that is read too."""
    for name in b.inputs:
        if not _computed(b, name):
            b.conv(name, 1)
    # what only a state reads leaves the network too, or nothing would be computed of its loop
    read = {name for op in b.ops if not op.delaying for name in op.inputs}
    free = [
        b.conv(name, 1) if _moved(b, name) else name for name in [*b.values] if name not in read
    ]
    also = [
        op.output for op in b.ops if op.output in read and not op.view and not _moved(b, op.output)
    ]
    if also and draw(integers(0, 3)) == 0:
        free.append(draw(sampled(also)))
    return free


def _moved(b: Drawn, name: str) -> bool:
    """Whether a value only moves or delays elements of an input: that leaves as integers, and the
    reader refuses an input that leaves so and is real numbers elsewhere.
    """
    found = set(b.inputs)
    for op in b.ops:
        if (op.selecting or op.delaying) and found.intersection(op.inputs):
            found.add(op.output)
    return name in found


def _computed(b: Drawn, name: str) -> bool:
    """Whether a number is computed of an input: else its scale is in no file of the network."""
    below = {name}
    for op in b.ops:
        if below.intersection(op.inputs):
            if not (op.selecting or op.delaying or isinstance(op, ir.ArgMax)):
                return True
            below.update(op.outputs)
    return False


@dataclass(frozen=True, eq=False)
class Example:
    """A graph, frames for it, and a folding with the pattern of stalls that it runs under."""

    graph: ir.Graph
    builder: Builder
    seed: int
    stall: float

    def frames(self, count: int) -> Any:
        return self.builder.frames(count, self.seed)

    def network(self, most: int = 120) -> Dataflow:
        """Under some folding, of at most so many cycles if it can."""
        return random_folding(self.graph, np.random.default_rng(self.seed), most=most)

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """For Hypothesis, which prints a failing example."""
        printer.text(f"\n{ir.to_text(self.graph)}seed {self.seed}, stall {self.stall}")


@st.composite
def examples(draw: Any, **limits: Any) -> Example:
    """A graph as :func:`graphs` draws it, frames and a folding."""
    graph, builder = draw(graphs(**limits))
    return Example(graph, builder, draw(integers(0, 999)), draw(sampled([0.0, 0.0, 0.3, 0.6])))

"""Legality of a graph, checked between all stages so that a broken pass is blamed by name."""

from collections.abc import Iterator
from functools import singledispatch

import numpy as np

from .graph import Graph
from .loops import groups, is_loop
from .ops import (
    ArgMax,
    Clampable,
    Concat,
    Conv,
    Delay,
    Elementwise,
    FrameDelay,
    Gather,
    MatMul,
    Op,
    Pad,
    Reshape,
    Windowed,
)
from .types import Shape

__all__ = ["IRError", "verify"]


class IRError(AssertionError):
    """A pass left an illegal graph: our bug, not the user's."""


def verify(graph: Graph, after: str) -> None:
    """Raises IRError that blames the pass ``after`` when ``graph`` breaks a rule."""
    problems = [*_names(graph), *_ports(graph)]
    if not problems:
        problems = [problem for op in graph.ops for problem in _operator(graph, op)]
        problems += _loops(graph)
    if problems:
        raise IRError(f"after {after}: " + "; ".join(problems))


def _names(graph: Graph) -> Iterator[str]:
    """Every value has one producer, which comes before its readers, but for those that delay it."""
    known = {port.value for port in graph.inputs}
    later = {op.inputs[0]: op for op in graph.ops if op.delaying and op.inputs}
    for name, value in graph.values.items():
        if name != value.name:
            yield f"value {value.name} is stored as {name}"
    for op in graph.ops:
        for name in op.inputs[op.delaying :]:
            if name not in known:
                yield f"{op.name} reads {name} before it is computed"
        for name in op.outputs:
            if name in known:
                yield f"{op.name} computes {name} a second time"
        known.update(op.outputs)
    for name, op in later.items():
        if name not in known:
            yield f"{op.name} delays {name}, which nothing computes"
    if lost := known - set(graph.values):
        yield f"no value for {', '.join(sorted(lost))}"
    for port in graph.outputs:
        if port.value not in known:
            yield f"output {port.name} leaves with {port.value}, which nothing computes"


def _ports(graph: Graph) -> Iterator[str]:
    """Inputs are permutations of their streams, and outputs take elements of theirs; integer inputs
    enter as they are.
    """
    for port in graph.inputs:
        if port.value in graph.values:
            size = graph.shape(port.value).size
            if not np.array_equal(np.sort(port.order), np.arange(size)):
                yield f"the order of {port.name} is no permutation of {size} elements"
    for output in graph.outputs:
        if output.value in graph.values:
            size = graph.shape(output.value).size
            if not output.order.size or not np.isin(output.order, np.arange(size)).all():
                yield f"the order of {output.name} is no selection of {size} elements"
    for port in graph.inputs:
        value = graph.values.get(port.value)
        if value and value.quant and port.integer not in (None, value.quant.dtype):
            yield f"input {port.name} is {port.dtype}, but {port.value} is {value.quant}"


def _loops(graph: Graph) -> Iterator[str]:
    """Every operator in a loop makes rows of one pixel, each of that row of its inputs."""
    for group in groups(graph):
        if not is_loop(group):
            continue
        steps = graph.shape(group[0].output).height
        for op in group:
            shape = graph.shape(op.output)
            rows = {graph.shape(name).height for name in op.inputs}
            if not op.rowwise or (shape.height, shape.width) != (steps, 1) or rows - {1, steps}:
                yield f"{op.name}: is in a loop of {steps} steps, but does not work row by row"


def _operator(graph: Graph, op: Op) -> Iterator[str]:
    if not op.inputs or op.arity not in (None, len(op.inputs)):
        yield f"{op.name}: has {len(op.inputs)} inputs, but the operator takes {op.arity or 'some'}"
        return
    found = graph.shape(op.output)
    wanted = output_shape(op, [graph.shape(name) for name in op.inputs], found)
    if found != wanted or min(found.array) < 1:
        yield f"{op.name}: {op.output} is {found}, but the operator makes {wanted}"
    if isinstance(op, Clampable) and not op.clamp.low <= op.clamp.high:
        yield f"{op.name}: clamps to {op.clamp.low} .. {op.clamp.high}"
    if isinstance(op, Gather):
        size = graph.shape(op.inputs[0]).size
        if op.order.size and not -1 <= op.order.min() <= op.order.max() < size:
            yield (
                f"{op.name}: takes elements {op.order.min()} to {op.order.max()} of {size}; -1 is "
                "the fill"
            )
    if isinstance(op, Conv):
        yield from _convolution(op, graph.shape(op.inputs[0]))
    if graph.quantized:
        yield from _quantized(graph, op)


def _convolution(op: Conv, shape: Shape) -> Iterator[str]:
    if op.weight.ndim != 4 or op.weight.shape[1:3] != op.window.kernel:
        yield f"{op.name}: weight {op.weight.shape} for a kernel of {op.window.kernel}"
    elif op.weight.shape[3] * op.groups != shape.channels or op.channels % op.groups:
        yield (
            f"{op.name}: weight {op.weight.shape} in {op.groups} groups "
            f"for {shape.channels} channels"
        )
    for name, vector in (
        ("weight_scale", op.weight_scale),
        ("bias", op.bias),
        ("bias_scale", op.bias_scale),
    ):
        if vector is not None and vector.shape != (op.channels,):
            yield f"{op.name}: {name} {vector.shape} for {op.channels} channels"
    if (op.weight_scale is None) == (op.weight.dtype.kind == "i"):
        yield f"{op.name}: weights are {op.weight.dtype}, weight_scale is {op.weight_scale}"
    if op.bias is not None and (op.bias_scale is None) == (op.bias.dtype.kind == "i"):
        yield f"{op.name}: biases are {op.bias.dtype}, bias_scale is {op.bias_scale}"


def _quantized(graph: Graph, op: Op) -> Iterator[str]:
    """Operators that only select elements do not requantize."""
    if op.selecting:
        wanted = graph.quant(op.output)
        for name in op.inputs:
            if graph.quant(name) != wanted:
                yield f"{op.name}: {name} is {graph.quant(name)}, {op.output} is {wanted}"


@singledispatch
def output_shape(op: Op, shapes: list[Shape], declared: Shape) -> Shape | None:
    """The shape an operator makes of its inputs' shapes; None when they do not fit.

    ``declared`` is the output's shape, which only Gather and Reshape are free to choose.
    """
    raise NotImplementedError(f"{op.name}: no shape rule for {type(op).__name__}")


@output_shape.register
def _(op: Conv, shapes: list[Shape], declared: Shape) -> Shape | None:
    return op.window.output(shapes[0], op.channels)


@output_shape.register
def _(op: Windowed, shapes: list[Shape], declared: Shape) -> Shape | None:
    return op.window.output(shapes[0], shapes[0].channels)


@output_shape.register
def _(op: Pad, shapes: list[Shape], declared: Shape) -> Shape | None:
    top, left, bottom, right = op.pads
    return Shape(
        shapes[0].height + top + bottom, shapes[0].width + left + right, shapes[0].channels
    )


@output_shape.register
def _(op: Elementwise, shapes: list[Shape], declared: Shape) -> Shape | None:
    return shapes[0] if len(set(shapes)) == 1 else None


@output_shape.register
def _(op: Concat, shapes: list[Shape], declared: Shape) -> Shape | None:
    first = shapes[0]
    if any((shape.height, shape.width) != (first.height, first.width) for shape in shapes):
        return None
    return Shape(first.height, first.width, sum(shape.channels for shape in shapes))


@output_shape.register
def _(op: MatMul, shapes: list[Shape], declared: Shape) -> Shape | None:
    a, b = shapes
    inner = op.products * a.channels
    if a.width != 1 or b.width != 1 or a.height % op.products or b.height != inner:
        return None
    return Shape(a.height, 1, b.channels)


@output_shape.register
def _(op: Delay, shapes: list[Shape], declared: Shape) -> Shape | None:
    rows, *first = shapes
    fits = rows.width == 1 and op.initial.shape == (rows.channels,)
    return rows if fits and first in ([], [Shape(1, 1, rows.channels)]) else None


@output_shape.register
def _(op: FrameDelay, shapes: list[Shape], declared: Shape) -> Shape | None:
    return shapes[0] if op.initial.shape == shapes[0].array else None


@output_shape.register
def _(op: ArgMax, shapes: list[Shape], declared: Shape) -> Shape | None:
    return Shape(1, 1, 1)


@output_shape.register
def _(op: Gather, shapes: list[Shape], declared: Shape) -> Shape | None:
    return declared if op.order.shape == (declared.size,) else None


@output_shape.register
def _(op: Reshape, shapes: list[Shape], declared: Shape) -> Shape | None:
    return declared if declared.size == shapes[0].size else None

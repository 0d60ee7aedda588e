"""Fuse an elementwise expression of one value into one function."""

from dataclasses import dataclass, field
from functools import singledispatch
from hashlib import sha256
from heapq import heappop, heappush

import numpy as np

from .. import ir
from ..ir.expressions import (
    Affine,
    Difference,
    Expression,
    Larger,
    Limit,
    Operation,
    Product,
    Smaller,
    Step,
    Sum,
    spelled,
)
from .fold_affine import is_affine
from .rewriter import Rewriter

__all__ = ["fuse_functions"]

#: operators of an expression at most; a longer one becomes several
LIMIT = 64


def fuse_functions(graph: ir.Graph) -> ir.Graph:
    """Operators of numbers, element by element, that all depend on one value become one function.

    Before: ``a = sigmoid x;  y = mul x, a``; ``a`` is not rounded and has no other readers
    After:  ``y = {x * Sigmoid(x)} x``, or ``swish x``, where the expression has a name
    Exact:  nothing is rounded between, or only what Max and Min select from, as they are. In a
            float graph, a constant such as 1/6 may stand for the rational that it is next to, where
            that gives the expression a name.

    A scale or an offset takes part where it is one for all channels and a float32; a lone one stays
    what it is.
    """
    rewriter = Rewriter(graph)
    places = {name: place for place, op in enumerate(graph.ops) for name in op.outputs}
    for op in reversed(graph.ops):
        if rewriter.producer(op.output) is op and _part(op) is not None:
            tree = _tree(rewriter, op, places)
            if tree is not None:
                _fuse(rewriter, tree)
    return rewriter.graph()


@dataclass(frozen=True)
class _Tree:
    """Operators over the value ``leaf``, in processing order; the last gives the result."""

    leaf: str
    ops: tuple[ir.Op, ...]


@dataclass
class _Growth:
    """A tree that takes one operator after the other, and the values that it reads from outside."""

    rewriter: Rewriter
    places: dict[str, int]
    ops: list[ir.Op] = field(default_factory=list)
    inside: set[str] = field(default_factory=set)
    outside: set[str] = field(default_factory=set)
    selecting: set[str] = field(default_factory=set)
    open: list[tuple[int, str]] = field(default_factory=list)

    def take(self, op: ir.Op) -> None:
        self.ops.append(op)
        self.inside.update(op.outputs)
        if isinstance(op, ir.ops.Extremum) and self._quant(op.output) is not None:
            self.selecting.add(op.output)
        self.outside.discard(op.output)
        for name in op.inputs:
            if name not in self.outside:
                self.outside.add(name)
                heappush(self.open, (-self.places.get(name, -1), name))

    def next(self) -> ir.Op | None:
        """The last operator outside that may be taken; None when there is no more."""
        shape = self.rewriter.values[self.ops[0].output].shape
        while self.open:
            _, name = heappop(self.open)
            op, value = self.rewriter.producer(name), self.rewriter.values[name]
            if (
                op is not None
                and value.shape == shape
                and _part(op) is not None
                and self.rewriter.read_within(name, self.inside)
                and (value.quant is None or self._rounded_later(op))
            ):
                return op
        return None

    def _rounded_later(self, op: ir.Op) -> bool:
        """Whether it is the same to round the result of ``op`` behind the Max and Min that read it:
        they are rounded alike, and the result is always defined.
        """
        return (
            self._quant(op.output) == self._quant(self.ops[0].output)
            and self.rewriter.read_within(op.output, self.selecting)
            and not (isinstance(op, ir.Unary) and op.function.partial)
        )

    def _quant(self, name: str) -> ir.Quant | None:
        return self.rewriter.values[name].quant


def _tree(rewriter: Rewriter, root: ir.Op, places: dict[str, int]) -> _Tree | None:
    """The largest tree below ``root``; None where it would be no gain."""
    growth = _Growth(rewriter, places)
    best: tuple[str, int] | None = None
    op: ir.Op | None = root
    while op is not None and len(growth.ops) < LIMIT:
        growth.take(op)
        if len(growth.outside) == 1:
            best = next(iter(growth.outside)), len(growth.ops)
        op = growth.next()
    if best is None:
        return None
    leaf, size = best
    ops = growth.ops[:size]
    shapes = {rewriter.values[name].shape for name in (leaf, root.output)}
    late = any(rewriter.values[one.output].quant is not None for one in ops[1:])
    if late and any(isinstance(one, ir.Unary) and one.function.partial for one in ops):
        return None
    lone = size == 1 and isinstance(root, ir.Unary)
    if lone or len(shapes) > 1 or all(isinstance(one, ir.Conv) for one in ops):
        return None
    return _Tree(leaf, tuple(sorted(ops, key=lambda one: places[one.output])))


def _fuse(rewriter: Rewriter, tree: _Tree) -> None:
    root = tree.ops[-1]
    real = rewriter.values[tree.leaf].quant is None
    function, clamp = _function(tree, real)
    for op in tree.ops[:-1]:
        rewriter.erase(op)
    unary = ir.Unary(root.name, (tree.leaf,), root.output, function, clamp=clamp)
    rewriter.substitute(root, unary)


# What an operator computes.


@singledispatch
def _part(op: ir.Op) -> Operation | ir.Function | None:
    """What computes ``op``, but for its clamp, of its inputs; None where it may not be part of an
    expression.
    """
    return None


@_part.register
def _(op: ir.Unary) -> Operation | ir.Function | None:
    return op.function


@_part.register
def _(op: ir.ops.Add) -> Operation | ir.Function | None:
    return Sum()


@_part.register
def _(op: ir.ops.Sub) -> Operation | ir.Function | None:
    return Difference()


@_part.register
def _(op: ir.ops.Mul) -> Operation | ir.Function | None:
    return Product()


@_part.register
def _(op: ir.ops.Max) -> Operation | ir.Function | None:
    return Larger()


@_part.register
def _(op: ir.ops.Min) -> Operation | ir.Function | None:
    return Smaller()


@_part.register
def _(op: ir.Conv) -> Operation | ir.Function | None:
    """A scale and an offset, which are the same for all channels, and exact in float32."""
    if not is_affine(op) or op.channels != op.weight.size:
        return None
    factors = op.weight.reshape(-1).astype(np.float64)
    if op.weight_scale is not None:
        factors = factors * op.weight_scale
    scales, shifts = {*factors.tolist()}, {*op.exact_bias()}
    if len(scales) > 1 or len(shifts) > 1:
        return None
    (factor,), (shift,) = scales, shifts
    exact = all(float(np.float32(float(number))) == number for number in (factor, shift))
    return Affine(factor, float(shift)) if exact else None


# The function.


class _Steps:
    """The steps of an expression in the making, each there once, in an order of their own.

    ``ranks``: depth of each result, and a digest of what computes it. Operands that commute, and
    with them the steps, are ordered by that, whatever the order in which they are added.
    """

    def __init__(self) -> None:
        self.places: dict[Step, int] = {}
        self.ranks: list[tuple[int, str]] = [(0, "")]

    def add(self, part: Operation | ir.Function, operands: tuple[int, ...]) -> int:
        """The number of the step that computes ``part``; that of its operand for the identity."""
        if part in (ir.Identity(), Affine(1.0)):
            return operands[0]
        if isinstance(part, Expression):
            known = [*operands]
            for step in part.steps:
                known.append(self.add(step.operation, tuple(known[n] for n in step.operands)))
            return known[-1]
        if isinstance(part, Operation) and part.commutes:
            operands = tuple(sorted(operands, key=lambda n: self.ranks[n]))
        step = Step(part, operands)
        if step not in self.places:
            self.places[step] = len(self.ranks)
            below = [self.ranks[n] for n in operands]
            text = repr((part, [digest for _, digest in below]))
            depth = 1 + max(deep for deep, _ in below)
            self.ranks.append((depth, sha256(text.encode()).hexdigest()))
        return self.places[step]

    def ordered(self, result: int) -> tuple[Step, ...]:
        """The steps to ``result``: operands before what reads them, the first before the second."""
        steps = dict(zip(self.places.values(), self.places, strict=True))
        numbers, pending = {0: 0}, [result]
        while pending:
            number = pending[-1]
            read = () if number in numbers else steps[number].operands
            unknown = [n for n in read if n not in numbers]
            if unknown:
                pending += reversed(unknown)
            else:
                numbers.setdefault(pending.pop(), len(numbers))
        return tuple(
            Step(steps[n].operation, tuple(numbers[m] for m in steps[n].operands))
            for n in list(numbers)[1:]
        )


def _function(tree: _Tree, real: bool) -> tuple[ir.Function, ir.Clamp]:
    """What the operators compute of the leaf, and the clamp of the last of them."""
    steps, known, clamp = _Steps(), {tree.leaf: 0}, ir.Clamp()
    for op in tree.ops:
        part = _part(op)
        assert part is not None
        number = steps.add(part, tuple(known[name] for name in op.inputs))
        clamp = op.clamp if isinstance(op, ir.Clampable) else ir.Clamp()
        if clamp != ir.Clamp() and op is not tree.ops[-1]:
            number = steps.add(Limit(clamp.low, clamp.high), (number,))
        known[op.output] = number
    return _named(steps.ordered(known[tree.ops[-1].output]), real), clamp


SIXTH = float(np.float32(1 / 6))
#: expressions that have a name
NAMED: dict[tuple[Step, ...], ir.Function] = {
    (): ir.Identity(),
    (
        Step(ir.functions.HardSigmoid(SIXTH, 0.5), (0,)),
        Step(Product(), (0, 1)),
    ): ir.functions.HardSwish(),
}
#: those that differ from a named one by the rounding of a constant to float32
NEARLY_NAMED: dict[tuple[Step, ...], ir.Function] = {
    (
        Step(Affine(1.0, 3.0), (0,)),
        Step(Limit(0.0, 6.0), (1,)),
        Step(Affine(SIXTH), (2,)),
        Step(Product(), (0, 3)),
    ): ir.functions.HardSwish(),
    (
        Step(Affine(1.0, 3.0), (0,)),
        Step(Limit(0.0, 6.0), (1,)),
        Step(Product(), (0, 2)),
        Step(Affine(SIXTH), (3,)),
    ): ir.functions.HardSwish(),
}


def _named(steps: tuple[Step, ...], real: bool) -> ir.Function:
    """The function of these steps; in a graph of real numbers, one that is nearly it."""
    if steps in NAMED:
        return NAMED[steps]
    if real and steps in NEARLY_NAMED:
        return NEARLY_NAMED[steps]
    first = steps[0].operation
    if len(steps) == 1 and isinstance(first, ir.Function):
        return first
    alpha = first.factor if isinstance(first, Affine) and not first.shift else 1.0
    swish = ir.functions.Swish(alpha)
    return swish if steps == spelled(swish) else Expression(steps)

"""Operators that stand for several of the graph: the places of extrema, products of many factors,
one-hot codes, sums of products by index letters, elements put into others.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .elementwise import mul, pair, unary
from .folding import reference
from .linear import matmul, offset, scaled
from .operands import Handler, Operand, activation, axis_of, constant, integers, scalar
from .pooling import concat
from .reductions import REDUCTIONS, reduced
from .source import Node
from .tensors import Constant, Tensor, elements

__all__ = ["HANDLERS", "hardmax_inside", "places"]

#: factors that are multiplied one after the other
_FACTORS = 64


def _check_lone(build: Builder, node: Node) -> None:
    """Raises ModelError where the first axis may be that of several samples."""
    if not build.lone:
        raise ModelError(
            f"{node}: computes across the first axis, which is that of the samples; accepted: a "
            "batch of 1; export the network with one"
        )


# -- the place of an extremum ----------------------------------------------------------------------


def places(
    build: Builder, node: Node, x: Tensor, axis: int, lowest: bool = False, last: bool = False
) -> Tensor:
    """The index of the largest, or of the lowest, along an axis that becomes 1; of equals the
    first, or the last: the largest of those weights, falling or rising along the axis, whose
    element equals the extremum.
    """
    x, count = activation(x, node), x.order.shape[axis]
    kind = REDUCTIONS["ReduceMin" if lowest else "ReduceMax"]
    extremum = reduced(build, node.step("extremum"), x, (axis,), True, kind)
    apart = pair(build, node.step("distance", "Sub"), x, extremum)
    equal = unary(build, node.step("equal"), apart, ir.functions.Equal(0.0))
    rank = np.arange(1, count + 1, dtype=np.float32)
    weights = (rank if last else rank[::-1]).reshape([-1, *[1] * (x.order.ndim - 1 - axis)])
    weighted = scaled(build, node.step("weighted"), equal, Constant(node.name, weights))
    found = reduced(build, node.step("place"), weighted, (axis,), True, REDUCTIONS["ReduceMax"])
    shift = Constant(node.name, np.array(-1.0 if last else count, np.float32))
    index = offset(build, replace(node, attributes={}), found, shift, 1 if last else -1)
    return replace(index, whole=True)


def hardmax_inside(build: Builder, node: Node, x: Tensor, axis: int) -> Tensor:
    """1 at the first of the largest along an axis, 0 elsewhere."""
    index = places(build, node.step("place"), x, axis)
    spread = index.moved(np.broadcast_to(index.order, x.order.shape), node.outputs[0])
    return _equal_to(build, node, spread, axis, x.order.shape[axis])


def _equal_to(build: Builder, node: Node, x: Tensor, axis: int, count: int) -> Tensor:
    """Whether each element is its own index along an axis of ``count``."""
    index = np.arange(count, dtype=np.float32).reshape([-1, *[1] * (x.order.ndim - 1 - axis)])
    x = build.natural(x, node)
    apart = offset(build, node.step("distance"), x, Constant(node.name, -index))
    return unary(build, replace(node, attributes={}), apart, ir.functions.Equal(0.0))


def one_hot(build: Builder, node: Node, x: Operand, depth: Operand, values: Operand) -> Tensor:
    """ONNX OneHot of computed indices: those below 0 count from the end."""
    x, count = activation(x, node), int(scalar(depth, node, "depth"))
    off, on = (float(v) for v in constant(values, node, "values").real().reshape(-1))
    rank = x.order.ndim + 1
    axis = axis_of(node, int(node.get("axis", -1)), rank)
    shape = (*x.order.shape[:axis], count, *x.order.shape[axis:])
    if axis == 0 and not build.lone:
        raise ModelError(f"{node}: puts the classes before the batch; accepted: any other axis")
    spread = x.moved(np.broadcast_to(np.expand_dims(x.order, axis), shape), node.outputs[0])
    found = _equal_to(build, node.step("match"), spread, axis, count)
    shift = Constant(node.name, np.array(float(count), np.float32))
    behind = offset(build, node.step("above"), spread, shift)
    below = _equal_to(build, node.step("match_below"), behind, axis, count)
    either = pair(build, node.step("either", "Max"), found, below)
    factor, start = (Constant(node.name, np.array(v, np.float32)) for v in (on - off, off))
    return scaled(build, node, either, factor, start)


# -- products --------------------------------------------------------------------------------------


def reduce_product(build: Builder, node: Node, x: Operand, axes: Operand = None) -> Tensor:
    """ONNX ReduceProd: the factors are multiplied in pairs, these in pairs, and so on."""
    x = activation(x, node)
    rank = x.order.ndim
    listed = node.get("axes", ()) if axes is None else integers(axes, node, "axes")
    if not listed and node.get("noop_with_empty_axes", 0):
        return x.moved(x.order, node.outputs[0])
    chosen = sorted({axis_of(node, axis, rank) for axis in listed or range(rank)})
    if 0 in chosen and not build.lone:
        raise ModelError(
            f"{node}: reduces over the batch; accepted: any other axes; name them, or export the "
            "network with a batch of 1"
        )
    kept = [1 if n in chosen else size for n, size in enumerate(x.order.shape)]
    order = np.moveaxis(x.order, chosen, range(len(chosen)))
    factors = order.reshape(-1, *[s for n, s in enumerate(x.order.shape) if n not in chosen])
    result = _product(build, node, _parts(node, x, [row.reshape(kept) for row in factors]))
    if not node.get("keepdims", 1):
        result = replace(result, order=result.order.squeeze(tuple(chosen)))
    return result


def _parts(node: Node, x: Tensor, orders: Sequence[NDArray[np.int64]]) -> list[Tensor]:
    if len(orders) > _FACTORS:
        raise ModelError(
            f"{node}: multiplies {len(orders)} factors; accepted: at most {_FACTORS}; use a "
            "smaller input"
        )
    return [x.moved(order, node.outputs[0]) for order in orders]


def _product(build: Builder, node: Node, parts: list[Tensor]) -> Tensor:
    number = 0
    while len(parts) > 1:
        left = []
        for a, b in zip(parts[::2], parts[1::2], strict=False):
            last = len(parts) == 2
            step = replace(node, op="Mul") if last else node.step(f"product_{number}", "Mul")
            left.append(pair(build, step, a, b))
            number += 1
        parts = left + parts[len(parts) & ~1 :]
    return parts[0]


def running_product(build: Builder, node: Node, x: Operand, axis: Operand) -> Tensor:
    """ONNX CumProd."""
    x = activation(x, node)
    along = axis_of(node, int(scalar(axis, node, "axis")), x.order.ndim)
    if along == 0:
        _check_lone(build, node)
    orders = np.split(x.order, x.order.shape[along], along)
    if node.get("reverse", 0):
        orders = orders[::-1]
    parts = _parts(node, x, orders)
    results: list[Operand] = [parts[0]]
    for number, part in enumerate(parts[1:], 1):
        before = results[-1]
        results.append(mul(build, node.step(f"product_{number}", "Mul"), before, part))
    if node.get("exclusive", 0):
        one = np.ones(orders[0].shape, np.float32)
        results = [Constant(node.name, one), *results[:-1]]
    if node.get("reverse", 0):
        results = results[::-1]
    joined = replace(node, op="Concat", attributes={"axis": along})
    return concat(build, joined, *results)


# -- index letters ---------------------------------------------------------------------------------


def einsum(build: Builder, node: Node, *operands: Operand) -> Tensor:
    """ONNX Einsum of one or two operands: diagonals are taken, letters of one operand alone are
    summed, then matrices multiplied.
    """
    _check_lone(build, node)
    terms, out = _letters(node, [elements(o).ndim for o in operands])
    if len(operands) > 2:
        raise ModelError(
            f"{node}: multiplies {len(operands)} operands; accepted: 1 or 2; split it in several"
        )
    parts = []
    for number, (operand, letters) in enumerate(zip(operands, terms, strict=True)):
        others = "".join([*terms[:number], *terms[number + 1 :], out])
        parts.append(_alone(build, node, operand, letters, others, number))
    if len(parts) == 1:
        (x, letters) = parts[0]
        assert isinstance(x, Tensor)
        return x.moved(x.order.transpose([letters.index(c) for c in out]), node.outputs[0])
    return _multiplied(build, node, parts, out)


def _letters(node: Node, ranks: list[int]) -> tuple[list[str], str]:
    """The letters of the axes of each operand, and of the result; those of an ellipsis are
    capital Greek ones.
    """
    text = str(node.get("equation", "")).replace(" ", "")
    left, arrow, right = text.partition("->")
    terms, extra = left.split(","), 0
    if len(terms) != len(ranks):
        raise ModelError(f"{node}: equation {text!r} for {len(ranks)} operands")
    found = []
    for term, rank in zip(terms, ranks, strict=True):
        missing = rank - len(term.replace("...", ""))
        extra = max(extra, missing)
        dots = "".join(chr(0x391 + n) for n in range(max(missing, 0)))[::-1]
        term = term.replace("...", dots)
        if len(term) != rank:
            raise ModelError(f"{node}: equation {text!r} for an operand of {rank} axes")
        found.append(term)
    dots = "".join(chr(0x391 + n) for n in range(extra))[::-1]
    if arrow:
        return found, right.replace("...", dots)
    joined = "".join(found)
    once = sorted(c for c in set(joined) if joined.count(c) == 1 and c < "\u0391")
    return found, dots + "".join(once)


def _alone(
    build: Builder, node: Node, operand: Operand, letters: str, others: str, number: int
) -> tuple[Operand, str]:
    """The operand with each letter once, and without those that nothing else has."""
    wanted = "".join(dict.fromkeys(letters))
    take = _Diagonal(letters, wanted)
    lone = tuple(n for n, c in enumerate(wanted) if c not in others)
    kept = "".join(c for c in wanted if c in others)
    if isinstance(operand, Constant):
        array = take(operand.real()).sum(axis=lone)
        return Constant(operand.name, array.astype(np.float32)), kept
    x = activation(operand, node)
    x = x.moved(take(x.order), node.outputs[0])
    if not lone:
        return x, kept
    step = node.step(f"sum_{number}") if others.strip() else node
    return reduced(build, step, x, lone, False, REDUCTIONS["ReduceSum"]), kept


class _Diagonal:
    """The elements of an array where axes of one letter have one index."""

    def __init__(self, letters: str, wanted: str) -> None:
        self.letters, self.wanted = letters, wanted

    def __call__(self, array: NDArray[Any]) -> NDArray[Any]:
        if self.letters == self.wanted:
            return array
        sizes = dict(zip(self.letters, array.shape, strict=True))
        grids = np.indices([sizes[c] for c in self.wanted])
        found: NDArray[Any] = array[tuple(grids[self.wanted.index(c)] for c in self.letters)]
        return found


def _multiplied(build: Builder, node: Node, parts: list[tuple[Operand, str]], out: str) -> Tensor:
    """Matrices [outer..., rows, inner] @ [outer..., inner, columns]."""
    (a, left), (b, right) = parts
    outer = [c for c in out if c in left and c in right]
    inner = [c for c in left if c in right and c not in out]
    rows, columns = ([c for c in term if c not in outer + inner] for term in (left, right))
    sizes: dict[str, int] = {}
    for operand, term in parts:
        shape = elements(operand).shape
        sizes |= {c: max(n, sizes.get(c, 1)) for c, n in zip(term, shape, strict=True)}

    def matrix(operand: Operand, term: str, first: list[str], second: list[str]) -> Operand:
        axes = [term.index(c) for c in (*outer, *first, *second)]
        shape = (1, *(sizes[c] for c in outer), prod(sizes[c] for c in first))
        shape = (*shape, prod(sizes[c] for c in second))
        if isinstance(operand, Constant):
            return Constant(operand.name, operand.real().transpose(axes).reshape(shape[1:]))
        assert isinstance(operand, Tensor)
        return operand.moved(operand.order.transpose(axes).reshape(shape), node.outputs[0])

    product = matmul(
        build,
        replace(node, op="MatMul"),
        matrix(a, left, rows, inner),
        matrix(b, right, inner, columns),
    )
    found = [*outer, *rows, *columns]
    order = product.order.reshape([sizes[c] for c in found])
    return replace(product, order=order.transpose([found.index(c) for c in out]))


# -- elements put into others ----------------------------------------------------------------------


def triangle(build: Builder, node: Node, x: Operand, k: Operand = None) -> Tensor:
    """ONNX Trilu: the elements on one side of a diagonal, 0 elsewhere."""
    x = activation(x, node)
    diagonal = 0 if k is None else int(scalar(k, node, "diagonal"))
    if x.order.ndim < 3:
        _check_lone(build, node)
    rows, columns = x.order.shape[-2:]
    place = np.arange(columns) - np.arange(rows)[:, None]
    inside = place >= diagonal if node.get("upper", 1) else place <= diagonal
    if x.fill not in (None, 0.0):
        x = build.natural(x, node)
    return replace(x.moved(np.where(inside, x.order, -1), node.outputs[0]), fill=0.0)


def scatter(
    build: Builder, node: Node, data: Operand, indices: Operand, updates: Operand
) -> Tensor:
    """ONNX ScatterElements and ScatterND at constant indices: elements of ``data``, or of
    ``updates`` in their places, one of which may be constant; with a reduction of sums or products
    both.
    """
    _check_lone(build, node)
    node = _current(node)
    where = constant(indices, node, "indices").array
    kind = node.get("reduction", "none")
    if kind == "none":
        joined, orders = _beside(build, node, data, updates)
        (order,) = reference(node, [orders[0], where, orders[1]])
        return replace(joined, order=order)
    if kind not in ("add", "mul"):
        raise ModelError(f"{node}: its reduction is {kind}; accepted: none, add, mul")
    x, new = activation(data, node), activation(updates, node)
    flat = np.arange(new.order.size).reshape(new.order.shape)
    (found,) = reference(_plain(node), [np.full(x.order.shape, -1, np.int64), where, flat])
    if np.unique(found[found >= 0]).size != new.order.size:
        raise ModelError(
            f"{node}: puts several elements into one place; accepted: a place for each"
        )
    put = np.where(found < 0, -1, new.order.reshape(-1)[found])
    spread = replace(new.moved(put, node.outputs[0]), fill=0.0 if kind == "add" else 1.0)
    spread = build.natural(spread, node)
    return pair(build, replace(node, op="Add" if kind == "add" else "Mul"), x, spread)


def _current(node: Node) -> Node:
    """Scatter, of opsets below 11, as ScatterElements, which it became."""
    if node.op != "Scatter":
        return node
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    proto.op_type = "ScatterElements"
    return replace(node, proto=proto, opset=11)


def _plain(node: Node) -> Node:
    """The node without its reduction."""
    proto = onnx.NodeProto()
    proto.CopyFrom(node.proto)
    kept = [attribute for attribute in node.proto.attribute if attribute.name != "reduction"]
    del proto.attribute[:]
    proto.attribute.extend(kept)
    return replace(node, proto=proto)


def _beside(
    build: Builder, node: Node, *operands: Operand
) -> tuple[Tensor, list[NDArray[np.int64]]]:
    """A stream of the elements of all operands, constants too, and the labels of each."""
    shapes = [elements(operand).shape for operand in operands]
    flat = [_flat(operand) for operand in operands]
    joined = concat(build, node.step("joined", "Concat", axis=1), *flat)
    ends = np.cumsum([prod(shape) for shape in shapes])[:-1]
    parts = np.split(joined.order.reshape(-1), ends)
    return joined, [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _flat(x: Operand) -> Operand:
    """All elements on the second axis."""
    if isinstance(x, Tensor):
        return replace(x, order=x.order.reshape(1, -1))
    assert x is not None
    return replace(x, array=x.array.reshape(1, -1))


HANDLERS: dict[str, Handler] = {
    "OneHot": Handler(one_hot),
    "ReduceProd": Handler(reduce_product),
    "CumProd": Handler(running_product, rereads=True),
    "Einsum": Handler(einsum),
    "Trilu": Handler(triangle),
    "ScatterElements": Handler(scatter),
    "ScatterND": Handler(scatter),
    "Scatter": Handler(scatter),
}

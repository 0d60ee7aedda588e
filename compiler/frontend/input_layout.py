"""In which order each input streams in."""

from collections.abc import Callable, Mapping, Set

import numpy as np
from numpy.typing import NDArray

from .. import ir
from .operands import Operand
from .registry import HANDLERS
from .resize import interpolates
from .shapes import moved
from .source import Node, Source
from .tensors import Constant, Tensor, frame, raster

__all__ = ["input_layouts"]

Fold = Callable[[Node, list[Operand]], list[Constant]]


def input_layouts(
    source: Source, fold: Fold, unknown: Set[str] = frozenset()
) -> list[tuple[NDArray[np.int64], ir.Shape]]:
    """Each input's stream order (model index of each element) and map.

    The labels of the model's layout are pushed through the nodes that only move elements, up to the
    first operator that wants a layout, or takes a part; that layout is the stream. Nothing is known
    of the tensors in ``unknown``.
    """
    batch = source.batch
    inputs = {
        port.name: raster(port.shape or (), batch).reshape(port.dims(batch))
        for port in source.inputs
    }
    #: a state without a batch is a vector as it is: its first axis is of parts, one after the
    #: other; a sequence has a row a step
    found = {
        port.name: _in_sequence(inputs[port.name], 1 if source.states else len(inputs[port.name]))
        for port in source.inputs
        if not port.batched
    }
    #: of each tensor the labels of the inputs that it has in an arrangement of its own
    labels = {name: {name: order} for name, order in inputs.items()}
    latest = dict(inputs)
    known: dict[str, Constant] = {
        name: Constant.of(name, array) for name, array in source.constants.items()
    }
    beyond = set(unknown)  # tensors behind an operator that wants a layout
    for node in source.nodes:
        arrangements = [labels[name] for name in node.inputs if name in labels]
        if not arrangements and not beyond.isdisjoint(node.inputs):
            beyond.update(node.outputs)
            continue
        if not arrangements or node.op in ("Shape", "Size"):
            operands: list[Operand] = [
                Tensor("", next(iter(labels[name].values())), "")
                if name in labels
                else known.get(name)
                for name in node.inputs
            ]
            known.update(zip(node.outputs, fold(node, operands), strict=False))
            continue
        orders = {name: order for each in reversed(arrangements) for name, order in each.items()}
        latest |= orders
        handler = HANDLERS.get(node.op)
        if handler is None:  # no hardware reads it, so any layout does
            for name in orders.keys() - found.keys():
                labels_of = frame(orders[name], orders[name].size // batch, batch, node)
                found[name] = labels_of.reshape(-1), ir.Shape(1, 1, labels_of.size)
            beyond.update(node.outputs)
            continue
        whole = _moved(node, orders, known) if handler.moves and node.inputs[0] in labels else None
        if whole is not None and beyond.isdisjoint(node.inputs):
            labels[node.outputs[0]] = whole
            latest |= whole
        elif handler.elementwise:
            most = max(order.size for order in orders.values())
            fixed = not beyond.isdisjoint(node.inputs)  # another operand has its layout already
            for name in orders.keys() - found.keys():
                if fixed or orders[name].size < most:  # it is broadcast
                    found[name] = _layout(
                        None, frame(orders[name], orders[name].size // batch, batch, node)
                    )
            if fixed:
                beyond.update(node.outputs)
            else:
                labels[node.outputs[0]] = {
                    n: order for n, order in orders.items() if order.size == most
                }
        else:
            for name in orders.keys() - found.keys():
                order = orders[name]
                if handler.moves and order.ndim > 4:  # it takes a part, of any arrangement
                    order = inputs[name]
                found[name] = _layout(node, frame(order, order.size // batch, batch, node))
            beyond.update(node.outputs)
        if len(found) == len(inputs):
            break
    outputs = ", ".join(port.name for port in source.outputs)
    for name in inputs.keys() - found.keys():
        found[name] = _layout(None, frame(latest[name], latest[name].size // batch, batch, outputs))
    return [found[name] for name in inputs]


def _moved(
    node: Node, orders: Mapping[str, NDArray[np.int64]], known: Mapping[str, Constant]
) -> dict[str, NDArray[np.int64]] | None:
    """The labels after a node that moves all elements; None after one that does not."""
    if interpolates(node):
        return None
    operands = [known.get(name) for name in node.inputs[1:]]
    found = {}
    for name, order in orders.items():
        results = moved(node, order, operands)
        if len(results) > 1 or not np.array_equal(np.sort(results[0], None), np.sort(order, None)):
            return None
        found[name] = results[0]
    return found


def _layout(node: Node | None, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], ir.Shape]:
    """Stream order and map for ``node``, which reads a tensor of first frame ``labels``."""
    last = node is not None and (node.op in ("MatMul", "Gemm") or _reduces_rows(node, labels.ndim))
    if labels.ndim == 3:
        labels = labels if last else labels.transpose(1, 2, 0)
        return labels.reshape(-1), ir.Shape(*labels.shape)
    if labels.ndim == 2:
        labels = labels if last else labels.T
        return labels.reshape(-1), ir.Shape(labels.shape[0], 1, labels.shape[1])
    return labels.reshape(-1), ir.Shape(1, 1, labels.size)


def _in_sequence(labels: NDArray[np.int64], rows: int) -> tuple[NDArray[np.int64], ir.Shape]:
    """The stream of a tensor as it is, in so many rows."""
    return labels.reshape(-1), ir.Shape(rows, 1, labels.size // rows)


def _reduces_rows(node: Node, rank: int) -> bool:
    """Whether a reduction starts at the first axis after the batch, so that channels come last."""
    axes = node.get("axes", None)
    return (
        node.op in ("ReduceMean", "ReduceMax")
        and rank > 1
        and axes is not None
        and 1 in [axis % (rank + 1) for axis in axes]
    )

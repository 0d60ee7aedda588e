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

#: model indices, in the shape of a tensor
Order = NDArray[np.int64]
Fold = Callable[[Node, list[Operand]], list[Constant]]


def input_layouts(
    source: Source, fold: Fold, unknown: Set[str] = frozenset()
) -> list[tuple[Order, ir.Shape]]:
    """Each input's stream order (model index of each element) and map.

    The labels of the model's layout are pushed through the nodes that only move elements, up to the
    first operator that wants a layout, or takes a part; that layout is the stream. Nothing is known
    of the tensors in ``unknown``.
    """
    walk = _Walk(source, fold, unknown)
    for node in source.nodes:
        walk.step(node)
        if len(walk.found) == len(walk.inputs):
            break
    walk.finish(", ".join(port.name for port in source.outputs))
    return [walk.found[name] for name in walk.inputs]


class _Walk:
    """The labels of the inputs on their way through the nodes.

    ``inputs``: the labels of each input; ``found``: the layouts that are settled.
    """

    def __init__(self, source: Source, fold: Fold, unknown: Set[str]) -> None:
        self._fold, self._batch = fold, source.batch
        self.inputs: dict[str, Order] = {
            port.name: raster(port.shape or (), self._batch).reshape(port.dims(self._batch))
            for port in source.inputs
        }
        #: a state without a batch is a vector as it is: its first axis is of parts, one after the
        #: other; a sequence has a row a step
        self.found = {
            port.name: _in_sequence(
                self.inputs[port.name], 1 if source.states else len(self.inputs[port.name])
            )
            for port in source.inputs
            if not port.batched
        }
        #: of each tensor the labels of the inputs that it has in an arrangement of its own
        self._labels = {name: {name: order} for name, order in self.inputs.items()}
        self._latest = dict(self.inputs)
        self._known: dict[str, Constant] = {
            name: Constant.of(name, array) for name, array in source.constants.items()
        }
        self._beyond = set(unknown)  # tensors behind an operator that wants a layout

    def step(self, node: Node) -> None:
        """Push the labels through ``node``, or settle the layouts that it wants."""
        arrangements = [self._labels[name] for name in node.inputs if name in self._labels]
        if not arrangements and self._is_fixed(node):
            self._beyond.update(node.outputs)
        elif not arrangements or node.op in ("Shape", "Size"):
            operands: list[Operand] = [
                Tensor("", next(iter(self._labels[name].values())), "")
                if name in self._labels
                else self._known.get(name)
                for name in node.inputs
            ]
            self._known.update(zip(node.outputs, self._fold(node, operands), strict=False))
        else:
            orders = {name: order for one in reversed(arrangements) for name, order in one.items()}
            self._latest |= orders
            self._read(node, orders)

    def finish(self, outputs: str) -> None:
        """Settle the inputs that no operator wants in a layout; ``outputs`` names their readers."""
        for name in self.inputs.keys() - self.found.keys():
            self._settle(name, None, self._latest[name], outputs)

    def _read(self, node: Node, orders: Mapping[str, Order]) -> None:
        handler = HANDLERS.get(node.op)
        if handler is None:  # no hardware reads it, so any layout does
            for name in orders.keys() - self.found.keys():
                labels = self._frame(orders[name], node).reshape(-1)
                self.found[name] = labels, ir.Shape(1, 1, labels.size)
            self._beyond.update(node.outputs)
            return
        others = all(name in self._known for name in node.inputs[1:] if name)
        moves = handler.moves and others and node.inputs[0] in self._labels
        whole = _moved(node, orders, self._known) if moves else None
        if whole is not None and not self._is_fixed(node):
            self._labels[node.outputs[0]] = whole
            self._latest |= whole
        elif handler.elementwise:
            self._combine(node, orders)
        else:
            for name in orders.keys() - self.found.keys():
                # a part of more axes is taken of any arrangement
                part = handler.moves and orders[name].ndim > 4
                self._settle(name, node, self.inputs[name] if part else orders[name], node)
            self._beyond.update(node.outputs)

    def _combine(self, node: Node, orders: Mapping[str, Order]) -> None:
        """Elementwise operands: those that are broadcast are settled, the others keep their labels,
        unless another operand has its layout already.
        """
        most, fixed = max(order.size for order in orders.values()), self._is_fixed(node)
        for name in orders.keys() - self.found.keys():
            if fixed or orders[name].size < most:
                self._settle(name, None, orders[name], node)
        if fixed:
            self._beyond.update(node.outputs)
        else:
            whole = {name: order for name, order in orders.items() if order.size == most}
            self._labels[node.outputs[0]] = whole

    def _is_fixed(self, node: Node) -> bool:
        """Whether an operand of ``node`` is behind an operator that wants a layout."""
        return not self._beyond.isdisjoint(node.inputs)

    def _settle(self, name: str, node: Node | None, order: Order, reader: object) -> None:
        """The layout of an input: as ``node`` wants it of the labels ``order``."""
        self.found[name] = _layout(node, self._frame(order, reader))

    def _frame(self, order: Order, reader: object) -> Order:
        return frame(order, order.size // self._batch, self._batch, reader)


def _moved(
    node: Node, orders: Mapping[str, Order], known: Mapping[str, Constant]
) -> dict[str, Order] | None:
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


def _layout(node: Node | None, labels: Order) -> tuple[Order, ir.Shape]:
    """Stream order and map for ``node``, which reads a tensor of first frame ``labels``."""
    last = node is not None and (node.op in ("MatMul", "Gemm") or _reduces_rows(node, labels.ndim))
    if labels.ndim == 3:
        labels = labels if last else labels.transpose(1, 2, 0)
        return labels.reshape(-1), ir.Shape(*labels.shape)
    if labels.ndim == 2:
        labels = labels if last else labels.T
        return labels.reshape(-1), ir.Shape(labels.shape[0], 1, labels.shape[1])
    return labels.reshape(-1), ir.Shape(1, 1, labels.size)


def _in_sequence(labels: Order, rows: int) -> tuple[Order, ir.Shape]:
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

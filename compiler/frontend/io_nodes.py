"""From the model's own layout to NCHW and back, and the host's tail, as ONNX nodes."""

from functools import singledispatch
from itertools import permutations
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import ir
from .element_types import element_type, narrow
from .nodes import Nodes

__all__ = ["arranged", "enter", "leave", "row_major"]

Indices = NDArray[np.integer[Any]]


def row_major(shape: ir.Shape) -> bool:
    """Whether NCHW and stream order are the same."""
    return shape.channels == 1 or shape.pixels == 1


def enter(nodes: Nodes, port: ir.InputPort) -> None:
    """The model's input, quantized, then arranged as [batch, channels, rows, columns].

    Integers that ONNX Runtime does not move are arranged behind DequantizeLinear.
    """
    shape = nodes.graph.shape(port.value)
    if port.dtype == "float32":
        nodes.quantize(port.value, port.name)
    order = port.order.reshape(shape.array).transpose(2, 0, 1).reshape(-1)
    target = (shape.channels, shape.height, shape.width)
    moves = nodes.held(port.value).moves
    tensor = nodes.names[port.value] if moves else nodes.real(port.value)
    if not port.batched:
        tensor = nodes.whole(tensor, (1, *port.shape), f"{port.name}/batch")
    tensor = arranged(nodes, tensor, port.shape, order, target, port.name)
    if moves:
        nodes.names[port.value] = tensor
    else:
        nodes.keep_real(port.value, tensor)


def leave(nodes: Nodes, port: ir.OutputPort) -> None:
    """The last value in the model's layout, then the tail; the last tensor has the port's name.

    Integers that ONNX Runtime does not move are arranged behind DequantizeLinear, and those of a
    narrow output are rounded last of all.
    """
    shape = nodes.graph.shape(port.value)
    source = (shape.channels, shape.height, shape.width)
    place = np.arange(shape.size).reshape(source).transpose(1, 2, 0).reshape(-1)
    quant, tail = nodes.graph.quant(port.value), port.tail
    moves = nodes.held(port.value).moves
    tensor = nodes.names[port.value] if moves else nodes.real(port.value)
    tensor = arranged(nodes, tensor, source, place[port.order], port.tail_shape, port.name)
    if not moves and tail[:1] == (ir.Dequantize(quant),):
        tail = tail[1:]
    elif not moves:
        tensor = nodes.round(quant, tensor, f"{port.name}/quantize")
    leaving = narrow(port)
    if leaving is not None:
        tail = tail[:-1] if tail else (ir.Dequantize(quant),)
    for number, step in enumerate(tail):
        tensor = _step(step, nodes, tensor, f"{port.name}/tail{number}")
    if leaving is not None:
        (*_, last) = (quant, *(step.quant for step in port.tail if isinstance(step, ir.Quantize)))
        tensor = nodes.round(last, tensor, f"{port.name}/narrow", stored=leaving)
    if any(isinstance(step, ir.HostArgMax) for step in port.tail) and port.dtype != "int64":
        to = element_type(port.dtype)
        tensor = nodes.add("Cast", [tensor], f"{port.name}/cast", to=to)
    if not port.batched:
        tensor = nodes.whole(tensor, port.shape, f"{port.name}/without_batch")
    _rename(nodes, tensor, port.name)


def _rename(nodes: Nodes, tensor: str, name: str) -> None:
    """Let the last node compute ``name``; a copy where ``tensor`` is needed too."""
    if nodes.needed(tensor) or tensor not in nodes.nodes[-1].output:
        nodes.add("Identity", [tensor], f"{name}/copy", name)
    else:
        nodes.nodes[-1].output[0] = name


def arranged(
    nodes: Nodes,
    tensor: str,
    source: tuple[int, ...],
    order: Indices,
    target: tuple[int, ...],
    name: str,
) -> str:
    """``tensor`` of shape ``source``, its elements taken in ``order``, under shape ``target``."""
    labels = np.arange(prod(source)).reshape(source)
    if np.array_equal(order, labels.reshape(-1)):
        return tensor if source == target else nodes.reshape(tensor, target, f"{name}/reshape")
    picked = _picked(order.reshape(target), source)
    if picked is not None:
        return _taken(nodes, tensor, source, picked, name)
    for perm in permutations(range(len(source))) if len(source) <= 4 else ():
        if np.array_equal(order, labels.transpose(perm).reshape(-1)):
            axes = [0, *(axis + 1 for axis in perm)]
            tensor = nodes.add("Transpose", [tensor], f"{name}/transpose", perm=axes)
            moved = tuple(source[axis] for axis in perm)
            return tensor if moved == target else nodes.reshape(tensor, target, f"{name}/reshape")
    flat = tensor
    if len(source) > 1:
        flat = nodes.add("Flatten", [tensor], f"{name}/flatten", axis=1)
    which = nodes.constant(f"{name}/order", order.astype(np.int64))
    taken = nodes.add("Gather", [flat, which], f"{name}/gather", axis=1)
    return nodes.reshape(taken, target, f"{name}/reshape")


def _picked(order: Indices, source: tuple[int, ...]) -> list[Indices] | None:
    """The indices taken along each axis of ``source``; None when they depend on each other."""
    if order.ndim != len(source):
        return None
    places = np.unravel_index(order, source)
    axes = []
    for axis, place in enumerate(places):
        along: Indices = np.moveaxis(place, axis, 0).reshape(order.shape[axis], -1)[:, 0]
        if not (np.moveaxis(place, axis, -1) == along).all():
            return None
        axes.append(along)
    return axes


def _taken(
    nodes: Nodes, tensor: str, source: tuple[int, ...], picked: list[Indices], name: str
) -> str:
    """Slice along the axes of which a range is taken, Gather along others."""
    ranges: list[tuple[int, int, int, int]] = []
    for axis, (size, index) in enumerate(zip(source, picked, strict=True), 1):
        steps = np.unique(np.diff(index)) if index.size > 1 else np.ones(1, np.int64)
        if np.array_equal(index, np.arange(size)):
            continue
        if steps.size == 1 and steps[0] > 0:
            ranges.append((axis, int(index[0]), int(index[-1]) + 1, int(steps[0])))
        else:
            which = nodes.constant(f"{name}/indices", index.astype(np.int64))
            tensor = nodes.add("Gather", [tensor, which], f"{name}/gather_{axis}", axis=axis)
    if not ranges:
        return tensor
    axes, starts, ends, steps = (np.array(column, np.int64) for column in zip(*ranges, strict=True))
    bounds = [
        nodes.constant(f"{name}/{part}", column)
        for part, column in (("starts", starts), ("ends", ends), ("axes", axes), ("steps", steps))
    ]
    return nodes.add("Slice", [tensor, *bounds], f"{name}/slice")


@singledispatch
def _step(step: ir.HostOp, nodes: Nodes, tensor: str, name: str) -> str:
    """Append the node of one step of the tail."""
    raise NotImplementedError(f"no ONNX form for {type(step).__name__}")


@_step.register
def _(step: ir.Dequantize, nodes: Nodes, tensor: str, name: str) -> str:
    return nodes.add("DequantizeLinear", [tensor, *nodes.quant(step.quant)], name)


@_step.register
def _(step: ir.Quantize, nodes: Nodes, tensor: str, name: str) -> str:
    return nodes.round(step.quant, tensor, name)


@_step.register
def _(step: ir.OverClasses, nodes: Nodes, tensor: str, name: str) -> str:
    return nodes.add(type(step).__name__, [tensor], name, axis=step.axis)


@_step.register
def _(step: ir.HostArgMax, nodes: Nodes, tensor: str, name: str) -> str:
    last: dict[str, Any] = {"select_last_index": 1} if step.last else {}
    kind = "ArgMin" if step.lowest else "ArgMax"
    return nodes.add(kind, [tensor], name, axis=step.axis, keepdims=int(step.keepdims), **last)

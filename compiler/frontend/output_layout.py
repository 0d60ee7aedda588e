"""What the host does with the network's output, and in which order that leaves the hardware."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .masks import MASKED
from .normalizations import softmax_inside
from .operands import Handler, Operand, axis_of
from .selections import hardmax_inside, places
from .source import ModelPort, Node
from .tensors import Tensor, frame

__all__ = ["HANDLERS", "output_port"]


CLASSWISE: dict[str, type[ir.OverClasses]] = {
    "Softmax": ir.Softmax,
    "LogSoftmax": ir.LogSoftmax,
    "Hardmax": ir.Hardmax,
}

#: those that have hardware; whether the logarithm is wanted
INSIDE = {"Softmax": False, "LogSoftmax": True}


def over_classes(build: Builder, node: Node, x: Operand) -> Tensor:
    """A node of :data:`CLASSWISE` as the host's step, or where others than the host read it in
    hardware; before opset 13 over all axes from ``axis`` on. A mask is the hardware's.
    """
    masked = False
    if isinstance(x, Tensor) and x.fill is not None:
        masked = node.op == "Softmax" and x.fill <= MASKED
        x = x if masked else build.natural(x, node)
    x = _leaving(build, node, x)
    rank = x.order.ndim
    axis = axis_of(node, int(node.get("axis", -1 if node.opset >= 13 else 1)), rank)
    axes = (axis,) if node.opset >= 13 else tuple(range(axis, rank))
    inside = node.outputs[0] not in build.leaving or not build.ops
    if masked or (inside and node.op in INSIDE):
        return softmax_inside(build, node, replace(x, tail=()), axes, INSIDE[node.op])
    lone = build.lone and not build.ops and not x.tail and len(axes) == 1
    if node.op == "Hardmax" and lone:
        return hardmax_inside(build, node, x, axis)
    if x.source is not None or x.groups is not None or 0 in axes:
        raise ModelError(
            f"{node}: is over the batch, or the second on this output; accepted: one "
            f"{' or '.join(CLASSWISE)} over classes"
        )
    kept = [1 if i in axes else n for i, n in enumerate(x.order.shape)]
    ids = np.broadcast_to(np.arange(np.prod(kept)).reshape(kept), x.order.shape)
    groups = np.zeros(int(x.order.max(initial=0)) + 1, np.int64)
    groups[x.order.reshape(-1)] = ids.reshape(-1)
    step = CLASSWISE[node.op]()
    return replace(x.moved(x.order, node.outputs[0]), tail=(*x.tail, step), groups=groups)


def arg_max(build: Builder, node: Node, x: Operand) -> Tensor:
    """ArgMax or ArgMin as the host's step."""
    x = _leaving(build, node, x)
    axis = axis_of(node, int(node.get("axis", 0)), x.order.ndim)
    lowest, last = node.op == "ArgMin", bool(node.get("select_last_index", 0))
    inside = node.outputs[0] not in build.leaving or not build.ops or axis == 0
    if inside and (axis or build.lone) and x.source is None and len(x.tail) < 2 and x.real:
        found = places(build, node, replace(x, tail=()), axis, lowest, last)
        kept = bool(node.get("keepdims", 1))
        return found if kept else replace(found, order=found.order.squeeze(axis))
    if axis == 0 or x.source is not None:
        raise ModelError(
            f"{node}: is over the batch, or the second one; accepted: one ArgMax or ArgMin over "
            "classes"
        )
    step = ir.HostArgMax(
        axis - x.order.ndim,
        bool(node.get("keepdims", 1)),
        lowest,
        last,
    )
    shape = np.min(x.order, axis=axis, keepdims=step.keepdims).shape
    labels = np.arange(int(np.prod(shape))).reshape(shape)
    return replace(x, order=labels, source=x.order, tail=(*x.tail, step), label=node.outputs[0])


def _leaving(build: Builder, node: Node, x: Operand) -> Tensor:
    """The tensor with its tail begun: a DequantizeLinear on the way is the host's first step."""
    if not isinstance(x, Tensor):
        raise ModelError(f"{node}: computes on a constant; accepted: the network's last tensor")
    if x.tail:
        return x
    quant = build.rounded(x)
    return replace(x, tail=(ir.Dequantize(quant),)) if quant else x


def output_port(build: Builder, port: ModelPort, x: Tensor, value: str) -> ir.OutputPort:
    """The port of the model's output that ``x`` leaves as."""
    if x.whole and x.real and not x.tail:
        port = replace(port, dtype="float32")
    order, tail = _before_argmax(x)
    size = build.shape(x).size
    results = size if x.source is None else _indices(x) // build.batch
    quant = build.rounded(x)
    if not tail and quant:
        tail = (ir.Dequantize(quant),)
    if x.real and build.quant(x.handle) and not isinstance(next(iter(tail), None), ir.Dequantize):
        raise ModelError(
            f"{port.name}: this output is read before QuantizeLinear rounds it for other readers; "
            "accepted: outputs after DequantizeLinear; insert QuantizeLinear and DequantizeLinear "
            "before it"
        )
    tail = tuple(_resolved(step, x, order, port.name) for step in tail)
    _check_type(build, port, x)
    return ir.OutputPort(
        port.name,
        frame(x.order, results, build.batch, port.name).shape,
        port.dtype,
        value,
        frame(order, size, build.batch, port.name).reshape(-1),
        tail,
    )


def _indices(x: Tensor) -> int:
    """The indices that an ArgMax gives."""
    (step,) = (step for step in x.tail if isinstance(step, ir.HostArgMax))
    assert x.source is not None
    return x.source.size // int(x.source.shape[step.axis])


def _before_argmax(x: Tensor) -> tuple[NDArray[np.int64], tuple[ir.HostOp, ...]]:
    """The arrangement in which the tail starts, and the tail, such that its result is arranged as
    ``x`` is.

    Where the result of an ArgMax was rearranged, its classes become the last axis.
    """
    if x.source is None:
        return x.order, x.tail
    (step,) = (step for step in x.tail if isinstance(step, ir.HostArgMax))
    plain = np.array_equal(x.order.reshape(-1), np.arange(x.order.size))
    for keepdims in (True, False):
        shape = np.min(x.source, axis=step.axis, keepdims=keepdims).shape
        if plain and shape == x.order.shape:
            own = replace(step, keepdims=keepdims)
            return x.source, tuple(own if one is step else one for one in x.tail)
    classes = np.moveaxis(x.source, step.axis, -1)
    order = classes.reshape(-1, classes.shape[-1])[x.order]
    last = replace(step, axis=-1, keepdims=False)
    return order, tuple(last if one is step else one for one in x.tail)


def _check_type(build: Builder, port: ModelPort, x: Tensor) -> None:
    """Refuse a declared type that is not the one that the nodes compute."""
    if any(isinstance(step, ir.HostArgMax) for step in x.tail):
        return
    declared = ir.Int.named(port.dtype)
    found = None if x.real else _integer(build, x)
    # Integers that were clipped to fewer bits are stored in a wider type.
    if (declared is None) != (found is None) or (
        declared and found and not declared.low <= found.low <= found.high <= declared.high
    ):
        raise ModelError(
            f"{port.name}: the output is declared as {port.dtype}, but the "
            f"network computes {found.name if found else 'float32'}; accepted: the same type; "
            "check the model with onnx.checker(full_check=True)"
        )


def _integer(build: Builder, x: Tensor) -> ir.Int | None:
    last = x.tail[-1] if x.tail else None
    return last.quant.dtype if isinstance(last, ir.Quantize) else build.integer(x.handle)


def _resolved(step: ir.HostOp, x: Tensor, order: NDArray[np.int64], name: str) -> ir.HostOp:
    """A function of all classes with its axis in the final arrangement."""
    if not isinstance(step, ir.OverClasses):
        return step
    groups = x.groups[order] if x.groups is not None else order
    size = order.size // np.unique(groups).size
    for axis in range(1, order.ndim):
        if order.shape[axis] == size and (groups.min(axis=axis) == groups.max(axis=axis)).all():
            return replace(step, axis=axis - order.ndim)
    raise ModelError(
        f"{name}: is reshaped after {type(step).__name__} so that the classes are on no axis of "
        "their own; accepted: reshapes that keep the class axis"
    )


HANDLERS: dict[str, Handler] = {
    **{name: Handler(over_classes, on_host=True, masks=True) for name in CLASSWISE},
    "ArgMax": Handler(arg_max, on_host=True),
    "ArgMin": Handler(arg_max, on_host=True),
}

"""What the handlers of ONNX nodes share: the operand types, and checks on them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Concatenate

import numpy as np
from numpy.typing import NDArray

from .. import ir, limits
from ..errors import ModelError
from .builder import Builder
from .source import Node
from .tensors import Constant, Tensor, bounded

__all__ = [
    "Handler",
    "Operand",
    "activation",
    "axis_of",
    "bounded",
    "constant",
    "finite",
    "integers",
    "listed",
    "optional",
    "overflow",
    "padding",
    "scalar",
    "slid",
    "windowed",
]

AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")

Operand = Tensor | Constant | None


@dataclass(frozen=True)
class Handler:
    """How the nodes of an ONNX operator are read: ``build`` gives a node's output, or a list of
    several.

    ``elementwise``: the output is arranged as the first activation is. ``moves``: the node only
    takes elements of its first input as they are. ``on_host``: it may follow a Softmax or an
    ArgMax. ``masks``: it takes the padding of its first input as a mask. ``rereads``: it computes
    some elements of its output from others.
    """

    build: Callable[
        Concatenate[Builder, Node, ...], Tensor | list[Tensor] | list[Tensor | Constant]
    ]
    elementwise: bool = False
    moves: bool = False
    on_host: bool = False
    masks: bool = False
    rereads: bool = False


def constant(operand: Operand, node: Node, what: str) -> Constant:
    """``operand`` as a constant of numbers, or a ModelError that says which one must be."""
    if not isinstance(operand, Constant):
        found = "is missing" if operand is None else "is computed at run time"
        raise ModelError(
            f"{node}: its {what} {found}; accepted: a constant {what}; run onnxsim, or export "
            "the network in evaluation mode"
        )
    return operand


def integers(operand: Operand, node: Node, what: str) -> list[int]:
    """The elements of a constant list of integers: axes, pads and the like."""
    found = constant(operand, node, what)
    if found.scale is not None or found.array.dtype.kind not in "iu" or found.array.ndim > 1:
        raise ModelError(
            f"{node}: its {what} is of type {found.array.dtype} and shape "
            f"{list(found.array.shape)}; accepted: a list of integers"
        )
    return [int(n) for n in found.array.reshape(-1)]


def scalar(operand: Operand, node: Node, what: str) -> float:
    """The only element of a constant, as a real number."""
    found = constant(operand, node, what).real()
    if found.size != 1:
        raise ModelError(f"{node}: its {what} has {found.size} elements; accepted: one number")
    return float(found.reshape(-1)[0])


def axis_of(node: Node, axis: int, rank: int) -> int:
    """``axis`` of a tensor of ``rank`` axes, counted from the first one."""
    if not -rank <= axis < rank:
        raise ModelError(
            f"{node}: axis {axis} of a tensor of {rank} axes; accepted: an axis that it has; "
            "check the model with onnx.checker"
        )
    return axis % rank


def activation(operand: Operand, node: Node) -> Tensor:
    """``operand`` as a tensor of real numbers, or a ModelError."""
    if not isinstance(operand, Tensor):
        raise ModelError(
            f"{node}: its first input is a constant; accepted: a tensor that depends on the "
            "network's input"
        )
    if not operand.real:
        raise ModelError(
            f"{node}: computes on the integers of QuantizeLinear; accepted: DequantizeLinear "
            "before the node; export the network in QDQ format"
        )
    return operand


def settled(build: Builder, node: Node, x: Operand) -> Operand:
    """The operand with its padding among its elements."""
    if not isinstance(x, Tensor) or x.fill is None:
        return x
    if not build.fills(x):
        raise ModelError(
            f"{node}: reads {x.fill:g} between values of {build.rounded(x)}, which do not hold it; "
            "accepted: one of their levels; put QuantizeLinear and DequantizeLinear before the node"
        )
    return build.natural(x, node)


def optional(operand: Operand, default: float, node: Node, what: str) -> float:
    """A scalar operand that may be absent."""
    return default if operand is None else scalar(operand, node, what)


def finite(value: NDArray[Any], what: str, node: Node) -> NDArray[Any]:
    """``value``, or a ModelError that says ``what`` it is when it holds NaN or infinity."""
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        count = int((~np.isfinite(value)).sum())
        raise ModelError(
            f"{node}: {what} holds {count} NaN or infinite number"
            f"{'s' if count > 1 else ''}; accepted: finite weights; train or export it again"
        )
    return value


def overflow(what: str, operands: Sequence[Constant | None], result: NDArray[Any]) -> str:
    """What made the NaN or infinity in a constant ``result``: ``what`` was computed of the
    operands, or something before it; empty where there is none, or where an initializer had it.
    """
    before = [operand for operand in operands if operand is not None]
    if result.dtype.kind != "f" or np.isfinite(result).all():
        return ""
    if lost := next((operand.overflowed for operand in before if operand.overflowed), ""):
        return lost
    held = (part for x in before for part in (x.array, x.scale) if part is not None)
    finite_before = all(np.isfinite(part).all() for part in held if part.dtype.kind == "f")
    return what if finite_before else ""


def padding(node: Node, rank: int) -> tuple[str, tuple[int, ...]]:
    """The attributes auto_pad and pads, of which one is given."""
    mode: str = node.get("auto_pad", "NOTSET")
    if mode not in AUTO_PADS:
        raise ModelError(f"{node}: auto_pad is {mode!r}; accepted: {', '.join(AUTO_PADS)}")
    pads = listed(node, "pads", (0,) * 2 * rank, 2 * rank, 0)
    if mode != "NOTSET" and any(pads):
        raise ModelError(
            f"{node}: has pads {list(pads)} and auto_pad {mode}; accepted: one of them"
        )
    return mode, pads


def windowed(node: Node, shape: ir.Shape, kernel: tuple[int, ...], rank: int) -> ir.Window:
    """The window of a Conv or pool node over ``shape``, the map of ``rank`` axes; in one
    dimension it slides over rows.
    """
    if len(kernel) != rank:
        raise ModelError(
            f"{node}: has a {len(kernel)}-dimensional kernel over a map of {rank} dimensions; "
            "accepted: as many dimensions as the map"
        )
    mode, pads = padding(node, rank)
    kernel = listed(node, "kernel_shape", kernel, rank, 1)
    stride = listed(node, "strides", (1,) * rank, rank, 1)
    dilation = listed(node, "dilations", (1,) * rank, rank, 1)
    if rank == 1:
        kernel, stride, dilation = (*kernel, 1), (*stride, 1), (*dilation, 1)
        pads = (pads[0], 0, pads[1], 0)
    window = ir.Window(_two(kernel), _two(stride), _two(dilation), _four(pads))
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return _same(window, shape, mode == "SAME_UPPER")
    return _ceiled(window, shape) if node.get("ceil_mode", 0) else window


def listed(
    node: Node, name: str, default: tuple[int, ...], count: int, least: int
) -> tuple[int, ...]:
    """An attribute of ``count`` integers from ``least`` to ``limits.WINDOW``."""
    values = tuple(node.get(name, default))
    if len(values) != count or not all(least <= n <= limits.WINDOW for n in values):
        raise ModelError(
            f"{node}: has {name} {list(values)}; accepted: {count} integers from {least} to "
            f"{limits.WINDOW}; export the network again"
        )
    return values


def _two(values: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns


def _four(values: tuple[int, ...]) -> tuple[int, int, int, int]:
    top, left, bottom, right = values
    return top, left, bottom, right


def slid(node: Node, window: ir.Window, shape: ir.Shape, channels: int, batch: int) -> ir.Shape:
    """The output of ``window`` over ``shape``, or a ModelError when it does not fit."""
    out = window.output(shape, channels)
    if out.height < 1 or out.width < 1:
        raise ModelError(
            f"{node}: a window of {window.span[0]}x{window.span[1]} is larger than the "
            f"padded input of {shape.height}x{shape.width}; accepted: a window that fits; "
            "enlarge the input or the pads"
        )
    top, left, bottom, right = window.pads
    padded = ir.Shape(shape.height + top + bottom, shape.width + left + right, shape.channels)
    bounded(node, padded, batch, "padded input")
    return bounded(node, out, batch)


def _same(window: ir.Window, shape: ir.Shape, upper: bool) -> ir.Window:
    """Pads that make the output ``ceil(input / stride)``; the odd one goes below, or above."""
    low, high = [], []
    for size, span, stride in zip(
        (shape.height, shape.width), window.span, window.stride, strict=True
    ):
        total = max((-(-size // stride) - 1) * stride + span - size, 0)
        low.append(total // 2 if upper else total - total // 2)
        high.append(total - low[-1])
    return ir.Window(window.kernel, window.stride, window.dilation, _four((*low, *high)))


def _ceiled(window: ir.Window, shape: ir.Shape) -> ir.Window:
    """Pads that make the floor rule give what ``ceil_mode`` does: windows start inside the map."""
    high = []
    for axis, size in enumerate((shape.height, shape.width)):
        stride, before, after = window.stride[axis], window.pads[axis], window.pads[axis + 2]
        steps = -(-(size + before + after - window.span[axis]) // stride)
        if steps * stride >= size + before:
            steps -= 1
        high.append(max(after, steps * stride + window.span[axis] - size - before))
    return ir.Window(
        window.kernel, window.stride, window.dilation, _four((*window.pads[:2], *high))
    )

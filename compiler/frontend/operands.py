"""What the handlers of ONNX nodes share: the operand types, and checks on them."""

from collections.abc import Callable
from typing import Any, Concatenate

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .source import Node
from .tensors import Constant, Tensor

__all__ = ["Handler", "Operand", "activation", "constant", "finite", "optional", "slid", "windowed"]

Operand = Tensor | Constant | None
Handler = Callable[Concatenate[Builder, Node, ...], Tensor]


def constant(operand: Operand, node: Node, what: str) -> Constant:
    """``operand`` as a constant, or a ModelError that says which one must be."""
    if not isinstance(operand, Constant):
        found = "is missing" if operand is None else "is computed at run time"
        raise ModelError(
            f"{node}: its {what} {found}; accepted: a constant {what}; run onnxsim, or export "
            "the network in evaluation mode"
        )
    return operand


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


def optional(operand: Operand, default: float, node: Node, what: str) -> float:
    """A scalar operand that may be absent."""
    return default if operand is None else constant(operand, node, what).scalar()


def finite(value: NDArray[Any], name: str, node: Node) -> NDArray[Any]:
    """``value``, or a ModelError that names the initializer when it holds NaN or infinity."""
    if value.dtype.kind == "f" and not np.isfinite(value).all():
        count = int((~np.isfinite(value)).sum())
        raise ModelError(
            f"{node}: initializer {name} holds {count} NaN or infinite number"
            f"{'s' if count > 1 else ''}; accepted: finite weights; train or export it again"
        )
    return value


def windowed(node: Node, shape: ir.Shape, kernel: tuple[int, ...]) -> ir.Window:
    """The window of a Conv or pool node over ``shape``; in one dimension it slides over rows."""
    rank = len(kernel)
    if rank not in (1, 2):
        raise ModelError(
            f"{node}: has a {rank}-dimensional kernel; accepted: one or two dimensions"
        )
    stride = tuple(node.get("strides", [1] * rank))
    dilation = tuple(node.get("dilations", [1] * rank))
    pads = tuple(node.get("pads", [0] * 2 * rank))
    if rank == 1:
        kernel, stride, dilation = (*kernel, 1), (*stride, 1), (*dilation, 1)
        pads = (pads[0], 0, pads[1], 0)
    window = ir.Window(_two(kernel), _two(stride), _two(dilation), _four(pads))
    if min(pads) < 0:
        raise ModelError(
            f"{node}: has pads {list(pads)}; accepted: none below 0; crop with another stride"
        )
    mode = node.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        return _same(window, shape, mode == "SAME_UPPER")
    return _ceiled(window, shape) if node.get("ceil_mode", 0) else window


def _two(values: tuple[int, ...]) -> tuple[int, int]:
    rows, columns = values
    return rows, columns


def _four(values: tuple[int, ...]) -> tuple[int, int, int, int]:
    top, left, bottom, right = values
    return top, left, bottom, right


def slid(node: Node, window: ir.Window, shape: ir.Shape, channels: int) -> ir.Shape:
    """The output of ``window`` over ``shape``, or a ModelError when it does not fit."""
    out = window.output(shape, channels)
    if out.height < 1 or out.width < 1:
        raise ModelError(
            f"{node}: a window of {window.span[0]}x{window.span[1]} is larger than the "
            f"padded input of {shape.height}x{shape.width}; accepted: a window that fits; "
            "enlarge the input or the pads"
        )
    return out


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

"""Nodes that only move elements, and nodes of constants: both run in onnx.reference."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .builder import Builder
from .folding import evaluate
from .interpolation import interpolated
from .operands import Handler, Operand, constant, overflow
from .resize import interpolates, nearest
from .source import DTYPES, FLOATS, Node
from .tensors import Constant, Tensor
from .training import training_error

__all__ = ["HANDLERS", "fold", "moved", "shape_of"]

MOVING = frozenset(
    {
        "Reshape",
        "Transpose",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "DepthToSpace",
        "SpaceToDepth",
        "Gather",
        "GatherElements",
        "GatherND",
        "Compress",
        "ReverseSequence",
        "Slice",
        "Split",
        "Tile",
        "Expand",
    }
)
RESIZING = frozenset({"Resize", "Upsample"})
SAME = frozenset({"Identity", "Dropout"})


def moved(
    node: Node, order: NDArray[np.int64], operands: Sequence[Operand]
) -> list[NDArray[np.int64]]:
    """The labels of each output of a node that takes elements as they are."""
    arrays = [
        None if operand is None else constant(operand, node, "operand").array
        for operand in operands
    ]
    if node.op in RESIZING:
        return [nearest(node, order, arrays)]
    results = [result.astype(np.int64) for result in evaluate(node, [order, *arrays])]
    if not all(result.size for result in results):
        raise ModelError(
            f"{node}: takes none of {order.size} elements; accepted: at least one; check the model "
            "with onnx.checker"
        )
    return results


def fold(node: Node, operands: list[Operand]) -> list[Constant]:
    """The outputs of a node of constants; quantized ones stay so where elements only move."""
    constants = [operand if isinstance(operand, Constant) else None for operand in operands]
    name = next((c.name for c in constants if c is not None), node.name)
    first = constants[0] if constants else None
    rest = [None if c is None else c.array for c in constants[1:]]
    if first is not None and first.dtype is not None and node.op in MOVING | SAME:
        return [replace(first, array=part) for part in evaluate(node, [first.array, *rest])]
    if first is not None and first.scale is not None and node.op in MOVING | SAME:
        arrays, scales = (evaluate(node, [part, *rest]) for part in (first.array, first.scale))
        return [
            Constant(name, array, scale.astype(np.float32))
            for array, scale in zip(arrays, scales, strict=True)
        ]
    values = evaluate(node, [None if c is None else c.real() for c in constants])
    return [
        replace(
            Constant.of(name, value), overflowed=overflow(f"the result of {node}", constants, value)
        )
        for value in values
    ]


def _move(build: Builder, node: Node, x: Operand, *operands: Operand) -> list[Tensor]:
    """Reshape, Transpose, Slice and the like: new labels, or interpolated ones."""
    if not isinstance(x, Tensor):
        raise ModelError(f"{node}: indexes a constant with the input; accepted: constant indices")
    if interpolates(node):
        return [interpolated(build, node, x, operands)]
    orders = moved(node, x.order, operands)
    if x.groups is not None and any(order.size != x.order.size for order in orders):
        raise ModelError(
            f"{node}: takes a part of what Softmax gives; accepted: all of it; take the part on "
            "the host"
        )
    if node.op in RESIZING and x.fill is None and (orders[0] < 0).any():
        x = replace(x, fill=float(node.get("extrapolation_value", 0.0)))
    return [x.moved(order, name) for order, name in zip(orders, node.outputs, strict=False)]


def _same(build: Builder, node: Node, x: Operand, *operands: Operand) -> Tensor:
    """Identity, and Dropout in inference or of a ratio of 0."""
    if not isinstance(x, Tensor):
        raise ModelError(
            f"{node}: {node.inputs[0]} is constant, but {node.inputs[1]} depends on the input; "
            "accepted: a constant ratio; export with model.eval()"
        )
    ratio, training = [*operands, None, None][:2]
    drops = ratio is None or constant(ratio, node, "ratio").array.any()
    if training is not None and constant(training, node, "training mode").array.any() and drops:
        raise training_error(node)
    return x.moved(x.order, node.outputs[0])


def _cast(build: Builder, node: Node, x: Operand) -> Tensor:
    """Cast that changes no number: between floats, of integers to a type that holds them, of the
    network's integer input to floats, or on the host's results. A truth value is 0 or 1.
    """
    assert isinstance(x, Tensor)
    if not x.real and build.saturates(node):
        return x
    to = DTYPES.get(int(node.get("to", 1)), "")
    same = x.moved(x.order, node.outputs[0])
    reals = (*FLOATS, *_integral(build.ops.get(x.handle)))
    if any(isinstance(step, ir.HostArgMax) for step in x.tail) or (x.real and to in reals):
        return same
    stored = None if x.real or x.tail else build.integer(x.handle)
    target = ir.Int.named(to)
    if stored is not None and to in FLOATS:
        return build.as_reals(same, node)
    if stored is not None and target is not None and target.holds(stored):
        return same
    raise ModelError(
        f"{node}: casts between floats and integers inside the network; accepted: casts of floats "
        "to floats, of integers to a type that holds them, of what Floor, Round, a comparison and "
        "the like compute, and of the network's integer input to floats; use QuantizeLinear and "
        "DequantizeLinear"
    )


def _integral(op: ir.Op | None) -> tuple[str, ...]:
    """The types besides floats that hold what ``op`` computes."""
    if not isinstance(op, ir.Unary) or not op.function.integral:
        return ()
    return ("int32", "int64", "bool") if op.function.image == (0.0, 1.0) else ("int32", "int64")


def shape_of(node: Node, x: Tensor) -> Constant:
    """ONNX Shape and Size of an activation, with the batch that the importer assumes."""
    return Constant(node.name, evaluate(node, [x.order])[0])


HANDLERS: dict[str, Handler] = {
    **{name: Handler(_move, moves=True, on_host=True) for name in sorted(MOVING | RESIZING)},
    **{name: Handler(_same, elementwise=True, on_host=True) for name in sorted(SAME)},
    "Cast": Handler(_cast, elementwise=True, on_host=True),
}

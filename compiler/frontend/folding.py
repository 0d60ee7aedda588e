"""Constants that are computed from constants: by ONNX's reference, within bounds.

Only operators of :data:`SIZES` are evaluated, whose results have a size that is known before: no
loop, no subgraph, no random number, no operator that may take long.
"""

from collections.abc import Callable, Sequence
from math import ceil, isfinite, prod
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

from .. import ir, limits
from ..errors import ModelError
from . import elementwise
from .source import CONSTANT_KINDS, NUMBERS, Node, constant_value

__all__ = ["SIZES", "evaluate", "reference"]

Array = NDArray[Any]
Size = Callable[[Node, Sequence[Array]], int]


def evaluate(node: Node, operands: Sequence[Array | None]) -> list[Array]:
    """The node's outputs by ONNX's own reference, so that every opset's rules hold.

    Raises ModelError when the operator is none of :data:`SIZES`, when its result would have more
    than ``limits.CONSTANT_ELEMENTS`` elements, or when the operands do not fit.
    """
    if node.op not in SIZES:
        raise ModelError(
            f"{node}: computes constants in a way that is not supported; accepted: "
            f"{', '.join(sorted(SIZES))}; run onnxsim, which replaces the node by its result"
        )
    present = [operand for operand in operands if operand is not None]
    _check_axis(node, present)
    try:
        size = SIZES[node.op](node, present)
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise _misfit(node, present, error) from None
    if size > limits.CONSTANT_ELEMENTS:
        raise ModelError(
            f"{node}: its result has {size} elements; accepted: at most "
            f"{limits.CONSTANT_ELEMENTS}; give a smaller network"
        )
    if node.op == "Constant":
        return [_constant(node)]
    return reference(node, operands)


def reference(node: Node, operands: Sequence[Array | None]) -> list[Array]:
    """The node's outputs by ONNX's reference, whatever the operator; for operands of a size that
    the caller has bounded.
    """
    feeds = {n: a for n, a in zip(node.inputs, operands, strict=True) if a is not None}
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(_alone(node)).run(None, feeds)
        found = [np.asarray(result) for result in results]
    except Exception as error:
        raise _misfit(
            node, [operand for operand in operands if operand is not None], error
        ) from None
    for result in found:
        _check_numbers(node, result)
    return found


def _misfit(node: Node, operands: Sequence[Array], error: Exception) -> ModelError:
    shapes = ", ".join(str(list(operand.shape)) for operand in operands)
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return ModelError(
        f"{node}: does not fit its operands of shape {shapes} ({reason}); accepted: operands the "
        "operator allows; check the model with onnx.checker"
    )


def _check_numbers(node: Node, result: Array) -> None:
    if result.dtype.kind not in "fiub" and ir.Int.named(result.dtype.name) is None:
        raise ModelError(
            f"{node}: its result is of type {result.dtype}; accepted: real numbers; convert the "
            "model to float32"
        )


def _alone(node: Node) -> onnx.ModelProto:
    """A model of one node, so that the rules of the file's opset hold."""
    inputs, outputs = (
        [onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name]
        for names in (node.inputs, node.outputs)
    )
    graph = helper.make_graph([node.proto], node.name, inputs, outputs)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", node.opset)])


def _constant(node: Node) -> Array:
    """The value of a Constant node."""
    value = constant_value(node)
    if value is None:
        raise ModelError(
            f"{node}: holds {', '.join(node.attributes) or 'nothing'}; accepted: one of value, "
            f"{', '.join(CONSTANT_KINDS)}; export dense numbers"
        )
    return value


# -- axes ------------------------------------------------------------------------------------------

# How many axes beyond the last one ``axis`` may name: Flatten may end after the last axis.
AXIS = {"Flatten": 1}
AXIS |= dict.fromkeys(("Concat", "Compress", "Gather", "GatherElements", "Split", "Softmax"), 0)


def _check_axis(node: Node, operands: Sequence[Array]) -> None:
    """Refuse an axis that the first operand does not have; the reference takes some of them."""
    if node.op not in AXIS or "axis" not in node.attributes or not operands:
        return
    axis, rank = int(node.get("axis", 0)), operands[0].ndim
    if not -rank <= axis < rank + AXIS[node.op]:
        raise ModelError(
            f"{node}: axis {axis} of a tensor of {rank} axes; accepted: {-rank} to "
            f"{rank + AXIS[node.op] - 1}; check the model with onnx.checker"
        )


# -- sizes of results ------------------------------------------------------------------------------


def _first(node: Node, operands: Sequence[Array]) -> int:
    """At most the elements of the first operand."""
    return operands[0].size


def _few(node: Node, operands: Sequence[Array]) -> int:
    return limits.RANK


def _broadcast(node: Node, operands: Sequence[Array]) -> int:
    return _product(np.broadcast_shapes(*(operand.shape for operand in operands)))


def _product(shape: Sequence[int]) -> int:
    """Exact, and not 0 for a shape whose other axes are huge."""
    if len(shape) > limits.RANK:
        raise ValueError(f"the result has {len(shape)} axes, at most {limits.RANK} are accepted")
    return prod(max(int(n), 1) for n in shape)


def _integers(operand: Array) -> list[int]:
    """A shape or the like, which has an entry an axis."""
    if operand.dtype.kind not in "iu" or operand.size > limits.RANK * 2:
        raise ValueError(f"a shape of {operand.size} numbers of type {operand.dtype}")
    return [int(n) for n in operand.reshape(-1)]


def _of_shape(node: Node, operands: Sequence[Array]) -> int:
    return _product(_integers(operands[0]))


def _expand(node: Node, operands: Sequence[Array]) -> int:
    shape = _integers(operands[1])
    rank = max(len(shape), operands[0].ndim)
    longest = [
        max(a, b)
        for a, b in zip(
            [1] * (rank - len(shape)) + shape,
            [1] * (rank - operands[0].ndim) + list(operands[0].shape),
            strict=True,
        )
    ]
    return _product(longest)


def _tile(node: Node, operands: Sequence[Array]) -> int:
    return max(operands[0].size, 1) * _product(_integers(operands[1]))


def _pad(node: Node, operands: Sequence[Array]) -> int:
    if (mode := node.get("mode", "constant")) != "constant":
        raise ValueError(f"its mode is {mode}, not constant")
    listed = node.get("pads", None) if len(operands) == 1 else _integers(operands[1])
    return _product([*operands[0].shape]) * prod(1 + max(int(n), 0) for n in listed or ())


def _range(node: Node, operands: Sequence[Array]) -> int:
    start, limit, step = (float(operand.reshape(-1)[0]) for operand in operands)
    count = (limit - start) / step if step else float("nan")
    if not isfinite(count):
        raise ValueError(f"from {start} to {limit} in steps of {step}")
    return max(0, ceil(count))


def _gather(node: Node, operands: Sequence[Array]) -> int:
    axis = int(node.get("axis", 0))
    others: int = operands[0].size // max(operands[0].shape[axis], 1)
    return others * operands[1].size


def _gather_elements(node: Node, operands: Sequence[Array]) -> int:
    return operands[1].size


def _gather_nd(node: Node, operands: Sequence[Array]) -> int:
    data, indices = operands
    depth = max(int(indices.shape[-1]), 1)
    return indices.size // depth * _product(data.shape[int(node.get("batch_dims", 0)) + depth :])


def _concat(node: Node, operands: Sequence[Array]) -> int:
    return sum(operand.size for operand in operands)


def _matmul(node: Node, operands: Sequence[Array]) -> int:
    """Multiplications, as they take longer than the result has elements."""
    a, b = operands[:2]
    inner: int = b.shape[-1 if node.get("transB", 0) or b.ndim < 2 else -2]
    return max(a.size, 1) * max(b.size // max(inner, 1), 1)


def _conv(node: Node, operands: Sequence[Array]) -> int:
    """Multiplications of a convolution, were its map as large as with all its padding."""
    x, weight = operands[:2]
    pads = node.get("pads", [0] * 2 * (x.ndim - 2))
    if node.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        pads = weight.shape[2:] * 2
    sizes = zip(x.shape[2:], pads[: x.ndim - 2], pads[x.ndim - 2 :], strict=True)
    pixels = prod(n + max(int(a), 0) + max(int(b), 0) for n, a, b in sizes)
    products: int = max(int(x.shape[0]), 1) * pixels * max(weight.size, 1)
    return products


def _resize(node: Node, operands: Sequence[Array]) -> int:
    if str(node.get("mode", "nearest")) == "cubic" or len(operands) < 2:
        raise ValueError("it is of mode cubic, or has no sizes")
    x, last = operands[0], operands[-1].reshape(-1)
    if last.size > limits.RANK:
        raise ValueError(f"{last.size} scales or sizes")
    if last.dtype.kind == "f":
        return _product([ceil(n * float(scale)) for n, scale in zip(x.shape, last, strict=False)])
    return _product([*x.shape[: x.ndim - last.size], *_integers(last)])


def _einsum(node: Node, operands: Sequence[Array]) -> int:
    """Multiplications: each letter's size, once."""
    equation = str(node.get("equation", "")).replace(" ", "")
    terms = equation.split("->")[0].split(",")
    if "." in equation or len(terms) != len(operands):
        raise ValueError(f"its equation is {equation!r}")
    sizes: dict[str, int] = {}
    for term, operand in zip(terms, operands, strict=True):
        sizes |= dict(zip(term, operand.shape, strict=True))
    products: int = prod(max(int(n), 1) for n in sizes.values())
    return products


def _cast(node: Node, operands: Sequence[Array]) -> int:
    if node.get("to", 0) not in NUMBERS:
        raise ValueError(f"it casts to type {node.get('to', 0)}, which is no real number")
    return _first(node, operands)


def _split(node: Node, operands: Sequence[Array]) -> int:
    if (parts := node.get("num_outputs", len(node.outputs))) != len(node.outputs):
        raise ValueError(f"num_outputs is {parts}, but it has {len(node.outputs)} outputs")
    return _first(node, operands)


def _dropout(node: Node, operands: Sequence[Array]) -> int:
    if len(operands) > 2 and operands[2].any():
        raise ValueError("it is in training mode, so its result is random")
    return _first(node, operands)


def _nonzero(node: Node, operands: Sequence[Array]) -> int:
    return operands[0].size * max(operands[0].ndim, 1)


def _stored(node: Node, operands: Sequence[Array]) -> int:
    return 0


SIZES: dict[str, Size] = {
    **dict.fromkeys(elementwise.HANDLERS, _broadcast),
    **dict.fromkeys(
        (
            *("Identity", "IsNaN", "IsInf", "ArgMax", "ArgMin", "LogSoftmax", "Hardmax"),
            *("InstanceNormalization", "LpNormalization"),
            *("LayerNormalization", "RMSNormalization", "GroupNormalization"),
            *("BatchNormalization", "GlobalAveragePool", "GlobalMaxPool"),
            *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "DepthToSpace"),
            *("SpaceToDepth", "Slice", "Compress", "ReverseSequence", "CumSum", "Trilu", "Softmax"),
            *("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceL1"),
            *("ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"),
        ),
        _first,
    ),
    **dict.fromkeys(("Shape", "Size"), _few),
    "Cast": _cast,
    "CastLike": _first,
    "Concat": _concat,
    "Constant": _stored,
    "ConstantOfShape": _of_shape,
    "Conv": _conv,
    "Dropout": _dropout,
    "Einsum": _einsum,
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Gemm": _matmul,
    "MatMul": _matmul,
    "NonZero": _nonzero,
    "Pad": _pad,
    "Range": _range,
    "Resize": _resize,
    "Split": _split,
    "Tile": _tile,
}

"""Hypothesis strategy of ONNX files in QDQ format: nodes as exporters write them, each between
DequantizeLinear and QuantizeLinear, of any integer type, with branches and broadcasts.

A strategy appends the nodes of one kind to a :class:`Model` and gives the tensor of real numbers
that they end in, of a known shape.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

__all__ = ["LAYERS", "models"]

booleans, integers, sampled = st.booleans(), st.integers, st.sampled_from

#: integer types of activations and weights
TYPES = ("int8", "uint8", "int4", "uint4", "int16", "uint16")
#: elements of a tensor
MOST = 200


class Model:
    """The nodes of a file in the making. ``shapes``: of each dequantized tensor, without batch;
    ``quants``: the scale and zero point of each.
    """

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.rng = np.random.default_rng(draw(integers(0, 999)))
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.quants: dict[str, list[str]] = {}
        self.count = 0

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def constant(self, array: Any) -> str:
        name = self.name("c")
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = self.name(op.lower())
        self.nodes.append(helper.make_node(op, [*inputs], [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def floats(self, *shape: int) -> str:
        return self.constant(self.rng.normal(size=shape).astype(np.float32))

    def weights(self, *shape: int, axis: int | None = None) -> str:
        """DequantizeLinear of integers, with a scale for all or an index of ``axis``."""
        kind = self.draw(sampled(["int8", "uint8", "int4", "int16"]))
        dtype = _numpy(kind)
        low, high = _ends(kind)
        values = self.rng.integers(low, high, shape, endpoint=True).astype(dtype)
        size = () if axis is None or self.draw(booleans) else (shape[axis],)
        scale = (self.rng.uniform(0.5, 2, size) / (1 << _bits(kind) - 1)).astype(np.float32)
        zero = np.full(size, 0 if low else self.draw(sampled([0, high // 2]))).astype(dtype)
        attributes = {"axis": axis} if size else {}
        names = [self.constant(array) for array in (values, scale, zero)]
        return self.node("DequantizeLinear", *names, **attributes)

    def quant(self) -> list[str]:
        """A scale and a zero point."""
        kind = self.draw(sampled(TYPES))
        low, high = _ends(kind)
        scale = self.draw(sampled([4.0, 1.0, 2.5, 0.9, 0.3])) / (high - low)
        if self.draw(booleans):
            scale = 2.0 ** np.round(np.log2(scale))
        zero = self.draw(st.just((low + high + 1) // 2) | integers(low, high))
        return [self.constant(np.float32(scale)), self.constant(_numpy(kind).type(zero))]

    def rounded(self, real: str, shape: tuple[int, ...], quant: list[str] | None = None) -> str:
        """QuantizeLinear and DequantizeLinear of ``real``."""
        quant = quant or self.quant()
        found = self.node("DequantizeLinear", self.node("QuantizeLinear", real, *quant), *quant)
        self.shapes[found] = shape
        self.quants[found] = quant
        return found

    def alike(self, name: str, quant: list[str]) -> str:
        """The tensor, quantized as another one is."""
        return name if self.quants[name] == quant else self.rounded(name, self.shapes[name], quant)


def _numpy(kind: str) -> np.dtype:
    return np.dtype(helper.tensor_dtype_to_np_dtype(getattr(TensorProto, kind.upper())))


def _bits(kind: str) -> int:
    return int(kind.lstrip("uint"))


def _ends(kind: str) -> tuple[int, int]:
    bits = _bits(kind)
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "i" else (0, (1 << bits) - 1)


# Layers: draw, model, tensor -> tensor, or None where the tensor has another rank.


def _conv(draw: Any, m: Model, x: str) -> str | None:
    if len(m.shapes[x]) != 3:
        return None
    channels, *extent = m.shapes[x]
    group = draw(sampled([n for n in range(1, channels + 1) if channels % n == 0]))
    out = group * draw(integers(1, 3))
    kernel, pads = _window(draw, extent)
    inputs = [x, m.weights(out, channels // group, *kernel, axis=0)]
    if draw(booleans):
        inputs.append(m.floats(out))
    strides = draw(st.tuples(integers(1, 2), integers(1, 2)))
    real = m.node("Conv", *inputs, group=group, kernel_shape=kernel, pads=pads, strides=strides)
    return m.rounded(_activated(draw, m, real), (out, *_extents(extent, kernel, pads, strides)))


def _window(draw: Any, extent: list[int]) -> tuple[list[int], list[int]]:
    kernel = [draw(integers(1, min(3, n))) for n in extent]
    return kernel, [draw(integers(0, k - 1)) for k in kernel * 2]


def _extents(extent: Any, kernel: Any, pads: Any, strides: Any) -> list[int]:
    return [
        (n + before + after - k) // s + 1
        for n, k, before, after, s in zip(extent, kernel, pads[:2], pads[2:], strides, strict=True)
    ]


def _activated(draw: Any, m: Model, real: str) -> str:
    """``real``, at times through an activation that a producer fuses."""
    way = draw(integers(0, 2))
    if way == 1:
        return m.node("Relu", real)
    if way == 2:
        return m.node("Clip", real, m.constant(np.float32(-0.5)), m.constant(np.float32(1.5)))
    return real


def _pool(draw: Any, m: Model, x: str) -> str | None:
    if len(m.shapes[x]) != 3:
        return None
    channels, *extent = m.shapes[x]
    kernel, pads = _window(draw, extent)
    strides = draw(st.tuples(integers(1, 2), integers(1, 2)))
    shape = (channels, *_extents(extent, kernel, pads, strides))
    window = {"kernel_shape": kernel, "pads": pads, "strides": strides}
    if draw(booleans):
        return m.rounded(m.node("MaxPool", x, **window), shape, m.quants[x])
    count = int(draw(booleans))
    return m.rounded(m.node("AveragePool", x, count_include_pad=count, **window), shape)


def _global(draw: Any, m: Model, x: str) -> str | None:
    if len(m.shapes[x]) != 3:
        return None
    real = m.node("GlobalAveragePool", x)
    return m.rounded(real, (m.shapes[x][0], 1, 1))


def _dense(draw: Any, m: Model, x: str) -> str:
    """Gemm of a vector, or MatMul on the last axis."""
    *before, inner = m.shapes[x]
    out = draw(integers(1, 4))
    if before or draw(booleans):
        real = m.node("MatMul", x, m.weights(inner, out))
    else:
        real = m.node("Gemm", x, m.weights(out, inner, axis=0), m.floats(out), transB=1)
    return m.rounded(_activated(draw, m, real), (*before, out))


def _activation(draw: Any, m: Model, x: str) -> str:
    op, attributes = draw(
        sampled(
            [
                *(("Relu", {}), ("Sigmoid", {}), ("Tanh", {}), ("HardSwish", {}), ("Softplus", {})),
                *(("Abs", {}), ("Neg", {}), ("Exp", {}), ("Floor", {}), ("Erf", {}), ("Sqrt", {})),
                *(("LeakyRelu", {"alpha": 0.125}), ("Elu", {"alpha": 0.5}), ("Sin", {})),
                *(("HardSigmoid", {"alpha": 0.25, "beta": 0.5}), ("Softsign", {}), ("Round", {})),
            ]
        )
    )
    return m.rounded(m.node(op, x, **attributes), m.shapes[x])


def _pair(draw: Any, m: Model, x: str) -> str:
    """Two activations, of which one may be broadcast; or an activation and a constant."""
    op = draw(sampled(["Add", "Sub", "Mul"]))
    shape = m.shapes[x]
    if draw(integers(0, 2)) == 0:
        size = [draw(sampled([1, n])) for n in shape]
        inputs = [x, m.weights(1, *size)]
    else:
        inputs = [x, draw(sampled(_fitting(m, x)))]
    real = m.node(op, *draw(st.permutations(inputs)))
    return m.rounded(_activated(draw, m, real), shape)


def _fitting(m: Model, x: str) -> list[str]:
    """The tensors that may be broadcast to the shape of ``x``."""
    shape = m.shapes[x]
    return [
        name
        for name, other in m.shapes.items()
        if len(other) == len(shape)
        and all(n in (1, size) for n, size in zip(other, shape, strict=True))
    ]


def _extremum(draw: Any, m: Model, x: str) -> str:
    other = m.alike(draw(sampled(_fitting(m, x))), m.quants[x])
    return m.rounded(m.node(draw(sampled(["Max", "Min"])), x, other), m.shapes[x], m.quants[x])


def _concat(draw: Any, m: Model, x: str) -> str:
    axis = draw(integers(0, len(m.shapes[x]) - 1))
    shape = m.shapes[x]
    fitting = [
        name
        for name, other in m.shapes.items()
        if len(other) == len(shape)
        and all(a == b for n, (a, b) in enumerate(zip(other, shape, strict=True)) if n != axis)
    ]
    parts = [x, *draw(st.lists(sampled(fitting), min_size=1, max_size=2))]
    total = [*shape]
    total[axis] = sum(m.shapes[part][axis] for part in parts)
    parts = [m.alike(part, m.quants[x]) for part in parts]
    return m.rounded(m.node("Concat", *parts, axis=axis + 1), tuple(total), m.quants[x])


def _transpose(draw: Any, m: Model, x: str) -> str:
    order = draw(st.permutations(range(len(m.shapes[x]))))
    real = m.node("Transpose", x, perm=[0, *(n + 1 for n in order)])
    return m.rounded(real, tuple(m.shapes[x][n] for n in order), m.quants[x])


def _reshape(draw: Any, m: Model, x: str) -> str:
    size = int(np.prod(m.shapes[x]))
    shape = [draw(sampled([n for n in range(1, size + 1) if size % n == 0]))]
    if draw(booleans):
        rest = size // shape[0]
        shape.append(draw(sampled([n for n in range(1, rest + 1) if rest % n == 0])))
    if np.prod(shape) != size:
        shape.append(size // int(np.prod(shape)))
    real = m.node("Reshape", x, m.constant(np.array([0, *shape])))
    return m.rounded(real, tuple(shape), m.quants[x])


def _slice(draw: Any, m: Model, x: str) -> str:
    axis = draw(integers(0, len(m.shapes[x]) - 1))
    size = m.shapes[x][axis]
    start, step = draw(integers(0, size - 1)), draw(integers(1, 2))
    shape = [*m.shapes[x]]
    shape[axis] = len(range(start, size, step))
    ends = [m.constant(np.array([n])) for n in (start, 1 << 40, axis + 1, step)]
    return m.rounded(m.node("Slice", x, *ends), tuple(shape), m.quants[x])


def _pad(draw: Any, m: Model, x: str) -> str:
    rank = len(m.shapes[x])
    pads = [draw(st.lists(integers(0, 1), min_size=rank, max_size=rank)) for _ in range(2)]
    shape = tuple(a + n + b for a, n, b in zip(pads[0], m.shapes[x], pads[1], strict=True))
    real = m.node("Pad", x, m.constant(np.array([0, *pads[0], 0, *pads[1]])))
    return m.rounded(real, shape, m.quants[x])


def _product(draw: Any, m: Model, x: str) -> str | None:
    """``x @ transpose(x)``, or a product with another that fits."""
    if len(m.shapes[x]) != 2:
        return None
    rows, inner = m.shapes[x]
    turned = m.rounded(m.node("Transpose", x, perm=[0, 2, 1]), (inner, rows), m.quants[x])
    fitting = [name for name, shape in m.shapes.items() if len(shape) == 2 and shape[0] == inner]
    other = draw(sampled([turned, *fitting]))
    return m.rounded(m.node("MatMul", x, other), (rows, m.shapes[other][1]))


def _reduce(draw: Any, m: Model, x: str) -> str | None:
    """A mean or a sum over some axes, which stay with extent 1."""
    rank = len(m.shapes[x])
    axes = sorted(draw(st.sets(integers(0, rank - 1), min_size=1)))
    shape = tuple(1 if n in axes else size for n, size in enumerate(m.shapes[x]))
    op = draw(sampled(["ReduceMean", "ReduceSum", "ReduceMax"]))
    real = m.node(op, x, m.constant(np.array(axes) + 1))
    return m.rounded(real, shape, m.quants[x] if op == "ReduceMax" else None)


Layer = Callable[[Any, Model, str], str | None]

LAYERS: tuple[Layer, ...] = (
    *(_conv, _pool, _global, _dense, _activation, _pair, _extremum, _concat),
    *(_transpose, _reshape, _slice, _pad, _product, _reduce),
)


@st.composite
def models(draw: Any) -> tuple[onnx.ModelProto, int]:
    """A file with one input and one to three outputs, and a seed for its samples."""
    m = Model(draw)
    rank = draw(sampled([3, 3, 2, 1]))
    shape = tuple(draw(integers(1, 5)) for _ in range(rank))
    x = m.rounded("x", shape)
    for _ in range(draw(integers(1, 7))):
        names = [name for name in m.shapes if int(np.prod(m.shapes[name])) <= MOST]
        at = names[-1 - draw(integers(0, len(names) - 1))]
        draw(sampled(LAYERS))(draw, m, at)
    if len(m.shapes) == 1 or draw(booleans):
        _dense(draw, m, x if len(m.shapes) == 1 else [*m.shapes][-1])
    read = {name for node in m.nodes for name in node.input}
    free = [name for name in m.shapes if name not in read]
    graph = helper.make_graph(
        m.nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *shape])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in free],
        m.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model, draw(integers(0, 99))

"""The printed form of a graph: one line a port, one line an operator."""

from functools import singledispatch
from math import inf
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from .graph import Graph
from .ops import (
    AveragePool,
    Clamp,
    Clampable,
    Conv,
    Delay,
    FrameDelay,
    Gather,
    MatMul,
    Op,
    Pad,
    Unary,
    Window,
    Windowed,
)

__all__ = ["to_text"]

#: runs of an order that are printed
_RUNS = 4


def to_text(graph: Graph) -> str:
    """The whole graph, readable, in processing order; weights are shown by their type only."""
    lines = [f"graph {graph.name}"]
    lines += [
        f"  {graph.values[port.value]} = input {port.name} {_model(port.shape, port.dtype)}"
        for port in graph.inputs
    ]
    lines += [f"  {graph.values[op.output]} = {describe(op)}  # {op.name}" for op in graph.ops]
    for port in graph.outputs:
        tail = "".join(f" | {step}" for step in port.tail)
        lines.append(f"  output {port.name} {_model(port.shape, port.dtype)} = %{port.value}{tail}")
    return "\n".join(lines) + "\n"


def _model(shape: tuple[int, ...], dtype: str) -> str:
    return f"[{', '.join(str(size) for size in shape)}] {dtype}"


@singledispatch
def describe(op: Op) -> str:
    """An operator without its output and its name: here its class, inputs, window and clamp."""
    window = _window(op.window) if isinstance(op, Windowed) else ""
    clamp = _clamp(op.clamp) if isinstance(op, Clampable) else ""
    return f"{type(op).__name__.lower()} {_operands(op)}{window}{clamp}"


def _operands(op: Op) -> str:
    return ", ".join(f"%{name}" for name in op.inputs)


def _window(window: Window) -> str:
    """``5x5/1``, then the dilation and the pads unless they do nothing."""
    text = f", {_pair(window.kernel)}/{_pair(window.stride)}"
    if window.dilation != (1, 1):
        text += f" dilation {_pair(window.dilation)}"
    return text + (f" pads {','.join(str(pad) for pad in window.pads)}" if any(window.pads) else "")


def _pair(pair: tuple[int, int]) -> str:
    return f"{pair[0]}x{pair[1]}"


def _clamp(clamp: Clamp) -> str:
    if clamp == Clamp():
        return ""
    return f", clamp {_bound(clamp.low)}..{_bound(clamp.high)}"


def _bound(bound: float) -> str:
    return {inf: "inf", -inf: "-inf"}.get(bound) or f"{bound:g}"


@describe.register
def _(op: Conv) -> str:
    groups = f", groups {op.groups}" if op.groups > 1 else ""
    bias = "" if op.bias is None else f", bias {op.bias.dtype}"
    scale = "" if op.weight_scale is None else " scaled"
    return (
        f"conv {_operands(op)}{_window(op.window)}{groups}, weight {op.weight.dtype}{scale}{bias}"
        f"{_clamp(op.clamp)}"
    )


@describe.register
def _(op: AveragePool) -> str:
    counted = ", padding counts" if op.count_padding else ""
    return f"averagepool {_operands(op)}{_window(op.window)}{counted}{_clamp(op.clamp)}"


@describe.register
def _(op: Pad) -> str:
    return f"pad {_operands(op)}, {','.join(str(pad) for pad in op.pads)} with {op.fill:g}"


@describe.register
def _(op: Gather) -> str:
    """The runs of neighbours in the order; of many the first few, and a checksum of the order."""
    order = op.order
    filled = order < 0
    follows = np.where(filled[1:] | filled[:-1], filled[1:] & filled[:-1], np.diff(order) == 1)
    starts = np.flatnonzero(np.concatenate([[True], ~follows]))
    sizes = np.diff([*starts, len(order)])
    runs = [_run(int(order[n]), int(size)) for n, size in zip(starts, sizes, strict=True)]
    more = ""
    if len(runs) > _RUNS:
        more = f" ... {len(runs)} runs #{crc32(order.astype('<i8').tobytes()):08x}"
    fill = f" with {op.fill:g}" if filled.any() else ""
    return f"gather {_operands(op)}, {len(order)}: {' '.join(runs[:_RUNS])}{more}{fill}"


def _run(first: int, count: int) -> str:
    if first < 0:
        return f"-x{count}"
    return f"{first}" if count == 1 else f"{first}..{first + count - 1}"


@describe.register
def _(op: Delay) -> str:
    if len(op.inputs) > 1:
        return f"delay %{op.inputs[0]} after %{op.inputs[1]}"
    return f"delay {_operands(op)} after {_numbers(op.initial)}"


@describe.register
def _(op: FrameDelay) -> str:
    return f"framedelay {_operands(op)} after {_numbers(op.initial)}, {op.port.name}={op.sink}"


def _numbers(array: NDArray[np.float32]) -> str:
    """The one number of an array, or a checksum of different ones."""
    if (array == array.flat[0]).all():
        return f"{array.flat[0]:g}"
    return f"#{crc32(array.astype('<f4').tobytes()):08x}"


@describe.register
def _(op: Unary) -> str:
    return f"{op.function} {_operands(op)}{_clamp(op.clamp)}"


@describe.register
def _(op: MatMul) -> str:
    products = f", {op.products} products" if op.products > 1 else ""
    return f"matmul {_operands(op)}{products}{_clamp(op.clamp)}"

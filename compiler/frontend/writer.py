"""Write a quantized graph as a standard ONNX file of QuantizeLinear and DequantizeLinear pairs."""

import os
from dataclasses import replace
from fractions import Fraction
from functools import singledispatch
from math import inf, prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .. import ir
from ..errors import ModelError
from .element_types import OPSETS, array_of, element_type
from .elementwise import onnx_form
from .io_nodes import arranged, enter, leave, row_major
from .nodes import Nodes
from .states import describe, state_of

__all__ = ["tensor_names", "write_qdq"]

#: the opset from which an AveragePool may be dilated
DILATED_AVERAGE = 19


def tensor_names(graph: ir.Graph) -> dict[str, str]:
    """The tensor of every value in the file: its own name, unless a port is called so."""
    taken = {port.name for port in graph.model_inputs}
    taken |= {port.name for port in graph.model_outputs}
    names: dict[str, str] = {}
    for value in graph.values:
        name = value
        while name in taken or (name != value and name in graph.values):
            name += "/quantized"
        names[value] = name
        taken.add(name)
    return names | {port.value: port.name for port in graph.model_inputs if port.dtype != "float32"}


def write_qdq(graph: ir.Graph, path: str | Path) -> None:
    """Write the quantized ``graph`` to ``path``: NCHW inside, the model's own borders.

    The file has the oldest opset from 17 on that knows its integer types and operators. The output
    of each QuantizeLinear, or of the Clip behind it, is named as in :func:`tensor_names`. The file
    is replaced at once. Raises ModelError for a float graph, and for weights that 16 bits can not
    hold.
    """
    if not graph.quantized:
        raise ModelError(
            f"{graph.name}: is a float32 network; accepted: a quantized one; quantize it first"
        )
    nodes = Nodes(graph, tensor_names(graph))
    for port in graph.model_inputs:
        enter(nodes, port)
    for group in ir.loops.groups(graph):
        if ir.loops.is_loop(group):
            _write_loop(group, nodes)
        else:
            _write(group[0], nodes)
    for output in graph.model_outputs:
        leave(nodes, output)
    _save(_model(graph, nodes), Path(path))


def _model(graph: ir.Graph, nodes: Nodes) -> onnx.ModelProto:
    ports = (graph.model_inputs, graph.model_outputs)
    for name in (port.dtype for each in ports for port in each):
        dtype = ir.Int.named(name)
        if dtype is not None and dtype.bits <= 16:
            nodes.needs(dtype)
    proto = helper.make_graph(
        nodes.nodes,
        graph.name,
        [_info(port, port.batch) for port in graph.model_inputs],
        [_info(port, _batch(graph)) for port in graph.model_outputs],
        nodes.constants,
    )
    opsets = [helper.make_opsetid("", nodes.opset)]
    model = helper.make_model(
        proto,
        producer_name="gatewright",
        ir_version=helper.find_min_ir_version_for(opsets),
        opset_imports=opsets,
    )
    kept = [op for op in graph if isinstance(op, ir.FrameDelay)]
    describe(model, [state_of(op, graph.quant(op.output)) for op in kept])
    return model


def _info(port: ir.InputPort | ir.OutputPort, batch: int | str) -> onnx.ValueInfoProto:
    dims = [*[batch] * port.batched, *port.shape]
    return helper.make_tensor_value_info(port.name, element_type(port.dtype), dims)


def _batch(graph: ir.Graph) -> int | str:
    """The batch of every output: a number if an input has one, else the inputs' common name."""
    batches = {port.batch for port in graph.model_inputs if port.batched}
    fixed = [batch for batch in batches if isinstance(batch, int)]
    return fixed[0] if fixed else batches.pop() if len(batches) == 1 else "N"


def _save(model: onnx.ModelProto, path: Path) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(model.SerializeToString())
    os.replace(partial, path)


# -- operators -----------------------------------------------------------------------------------


@singledispatch
def _write(op: ir.Op, nodes: Nodes) -> None:
    """Append the ONNX nodes of one operator."""
    raise NotImplementedError(f"{op.name}: no ONNX form for {type(op).__name__}")


def _window(window: ir.Window) -> dict[str, Any]:
    return {
        "kernel_shape": [*window.kernel],
        "strides": [*window.stride],
        "dilations": [*window.dilation],
        "pads": [*window.pads],
    }


def _clamped(op: ir.Op, real: str, nodes: Nodes) -> None:
    """Relu or Clip where there is a clamp, then QuantizeLinear."""
    clamp = op.clamp if isinstance(op, ir.Clampable) else ir.Clamp()
    if clamp == ir.Clamp(0.0, inf):
        real = nodes.add("Relu", [real], f"{op.name}/relu")
    elif clamp != ir.Clamp():
        bounds = [
            nodes.constant(f"{op.name}/{end}", np.float32(bound)) if np.isfinite(bound) else ""
            for end, bound in (("low", clamp.low), ("high", clamp.high))
        ]
        real = nodes.add("Clip", [real, *bounds], f"{op.name}/clip")
    nodes.quantize(op.output, real)


@_write.register
def _(op: ir.Conv, nodes: Nodes) -> None:
    inputs = [nodes.real(op.inputs[0]), _weight(op, nodes)]
    if op.bias is not None:
        inputs.append(_bias(op, nodes))
    real = nodes.add("Conv", inputs, op.name, group=op.groups, **_window(op.window))
    _clamped(op, real, nodes)


def _weight(op: ir.Conv, nodes: Nodes) -> str:
    """DequantizeLinear of the integers, one scale an output channel."""
    weight = op.weight.transpose(0, 3, 1, 2).astype(np.int64)
    low, high = int(weight.min()), int(weight.max())
    stored = _stored(low, high, nodes.opset)
    if stored is None:
        raise ModelError(
            f"{op.name}: has weights of {low} to {high}, which 16 bits can not hold; accepted: "
            "weights of up to 16 bits; quantize the float32 network instead"
        )
    nodes.needs(stored)
    zero = 0 if stored.signed else max(0, -low)
    assert op.weight_scale is not None
    parts = [
        nodes.constant(f"{op.name}/weight", array_of(weight + zero, stored)),
        nodes.constant(f"{op.name}/weight_scale", op.weight_scale.astype(np.float32)),
        nodes.constant(
            f"{op.name}/weight_zero_point", array_of(np.full(op.channels, zero), stored)
        ),
    ]
    return nodes.add("DequantizeLinear", parts, f"{op.name}/weight_real", axis=0)


def _stored(low: int, high: int, opset: int) -> ir.Int | None:
    """The narrowest ONNX type of weights: whole bytes, or less where ``opset`` knows it anyway.

    Weights around another number than 0 (of imported networks) get an unsigned type and a zero
    point.
    """
    for dtype in (ir.Int(2, True), ir.Int(4, True)):
        if OPSETS[dtype.bits] <= opset and dtype.low <= low and high <= dtype.high:
            return dtype
    for bits in (8, 16):
        signed, unsigned = ir.Int(bits, True), ir.Int(bits, False)
        if signed.low <= low and high <= signed.high:
            return signed
        if high + max(0, -low) <= unsigned.high:
            return unsigned
    return None


def _bias(op: ir.Conv, nodes: Nodes) -> str:
    assert op.bias is not None
    if op.bias_scale is None:
        real = op.bias.astype(np.float32)
        whole = None if (real == op.bias).all() else _dyadic(op.bias)
        if whole is None:
            return nodes.constant(f"{op.name}/bias", real)
        op = replace(op, bias=whole[0], bias_scale=whole[1])
    assert op.bias is not None
    assert op.bias_scale is not None
    if np.abs(op.bias.astype(np.int64)).max(initial=0) >= 2**31:
        raise ModelError(f"{op.name}: has a bias that int32 can not hold; accepted: 32-bit biases")
    parts = [
        nodes.constant(f"{op.name}/bias", op.bias.astype(np.int32)),
        nodes.constant(f"{op.name}/bias_scale", op.bias_scale.astype(np.float32)),
        nodes.constant(f"{op.name}/bias_zero_point", np.zeros(op.channels, np.int32)),
    ]
    return nodes.add("DequantizeLinear", parts, f"{op.name}/bias_real", axis=0)


def _dyadic(
    bias: NDArray[np.number],
) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
    """Numbers as int32 times a power of two, exactly; None where that can not be."""
    exact = [Fraction(float(b)) for b in bias]
    unit = max(b.denominator for b in exact)
    values = [int(b * unit) for b in exact]
    if max(map(abs, values)) >= 2**31 or unit > 2**126:
        return None
    return np.array(values, np.int32), np.full(len(values), 1 / unit, np.float32)


@_write.register
def _(op: ir.MaxPool, nodes: Nodes) -> None:
    real = nodes.add("MaxPool", [nodes.real(op.inputs[0])], op.name, **_window(op.window))
    nodes.quantize(op.output, real)


@_write.register
def _(op: ir.AveragePool, nodes: Nodes) -> None:
    attributes = _window(op.window)
    if op.window.dilation == (1, 1):
        del attributes["dilations"]
    else:
        nodes.opset = max(nodes.opset, DILATED_AVERAGE)
    real = nodes.add(
        "AveragePool",
        [nodes.real(op.inputs[0])],
        op.name,
        count_include_pad=int(op.count_padding),
        **attributes,
    )
    _clamped(op, real, nodes)


@_write.register
def _(op: ir.Pad, nodes: Nodes) -> None:
    top, left, bottom, right = op.pads
    pads = nodes.constant(
        f"{op.name}/pads", np.array([0, 0, top, left, 0, 0, bottom, right], np.int64)
    )
    fill = nodes.constant(f"{op.name}/fill", np.float32(op.fill))
    nodes.quantize(op.output, nodes.add("Pad", [nodes.real(op.inputs[0]), pads, fill], op.name))


@_write.register
def _(op: ir.Elementwise, nodes: Nodes) -> None:
    """The last node that is no Cast has the operator's name."""
    tensors = [nodes.real(name) for name in op.inputs]
    form = onnx_form(op)
    last = max((n for n, node in enumerate(form) if node.op != "Cast"), default=0)
    for number, node in enumerate(form):
        name = op.name if number == last else f"{op.name}/{number}"
        inputs = [_input(nodes, name, one, tensors) for one in node.inputs]
        tensors.append(nodes.add(node.op, inputs, name, **node.attributes))
    _clamped(op, tensors[-1], nodes)


def _input(nodes: Nodes, name: str, one: int | np.float32 | None, tensors: list[str]) -> str:
    """The tensor of an input in an ONNX form."""
    if isinstance(one, int):
        return tensors[one]
    return "" if one is None else nodes.constant(f"{name}/constant", one)


@_write.register
def _(op: ir.ops.MatMul, nodes: Nodes) -> None:
    factors = []
    for name, side in zip(op.inputs, ("left", "right"), strict=True):
        shape = nodes.graph.shape(name)
        rows = nodes.add(
            "Transpose", [nodes.real(name)], f"{op.name}/{side}_rows", perm=[0, 2, 3, 1]
        )
        matrices = (op.products, shape.height // op.products, shape.channels)
        factors.append(nodes.reshape(rows, matrices, f"{op.name}/{side}"))
    product = nodes.add("MatMul", factors, op.name)
    rows = nodes.reshape(product, nodes.graph.shape(op.output).array, f"{op.name}/rows")
    real = nodes.add("Transpose", [rows], f"{op.name}/channels", perm=[0, 3, 1, 2])
    _clamped(op, real, nodes)


@_write.register
def _(op: ir.Concat, nodes: Nodes) -> None:
    real = nodes.add("Concat", [nodes.real(name) for name in op.inputs], op.name, axis=1)
    nodes.quantize(op.output, real)


@_write.register
def _(op: ir.Gather, nodes: Nodes) -> None:
    """On the integers where ONNX Runtime moves them; a fill is a pad of the flat reals."""
    shape, out = nodes.graph.shape(op.inputs[0]), nodes.graph.shape(op.output)
    source: tuple[int, ...] = (shape.channels, shape.height, shape.width)
    target = (out.channels, out.height, out.width)
    place = np.arange(shape.size).reshape(source).transpose(1, 2, 0).reshape(-1)
    filled = bool((op.order < 0).any())
    taken = np.append(place, shape.size)[op.order]
    order = taken.reshape(out.array).transpose(2, 0, 1).reshape(-1)
    moves = nodes.moves(op.inputs[0], op.output) and not filled
    tensor = nodes.names[op.inputs[0]] if moves else nodes.real(op.inputs[0])
    if filled:
        flat = nodes.reshape(tensor, (shape.size,), f"{op.name}/flat")
        pads = nodes.constant(f"{op.name}/pads", np.array([0, 0, 0, 1], np.int64))
        fill = nodes.constant(f"{op.name}/fill", np.float32(op.fill))
        tensor = nodes.add("Pad", [flat, pads, fill], f"{op.name}/pad")
        source = (shape.size + 1,)
    found = arranged(nodes, tensor, source, order, target, op.name)
    if not moves:
        nodes.quantize(op.output, found)
    elif found == tensor:
        nodes.add("Identity", [found], op.name, nodes.names[op.output])
    else:
        nodes.nodes[-1].output[0] = nodes.names[op.output]


@_write.register
def _(op: ir.Reshape, nodes: Nodes) -> None:
    source, target = nodes.graph.shape(op.inputs[0]), nodes.graph.shape(op.output)
    moves = nodes.moves(op.inputs[0], op.output)
    tensor = nodes.names[op.inputs[0]] if moves else nodes.real(op.inputs[0])
    output = nodes.names[op.output] if moves else None
    if not row_major(source):
        tensor = nodes.add("Transpose", [tensor], f"{op.name}/rows", perm=[0, 2, 3, 1])
    if row_major(target):
        shape = (target.channels, target.height, target.width)
        tensor = nodes.reshape(tensor, shape, f"{op.name}/map", output)
    else:
        rows = nodes.reshape(tensor, target.array, f"{op.name}/map")
        tensor = nodes.add("Transpose", [rows], f"{op.name}/channels", output, perm=[0, 3, 1, 2])
    if not moves:
        nodes.quantize(op.output, tensor)


@_write.register
def _(op: ir.FrameDelay, nodes: Nodes) -> None:
    """The model's input and output stand for it."""


@_write.register
def _(op: ir.Delay, nodes: Nodes) -> None:
    _write_loop((op,), nodes)


def _write_loop(group: tuple[ir.Op, ...], nodes: Nodes) -> None:
    """A Scan over the rows, on reals; what the loop gives is rounded once more, exactly."""
    graph, name = nodes.graph, group[0].name
    states = [op for op in group if op.delaying]
    inside = {op.output for op in group}
    rowwise = (x for op in group for x in (op.inputs[:1] if op.delaying else op.inputs))
    read = dict.fromkeys(x for x in rowwise if x not in inside)
    steps = graph.shape(group[0].output).height
    rows = [x for x in read if graph.shape(x).height == steps]
    given = [op.output for op in group if _leaves(graph, op.output, inside)]
    body = nodes.inner()
    axis = body.constant(f"{name}/rows", np.array([2], np.int64))
    ports = [body.unique(f"{x}/row") for x in rows]
    for x, port in zip(rows, ports, strict=True):
        body.keep_real(x, body.add("Unsqueeze", [port, axis], f"{port}/map"))
    before = [body.unique(f"{op.output}/before") for op in states]
    for op, port in zip(states, before, strict=True):
        body.quantize(op.output, body.add("Unsqueeze", [port, axis], f"{port}/map"))
    for op in group:
        if not op.delaying:
            _write(op, body)
    leaving = [*(op.inputs[0] for op in states), *given]
    results = [body.unique(f"{x}/out") for x in leaving]
    for x, result in zip(leaving, results, strict=True):
        body.add("Squeeze", [body.real(x), axis], result, result)
    starts = [_start(op, rows[0], nodes) for op in states]
    info = helper.make_tensor_value_info
    real = onnx.TensorProto.FLOAT
    channels = [graph.shape(x).channels for x in (*(op.output for op in states), *rows)]
    proto = helper.make_graph(
        body.nodes,
        f"{name}/row",
        [
            info(port, real, [None, count, 1])
            for port, count in zip((*before, *ports), channels, strict=True)
        ],
        [info(result, real, None) for result in results],
        body.constants,
    )
    finals = [nodes.unique(f"{op.output}/final") for op in states]
    maps = [nodes.unique(f"{x}/rows") for x in given]
    nodes.nodes.append(
        helper.make_node(
            "Scan",
            [*starts, *(nodes.real(x) for x in rows)],
            [*finals, *maps],
            name=name,
            body=proto,
            num_scan_inputs=len(rows),
            scan_input_axes=[2] * len(rows),
            scan_output_axes=[2] * len(given),
        )
    )
    nodes.opset = max(nodes.opset, body.opset)
    for x, tensor in zip(given, maps, strict=True):
        nodes.names[x] = nodes.round(graph.quant(x), tensor, f"{tensor}/quantize")


def _leaves(graph: ir.Graph, value: str, inside: set[str]) -> bool:
    """Whether anything outside a loop reads a value of it."""
    read = any(value in op.inputs for op in graph.ops if op.output not in inside)
    return read or any(port.value == value for port in graph.outputs)


def _start(op: ir.Op, like: str, nodes: Nodes) -> str:
    """The first row of a state; numbers for as many samples as a value has."""
    assert isinstance(op, ir.Delay)
    name, channels = f"{op.output}/start", nodes.graph.shape(op.output).channels
    if len(op.inputs) > 1:
        axis = nodes.constant(f"{name}/rows", np.array([2], np.int64))
        return nodes.add("Squeeze", [nodes.real(op.inputs[1]), axis], name)
    shape = nodes.add("Shape", [nodes.real(like)], f"{name}/shape", start=0, end=1)
    rest = nodes.constant(f"{name}/rest", np.array([channels, 1], np.int64))
    whole = nodes.add("Concat", [shape, rest], f"{name}/whole", axis=0)
    if (op.initial != op.initial[0]).any():
        numbers = nodes.constant(f"{name}/numbers", op.initial.reshape(1, channels, 1))
        return nodes.add("Expand", [numbers, whole], name)
    value = numpy_helper.from_array(op.initial[:1])
    return nodes.add("ConstantOfShape", [whole], name, value=value)


@_write.register
def _(op: ir.ArgMax, nodes: Nodes) -> None:
    source = nodes.graph.shape(op.inputs[0])
    rows = nodes.add("Transpose", [nodes.real(op.inputs[0])], f"{op.name}/rows", perm=[0, 2, 3, 1])
    flat = nodes.reshape(rows, (prod(source.array),), f"{op.name}/flat")
    index = nodes.add("ArgMax", [flat], op.name, axis=1, keepdims=1)
    to = element_type(nodes.held(op.output).stored.name)
    cast = nodes.add("Cast", [index], f"{op.name}/cast", to=to)
    nodes.reshape(cast, (1, 1, 1), f"{op.name}/map", nodes.names[op.output])

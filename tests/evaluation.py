"""Run a graph operator by operator, in floats or in integers."""

from dataclasses import replace

import numpy as np
from gatewright.compiler import ir
from gatewright.compiler.quantize.float_model import apply

__all__ = ["evaluate", "leave", "one_step"]


def evaluate(graph, x):
    """The output and every value [frames, H, W, C] for samples ``x`` [frames, *port.shape]."""
    (port,) = graph.inputs
    values = {
        port.value: x.reshape(len(x), -1)[:, port.order].reshape(
            len(x), *graph.shape(port.value).array
        )
    }
    if graph.quantized and port.dtype == "float32":
        values[port.value] = graph.quant(port.value).quantize(values[port.value])
    ir.loops.evaluate(graph, values, lambda op, *inputs: one_step(graph, op, inputs))
    return leave(graph.outputs[0], values), values


def one_step(graph, op, inputs):
    """One operator, or some of its rows, rounded where the graph is quantized."""
    _, *pixel = graph.shape(op.output).array
    shape = (len(inputs[0]), -1, *pixel)
    if not graph.quantized:
        return apply(op, *inputs).reshape(shape)
    if isinstance(op, ir.MaxPool | ir.Concat | ir.Reshape):
        return apply(op, *(a.astype(float) for a in inputs)).reshape(shape).astype(inputs[0].dtype)
    if isinstance(op, ir.Conv):
        op = replace(op, weight=op.weight * op.weight_scale[:, None, None, None], weight_scale=None)
    real = [graph.quant(n).dequantize(x) for n, x in zip(op.inputs, inputs, strict=True)]
    return graph.quant(op.output).quantize(apply(op, *real)).reshape(shape)


def leave(port, values):
    """The stream as the model's output, through the host's tail."""
    y = values[port.value].reshape(len(values[port.value]), -1)[:, port.order]
    y = y.reshape(len(y), *port.tail_shape)
    for host in port.tail:
        y = host(y)
    return y.reshape(len(y), *port.shape).astype(storage(port))


def storage(port):
    """The NumPy type that holds a port's numbers."""
    dtype = ir.Int.named(port.dtype)
    return dtype.numpy if dtype else np.dtype(port.dtype)

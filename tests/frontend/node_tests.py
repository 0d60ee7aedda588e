"""The node tests of the ONNX standard: read, computed, compared with what they expect."""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from gatewright.compiler.quantize.float_model import apply
from gatewright.sim import golden
from onnx import helper, numpy_helper

from ..evaluation import leave

__all__ = ["Verdict", "cases", "tried"]


@dataclass(frozen=True)
class Verdict:
    """What became of a test: ``reason`` is why it was refused, ``wrong`` how its result differs."""

    name: str
    accepted: bool
    reason: str = ""
    wrong: str = ""


@cache
def cases():
    """All node tests."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return collect_testcases(None)


def tried(case) -> Verdict:
    """Read a test as it is, or with all inputs but the first as constants, and compute it."""
    refusals = []
    for model, inputs in _forms(case):
        try:
            graph = _read(model)
        except ModelError as error:
            refusals.append(str(error))
            continue
        return Verdict(case.name, True, wrong=_difference(graph, inputs, case.data_sets[0][1]))
    if not refusals:
        return Verdict(case.name, False, "an input or output is no tensor")
    return Verdict(case.name, False, refusals[-1])


def _forms(case) -> Iterator[tuple[onnx.ModelProto, dict[str, np.ndarray]]]:
    """The model as it is, and with all inputs but the first as constants; each with its own first
    axis as the batch, then with a batch axis of its own.
    """
    arrays = [a for a in case.data_sets[0][0] if isinstance(a, np.ndarray)]
    ports = list(case.model.graph.input)
    if len(arrays) != len(ports):
        return
    fixed = onnx.ModelProto()
    fixed.CopyFrom(case.model)
    del fixed.graph.input[1:]
    for port, array in zip(ports[1:], arrays[1:], strict=True):
        fixed.graph.initializer.append(numpy_helper.from_array(array, port.name))
    named = {port.name: array for port, array in zip(ports, arrays, strict=True)}
    first = dict(list(named.items())[:1])
    forms = [(case.model, named), (fixed, first)] if len(arrays) > 1 else [(case.model, named)]
    yield from forms
    for model, inputs in forms:
        yield _batched(model), {f"{name}_frames": array[None] for name, array in inputs.items()}


def _batched(model):
    """The model with a batch axis of 1 before the axes of each input and output."""
    new = onnx.ModelProto()
    new.CopyFrom(model)
    nodes = list(new.graph.node)
    del new.graph.node[:]
    axes = "batch_axis"
    new.graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), axes))
    for ports, kind in ((new.graph.input, "Squeeze"), (new.graph.output, "Unsqueeze")):
        for port in ports:
            inner, outer = port.name, f"{port.name}_frames"
            pair = (outer, inner) if kind == "Squeeze" else (inner, outer)
            node = helper.make_node(kind, [pair[0], axes], [pair[1]], name=f"{kind} {inner}")
            nodes.insert(0 if kind == "Squeeze" else len(nodes), node)
            dims = [d.dim_value for d in port.type.tensor_type.shape.dim]
            port.CopyFrom(
                helper.make_tensor_value_info(outer, port.type.tensor_type.elem_type, [1, *dims])
            )
    new.graph.node.extend(nodes)
    return new


def _read(model):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return load(path)


def _difference(graph, inputs, wanted) -> str:
    """How the outputs differ from those that the test expects; empty if they do not."""
    found = _computed(graph, inputs)
    for port, expected in zip(graph.outputs, wanted, strict=False):
        y = found[port.name].reshape(np.shape(expected)).astype(np.float64)
        expected = np.asarray(expected).astype(np.float64)
        exact = graph.quantized and port.dtype != "float32"
        tolerance = {"rtol": 0, "atol": 1} if exact else {"rtol": 2e-3, "atol": 1e-4}
        if not np.allclose(y, expected, equal_nan=True, **tolerance):
            return f"{port.name}: {y.reshape(-1)[:6]} instead of {expected.reshape(-1)[:6]}"
    return ""


def _computed(graph, inputs):
    """The outputs of a float or an integer graph."""
    frames = {}
    for port in graph.inputs:
        x = np.asarray(inputs[port.name])
        frames[port.name] = x.reshape(-1, *port.shape)
    if graph.quantized:
        return golden.host_output(graph, golden.run(graph, golden.host_input(graph, frames)))
    values = {}
    for port in graph.inputs:
        x = frames[port.name].astype(np.float32)
        flat = x.reshape(len(x), -1)[:, port.order]
        values[port.value] = flat.reshape(len(x), *graph.shape(port.value).array)
    for op in graph:
        with np.errstate(all="ignore"):
            y = apply(op, *(values[name] for name in op.inputs))
        values[op.output] = y.reshape(len(y), *graph.shape(op.output).array)
    outputs = {}
    for port in graph.outputs:
        outputs[port.name] = leave(port, values)
    return outputs

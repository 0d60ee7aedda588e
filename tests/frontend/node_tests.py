"""The node tests of the ONNX standard: read, computed, compared with what they expect."""

import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx
from gatewright.compiler import ir
from gatewright.compiler.errors import ModelError
from gatewright.compiler.frontend import load
from gatewright.compiler.quantize.float_model import apply
from gatewright.sim import golden
from onnx import helper, numpy_helper

from ..evaluation import leave

__all__ = ["OUTSIDE", "Verdict", "cases", "small", "tried"]

#: operators that no small network holds, so that their tests are not counted, by the reason
OUTSIDE = {
    "control flow": ("If", "Loop", "Scan"),
    "sequences": (
        *("SequenceInsert", "SequenceMap", "SplitToSequence", "ConcatFromSequence"),
        *("SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceErase", "SequenceLength"),
    ),
    "optional types": ("Optional", "OptionalGetElement", "OptionalHasElement"),
    "strings": (
        *("StringConcat", "StringNormalizer", "StringSplit", "RegexFullMatch"),
        *("TfIdfVectorizer", "LabelEncoder"),
    ),
    "training": (
        *("Adagrad", "Adam", "Momentum", "Gradient"),
        *("SoftmaxCrossEntropyLoss", "NegativeLogLikelihoodLoss"),
    ),
    "image files": ("ImageDecoder",),
    "random numbers": (
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike"),
        *("RandomUniform", "RandomUniformLike"),
    ),
    "spectra": (
        *("DFT", "STFT", "MelWeightMatrix", "BlackmanWindow", "HammingWindow", "HannWindow"),
    ),
    "results whose size depends on the data": ("NonMaxSuppression", "NonZero", "Unique"),
    "no value of the input is read": ("Shape", "Size", "Constant"),
    "bit patterns of floats": ("BitCast",),
    "trees and the like": (),
}
#: element types that no hardware of this project holds, by ONNX's names
_OTHER_TYPES = ("STRING", "COMPLEX64", "COMPLEX128", "FLOAT8", "FLOAT4", "FLOAT6")


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


def small(case) -> str:
    """Why a test is none of an operator that a small network can hold; empty if it is one."""
    if "_expanded" in case.name:
        return "the same operators, spelled as their function bodies"
    graph = case.model.graph
    if any(node.domain not in ("", "ai.onnx") for node in graph.node):
        return "trees and the like"
    for reason, operators in OUTSIDE.items():
        if any(node.op_type in operators for node in graph.node):
            return reason
    ports = (*graph.input, *graph.output)
    if not all(port.type.HasField("tensor_type") for port in ports):
        return "sequences"
    names = onnx.TensorProto.DataType
    types = {names.Name(port.type.tensor_type.elem_type) for port in ports}
    if any(name.startswith(_OTHER_TYPES) for name in types):
        return "element types of strings, complex numbers and floats of 8 bits or less"
    return ""


def tried(case) -> Verdict:
    """Read a test as it is, or with some inputs as constants, and compute it."""
    refusals = {}
    for model, inputs in _forms(case):
        try:
            graph = _read(model)
        except ModelError as error:
            refusals[tuple(inputs)] = str(error)
            continue
        return Verdict(case.name, True, wrong=_difference(graph, inputs, case.data_sets[0][1]))
    if not refusals:
        return Verdict(case.name, False, "an input or output is no tensor")
    first = f"{case.model.graph.input[0].name}_frames"
    return Verdict(case.name, False, refusals.get((first,), next(iter(refusals.values()))))


def _forms(case) -> Iterator[tuple[onnx.ModelProto, dict[str, np.ndarray]]]:
    """The model as it is, and with some inputs as constants: fewer and fewer of the first remain,
    or all but the integers, or one; each with its own first axis as the batch, then with a batch
    axis of its own.
    """
    arrays = [_array(value) for value in case.data_sets[0][0]]
    ports = list(case.model.graph.input)
    if len(arrays) != len(ports) or any(array is None for array in arrays):
        return
    named = {port.name: array for port, array in zip(ports, arrays, strict=True)}
    names = list(named)
    chosen = [tuple(names[:count]) for count in range(len(names), 0, -1)]
    chosen += [tuple(n for n in names if named[n].dtype.kind not in "iu")]
    chosen += [(name,) for name in names]
    forms = [
        (_fixed(case.model, named, varying), {name: named[name] for name in varying})
        for varying in dict.fromkeys(chosen)
        if varying
    ]
    yield from forms
    for model, inputs in forms:
        yield _batched(model), {f"{name}_frames": array[None] for name, array in inputs.items()}


def _array(value):
    """A test's tensor as an array; None for sequences and the like."""
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.ndarray | np.generic | float | int) else None


def _fixed(model, named, varying):
    """The model with all inputs but those ``varying`` as constants."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.input[:]
    for port in model.graph.input:
        if port.name in varying:
            fixed.graph.input.append(port)
        else:
            tensor = numpy_helper.from_array(named[port.name], port.name)
            fixed.graph.initializer.append(tensor)
    return fixed


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
    """How the outputs differ from those that the test expects; empty if they do not.

    Expected results of bfloat16 have 8 bits, and were rounded to them between the steps.
    """
    found = _computed(graph, inputs)
    for port, expected in zip(graph.outputs, wanted, strict=False):
        y = found[port.name].reshape(_array(expected).shape).astype(np.float64)
        coarse = _array(expected).dtype.name == "bfloat16"
        expected = _array(expected).astype(np.float64)
        exact = graph.quantized and port.dtype != "float32"
        tolerance = {"rtol": 0, "atol": 1} if exact else {"rtol": 2e-3, "atol": 1e-4}
        if coarse:
            tolerance = {"rtol": 2**-6, "atol": 2**-7}
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
        flat = x.reshape(len(x), port.order.size)[:, port.order]
        values[port.value] = flat.reshape(len(x), *graph.shape(port.value).array)

    def compute(op, *inputs):
        y = apply(op, *inputs)
        shape = graph.shape(op.output)
        return y.reshape(len(y), -1, shape.width, shape.channels)

    with np.errstate(all="ignore"):
        ir.loops.evaluate(graph, values, compute)
    outputs = {}
    for port in graph.outputs:
        outputs[port.name] = leave(port, values)
    return outputs

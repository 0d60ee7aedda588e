"""An evaluation of ONNX files that shares no code with gatewright: ONNX's own reference
implementation, in float64 in place of float32.

Sums, products and quotients of short integers and float32 scales are then exact, or so near to it
that no tie between two integers is missed.
"""

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from scipy import special

__all__ = ["Exact"]

#: distance from a tie, in steps, below which float64 may not know the side of a rounded function
DOUBT = 1e-6


class QuantizeLinear(OpRun):
    """Round half to even, then add the zero point and saturate; NaN is the lowest integer."""

    def _run(self, x, scale, zero=None, axis=1, saturate=1, block_size=0, output_dtype=0, **_):
        dtype = zero.dtype if zero is not None else np.dtype(np.uint8)
        if zero is None and output_dtype:
            dtype = helper.tensor_dtype_to_np_dtype(output_dtype)
        real = x / _along(scale, x, axis)
        low, high = _ends(dtype)
        steps = np.rint(real) + (0 if zero is None else _along(zero, x, axis).astype(float))
        steps = np.clip(np.nan_to_num(steps, nan=-np.inf, posinf=np.inf, neginf=-np.inf), low, high)
        return (steps.astype(np.int64).astype(dtype),)


class DequantizeLinear(OpRun):
    """``(x - zero) * scale``."""

    def _run(self, x, scale, zero=None, axis=1, block_size=0, output_dtype=0, **_):
        shift = 0 if zero is None else _along(zero, x, axis).astype(np.int64)
        return ((x.astype(np.int64) - shift) * _along(scale, x, axis).astype(float),)


class Erf(OpRun):
    def _run(self, x):
        return (special.erf(x),)


class Gelu(OpRun):
    def _run(self, x, approximate="none"):
        if approximate == "tanh":
            return (x * special.expit(2 * np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)),)
        return (x * special.erfc(-x / np.sqrt(2)) / 2,)


class HardSwish(OpRun):
    def _run(self, x):
        return (x * np.clip(x / 6 + 0.5, 0, 1),)


class Mish(OpRun):
    def _run(self, x):
        return (x * np.tanh(np.logaddexp(0.0, x)),)


class Softplus(OpRun):
    def _run(self, x):
        return (np.logaddexp(0.0, x),)


class Sigmoid(OpRun):
    def _run(self, x):
        return (special.expit(x),)


class Celu(OpRun):
    def _run(self, x, alpha=1.0):
        return (np.maximum(x, 0) + alpha * np.expm1(np.minimum(x, 0) / alpha),)


class Elu(OpRun):
    def _run(self, x, alpha=1.0):
        return (np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),)


class Selu(OpRun):
    def _run(self, x, alpha=1.67326319217681884765625, gamma=1.05070102214813232421875):
        return (gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),)


class Shrink(OpRun):
    def _run(self, x, bias=0.0, lambd=0.5):
        return (np.where(x < -lambd, x + bias, np.where(x > lambd, x - bias, 0.0)),)


class Conv(OpRun):
    """Taps one after the other."""

    def _run(self, x, weight, bias=None, group=1, **window):
        out = weight.shape[0]
        taps = weight.reshape(group, out // group, -1, *weight.shape[2:])
        total = 0
        for at, part in _taps(x, 0.0, window):
            parts = part.reshape(len(x), group, -1, *part.shape[2:])
            total = total + np.einsum("ngc...,goc->ngo...", parts, taps[(..., *at)])
        total = total.reshape(len(x), out, *total.shape[3:])
        if bias is not None:
            total = total + bias.reshape(-1, *[1] * (x.ndim - 2))
        return (total,)


class Scan(OpRun):
    """Over any axis: :class:`Exact` runs it row after row."""

    def _run(self, *inputs, **_):
        raise NotImplementedError


class MaxPool(OpRun):
    def _run(self, x, ceil_mode=0, storage_order=0, **window):
        return (np.max([part for _, part in _taps(x, -np.inf, window)], axis=0),)


class AveragePool(OpRun):
    def _run(self, x, ceil_mode=0, count_include_pad=0, **window):
        total = sum(part for _, part in _taps(x, 0.0, window))
        inside = np.ones_like(x)
        border = float(count_include_pad)
        return (total / sum(part for _, part in _taps(inside, border, window)),)


def _taps(x, fill, window):
    """For each tap of the window, its place and what it sees of ``x`` within a border."""
    rank = x.ndim - 2
    kernel = window["kernel_shape"]
    strides, dilations = (window.get(name) or [1] * rank for name in ("strides", "dilations"))
    pads = window.get("pads") or [0] * (2 * rank)
    x = np.pad(
        x, [(0, 0), (0, 0), *zip(pads[:rank], pads[rank:], strict=True)], constant_values=fill
    )
    for at in np.ndindex(*kernel):
        cuts = [
            slice(n * d, size - (k - 1 - n) * d, s)
            for n, d, k, s, size in zip(at, dilations, kernel, strides, x.shape[2:], strict=True)
        ]
        yield at, x[(slice(None), slice(None), *cuts)]


#: what onnx.reference computes in float32, or with float32 constants, or wrongly at a border
OWN = [
    *(Conv, MaxPool, AveragePool, Scan),
    *(QuantizeLinear, DequantizeLinear, Erf, Gelu, HardSwish, Mish, Softplus, Sigmoid),
    *(Celu, Elu, Selu, Shrink),
]


def _along(parameter, x, axis):
    """A scale or zero point, one for all or one an index of ``axis``, to broadcast over ``x``."""
    if parameter.size == 1:
        return parameter.reshape(())
    shape = [1] * x.ndim
    shape[axis] = parameter.size
    return parameter.reshape(shape)


def _ends(dtype):
    """The lowest and the highest integer of a type of NumPy or of ``ml_dtypes``."""
    name = np.dtype(dtype).name
    bits, signed = int(name.lstrip("uint")), name.startswith("int")
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)


@dataclass
class Difference(Exception):
    """A value of which two evaluations make different integers."""

    tensor: str
    index: tuple
    found: int
    wanted: float

    def __str__(self):
        return f"{self.tensor}{list(self.index)} is {self.found}, but exactly {self.wanted}"


class Exact:
    """The file at ``path`` (or a model), evaluated in float64."""

    def __init__(self, path):
        model = _in_float64(onnx.load(path) if not isinstance(path, onnx.ModelProto) else path)
        self.graph, self.opsets = model.graph, model.opset_import
        self._evaluator = ReferenceEvaluator(model, new_ops=OWN)

    def run(self, feeds, known=None):
        """The outputs by name for inputs by name.

        ``known`` gives, for names of tensors, the integers that another evaluation found. Each is
        compared with what this one computes from the ones before it; raises :class:`Difference`
        unless they are equal, or lie on the two sides of a tie that is too near to decide.
        """
        known = known or {}
        results = {"": None, **feeds}
        results |= {t.name: numpy_helper.to_array(t) for t in self.graph.initializer}
        #: real numbers, in steps, before they were rounded to a tensor
        exact = {}
        for node in self._evaluator.rt_nodes_:
            inputs = [results[name] for name in node.input]
            with np.errstate(all="ignore"):
                scan = node.op_type == "Scan"
                found = self._scan(node.onnx_node, inputs, known) if scan else node.run(*inputs)
            for name, result in zip(node.output, found, strict=True):
                results[name] = _plain(np.asarray(result))
                if node.op_type == "QuantizeLinear":
                    exact[name] = inputs[0] / inputs[1]
                elif node.op_type in ("Clip", "Cast") and node.input[0] in exact:
                    exact[name] = exact[node.input[0]]
                if name in known:
                    _compare(name, known[name], results[name], exact.get(name))
                    results[name] = known[name].astype(results[name].dtype)
        return {port.name: results[port.name] for port in self.graph.output}

    def _scan(self, node, inputs, known):
        """A Scan over axis 2, whose values are compared step by step too."""
        given = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        body, count = given["body"], given["num_scan_inputs"]
        inner = Exact(helper.make_model(body, opset_imports=self.opsets))
        states, streams = inputs[:-count], inputs[-count:]
        inside = {name for each in body.node for name in each.output}
        rows = []
        for step in range(streams[0].shape[2]):
            now = [*states, *(stream[:, :, step] for stream in streams)]
            feeds = dict(zip((port.name for port in body.input), now, strict=True))
            there = {n: known[n][:, :, step : step + 1] for n in inside & known.keys()}
            outputs = [*inner.run(feeds, there).values()]
            states = outputs[: len(states)]
            rows.append(outputs[len(states) :])
        return *states, *(np.stack(each, axis=2) for each in zip(*rows, strict=True))


def _compare(name, found, wanted, exact):
    found, wanted = found.astype(np.int64), wanted.astype(np.int64)
    if exact is None:
        doubtful = np.zeros(found.shape, bool)
    else:
        exact = np.where(np.isfinite(exact), exact, 0.0)
        part = np.abs(exact - np.floor(exact) - 0.5)
        near = DOUBT * np.maximum(1, np.abs(exact) * 1e-6)
        doubtful = (part != 0) & (part < near) & (np.abs(found - wanted) == 1)
    wrong = np.argwhere((found != wanted) & ~doubtful)
    if len(wrong):
        at = tuple(int(n) for n in wrong[0])
        raise Difference(name, at, int(found[at]), int(wanted[at]))


def _plain(array):
    """Zeros without a sign; what is undefined counts as minus infinity."""
    if array.dtype != np.float64:
        return array
    return np.where(np.isnan(array), -np.inf, np.where(array == 0, 0.0, array))


def _in_float64(model):
    """The model with float64 for float32 and float16 in its constants, casts and ports."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    _widen_graph(wide.graph)
    return wide


FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def _widen_graph(graph):
    for tensor in graph.initializer:
        _widen(tensor)
    for info in (*graph.input, *graph.output, *graph.value_info):
        if info.type.tensor_type.elem_type in FLOATS:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i in FLOATS:
                attribute.i = TensorProto.DOUBLE
            if attribute.HasField("t"):
                _widen(attribute.t)
            if attribute.HasField("g"):
                _widen_graph(attribute.g)


def _widen(tensor):
    if tensor.data_type in FLOATS:
        array = numpy_helper.to_array(tensor).astype(np.float64)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

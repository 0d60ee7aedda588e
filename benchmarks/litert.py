"""LiteRT (once TensorFlow Lite) with XNNPACK as a further CPU reference, where it is installed.

There is no converter from ONNX to take, so the integer network is written as a ``.tflite`` with the
schema that the wheel brings: int8 in, NHWC, int8 out, without the host's conversions at both ends.
Uint8 becomes int8 by moving values and zero points by 128. What LiteRT can not express (padding
that is neither SAME nor VALID, say) raises :class:`NotExpressible`.

XNNPACK scales in float32, so single steps may differ, as with any runtime: the tests hold each
layer to one step on fewer than one value in a thousand.
"""

from collections.abc import Callable, Mapping
from functools import singledispatchmethod
from importlib.metadata import version
from math import inf
from typing import Any

import numpy as np
from gatewright.benchmarks.networks import same
from gatewright.compiler import ir
from gatewright.compiler.errors import GatewrightError
from gatewright.sim import golden
from gatewright.sim.bench import measured
from numpy.typing import NDArray

try:
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    schema = None

__all__ = ["NotExpressible", "available", "references", "run", "write"]

Array = NDArray[Any]

#: the first version of each operator that takes int8 (of a dense layer: a scale a channel)
_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 12,
    "ADD": 2,
    "MEAN": 2,
    "MAX_POOL_2D": 2,
    "RESHAPE": 1,
}


class NotExpressible(GatewrightError):
    """The network holds something that has no int8 operator in LiteRT."""


def available() -> bool:
    """Whether ``ai-edge-litert`` is installed."""
    return schema is not None


def references(
    graph: ir.Graph, x: Array, threads: tuple[int, ...], seconds: float
) -> dict[str, Any]:
    """``cpu``: a row for each number of threads, and the ``version``; ``x`` [n, *input shape] as
    the model has it.
    """
    (raw,) = golden.host_input(graph, x).values()
    model, frames = write(graph), _int8(graph, raw)
    return {
        "version": version("ai-edge-litert"),
        "cpu": [
            measured("LiteRT int8", n, _fed(_runner(model, n)), {"x": frames}, 1, seconds)
            for n in threads
        ],
    }


def run(graph: ir.Graph, raw: Array) -> Array:
    """The output [n, height, width, channels] for integers ``raw``, by LiteRT."""
    (port,) = graph.outputs
    name = port.value
    call = _runner(write(graph), 1)
    seen = np.concatenate([call(frame[None]) for frame in _int8(graph, raw)])
    back = seen.astype(np.int64) - _moved(graph.quant(name))[1] + graph.quant(name).zero
    return back.reshape(len(raw), *graph.shape(name).array)


def _runner(model: bytes, threads: int) -> Callable[[Array], Array]:
    interpreter = Interpreter(model_content=model, num_threads=threads)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    taken = interpreter.get_output_details()[0]["index"]

    def call(frame: Array) -> Array:
        interpreter.set_tensor(given, frame)
        interpreter.invoke()
        result: Array = interpreter.get_tensor(taken)
        return result

    return call


def _fed(call: Callable[[Array], Array]) -> Callable[[Mapping[str, Array]], Array]:
    """``call`` on the array of a lone input."""
    return lambda feeds: call(*feeds.values())


def _int8(graph: ir.Graph, raw: Array) -> Array:
    (port,) = graph.inputs
    quant = graph.quant(port.value)
    return (raw.astype(np.int64) - quant.zero + _moved(quant)[1]).astype(np.int8)


def _moved(quant: ir.Quant) -> tuple[float, int]:
    """Scale and zero point when stored as int8."""
    if quant.dtype.bits > 8:
        raise NotExpressible(f"values of {quant.dtype}")
    return quant.scale, quant.zero - (0 if quant.dtype.signed or quant.dtype.bits < 8 else 128)


def write(graph: ir.Graph) -> bytes:
    """The integer network as a ``.tflite`` file's content; one frame a call."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise NotExpressible("several inputs or outputs: the comparison feeds one and reads one")
    return _Writer(graph).content()


class _Writer:
    """Tensors and operators in processing order; a dense layer's input is flattened by itself."""

    def __init__(self, graph: ir.Graph):
        self.graph = graph
        self.buffers = [schema.BufferT()]
        self.tensors: list[Any] = []
        self.operators: list[Any] = []
        self.codes: list[int] = []
        self.places: dict[str, int] = {}

    def content(self) -> bytes:
        graph = self.graph
        (source,), (sink,) = (
            [port.value for port in ports] for ports in (graph.inputs, graph.outputs)
        )
        self._value(source)
        for op in graph:
            self._add(op)
        part = schema.SubGraphT(
            tensors=self.tensors,
            operators=self.operators,
            name=graph.name,
            inputs=[self.places[source]],
            outputs=[self.places[sink]],
        )
        names = {code: name for name, code in vars(schema.BuiltinOperator).items()}
        # a reader of an old format looks at the first code, which ends at 127
        codes = [
            schema.OperatorCodeT(
                builtinCode=code,
                deprecatedBuiltinCode=min(code, 127),
                version=_VERSIONS[names[code]],
            )
            for code in self.codes
        ]
        model = schema.ModelT(
            version=3, subgraphs=[part], buffers=self.buffers, operatorCodes=codes
        )
        builder = flatbuffers.Builder(1 << 20)
        builder.Finish(model.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    # --- operators ---

    @singledispatchmethod
    def _add(self, op: ir.Op) -> None:
        raise NotExpressible(f"{op.name}: {type(op).__name__}")

    @_add.register
    def _(self, op: ir.Conv) -> None:
        code, shape = schema.BuiltinOperator, self.graph.shape(op.inputs[0])
        inputs = [self.places[op.inputs[0]], *self._parameters(op)]
        activation = _activation(op.clamp)
        if shape.pixels == 1 and op.window == ir.Window():
            self._operator(
                code.FULLY_CONNECTED,
                inputs,
                op.output,
                schema.FullyConnectedOptionsT(fusedActivationFunction=activation),
            )
            return
        window = {
            "padding": _padding(op.window, shape),
            "strideH": op.window.stride[0],
            "strideW": op.window.stride[1],
            "dilationHFactor": op.window.dilation[0],
            "dilationWFactor": op.window.dilation[1],
            "fusedActivationFunction": activation,
        }
        if op.depthwise:
            self._operator(
                code.DEPTHWISE_CONV_2D,
                inputs,
                op.output,
                schema.DepthwiseConv2DOptionsT(depthMultiplier=1, **window),
            )
        elif op.groups == 1:
            self._operator(code.CONV_2D, inputs, op.output, schema.Conv2DOptionsT(**window))
        else:
            raise NotExpressible(f"{op.name}: {op.groups} groups")

    @_add.register
    def _(self, op: ir.Add) -> None:
        self._operator(
            schema.BuiltinOperator.ADD,
            [self.places[name] for name in op.inputs],
            op.output,
            schema.AddOptionsT(fusedActivationFunction=_activation(op.clamp)),
        )

    @_add.register
    def _(self, op: ir.AveragePool) -> None:
        """As a mean of the whole map, since a pool must keep its scale."""
        shape = self.graph.shape(op.inputs[0])
        if op.window.kernel != (shape.height, shape.width) or any(op.window.pads):
            raise NotExpressible(f"{op.name}: an average over a part of the map")
        axes = self._constant(np.array([1, 2], np.int32))
        self._operator(
            schema.BuiltinOperator.MEAN,
            [self.places[op.inputs[0]], axes],
            op.output,
            schema.ReducerOptionsT(keepDims=True),
        )

    @_add.register
    def _(self, op: ir.MaxPool) -> None:
        window, shape = op.window, self.graph.shape(op.inputs[0])
        self._operator(
            schema.BuiltinOperator.MAX_POOL_2D,
            [self.places[op.inputs[0]]],
            op.output,
            schema.Pool2DOptionsT(
                padding=_padding(window, shape),
                strideH=window.stride[0],
                strideW=window.stride[1],
                filterHeight=window.kernel[0],
                filterWidth=window.kernel[1],
            ),
        )

    @_add.register
    def _(self, op: ir.Reshape) -> None:
        shape = self._constant(np.array([1, *self.graph.shape(op.output).array], np.int32))
        self._operator(
            schema.BuiltinOperator.RESHAPE,
            [self.places[op.inputs[0]], shape],
            op.output,
            schema.ReshapeOptionsT(newShape=[1, *self.graph.shape(op.output).array]),
        )

    # --- tensors ---

    def _parameters(self, op: ir.Conv) -> tuple[int, int]:
        """Weights and biases; LiteRT fixes the scale of a bias to that of the products."""
        weight = op.weight.astype(np.int8)
        if op.depthwise:
            weight = np.ascontiguousarray(weight[..., 0].transpose(1, 2, 0)[None])
        dense = self.graph.shape(op.inputs[0]).pixels == 1 and op.window == ir.Window()
        products = op.weight_scale * np.float32(self.graph.quant(op.inputs[0]).scale)
        bias = np.rint(
            [float(b) / float(s) for b, s in zip(op.exact_bias(), products, strict=True)]
        ).astype(np.int32)
        return (
            self._constant(
                weight.reshape(op.channels, -1) if dense else weight,
                op.weight_scale,
                axis=3 if op.depthwise else 0,
            ),
            self._constant(bias, products),
        )

    def _value(self, name: str) -> int:
        scale, zero = _moved(self.graph.quant(name))
        quantization = schema.QuantizationParametersT(scale=[scale], zeroPoint=[zero])
        self.places[name] = self._tensor(
            (1, *self.graph.shape(name).array), np.dtype(np.int8), 0, quantization
        )
        return self.places[name]

    def _constant(self, array: Array, scale: Array | None = None, axis: int = 0) -> int:
        self.buffers.append(schema.BufferT(data=np.frombuffer(array.tobytes(), np.uint8)))
        quantization = (
            None
            if scale is None
            else schema.QuantizationParametersT(
                scale=scale.astype(np.float32),
                zeroPoint=np.zeros(len(scale), np.int64),
                quantizedDimension=axis,
            )
        )
        return self._tensor(array.shape, array.dtype, len(self.buffers) - 1, quantization)

    def _tensor(
        self, shape: tuple[int, ...], dtype: np.dtype[Any], buffer: int, quantization: Any
    ) -> int:
        kind = {"int8": schema.TensorType.INT8, "int32": schema.TensorType.INT32}[dtype.name]
        self.tensors.append(
            schema.TensorT(
                shape=list(shape),
                type=kind,
                buffer=buffer,
                name=f"t{len(self.tensors)}",
                quantization=quantization,
                hasRank=True,
            )
        )
        return len(self.tensors) - 1

    def _operator(self, code: int, inputs: list[int], output: str, options: Any) -> None:
        if code not in self.codes:
            self.codes.append(code)
        kind = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(
            schema.OperatorT(
                opcodeIndex=self.codes.index(code),
                inputs=inputs,
                outputs=[self._value(output)],
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )


def _activation(clamp: ir.Clamp) -> int:
    if clamp == ir.Clamp():
        return schema.ActivationFunctionType.NONE
    if clamp == ir.Clamp(0, inf):
        return schema.ActivationFunctionType.RELU
    raise NotExpressible(f"a clamp to {clamp.low:g} .. {clamp.high:g}")


def _padding(window: ir.Window, shape: ir.Shape) -> int:
    if not any(window.pads):
        return schema.Padding.VALID
    rows, columns = map(same, (shape.height, shape.width), window.span, window.stride)
    if window.pads == (rows[0], columns[0], rows[1], columns[1]):
        return schema.Padding.SAME
    raise NotExpressible(f"padding {window.pads}")

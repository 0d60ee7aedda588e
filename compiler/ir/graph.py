"""The graph: operators in processing order, and the ports between host and hardware."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from ..brief import Brief
from .ops import FrameDelay, Op
from .ports import InputPort
from .types import Int, Quant, Shape, Value

__all__ = [
    "HostOp",
    "Dequantize",
    "Quantize",
    "OverClasses",
    "Softmax",
    "LogSoftmax",
    "Hardmax",
    "HostArgMax",
    "OutputPort",
    "Graph",
]


@dataclass(frozen=True)
class HostOp:
    """A step that the host takes on an output after the hardware, on arrays of shape [frames,
    *port.shape].
    """

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.generic]:
        raise NotImplementedError

    def shape_before(self, shape: tuple[int, ...], elements: int) -> tuple[int, ...]:
        """The shape of a frame of ``elements`` that the step turns into ``shape``."""
        return shape


@dataclass(frozen=True)
class Dequantize(HostOp):
    """Integers to float32."""

    quant: Quant

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.generic]:
        return self.quant.dequantize(x)

    def __str__(self) -> str:
        return f"Dequantize({self.quant})"


@dataclass(frozen=True)
class Quantize(HostOp):
    """Float32 to integers."""

    quant: Quant

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.generic]:
        return self.quant.quantize(x)

    def __str__(self) -> str:
        return f"Quantize({self.quant})"


@dataclass(frozen=True)
class OverClasses(HostOp):
    """A function of the scores of all classes, along ``axis`` (counted from the end, so negative).

    It keeps their order, so the largest stays the largest.
    """

    axis: int = -1


@dataclass(frozen=True)
class Softmax(OverClasses):
    """``exp(x) / sum(exp(x))``, in float32."""

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.generic]:
        e = np.exp(x - x.max(axis=self.axis, keepdims=True))
        share: NDArray[np.floating] = e / e.sum(axis=self.axis, keepdims=True)
        return share.astype(np.float32)


@dataclass(frozen=True)
class LogSoftmax(OverClasses):
    """``x - log(sum(exp(x)))``, in float32."""

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.generic]:
        below = x - x.max(axis=self.axis, keepdims=True)
        log: NDArray[np.floating] = below - np.log(np.exp(below).sum(axis=self.axis, keepdims=True))
        return log.astype(np.float32)


@dataclass(frozen=True)
class Hardmax(OverClasses):
    """1 at the first of the largest, 0 elsewhere, in float32."""

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.generic]:
        winner = np.argmax(x, axis=self.axis, keepdims=True)
        classes = np.arange(x.shape[self.axis]).reshape(-1, *[1] * (-1 - self.axis))
        return np.asarray(classes == winner, np.float32)


@dataclass(frozen=True)
class HostArgMax(HostOp):
    """Index of the largest along ``axis`` (negative), int64; of the ``lowest`` instead; of equals
    the first, or the ``last``.
    """

    axis: int = -1
    keepdims: bool = True
    lowest: bool = False
    last: bool = False

    def __call__(self, x: NDArray[np.generic]) -> NDArray[np.generic]:
        find = np.argmin if self.lowest else np.argmax
        if not self.last:
            return np.asarray(find(x, axis=self.axis, keepdims=self.keepdims))
        flipped = np.asarray(find(np.flip(x, self.axis), axis=self.axis, keepdims=self.keepdims))
        return np.asarray(x.shape[self.axis] - 1 - flipped)

    def shape_before(self, shape: tuple[int, ...], elements: int) -> tuple[int, ...]:
        classes, axes = elements // prod(shape), list(shape)
        if self.keepdims:
            axes[self.axis] = classes
        else:
            axes.insert(len(axes) + 1 + self.axis, classes)
        return tuple(axes)


@dataclass(frozen=True, eq=False)
class OutputPort:
    """How the last stream becomes the model's output.

    ``order[i]`` is the stream position of the i-th element of the model's layout, whose shape is
    ``tail_shape``; then ``tail`` runs on the host, and the result has the model's own ``shape``
    (without batch) and ``dtype``. That of a state may have no axis of the batch: then it is not
    ``batched``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    value: str
    order: NDArray[np.int64]
    tail: tuple[HostOp, ...] = ()
    batched: bool = True

    @property
    def tail_shape(self) -> tuple[int, ...]:
        """The shape of a frame before the tail."""
        shape = self.shape
        for step in reversed(self.tail):
            shape = step.shape_before(shape, self.order.size)
        return shape

    @property
    def array_type(self) -> np.dtype[np.generic]:
        """The NumPy type that holds the outputs, integers of 4 or 2 bits in a byte each."""
        dtype = Int.named(self.dtype)
        return dtype.numpy if dtype else np.dtype(self.dtype)


@dataclass(frozen=True, eq=False, repr=False)
class Graph(Brief):
    """A network: ``ops`` in topological order over ``values``; ``inputs`` and ``outputs`` face the
    host.

    ``verbatim``: the file that the graph was read from is the standard form of exactly this
    computation. Where it is not (another dialect, a scale that was rounded once more), a quantized
    graph must be written as such a file and read again before anything is made of it.
    """

    name: str
    inputs: tuple[InputPort, ...]
    outputs: tuple[OutputPort, ...]
    ops: tuple[Op, ...]
    values: dict[str, Value] = field(default_factory=dict)
    verbatim: bool = True

    def facts(self) -> dict[str, object]:
        def named(ports: Sequence[InputPort | OutputPort]) -> str:
            return ", ".join(f"{p.name} {'x'.join(map(str, p.shape))} {p.dtype}" for p in ports)

        return {
            "network": self.name,
            "values": "integers" if self.quantized else "floats",
            "operators": len(self.ops),
            "inputs": named(self.inputs),
            "outputs": named(self.outputs),
        }

    @cached_property
    def quantized(self) -> bool:
        """Whether every value and every weight is an integer."""
        values = all(value.quant for value in self.values.values())
        return values and all(op.quantized for op in self.ops)

    @cached_property
    def open_values(self) -> frozenset[str]:
        """The values that a file leaves in floats, in a network that is quantized otherwise."""
        found = {name for name, value in self.values.items() if value.quant is None}
        return frozenset(found if len(found) < len(self.values) else ())

    @property
    def keeps(self) -> bool:
        """Whether a frame depends on those before it."""
        return any(op.keeping for op in self.ops)

    @property
    def model_inputs(self) -> tuple[InputPort, ...]:
        """The inputs of the model's file: those of the network, and of the states that it keeps."""
        kept = (replace(op.port, value=op.output) for op in self.ops if isinstance(op, FrameDelay))
        return (*self.inputs, *kept)

    @property
    def model_outputs(self) -> tuple[OutputPort, ...]:
        """The outputs of the model's file, in the same way."""
        return (*self.outputs, *(self._sink(op) for op in self.ops if isinstance(op, FrameDelay)))

    def _sink(self, op: FrameDelay) -> OutputPort:
        """The output in the place of a state."""
        port, value, quant = op.port, op.inputs[0], self.values[op.inputs[0]].quant
        tail = (Dequantize(quant),) if port.integer is None and quant else ()
        order = np.argsort(port.order)
        return OutputPort(op.sink, port.shape, port.dtype, value, order, tail, port.batched)

    def shape(self, name: str) -> Shape:
        return self.values[name].shape

    def quant(self, name: str) -> Quant:
        quant = self.values[name].quant
        assert quant is not None, f"{name} is not quantized"
        return quant

    def producer(self, name: str) -> Op | None:
        """The operator that computes a value; None for an input of the network."""
        return self._producers.get(name)

    @cached_property
    def _producers(self) -> dict[str, Op]:
        return {name: op for op in self.ops for name in op.outputs}

    def __iter__(self) -> Iterator[Op]:
        return iter(self.ops)

    def replace(self, ops: Iterable[Op], values: Iterable[Value] = ()) -> "Graph":
        """A new graph with other operators; ``values`` are added or overwritten, unused ones
        dropped.
        """
        ops = tuple(ops)
        table = self.values | {value.name: value for value in values}
        used = {port.value for port in self.inputs} | {port.value for port in self.outputs}
        used |= {name for op in ops for name in (*op.inputs, op.output)}
        return Graph(
            self.name,
            self.inputs,
            self.outputs,
            ops,
            {name: value for name, value in table.items() if name in used},
            self.verbatim,
        )

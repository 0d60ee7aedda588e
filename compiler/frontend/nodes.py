"""The list of ONNX nodes in the making: unique names, shared scales, Q and DQ of a value."""

from copy import copy
from functools import cache
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import defs, helper, numpy_helper

from .. import ir
from .element_types import OPSETS, Carrier, array_of, carrier, element_type, narrow
from .source import unique

__all__ = ["Nodes", "first_opset"]


class Nodes:
    """``names`` gives the tensor of each value: integers, [batch, channels, rows, columns].

    ``opset`` is the oldest that knows all integer types and operators used so far; at the start,
    the types of the activations.
    """

    def __init__(self, graph: ir.Graph, names: dict[str, str]) -> None:
        self.graph, self.names = graph, dict(names)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._taken = {"", *names.values()}
        self._taken |= {port.name for port in graph.model_inputs}
        self._taken |= {port.name for port in graph.model_outputs}
        self._called: set[str] = set()  # names of nodes
        self._real: dict[str, str] = {}
        self._quants: dict[tuple[ir.Quant, ir.Int], tuple[str, str]] = {}
        self._narrow = {port.value for port in graph.inputs if narrow(port) is not None}
        self._indices = {op.output for op in graph if isinstance(op, ir.ArgMax)}
        self.opset = OPSETS[8]
        for value in graph.values:
            if value not in self._indices:
                self.needs(self.held(value).stored)

    def inner(self) -> "Nodes":
        """The nodes of a graph inside this one, with constants of its own."""
        made = copy(self)
        made.nodes, made.constants, made._real, made._quants = [], [], {}, {}
        return made

    def held(self, value: str) -> Carrier:
        """How the file holds the integers of a value; of an input, in the input's type."""
        dtype = self.graph.quant(value).dtype
        return Carrier(dtype, dtype) if value in self._narrow else carrier(dtype)

    def moves(self, value: str, to: str) -> bool:
        """Whether the integers of ``value`` can be moved to become ``to``: where ONNX Runtime does
        that, and the file holds both in one type.
        """
        source, target = self.held(value), self.held(to)
        return target.moves and source.stored == target.stored

    def needs(self, stored: ir.Int) -> None:
        """Take an opset that knows the type."""
        self.opset = max(self.opset, OPSETS[stored.bits])

    def unique(self, name: str) -> str:
        return unique(name, self._taken)

    def constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        """Add an initializer; returns its name."""
        name = self.unique(name)
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(
        self, kind: str, inputs: list[str], name: str, output: str | None = None, **attributes: Any
    ) -> str:
        """Append a node called ``name``, or like it where one is; returns its output, a fresh
        tensor unless given.
        """
        self.opset = max(self.opset, first_opset(kind))
        tensor = output or self.unique(f"{name}/output")
        name = unique(name, self._called)
        self.nodes.append(helper.make_node(kind, inputs, [tensor], name=name, **attributes))
        return tensor

    def reshape(
        self, tensor: str, shape: tuple[int, ...], name: str, output: str | None = None
    ) -> str:
        """Append a Reshape of all axes but the batch."""
        return self.whole(tensor, (0, *shape), name, output)

    def whole(
        self, tensor: str, shape: tuple[int, ...], name: str, output: str | None = None
    ) -> str:
        """Append a Reshape of all axes, where 0 is the size that there is."""
        target = self.constant(f"{name}/shape", np.array(shape, np.int64))
        return self.add("Reshape", [tensor, target], name, output)

    def quant(self, quant: ir.Quant, stored: ir.Int | None = None) -> list[str]:
        """Scale and zero point as initializers, shared by all who have the same; the integers are
        ``stored`` in that type, else as always.
        """
        stored = stored or carrier(quant.dtype).stored
        if (quant, stored) not in self._quants:
            number = len(self._quants)
            self._quants[quant, stored] = (
                self.constant(f"scale_{number}", np.float32(quant.scale)),
                self.constant(f"zero_point_{number}", array_of(quant.zero, stored)),
            )
        return [*self._quants[quant, stored]]

    def real(self, value: str) -> str:
        """The DequantizeLinear of a value."""
        if value not in self._real:
            tensor = self.names[value]
            self._real[value] = self.add(
                "DequantizeLinear",
                [tensor, *self.quant(self.graph.quant(value), self.held(value).stored)],
                f"{tensor}/dequantize",
            )
        return self._real[value]

    def needed(self, tensor: str) -> bool:
        """Whether a tensor holds a value, or a node reads it; DequantizeLinear of it is then made
        once more for whoever asks next.
        """
        self._real = {value: real for value, real in self._real.items() if real != tensor}
        read = any(tensor in node.input for node in self.nodes)
        return read or tensor in self.names.values()

    def keep_real(self, value: str, real: str) -> None:
        """``real`` is the DequantizeLinear of a value, in [batch, channels, rows, columns]."""
        self._real[value] = real

    def quantize(self, value: str, real: str) -> None:
        """The QuantizeLinear that computes a value."""
        tensor = self.names[value]
        self.round(self.graph.quant(value), real, f"{tensor}/quantize", tensor)

    def round(
        self,
        quant: ir.Quant,
        real: str,
        name: str,
        output: str | None = None,
        stored: ir.Int | None = None,
    ) -> str:
        """QuantizeLinear to integers that are ``stored`` in that type, else as always, and Clip
        where it does not saturate at the right ends; returns the tensor of integers.
        """
        held = Carrier(quant.dtype, stored or carrier(quant.dtype).stored)
        inputs = [real, *self.quant(quant, stored)]
        if not held.clipped:
            return self.add("QuantizeLinear", inputs, name, output)
        wide = self.add("QuantizeLinear", inputs, name)
        casts = held.clipped_as != held.stored
        if casts:
            to = element_type(held.clipped_as.name)
            wide = self.add("Cast", [wide], f"{name}/widen", to=to)
        ends = [
            self.constant(f"{name}/{end}", array_of(bound, held.clipped_as))
            for end, bound in (("low", quant.dtype.low), ("high", quant.dtype.high))
        ]
        if not casts:
            return self.add("Clip", [wide, *ends], f"{name}/saturate", output)
        clipped = self.add("Clip", [wide, *ends], f"{name}/saturate")
        to = element_type(held.stored.name)
        return self.add("Cast", [clipped], f"{name}/narrow", output, to=to)


@cache
def first_opset(kind: str) -> int:
    """The opset that introduced an operator."""
    return min(
        schema.since_version
        for schema in defs.get_all_schemas_with_history()
        if schema.name == kind and schema.domain == ""
    )

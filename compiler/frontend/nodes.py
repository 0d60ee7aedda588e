"""The list of ONNX nodes in the making: unique names, shared scales, Q and DQ of a value."""

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from .. import ir
from ..errors import ModelError

__all__ = ["Nodes"]


class Nodes:
    """``names`` gives the tensor of each value: integers, [batch, channels, rows, columns]."""

    def __init__(self, graph: ir.Graph, names: dict[str, str]) -> None:
        self.graph, self.names = graph, dict(names)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._taken = {"", *names.values()}
        self._taken |= {port.name for port in graph.inputs} | {port.name for port in graph.outputs}
        self._real: dict[str, str] = {}
        self._quants: dict[ir.Quant, tuple[str, str]] = {}

    def _unique(self, name: str) -> str:
        base, number = name, 2
        while name in self._taken:
            name, number = f"{base}/{number}", number + 1
        self._taken.add(name)
        return name

    def constant(self, name: str, array: NDArray[Any] | np.generic) -> str:
        """Add an initializer; returns its name."""
        name = self._unique(name)
        self.constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def add(
        self, kind: str, inputs: list[str], name: str, output: str | None = None, **attributes: Any
    ) -> str:
        """Append a node called ``name``; returns its output, a fresh tensor unless given."""
        tensor = output or self._unique(f"{name}/output")
        self.nodes.append(helper.make_node(kind, inputs, [tensor], name=name, **attributes))
        return tensor

    def reshape(
        self, tensor: str, shape: tuple[int, ...], name: str, output: str | None = None
    ) -> str:
        """Append a Reshape of all axes but the batch."""
        target = self.constant(f"{name}/shape", np.array([0, *shape], np.int64))
        return self.add("Reshape", [tensor, target], name, output)

    def quant(self, quant: ir.Quant) -> list[str]:
        """Scale and zero point as initializers, shared by all who have the same."""
        if quant.dtype.bits != 8:
            raise ModelError(
                f"{self.graph.name}: a value is {quant.dtype}; accepted: i8, u8, as ONNX has no "
                "other at this opset"
            )
        if quant not in self._quants:
            number = len(self._quants)
            self._quants[quant] = (
                self.constant(f"scale_{number}", np.float32(quant.scale)),
                self.constant(f"zero_point_{number}", quant.dtype.numpy.type(quant.zero)),
            )
        return [*self._quants[quant]]

    def real(self, value: str) -> str:
        """The DequantizeLinear of a value."""
        if value not in self._real:
            tensor = self.names[value]
            self._real[value] = self.add(
                "DequantizeLinear",
                [tensor, *self.quant(self.graph.quant(value))],
                f"{tensor}/dequantize",
            )
        return self._real[value]

    def quantize(self, value: str, real: str) -> None:
        """The QuantizeLinear that computes a value."""
        tensor = self.names[value]
        self.add(
            "QuantizeLinear",
            [real, *self.quant(self.graph.quant(value))],
            f"{tensor}/quantize",
            tensor,
        )

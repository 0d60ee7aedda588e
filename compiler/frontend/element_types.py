"""How an ONNX file holds integers of 1 to 16 bits, and which opset it needs for them."""

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

from .. import ir
from ..errors import ModelError
from .source import DTYPES, QUANTIZED, Node

__all__ = [
    "OPSETS",
    "Carrier",
    "array_of",
    "carrier",
    "element_type",
    "narrow",
    "quantized_type",
    "runtime_clips",
    "whole_bytes",
]

#: the opset whose QuantizeLinear knows integers of so many bits
OPSETS = {8: 17, 16: 21, 4: 21, 2: 25}
#: bits of the integers that ONNX Runtime moves; its optimizations take most operators on narrower
#: ones for the same on 8 bits, and then refuse the file or compute other numbers
_BYTES = 8
#: bits of the integers that ONNX Runtime clips
_CLIPPED_BITS = (8, 32, 64)


@dataclass(frozen=True)
class Carrier:
    """Integers of ``dtype`` in a file: of the ONNX type ``stored``, clipped where it is wider."""

    dtype: ir.Int
    stored: ir.Int

    @property
    def opset(self) -> int:
        return OPSETS[self.stored.bits]

    @property
    def clipped(self) -> bool:
        """Whether a Clip follows QuantizeLinear."""
        return self.stored != self.dtype

    @property
    def clipped_as(self) -> ir.Int:
        """The type that is clipped: ONNX Runtime has no Clip of 16-bit integers."""
        return self.stored if runtime_clips(self.stored) else ir.Int(32, True)

    @property
    def moves(self) -> bool:
        """Whether ONNX Runtime moves elements of the type: reshapes and gathers them."""
        return self.stored.bits >= _BYTES


def carrier(dtype: ir.Int) -> Carrier:
    """The next type of whole bytes, which every runtime reads."""
    return Carrier(dtype, whole_bytes(dtype))


def narrow(port: ir.InputPort | ir.OutputPort) -> ir.Int | None:
    """The type of a port of integers below a byte; None for any other."""
    dtype = ir.Int.named(port.dtype)
    return dtype if dtype is not None and dtype.bits < _BYTES else None


def whole_bytes(dtype: ir.Int) -> ir.Int:
    """The narrowest type of whole bytes that holds ``dtype``."""
    return ir.Int(8 * dtype.numpy.itemsize, dtype.signed)


def runtime_clips(dtype: ir.Int) -> bool:
    """Whether ONNX Runtime has a Clip of such integers."""
    return dtype.bits in _CLIPPED_BITS


def element_type(dtype: str) -> int:
    """ONNX's number of a type that is called so in NumPy."""
    name = "FLOAT" if dtype == "float32" else dtype.upper()
    return int(onnx.TensorProto.DataType.Value(name))


def array_of(values: NDArray[np.integer] | int, dtype: ir.Int) -> NDArray[np.generic]:
    """Integers as an array of that ONNX type."""
    return np.asarray(values).astype(helper.tensor_dtype_to_np_dtype(element_type(dtype.name)))


def quantized_type(node: Node, zero: str | None) -> ir.Int:
    """The type that a QuantizeLinear writes.

    ``zero`` is the type of its zero point; without one ``output_dtype`` decides, and without that
    it is uint8. Raises ModelError when the two differ, or when the type is no integer of up to 16
    bits.
    """
    number = int(node.get("output_dtype", 0))
    names = onnx.TensorProto.DataType
    declared = names.Name(number).lower() if number in names.values() else str(number)
    declared = DTYPES.get(number, declared)
    if number and zero is not None and declared != zero:
        raise ModelError(
            f"{node}: output_dtype is {declared}, but its zero point is {zero}; accepted: the same "
            "type, or one of the two; check the model with onnx.checker"
        )
    name = zero or (declared if number else "uint8")
    dtype = ir.Int.named(name)
    if dtype is None or name not in QUANTIZED:
        raise ModelError(
            f"{node}: quantizes to {name}; accepted: {', '.join(QUANTIZED)}; quantize to one of "
            "those"
        )
    return dtype

"""Clip on the integers between QuantizeLinear and DequantizeLinear: values of any width (QCDQ)."""

from collections.abc import Mapping, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import ir
from ..errors import ModelError
from .element_types import quantized_type, runtime_clips, whole_bytes
from .source import DTYPES, Node, Source, constants_of

__all__ = ["Saturation", "saturations"]


@dataclass(frozen=True)
class Saturation:
    """A QuantizeLinear whose integers are clipped to ``low`` .. ``high`` before anyone reads them.

    ``tensors`` are the outputs of the Clip and Cast nodes that follow. ``portable``: ONNX Runtime
    has these Clips.
    """

    low: int
    high: int
    tensors: tuple[str, ...]
    portable: bool

    @property
    def tensor(self) -> str:
        """What is read: the last of :attr:`tensors`."""
        return self.tensors[-1]

    def dtype(self, zero: int) -> ir.Int:
        """The narrowest type of the integers and of the zero point, which padding reads as."""
        return ir.Int.holding(min(self.low, zero), max(self.high, zero))

    def clamp(self, quant: ir.Quant) -> ir.Clamp:
        """The limits as real numbers, where ``quant`` alone does not saturate at them."""
        low, high = ((end - quant.zero) * quant.scale for end in (self.low, self.high))
        return ir.Clamp(
            low if self.low > quant.dtype.low else -np.inf,
            high if self.high < quant.dtype.high else np.inf,
        )


def saturations(source: Source) -> dict[str, Saturation]:
    """The saturation of each QuantizeLinear that has one, by the name of its output.

    A Clip counts when nothing else reads its input. Casts around it count when they change no
    value: ONNX Runtime clips no 16-bit integers, so 9 to 15 bits are clipped as 32-bit ones.
    """
    readers: dict[str, list[Node]] = {}
    for node in source.nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    outputs = {port.name for port in source.outputs}
    constants = constants_of(source)
    found = {}
    for node in source.nodes:
        if node.op != "QuantizeLinear":
            continue
        chain = _chain(node, readers, outputs, constants)
        if chain is not None:
            found[node.outputs[0]] = chain
    return found


def _chain(
    node: Node,
    readers: Mapping[str, list[Node]],
    outputs: Set[str],
    constants: Mapping[str, NDArray[np.generic]],
) -> Saturation | None:
    """The Clip and Cast nodes that alone read the output of a QuantizeLinear, one by one.

    Raises ModelError for a Clip of integers that ONNX does not clip.
    """
    stored = _stored(node, constants)
    if stored is None:
        return None
    limits, portable = (stored.low, stored.high), True
    name, tensors, clipped = node.outputs[0], list[str](), False
    while name not in outputs and len(readers.get(name, ())) == 1:
        (reader,) = readers[name]
        if reader.op == "Clip" and reader.inputs[0] == name:
            bounds = _bounds(reader, constants)
            if bounds is None:
                break
            if stored.bits < whole_bytes(stored).bits:
                raise ModelError(
                    f"{reader}: clips {stored.name}, which ONNX does not; accepted: "
                    f"{whole_bytes(stored).name}; quantize to that, and clip it to the same limits"
                )
            limits = (max(limits[0], bounds[0]), min(limits[1], bounds[1]))
            clipped, portable = True, portable and runtime_clips(stored)
        elif reader.op == "Cast" and (to := _holding(reader, limits)):
            stored = to
        else:
            break
        name = reader.outputs[0]
        tensors.append(name)
    if not clipped or limits[0] > limits[1]:
        return None
    return Saturation(*limits, tuple(tensors), portable)


def _stored(node: Node, constants: Mapping[str, NDArray[np.generic]]) -> ir.Int | None:
    """The type that a QuantizeLinear writes; None when its zero point is computed."""
    zero = node.inputs[2] if len(node.inputs) > 2 else ""
    if zero and zero not in constants:
        return None
    return quantized_type(node, constants[zero].dtype.name if zero else None)


def _bounds(node: Node, constants: Mapping[str, NDArray[np.generic]]) -> tuple[int, int] | None:
    """The limits of a Clip on integers; None when they are not constants."""
    ends = [-(1 << 62), 1 << 62]
    for n, name in enumerate(node.inputs[1:3]):
        if not name:
            continue
        value = constants.get(name)
        if value is None or value.size != 1 or ir.Int.named(value.dtype.name) is None:
            return None
        ends[n] = int(value.reshape(-1)[0])
    return ends[0], ends[1]


def _holding(cast: Node, limits: tuple[int, int]) -> ir.Int | None:
    """The integer type that a Cast gives, if it changes no value within ``limits``."""
    dtype = ir.Int.named(DTYPES.get(int(cast.get("to", 0)), ""))
    return dtype if dtype and dtype.low <= limits[0] and limits[1] <= dtype.high else None

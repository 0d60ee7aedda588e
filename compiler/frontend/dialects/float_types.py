"""Float16, bfloat16 and float64 networks, read as float32 networks.

    before: h = Cast(x, float16);  c = Conv(h, w float16);  y = Cast(c, float32)
    after:  h = Cast(x, float32);  c = Conv(h, w float32);  y = Cast(c, float32)

Every float16 is a float32, so no weight changes; values are computed in float32, without the
rounding to float16 in between. Inputs and outputs of such a type become float32.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from ..source import ModelPort, Node, Source, array
from .rewriting import Nodes

__all__ = ["single_precision"]

HALF = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)
_OTHER = ("float16", "float64", "bfloat16")


def single_precision(source: Source) -> Source:
    """Ports of float16 and float64, and everything of float16 inside, become float32."""
    ports = (*source.inputs, *source.outputs)
    if not (
        any(port.dtype in _OTHER for port in ports)
        or any(constant.dtype == np.float16 for constant in source.constants.values())
        or any(_changes(node) for node in source.nodes)
    ):
        return source
    nodes = Nodes(source)
    for name, constant in source.constants.items():
        if constant.dtype == np.float16:
            nodes.constants[name] = constant.astype(np.float32)
    for node in source.nodes:
        changes = _changes(node)
        if changes:
            attributes = {**node.attributes, **changes}
            nodes.add(node, node.op, node.inputs, output=node.outputs[0], **attributes)
        else:
            nodes.keep(node)
    return replace(
        nodes.finished(),
        inputs=tuple(_port(port) for port in source.inputs),
        outputs=tuple(_port(port) for port in source.outputs),
    )


def _port(port: ModelPort) -> ModelPort:
    return replace(port, dtype="float32") if port.dtype in _OTHER else port


def _changes(node: Node) -> dict[str, Any]:
    """The attributes that must be others, with their values for float32."""
    if node.op == "Cast" and node.attributes.get("to") in HALF:
        return {"to": int(onnx.TensorProto.FLOAT)}
    value = node.attributes.get("value")
    if isinstance(value, onnx.TensorProto) and value.data_type in HALF:
        numbers = array(value, str(node)).astype(np.float32)
        return {"value": numpy_helper.from_array(numbers, value.name)}
    return {}

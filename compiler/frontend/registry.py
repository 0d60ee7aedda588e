"""All ONNX operators that the importer reads."""

from collections.abc import Mapping

from . import (
    elementwise,
    linear,
    linear_maps,
    normalizations,
    output_layout,
    pooling,
    qdq,
    recurrent,
    reductions,
    scans,
    selections,
    shapes,
    transposed,
)
from .operands import Handler

__all__ = ["HANDLERS", "OPERATORS"]

HANDLERS: Mapping[str, Handler] = {
    **linear.HANDLERS,
    **transposed.HANDLERS,
    **elementwise.HANDLERS,
    **pooling.HANDLERS,
    **reductions.HANDLERS,
    **normalizations.HANDLERS,
    **recurrent.HANDLERS,
    **scans.HANDLERS,
    **linear_maps.HANDLERS,
    **selections.HANDLERS,
    **shapes.HANDLERS,
    **qdq.HANDLERS,
    **output_layout.HANDLERS,
}

#: the same by the names that a file has: what stands for a node of another operator is that
OPERATORS = sorted({"Scan" if name in scans.HANDLERS else name for name in HANDLERS})
